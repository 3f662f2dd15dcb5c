"""A list in a plan as those of its things that differ, so that one friend more is one line. Pure; for people only.

Things with names are told apart by them, wherever they stand: `rules.MeshPeerMissing.for`. Without names the place in
the list tells them apart, counted from 0. What only stands elsewhere is said too.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from meshwright.plan.diff import ABSENT, Field, Path, fields, same

Key = TypeVar("Key", bound=Hashable)
Say = Callable[[Any], str]
PLACE = "(place)"
"""The field that says where in its list a thing stands."""


def parts(field: Field, secret: Iterable[Path], say: Say) -> Iterator[Field]:
    """The field, or what differs in it. What has to do with a secret stays whole: a name may be part of it.

    say: how a value reads, for labels that are part of a name.
    """
    if any(field.path[: len(path)] == path or path[: len(field.path)] == field.path for path in secret):
        yield field
    else:
        yield from _parts(field, say)


def _parts(field: Field, say: Say) -> Iterator[Field]:
    old, new = _named(field.old, say), _named(field.new, say)
    alone = not old.keys() & new.keys()
    if _one(field.old) and _one(field.new) and not (old or new):
        yield from _within(field.old[0], field.new[0], (*field.path, "0"), say)
    elif alone and not any(_holds(thing, say) for thing in (*old.values(), *new.values())):
        yield field  # short, and nothing of it is the same
    else:
        yield from _by_name(old, new, field.path, say)
        if not (old or new):
            yield field


def _by_name(old: Mapping[str, Any], new: Mapping[str, Any], path: Path, say: Say) -> Iterator[Field]:
    elsewhere = set(moved(list(old), list(new)))
    was, now = ({name: at for at, name in enumerate(things)} for things in (old, new))
    for name in {**old, **new}:
        before, after = old.get(name, ABSENT), new.get(name, ABSENT)
        yield from _within(before, after, (*path, name), say)
        if name in elsewhere:
            yield Field((*path, name, PLACE), was[name], now[name])


def _within(old: Any, new: Any, path: Path, say: Say) -> Iterator[Field]:
    """What differs in one thing; of one that comes or goes its own fields are told apart from the things in it."""
    if same(old, new):
        return
    if old is not ABSENT and new is not ABSENT:
        for inner in fields(old, new, path):
            yield from _parts(inner, say)
        return
    thing = new if old is ABSENT else old
    inside = _holds(thing, say)
    rest = {key: value for key, value in thing.items() if key not in inside}
    if rest:
        yield _beside(path, rest, old is ABSENT)
    for key in inside:
        yield from _parts(_beside((*path, key), thing[key], old is ABSENT), say)


def _beside(path: Path, value: Any, come: bool) -> Field:
    return Field(path, ABSENT, value) if come else Field(path, value, ABSENT)


def _holds(thing: Mapping[str, Any], say: Say) -> list[str]:
    """The keys under which it has things with names."""
    return [key for key, value in thing.items() if _named(value, say)]


def _one(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping)


def _named(value: Any, say: Say) -> dict[str, Any]:
    """The things of a list by what tells them apart; nothing where that is not so for each."""
    things = value if isinstance(value, list) else []
    found = {_name(thing, say): thing for thing in things if isinstance(thing, Mapping)}
    return found if len(found) == len(things) and "" not in found else {}


def _name(thing: Mapping[str, Any], say: Say) -> str:
    """A rule that records is told apart from others of its name by its labels."""
    found = next((thing[key] for key in ("alert", "record", "name") if isinstance(thing.get(key), str)), "")
    labels = thing.get("labels") if found and "record" in thing else None
    return f"{found}{say(labels)}" if labels else str(found)


def entries(old: Sequence[Any], new: Sequence[Any]) -> tuple[list[tuple[int, Any]], list[tuple[int, Any]]]:
    """(what goes, what comes), each with its place in its own list. What stands elsewhere both goes and comes."""
    was, now = _keys(old), _keys(new)
    kept = set(was) & set(now) - set(moved(was, now))
    gone = [(at, value) for at, (key, value) in enumerate(zip(was, old, strict=True)) if key not in kept]
    come = [(at, value) for at, (key, value) in enumerate(zip(now, new, strict=True)) if key not in kept]
    return gone, come


def _keys(values: Iterable[Any]) -> list[tuple[str, int]]:
    """Each value as text that no other value has; of the same ones each a little different."""
    seen: Counter[str] = Counter()
    out = []
    for value in values:
        text = json.dumps(value, sort_keys=True, default=repr)
        out.append((text, seen[text]))
        seen[text] += 1
    return out


def moved(old: Sequence[Key], new: Sequence[Key]) -> list[Key]:
    """Of what is in both, the fewest without which the rest stands in the same order. Nothing comes twice in a list."""
    place = {key: at for at, key in enumerate(new)}
    both = [key for key in old if key in place]
    ends: list[int] = []  # for each length of a rising row the lowest place that one can end at
    best: list[int] = []  # the longest that ends with each of `both`
    for key in both:
        at = bisect_left(ends, place[key])
        ends[at : at + 1] = [place[key]]
        best.append(at)
    stays, length, limit = set(), len(ends) - 1, len(new)
    for key, reach in zip(reversed(both), reversed(best), strict=True):
        if reach == length and place[key] < limit:
            stays.add(key)
            length, limit = length - 1, place[key]
    return [key for key in both if key not in stays]
