"""What a table as nft lists it does to a packet: walked rule by rule, knowing nothing of how tables are compiled.

The second opinion on the firewall: it reads libnftables-json(5) with the meaning of nft(8). What it does not understand
is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

from meshwright.errors import MeshwrightError

Json = Any
FINAL = ("accept", "drop")
# numbers of protocols(5): nft lists names, or numbers where /etc/protocols is missing
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "icmpv6": 58, "ipv6-icmp": 58}
QUIET = ("counter", "log", "comment", "masquerade")


class NotUnderstood(MeshwrightError):
    """The table holds something that this evaluator cannot judge."""

    def __init__(self, what: Json) -> None:
        super().__init__(f"the table holds what cannot be judged: {what}", "run apply: it puts our own table back")


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet where it meets the hub. `port` is the destination's; `icmp` an ICMP type in nft's words.

    into, out: interfaces, "" for the hub itself. state, direction: conntrack's. kind: what a routing look says of the
    destination (unicast, local, broadcast, multicast).
    """

    into: str
    out: str
    source: str
    destination: str
    protocol: str
    port: int = 0
    icmp: str = ""
    state: str = "new"
    direction: str = "original"
    kind: str = "unicast"
    mark: int = 0

    @property
    def family(self) -> str:
        return "ip6" if ":" in self.source else "ip"

    @property
    def hooks(self) -> tuple[str, ...]:
        if not self.into:
            return ("output", "postrouting")
        return ("prerouting", "forward", "postrouting") if self.out else ("prerouting", "input")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a packet: let through or not, the mark it left with, and the last chain that spoke."""

    passed: bool
    mark: int
    chain: str


@dataclass(slots=True)
class _Walk:
    packet: Packet
    hook: str
    mark: int
    chain: str = ""


@dataclass(frozen=True)
class _Set:
    """Elements of a set or map: single values in a dict, the others as a list of (parts, verdict)."""

    exact: dict[Any, Json] = field(default_factory=dict)
    ranges: list[tuple[tuple[Json, ...], Json]] = field(default_factory=list)


class Evaluator:
    """One table, ready to be asked. `objects`: what `nft -j list table` gave."""

    def __init__(self, objects: Iterable[Mapping[str, Json]], name: str) -> None:
        self.chains: dict[str, Json] = {}
        self.rules: dict[str, list[Json]] = {}
        self.sets: dict[str, _Set] = {}
        self.sleeping = True
        for item in objects:
            kind, body = next(iter(item.items()))
            if body.get("family") == "inet" and name in (
                body.get("table"),
                body.get("name") if kind == "table" else None,
            ):
                self._take(kind, body)

    def _take(self, kind: str, body: Json) -> None:
        if kind == "table":
            self.sleeping = "flags" in body
        elif kind == "chain":
            self.chains[body["name"]] = body
        elif kind == "rule":
            self.rules.setdefault(body["chain"], []).append(body["expr"])
        elif kind in ("set", "map"):
            self.sets[body["name"]] = _collect(body.get("elem", ()))
        elif kind not in ("counter", "comment"):
            raise NotUnderstood(kind)

    def edges(self) -> tuple[set[tuple[int, int]], set[int]]:
        """(addresses as (IP version, number), plain numbers) at which any element of any set or map begins or ends."""
        parts = [part for held in self.sets.values() for key in held.exact for part in key]
        parts += [end for held in self.sets.values() for key, _ in held.ranges for bounds in key for end in bounds]
        addresses = {part for part in parts if isinstance(part, tuple)}
        return addresses, {part for part in parts if isinstance(part, int)}

    def fate(self, packet: Packet) -> Fate:
        """Send a packet through every hook it meets, in the order of the chains' priorities."""
        mark, chain = packet.mark, ""
        if self.sleeping:
            return Fate(True, mark, chain)
        for hook in packet.hooks:
            bases = [c for c in self.chains.values() if c.get("hook") == hook]
            for base in sorted(bases, key=lambda c: int(c["prio"])):
                walk = _Walk(packet, hook, mark, base["name"])
                verdict = self._chain(base["name"], walk) or base.get("policy", "accept")
                mark, chain = walk.mark, walk.chain
                if verdict == "drop":
                    return Fate(False, mark, chain)
        return Fate(True, mark, chain)

    def _chain(self, name: str, walk: _Walk, depth: int = 0) -> str | None:
        """accept, drop, or None when the chain came to its end or returned."""
        if depth > 16 or name not in self.chains:
            raise NotUnderstood(f"a jump to {name}")
        for rule in self.rules.get(name, ()):
            verdict = self._rule(rule, walk)
            word, _, target = (verdict or "").partition(" ")
            if word in FINAL:
                walk.chain = name
                return word
            if word == "return":
                return None
            if word == "goto":
                return self._chain(target, walk, depth + 1)
            if word == "jump":
                inner = self._chain(target, walk, depth + 1)
                if inner:
                    return inner
        return None

    def _rule(self, rule: list[Json], walk: _Walk) -> str | None:
        """The verdict of a rule, None when it does not match or has none."""
        for statement in rule:
            word, body = next(iter(statement.items()))
            if word == "match":
                if not self._match(body, walk):
                    return None
            elif word == "vmap":
                found = self._mapped(body, walk)
                return _verdict(found) if found is not None else None
            elif word == "mangle":
                _mangle(body, walk)
            elif word in (*FINAL, "return", "jump", "goto", "reject"):
                return "drop" if word == "reject" else _verdict(statement)
            elif word not in QUIET:
                raise NotUnderstood(word)
        return None

    def _mapped(self, body: Json, walk: _Walk) -> Json | None:
        value = _value(body["key"], walk)
        data = body["data"]
        held = self._named(data) if isinstance(data, str) else _collect(data["set"])
        return None if value is None else _find(held, value)

    def _named(self, name: str) -> _Set:
        if name.removeprefix("@") not in self.sets:
            raise NotUnderstood(f"the set {name}")
        return self.sets[name.removeprefix("@")]

    def _match(self, body: Json, walk: _Walk) -> bool:
        value, right, op = _value(body["left"], walk), body["right"], body["op"]
        if op not in ("==", "!=", "in"):
            raise NotUnderstood(f"the comparison {op}")
        if value is None:
            return False
        if isinstance(right, str) and right.startswith("@"):
            held: bool = _find(self._named(right), value) is not None
        elif isinstance(right, dict) and "set" in right:
            held = _find(_collect(right["set"]), value) is not None
        else:
            held = any(_same(one, value) for one in (right if isinstance(right, list) else [right]))
        return held is not (op == "!=")


