"""From what `nft -j list` says to plain data. Tells whatever we did not write; never writes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import rights
from .nftform import (
    BITS,
    FAMILIES,
    ROLE_SETS,
    Element,
    Json,
    Model,
    Table,
    base_chains,
    base_rules,
    base_sets,
    family_of,
    key_of,
    role_name,
    role_rules,
)

PROTOCOLS = {6: "tcp", 17: "udp"}
ELEMENT = frozenset({"val", "comment", "counter"})
NOT_FORM = ("family", "table", "name", "handle", "elem")


def read(listed: list[Json], name: str) -> Model | None:
    """The objects of a listing taken apart, None when they hold no inet table of that name."""
    model = Model(name, {}, {}, {}, {}, [])
    found = False
    for item in listed:
        kind, body = next(iter(item.items()))
        if kind == "metainfo" or (body.get("name") if kind == "table" else body.get("table")) != name:
            continue
        if body.get("family") != "inet":
            continue
        if kind == "table":
            found = True
            if "flags" in body:
                model.foreign.append("the table has flags, which make it sleep")
        else:
            _read_object(model, kind, body)
    return model if found else None


def _read_object(model: Model, kind: str, body: Json) -> None:
    if kind in ("set", "map"):
        model.sets[body["name"]] = {key: value for key, value in body.items() if key not in NOT_FORM}
        held = (_element(elem, body.get("type")) for elem in body.get("elem", ()))
        model.elements[body["name"]] = {key_of(element.value): element for element in held}
    elif kind == "chain":
        model.chains[body["name"]] = {key: value for key, value in body.items() if key not in NOT_FORM}
        model.rules.setdefault(body["name"], [])
    elif kind == "rule":
        expression = body["expr"] + ([{"comment": body["comment"]}] if "comment" in body else [])
        model.rules.setdefault(body["chain"], []).append(expression)
    else:
        model.foreign.append(f"a {kind} called {body.get('name', '?')} is not ours")


def _element(elem: Json, types: Any) -> Element:
    """One element of a set of these types, as nft lists it."""
    target = ""
    if isinstance(elem, list):
        elem, verdict = elem
        word, detail = next(iter(verdict.items()))
        target = f"{word} {detail['target']}" if isinstance(detail, dict) else word
    if not (isinstance(elem, dict) and "elem" in elem):
        return Element(_named(elem, types), target)
    inner = elem["elem"]
    odd = " ".join(sorted(inner.keys() - ELEMENT))
    return Element(_named(inner["val"], types), target, inner.get("comment", ""), odd)


def _named(value: Json, types: Any) -> Json:
    """The value with protocols by name: where /etc/protocols is missing, nft lists them as numbers."""
    if not (isinstance(value, dict) and "concat" in value and isinstance(types, list)):
        return value
    places = {place for place, kind in enumerate(types) if kind == "inet_proto"}
    return {
        "concat": [PROTOCOLS.get(p, p) if n in places and type(p) is int else p for n, p in enumerate(value["concat"])]
    }


def parse(listed: list[Json], name: str) -> Table | None:
    """The objects of `nft -j list` -> Table, None when they hold no inet table of that name.

    Rights are what the sets hold now, whoever put it there; what we never write is told in "strange".
    """
    live = read(listed, name)
    if live is None:
        return None
    interface, mark = _interface(live), _mark(live)
    strange = [*live.foreign, *_strange_form(live, interface, mark)]
    roles = whole_roles(live)
    allowed = {role: _role_rights(live, role, parts, strange) for role, parts in roles.items()}
    table: Table = {
        "name": name,
        "interface": interface,
        "mark": mark,
        "format": _format(live),
        "hub": _prefixes(live, "hub", strange),
        "masquerade": _prefixes(live, "masquerade", strange),
        "sources": _sources(live, allowed, strange),
        "inbound": _inbound(live, strange),
    }
    return {**table, "strange": sorted(set(strange))} if strange else table


def _interface(live: Model) -> str:
    rules = live.rules.get("from_peers") or [[{}]]
    found = rules[0][0].get("match", {}).get("right", "")
    return found if isinstance(found, str) else ""


def _mark(live: Model) -> int:
    rules = live.rules.get("pass") or [[{}]]
    value = rules[0][0].get("mangle", {}).get("value", {})
    parts = value.get("|", [0]) if isinstance(value, dict) else [0]
    return parts[-1] if isinstance(parts[-1], int) else 0


def _format(live: Model) -> int:
    held = [element.value for element in live.elements.get("format", {}).values()]
    return held[0] if len(held) == 1 and isinstance(held[0], int) else 0


def _strange_form(live: Model, interface: str, mark: int) -> Iterator[str]:
    roles = whole_roles(live)
    yield from _strange_chains(live, roles, interface, mark)
    sets, ours = base_sets(), {f"{role}_{part}" for role, parts in roles.items() for part in parts}
    for name in sorted((live.sets.keys() | sets.keys()) - ours):
        if name not in sets:
            yield f"the set {name} is not ours"
        elif live.sets.get(name) != sets[name]:
            yield f"the set {name} is missing or of another form"
    for name, held in live.elements.items():
        yield from (f"an element of {name} has {e.odd}: {key}" for key, e in held.items() if e.odd)


def _strange_chains(live: Model, roles: Iterable[str], interface: str, mark: int) -> Iterator[str]:
    masquerading = any(live.elements.get("masquerade" + f) for f in FAMILIES)
    chains, rules = base_chains(masquerading), base_rules(interface, mark, masquerading)
    for name in sorted((live.chains.keys() | chains.keys()) - set(roles)):
        if name not in chains:
            yield f"the chain {name} is not ours"
        elif name not in live.chains:
            yield f"the chain {name} is missing"
        elif live.chains[name] != chains[name]:
            yield f"the chain {name} is hooked in otherwise"
        elif live.rules[name] != rules[name]:
            yield f"the rules of the chain {name} were changed"


def whole_roles(live: Model) -> dict[str, list[str]]:
    """The roles that are whole, a chain with its sets as we would write them -> their parts, as role_rules wants."""
    out = {}
    for role in live.chains:
        if role.startswith("role_") and not live.chains[role]:
            parts = [part for part in ROLE_SETS if live.sets.get(f"{role}_{part}") == ROLE_SETS[part]]
            for more in ([], ["echo_peers"], ["any_peers"]):
                if live.rules[role] == role_rules(role, [*parts, *more]):
                    out[role] = [*parts, *more]
    return out


def _role_rights(live: Model, role: str, parts: list[str], strange: list[str]) -> list[str]:
    allow = []
    for part in parts:
        if part in ("echo_peers", "any_peers"):
            allow.append(f"peers {'icmp' if part == 'echo_peers' else 'any'} -")
        else:
            held = live.elements[f"{role}_{part}"]
            allow += _sound((_right_text(part, key) for key in held), rights.parse, f"{role}_{part}", strange)
    allow.sort(key=rights.parse)
    if role != role_name(allow):
        strange.append(f"the rights of {role} were changed")
    return allow


def _sound(texts: Iterable[str], understand: Callable[[str], object], name: str, strange: list[str]) -> Iterator[str]:
    """The texts that can be understood; the others are somebody else's elements of the set."""
    for text in texts:
        try:
            understand(text)
        except (ValueError, KeyError, OSError):
            strange.append(f"an element of {name} is not ours: {text}")
        else:
            yield text


