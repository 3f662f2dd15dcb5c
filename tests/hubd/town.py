"""A hub with its service, friends with real tunnels beside it, and the seconds in which nothing gets through.

The hub is booted (systemd), or a bare machine of namespaces; the friends are namespaces on the same segment.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import booted
from meshwright import keys
from meshwright.desired.facts import Facts, Program
from meshwright.desired.resource import Resource
from meshwright.desired.state import known, state
from meshwright.events import silent
from meshwright.io import program
from meshwright.io.host import Host, Namespace
from meshwright.plan import plan
from meshwright.plan.plan import Plan
from meshwright.providers.base import Result
from meshwright.providers.hub import Hub
from meshwright.spec import load

INTERFACE, TABLE = "wg1", "town"
SERVICE = f"meshwright-hubd-{TABLE}.service"
TUNNEL = f"wg-quick@{INTERFACE}.service"
MEMORY = f"/var/lib/meshwright/{TABLE}/memory/endpoints.json"
PROGRAM = f"/var/lib/meshwright/{TABLE}/hubd.pyz"
PUBLIC = "wg show wg1 public-key"
MESH = """
version: 1
name: town
hub: {{node: hub-1, address: 192.0.2.10, interface: wg1, endpoint: "192.0.2.10:51821"}}
network: {{cidr: [10.100.0.0/16], hub: [10.100.0.1], routes: {{mesh: 10.100.0.0/16}}}}
peers:
{peers}
policy:
  allow:
    - {{from: peers, to: hub, ports: [icmp]}}
    - {{from: hub, to: peers, ports: [icmp]}}
"""
CONF = """[Interface]
PrivateKey = {private}
Address = {address}/32
[Peer]
PublicKey = {hub}
AllowedIPs = 10.100.0.0/16
Endpoint = 192.0.2.10:51821
PersistentKeepalive = {keepalive}
"""


@dataclass(frozen=True)
class Friend:
    """number: of his address, in the tunnel and on the segment; two of one number share it. private: his key."""

    number: int
    private: str
    keepalive: int = 25
    disabled: bool = False

    @property
    def address(self) -> str:
        return f"10.100.2.{self.number}"

    @property
    def public(self) -> str:
        return keys.public(keys.Secret(self.private))


def friend(number: int, keepalive: int = 25) -> Friend:
    return Friend(number, keys.generate().reveal(), keepalive)


def wanted(friends: Mapping[str, Friend], brings: Program | None = None) -> dict[str, Resource]:
    """What the hub should hold, and nothing else. brings: the program that it should have; None: as this version's."""
    lines = [
        f"  {name}: {{address: {f.address}, public_key: {f.public}, disabled: {str(f.disabled).lower()}}}"
        for name, f in friends.items()
    ]
    mesh = load.load_text(MESH.format(peers="\n".join(lines))).mesh
    facts = Facts(datetime.now(UTC), program=brings or program.facts())
    return {id: resource for id, resource in state(mesh, facts).items() if id.startswith("hub/")}


def look(host: Host, wants: Mapping[str, Resource]) -> Plan:
    actual = Hub(host, INTERFACE, TABLE).read(wants)
    return plan.make(known(wants, actual), actual)


def write(host: Host, wants: Mapping[str, Resource]) -> list[Result]:
    todo = look(host, wants)
    return Hub(host, INTERFACE, TABLE).apply(todo.changes, silent) if todo.changes else []


def settle(host: Host, wants: Mapping[str, Resource]) -> None:
    """Apply; everything must succeed, and nothing is left to do."""
    failed = [result for result in write(host, wants) if not result.ok]
    assert not failed, failed
    assert not left(host, wants), left(host, wants)


def left(host: Host, wants: Mapping[str, Resource]) -> list[str]:
    return [change.id for change in look(host, wants).changes]


def join(host: Namespace, who: Friend, hub: str) -> None:
    """A friend's `wg-quick up`. hub: the hub's public key."""
    conf = CONF.format(private=who.private, address=who.address, hub=hub, keepalive=who.keepalive)
    host.put("/etc/wireguard/friend.conf", conf.encode(), 0o600)
    sh(host, "wg-quick up friend")


def sh(host: Host, script: str, timeout: float = 60) -> str:
    done = host.run(["sh", "-c", script], timeout=timeout)
    assert done.code == 0, (host.name, script, done.err)
    return done.out.decode()


def until(true: Callable[[], object], patience: float = 20, what: str = "") -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, what or "it did not come true"
        time.sleep(0.05)


