"""A real device and a real table read without a program: the same as wg and nft say, and right after each change."""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from meshwright import keys
from meshwright.io.host import Namespace
from moment import IF, TABLE, dumped, listed, must, said, table, taken
from support import machine

pytestmark = pytest.mark.lab

HUB, BJORN = keys.generate(), keys.generate()
STRANGER = base64.b64encode(b"s" * 32).decode()
CONF = """[Interface]
PrivateKey = {private}
ListenPort = 51821
{peers}"""
PEER = """[Peer]
PublicKey = {key}
{more}
"""
THERE = "AllowedIPs = 10.100.0.0/16,fd00::/64\nEndpoint = 192.0.2.1:51821"
ALLOWED = "10.100.2.1/32,10.7.0.0/24,fd00::1/128"
SETTINGS = {"peers": {"bjorn/phone": {"public_key": keys.public(BJORN), "next_public_key": "", "always_on": True}}}


@contextmanager
def device(host: Namespace) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        argv = host.enter(["env", "WG_PROCESS_FOREGROUND=1", "wireguard-go", "-f", IF])
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            must(host, f"for i in $(seq 200); do [ -S /run/wireguard/{IF}.sock ] && exit; sleep 0.05; done; exit 1")
            yield
        finally:
            process.kill()
            process.wait(10)


def load(host: Namespace, private: keys.Secret, *peers: str) -> None:
    conf = CONF.format(private=private.reveal(), peers="\n".join(peers))
    must(host, f"wg setconf {IF} /dev/stdin", stdin=conf.encode())


@pytest.fixture(scope="module")
def town() -> Iterator[tuple[Namespace, Namespace]]:
    """A hub that knows bjorn and a stranger, and bjorn himself, who has been in."""
    with machine("hub") as hub, machine("spoke") as spoke, device(hub), device(spoke):
        subprocess.run(
            ["ip", "link", "add", "h0", "netns", str(hub.pid), "type", "veth", "peer", "s0", "netns", str(spoke.pid)],
            check=True,
            timeout=30,
        )
        must(hub, "ip addr add 192.0.2.1/24 dev h0; ip link set h0 up")
        must(spoke, "ip addr add 192.0.2.2/24 dev s0; ip link set s0 up")
        load(hub, HUB, PEER.format(key=keys.public(BJORN), more=f"AllowedIPs = {ALLOWED}"),
             PEER.format(key=STRANGER, more=""))  # fmt: skip
        load(spoke, BJORN, PEER.format(key=keys.public(HUB), more=THERE))
        v6 = "ip -6 addr add {} dev wg1 nodad"
        must(hub, f"ip addr add 10.100.0.1/16 dev {IF}; ip link set {IF} up; {v6.format('fd00::ff/64')}")
        must(spoke, f"ip addr add 10.100.2.1/16 dev {IF}; ip link set {IF} up; {v6.format('fd00::1/64')}")
        must(spoke, f"ip addr add 10.7.0.9/32 dev {IF}")
        table(hub, {
            "10.100.2.1/32": ("bjorn-phone", ["10.100.0.1/32 icmp -"]),
            "10.7.0.0/24": ("bjorn-phone", []),
            "fd00::1/128": ("bjorn-phone", []),
            "10.100.2.2/32": ("gone", []),
        })  # fmt: skip
        must(spoke, "ping -q -c 3 -i 0.2 -W 5 10.100.0.1")
        yield hub, spoke


def test_it_says_what_wg_says(town: tuple[Namespace, Namespace]) -> None:
    hub, _ = town
    for _ in range(20):  # until nothing moved meanwhile
        before, moment, after = dumped(hub), taken(hub, SETTINGS), dumped(hub)
        if before == after:
            break
    assert said(moment) == before
    assert [(row["peer"], row["device"]) for row in moment.rows] == [("bjorn", "phone"), ("unknown", "")]
    assert moment.rows[0]["handshake"] > time.time() - 600
    assert moment.rows[1]["handshake"] is None
    assert (moment.up, moment.faults) == (True, [])


def test_it_counts_what_the_firewall_counted(town: tuple[Namespace, Namespace]) -> None:
    hub, spoke = town
    before = taken(hub, SETTINGS).counts["bjorn/phone"]
    done = spoke.run(["sh", "-c", "ping -q -c 4 -i 0.2 -W 1 -I 10.7.0.9 10.100.0.1; ping -q -c 2 -i 0.2 -W 1 fd00::ff"])
    assert done.code != 0
    must(spoke, "ping -q -c 3 -i 0.2 -W 5 10.100.0.1")
    moment = taken(hub, SETTINGS)
    denied = moment.counts["bjorn/phone"][1] - before[1]
    attempted = moment.counts["bjorn/phone"][0] - before[0]
    assert 6 <= denied <= 8  # IPv6 asks for a neighbour now and then
    assert attempted == denied + 3
    assert moment.counts.keys() == {"bjorn/phone"}
    kinds = [("map", ("hosts4", "networks4", "hosts6", "networks6"))]
    kinds.append(("set", ("denied_hosts4", "denied_networks4", "denied_hosts6", "denied_networks6")))
    for number, (kind, names) in enumerate(kinds):
        counted = {address: count for name in names for address, count in listed(hub, name, kind).items()}
        assert counted.pop("10.100.2.2") == 0
        assert sum(counted.values()) == moment.counts["bjorn/phone"][number]


def test_a_table_that_is_not_there_is_told_and_nothing_is_invented(town: tuple[Namespace, Namespace]) -> None:
    hub, _ = town
    moment = taken(hub, SETTINGS, table="other")
    assert moment.faults == ["the table inet other of nft, or a set of it, is not there"]
    assert "packets_total" not in moment.page
    assert 'wireguard_scrape_success{interface="wg1"} 0' in moment.page
    assert "wireguard_sent_bytes_total{" in moment.page


@pytest.mark.parametrize("interface", ["wg9", "lo", "h0"])
def test_no_wireguard_interface_is_told(town: tuple[Namespace, Namespace], interface: str) -> None:
    hub, _ = town
    moment = taken(hub, SETTINGS, interface=interface)
    assert moment.faults == [f"the WireGuard interface {interface} is not there"]
    assert moment.up == (interface != "wg9")
    assert re.findall(r"^(\w+)\{", moment.page, re.M) == [
        "wireguard_interface_up", "wireguard_scrape_success", "wireguard_scrape_duration_seconds",
        "wireguard_scrape_time_seconds", "wireguard_peer_expected",
    ]  # fmt: skip


def test_an_interface_that_is_down(town: tuple[Namespace, Namespace]) -> None:
    hub, _ = town
    must(hub, f"ip link set {IF} down")
    assert 'wireguard_interface_up{interface="wg1"} 0' in taken(hub, SETTINGS).page
    must(hub, f"ip link set {IF} up")
    assert taken(hub, SETTINGS, table=TABLE).up
