"""The mesh's nft table: plain data in, commands of libnftables-json(5) out, and back. Pure; the front of that codec.

    Table = {"name", "interface", "mark", "format", "hub": [prefix], "masquerade": [prefix], "inbound": [text],
             "sources": {prefix: {"peer": label, "allow": [text]}}, "strange": [sentence] (left out when empty)}

Rights are the texts of rights.py, disjoint and in its order. What the table looks like inside is nftform.py.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from typing import Any

from . import rights
from .nftform import BITS, FORMAT, Element, Json, Model, Table, build, family_of, role_name
from .nftread import inbound_order, parse, read, whole_roles

__all__ = ["FORMAT", "between", "create", "listing", "objects", "parse", "role_name", "transaction"]
Command = typing.Dict[str, Any]  # noqa: UP006  Python 3.8 has no dict[...] when it runs


def objects(table: Table) -> list[Json]:
    """What `nft -j list table` would give for the table, without metainfo, handles and counts, in a fixed order."""
    model = build(table)
    place = {"family": "inet", "table": model.name}
    out: list[Json] = [{"table": {"family": "inet", "name": model.name}}]
    for name, definition in model.sets.items():
        held = [_listed(element) for _, element in sorted(model.elements[name].items())]
        kind = "map" if "map" in definition else "set"
        out.append({kind: {**place, "name": name, **definition, **({"elem": held} if held else {})}})
    out += [{"chain": {**place, "name": name, **attrs}} for name, attrs in model.chains.items()]
    for chain, rules in model.rules.items():
        out += [{"rule": {**place, "chain": chain, "expr": rule}} for rule in rules]
    return out


def _listed(element: Element) -> Json:
    extra: dict[str, Any] = {"comment": element.comment} if element.comment else {}
    value = {"elem": {"val": element.value, **extra}} if extra else element.value
    return [value, _verdict(element.target)] if element.target else value


def _verdict(target: str) -> Json:
    word, _, chain = target.partition(" ")
    return {word: {"target": chain} if chain else None}


def create(table: Table) -> list[Command]:
    """The commands that put exactly this table in the place of whatever has its name, in one transaction."""
    return _create(build(table))


def _create(model: Model) -> list[Command]:
    whole = {"table": {"family": "inet", "name": model.name}}
    return [
        {"add": whole},
        {"delete": whole},
        {"add": whole},
        *_add_chains(model, model.chains),
        *_add_sets(model, model.sets),
        *_add_elements(model.name, model.elements),
        *_add_rules(model, model.rules),
    ]


def _place(model_name: str) -> dict[str, str]:
    return {"family": "inet", "table": model_name}


def _add_chains(model: Model, names: Iterable[str]) -> list[Command]:
    return [{"add": {"chain": {**_place(model.name), "name": name, **model.chains[name]}}} for name in names]


def _add_sets(model: Model, names: Iterable[str]) -> list[Command]:
    out = []
    for name in names:
        kind = "map" if "map" in model.sets[name] else "set"
        out.append({"add": {kind: {**_place(model.name), "name": name, **model.sets[name]}}})
    return out


def _add_rules(model: Model, chains: Iterable[str]) -> list[Command]:
    return [
        {"add": {"rule": {**_place(model.name), "chain": chain, "expr": rule}}}
        for chain in chains
        for rule in model.rules.get(chain, ())
    ]


def _add_elements(table: str, elements: dict[str, dict[str, Element]]) -> list[Command]:
    return [
        {"add": {"element": {**_place(table), "name": name, "elem": [_listed(e) for e in held.values()]}}}
        for name, held in elements.items()
        if held
    ]


def _delete_elements(table: str, elements: dict[str, dict[str, Element]]) -> list[Command]:
    out = []
    for name, held in elements.items():
        if held:
            elem = [[e.value, _verdict(e.target)] if e.target else e.value for e in held.values()]
            out.append({"delete": {"element": {**_place(table), "name": name, "elem": elem}}})
    return out


def listing(name: str, family: str = "inet") -> list[Command]:
    """Lists the table, for `nft -j -f -`; as an argument of nft a name like "ip" or "table" is a syntax error."""
    return [{"list": {"table": {"family": family, "name": name}}}]


def transaction(live_objects: list[Json], table: Table) -> list[Command]:
    """The commands that turn what is there into exactly `table`, for ONE `nft -j -f`; [] when nothing differs.

    Element by element, so that the flows of others and their counts go on; the whole table only where its form differs.
    An element whose right or label changes counts from 0 again: nft 1.0.6 cannot be given a count in JSON.
    """
    wanted = build(table)
    live = read(live_objects, table["name"])
    if live is None:
        return _create(wanted)
    if _form_differs(live, wanted):
        return _create(wanted)
    gone: dict[str, dict[str, Element]] = {}
    new: dict[str, dict[str, Element]] = {}
    for name in live.sets.keys() & wanted.sets.keys():
        before, after = live.elements[name], wanted.elements[name]
        gone[name] = {key: e for key, e in before.items() if key not in after or after[key].plain != e.plain}
        new[name] = {key: e for key, e in after.items() if key not in before or before[key].plain != e.plain}
    fresh_sets = [name for name in wanted.sets if name not in live.sets]
    fresh_chains = [name for name in wanted.chains if name not in live.chains]
    new.update({name: wanted.elements[name] for name in fresh_sets})
    return [
        *_delete_elements(live.name, gone),
        *_delete_roles(live, wanted),
        *_add_chains(wanted, fresh_chains),
        *_add_sets(wanted, fresh_sets),
        *_add_elements(wanted.name, new),
        *_add_rules(wanted, fresh_chains),
    ]


def _delete_roles(live: Model, wanted: Model) -> Iterator[Command]:
    for name in live.chains:
        if name not in wanted.chains:
            yield {"flush": {"chain": {**_place(live.name), "name": name}}}
            yield {"delete": {"chain": {**_place(live.name), "name": name}}}
    for name in live.sets:
        if name not in wanted.sets:
            yield {"delete": {"set": {**_place(live.name), "name": name}}}


def _form_differs(live: Model, wanted: Model) -> bool:
    """Whether chains, rules or set definitions differ otherwise than by whole roles of ours that came or went."""
    if live.foreign:
        return True
    if _unequal(live.sets, wanted.sets) or _unequal(live.chains, wanted.chains) or _unequal(live.rules, wanted.rules):
        return True
    mine, theirs = live.sets.keys() | live.chains.keys(), wanted.sets.keys() | wanted.chains.keys()
    whole = {name for role, parts in whole_roles(live).items() for name in (role, *(f"{role}_{p}" for p in parts))}
    return not (mine - theirs <= whole and all(name.startswith("role_") for name in theirs - mine))


def _unequal(live: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return any(live[name] != wanted[name] for name in live.keys() & wanted.keys())


def between(before: Table, target: Table, moved: set[str]) -> Table:
    """The first phase: the rights that both tables have, for the sources that both have and that did not move."""
    stay = {p: s for p, s in target["sources"].items() if p in before["sources"] and p not in moved}
    single = [prefix for prefix in stay if prefix.endswith("/" + BITS[family_of(prefix)])]
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}

    def reduced(had: list[str], has: list[str]) -> list[str]:
        key = (tuple(had), tuple(has))
        if key not in known:
            known[key] = rights.common(had, has, lambda: single)
        return known[key]

    sources = {
        p: {"peer": s["peer"], "allow": reduced(before["sources"][p]["allow"], s["allow"])} for p, s in stay.items()
    }
    out = {key: value for key, value in target.items() if key != "strange"}
    return {**out, "sources": sources, "inbound": _common_inbound(before["inbound"], target["inbound"])}


def _common_inbound(before: list[str], target: list[str]) -> list[str]:
    same = set(before) & set(target)
    found = [text for text in target if text in same]
    for text in (t for t in target if t not in same):
        for other in (t for t in before if t not in same):
            found += _both_inbound(text, other)
    return sorted(found, key=inbound_order)


def _both_inbound(one: str, other: str) -> Iterator[str]:
    (source, right), (other_source, other_right) = one.split(" -> "), other.split(" -> ")
    a, b = rights.parse_span(source), rights.parse_span(other_source)
    low, high = max(a[1], b[1]), min(a[2], b[2])
    if a[0] == b[0] and low <= high:
        span = rights.render_span(a[0], low, high)
        yield from (f"{span} -> {text}" for text in rights.common([right], [other_right], list))
