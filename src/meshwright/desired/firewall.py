"""The hub's firewall: what each source may reach, what may reach peers, and the table that holds both.

A right is "DEST PROTO PORTS" as hubd/firewall/rights.py says. Towards all peers it says "peers", so that a new peer
does not change the rights of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, TypedDict

from meshwright.desired import firewall_units
from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource
from meshwright.spec import boxes, policy
from meshwright.spec.boxes import Interval, Region, Span
from meshwright.spec.model import Mesh, host_prefix

FORMAT = 2
OWN_ADDRESSES = ("pods", "services")


class Table(TypedDict):
    """What of the table belongs to nobody in particular. `masquerade`: destinations that see the hub, not the peer."""

    interface: str
    mark: int
    format: int
    hub: list[str]
    masquerade: list[str]
    strange: list[str]


class Rights(TypedDict):
    """What one source prefix may reach; `peer` is the label of the device it belongs to."""

    peer: str
    allow: list[str]


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """The table, the rights of every active source, what may reach peers, the closing rule, and files for the boot."""
    table = f"hub/table/{mesh.table}"
    closed = f"hub/closed/{mesh.hub.interface}"
    yield Resource(closed, {"live": firewall_units.closed(mesh)})
    for path, text in firewall_units.files(mesh):
        yield Resource(f"hub/unit{path}", {"text": text, "mode": "0644"}, after=(closed,))
    compiled = Compiler(mesh, facts.services, facts.now)
    yield _both(table, dict(_table(mesh)), after=(closed,))
    for prefix, rights in compiled.rights():
        yield _both(f"hub/rights/{prefix}", dict(rights), after=(table,))
    yield _both(f"hub/inbound/{mesh.table}", {"allow": compiled.inbound()}, after=(table,))


def _both(id: str, half: dict[str, Any], after: tuple[str, ...]) -> Resource:
    return Resource(id, {"saved": half, "live": half}, after=after)


def _table(mesh: Mesh) -> Table:
    return Table(
        interface=mesh.hub.interface,
        mark=mesh.hub.mark,
        format=FORMAT,
        hub=_prefixes(boxes.host(address) for address in mesh.network.hub),
        masquerade=_masquerade(mesh),
        strange=[],
    )


def _masquerade(mesh: Mesh) -> list[str]:
    """Routes whose hosts know no way back to the mesh. Pods and services answer through the hub's node anyhow."""
    if mesh.network.return_path != "masquerade":
        return []
    routes = [n for name, nets in mesh.network.routes.items() if name not in OWN_ADDRESSES for n in nets]
    inside = boxes.merge(boxes.span(n) for n in mesh.network.cidr)
    return _prefixes(boxes.without(boxes.merge(boxes.span(n) for n in routes), inside))


def _prefixes(spans: Iterable[Span]) -> list[str]:
    return [str(network) for network in boxes.networks(boxes.merge(spans))]


