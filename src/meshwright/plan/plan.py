"""From what is wanted and what is there to the Plan: changes in order, a digest to approve, and a guard.

A change stores no verb: nothing before means create, nothing after means delete.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from meshwright.desired.resource import Blocked, Resource, Resources, Unknown
from meshwright.errors import MeshwrightError
from meshwright.plan.diff import Field, Path, fields, same

Verb = Literal["create", "update", "delete"]
GUARDED_SHARE = 0.3
EVIDENCE = frozenset({"interface", "table", "namespace", "forward"})
GIVEN = frozenset({"packages"})
"""Kinds of what may be there although this mesh was never applied; they prove nothing."""
SHUT = "quarantine"
"""Kind of what shuts the thing it stands on: that thing stays, and what else stands on it goes because of this."""


@dataclass(frozen=True)
class Change:
    """One resource that is not as wanted. `after` names the changes that must be done before this one.

    held, alarm: as in Resource, of what is there now.
    """

    id: str
    before: Mapping[str, Any] | None
    wanted: Mapping[str, Any] | None
    secret: frozenset[Path] = frozenset()
    after: tuple[str, ...] = ()
    held: tuple[tuple[Path, str], ...] = ()
    alarm: str = ""

    @property
    def verb(self) -> Verb:
        if self.before is None:
            return "create"
        return "delete" if self.wanted is None else "update"

    @property
    def system(self) -> str:
        return self.id.partition("/")[0]

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The leaves that differ, secrets in clear: for providers. Renderings go through plan.text, which masks."""
        return tuple(fields(self.before or {}, self.wanted or {}))


@dataclass(frozen=True)
class Plan:
    """Changes in an order that respects `after`; a digest of exactly these changes; reasons why `--force` is needed.

    blocked: id -> why that thing is left alone; nothing of it is among the changes.
    """

    changes: tuple[Change, ...]
    digest: str
    guard: tuple[str, ...] = ()
    blocked: Mapping[str, Blocked] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def conflicts(self) -> dict[str, Blocked]:
        """What is blocked because it is somebody else's."""
        return {id: blocked for id, blocked in self.blocked.items() if blocked.kind == "conflict"}


def make(wanted: Resources, actual: Resources, adopt: Collection[str] = ()) -> Plan:
    """The plan that turns `actual` into `wanted`. Same input, same plan, in whatever order the input comes.

    adopt: ids of somebody else's things that are to become ours.
    """
    blocked = _blocked(wanted, actual, adopt)
    differing = [
        id for id in wanted.keys() | actual.keys() if id not in blocked and _differs(wanted.get(id), actual.get(id))
    ]
    waits = _waits(set(differing), wanted, actual)
    changes = {id: _change(wanted.get(id), actual.get(id), waits[id]) for id in differing}
    ordered = _order(changes)
    left = {
        id: why for id, why in blocked.items() if _is_blocked(actual.get(id)) or _differs(wanted[id], actual.get(id))
    }
    return Plan(ordered, digest(ordered), tuple(_guard(ordered, wanted, actual)), left)


def _is_blocked(there: Resource | None) -> bool:
    """Whether it must be left alone for itself; what only stands on such a thing and is right needs nothing."""
    return there is not None and there.blocked is not None


def _blocked(wanted: Resources, actual: Resources, adopt: Collection[str]) -> dict[str, Blocked]:
    """What must be left alone, and what stands on it."""
    own = {
        id: there.blocked
        for id, there in actual.items()
        if there.blocked and not (id in adopt and id in wanted and there.blocked.kind == "conflict")
    }
    if not own:
        return {}
    found = {id: own[id] for id in sorted(own)}
    pending = {id: resource.after for id, resource in wanted.items() if id not in own}
    while more := {id: base for id, after in pending.items() for base in after if base in found and base in wanted}:
        for id, base in sorted(more.items()):
            why = found[base]
            found[id] = Blocked("waits", f"it needs {base}, which is left alone", why.hint)
            del pending[id]
    return found


def _differs(wanted: Resource | None, actual: Resource | None) -> bool:
    return wanted is None or actual is None or not same(wanted.attrs, actual.attrs)


def _change(wanted: Resource | None, actual: Resource | None, after: set[str]) -> Change:
    known = [resource for resource in (wanted, actual) if resource]
    return Change(
        id=known[0].id,
        before=actual.attrs if actual else None,
        wanted=wanted.attrs if wanted else None,
        secret=frozenset().union(*(resource.secret for resource in known)),
        after=tuple(sorted(after - {known[0].id})),
        held=actual.held if actual else (),
        alarm=actual.alarm if actual else "",
    )


def _waits(differing: set[str], wanted: Resources, actual: Resources) -> dict[str, set[str]]:
    """What each change waits for: what it stands on is made first, what stands on it is deleted first."""
    waits: dict[str, set[str]] = {id: set() for id in differing}
    for id in differing:
        if id in wanted:
            needs = [*wanted[id].after, *(unknown.id for unknown in unknowns(wanted[id].attrs))]
            waits[id].update(need for need in needs if need in differing and need in wanted)
        else:
            for base in actual[id].after:
                if base in differing and base not in wanted:
                    waits[base].add(id)
    return waits


