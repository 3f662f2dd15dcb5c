"""A plan for people and for machines. Both hide what is secret; both are pure functions of the plan."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from meshwright.desired.resource import Blocked, Resource, Unknown
from meshwright.plan.diff import ABSENT, Field, Path
from meshwright.plan.parts import entries, parts
from meshwright.plan.plan import Change, Plan, Verb

MARKS: Mapping[Verb, str] = {"create": "+", "update": "~", "delete": "-"}
VERBS: tuple[Verb, ...] = ("create", "update", "delete")
SECRET = "(secret)"  # noqa: S105
_HALVES = ("saved", "live")
MANY = 8
"""So many things that wait for the same are named in a plan in short."""


Brief = Callable[[str, Mapping[str, Any]], str]
"""Id and attributes of a thing -> what it is in a few words; "" where only all of its fields can say that."""


def text(plan: Plan, brief: Brief | None = None) -> str:
    """One block per change, what is left alone, the reasons why force is needed, and a last line with the digest.

    brief: how what is created or deleted is shown in one line. Without it every field is shown.
    """
    lines = [line for group in _groups(plan.changes, brief) for line in group]
    lines += _left_alone(plan.blocked, MANY if brief else len(plan.blocked))
    lines += [f"! this plan {reason}: it needs --force and a reason" for reason in plan.guard]
    return "\n".join([*lines, summary(plan)])


def summary(plan: Plan) -> str:
    """`3 to create, 1 to update, 0 to delete. digest 4f2a9c01be77`; what is left alone is counted too."""
    counts = Counter(change.verb for change in plan.changes)
    parts = [f"{counts[verb]} to {verb}" for verb in VERBS] if plan else ["Nothing to do"]
    kinds = Counter(why.kind for why in plan.blocked.values())
    if kinds["conflict"]:
        parts.append(f"{kinds['conflict']} left alone: somebody else's")
    if kinds["waits"]:
        parts.append(f"{kinds['waits']} waiting")
    return f"{', '.join(parts)}. digest {plan.digest}"


def as_json(plan: Plan) -> dict[str, Any]:
    """The same as plain JSON. A secret field has `secret: true`, no values; an Unknown `{"unknown": [id, field]}`."""
    counts = Counter(change.verb for change in plan.changes)
    return {
        "digest": plan.digest,
        "summary": {verb: counts[verb] for verb in VERBS},
        "guard": list(plan.guard),
        "changes": [
            {
                "id": change.id,
                "verb": change.verb,
                **({"alarm": change.alarm} if change.alarm else {}),
                "fields": [_field_json(f, change) for f in _leaves(change.fields)],
            }
            for change in plan.changes
        ],
        "blocked": [
            {"id": id, "kind": why.kind, "why": why.why, "hint": why.hint, "hostile": why.hostile}
            for id, why in sorted(plan.blocked.items())
        ],
    }


def masked(attrs: Mapping[str, Any], secret: Iterable[Path]) -> dict[str, Any]:
    """The attributes of a resource as plain JSON, secrets replaced by `(secret)`."""
    paths = frozenset(secret)
    return {key: _masked(value, (key,), paths) for key, value in attrs.items()}


def described(resource: Resource) -> str:
    """One resource as a plan shows its creation, without the mark."""
    return "\n".join(_block(Change(resource.id, None, resource.attrs, resource.secret)))[2:]


def printable(value: object) -> str:
    """Text that cannot move a terminal's cursor: what came from a host may hold escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def _groups(changes: Iterable[Change], brief: Brief | None) -> Iterator[list[str]]:
    """The lines of each change. What is created or deleted alike in several places is said once, in its short form."""
    said = [(change, _short(change, brief)) for change in changes]
    place_left_out = Counter(key for change, short in said if (key := _alike(change, short, 2)))
    groups: dict[tuple[str, ...], list[Change]] = {}
    for change, short in said:
        key = _alike(change, short, 2)
        if place_left_out[key] < 2:
            key = _alike(change, short, -1)
        groups.setdefault(key or (change.id, short), []).append(change)
    for key, group in groups.items():
        yield [f"{MARKS[group[0].verb]} {_together(group)}  {key[-1]}"] if key[-1] else _block(group[0])


