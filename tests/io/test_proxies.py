"""Which proxy is used, by the rules of NO_PROXY that kubectl follows."""

from __future__ import annotations

import pytest

from meshwright.errors import ClusterError
from meshwright.io import proxies
from meshwright.io.kubeconfig import Login

PROXY = "http://proxy.example:3128"


def chosen(server: str, own: str = "", **env: str) -> str | None:
    return proxies.proxy(Login("c", "f", "default", server, proxy=own), env)


@pytest.mark.parametrize(
    ("server", "excepted", "used"),
    [
        ("https://api.example:6443", "", True),
        ("https://api.example:6443", "*", False),
        ("https://api.example:6443", "example", False),
        ("https://api.example:6443", ".example", False),
        ("https://api.example:6443", "*.example", False),
        ("https://example:6443", ".example", True),
        ("https://example:6443", "example", False),
        ("https://counterexample:6443", "example", True),
        ("https://api.example:6443", "other, API.EXAMPLE", False),
        ("https://api.example:6443", "api.example:6443", False),
        ("https://api.example:6443", "api.example:443", True),
        ("https://192.168.20.20:6443", "192.168.20.0/24", False),
        ("https://192.168.21.20:6443", "192.168.20.0/24", True),
        ("https://192.168.20.20:6443", "192.168.20.20", False),
        ("https://[fd00::1]:6443", "fd00::/8", False),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", False),
        ("https://[fd00::1]:6443", "[fd00::1]:443", True),
        ("https://[fd00::1]:6443", "fd00::1", False),
        ("https://127.0.0.9:6443", "", False),
        ("https://[::1]:6443", "", False),
        ("https://localhost:6443", "", False),
    ],
)
def test_no_proxy(server: str, excepted: str, used: bool) -> None:
    assert chosen(server, HTTPS_PROXY=PROXY, NO_PROXY=excepted) == (PROXY if used else None)


def test_where_the_proxy_comes_from() -> None:
    assert chosen("https://a:1") is None
    assert chosen("https://a:1", https_proxy="proxy.example:3128") == PROXY
    assert chosen("https://a:1", HTTP_PROXY=PROXY, ALL_PROXY=PROXY) is None
    assert chosen("http://a:1", HTTP_PROXY=PROXY) == PROXY
    assert chosen("https://127.0.0.1:1", own=PROXY, NO_PROXY="*") == PROXY
    with pytest.raises(ClusterError, match="kind socks5"):
        chosen("https://a:1", own="socks5://joe:hidden@p:1")


def test_a_proxy_is_shown_without_its_password() -> None:
    assert proxies.shown("http://joe:hidden@p:1") == "proxy http://p:1"
    assert proxies.shown(None) == ""
