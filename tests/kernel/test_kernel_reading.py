"""The kernel's own WireGuard and nf_tables of another release, read without a program: as wg and nft say."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwright import keys
from meshwright.io.host import Namespace
from moment import IF, dumped, listed, must, said, table, taken
from support import machine

pytestmark = pytest.mark.kernel

HUB, BJORN = keys.generate(), keys.generate()
PEERS, NETWORKS = 250, 400  # more of either than fit into one message of the kernel


@pytest.fixture
def hub() -> Iterator[Namespace]:
    if not Path("/sys/module/wireguard").exists():
        assert "MESHWRIGHT_IN_VM" not in os.environ, "the virtual machine has no WireGuard"
        pytest.skip("this kernel has no WireGuard of its own; script/vm has a machine with one")
    with machine("hub") as host:
        yield host


def conf() -> str:
    """Many peers, one of them with many networks, one with none; bjorn is on the same machine."""
    shared = base64.b64encode(b"p" * 32).decode()
    many = ",".join(f"10.{n >> 8}.{n & 255}.0/24,fd01:{n:x}::/64" for n in range(NETWORKS))
    peers = [f"PublicKey = {keys.public(BJORN)}\nAllowedIPs = 10.100.2.1/32\nEndpoint = 127.0.0.1:51822\n"]
    for number in range(PEERS):
        key = base64.b64encode(bytes([number, *[7] * 31])).decode()
        allowed = many if number == 5 else f"10.200.0.{number}/32,fd00::{number:x}/128"
        more = "" if number == 6 else f"AllowedIPs = {allowed}\n"
        more += f"PresharedKey = {shared}\n" if number % 2 else ""
        more += f"Endpoint = {('192.0.2.9', '[2001:db8::1]')[number % 2]}:{number + 1}\n" if number % 3 else ""
        peers.append(f"PublicKey = {key}\n{more}")
    return f"[Interface]\nPrivateKey = {HUB.reveal()}\nListenPort = 51821\n[Peer]\n" + "\n[Peer]\n".join(peers)


def test_it_says_what_wg_and_nft_say(hub: Namespace) -> None:
    must(hub, f"ip link add {IF} type wireguard; ip link add wg2 type wireguard")
    must(hub, f"wg setconf {IF} /dev/stdin", stdin=conf().encode(), timeout=300)
    other = f"[Interface]\nPrivateKey = {BJORN.reveal()}\nListenPort = 51822\n[Peer]\nPublicKey = {keys.public(HUB)}\n"
    more = "AllowedIPs = 10.100.0.0/16\nEndpoint = 127.0.0.1:51821\nPersistentKeepalive = 1\n"
    must(hub, "wg setconf wg2 /dev/stdin", stdin=(other + more).encode())
    sources = {f"10.200.0.{n}/32": (f"p{n}", ["10.0.0.0/8 any -"]) for n in range(PEERS)}
    table(hub, {**sources, "10.100.2.1/32": ("bjorn", []), "10.7.0.0/24": ("p5", []), "fd00::9/128": ("p9", [])})
    must(hub, f"ip addr add 10.100.0.1/16 dev {IF}; ip link set {IF} up; ip link set wg2 up")
    settings = {"peers": {"bjorn": {"public_key": keys.public(BJORN)}}}
    heard = f"wg show {IF} latest-handshakes | awk '$2 {{n = 1}} END {{exit !n}}'"
    must(hub, f"for i in $(seq 600); do {heard} && exit; sleep 0.1; done; exit 1", timeout=300)
    must(hub, "ip link delete wg2")  # nothing moves any more
    before, moment = dumped(hub), taken(hub, settings)
    assert said(moment) == before
    assert len(moment.rows) == PEERS + 1
    assert max(len(row["allowed_ips"]) for row in moment.rows) > 2000
    assert moment.rows[0]["peer"] == "bjorn"
    assert moment.rows[0]["handshake"]
    assert moment.faults == []
    counted = [listed(hub, "hosts4", "map"), listed(hub, "denied_hosts4")]
    assert moment.counts["bjorn/"] == [each["10.100.2.1"] for each in counted]
    assert taken(hub, settings, interface="lo").faults == ["the WireGuard interface lo is not there"]