def _short(change: Change, brief: Brief | None) -> str:
    attrs = change.wanted if change.before is None else change.before if change.wanted is None else None
    return printable(brief(change.id, attrs)) if brief and attrs and not change.alarm and not change.secret else ""


def _alike(change: Change, short: str, left_out: int) -> tuple[str, ...]:
    """What a change has in common with others that are said in the same words, but for one part of the id."""
    parts = change.id.split("/")
    if not short or (left_out == 2 and len(parts) != 4):
        return ()
    parts[left_out] = ""
    return (change.verb, *parts, short)


def _together(group: list[Change]) -> str:
    """One id, or one for all: `kubernetes/limitrange/{ham,jake}/meshwright-limits`."""
    columns = zip(*(change.id.split("/") for change in group), strict=True)
    return printable("/".join(c[0] if len(set(c)) == 1 else f"{{{','.join(c)}}}" for c in columns))


def _left_alone(blocked: Mapping[str, Blocked], most: int) -> Iterator[str]:
    """What is not touched, and why: `!` for what is somebody else's, `.` for what only waits, together by reason."""
    waiting: dict[tuple[str, str], list[str]] = {}
    for id, why in sorted(blocked.items()):
        if why.kind == "waits":
            waiting.setdefault((why.why, why.hint), []).append(id)
            continue
        yield f"! {printable(id)}{'  HOSTILE' if why.hostile else ''}  {why.kind}: {printable(why.why)}"
        if why.hint:
            yield f"    next: {printable(why.hint)}"
    for (reason, hint), ids in waiting.items():
        if len(ids) == 1:
            yield f". {printable(ids[0])}  {printable(reason)}"
        else:
            yield f". {len(ids)} things: {printable(reason)}"
            yield from (f"    {printable(id)}" for id in ids[:most])
        if len(ids) > most:
            yield f"    and {len(ids) - most} more"
        if hint:
            yield f"    next: {printable(hint)}"


def _holders(path: Path, change: Change) -> list[str]:
    """Who else wrote this field, or something inside it or around it."""
    return sorted({who for held, who in change.held if held[: len(path)] == path or path[: len(held)] == held})


def _block(change: Change) -> list[str]:
    head = f"{MARKS[change.verb]} {printable(change.id)}{f'  {printable(change.alarm)}' if change.alarm else ''}"
    lines = [f"{name}: {value}" for name, value in _shown(change)]
    if len(lines) == 1:
        return [f"{head}  {lines[0]}"]
    return [head, *(f"    {line}" for line in lines)]


def _shown(change: Change) -> Iterator[tuple[str, str]]:
    """Name and value of each field; what is the same in both halves is said once."""
    found = [part for field in _leaves(change.fields) for part in parts(field, change.secret, _value)]
    telling = [field for field in found if not (_says_nothing(field.old) and _says_nothing(field.new))]
    leaves = [(field.path, _values(field, change) + _held(field.path, change)) for field in telling or found]
    by_path = dict(leaves)
    for path, value in leaves:
        twin = _twin(path)
        if twin is None or by_path.get(twin) != value:
            yield printable(".".join(path)), value
        elif path[0] == _HALVES[0]:
            yield printable(".".join(path[1:])), value


def _held(path: Path, change: Change) -> str:
    holders = _holders(path, change) if change.held else []
    return f"  (held by {printable(', '.join(holders))})" if holders else ""


def _twin(path: Path) -> Path | None:
    """The same field of the other half."""
    if path[0] not in _HALVES or len(path) == 1:
        return None
    return (_HALVES[1 - _HALVES.index(path[0])], *path[1:])


