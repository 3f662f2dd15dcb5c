"""What other people's packet filters do to a few packets that the mesh lives by. Pure.

Rules of nft (libnftables-json(5)) and lines of iptables-save(8) become the same thing: conditions and an action. Three
answers: a condition holds, does not, or cannot be judged; then both ways are followed. What is not understood is
never guessed: the fate of the packet is then `unsure`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal

Json = Any
Action = tuple[str, str]
PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6", "ipv6-icmp": "icmpv6"}
ECHO = {"8": "echo-request", "0": "echo-reply", "128": "echo-request", "129": "echo-reply"}
VERDICTS = {"accept": "accept", "drop": "drop", "reject": "drop", "queue": "maybe", "return": "return"}


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet where it meets the hub. A field that is None could be anything. into, out: links, "" for none."""

    what: str
    hook: Literal["input", "forward"]
    into: str | None
    out: str | None
    source: str | None
    destination: str | None
    protocol: str | None = None
    port: int | None = None
    state: str = "new"
    mark: int = 0
    status: str = "none"

    @property
    def kind(self) -> str:
        """What a routing look says of the destination."""
        return "local" if self.hook == "input" else "unicast"

    @property
    def icmp(self) -> str | None:
        """A ping, or its answer; None of what is no ICMP, or could be anything."""
        echo = "echo-request" if self.state == "new" else "echo-reply"
        return echo if self.protocol in ("icmp", "icmpv6") else None

    @property
    def family(self) -> str:
        return "ip6" if ":" in (self.destination or self.source or "") else "ip"


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the values must be the packet's `field`; negated: none may be. No field: it cannot be judged."""

    field: str = ""
    values: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    conditions: tuple[Condition, ...]
    action: Action = ("", "")


