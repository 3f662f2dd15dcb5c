"""What the policy of a mesh file means: names become addresses, rules become grants, tests become verdicts.

The meaning is the file's alone; how a firewall enforces it is desired/firewall.py. What a rule does not name is denied.
A `kubernetes:` service whose address is not known yet stands for nothing; `unresolved` lists such names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from ipaddress import ip_network
from typing import NamedTuple

from meshwright.errors import MeshwrightError
from meshwright.spec import boxes
from meshwright.spec.boxes import Interval, Region, Services, Span
from meshwright.spec.model import Address, Device, Mesh, Network, Test

RESERVED = ("peers", "hub", "any")
ANYWHERE = (Span(4, 0, 2**32 - 1), Span(6, 0, 2**128 - 1))
Known = Mapping[str, Sequence[Address]]


class PolicyNameError(MeshwrightError):
    """A policy says a name that nobody has. `name` is what it said, `suggestions` what it may have meant."""

    def __init__(self, name: str, text: str, suggestions: tuple[str, ...] = ()) -> None:
        likely = f'did you mean "{suggestions[0]}"?' if suggestions else ""
        super().__init__(text, likely or "name a peer, a group, a route, a service, peers, hub, any or a network")
        self.name = name
        self.suggestions = suggestions


class PolicyPortError(MeshwrightError):
    """A port of a rule or test that cannot be understood; `word` is what stood there."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text, "write 443/tcp, 27000-27100/udp, tcp, udp or icmp")
        self.word = word


class Ports(NamedTuple):
    """tcp or udp with the ports `first` to `last`; "icmp" (echo requests) and "any" (everything) have 0 and 0."""

    protocol: str
    first: int = 0
    last: int = 0

    @property
    def interval(self) -> Interval:
        return boxes.interval(self.protocol, self.first, self.last)

    def __str__(self) -> str:
        if self.protocol in ("icmp", "any"):
            return self.protocol
        if (self.first, self.last) == (0, boxes.PORTS - 1):
            return self.protocol
        return f"{self.first}{'' if self.first == self.last else f'-{self.last}'}/{self.protocol}"


EVERYTHING = Ports("any")


def ports(word: str) -> Ports:
    """A word of a rule's `ports` or a test's `port`. PolicyPortError says what is wrong with it."""
    if word in ("tcp", "udp"):
        return Ports(word, 0, boxes.PORTS - 1)
    if word == "icmp":
        return Ports(word)
    numbers, slash, protocol = word.partition("/")
    if not slash or protocol not in ("tcp", "udp"):
        raise PolicyPortError(word, f'"{word}" is not a port with a protocol')
    low, dash, high = numbers.partition("-")
    if not all(n.isascii() and n.isdigit() and len(n) <= 5 for n in ([low, high] if dash else [low])):
        raise PolicyPortError(word, f'"{numbers}" is not a port number or a range of them')
    first, last = int(low), int(high if dash else low)
    if not (1 <= first <= 65535 and 1 <= last <= 65535):
        raise PolicyPortError(word, f'"{numbers}" is not between 1 and 65535')
    if first > last:
        raise PolicyPortError(word, f'the range "{numbers}" is the wrong way round')
    return Ports(protocol, first, last)


class Names:
    """Every name that the policy of one mesh may use, and the addresses it stands for at one moment."""

    def __init__(self, mesh: Mesh, services: Known, now: datetime) -> None:
        self.mesh = mesh
        self.services = services
        self.now = now
        self._spans: dict[str, tuple[Span, ...]] = {}

    @cached_property
    def active(self) -> tuple[Device, ...]:
        return tuple(device for device in self.mesh.devices if device.active(self.now))

    @cached_property
    def _devices(self) -> dict[str, list[Device]]:
        """Devices by every name that stands for devices: peer, device and group; inactive ones too."""
        out: dict[str, list[Device]] = {}
        for device in self.mesh.devices:
            for name in {device.peer, device.reference, *device.groups}:
                out.setdefault(name, []).append(device)
        return out

    def known(self) -> list[str]:
        """All names, for suggestions."""
        lans = [f"{device.peer}.lan" for device in self.mesh.devices if device.lan]
        return [*RESERVED, *self._devices, *self.mesh.network.routes, *self.mesh.services, *dict.fromkeys(lans)]

    def inside(self, name: str) -> bool:
        """Whether the name stands for addresses that come in through the tunnel: of peers, or of LANs behind them."""
        if name in self.mesh.network.routes or name in self.mesh.services:
            return False
        return name == "peers" or name in self._devices or name.endswith(".lan")

    def spans(self, name: str) -> tuple[Span, ...]:
        """The addresses of a name, merged. PolicyNameError when nobody has it."""
        if name not in self._spans:
            self._spans[name] = boxes.merge(self._find(name))
        return self._spans[name]

    def _find(self, name: str) -> Iterable[Span]:
        if name == "any":
            return ANYWHERE
        if name == "hub":
            return [boxes.host(a) for a in self.mesh.network.hub]
        if name == "peers":
            return _tunnel(self.active)
        if name in self._devices:
            return _tunnel(d for d in self._devices[name] if d.active(self.now))
        return self._find_network(name)

    def _find_network(self, name: str) -> Iterable[Span]:
        routes, services = self.mesh.network.routes, self.mesh.services
        if name in routes:
            return [boxes.span(n) for n in routes[name]]
        if name in services:
            return [boxes.host(a) for a in services[name].address or self.services.get(name, ())]
        return self._lan(name) if name.endswith(".lan") else [boxes.span(self._network(name))]

    def _lan(self, name: str) -> Iterable[Span]:
        owner = name.removesuffix(".lan")
        if owner not in self._devices:
            raise self._unknown(name)
        holders = [device for device in self._devices[owner] if device.lan]
        if not holders:
            raise PolicyNameError(name, f"{owner} has no lan")
        return [boxes.span(n) for device in holders if device.active(self.now) for n in device.lan]

    def _network(self, name: str) -> Network:
        try:
            return ip_network(name)
        except ValueError:
            pass
        try:
            wide = ip_network(name, strict=False)
        except ValueError:
            raise self._unknown(name) from None
        raise PolicyNameError(name, f"{name} has host bits set", (str(wide),))

    def _unknown(self, name: str) -> PolicyNameError:
        close = tuple(difflib.get_close_matches(name, self.known()[:2000], 3))
        return PolicyNameError(name, f'nobody is called "{name}"', close)


