"""What a friend with bad intentions, or a stolen laptop, would try. Each attempt is made for real and must fail.

Where a packet ends is seen too: `arrived` counts what the hub's tunnel took in (a packet with a foreign source address
never gets that far: WireGuard drops it), `denied` what the hub's table dropped. Everything is put back afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_address
from typing import Any

from meshwright.errors import LabError
from meshwright.events import Checked, Started, Tell, silent
from meshwright.io.host import Namespace
from meshwright.lab import entry
from meshwright.lab.matrix import aims, sources
from meshwright.lab.parts import Target
from meshwright.lab.probes import Rules, Source, answers_ping, reaches
from meshwright.lab.world import Lab
from meshwright.spec.model import Address, Mesh
from meshwright.spec.policy import grants
from meshwright.verify import checks

COUNT = 5  # packets per attempt; fewer on a counter are keepalives of others
TIMEOUT = 0.6  # seconds of silence; what may pass answers in a few milliseconds
BIG = 4000  # bytes: more than one packet


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one attempt. answered: of `sent`. failed: could not be sent. left, arrived, denied: how far the
    counters of the attacker's tunnel, the hub's tunnel and the hub's table moved.
    """

    sent: int
    answered: int
    failed: int
    left: int
    arrived: int
    denied: int

    def __str__(self) -> str:
        failed = f", {self.failed} could not be sent" if self.failed else ""
        counts = f"{self.left} left by the tunnel, hub took in {self.arrived}, dropped {self.denied}"
        return f"{self.answered} of {self.sent} answered{failed}; {counts}"


Check = tuple[str, Callable[[Seen], bool]]
PASSES: Check = ("answered", lambda s: s.answered == s.sent)
FOREIGN: Check = (
    "no answer: it leaves by the tunnel and never comes out at the hub",
    lambda s: s.answered == 0 and s.left >= COUNT and s.arrived < COUNT,
)
UNHEARD: Check = ("no answer, and nothing comes out at the hub", lambda s: s.answered == 0 and s.arrived < COUNT)
DENIED: Check = (
    "no answer, and the hub's table drops it",
    lambda s: s.answered == 0 and s.arrived >= COUNT and s.denied >= COUNT,
)
SILENT: Check = ("no answer", lambda s: s.answered == 0)


def run(
    lab: Lab,
    mesh: Mesh,
    tell: Tell = silent,
    now: datetime | None = None,
    services: Mapping[str, tuple[Address, ...]] | None = None,
) -> tuple[Checked, ...]:
    """All attempts, from the first peer if any; what the policy makes pointless is left out. The tunnels must be up.

    services: what the lab's cluster says; left out: the lab's stand-ins.
    """
    if not lab.peers:
        return ()
    scene = Scene(lab, mesh, now or datetime.now(UTC), lab.services if services is None else services)
    tell(Started("attempts to get around the policy", len(ATTEMPTS)))
    out = []
    for attempt in ATTEMPTS:
        for check in attempt(scene):
            out.append(check)
            tell(check)
    return tuple(out)


class Scene:
    """Who attacks, from where, and what the mesh file allows and denies."""

    def __init__(self, lab: Lab, mesh: Mesh, now: datetime, services: Mapping[str, tuple[Address, ...]]) -> None:
        self.lab, self.mesh = lab, mesh
        self.rules = Rules(grants(mesh, services, now))
        self.aims, _ = aims(lab, mesh, services)
        self.peers = [s for s in sources(lab, mesh) if s.peer]
        if not self.peers:
            raise LabError("the mesh has no active peer", "add one: meshwright peer add NAME")
        self.me = self.peers[0]
        self.host = lab.peer(self.me.name)
        self.interface = lab.interface(self.me.name)
        self.address = self.me.addresses[0]
        self.version = ip_address(self.address).version

    @cached_property
    def targets(self) -> list[Target]:
        """What the attacker's tunnel leads to, of his own IP version."""
        found = (t for t in self.aims if t.kind != "outside" and reaches(self.me, t))
        return [t for t in found if ip_address(t.address).version == self.version]

    def pick(
        self, allowed: bool, protocols: Sequence[str], kinds: Sequence[str] = ()
    ) -> tuple[Target, str, int] | None:
        """Something that the policy allows the attacker, or denies, and that something listens to."""
        for protocol in protocols:
            for target in self.targets:
                if kinds and target.kind not in kinds:
                    continue
                for port in self._ports(target, protocol):
                    if self.rules.allow(self.address, target.address, protocol, port) == allowed:
                        return target, protocol, port
        return None

    def _ports(self, target: Target, protocol: str) -> list[int]:
        if protocol == "icmp":
            return [0] if answers_ping(target) else []
        return [port for kind, port in target.ports if kind == protocol and target.kind != "dns"]

    def attempt(self, name: str, check: Check, what: tuple[str, str, int], **more: object) -> Checked:
        """Send COUNT of (protocol, address, port) from the attacker, and judge what was seen."""
        host = more.pop("host", self.host)
        if not isinstance(host, Namespace):
            raise TypeError(host)
        before = self._counters()
        # a connection that stands is an answer, whoever speaks first on it
        answers = _send(host, [{"kind": what[0], "address": what[1], "port": what[2], "greet": False, **more}] * COUNT)
        after = self._counters()
        moved = [b - a for a, b in zip(before, after, strict=True)]
        seen = Seen(COUNT, answers.count("open"), answers.count("error"), *moved)
        expected, judge = check
        ok = judge(seen) and not seen.failed
        hint = "" if ok else "the policy can be got around, or the attempt proves nothing: look at the counters"
        return Checked(name, ok, expected, str(seen), hint)

    def _counters(self) -> tuple[int, int, int]:
        """Packets that left by the attacker's tunnel, that the hub's tunnel took in, that the hub's table denied."""
        hub = self.lab.host("hub")
        left = _link(self.host, self.interface)["tx"]["packets"]
        arrived = _link(hub, self.mesh.hub.interface)["rx"]["packets"]
        rows = checks.table(hub, self.mesh.table)  # no table drops nothing
        sets = [row["set"] for row in rows if "set" in row and row["set"]["name"].startswith("denied")]
        elements = [e["elem"] for s in sets for e in s.get("elem", []) if isinstance(e, dict) and "elem" in e]
        return left, arrived, sum(e["counter"]["packets"] for e in elements if "counter" in e)