def _collect(elements: Iterable[Json]) -> _Set:
    out = _Set()
    for listed in elements:
        element, verdict = listed if isinstance(listed, list) else (listed, True)
        value = element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element
        parts = value["concat"] if isinstance(value, dict) and "concat" in value else [value]
        if any(isinstance(part, dict) for part in parts):
            out.ranges.append((tuple(_bounds(part) for part in parts), verdict))
        else:
            out.exact[tuple(_plain(part) for part in parts)] = verdict
    return out


def _find(held: _Set, value: Json) -> Json | None:
    parts = value if isinstance(value, tuple) else (value,)
    plain = tuple(_plain(part) for part in parts)
    if plain in held.exact:
        return held.exact[plain]
    for wanted, verdict in held.ranges:
        if len(wanted) == len(plain) and all(_within(one, bounds) for one, bounds in zip(plain, wanted, strict=True)):
            return verdict
    return None


def _plain(value: Json) -> Json:
    """An address as (version, number), a protocol as its number; other numbers and words as they are."""
    if isinstance(value, str) and (":" in value or value.count(".") == 3):
        try:
            address = ip_address(value)
        except ValueError:
            return value
        return address.version, int(address)
    return PROTOCOLS.get(value, value) if isinstance(value, str) else value


def _bounds(value: Json) -> tuple[Json, Json]:
    if isinstance(value, dict) and "prefix" in value:
        network = ip_network(f"{value['prefix']['addr']}/{value['prefix']['len']}")
        return _plain(str(network[0])), _plain(str(network[-1]))
    if isinstance(value, dict) and "range" in value:
        low, high = value["range"]
        return _plain(low), _plain(high)
    if isinstance(value, dict):
        raise NotUnderstood(value)
    return _plain(value), _plain(value)


