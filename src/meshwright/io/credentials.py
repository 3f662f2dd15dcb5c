"""Who we are at an API server: a token, a token file that changes, a password, a certificate, or a plugin's answer.

Formats: kubectl's config v1; client.authentication.k8s.io v1 and v1beta1 (execplugin does those).
"""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshwright.errors import ClusterError
from meshwright.hubd.host.system import memory
from meshwright.io import execplugin
from meshwright.io.kubeconfig import Login, material

REREAD = 60.0
"""Seconds after which a token file is read again: the kubelet replaces it long before it ends."""


@dataclass(frozen=True)
class Identity:
    """What one request shows. certificate: PEM of the certificate and of its key. number: newer ones are greater."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)
    until: float = field(default=float("inf"), compare=False)
    origin: str = ""

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give the certificate to TLS. OpenSSL wants files: they are in memory and have no name."""
        if not self.certificate:
            return
        try:
            with _nameless(self.certificate[0]) as certificate, _nameless(self.certificate[1]) as key:
                context.load_cert_chain(certificate, key, password=_no_password)
        except (ssl.SSLError, ValueError, OSError):
            raise ClusterError(
                f"{self.origin}: the client certificate and its key cannot be used",
                "they must be PEM, belong together, and the key must have no password; get a new kubeconfig",
            ) from None


class Credentials:
    """The identity of one user of a kubeconfig, renewed when it ends or is refused. Threads share it."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._lock = threading.Lock()
        self._known: Identity | None = None

    def identity(self) -> Identity:
        with self._lock:
            if self._known is None or time.time() >= self._known.until:
                self._known = self._make()
            return self._known

    def renew(self, refused: Identity) -> bool:
        """Ask the source again, after a refusal. Whether there is something else to show now."""
        with self._lock:
            if self._known == refused:
                self._known = self._make()
            return self._known != refused

    def _make(self) -> Identity:
        login, account = self._login, self._login.account
        where = f"{login.origin}: user {login.user!r}"
        if account.get("auth-provider"):
            raise ClusterError(
                f"{where} uses an auth-provider, which Kubernetes has given up",
                "have the cluster's provider write a kubeconfig with an exec plugin",
            )
        certificate = material(account, "client-certificate", where)
        key = material(account, "client-key", where)
        if (certificate is None) != (key is None):
            raise ClusterError(f"{where} has only one of client-certificate and client-key", "add the other")
        pair = (certificate, key) if certificate is not None and key is not None else None
        headers, until = _as_somebody(account), float("inf")
        if token := self._token(where):
            headers["Authorization"] = f"Bearer {token}"
            until = time.time() + REREAD if account.get("tokenFile") else until
        elif account.get("username"):
            plain = f"{account['username']}:{account.get('password') or ''}"
            headers["Authorization"] = f"Basic {base64.b64encode(plain.encode()).decode()}"
        elif account.get("exec") and not pair:
            answer = execplugin.ask(login, where)
            pair, until = answer.certificate, answer.until
            if answer.token:
                headers["Authorization"] = f"Bearer {answer.token}"
        return Identity(headers, pair, until, where)

    def _token(self, where: str) -> str:
        account = self._login.account
        token = str(account.get("token") or "")
        if path := account.get("tokenFile"):
            try:
                token = Path(str(path)).read_text(encoding="ascii").strip() or token
            except (OSError, ValueError) as error:
                if not token:
                    why = getattr(error, "strerror", None) or "not a token"
                    raise ClusterError(
                        f"{where}: the token file {path} cannot be read: {why}", "put a fresh token there"
                    ) from None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ClusterError(f"{where}: the token has characters that no token has", "get a fresh token")
        return token


def _as_somebody(account: Mapping[str, Any]) -> dict[str, str]:
    """The headers of impersonation (`as`, `as-uid`); groups would need a header twice and are refused."""
    if account.get("as-groups") or account.get("as-user-extra"):
        raise ClusterError("as-groups and as-user-extra of a kubeconfig are not supported", "use a user of its own")
    found = {"Impersonate-User": account.get("as"), "Impersonate-Uid": account.get("as-uid")}
    return {name: str(value) for name, value in found.items() if value}


@contextmanager
def _nameless(data: bytes) -> Iterator[str]:
    """A path under which this process alone can read `data` while the block runs; nothing is left behind."""
    with memory() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        folder = "/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd"
        yield f"{folder}/{file.fileno()}"


def _no_password() -> str:
    raise ValueError("the key has a password")