def unknowns(tree: Any) -> list[Unknown]:
    """All Unknown values of a tree."""
    if isinstance(tree, Unknown):
        return [tree]
    if isinstance(tree, Mapping):
        return [u for value in tree.values() for u in unknowns(value)]
    if isinstance(tree, list) and tree and not isinstance(tree[0], str | int):
        return [u for value in tree for u in unknowns(value)]
    return []


def _order(changes: dict[str, Change]) -> tuple[Change, ...]:
    sorter: TopologicalSorter[str] = TopologicalSorter({id: c.after for id, c in changes.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise MeshwrightError(
            f"these resources wait for each other: {', '.join(sorted(set(error.args[1])))}", "report this as a bug"
        ) from None
    out: list[Change] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        out += [changes[id] for id in ready]
        sorter.done(*ready)
    return tuple(out)


def digest(changes: tuple[Change, ...]) -> str:
    """12 hex digits that stand for exactly these changes. Secrets enter only through a hash of the whole."""
    text = json.dumps([[c.id, c.before, c.wanted] for c in changes], sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if isinstance(value, Unknown):
        return {"(known after apply)": [value.id, value.field, *(["pattern"] if value.pattern else [])]}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"not plain JSON: {type(value).__name__}")


def _guard(changes: tuple[Change, ...], wanted: Resources, actual: Resources) -> list[str]:
    shut = {base for r in wanted.values() if id_kind(r.id) == SHUT for base in (r.id, *r.after)}
    own = [r for r in actual.values() if id_kind(r.id) not in GIVEN]
    counted = [r for r in own if not shut.intersection(r.after)] if shut else own
    had = Counter(resource.system for resource in counted)
    empty = {r.system for r in wanted.values()} - {r.system for r in own}
    goes = {change.id for change in changes if change.verb == "delete"}
    gone = Counter(resource.system for resource in counted if resource.id in goes)
    reasons = [
        f"deletes {gone[system]} of {had[system]} things of {system}"
        for system in sorted(gone)
        if _much(gone[system], had[system])
    ]
    reasons += _shuts(changes, wanted, actual)
    reasons += [f"deletes {c.id}" for c in changes if c.verb == "delete" and _precious(c.id)]
    reasons += [f"replaces the key of {c.id}" for c in changes if _rekeys(c)]
    reasons += [f"makes a new key for {id}, which is known elsewhere by its old one" for id in _reborn(changes)]
    reasons += [
        f"{system} reads empty while {other} shows that this mesh was applied"
        for system, other in sorted(_missed(wanted, actual, empty))
    ]
    return reasons


def _much(part: int, whole: int) -> bool:
    return part > 1 and part > GUARDED_SHARE * whole


def _shuts(changes: tuple[Change, ...], wanted: Resources, actual: Resources) -> Iterator[str]:
    """What is shut counts once, whatever its owner had in it: he could make it weigh as much as he likes."""
    bases = Counter(
        "/".join(base.split("/")[:2])
        for change in changes
        if change.verb == "create" and id_kind(change.id) == SHUT
        for base in wanted[change.id].after
    )
    for kind in sorted(bases):
        there = sum(id.startswith(f"{kind}/") for id in actual)
        if _much(bases[kind], there):
            yield f"shuts {bases[kind]} of {there} things that are {kind}"


def _missed(wanted: Resources, actual: Resources, empty: set[str]) -> set[tuple[str, str]]:
    """(empty system, other) where what proves an earlier apply of `other` stands on things of the empty one."""
    if not empty:
        return set()
    proven = {resource.system for resource in actual.values() if id_kind(resource.id) in EVIDENCE}
    return {
        (base.partition("/")[0], resource.system)
        for resource in wanted.values()
        if resource.system in proven
        for base in resource.after
        if base in wanted and base.partition("/")[0] in empty
    }


def _precious(id: str) -> bool:
    return id.split("/")[1] in ("interface", "namespace")


def _rekeys(change: Change) -> bool:
    return (
        change.verb == "update"
        and id_kind(change.id) == "interface"
        and any(
            f.path[-1] == "public_key" and f.old and isinstance(f.old, str) and isinstance(f.new, str)
            for f in change.fields
        )
    )


def _reborn(changes: tuple[Change, ...]) -> list[str]:
    """Interfaces whose key is not there any more, while others were told it: they would have to be told anew."""
    told = {f.new.id for c in changes for f in c.fields if isinstance(f.old, str) and isinstance(f.new, Unknown)}
    return sorted(c.id for c in changes if c.id in told and id_kind(c.id) == "interface")


def id_kind(id: str) -> str:
    """The kind in "system/kind/name"."""
    return id.split("/", 2)[1]
