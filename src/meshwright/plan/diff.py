"""The difference of two JSON trees, as fields. Tells null from absent and True from 1, inside lists too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf that differs. `old` or `new` is ABSENT where the tree has no such key. Lists are leaves."""

    path: Path
    old: Any
    new: Any


_PLAIN = frozenset({str, int, float, bool, type(None)})


def same(a: Any, b: Any) -> bool:
    """Equality of JSON values that minds the type: True is not 1, 1 is not 1.0."""
    if a is b:
        return True
    kind = type(a)
    if kind in _PLAIN:
        return kind is type(b) and bool(a == b)
    if kind is list and type(b) is list:
        # equal texts are the same; only what == takes for equal beside them has to be looked at one by one
        return a == b and (set(map(type, [*a, *b])) <= {str} or all(map(same, a, b)))
    # asking a type is much cheaper than asking an abstract class, and nearly every tree is made of dicts
    if (kind is dict and type(b) is dict) or (isinstance(a, Mapping) and isinstance(b, Mapping)):
        return a.keys() == b.keys() and all(map(same, a.values(), map(b.__getitem__, a)))
    return kind is type(b) and bool(a == b)


def fields(old: Any, new: Any, path: Path = ()) -> Iterator[Field]:
    """Every leaf in which two trees differ, sorted by path. Equal trees give none, unequal ones at least one."""
    if same(old, new):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from fields(old.get(key, ABSENT), new.get(key, ABSENT), (*path, key))
    else:
        yield Field(path, old, new)
