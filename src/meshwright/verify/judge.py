"""The policy tests of a mesh, put to the table as packets: at the edges of everything that test and rules name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from meshwright.events import Checked
from meshwright.spec import boxes, policy
from meshwright.spec.boxes import Span
from meshwright.spec.model import Mesh, Network, Test
from meshwright.verify.evaluate import Evaluator, Packet

SPANS = 40
SERVICES = (("tcp", 22), ("tcp", 443), ("tcp", 1), ("tcp", 65535), ("udp", 53), ("udp", 65535), ("icmp", 0), ("gre", 0))


@dataclass(frozen=True, slots=True)
class Ground:
    """Where addresses live: the tunnel's interface, the networks behind it, the hub's own addresses; and the mark."""

    interface: str
    mark: int
    hub: frozenset[str]
    behind: Sequence[Network]

    def packet(self, source: str, destination: str, protocol: str, port: int) -> Packet:
        """The first packet of a flow between two addresses."""
        icmp = "echo-request" if protocol == "icmp" else ""
        if icmp and ":" in source:
            protocol = "icmpv6"
        into, out = self._side(source), self._side(destination)
        return Packet(into, out, source, destination, protocol, port, icmp, kind="unicast" if out else "local")

    def _side(self, text: str) -> str:
        if text in self.hub:
            return ""
        address = ip_address(text)
        inside = any(address.version == network.version and address in network for network in self.behind)
        return self.interface if inside else "elsewhere"


def ground(mesh: Mesh, now: datetime) -> Ground:
    """The places of a mesh. Every address of its networks is behind the tunnel, whether a peer has it or not."""
    lans = [network for device in mesh.devices if device.active(now) for network in device.lan]
    hub = frozenset(str(address) for address in (*mesh.network.hub, mesh.hub.address))
    return Ground(mesh.hub.interface, mesh.hub.mark, hub, (*mesh.network.cidr, *lans))


def passes(table: Evaluator, packet: Packet, place: Ground) -> bool:
    """Whether the packet gets through, the rule that refuses unmarked packets from the tunnel a route included."""
    fate = table.fate(packet)
    refused = packet.into == place.interface and packet.out and not fate.mark & place.mark
    return fate.passed and not refused


def judge(objects: Iterable[Mapping[str, Any]], mesh: Mesh, services: policy.Known, now: datetime) -> Iterator[Checked]:
    """Every policy test of the mesh against the table as nft listed it."""
    table, names, place = Evaluator(objects, mesh.table), policy.Names(mesh, services, now), ground(mesh, now)
    edges = _Edges(names, table)
    unknown = set(policy.unresolved(mesh, services))
    for test in mesh.policy.tests:
        name = f"{test.from_} -> {test.to} {test.port or 'any port'}"
        if unknown & {test.from_, test.to}:
            yield Checked(name, False, test.expect, "not known", "the address of the service is not known yet")
            continue
        wrong = _first_wrong(table, edges.packets(test, place), test.expect, place)
        observed = test.expect if wrong is None else _told(wrong, test.expect)
        hint = "" if wrong is None else "run apply; if this stays, the firewall does not do what the file says"
        yield Checked(name, wrong is None, test.expect, observed, hint)


def _first_wrong(table: Evaluator, packets: Iterable[Packet], expect: str, place: Ground) -> Packet | None:
    return next((packet for packet in packets if passes(table, packet, place) != (expect == "allow")), None)


def _told(packet: Packet, expect: str) -> str:
    port = f" port {packet.port}" if packet.protocol in ("tcp", "udp") else ""
    word = "is dropped" if expect == "allow" else "gets through"
    return f"{packet.protocol} {packet.source} -> {packet.destination}{port} {word}"


class _Edges:
    """Sample addresses and services: where any rule of the file, or any element of the table, begins or ends, and both
    neighbours. So an element that somebody slipped into the table is asked about.
    """

    def __init__(self, names: policy.Names, table: Evaluator) -> None:
        self.names = names
        grants = policy.granted(names)
        spans = {span for grant in grants for span in (*grant.source_spans, *grant.destination_spans)}
        addresses, numbers = table.edges()
        held = {(version, n) for version, number in addresses for n in _around(number, number)}
        self.places = sorted(held | {(s.version, n) for s in _some(sorted(spans)) for n in _around(s.low, s.high)})
        ports = {p for grant in grants for p in grant.protocols if p.protocol in boxes.OFFSET}
        named = {(p.protocol, n) for p in ports for n in _around(p.first, p.last)}
        named |= {(protocol, n) for protocol in ("tcp", "udp") for number in numbers for n in _around(number, number)}
        self.services = sorted({(p, n) for p, n in named if 1 <= n <= 65535} | set(SERVICES))

    def packets(self, test: Test, place: Ground) -> Iterator[Packet]:
        """The packets of a test. Those that never meet the tunnel are not the table's to judge and are left out."""
        sources, destinations = (self._addresses(self.names.spans(name)) for name in (test.from_, test.to))
        services = self._asked(policy.ports(test.port)) if test.port else self.services
        for source in sources:
            for destination in destinations:
                if (":" in source) == (":" in destination) and source != destination and _one_host(destination):
                    for service in services:
                        packet = place.packet(source, destination, *service)
                        if place.interface in (packet.into, packet.out):
                            yield packet

    def _asked(self, asked: policy.Ports) -> Sequence[tuple[str, int]]:
        inside = {(p, n) for p, n in self.services if p == asked.protocol and asked.first <= n <= asked.last}
        return sorted(inside | {(asked.protocol, asked.first), (asked.protocol, asked.last)})

    def _addresses(self, spans: Sequence[Span]) -> list[str]:
        chosen = _some(spans)
        own = {(span.version, n) for span in chosen for n in (span.low, span.high, (span.low + span.high) // 2)}
        near = {
            (version, n)
            for version, n in self.places
            if any(s.version == version and s.low <= n <= s.high for s in chosen)
        }
        return [str(boxes.address(version, n)) for version, n in sorted(own | set(_some(sorted(near))))]


def _one_host(text: str) -> bool:
    """Not multicast, not broadcast, not of one link: such packets end at the tunnel, whatever the policy says."""
    address = ip_address(text)
    return not (address.is_multicast or text == "255.255.255.255" or (address.version == 6 and address.is_link_local))


def _some(items: Sequence[Any]) -> Sequence[Any]:
    """All of a few; of many the first, the last and some between."""
    if len(items) <= SPANS:
        return items
    return [items[index * (len(items) - 1) // (SPANS - 1)] for index in range(SPANS)]


def _around(low: int, high: int) -> tuple[int, ...]:
    return tuple({low - 1, low, high, high + 1})