def _within(value: Json, bounds: tuple[Json, Json]) -> bool:
    low, high = bounds
    if isinstance(value, tuple) and isinstance(low, tuple):
        return bool(value[0] == low[0] and low[1] <= value[1] <= high[1])
    if isinstance(value, int) and isinstance(low, int):
        return bool(low <= value <= high)
    return bool(value == low)


def _same(wanted: Json, value: Json) -> bool:
    if isinstance(wanted, dict):
        return _within(_plain(value), _bounds(wanted))
    if isinstance(wanted, str) and wanted.endswith("*") and isinstance(value, str):
        return bool(value.startswith(wanted[:-1]))
    return bool(_plain(wanted) == _plain(value))


def _value(expression: Json, walk: _Walk) -> Json | None:
    """The value of an expression for the packet; None where nft would stop evaluating the rule."""
    if not isinstance(expression, dict):
        return expression
    word, body = next(iter(expression.items()))
    if word == "concat":
        parts = tuple(_value(part, walk) for part in body)
        return None if any(part is None for part in parts) else parts
    if word == "payload":
        return _payload(body["protocol"], body["field"], walk.packet)
    if word == "meta":
        return _meta(body["key"], walk)
    if word == "ct" and body["key"] in ("state", "direction"):
        return walk.packet.state if body["key"] == "state" else walk.packet.direction
    if word == "fib" and body["result"] == "type" and body["flags"] in ("daddr", ["daddr"]):
        return walk.packet.kind
    raise NotUnderstood(expression)


def _payload(protocol: str, name: str, packet: Packet) -> Json | None:
    if protocol in ("ip", "ip6"):
        ends = {"saddr": packet.source, "daddr": packet.destination}
        if name not in ends:
            raise NotUnderstood(f"{protocol} {name}")
        return ends[name] if packet.family == protocol else None
    if protocol == "th" and name == "dport":
        # other protocols hold other things there; what matters is that no port of ours is meant by it
        return packet.port if packet.protocol in ("tcp", "udp") else -1
    if protocol in ("icmp", "icmpv6") and name == "type":
        return packet.icmp if packet.protocol == protocol else None
    if protocol == "tcp" and name == "flags":
        return "syn" if packet.protocol == "tcp" and packet.state == "new" else None
    raise NotUnderstood(f"{protocol} {name}")


def _meta(key: str, walk: _Walk) -> Json | None:
    packet = walk.packet
    if key == "mark":
        return walk.mark
    if key == "l4proto":
        return packet.protocol
    if key == "iifname":
        return (packet.into or None) if walk.hook not in ("output",) else None
    if key == "oifname":
        return (packet.out or None) if walk.hook in ("forward", "output", "postrouting") else None
    if key == "nfproto":
        return {"ip": "ipv4", "ip6": "ipv6"}[packet.family]
    raise NotUnderstood(f"meta {key}")


def _mangle(body: Json, walk: _Walk) -> None:
    if "tcp option" in body["key"]:
        return
    if body["key"] != {"meta": {"key": "mark"}}:
        raise NotUnderstood(body["key"])
    walk.mark = _number(body["value"], walk)


def _number(value: Json, walk: _Walk) -> int:
    if isinstance(value, int):
        return value
    word, parts = next(iter(value.items())) if isinstance(value, dict) else ("", [])
    if value == {"meta": {"key": "mark"}}:
        return walk.mark
    if word == "|":
        return _number(parts[0], walk) | _number(parts[1], walk)
    if word == "&":
        return _number(parts[0], walk) & _number(parts[1], walk)
    raise NotUnderstood(value)


def _verdict(statement: Json) -> str:
    word, body = next(iter(statement.items()))
    return f"{word} {body['target']}" if isinstance(body, dict) else str(word)


def answer_to(packet: Packet) -> Packet:
    """The first packet of the answer to a packet, as conntrack sees it."""
    icmp = {"echo-request": "echo-reply"}.get(packet.icmp, packet.icmp)
    return replace(
        packet,
        into=packet.out,
        out=packet.into,
        source=packet.destination,
        destination=packet.source,
        icmp=icmp,
        state="established",
        direction="reply",
    )
