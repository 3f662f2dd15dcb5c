"""A removed right ends the flows that run on it, in both directions; what is still allowed goes on. Real packets."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from small import Friend, friends, mesh, settle

from meshwright.desired.resource import Resource
from meshwright.io.host import Namespace
from support import machine

pytestmark = pytest.mark.lab

# argv: file that grows a byte per packet received, own port, then nothing or the address and port to begin with.
# Whoever has heard of the other side, or was told it, sends to it for ever.
TALK = """
import socket, sys, time
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("0.0.0.0", int(sys.argv[2])))
link.settimeout(0.02)
other = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else None
while True:
    if other:
        try:
            link.sendto(b"x", other)
        except OSError:
            pass
    try:
        _, other = link.recvfrom(10)
        with open(sys.argv[1], "a") as file:
            file.write("x")
    except OSError:
        time.sleep(0.01)
"""


class World:
    """A hub, two friends with real tunnels, and a node of the house."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.hub, self.ham, self.bryce, self.node = (
            stack.enter_context(machine(name)) for name in ("hub", "ham", "bryce", "node")
        )
        self._wire(self.node, "node", "192.168.20.20/24", "192.168.20.21/24")
        self._wire(self.ham, "ham", "10.9.1.1/30", "10.9.1.2/30")
        self._wire(self.bryce, "bryce", "10.9.2.1/30", "10.9.2.2/30")
        sh(self.node, "ip route add default via 192.168.20.20")
        rules = "chain pre { type nat hook prerouting priority -100; ip daddr 10.43.0.10 udp dport 53 "
        sh(self.hub, f"nft 'table ip kube {{ {rules} dnat to 192.168.20.21:5000; }}; }}'")
        self.people = {name: self._friend(host) for name, host in (("ham", self.ham), ("bryce", self.bryce))}

    def _wire(self, other: Namespace, name: str, here: str, there: str) -> None:
        spots = [f"/proc/{host.pid}/ns/net" for host in (self.hub, other)]
        argv = ["ip", "link", "add", name, "netns", spots[0], "type", "veth", "peer", "name", "up0", "netns", spots[1]]
        subprocess.run(argv, check=True, timeout=10)
        for host, link, address in ((self.hub, name, here), (other, "up0", there)):
            sh(host, f"ip address add {address} dev {link}; ip link set {link} up")

    def _friend(self, host: Namespace) -> str:
        return sh(host, "umask 077; wg genkey > /run/key; wg pubkey < /run/key").strip()

    def wanted(
        self, ham: tuple[str, ...], bryce: tuple[str, ...], inbound: tuple[str, ...] = ()
    ) -> dict[str, Resource]:
        who = friends(
            ham=Friend(("10.100.2.1/32",), ham, self.people["ham"]),
            bryce=Friend(("10.100.2.2/32",), bryce, self.people["bryce"]),
        )
        return mesh(who, inbound=inbound)

    def dial(self) -> None:
        """Both friends bring up their tunnels."""
        key = sh(self.hub, "wg show wg1 public-key").strip()
        for host, own, gate in ((self.ham, "10.100.2.1", "10.9.1.1"), (self.bryce, "10.100.2.2", "10.9.2.1")):
            ways = "10.100.0.0/16,192.168.20.0/24,10.43.0.0/16"
            sh(host, f"""
                wireguard-go wg0 >/dev/null 2>&1
                wg set wg0 private-key /run/key peer {key} endpoint {gate}:51821 allowed-ips {ways} \\
                    persistent-keepalive 1
                ip address add {own}/32 dev wg0; ip link set wg0 up
                for way in $(echo {ways} | tr , ' '); do ip route add $way dev wg0; done""")  # fmt: skip

    def talk(self, host: Namespace, name: str, *where: str) -> Callable[[], int]:
        """Start one side; gives the number of packets it has heard."""
        place = self.folder / name
        place.touch()
        line = " ".join([host.python, "-c", f"'{TALK}'", str(place), *where])
        sh(host, f"exec >/dev/null 2>&1 </dev/null; {line} &")
        return lambda: place.stat().st_size


def sh(host: Namespace, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout=30)
    assert done.code == 0, (script, done.err)
    return done.out.decode()


