"""The form of the mesh's nft table: its chains, rules and sets, and where a right's element goes. Pure, one way only.

How it works: from_peers (prerouting, before service addresses are translated) sees all that comes in by the interface.
Replies and errors about known flows pass; the rest is looked up by source in maps (`hosts` single addresses, `networks`
prefixes) that jump to the chain of a role; what no role accepts ends in `denied`, which counts per source and drops.
What passes gets the mark. to_peers (postrouting, before masquerading) lets out by the interface what came in by it,
replies, errors and what the `inbound` sets hold; it also sees every TCP handshake that needs its segment size cut, in
both directions, so there is no third hook for that. What only the first packet of a flow needs is behind one jump. A
role is a set of rights; peers with equal rights share it; its name is a hash of the rights. The JSON is that of
libnftables-json(5), in the very form in which nft lists it.
"""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from . import rights

# raised whenever the chains or sets of a table with equal rights change their form
FORMAT = 2
FAMILIES = {"4": "ip", "6": "ip6"}
ADDRESS = {"4": "ipv4_addr", "6": "ipv6_addr"}
BITS = {"4": "32", "6": "128"}
ICMP = {"4": "icmp", "6": "icmpv6"}
ERRORS = {
    "4": ["destination-unreachable", "time-exceeded", "parameter-problem"],
    "6": ["destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem"],
}
# the limited broadcast address and what is never one host's; IPv6 link-local ends at the tunnel
NOT_ONE_HOST = {"4": [("224.0.0.0", 4), ("255.255.255.255", 32)], "6": [("fe80::", 10), ("ff00::", 8)]}
COUNTED = {"stmt": [{"counter": None}]}
PASS = [{"goto": {"target": "pass"}}]
DROP = [{"drop": None}]
ACCEPT = [{"accept": None}]
Json = Any
Table = typing.Dict[str, Any]  # noqa: UP006  Python 3.8 has no dict[...] when it runs


class Element(NamedTuple):
    """One element. target: "jump CHAIN" or another verdict in words, "" in a set; odd: what we never write."""

    value: Json
    target: str = ""
    comment: str = ""
    odd: str = ""

    @property
    def plain(self) -> tuple[str, str, str]:
        return self.target, self.comment, self.odd


class Model(NamedTuple):
    """A table taken apart: definitions of sets, their elements by key, chains, rules by chain; foreign: sentences."""

    name: str
    sets: dict[str, dict[str, Any]]
    elements: dict[str, dict[str, Element]]
    chains: dict[str, dict[str, Any]]
    rules: dict[str, list[Json]]
    foreign: list[str]