def _tunnel(devices: Iterable[Device]) -> list[Span]:
    return [boxes.host(a) for device in devices for a in device.addresses]


def resolve(mesh: Mesh, name: str, services: Known, now: datetime) -> tuple[Network, ...]:
    """The networks a policy name stands for, as few as possible. PolicyNameError when nobody has the name."""
    return boxes.networks(Names(mesh, services, now).spans(name))


def unresolved(mesh: Mesh, services: Known) -> tuple[str, ...]:
    """The `kubernetes:` services of the file whose addresses are not known."""
    return tuple(name for name, s in mesh.services.items() if not s.address and not services.get(name))


@dataclass(frozen=True)
class Grant:
    """One `from` list towards one `to` name of rule number `rule` (from 0): connections may be started.

    sources, destinations: merged spans; `.source_networks` and `.destination_networks` as networks.
    """

    rule: int
    from_: tuple[str, ...]
    to: str
    source_spans: tuple[Span, ...]
    destination_spans: tuple[Span, ...]
    protocols: tuple[Ports, ...]

    @cached_property
    def sources(self) -> tuple[Network, ...]:
        return boxes.networks(self.source_spans)

    @cached_property
    def destinations(self) -> tuple[Network, ...]:
        return boxes.networks(self.destination_spans)

    @cached_property
    def services(self) -> Services:
        """The grant's protocols and ports on the service axis."""
        return boxes.join(p.interval for p in self.protocols)

    @cached_property
    def region(self) -> Region:
        return boxes.canonical(boxes.boxes(self.destination_spans, self.services))


def grants(mesh: Mesh, services: Known, now: datetime) -> tuple[Grant, ...]:
    """All rules, one grant per rule and `to` name. PolicyNameError or PolicyPortError when a rule is not understood."""
    return granted(Names(mesh, services, now))


def granted(names: Names) -> tuple[Grant, ...]:
    """As `grants`, for names that were already looked up."""
    out = []
    for number, rule in enumerate(names.mesh.policy.allow):
        sources = boxes.merge(item for name in rule.from_ for item in names.spans(name))
        for name in rule.to:
            said = rule.ports if rule.ports is not None else _ports_of(names.mesh, name)
            protocols = tuple(ports(word) for word in said) or (EVERYTHING,)
            out.append(Grant(number, rule.from_, name, sources, names.spans(name), protocols))
    return tuple(out)


def _ports_of(mesh: Mesh, name: str) -> tuple[str, ...]:
    """A named service brings its ports. A peer of the same name (an error elsewhere) would win, as in `Names`."""
    service = mesh.services.get(name)
    return service.ports if service and name not in mesh.peers and name not in mesh.network.routes else ()


class Class(NamedTuple):
    """Source addresses that the same grants name."""

    spans: tuple[Span, ...]
    grants: tuple[int, ...]


def classes(all_grants: Sequence[Grant]) -> tuple[Class, ...]:
    """Every source address of any grant, sorted into classes by which grants (their positions) name it."""
    events: list[tuple[int, int, int, int]] = []
    for index, grant in enumerate(all_grants):
        for item in grant.source_spans:
            events += [(item.version, item.low, 1, index), (item.version, item.high + 1, -1, index)]
    events.sort()
    active: set[int] = set()
    key: tuple[int, ...] = ()
    found: dict[tuple[int, ...], list[Span]] = {}
    place, at = (0, 0), 0
    while at < len(events):
        here = events[at][:2]
        if key:
            found.setdefault(key, []).append(Span(place[0], place[1], here[1] - 1))
        while at < len(events) and events[at][:2] == here:
            _, _, step, index = events[at]
            (active.add if step > 0 else active.discard)(index)
            at += 1
        key, place = tuple(sorted(active)), here
    return tuple(Class(boxes.merge(spans), key) for key, spans in found.items())