def rises(heard: Callable[[], int], patience: float = 15) -> bool:
    """Whether packets go on arriving: ten more within `patience` seconds."""
    goal, end = heard() + 10, time.monotonic() + patience
    while heard() < goal and time.monotonic() < end:
        time.sleep(0.05)
    return heard() >= goal


def still(heard: Callable[[], int]) -> bool:
    """Whether nothing arrives any more."""
    time.sleep(0.3)  # what was under way when the command ended
    before = heard()
    time.sleep(1)
    return heard() == before


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid():
        pytest.skip("links between separate namespaces need root; tests/live proves the same without")
    with ExitStack() as stack:
        yield World(stack, tmp_path)


NODE, SERVICE, OTHER = "192.168.20.21/32 udp 5000", "10.43.0.10/32 udp 53", "192.168.20.21/32 tcp 80"
TO_BRYCE, FROM_NODE = "10.100.2.2/32 udp 7000", "192.168.20.21/32 -> 10.100.2.1/32 udp 6000"


@pytest.mark.parametrize(
    ("right", "inbound", "listener", "dialler"),
    [
        (NODE, (), ("node", "5000"), ("ham", "4000", "192.168.20.21", "5000")),
        (SERVICE, (), ("node", "5000"), ("ham", "4000", "10.43.0.10", "53")),
        (TO_BRYCE, (), ("bryce", "7000"), ("ham", "4000", "10.100.2.2", "7000")),
        (OTHER, (FROM_NODE,), ("ham", "6000"), ("node", "4000", "10.100.2.1", "6000")),
    ],
    ids=["node", "service", "peer to peer", "inbound"],
)
def test_a_removed_right_ends_its_flow_both_ways(
    world: World, right: str, inbound: tuple[str, ...], listener: tuple[str, ...], dialler: tuple[str, ...]
) -> None:
    control = "192.168.20.21/32 udp 5001"
    settle(world.hub, world.wanted((right,), (control,), inbound))
    world.dial()
    answered = world.talk(getattr(world, listener[0]), "listener", *listener[1:])
    heard = world.talk(getattr(world, dialler[0]), "dialler", *dialler[1:])
    world.talk(world.node, "control-listener", "5001")
    control_heard = world.talk(world.bryce, "control", "4001", "192.168.20.21", "5001")
    assert rises(answered), "the right was there, but no packet came through"
    assert rises(heard)
    assert rises(control_heard)
    settle(world.hub, world.wanted((OTHER,), (control,)))
    assert still(heard), "the far side is still heard"
    assert still(answered), "the peer is still heard"
    assert rises(control_heard), "another peer's flow was cut"


def test_an_address_in_other_hands_keeps_none_of_its_flows(world: World) -> None:
    settle(world.hub, world.wanted((NODE,), (NODE,)))
    world.dial()
    answered = world.talk(world.node, "listener", "5000")
    heard = world.talk(world.ham, "dialler", "4000", "192.168.20.21", "5000")
    assert rises(answered)
    assert rises(heard)
    swapped = friends(
        ham=Friend(("10.100.2.2/32",), (NODE,), world.people["ham"]),
        bryce=Friend(("10.100.2.1/32",), (NODE,), world.people["bryce"]),
    )
    settle(world.hub, mesh(swapped, inbound=()))
    assert still(heard)
    assert still(answered)
    assert "10.100.2.1" not in sh(world.hub, "cat /proc/net/nf_conntrack 2>/dev/null | grep dport=5000 || true")


def test_a_removed_peer_is_silent_and_its_handshake_gone(world: World) -> None:
    settle(world.hub, world.wanted((NODE,), (NODE,)))
    world.dial()
    answered = world.talk(world.node, "listener", "5000")
    heard = world.talk(world.ham, "dialler", "4000", "192.168.20.21", "5000")
    assert rises(heard)
    before = sh(world.hub, "wg show wg1 endpoints")
    bryce = friends(bryce=Friend(("10.100.2.2/32",), (NODE,), world.people["bryce"]))
    settle(world.hub, mesh(bryce, inbound=()))
    assert still(heard)
    assert still(answered)
    after = sh(world.hub, "wg show wg1 endpoints").split()
    assert after == [w for line in before.splitlines() if world.people["bryce"] in line for w in line.split()]