def _match(left: Json, right: Json, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _meta(key: str) -> Json:
    return {"meta": {"key": key}}


def _field(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _ct(key: str, value: str, op: str = "in") -> Json:
    return _match({"ct": {"key": key}}, value, op)


def _concat(*parts: Json) -> Json:
    return {"concat": list(parts)}


L4 = (_meta("l4proto"), _field("th", "dport"))


# never a blanket accept of what is established or related
REPLY = [_ct("direction", "reply", "=="), _ct("state", "established")]


def _errors() -> list[Json]:
    """ICMP errors about known flows."""
    return [[_ct("state", "related"), _match(_field(ICMP[f], "type"), {"set": ERRORS[f]})] for f in FAMILIES]


def _from_peers(interface: str) -> list[Json]:
    maps = [(name + f, ip) for f, ip in FAMILIES.items() for name in ("hosts", "networks")]
    return [
        [_match(_meta("iifname"), interface, "!="), *PASS],
        [_ct("state", "established", "!="), {"jump": {"target": "not_established"}}],
        [*REPLY, *PASS],
        *([{"vmap": {"key": _field(ip, "saddr"), "data": "@" + name}}] for name, ip in maps),
        [{"goto": {"target": "denied"}}],
    ]


def _not_established() -> list[Json]:
    """What is not for one host ends here, errors about known flows pass; the rest returns to be judged."""
    static = [
        [_match(_field(ip, "daddr"), {"set": [_address_json(a, n, f) for a, n in NOT_ONE_HOST[f]]}), *DROP]
        for f, ip in FAMILIES.items()
    ]
    kinds = {"fib": {"result": "type", "flags": ["daddr"]}}
    errors = [[*error, *PASS] for error in _errors()]
    return [*static, [_match(kinds, {"set": ["broadcast", "multicast"]}), *DROP], *errors]


def _address_json(address: str, length: int, family: str) -> Json:
    return address if str(length) == BITS[family] else {"prefix": {"addr": address, "len": length}}


def _to_peers(interface: str) -> list[Json]:
    out = [
        [_match(_field("tcp", "flags"), "syn", "in"), {"jump": {"target": "clamp"}}],
        [_match(_meta("oifname"), interface, "!="), *ACCEPT],
        [_match(_meta("iifname"), interface), *ACCEPT],
        *([*known, *ACCEPT] for known in (REPLY, *_errors())),
    ]
    for f, ip in FAMILIES.items():
        ends = (_field(ip, "saddr"), _field(ip, "daddr"))
        echo = _match(_field(ICMP[f], "type"), "echo-request")
        out += [
            [_match(_concat(*ends, *L4), f"@inbound_ports{f}"), *ACCEPT],
            [echo, _match(_concat(*ends), f"@inbound_echo{f}"), *ACCEPT],
            [_match(_concat(*ends), f"@inbound_any{f}"), *ACCEPT],
        ]
    return [*out, DROP]


def _clamp(interface: str) -> list[Json]:
    size = {"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": {"rt": {"key": "mtu"}}}}
    return [[_match(_meta(side), interface), size] for side in ("iifname", "oifname")]


def _masquerade(interface: str) -> list[Json]:
    ways = [_match(_meta("iifname"), interface), _match(_meta("oifname"), interface, "!=")]
    return [[*ways, _match(_field(ip, "daddr"), f"@masquerade{f}"), {"masquerade": None}] for f, ip in FAMILIES.items()]


def _pass(mark: int) -> list[Json]:
    return [[{"mangle": {"key": _meta("mark"), "value": {"|": [_meta("mark"), mark]}}}, *ACCEPT]]


def _denied() -> list[Json]:
    sets = [(f"denied_{name}{f}", ip) for f, ip in FAMILIES.items() for name in ("hosts", "networks")]
    return [*([_match(_field(ip, "saddr"), "@" + name), *DROP] for name, ip in sets), DROP]


def _base(kind: str, hook: str, priority: int) -> dict[str, Any]:
    return {"type": kind, "hook": hook, "prio": priority, "policy": "accept"}


def base_chains(masquerading: bool) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {
        "from_peers": _base("filter", "prerouting", -110),
        "to_peers": _base("filter", "postrouting", 90),
        "clamp": {},
        "pass": {},
        "denied": {},
        "not_established": {},
    }
    return {**out, "masquerade": _base("nat", "postrouting", 100)} if masquerading else out


def base_rules(interface: str, mark: int, masquerading: bool) -> dict[str, list[Json]]:
    out = {
        "from_peers": _from_peers(interface),
        "to_peers": _to_peers(interface),
        "clamp": _clamp(interface),
        "pass": _pass(mark),
        "denied": _denied(),
        "not_established": _not_established(),
    }
    return {**out, "masquerade": _masquerade(interface)} if masquerading else out


def base_sets() -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {"format": {"type": "inet_service"}}
    interval = {"flags": ["interval"]}
    for f, kind in ADDRESS.items():
        verdict = {"type": kind, "map": "verdict", **COUNTED}
        more: dict[str, dict[str, Any]] = {
            f"hosts{f}": verdict,
            f"networks{f}": {**verdict, **interval},
            f"denied_hosts{f}": {"type": kind, **COUNTED},
            f"denied_networks{f}": {"type": kind, **COUNTED, **interval},
            f"peers{f}": {"type": kind},
            f"hub{f}": {"type": kind, **interval},
            f"masquerade{f}": {"type": kind, **interval},
            f"inbound_ports{f}": {"type": [kind, kind, "inet_proto", "inet_service"], **interval},
            f"inbound_echo{f}": {"type": [kind, kind], **interval},
            f"inbound_any{f}": {"type": [kind, kind], **interval},
        }
        out.update(more)
    return out


def _role_sets() -> dict[str, dict[str, Any]]:
    """The sets that a role may have, by the end of their names."""
    out: dict[str, dict[str, Any]] = {"peers": {"type": ["inet_proto", "inet_service"], "flags": ["interval"]}}
    for f, kind in ADDRESS.items():
        out[f"ports{f}"] = {"type": [kind, "inet_proto", "inet_service"], "flags": ["interval"]}
        out[f"echo{f}"] = {"type": kind, "flags": ["interval"]}
        out[f"any{f}"] = {"type": kind, "flags": ["interval"]}
    return out


ROLE_SETS = _role_sets()
# what carries most packets is asked first
ORDER = ("ports4", "ports6", "peers", "any4", "any6", "any_peers", "echo4", "echo6", "echo_peers")


def role_rules(role: str, parts: Iterable[str]) -> list[Json]:
    """The rules of a role's chain; parts: its sets by the end of their names, and "echo_peers", "any_peers"."""
    held = set(parts)
    return [rule for part in ORDER if part in held for rule in _part_rules(role, part)]


def _part_rules(role: str, part: str) -> Iterator[Json]:
    if part.endswith("peers"):
        for f, ip in FAMILIES.items():
            to = _match(_field(ip, "daddr"), f"@peers{f}")
            more = {
                "peers": [_match(_concat(*L4), f"@{role}_peers")],
                "echo_peers": [_match(_field(ICMP[f], "type"), "echo-request")],
                "any_peers": [],
            }[part]
            yield [*more, to, *PASS]
        return
    f, name = part[-1], f"@{role}_{part}"
    to = _field(FAMILIES[f], "daddr")
    if part.startswith("ports"):
        yield [_match(_concat(to, *L4), name), *PASS]
    elif part.startswith("echo"):
        yield [_match(_field(ICMP[f], "type"), "echo-request"), _match(to, name), *PASS]
    else:
        yield [_match(to, name), *PASS]


def role_name(allow: list[str]) -> str:
    """The name of the role with exactly these rights."""
    return "role_" + hashlib.sha256("\n".join(allow).encode()).hexdigest()[:16]


def _span_json(text: str) -> Json:
    """A prefix or "LOW-HIGH" as nft writes it back."""
    low, dash, high = text.partition("-")
    if dash:
        return {"range": [low, high]}
    address, _, length = text.partition("/")
    return _address_json(address, int(length), family_of(address))


def family_of(text: str) -> str:
    return "6" if ":" in text else "4"


def _ports_json(text: str) -> Json:
    low, dash, high = text.partition("-")
    return {"range": [int(low), int(high)]} if dash else int(low)


def _right_element(right: str) -> tuple[str, Json]:
    """A right -> (the part of the role it goes to, the element there, None when the part has no set)."""
    destination, protocol, ports = right.split(" ")
    services = [protocol, _ports_json(ports)] if protocol in ("tcp", "udp") else []
    kind = "ports" if services else {"icmp": "echo", "any": "any"}[protocol]
    if destination == rights.PEERS:
        return ("peers", {"concat": services}) if services else (f"{kind}_peers", None)
    to = _span_json(destination)
    return kind + family_of(destination), {"concat": [to, *services]} if services else to


def _inbound_element(text: str) -> tuple[str, Json]:
    source, right = text.split(" -> ")
    part, value = _right_element(right)
    ends = value["concat"] if part.startswith("ports") else [value]
    return f"inbound_{part}", {"concat": [_span_json(source), *ends]}


def build(table: Table) -> Model:
    """The table as it should be."""
    masquerading = bool(table["masquerade"])
    model = Model(
        table["name"],
        base_sets(),
        {},
        base_chains(masquerading),
        base_rules(table["interface"], table["mark"], masquerading),
        [],
    )
    model.elements.update({name: {} for name in model.sets})
    _add(model, "format", table["format"])
    for name in ("hub", "masquerade"):
        for prefix in table[name]:
            _add(model, name + family_of(prefix), _span_json(prefix))
    for text in table["inbound"]:
        _add(model, *_inbound_element(text))
    roles: dict[tuple[str, ...], str] = {}
    for prefix, source in table["sources"].items():
        key = tuple(source["allow"])
        if key not in roles:
            roles[key] = _add_role(model, source["allow"])
        _add_source(model, prefix, source["peer"], "jump " + roles[key])
    return model


def _add(model: Model, name: str, value: Json, target: str = "", comment: str = "") -> None:
    model.elements[name][key_of(value)] = Element(value, target, comment)


def _add_source(model: Model, prefix: str, peer: str, target: str) -> None:
    address, _, length = prefix.partition("/")
    f = family_of(address)
    kind = ("hosts" if length == BITS[f] else "networks") + f
    value = _address_json(address, int(length), f)
    _add(model, kind, value, target, peer)
    _add(model, "denied_" + kind, value)
    if kind.startswith("hosts"):
        _add(model, "peers" + f, value)


def _add_role(model: Model, allow: list[str]) -> str:
    role = role_name(allow)
    model.chains[role] = {}
    parts = []
    for right in allow:
        part, value = _right_element(right)
        parts.append(part)
        if value is not None:
            name = f"{role}_{part}"
            model.sets.setdefault(name, ROLE_SETS[part])
            model.elements.setdefault(name, {})[key_of(value)] = Element(value)
    model.rules[role] = role_rules(role, dict.fromkeys(parts))
    return role


def key_of(value: Json) -> str:
    """One text per element value, whichever way nft writes it."""
    if isinstance(value, str):
        return rights.plain(value)
    if isinstance(value, dict):
        if "prefix" in value:
            return f"{rights.plain(str(value['prefix']['addr']))}/{value['prefix']['len']}"
        if "range" in value:
            return "-".join(rights.plain(str(end)) for end in value["range"])
        if "concat" in value:
            return " . ".join(key_of(part) for part in value["concat"])
        return json.dumps(value, sort_keys=True)
    return str(value)