def _link(host: Namespace, interface: str) -> Any:
    return _json(host, ["ip", "-s", "-j", "link", "show", "dev", interface])[0]["stats64"]


def _json(host: Namespace, argv: list[str]) -> Any:
    done = host.run(argv)
    if done.code:
        raise LabError(f"{host.name}: {done.err.strip()[-200:]}", "run `meshwright lab up`")
    return json.loads(done.out)


def _send(host: Namespace, probes: list[dict[str, object]]) -> list[str]:
    document = json.dumps({"timeout": TIMEOUT, "probes": probes}).encode()
    done = host.run(entry.command("probe"), stdin=document, timeout=60)
    try:
        return [verdict for verdict, _ in json.loads(done.out)["results"]]
    except (ValueError, KeyError):
        raise LabError(f"{host.name}: the probe failed: {done.err.strip()[-300:]}", "report this as a bug") from None


@contextmanager
def _changed(host: Namespace, do: list[list[str]], undo: list[list[str]]) -> Iterator[None]:
    """Run `do`, and whatever happens `undo`."""
    try:
        for argv in do:
            done = host.run(argv)
            if done.code:
                raise LabError(f"{host.name}: {' '.join(argv)}: {done.err.strip()[-200:]}", "report this as a bug")
        yield
    finally:
        for argv in undo:
            host.run(argv)


def _on(address: str) -> str:
    return f"{address}/{ip_address(address).max_prefixlen}"


def _goal(scene: Scene) -> tuple[str, str, int] | None:
    found = scene.pick(True, ("icmp", "tcp", "udp"))
    return (found[1], found[0].address, found[2]) if found else None


def _baseline(scene: Scene) -> Iterator[Checked]:
    """Without this the silence of the others would prove nothing."""
    goal = _goal(scene)
    if goal:
        yield scene.attempt(f"{scene.me.name} does what the policy allows ({goal[0]} to {goal[1]})", PASSES, goal)


def _spoof_peer(scene: Scene) -> Iterator[Checked]:
    goal = _goal(scene)
    other = goal and _other(scene, goal[1])
    if goal and other:
        yield _spoof(scene, f"{scene.me.name} sends as {other[0].name}", other[1], scene.interface, goal)


def _other(scene: Scene, goal: str) -> tuple[Source, str] | None:
    """Another peer and its address; not the goal's, for what a host sends to its own address never leaves it."""
    for peer in scene.peers[1:]:
        for address in peer.addresses:
            if ip_address(address).version == scene.version and address != goal:
                return peer, address
    return None


def _spoof_gateway(scene: Scene) -> Iterator[Checked]:
    goal = _goal(scene)
    addresses = next(h["addresses"] for h in scene.lab.state.topology["hosts"] if h["name"] == "gw")
    found = [a for a in addresses[1:] if ip_address(a).version == scene.version]
    if goal and found:
        yield _spoof(scene, f"{scene.me.name} sends as the home's gateway", found[0], "lo", goal)


def _spoof(scene: Scene, name: str, address: str, interface: str, goal: tuple[str, str, int]) -> Checked:
    change = [_on(address), "dev", interface]
    with _changed(scene.host, [["ip", "addr", "add", *change]], [["ip", "addr", "del", *change]]):
        return scene.attempt(name, FOREIGN, goal, source=address)


