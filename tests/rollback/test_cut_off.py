"""A hub with real systemd and sshd rolls back by itself what cuts its operator or its peers off."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from homes import INTERFACE, TABLE, Wish, key, look, settle, write

import booted
from meshwright.errors import HostError
from meshwright.events import Event, Started
from meshwright.io.host import Host, Lost, Namespace
from meshwright.io.process import Done
from meshwright.io.ssh import Ssh
from meshwright.providers.base import Result
from meshwright.providers.hub import Hub

pytestmark = pytest.mark.booted

PATIENCE = 8.0
HAM = "10.100.2.1"
FOLDER = f"/var/lib/meshwright/rollback-{TABLE}"


@dataclass(frozen=True)
class Home:
    """The hub, its operator on the same segment, and ham, a peer with a tunnel that is up."""

    hub: booted.Hub
    ham: Namespace
    wish: Wish

    @property
    def ssh(self) -> Ssh:
        return Ssh("hub", config=self.hub.config, python=booted.PYTHON)

    def provider(self, host: Host | None = None, patience: float = PATIENCE) -> Hub:
        return Hub(host or self.ssh, INTERFACE, TABLE, patience=patience)

    def pings(self, seconds: float = 0) -> bool:
        """Whether ham reaches the hub through the tunnel, now or within some seconds."""
        end = time.monotonic() + seconds
        while True:
            if not self.ham.run(["ping", "-c1", "-W1", "10.100.0.1"]).code:
                return True
            if time.monotonic() >= end:
                return False

    def settled(self) -> None:
        """Nothing of a roll-back is left but its outcome."""
        left = self.hub.run(
            "sh", "-c", f"ls {FOLDER}; ls /etc/systemd/system/*/ /etc/systemd/system | grep rollback", check=False
        )
        assert left.stdout.decode().split() in ([], ["outcome.json"])
        assert not self.hub.run("systemctl", "list-timers", "--all", "meshwright*", "--no-legend").stdout

    def peers(self) -> set[str]:
        return set(self.hub.run("wg", "show", INTERFACE, "peers").stdout.decode().split())


@pytest.fixture(scope="module")
def house(booted_hub: booted.Hub) -> Iterator[Home]:
    """The mesh as it was: ham and jake are peers, ham is connected and heard every two seconds."""
    private = booted.run(["wg", "genkey"]).stdout.decode().strip()
    public = booted.run(["wg", "pubkey"], stdin=private.encode()).stdout.decode().strip()
    wish = Wish({"ham": (HAM, public), "jake": ("10.100.2.2", key("jake"))})
    ham = booted_hub.site.host("ham", "192.0.2.21")
    home = Home(booted_hub, ham, wish)
    settle(home.provider(), wish.resources())
    own = booted_hub.run("wg", "show", INTERFACE, "public-key").stdout.decode().strip()
    ham.put(
        "/etc/wireguard/wg0.conf",
        f"[Interface]\nPrivateKey = {private}\nAddress = {HAM}/32\n[Peer]\nPublicKey = {own}\n"
        "Endpoint = 192.0.2.10:51821\nAllowedIPs = 10.100.0.0/16\nPersistentKeepalive = 2\n".encode(),
        0o600,
    )
    ham.run(["wg-quick", "up", "wg0"])
    assert home.pings(10)
    yield home
    ham.run(["wg-quick", "down", "wg0"])


@pytest.fixture
def home(house: Home) -> Iterator[Home]:
    """Each test leaves a hub that converges to the mesh as it was, and a peer who is connected."""
    yield house
    settle(house.provider(), house.wish.resources())
    assert house.pings(5)
    house.settled()


def through(home: Home, at: Namespace, address: str) -> Ssh:
    """The operator somewhere else than on the segment: he stands at `at` and knows the hub by `address`."""
    pipe = f"nsenter -t {at.pid} -n {sys.executable} {Path(booted.__file__).parent / 'pipe.py'}"
    config = home.hub.site.folder / f"through-{at.name}"
    config.write_text(
        f"Host elsewhere\n  HostName {address}\n  HostKeyAlias {booted.HUB}\n  ProxyCommand {pipe} %h 22\n  User root\n"
        f"  IdentityFile {home.hub.key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {home.hub.site.folder}/known_hosts\n"
    )
    return Ssh("elsewhere", config=config, python=booted.PYTHON)


def all_back(results: Sequence[Result], *but: str) -> None:
    for result in results:
        if result.id not in but:
            assert not result.ok, result.id
    assert any("rolled back" in result.why for result in results), results


def test_a_good_change_stands(home: Home) -> None:
    wanted = replace(home.wish, port=51830).also("steve", "10.100.2.4").without("jake")
    told: list[Event] = []
    results = write(home.provider(patience=10), wanted.resources(), told)
    assert all(result.ok for result in results), results
    assert any(isinstance(event, Started) and "1 active peer" in event.what for event in told)
    home.settled()
    time.sleep(10)
    assert not look(home.provider(), wanted.resources()).changes
    assert home.pings()


def test_the_operator_behind_the_tunnel_changes_its_address(home: Home) -> None:
    inside = home.provider(through(home, home.ham, "10.100.0.1"))
    wanted = replace(home.wish, hub="10.100.0.9").without("jake")
    results = write(inside, wanted.resources())
    all_back(results, "hub/peer/jake", "hub/rights/10.100.2.2/32")
    assert home.pings(5)
    assert key("jake") not in home.peers()
    assert inside.host.run(["true"]).code == 0
    settle(inside, home.wish.without("jake").resources())


def test_the_operator_behind_the_tunnel_takes_his_own_right(home: Home) -> None:
    """What is taken is never rolled back: so this one is refused, as root and behind sudo."""
    before = home.peers()
    for user in ("root", "keyless"):
        inside = home.provider(replace(through(home, home.ham, "10.100.0.1"), user=user, become=True))
        results = write(inside, home.wish.without("ham").resources())
        assert all("this would lock you out" in result.why and HAM in result.why for result in results), results
        assert home.peers() == before
    assert home.pings()


def test_a_host_firewall_does_not_know_the_new_port(home: Home) -> None:
    wall = "table inet host { chain in { type filter hook input priority 0; udp dport != 51821 iif eth0 drop; }; }"
    home.hub.run("nft", wall)
    wanted = replace(home.wish, port=51840).without("jake")
    results = write(home.provider(), wanted.resources())
    assert any("none of 1 active peers was heard" in result.why for result in results), results
    assert home.pings(5)
    assert key("jake") not in home.peers()
    forced = replace(home.provider(), insist=False)
    assert all(result.ok for result in write(forced, wanted.resources()))
    assert not home.pings()
    home.hub.run("nft", "delete table inet host")
    assert not look(home.provider(), wanted.resources()).changes
    assert home.pings(5)


ADVERTISE = """
import socket, struct, time, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, socket.if_nametoindex("br0")))
"""


def test_ipv6_forwarding_takes_the_default_route(home: Home) -> None:
    ground = home.hub.site.ground
    ground.run(["ip", "-6", "address", "add", "2001:db8:9::1/128", "dev", "lo", "nodad"])
    ground.run(["ip", "-6", "route", "replace", "2001:db8:1::/64", "dev", "br0", "src", "2001:db8:9::1"])
    home.hub.run("ip", "-6", "address", "add", "2001:db8:1::10/64", "dev", "eth0", "nodad")
    home.hub.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_ra")
    ground.run([sys.executable, "-c", ADVERTISE])
    route = ["ip", "-6", "route", "show", "default"]
    _until(lambda: home.hub.run(*route).stdout != b"", 5)
    far = home.provider(through(home, ground, "2001:db8:1::10"))
    wanted = replace(home.wish, inet6=True).without("jake")
    results = write(far, wanted.resources())
    assert any("rolled back" in result.why for result in results), results
    assert (
        home.hub.run("sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.eth0.forwarding").stdout
        == b"0\n0\n"
    )
    assert b"proto ra" in home.hub.run(*route).stdout
    assert far.host.run(["true"]).code == 0
    assert home.pings(5)
    assert key("jake") not in home.peers()
    home.hub.run("sh", "-c", "echo 2 >/proc/sys/net/ipv6/conf/eth0/accept_ra")
    ground.run([sys.executable, "-c", ADVERTISE])
    settle(far, wanted.resources())
    home.hub.run("ip", "-6", "address", "delete", "2001:db8:1::10/64", "dev", "eth0")


@dataclass(frozen=True)
class Torn:
    """The hub over a network that breaks for good right after a write was done there."""

    inner: Ssh
    broken: list[bool]

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def python(self) -> str:
        return self.inner.python

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        if self.broken:
            raise HostError("no route to host", "wait")
        done = self.inner.run(argv, stdin=stdin, timeout=timeout)
        if b'"results"' in done.out:
            self.broken.append(True)
            raise Lost("the connection broke", "look")
        return done

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.inner.put(path, data, mode)

    def fresh(self) -> Torn:
        return self


def test_nobody_comes_back_after_the_write(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshwright.providers.confirm.LATE", 2)
    torn = home.provider(Torn(home.ssh, []), patience=4)
    wanted = replace(home.wish, port=51850).without("jake")
    results = write(torn, wanted.resources())
    assert all(not result.ok and "rolls back by itself" in result.why for result in results), results
    assert home.pings(5)
    assert b"51821" in home.hub.run("wg", "show", INTERFACE, "listen-port").stdout
    assert key("jake") not in home.peers()


def test_a_reboot_while_it_is_armed(home: Home) -> None:
    torn = home.provider(Torn(home.ssh, []), patience=120)
    with pytest.raises(Stop):
        torn.apply(look(home.provider(), replace(home.wish, port=51850).resources()).changes, _stop)
    home.hub.run("ip", "link", "delete", "eth0")  # the old machine's address must not outlive it
    home.hub.reboot()
    _until(lambda: b"51821" in home.hub.run("wg", "show", INTERFACE, "listen-port", check=False).stdout, 20)
    assert home.pings(10)


class Stop(Exception):
    pass


def _stop(_: Event) -> None:
    raise Stop


def _until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