Found = tuple[Span, boxes.Box] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a test came to. `example` is (source, destination, port) of one pair that decided it, when there is one.

    known is False when the test names a `kubernetes:` service without a known address: then `ok` says nothing.
    """

    ok: bool
    explanation: str
    example: tuple[str, str, str] | None = None
    known: bool = True


class Judge:
    """Decides tests of one mesh at one moment; the rules are worked out once."""

    def __init__(self, mesh: Mesh, services: Known, now: datetime) -> None:
        self.names = Names(mesh, services, now)
        self.unresolved = frozenset(unresolved(mesh, services))
        self.grants = granted(self.names)

    @cached_property
    def _classes(self) -> tuple[Class, ...]:
        return classes(self.grants)

    def judge(self, test: Test) -> Verdict:
        """Whether the rules say what the test expects, for every pair of addresses it speaks of."""
        pending = sorted({test.from_, test.to} & self.unresolved)
        if pending:
            return Verdict(False, f"the address of the service {pending[0]} is not known yet", known=False)
        sources, destinations = self.names.spans(test.from_), self.names.spans(test.to)
        asked = ports(test.port) if test.port else EVERYTHING
        # a packet has both addresses of one IP version; other pairs cannot meet and are not asked about
        met = {item.version for item in sources} & {item.version for item in destinations}
        if not met:
            return Verdict(test.expect == "deny", _strangers(test, sources, destinations))
        found = None
        for version in sorted(met):
            here = tuple(item for item in sources if item.version == version)
            there = tuple(item for item in destinations if item.version == version)
            opened = self._opened(there, asked)
            if test.expect == "deny":
                found = found or self._open(here, opened)
            else:
                found = found or self._closed(here, tuple(boxes.boxes(there, (asked.interval,))), opened)
        return _verdict(test.expect, found)

    def _opened(self, there: Sequence[Span], asked: Ports) -> dict[int, Region]:
        """What each grant (by its position) opens of the services asked about at these addresses, if anything."""
        out: dict[int, Region] = {}
        for index, grant in enumerate(self.grants):
            services = boxes.shared(grant.services, (asked.interval,))
            spans = boxes.overlap(there, grant.destination_spans) if services else ()
            if spans:
                out[index] = tuple(boxes.boxes(spans, services))
        return out

    def _open(self, sources: Sequence[Span], opened: Mapping[int, Region]) -> Found:
        """One pair that the rules allow."""
        for group in self._classes:
            index = next((i for i in group.grants if i in opened), None)
            inside = boxes.overlap(sources, group.spans) if index is not None else ()
            if index is not None and inside:
                return inside[0], opened[index][0]
        return None

    def _closed(self, sources: Sequence[Span], target: Region, opened: Mapping[int, Region]) -> Found:
        """One pair of the sources and the target that no rule allows."""
        left = tuple(sources)
        denied: dict[tuple[int, ...], Region] = {}
        for group in self._classes:
            inside = boxes.overlap(left, group.spans)
            key = tuple(i for i in group.grants if i in opened)
            if inside and key not in denied:
                whole = any(opened[i] == target for i in key)
                denied[key] = () if whole else boxes.subtract(target, [box for i in key for box in opened[i]])
            if inside and denied[key]:
                return inside[0], denied[key][0]
            left = boxes.without(left, group.spans)
        return (left[0], target[0]) if left else None


def _strangers(test: Test, sources: Sequence[Span], destinations: Sequence[Span]) -> str:
    for name, spans in ((test.from_, sources), (test.to, destinations)):
        if not spans:
            return f"{name} has no active address"
    return f"{test.from_} and {test.to} have no IP version in common"


def _verdict(expect: str, found: Found) -> Verdict:
    if found is None:
        word = "no" if expect == "deny" else "every"
        return Verdict(
            True, f"{word} address of the one may reach {'any' if expect == 'deny' else 'every one'} of the other"
        )
    source, box = found
    example = (
        str(boxes.address(source.version, source.low)),
        str(boxes.address(box.version, box.low)),
        service_name(box.first),
    )
    may = "may" if expect == "deny" else "may not"
    return Verdict(False, f"{example[0]} {may} reach {example[1]} ({example[2]})", example)


def service_name(point: int) -> str:
    """One point of the service axis in words: "443/tcp", "icmp" or "other protocols"."""
    if point < boxes.PORTS:
        return f"{point}/tcp"
    if point < boxes.ICMP:
        return f"{point - boxes.PORTS}/udp"
    return "icmp" if point == boxes.ICMP else "other protocols"


def judge(test: Test, mesh: Mesh, services: Known, now: datetime) -> Verdict:
    """One test. Who has many keeps a Judge."""
    return Judge(mesh, services, now).judge(test)
