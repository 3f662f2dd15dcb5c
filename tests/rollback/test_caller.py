"""Whoever is connected through the tunnel is not let to take away his own way in."""

from __future__ import annotations

from typing import Any

import pytest

from meshwright.hubd.rollback.caller import Caller, cut, parse

HAM = Caller("10.100.2.1", "10.100.0.1", 22)
LAN = Caller("192.168.20.7", "192.168.20.20", 22)


def peers(*addresses: str) -> dict[str, Any]:
    return {f"hub/peer/ham{n}": {"live": {"allowed_ips": [a]}} for n, a in enumerate(addresses)}


def table(**sources: list[str]) -> dict[str, Any]:
    rights = {f"10.100.2.{n[1:]}/32": {"peer": "ham", "allow": allow} for n, allow in sources.items()}
    return {"sources": rights, "inbound": []}


THERE = peers("10.100.2.1/32", "10.100.2.2/32", "198.51.100.0/24")
SSH, ALL, WEB = ["10.100.0.1/32 tcp 22"], ["10.100.0.0/16 any -"], ["10.100.0.1/32 tcp 443"]


@pytest.mark.parametrize(
    ("caller", "wanted", "after", "moved", "who"),
    [
        pytest.param(HAM, THERE, table(p1=SSH), {}, "", id="stays"),
        pytest.param(HAM, THERE, table(p1=ALL), {}, "", id="stays by a wider right"),
        pytest.param(HAM, THERE, table(p1=WEB), {}, "ham0", id="another port"),
        pytest.param(HAM, THERE, table(p2=SSH), {}, "ham0", id="no right any more"),
        pytest.param(HAM, THERE, None, {}, "ham0", id="no table any more"),
        pytest.param(HAM, peers("10.100.2.2/32"), table(p1=SSH), {}, "ham0", id="no peer any more"),
        pytest.param(HAM, THERE, table(p1=["10.100.0.9/32 tcp 22"]), {}, "ham0", id="another address"),
        pytest.param(
            HAM, THERE, table(p1=["10.100.0.9/32 tcp 22"]), {"10.100.0.9/32": "10.100.0.1/32"}, "", id="the hub moves"
        ),
        pytest.param(LAN, peers(), table(), {}, "", id="not through the tunnel"),
        pytest.param(Caller("198.51.100.7", "10.100.0.1", 22), THERE, table(), {}, "ham2", id="from a network behind"),
        pytest.param(HAM._replace(port=2222), THERE, table(p1=SSH), {}, "ham0", id="sshd on another port"),
    ],
)
def test_whose_way_in_a_write_takes(
    caller: Caller, wanted: dict[str, Any], after: dict[str, Any] | None, moved: dict[str, str], who: str
) -> None:
    assert cut(caller, THERE, wanted, after, moved) == who


def test_what_sshd_says() -> None:
    assert parse("10.100.2.1 50000 10.100.0.1 22") == HAM
    assert parse("fe80::1%eth0 50000 fe80::2%eth0 22") == Caller("fe80::1", "fe80::2", 22)
    assert parse("UNKNOWN 65535 UNKNOWN 65535") is None
    assert parse("") is None
