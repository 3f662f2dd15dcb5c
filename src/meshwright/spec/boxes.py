"""Sets of (destination, protocol, port) as rectangles: addresses on one axis, services on the other.

The service axis puts every protocol and port on one line, so that "any" is simply the whole line:
tcp ports 0-65535, then udp ports 0-65535, then ICMP echo requests, then every other protocol as one point.
A region is a tuple of boxes; `canonical` gives the one form that equal regions share. Knows no names and no rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from meshwright.spec.model import Address, Network

PORTS = 65536
ICMP = 2 * PORTS
OTHER = ICMP + 1
OFFSET = {"tcp": 0, "udp": PORTS}
BITS = {4: 32, 6: 128}


class Span(NamedTuple):
    """Addresses of one IP version from `low` to `high`, both included."""

    version: int
    low: int
    high: int


class Interval(NamedTuple):
    """Services from `first` to `last` on the service axis, both included."""

    first: int
    last: int


class Box(NamedTuple):
    """Every service of the interval at every address of the span."""

    version: int
    low: int
    high: int
    first: int
    last: int


Services = tuple[Interval, ...]
Region = tuple[Box, ...]
ANY = Interval(0, OTHER)


def interval(protocol: str, first: int = 0, last: int = PORTS - 1) -> Interval:
    """The place of tcp or udp ports, "icmp" or "any" on the service axis."""
    if protocol == "any":
        return ANY
    if protocol == "icmp":
        return Interval(ICMP, ICMP)
    return Interval(OFFSET[protocol] + first, OFFSET[protocol] + last)


def span(network: Network) -> Span:
    low = int(network.network_address)
    return Span(network.version, low, low + (1 << (BITS[network.version] - network.prefixlen)) - 1)


def host(address: Address) -> Span:
    return Span(address.version, int(address), int(address))


def address(version: int, number: int) -> Address:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same addresses as sorted spans of which no two touch."""
    out: list[Span] = []
    for item in sorted(spans):
        if out and out[-1].version == item.version and item.low <= out[-1].high + 1:
            if item.high > out[-1].high:
                out[-1] = out[-1]._replace(high=item.high)
        else:
            out.append(item)
    return tuple(out)


def overlap(left: Sequence[Span], right: Sequence[Span]) -> tuple[Span, ...]:
    """The addresses in both; each argument as `merge` gives it."""
    out: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        if a.version == b.version:
            low, high = max(a.low, b.low), min(a.high, b.high)
            if low <= high:
                out.append(Span(a.version, low, high))
        if (a.version, a.high) < (b.version, b.high):
            i += 1
        else:
            j += 1
    return tuple(out)


def without(left: Sequence[Span], right: Sequence[Span]) -> tuple[Span, ...]:
    """The addresses of `left` that are not in `right`; each as `merge` gives it."""
    out: list[Span] = []
    j = 0
    for item in left:
        low = item.low
        while j < len(right) and (right[j].version, right[j].high) < (item.version, low):
            j += 1
        k = j
        while k < len(right) and right[k].version == item.version and right[k].low <= item.high:
            if right[k].low > low:
                out.append(Span(item.version, low, right[k].low - 1))
            low = right[k].high + 1
            k += 1
        if low <= item.high:
            out.append(Span(item.version, low, item.high))
    return tuple(out)


def networks(spans: Iterable[Span]) -> tuple[Network, ...]:
    """The fewest prefixes that hold exactly these spans' addresses."""
    return tuple(net for item in spans for net in _prefixes(item))


def _prefixes(item: Span) -> Iterator[Network]:
    kind = IPv4Network if item.version == 4 else IPv6Network
    low = item.low
    while low <= item.high:
        aligned = (low & -low).bit_length() - 1 if low else BITS[item.version]
        bits = min(aligned, (item.high - low + 1).bit_length() - 1)
        yield kind((low, BITS[item.version] - bits))
        low += 1 << bits


def join(services: Iterable[Interval]) -> Services:
    """The same services as sorted intervals of which no two touch."""
    out: list[Interval] = []
    for item in sorted(services):
        if out and item.first <= out[-1].last + 1:
            if item.last > out[-1].last:
                out[-1] = Interval(out[-1].first, item.last)
        else:
            out.append(item)
    return tuple(out)


def boxes(spans: Iterable[Span], services: Services) -> Iterator[Box]:
    """Every service at every span."""
    return (Box(*item, *service) for item in spans for service in services)


def canonical(region: Iterable[Box]) -> Region:
    """Disjoint boxes in order, longest in addresses first. Equal regions give equal tuples."""
    return _combine(region, (), lambda left, _: left)


def union(left: Iterable[Box], right: Iterable[Box]) -> Region:
    return canonical([*left, *right])


def intersect(left: Iterable[Box], right: Iterable[Box]) -> Region:
    """What is in both regions, canonical."""
    return _combine(left, right, shared)


def subtract(left: Iterable[Box], right: Iterable[Box]) -> Region:
    """What is in `left` and not in `right`, canonical."""
    return _combine(left, right, _rest)


def shared(left: Services, right: Services) -> Services:
    """The services in both; each as `join` gives it."""
    pairs = ((max(a.first, b.first), min(a.last, b.last)) for a in left for b in right)
    return tuple(Interval(first, last) for first, last in pairs if first <= last)


def _rest(left: Services, right: Services) -> Services:
    out: list[Interval] = []
    for item in left:
        first = item.first
        for other in right:
            if other.last < first or other.first > item.last:
                continue
            if other.first > first:
                out.append(Interval(first, other.first - 1))
            first = other.last + 1
        if first <= item.last:
            out.append(Interval(first, item.last))
    return tuple(out)


class _Active:
    """The services that hold at the sweep's present address, with how many boxes give each."""

    def __init__(self) -> None:
        self.counts: dict[Interval, int] = {}
        self.joined: dict[tuple[Interval, ...], Services] = {}

    def change(self, service: Interval, step: int) -> None:
        count = self.counts.get(service, 0) + step
        if count:
            self.counts[service] = count
        else:
            del self.counts[service]

    def services(self) -> Services:
        key = tuple(self.counts)
        if key not in self.joined:
            self.joined[key] = join(key)
        return self.joined[key]


def _combine(left: Iterable[Box], right: Iterable[Box], rule: Callable[[Services, Services], Services]) -> Region:
    """Walk the addresses once; `rule` says which services remain from those that hold on each side."""
    events: list[tuple[int, int, int, int, Interval]] = []
    for side, region in enumerate((left, right)):
        for box in region:
            service = Interval(box.first, box.last)
            events += [(box.version, box.low, side, 1, service), (box.version, box.high + 1, side, -1, service)]
    # opening comes before closing at the same address so that a count never falls below zero
    events.sort(key=lambda event: (event[0], event[1], -event[3]))
    sides = (_Active(), _Active())
    out: list[tuple[Span, Services]] = []
    place, index = (0, 0), 0
    while index < len(events):
        here = events[index][:2]
        held = rule(sides[0].services(), sides[1].services())
        if held:
            _extend(out, Span(here[0], place[1], here[1] - 1), held)
        while index < len(events) and events[index][:2] == here:
            _, _, side, step, service = events[index]
            sides[side].change(service, step)
            index += 1
        place = here
    return tuple(Box(*item, *service) for item, services in out for service in services)


def _extend(out: list[tuple[Span, Services]], item: Span, services: Services) -> None:
    if out:
        last, held = out[-1]
        if held == services and last.version == item.version and last.high + 1 == item.low:
            out[-1] = (last._replace(high=item.high), held)
            return
    out.append((item, services))
