"""Rights in plain text and what they mean: which flows a table lets begin. Knows nothing of nft.

A right (a "box") is "DEST PROTO PORTS": DEST a prefix, "LOW-HIGH" where no prefix fits, or "peers", the addresses of
all single-address sources of the table; PROTO tcp, udp, icmp (echo request) or any; PORTS "443" or "1-9", "-" for icmp
and any. What the hub, routes and CIDRs may open towards peers is "SRC -> DEST PROTO PORTS", neither ever "peers".

Services lie on one axis: tcp ports from 0, udp ports from 65536, then echo requests, then every other protocol.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

PORTS = 65536
ICMP = 2 * PORTS
OTHER = ICMP + 1
OFFSET = {"tcp": 0, "udp": PORTS}
BITS = {4: 32, 6: 128}
PEERS = "peers"


class Right(NamedTuple):
    """Addresses `low` to `high` of an IP version (0 with 0 to 0: the peers), services `first` to `last`."""

    version: int
    low: int
    high: int
    first: int
    last: int


def parse(text: str) -> Right:
    destination, protocol, ports = text.split(" ")
    return Right(*parse_span(destination), *_parse_services(protocol, ports))


def parse_span(text: str) -> tuple[int, int, int]:
    """A prefix, an address, "LOW-HIGH" or "peers" -> (version, low, high)."""
    if text == PEERS:
        return 0, 0, 0
    low, dash, high = text.partition("-")
    if dash:
        version, start = number(low)
        return version, start, number(high)[1]
    address, _, length = text.partition("/")
    version, start = number(address)
    size = BITS[version] - int(length) if length else 0
    return version, start, start + (1 << size) - 1


def _parse_services(protocol: str, ports: str) -> tuple[int, int]:
    if protocol == "any":
        return 0, OTHER
    if protocol == "icmp":
        return ICMP, ICMP
    low, _, high = ports.partition("-")
    return OFFSET[protocol] + int(low), OFFSET[protocol] + int(high or low)


def render(right: Right) -> Iterator[str]:
    """The right as texts: one, or one per protocol where its services cross protocols."""
    destination = render_span(right.version, right.low, right.high)
    for protocol, ports in _render_services(right.first, right.last):
        yield f"{destination} {protocol} {ports}"


def render_span(version: int, low: int, high: int) -> str:
    if version == 0:
        return PEERS
    size = high - low + 1
    if size & (size - 1) == 0 and low % size == 0:
        return f"{address(version, low)}/{BITS[version] - size.bit_length() + 1}"
    return f"{address(version, low)}-{address(version, high)}"


def _render_services(first: int, last: int) -> Iterator[tuple[str, str]]:
    if (first, last) == (0, OTHER):
        yield "any", "-"
        return
    for protocol, offset in OFFSET.items():
        low, high = max(first, offset) - offset, min(last, offset + PORTS - 1) - offset
        if low <= high:
            yield protocol, str(low) if low == high else f"{low}-{high}"
    if first <= ICMP <= last:
        yield "icmp", "-"


def number(text: str) -> tuple[int, int]:
    """An address -> (IP version, its number). OSError when it is none."""
    version = 6 if ":" in text else 4
    packed = socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, text)
    return version, int.from_bytes(packed, "big")


def address(version: int, value: int) -> str:
    family, length = (socket.AF_INET6, 16) if version == 6 else (socket.AF_INET, 4)
    return plain(socket.inet_ntop(family, value.to_bytes(length, "big")))


def plain(text: str) -> str:
    """An IPv6 address without the dotted quad that the C library writes at the end of some."""
    if "." not in text or ":" not in text:
        return text
    start, _, quad = text.rpartition(":")
    a, b, c, d = (int(part) for part in quad.split("."))
    high, low = a * 256 + b, c * 256 + d
    return f"{start}:{high:x}:{low:x}" if high or start != ":" else f"::{low:x}"


def common(left: list[str], right: list[str], peers: Callable[[], Iterable[str]]) -> list[str]:
    """What both lists of rights allow, disjoint and in order. `peers` gives the single-address prefixes, when asked."""
    if left == right:
        return left
    one, other = [parse(text) for text in left], [parse(text) for text in right]
    found = [_both(a, b) for a in one for b in other]
    found += [_both(a, b) for a in _spelled(one, other, peers) for b in other if b.version]
    found += [_both(a, b) for a in _spelled(other, one, peers) for b in one if b.version]
    return texts(right for right in found if right)


def _spelled(rights: list[Right], others: list[Right], peers: Callable[[], Iterable[str]]) -> list[Right]:
    """The rights towards "peers" with every peer spelled out, when the other side names addresses."""
    towards = [right for right in rights if right.version == 0]
    if not towards or all(right.version == 0 for right in others):
        return []
    return [Right(*parse_span(peer), right.first, right.last) for peer in peers() for right in towards]


def _both(a: Right, b: Right) -> Right | None:
    low, high, first, last = max(a.low, b.low), min(a.high, b.high), max(a.first, b.first), min(a.last, b.last)
    return (
        Right(a.version, low, high, first, last) if a.version == b.version and low <= high and first <= last else None
    )


def texts(rights: Iterable[Right]) -> list[str]:
    """Rights that may overlap -> disjoint texts in order: longest in addresses first, then in services."""
    return [text for right in sorted(_disjoint(rights)) for text in render(right)]


def _disjoint(rights: Iterable[Right]) -> Iterator[Right]:
    starts = sorted(rights, key=lambda right: (right.version, right.low))
    # the addresses at which the services that are allowed can change
    edges = sorted({(r.version, r.low) for r in starts} | {(r.version, r.high + 1) for r in starts})
    active: list[Right] = []
    services: list[tuple[int, int]] = []
    since, at = (0, 0), 0
    for version, here in edges:
        active = [r for r in active if r.version == version and r.high >= here]
        while at < len(starts) and (starts[at].version, starts[at].low) == (version, here):
            active.append(starts[at])
            at += 1
        now = _join((r.first, r.last) for r in active)
        if now != services or version != since[0]:
            yield from (Right(*since, here - 1, *service) for service in services)
            services, since = now, (version, here)


def _join(services: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for first, last in sorted(services):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return out


class Flow(NamedTuple):
    """A flow as conntrack knows it: packed addresses, the destination's port, "tcp", "udp", "icmp" or another word.

    final, final_port: where the first packet really went (the source of replies), which a DNAT may have changed.
    """

    source: bytes
    destination: bytes
    protocol: str
    port: int
    final: bytes
    final_port: int


def stale(before: dict[str, Any], after: dict[str, Any]) -> Callable[[Flow], bool]:
    """Which flows must end when `before` becomes `after`: those of a peer of either that `after` would refuse."""
    old, new = _Reader(before), _Reader(after)

    def judge(flow: Flow) -> bool:
        if old.holds(flow.source) or new.holds(flow.source):
            return not new.outward(flow)
        if old.holds(flow.final) or new.holds(flow.final):
            return not new.inward(flow)
        return False

    return judge


class _Reader:
    """Answers for one table."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.hosts: dict[tuple[int, int], list[str]] = {}
        self.networks: list[tuple[int, int, int, list[str]]] = []
        self.rights: dict[tuple[str, ...], list[Right]] = {}
        for prefix, source in table["sources"].items():
            version, low, high = parse_span(prefix)
            if low == high:
                self.hosts[version, low] = source["allow"]
            else:
                self.networks.append((version, low, high, source["allow"]))
        sides = [text.split(" -> ") for text in table["inbound"]]
        self.inbound = [(parse_span(source), parse(right)) for source, right in sides]

    def allow(self, packed: bytes) -> list[str] | None:
        """The rights of whoever has the address, None when it is no peer's."""
        version, value = _unpack(packed)
        found = self.hosts.get((version, value))
        if found is None:
            found = next((a for v, low, high, a in self.networks if v == version and low <= value <= high), None)
        return found

    def holds(self, packed: bytes) -> bool:
        return self.allow(packed) is not None

    def outward(self, flow: Flow) -> bool:
        allow = self.allow(flow.source)
        if allow is None:
            return False
        key = tuple(allow)
        if key not in self.rights:
            self.rights[key] = [parse(text) for text in allow]
        service = _service(flow.protocol, flow.port)
        return any(self._meets(right, flow.destination, service) for right in self.rights[key])

    def inward(self, flow: Flow) -> bool:
        version, source = _unpack(flow.source)
        service = _service(flow.protocol, flow.final_port)
        return any(
            span[0] == version and span[1] <= source <= span[2] and self._meets(right, flow.final, service)
            for span, right in self.inbound
        )

    def _meets(self, right: Right, packed: bytes, service: int) -> bool:
        version, value = _unpack(packed)
        if not right.first <= service <= right.last:
            return False
        if right.version == 0:
            return (version, value) in self.hosts
        return right.version == version and right.low <= value <= right.high


def _unpack(packed: bytes) -> tuple[int, int]:
    return (4 if len(packed) == 4 else 6), int.from_bytes(packed, "big")


def _service(protocol: str, port: int) -> int:
    if protocol in OFFSET:
        return OFFSET[protocol] + port
    return ICMP if protocol == "icmp" else OTHER