def _leaves(fields: Iterable[Field]) -> Iterator[Field]:
    """Fields down to single values: a half that appears or disappears is shown as what is in it."""
    for field in fields:
        old, new = field.old, field.new
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            before = old if isinstance(old, Mapping) else {}
            after = new if isinstance(new, Mapping) else {}
            keys = sorted(before.keys() | after.keys())
            yield from _leaves(Field((*field.path, k), before.get(k, ABSENT), after.get(k, ABSENT)) for k in keys)
        else:
            yield field


def _values(field: Field, change: Change) -> str:
    if _is_secret(field, change.secret):
        return _secret(field, change.verb)
    if change.verb == "create":
        return _value(field.new)
    if change.verb == "delete":
        return _value(field.old)
    return _listed(field) or _lined(field) or f"{_value(field.old)} -> {_value(field.new)}"


def _is_secret(field: Field, secret: Iterable[Path]) -> bool:
    return any(field.path[: len(path)] == path or path[: len(field.path)] == field.path for path in secret) and any(
        not _empty(value) and not isinstance(value, Unknown) for value in (field.old, field.new)
    )


def _empty(value: Any) -> bool:
    return value is ABSENT or value is None or value == ""


def _says_nothing(value: Any) -> bool:
    return _empty(value) or value == []


def _secret(field: Field, verb: Verb) -> str:
    if verb != "update":
        return SECRET
    if _empty(field.old):
        return "(secret, added)"
    return "(secret, removed)" if _empty(field.new) else "(secret, changed)"


def _listed(field: Field) -> str:
    """Two longer lists are shown by what comes and goes, things one on a line with their places; empty where that would
    not say it all."""
    old, new = field.old, field.new
    if not (isinstance(old, list) and isinstance(new, list) and max(len(old), len(new)) > 1):
        return ""
    gone, come = entries(old, new)
    if all(isinstance(thing, Mapping) for thing in (*old, *new)):
        marked = [("-", *entry) for entry in gone] + [("+", *entry) for entry in come]
        return "\n".join(["changed entries", *(f"        {mark} [{at}] {_value(thing)}" for mark, at, thing in marked)])
    names = [[_value(value) for _, value in entry] for entry in (gone, come)]
    if set(names[0]) & set(names[1]):
        return ""  # some only stand elsewhere
    return "; ".join(f"{word} {', '.join(said)}" for word, said in zip(("removes", "adds"), names, strict=True) if said)


def _lined(field: Field) -> str:
    """Two texts of several lines are shown by the lines that go and come; empty for anything else."""
    old, new = field.old, field.new
    if not (isinstance(old, str) and isinstance(new, str) and "\n" in old + new):
        return ""
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm=""))[2:]
    shown = [f"        {line[0]} {printable(line[1:])}" for line in lines if not line.startswith("@@")]
    return "\n".join(["changed lines", *shown]) if shown else ""


def _value(value: Any) -> str:
    if value is ABSENT or value is None:
        return "(absent)"
    if isinstance(value, list):
        return ", ".join(f"[{_value(v)}]" if isinstance(v, list) else _value(v) for v in value) or "(none)"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{printable(key)}: {_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and "\n" in value:
        return f"({value.count(chr(10))} lines)"
    return printable(value) or '""'


def _field_json(field: Field, change: Change) -> dict[str, Any]:
    out: dict[str, Any] = {"path": list(field.path)}
    if holders := _holders(field.path, change):
        out["held_by"] = holders
    if _is_secret(field, change.secret):
        return {**out, "secret": True}
    sides = {"old": field.old, "new": field.new}
    return {**out, **{side: _plain(value) for side, value in sides.items() if value is not ABSENT}}


def _plain(value: Any) -> Any:
    if isinstance(value, Unknown):
        return {"unknown": [value.id, value.field]}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(map(_plain, value)) if isinstance(value, list) else value


def _masked(value: Any, path: Path, secret: frozenset[Path]) -> Any:
    if path in secret:
        return _plain(value) if _empty(value) or isinstance(value, Unknown) else SECRET
    if isinstance(value, Mapping):
        return {key: _masked(inner, (*path, key), secret) for key, inner in value.items()}
    return _plain(value)