def _widen(scene: Scene) -> Iterator[Checked]:
    """A friend's own AllowedIPs are the friend's to change: the hub must not be a way out."""
    public, everything = scene.lab.public, "0.0.0.0/0" if scene.version == 4 else "::/0"
    if ip_address(public).version != scene.version:
        return
    rows = scene.host.run(["wg", "show", scene.interface, "allowed-ips"]).out.decode().splitlines()
    key, before = rows[0].split("\t")
    tunnel = ["wg", "set", scene.interface, "peer", key, "allowed-ips"]
    route = [_on(public), "dev", scene.interface]
    do = [[*tunnel, everything], ["ip", "route", "add", *route]]
    undo = [["ip", "route", "del", *route], [*tunnel, before.replace(" ", ",")]]
    name = f"{scene.me.name} widens its AllowedIPs to {everything} and dials the internet through the hub"
    with _changed(scene.host, do, undo):
        yield scene.attempt(name, DENIED, ("icmp", public, 0), source=scene.address)
        yield scene.attempt(name + " (tcp)", SILENT, ("tcp", public, 8080), source=scene.address)


def _forbidden(scene: Scene) -> Iterator[Checked]:
    by_kind = [scene.pick(False, ("tcp",), (kind,)) for kind in ("hub", "route", "service", "peer", "lan")]
    for found in [*by_kind, scene.pick(False, ("udp",)), scene.pick(False, ("icmp",))]:
        if found:
            target, protocol, port = found
            words = protocol if protocol == "icmp" else f"{port}/{protocol}"
            name = f"{scene.me.name} tries {words} of {target.name} ({target.address}), which the policy denies"
            yield scene.attempt(name, DENIED, (protocol, target.address, port))


def _behind_service(scene: Scene) -> Iterator[Checked]:
    """A right to a service is no right to the pod behind it."""
    places = {h["name"]: h["addresses"] for h in scene.lab.state.topology["hosts"]}
    for target in scene.targets:
        pods = [a for a in places.get(target.host, ()) if ip_address(a).version == scene.version]
        if target.kind != "service" or not pods or target.address in pods:
            continue
        for protocol, port in target.ports:
            may = scene.rules.allow(scene.address, target.address, protocol, port)
            if may and not scene.rules.allow(scene.address, pods[0], protocol, port):
                words = f"{port}/{protocol}"
                yield scene.attempt(
                    f"{scene.me.name} uses {target.name} by its address ({words})",
                    PASSES,
                    (protocol, target.address, port),
                )
                yield scene.attempt(
                    f"{scene.me.name} goes past {target.name} to the pod {pods[0]} ({words})",
                    DENIED,
                    (protocol, pods[0], port),
                )
                return


def _fragments(scene: Scene) -> Iterator[Checked]:
    for allowed, check, word in ((True, PASSES, "may"), (False, DENIED, "may not")):
        found = scene.pick(allowed, ("icmp", "udp"))
        if found:
            target, protocol, port = found
            name = f"{scene.me.name} sends {BIG} bytes in fragments where it {word} ({protocol} to {target.address})"
            yield scene.attempt(name, check, (protocol, target.address, port), size=BIG)


def _around(scene: Scene) -> Iterator[Checked]:
    """The friend's router sends the server VLAN's packets straight to the home's WAN address."""
    hosts = {h["name"]: h["addresses"] for h in scene.lab.state.topology["hosts"]}
    goal, wan = str(scene.mesh.hub.address), hosts["gw"][0]
    if ip_address(goal).version != ip_address(wan).version or goal == scene.mesh.hub.endpoint_host:
        return
    router = scene.lab.host(f"{scene.me.name}.nat")
    route = [_on(goal), "via", wan, "dev", scene.lab.wan]
    with _changed(router, [["ip", "route", "add", *route]], [["ip", "route", "del", *route]]):
        for protocol, port in (("icmp", 0), ("tcp", 6443)):
            name = f"{scene.me.name}'s router goes around the tunnel to {goal} by the home's WAN address ({protocol})"
            yield scene.attempt(name, UNHEARD, (protocol, goal, port), host=router)


def _multicast(scene: Scene) -> Iterator[Checked]:
    link = ["fe80::6d77/64", "dev", scene.interface]
    with _changed(scene.host, [["ip", "addr", "add", *link]], [["ip", "addr", "del", *link]]):
        name = f"{scene.me.name} sends to all nodes by IPv6 link-local multicast"
        yield scene.attempt(name, SILENT, ("icmp", f"ff02::1%{scene.interface}", 0))


ATTEMPTS: tuple[Callable[[Scene], Iterator[Checked]], ...] = (
    _baseline,
    _spoof_peer,
    _spoof_gateway,
    _widen,
    _forbidden,
    _behind_service,
    _fragments,
    _around,
    _multicast,
    _baseline,
)