class Compiler:
    """The policy of one mesh at one moment, worked out per source."""

    def __init__(self, mesh: Mesh, services: policy.Known, now: datetime) -> None:
        self.names = policy.Names(mesh, services, now)
        self.grants = policy.granted(self.names)
        self._allow: dict[tuple[int, ...], list[str]] = {}

    @cached_property
    def _universe(self) -> list[tuple[Span, str, str]]:
        """(span, device label, prefix) of all that peers may send from, in order."""
        out: list[tuple[Span, str, str]] = []
        for device in self.names.active:
            out += [(boxes.host(a), device.label, host_prefix(a)) for a in device.addresses]
            out += [(boxes.span(network), device.label, str(network)) for network in device.lan]
        return sorted(out, key=lambda entry: entry[0])

    @cached_property
    def _behind(self) -> tuple[Span, ...]:
        return boxes.merge(span for span, _, _ in self._universe)

    @cached_property
    def _spelled(self) -> bool:
        """Whether "peers" has to be spelled out: a LAN of a single address would count as a peer's own."""
        return any(n.prefixlen == n.max_prefixlen for device in self.names.active for n in device.lan)

    def rights(self) -> Iterator[tuple[str, Rights]]:
        """(source prefix, rights) of every active address and LAN; a LAN that a rule names in part comes in parts."""
        named = sorted((span, group.grants) for group in policy.classes(self.grants) for span in group.spans)
        start = 0
        for whole, label, prefix in self._universe:
            while start < len(named) and (named[start][0].version, named[start][0].high) < (whole.version, whole.low):
                start += 1
            for piece, key in _pieces(whole, named, start):
                texts = [prefix] if piece == whole else [str(network) for network in boxes.networks([piece])]
                for text in texts:
                    yield text, Rights(peer=label, allow=self.allow(key))

    def allow(self, key: tuple[int, ...]) -> list[str]:
        """The rights that these grants give together. Equal keys share one list."""
        if key not in self._allow:
            held = [self.grants[index] for index in key]
            symbol = "" if self._spelled else "peers"
            services = boxes.join(service for grant in held if grant.to == symbol for service in grant.services)
            region = boxes.canonical(box for grant in held if grant.to != symbol for box in grant.region)
            self._allow[key] = [f"peers {text}" for text in _services(services)] + list(_texts(region))
        return self._allow[key]

    def inbound(self) -> list[str]:
        """What the hub, routes and CIDRs may open towards peers, and towards nobody else: "SRC -> DEST PROTO PORTS"."""
        outside = [self._from_outside(grant) for grant in self.grants]
        out: list[str] = []
        flat = sorted((span, group.grants) for group in policy.classes(outside) for span in group.spans)
        regions: dict[tuple[int, ...], Region] = {}
        for source, key in flat:
            if key not in regions:
                regions[key] = boxes.canonical(box for index in key for box in outside[index].region)
            here = [box for box in regions[key] if box.version == source.version]
            out += [f"{_span_text(source)} -> {text}" for text in _texts(here)]
        return out

    def _from_outside(self, grant: policy.Grant) -> policy.Grant:
        """The grant for its sources that do not come in through the tunnel, towards what is behind it."""
        names = [name for name in grant.from_ if not self.names.inside(name)]
        sources = boxes.merge(span for name in names for span in self.names.spans(name))
        there = boxes.overlap(grant.destination_spans, self._behind) if sources else ()
        return policy.Grant(grant.rule, grant.from_, grant.to, sources if there else (), there, grant.protocols)


def _pieces(
    whole: Span, named: Sequence[tuple[Span, tuple[int, ...]]], at: int
) -> Iterator[tuple[Span, tuple[int, ...]]]:
    """The span cut where the grants that name it change; `named` is in order, nothing before `at` reaches the span."""
    low = whole.low
    while at < len(named) and (named[at][0].version, named[at][0].low) <= (whole.version, whole.high):
        span, key = named[at]
        if span.low > low:
            yield Span(whole.version, low, span.low - 1), ()
        high = min(span.high, whole.high)
        yield Span(whole.version, max(low, span.low), high), key
        low, at = high + 1, at + 1
    if low <= whole.high:
        yield Span(whole.version, low, whole.high), ()


def _texts(region: Iterable[boxes.Box]) -> Iterator[str]:
    for box in region:
        destination = _span_text(Span(box.version, box.low, box.high))
        for services in _services([Interval(box.first, box.last)]):
            yield f"{destination} {services}"


def _span_text(span: Span) -> str:
    """A prefix, or "LOW-HIGH" where no prefix fits."""
    size = span.high - span.low + 1
    low = boxes.address(span.version, span.low)
    if size & (size - 1) == 0 and span.low % size == 0:
        return f"{low}/{boxes.BITS[span.version] - size.bit_length() + 1}"
    return f"{low}-{boxes.address(span.version, span.high)}"


def _services(services: Iterable[Interval]) -> Iterator[str]:
    """ "PROTO PORTS" for each protocol that the services touch."""
    for first, last in services:
        if (first, last) == boxes.ANY:
            yield "any -"
            continue
        for protocol, offset in boxes.OFFSET.items():
            low, high = max(first, offset) - offset, min(last, offset + boxes.PORTS - 1) - offset
            if low <= high:
                yield f"{protocol} {low}" if low == high else f"{protocol} {low}-{high}"
        if first <= boxes.ICMP <= last:
            yield "icmp -"
