"""A live object as a Resource's attributes: the part of it that is to be compared with what is wanted. Pure.

That is every declared field, every field that we hold, and every field of the body that somebody else holds and we do
not declare: it has no business on an object of ours. What nobody holds is the server's own (a default), and so is what
controllers keep by nature. Labels and annotations are everybody's: only the declared ones and those we hold count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshwright.desired.names import MANAGER
from meshwright.desired.quantity import nano
from meshwright.plan.diff import fields, same
from meshwright.providers.kubernetes import managed
from meshwright.providers.kubernetes.kinds import ABOUT, TABLE, Kind, Path
from meshwright.providers.kubernetes.managed import Holder, Tree

Attrs = Mapping[str, Any]

_NATURE: Mapping[str, frozenset[str]] = {
    "Namespace": frozenset({"spec"}),  # finalizers
    "ServiceAccount": frozenset({"secrets"}),  # tokens that controllers hang on it
}
_NOTES = ("labels", "annotations")


@dataclass(frozen=True)
class View:
    """attrs: what is compared. strays: paths that are there, somebody's, and not declared: they have to go."""

    attrs: Attrs
    strays: tuple[Path, ...]


def view(live: Attrs, declared: Attrs | None) -> View:
    """The part of a live object that counts, when `declared` is wanted; None: nothing is."""
    want = declared or {}
    kind = TABLE[live["kind"].lower()]
    there = managed.holders(live)
    attrs, strays = _metadata(live["metadata"], want.get("metadata") or {}, there)
    out = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": attrs}
    wanted_body = {key: value for key, value in want.items() if key not in ABOUT}
    if not kind.whole(declared):
        return View({**out, **wanted_body}, tuple(strays))
    body = _body(live)
    held = managed.union(holder.fields for holder in there)
    ours = managed.union(holder.fields for holder in there if holder.ours)
    forgotten = not ours and any(not managed.holds(held, path) for path in _leaves(wanted_body, body))
    spot = _Spot(kind, (), held or None, ours or None, forgotten, strays)
    return View({**out, **_kept(body, wanted_body, spot)}, tuple(strays))


def held(live: Attrs, attrs: Attrs, declared: Attrs) -> tuple[tuple[Path, str], ...]:
    """Who else holds the fields in which `attrs`, the view of a live object, is not as declared."""
    others = [holder for holder in managed.holders(live) if holder.manager != MANAGER]
    if not others:
        return ()
    return tuple(
        (field.path, holder.manager)
        for field in fields(attrs, declared)
        for holder in others
        if managed.holds(holder.fields, field.path)
    )


def shared(live: Attrs, attrs: Attrs, declared: Attrs) -> bool:
    """Whether a list is not as declared that others hold, or nobody: apply would leave their entries in it."""
    lists = [field.path for field in fields(attrs, declared) if isinstance(field.old, list)]
    there = managed.holders(live)
    return any(
        not any(holder.ours and managed.holds(holder.fields, path) for holder in there)
        or any(not holder.ours and managed.holds(holder.fields, path) for holder in there)
        for path in lists
    )


def _body(live: Attrs) -> dict[str, Any]:
    nature = _NATURE.get(live["kind"], frozenset())
    return {key: value for key, value in live.items() if key not in ABOUT | nature and key != "status"}


def _metadata(meta: Attrs, want: Attrs, there: tuple[Holder, ...]) -> tuple[dict[str, Any], list[Path]]:
    """The name, and the labels and annotations that are declared or of our making; and which of them have to go.

    What is being deleted says so: it is not what is wanted any more, whatever else it says.
    """
    out: dict[str, Any] = {key: meta[key] for key in ("name", "namespace", "deletionTimestamp") if meta.get(key)}
    strays: list[Path] = []
    for note in _NOTES:
        declared = want.get(note) or {}
        own = {
            key
            for holder in there
            if holder.manager == MANAGER
            for key in ((holder.fields.get("metadata") or {}).get(note) or {})
        }
        found = {key: value for key, value in (meta.get(note) or {}).items() if key in declared or key in own}
        strays += [("metadata", note, key) for key in found if key not in declared]
        if found or note in want:
            out[note] = found
    return out, strays


@dataclass(frozen=True)
class _Spot:
    """One place in an object. held, ours: what anybody, and what we hold there; None: nothing.

    whole: everything below counts, because nobody remembers whose it is. strays: gathers what has to go.
    """

    kind: Kind
    path: Path
    held: Tree | None
    ours: Tree | None
    whole: bool
    strays: list[Path]

    def at(self, key: str) -> _Spot:
        # what we hold in one piece may have had defaults put into it; had somebody else changed it, it would be his
        mine = self.held == {} and self.ours == {}
        held = None if mine else _below(self.held, key)
        return _Spot(self.kind, (*self.path, key), held, _below(self.ours, key), self.whole, self.strays)

    def counts(self, value: Any) -> bool:
        if self.path in self.kind.defaults and same(self.kind.defaults[self.path], value):
            return False
        return self.whole or self.held is not None


def _below(tree: Tree | None, key: str) -> Tree | None:
    return tree.get(key) if tree else tree


def _kept(live: Attrs, declared: Attrs, spot: _Spot) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in live.items():
        if value is None:
            continue
        if key in declared:
            out[key] = _declared(value, declared[key], key, spot)
        elif (here := spot.at(key)).counts(value):
            out[key] = _shown(value, here)
            spot.strays.append(here.path)
    # the server keeps no empty lists and maps, or null in their place: none is as good as an empty one
    return out | {key: value for key, value in declared.items() if live.get(key) is None and value in ([], {})}


def _declared(value: Any, want: Any, key: str, spot: _Spot) -> Any:
    if isinstance(value, Mapping) and isinstance(want, Mapping):
        return _kept(value, want, spot.at(key))
    return want if spot.kind.amounts and _as_much(value, want) else value


def _shown(value: Any, here: _Spot) -> Any:
    if here.whole or not isinstance(value, Mapping) or not here.held:
        return value
    return {key: _shown(inner, here.at(key)) for key, inner in value.items() if key in here.held}


def _leaves(declared: Attrs, live: Attrs, path: Path = ()) -> Iterator[Path]:
    """The paths of declared values that are there."""
    for key, value in declared.items():
        if key not in live:
            continue
        if isinstance(value, Mapping) and value and isinstance(live[key], Mapping):
            yield from _leaves(value, live[key], (*path, key))
        else:
            yield (*path, key)


def _as_much(a: Any, b: Any) -> bool:
    """Equality that takes quantities by their value: 0.5 is 500m, and the number 4 is "4"."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_as_much(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_as_much, a, b))
    if same(a, b):
        return True
    try:
        return isinstance(a, str) and type(b) in (str, int) and _milli(a) == _milli(str(b))
    except ValueError:
        return False


def _milli(amount: str) -> int:
    """Thousandths: what is less the server rounds up, in the lists of resources that we have."""
    return -(-nano(amount) // 10**6)