class Pings:
    """50 pings a second from a host to an address; when each was answered."""

    def __init__(self, host: Namespace, address: str) -> None:
        self.out = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the pings
        # nsenter(1) passes no signal on to what it started, so the end of stdin ends it
        argv = host.enter(["sh", "-c", 'ping -n -D -i 0.02 -W 1 "$0" & read -r _; kill $!', address])
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self.out, stderr=self.out)

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)

    @property
    def answers(self) -> list[float]:
        self.out.seek(0)
        return [float(at) for at in re.findall(rb"\[([\d.]+)\] \d+ bytes from", self.out.read())]

    def answered(self, since: float) -> float | None:
        """Seconds from `since` to the first answer that came later."""
        return next((at - since for at in self.answers if at > since), None)

    def first_after_the_gap(self) -> float | None:
        """When the answer came that ended the longest silence."""
        found = self.answers
        return max(itertools.pairwise(found), key=lambda pair: pair[1] - pair[0], default=(None, None))[1]

    def gap(self) -> float:
        """The longest time without an answer, from the first answer to the last."""
        found = self.answers
        return max((b - a for a, b in itertools.pairwise(found)), default=float("inf"))


@contextmanager
def pinging(host: Namespace, address: str = "10.100.0.1", patience: float = 30) -> Iterator[Pings]:
    """Pings that have had their first answer."""
    pings = Pings(host, address)
    try:
        until(lambda: pings.answers, patience, f"{host.name} cannot reach {address}")
        yield pings
    finally:
        pings.end()


@dataclass
class Town:
    """A booted hub with friends, all of them connected."""

    machine: booted.Hub
    friends: dict[str, Friend]
    homes: dict[str, Namespace]

    @property
    def hub(self) -> Namespace:
        return Namespace(self.machine.init, name="hub", python=booted.PYTHON)

    def settle(self) -> None:
        settle(self.hub, wanted(self.friends))

    def sh(self, script: str) -> str:
        return sh(self.hub, script)

    def log(self) -> str:
        return self.sh(f"journalctl -q --no-pager -o cat -u {SERVICE}")

    def serve(self, on: bool) -> None:
        """With or without the service, and without what it remembered."""
        self.sh(f"systemctl disable -q --now {SERVICE}; rm -f {MEMORY}")
        if on:
            self.sh(f"systemctl enable -q --now {SERVICE}")

    def met(self) -> None:
        """Wait until every friend is connected and the service, if it runs, knows where they are."""
        for name, home in self.homes.items():
            if self.friends[name].disabled:
                continue
            until(lambda home=home: home.run(["ping", "-c1", "-W1", "10.100.0.1"]).code == 0, 40, name)  # type: ignore[misc]
        if self.hub.run(["systemctl", "is-active", SERVICE]).code == 0:
            keys = [who.public for who in self.friends.values() if not who.disabled]
            until(lambda: all(key in self.remembered() for key in keys), 30, "they are not remembered")

    def remembered(self) -> str:
        return self.hub.run(["cat", MEMORY]).out.decode()

    def kill(self, script: str, patience: float = 40) -> float:
        """Ann pings the hub 50 times a second while this is done to it -> the longest time without an answer."""
        with pinging(self.homes["ann"]) as pings:
            time.sleep(0.5)
            self.sh(script)
            since = time.time()
            until(lambda: pings.answered(since + 0.2), patience, f"nothing gets through after: {script}")
            time.sleep(0.5)
        return pings.gap()

    def off_and_on(self, *, crash: bool, idle: bool = True, patience: float = 240) -> dict[str, float]:
        """Seconds from sshd's first answer after a reboot: until ann, who pings all the time, gets an answer, and until
        the hub reaches bob, who sends nothing but his keepalive (idle). whole: how long ann got none."""
        with pinging(self.homes["ann"]) as pings:
            time.sleep(0.5)
            if crash:
                self.machine.crash()
                self.machine.start()
            else:
                self.machine.reboot()
            since = time.time()
            found = {"bob": self._reached("10.100.2.2", since, patience)} if idle else {}
            until(lambda: pings.answered(since), patience, "ann gets no answer")
            time.sleep(0.5)
        back = pings.first_after_the_gap() or since
        return {"ann": max(0.0, back - since), **found, "whole": pings.gap()}

    def _reached(self, address: str, since: float, patience: float) -> float:
        # sshd answers before wg-quick has ended, and ping(8) gives up at once where no route is
        until(lambda: self.hub.run(["ip", "route", "get", address]).code == 0, patience, f"no route to {address}")
        with pinging(self.hub, address, patience) as pings:
            return max(0.0, pings.answers[0] - since)


@contextmanager
def town(machine: booted.Hub, count: int = 2) -> Iterator[Town]:
    """The mesh on a booted hub, with so many friends on its segment."""
    names = ["ann", "bob", "cid"][:count]
    friends = {name: friend(number) for number, name in enumerate(names, 1)}
    homes = {name: machine.site.host(name, f"192.0.2.{100 + who.number}") for name, who in friends.items()}
    here = Town(machine, friends, homes)
    here.settle()
    for name, home in homes.items():
        join(home, friends[name], here.sh(PUBLIC).strip())
    here.met()
    yield here


def changed(who: Friend, **fields: object) -> Friend:
    return replace(who, **fields)  # type: ignore[arg-type]