@dataclass(frozen=True, slots=True)
class Base:
    """A chain where packets come in; `chains` are those of its table, by name."""

    label: str
    family: str
    hook: str
    name: str
    policy: str
    chains: Mapping[str, Sequence[Rule]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fate:
    """What a base chain does to a packet. plain: without the rules that cannot be judged."""

    base: Base
    may: frozenset[str]
    plain: str

    @property
    def dropped(self) -> bool:
        return self.may == {"drop"}

    @property
    def unsure(self) -> bool:
        return len(self.may) > 1


def bases(filters: Mapping[str, Json]) -> list[Base]:
    """Every base chain of a survey's filters that is on the way in or through."""
    out = list(_nft_bases(filters))
    for key, lines in filters.get("iptables", {}).items():
        family, _, kind = key.partition(" ")
        tool = ("iptables" if family == "ip" else "ip6tables") + (f"-{kind}" if kind else "")
        out += _iptables_bases(tool, family, lines)
    return out


def fates(found: Iterable[Base], packet: Packet) -> list[Fate]:
    """What each chain that the packet meets does to it."""
    met = [b for b in found if b.family in ("inet", packet.family) and b.hook in ("prerouting", packet.hook)]
    out = []
    for base in met:
        may = _through(base, packet, unknown=True)
        plain = _through(base, packet, unknown=False)
        out.append(Fate(base, frozenset(may), next(iter(plain))))
    return out


def _through(base: Base, packet: Packet, unknown: bool) -> set[str]:
    found = _chain(_Walk(base, packet, unknown), base.name)
    return {(base.policy if word == "next" else word) for word in found}


@dataclass(frozen=True, slots=True)
class _Walk:
    """One packet on its way through a table. seen: what came of it in a chain; in one that it is in: nothing yet."""

    base: Base
    packet: Packet
    unknown: bool
    seen: dict[str, set[str]] = field(default_factory=dict)


def _chain(walk: _Walk, name: str) -> set[str]:
    """What may become of the packet in a chain: accept, drop, next (it comes out at the end)."""
    if name not in walk.seen:
        walk.seen[name] = set()
        walk.seen[name] = _rules(walk, name)
    return walk.seen[name]


def _rules(walk: _Walk, name: str) -> set[str]:
    if name not in walk.base.chains:
        return {"accept", "drop", "next"} if walk.unknown else {"next"}
    out: set[str] = set()
    for rule in walk.base.chains[name]:
        holds = _holds(rule, walk.packet)
        if holds is False or (holds is None and not walk.unknown):
            continue
        here, ends = _act(walk, rule.action)
        out |= here - {"next"}
        if holds and ends:
            return out | (here & {"next"})
        if ends and "next" in here:
            out.add("next")
    return out | {"next"}


def _act(walk: _Walk, action: Action) -> tuple[set[str], bool]:
    """(what may come of it, whether the chain ends there for certain)."""
    word, target = action
    if word in ("accept", "drop"):
        return {word}, True
    if word == "return":
        return {"next"}, True
    if word == "maybe":
        return {"accept", "drop", "next"} if walk.unknown else {"next"}, False
    if word in ("jump", "goto"):
        inner = _chain(walk, target)
        return inner, word == "goto" or "next" not in inner
    return set(), False


def _holds(rule: Rule, packet: Packet) -> bool | None:
    """Whether a packet meets every condition; None where that cannot be judged."""
    sure: bool | None = True
    for condition in rule.conditions:
        found = _meets(condition, packet)
        if found is False:
            return False
        sure = None if found is None else sure
    return sure


def _meets(condition: Condition, packet: Packet) -> bool | None:
    value = getattr(packet, condition.field) if condition.field else None
    if value is None:
        return None
    found = [_is(condition.field, value, wanted) for wanted in condition.values]
    if any(found):
        return not condition.negated
    return None if None in found else condition.negated


def _is(field: str, value: Json, wanted: str) -> bool | None:
    if wanted.startswith("@"):
        return None
    if field in ("into", "out"):
        return bool(value.startswith(wanted[:-1]) if wanted[-1:] in ("*", "+") else value == wanted)
    if field in ("source", "destination"):
        return _inside(value, wanted)
    if field == "port":
        low, _, high = wanted.replace(":", "-").partition("-")
        last = int(high or (65535 if "-" in wanted or ":" in wanted else low))
        return bool(int(low or 0) <= value <= last)
    if field == "mark":
        wanted, _, mask = wanted.partition("/")
        return bool(value & int(mask or "0xffffffff", 0) == int(wanted, 0))
    return bool(value == (ECHO if field == "icmp" else PROTOCOLS).get(wanted, wanted))


def _inside(value: str, wanted: str) -> bool:
    address: Any = ip_address(value)
    low, dash, high = wanted.partition("-")
    if dash:
        first, last = ip_address(low), ip_address(high)
        return bool(address.version == first.version and int(first) <= int(address) <= int(last))
    network = ip_network(wanted, strict=False)
    return bool(address.version == network.version and address in network)


# nft: libnftables-json(5)


def _nft_bases(filters: Mapping[str, Json]) -> Iterator[Base]:
    tables: dict[tuple[str, str], dict[str, list[Rule]]] = {}
    for key, expressions in filters.get("rules", {}).items():
        family, table, chain = key.split(" ", 2)
        rules = [rule for expression in expressions for rule in _nft_rules(expression)]
        tables.setdefault((family, table), {})[chain] = rules
    left = {tuple(text.split(" ", 2)[:2]) for text in filters.get("left", ())}
    iptables = filters.get("iptables", {})
    for chain in filters.get("chains", ()):
        place = (chain["family"], chain["table"])
        if chain["table"] == "filter" and chain["family"] in iptables:
            continue  # the same rules in the words of iptables
        chains: dict[str, list[Rule]] = tables.get(place, {})
        if place not in left:
            chains = {chain["name"]: [], **_with_targets(chains)}
        label = f"nft chain {chain['family']} {chain['table']} {chain['name']}"
        yield Base(label, chain["family"], chain["hook"], chain["name"], chain.get("policy", "accept"), chains)


def _with_targets(chains: Mapping[str, list[Rule]]) -> dict[str, list[Rule]]:
    """The chains of a table that was listed whole; one without rules is not in the list."""
    targets = {rule.action[1] for rules in chains.values() for rule in rules if rule.action[0] in ("jump", "goto")}
    return {**{name: [] for name in targets}, **chains}


def _nft_rules(expression: Iterable[Json]) -> Iterator[Rule]:
    """A rule, or one for each entry of a verdict map that is written out in it."""
    conditions: list[Condition] = []
    for statement in expression:
        word, body = next(iter(statement.items()))
        if word == "match":
            conditions += _nft_match(body)
        elif word == "vmap":
            yield from _nft_map(conditions, body)
            return
        elif word in VERDICTS:
            yield Rule(tuple(conditions), (VERDICTS[word], ""))
            return
        elif word in ("jump", "goto"):
            yield Rule(tuple(conditions), (word, body["target"]))
            return
        elif word == "xt" and (body or {}).get("type") == "target":
            known = VERDICTS.get(str(body.get("name", "")).lower(), "maybe")
            yield Rule(tuple(conditions), (known, ""))
            return
        elif word in ("xt", "limit", "quota", "connlimit"):
            conditions.append(Condition())


def _nft_match(body: Json) -> list[Condition]:
    if body["op"] not in ("==", "!=", "in"):
        return [Condition()]
    return _nft_conditions(body["left"], _values(body["right"]), body["op"] == "!=")


def _nft_conditions(left: Json, values: tuple[str, ...] | None, negated: bool = False) -> list[Condition]:
    """The field that an nft expression means, as conditions; a port says its protocol too."""
    word, body = next(iter(left.items())) if isinstance(left, dict) else ("", {})
    if word == "&" and values is not None and body[0] == {"meta": {"key": "mark"}}:
        return [Condition("mark", tuple(f"{value}/{body[1]}" for value in values), negated)]
    if values is None or not isinstance(body, dict):
        return [Condition()]
    if word == "payload":
        return _nft_payload(str(body.get("protocol")), str(body.get("field")), values, negated)
    return [_nft_known(word, body, values, negated)]


def _nft_known(word: str, body: Mapping[str, Json], values: tuple[str, ...], negated: bool) -> Condition:
    key = str(body.get("key"))
    known = {"iifname": "into", "iif": "into", "oifname": "out", "oif": "out", "l4proto": "protocol", "mark": "mark"}
    if word == "meta" and key == "nfproto":
        return Condition("family", tuple({"ipv4": "ip", "ipv6": "ip6"}.get(v, v) for v in values), negated)
    if word == "meta" and key in known:
        return Condition(known[key], values, negated)
    if word == "fib" and body.get("result") == "type" and body.get("flags") == ["daddr"]:
        return Condition("kind", values, negated)
    return Condition(key, values, negated) if word == "ct" and key in ("state", "status") else Condition()


def _nft_payload(protocol: str, name: str, values: tuple[str, ...], negated: bool) -> list[Condition]:
    if protocol in ("ip", "ip6"):
        field = {"saddr": "source", "daddr": "destination", "protocol": "protocol", "nexthdr": "protocol"}.get(name)
        return [Condition("family", (protocol,)), Condition(field, values, negated) if field else Condition()]
    carried = [Condition("protocol", (protocol,))] if protocol in ("tcp", "udp", "icmp", "icmpv6", "sctp") else []
    field = {"dport": "port", "type": "icmp"}.get(name)
    return [*carried, Condition(field, values, negated) if field else Condition()]


def _nft_map(conditions: Sequence[Condition], body: Json) -> Iterator[Rule]:
    data = body["data"]
    if isinstance(data, str):
        yield Rule((*conditions, Condition()), ("maybe", ""))
        return
    for key, verdict in data["set"]:
        values = _values(key)
        more = _nft_conditions(body["key"], values)
        word, target = next(iter(verdict.items()))
        action = (word, target["target"]) if word in ("jump", "goto") else (VERDICTS.get(word, "maybe"), "")
        yield Rule((*conditions, *more), action)


def _values(right: Json) -> tuple[str, ...] | None:
    """The right side as texts; None where it is nothing simple."""
    if isinstance(right, str | int):
        return (str(right),)
    if isinstance(right, list):
        inner = [_values(part) for part in right]
        return None if None in inner else tuple(value for part in inner if part for value in part)
    word, body = _only(right)
    if word == "set":
        return _values(body if isinstance(body, list) else [body])
    if word == "prefix":
        return (f"{body['addr']}/{body['len']}",)
    if word == "range":
        return (f"{body[0]}-{body[1]}",)
    return _values(body["val"]) if word == "elem" else None


def _only(tree: Json) -> tuple[str, Any]:
    return next(iter(tree.items())) if isinstance(tree, dict) and tree else ("", None)


# iptables-save(8)

_OPTIONS = {
    "-i": "into", "--in-interface": "into", "-o": "out", "--out-interface": "out", "-s": "source", "-d": "destination",
    "-p": "protocol", "--dport": "port", "--dports": "port", "--ctstate": "state", "--state": "state",
    "--icmp-type": "icmp", "--icmpv6-type": "icmp", "--mark": "mark", "--dst-type": "kind",
}  # fmt: skip
_MEANINGLESS = ("-m", "--comment", "--match")


def _iptables_bases(tool: str, family: str, lines: Iterable[str]) -> Iterator[Base]:
    chains: dict[str, list[Rule]] = {}
    policies: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains.setdefault(name, [])
            policies[name] = policy.lower()
    for line in lines:
        words = shlex.split(line)
        if words[:1] == ["-A"]:
            chains.setdefault(words[1], []).append(_iptables_rule(words[2:], policies))
    for name, hook in (("INPUT", "input"), ("FORWARD", "forward")):
        if name in policies:
            yield Base(f"{tool} chain {name}", family, hook, name, policies[name], chains)


def _iptables_rule(words: Sequence[str], chains: Mapping[str, str]) -> Rule:
    conditions: list[Condition] = []
    at, negated = 0, False
    while at < len(words):
        word = words[at]
        if word == "!":
            at, negated = at + 1, True
            continue
        if word in ("-j", "-g", "--jump", "--goto"):
            return Rule(tuple(conditions), _target(word, words[at + 1], chains))
        if word in _OPTIONS:
            values = tuple(words[at + 1].split(","))
            values = tuple(v.lower() for v in values) if _OPTIONS[word] in ("state", "kind") else values
            conditions.append(Condition(_OPTIONS[word], values, negated))
            at += 1
        elif word in _MEANINGLESS:
            at += 1
        elif word.startswith("-"):
            conditions.append(Condition())
        at, negated = at + 1, False
    return Rule(tuple(conditions))


def _target(word: str, name: str, chains: Mapping[str, str]) -> Action:
    if name in chains:
        return ("goto" if word in ("-g", "--goto") else "jump", name)
    return (VERDICTS.get(name.lower(), ""), "")
