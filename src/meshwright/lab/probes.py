"""Which real packets to send, and what the policy says must become of them. Pure; sending is in matrix.py.

Every probe aims at an address and port where something listens, so that silence proves a firewall and not an absence;
`controls` are the same probes from a place that may.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from meshwright.lab.parts import CLUSTER, Target
from meshwright.spec import boxes
from meshwright.spec.model import Network
from meshwright.spec.policy import Grant, Ports

MOST = 6000  # probes of one run; above it, every source gets a sample
FEW = 4  # probes per pair in a sample
NEIGHBOURS = 3  # other peers per source in a sample
REAL = (6443, 10250)  # where in a lab with a cluster the hub answers by programs of Kubernetes


@dataclass(frozen=True, slots=True)
class Source:
    """Where probes start: a host, the addresses the mesh knows it by, what it routes into the mesh (None: all)."""

    name: str
    host: str
    addresses: tuple[str, ...]
    routed: tuple[Network, ...] | None
    peer: bool = True


@dataclass(frozen=True, slots=True)
class Probe:
    """One packet, or handshake, and what must become of it. sees: the source that the target must report, if any."""

    source: str
    host: str
    target: Target
    protocol: str
    port: int
    allowed: bool
    name: str = ""
    sees: str = ""

    @property
    def words(self) -> str:
        return self.protocol if self.protocol == "icmp" else f"{self.port}/{self.protocol}"


class Rules:
    """The grants, asked one packet at a time. Each answer is kept: many packets ask the same."""

    def __init__(self, grants: Sequence[Grant]) -> None:
        self.grants = grants
        self._by_source: dict[str, list[Grant]] = {}

    def allow(self, source: str, destination: str, protocol: str, port: int) -> bool:
        """Whether the mesh file lets `source` start this. port is 0 for icmp."""
        if source not in self._by_source:
            here = boxes.host(ip_address(source))
            self._by_source[source] = [g for g in self.grants if boxes.overlap((here,), g.source_spans)]
        there = boxes.host(ip_address(destination))
        asked = Ports(protocol, port, port) if protocol != "icmp" else Ports("icmp")
        return any(
            boxes.overlap((there,), g.destination_spans) and any(_covers(p, asked) for p in g.protocols)
            for g in self._by_source[source]
        )


def _covers(granted: Ports, asked: Ports) -> bool:
    if granted.protocol == "any":
        return True
    return granted.protocol == asked.protocol and granted.first <= asked.first <= granted.last


def choose(sources: Sequence[Source], targets: Sequence[Target], rules: Rules, names: Sequence[str]) -> list[Probe]:
    """The probes of a run: everything, or where that is over MOST, for each source a few per target and a few peers.

    names: what a DNS server of the lab knows; the first is asked for.
    """
    if whole(sources, targets):
        return [p for pair in _pairs(sources, targets) for p in _probes(*pair, rules, names)]
    return [p for pair in _sampled(sources, targets) for p in _few(list(_probes(*pair, rules, names)))]


def whole(sources: Sequence[Source], targets: Sequence[Target]) -> bool:
    """Whether everything can be probed in one run."""
    return sum(len(target.ports) + 1 for _, target in _pairs(sources, targets)) <= MOST


def _pairs(sources: Sequence[Source], targets: Sequence[Target]) -> Iterator[tuple[Source, Target]]:
    for source in sources:
        for target in targets:
            if reaches(source, target):
                yield source, target


def reaches(source: Source, target: Target) -> bool:
    """Whether a probe of this pair would meet the hub's firewall (or, towards the internet, must not)."""
    if target.host == source.host or target.address in source.addresses:
        return False
    if not source.peer:
        return target.kind in ("peer", "lan") and _speaks(source, target)
    if target.kind == "outside":
        return True
    inside = source.routed is None or _within(target.address, source.routed)
    return inside and _speaks(source, target)


def _speaks(source: Source, target: Target) -> bool:
    return bool(_from(source, target))


def _from(source: Source, target: Target) -> str:
    version = ip_address(target.address).version
    return next((a for a in source.addresses if ip_address(a).version == version), "")


def _within(address: str, networks: Iterable[Network]) -> bool:
    found = ip_address(address)
    return any(found in n for n in networks if n.version == found.version)


def _sampled(sources: Sequence[Source], targets: Sequence[Target]) -> Iterator[tuple[Source, Target]]:
    house = [t for t in targets if t.kind not in ("peer", "lan")]
    others = [t for t in targets if t.kind in ("peer", "lan")]
    for number, source in enumerate(sources):
        # a ring: every peer is aimed at as often as every other
        near = [others[(number + 1 + step) % len(others)] for step in range(min(NEIGHBOURS, len(others)))]
        yield from _pairs([source], [*house, *near])


def _few(probes: list[Probe]) -> list[Probe]:
    """A few of one pair: an allowed and a denied one of each protocol, as far as there are."""
    found: dict[tuple[str, bool], Probe] = {}
    for probe in probes:
        found.setdefault((probe.protocol, probe.allowed), probe)
    return list(found.values())[:FEW]


def _probes(source: Source, target: Target, rules: Rules, names: Sequence[str]) -> Iterator[Probe]:
    sender, outside = _from(source, target), target.kind == "outside"
    asked = [*target.ports, *([("icmp", 0)] if answers_ping(target) else [])]
    for protocol, port in asked:
        allowed = outside or rules.allow(sender, target.address, protocol, port)
        name = names[0] if target.kind == "dns" and names else ""
        if target.kind == "dns" and not name:
            continue
        sees = sender if target.kind in ("hub", "peer", "lan") and protocol != "icmp" and source.peer else ""
        yield Probe(source.name, source.host, target, protocol, port, allowed, name, sees)


def greets(host: str, port: int, cluster: bool) -> bool:
    """Whether who answers a TCP connection speaks first, as the lab's responders do and real programs do not."""
    return host != CLUSTER and not (cluster and host == "hub" and port in REAL)


def answers_ping(target: Target) -> bool:
    """A service's address answers only on ports, as kube-proxy has it."""
    return target.kind not in ("service", "dns")


def controls(probes: Iterable[Probe], peers: Mapping[str, str]) -> list[Probe]:
    """For everything that must be denied to somebody: the same from a place that may, to see that it is there.

    What stands behind the hub is asked by the hub, a network behind a friend by his own device, a peer by itself.
    """
    found: dict[tuple[str, str, int], Probe] = {}
    for probe in probes:
        target = probe.target
        host = {"route": "hub", "service": "hub", "dns": "hub", "lan": target.host.removesuffix(".lan")}.get(
            target.kind, target.host
        )
        host = peers.get(host, host)
        key = (target.address, probe.protocol, probe.port)
        if not probe.allowed:
            found.setdefault(key, Probe("control", host, target, probe.protocol, probe.port, True, probe.name))
    return list(found.values())


def networks(text: str) -> tuple[Network, ...]:
    """The prefixes in what `wg show IF allowed-ips` says, without its keys."""
    words = (word for line in text.splitlines() for word in line.split()[1:])
    return tuple(ip_network(word) for word in words if word != "(none)")