def _right_text(part: str, key: str) -> str:
    """An element's key as a right; something that cannot be parsed when it is none."""
    if part == "peers":
        return f"peers {key.replace(' . ', ' ')}"
    if part.startswith("ports"):
        destination, _, services = key.partition(" . ")
        return f"{_span_text(destination)} {services.replace(' . ', ' ')}"
    return f"{_span_text(key)} {'icmp' if part.startswith('echo') else 'any'} -"


def _span_text(key: str) -> str:
    """An element's key as a prefix or "LOW-HIGH"."""
    return key if "/" in key or "-" in key else f"{key}/{BITS[family_of(key)]}"


def _prefixes(live: Model, name: str, strange: list[str]) -> list[str]:
    held = [_span_text(key) for f in FAMILIES for key in live.elements.get(name + f, ())]
    return sorted(_sound(held, rights.parse_span, name, strange), key=rights.parse_span)


def _sources(live: Model, allowed: dict[str, list[str]], strange: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in FAMILIES:
        for kind in ("hosts" + f, "networks" + f):
            held = live.elements.get(kind, {})
            for key, element in held.items():
                prefix = _span_text(key)
                if kind.startswith("networks") and (prefix in out or prefix.endswith("/" + BITS[f])):
                    strange.append(f"an element of {kind} is not ours: {prefix}")
                reached = _target_rights(element.target, allowed, prefix, strange)
                out[prefix] = {"peer": element.comment, "allow": reached}
            for other in ("denied_" + kind, *(["peers" + f] if kind.startswith("hosts") else [])):
                if live.elements.get(other, {}).keys() != held.keys():
                    strange.append(f"{other} and {kind} do not hold the same")
    return out


def _target_rights(target: str, allowed: dict[str, list[str]], prefix: str, strange: list[str]) -> list[str]:
    word, _, chain = target.partition(" ")
    if word == "jump" and chain in allowed:
        return allowed[chain]
    strange.append(f"{prefix} leads to {target or 'nothing'}")
    # whatever it leads to, it may let everything through; only a plain drop is known not to
    return [] if word == "drop" else ["0.0.0.0/0 any -", "::/0 any -"]


def _inbound(live: Model, strange: list[str]) -> list[str]:
    out: list[str] = []
    for f in FAMILIES:
        for part in ("ports", "echo", "any"):
            name = f"inbound_{part}{f}"
            ends = (key.partition(" . ")[::2] for key in live.elements.get(name, ()))
            texts = (f"{_span_text(source)} -> {_right_text(part + f, rest)}" for source, rest in ends)
            out += _sound(texts, inbound_order, name, strange)
    return sorted(out, key=inbound_order)


def inbound_order(text: str) -> tuple[Any, ...]:
    """Sorts what is open towards peers: by source, then by right."""
    source, right = text.split(" -> ")
    return rights.parse_span(source), rights.parse(right)
