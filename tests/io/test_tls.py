"""The context that all threads of a connection share."""

from __future__ import annotations

import ssl

import pytest

from meshwright.io import apiserver
from meshwright.io.credentials import Identity
from meshwright.io.kubeconfig import Login
from meshwright.io.tls import Context


class Counted(Context):
    """Counts how often OpenSSL's list is really written."""

    writes = 0

    def _set_alpn_protocols(self, protocols: bytes) -> None:
        self.writes += 1
        super()._set_alpn_protocols(protocols)  # type: ignore[misc]


def test_openssl_is_told_the_protocols_once() -> None:
    context = Counted()
    for _ in range(3):
        context.set_alpn_protocols(["http/1.1"])
    assert context.writes == 1
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="hub").do_handshake()
    assert b"\x08http/1.1" in out.read()


def test_other_protocols_are_refused_and_not_written() -> None:
    context = Counted()
    context.set_alpn_protocols(["http/1.1"])
    with pytest.raises(ValueError, match="speaks"):
        context.set_alpn_protocols(["h2"])
    assert context.writes == 1


def test_it_verifies_servers_like_any_client() -> None:
    context = Context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_connection_to_a_cluster_uses_it() -> None:
    login = Login("house", "kubeconfig", "default", "https://127.0.0.1:6443")
    assert isinstance(apiserver._tls(login, Identity()), Context)
