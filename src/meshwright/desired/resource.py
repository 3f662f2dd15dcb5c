"""A Resource is one thing that exists, or should: an id and plain JSON in the words of the system it lives in.

Wanted and actual are the same type, so that one diff serves every system.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from meshwright.errors import MeshwrightError


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that exists only after another change: attribute `field` of the resource `id`.

    Shown as `(known after apply)`, part of the digest as such, resolved inside the same apply. pattern: what is wanted
    is not the value, but the regular expression that matches it alone.
    """

    id: str
    field: str
    pattern: bool = False

    def __str__(self) -> str:
        return "(known after apply)"


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why nothing may be written to one thing.

    conflict: it exists and is somebody else's; it stays untouched unless it is adopted. waits: its system cannot hold
    such a thing yet (a kind that is not installed).
    """

    kind: Literal["conflict", "waits"]
    why: str
    hint: str = ""
    hostile: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing of one system.

    id: "system/kind/name"; the name may hold further slashes.
    attrs: plain JSON (str, int, bool, None, list, dict), in the system's own words; Unknown may stand for a text.
    secret: paths into attrs whose values are never shown, e.g. ("live", "preshared_key").
    after: ids of what must exist before this; deletes run the other way round. An id that nobody has is ignored.

    Only what is read from the world has these: held: (path, holder) of fields that somebody else wrote; alarm: what was
    done to it that no friend should do; blocked: why it must be left alone.
    """

    id: str
    attrs: Mapping[str, Any]
    secret: frozenset[tuple[str, ...]] = field(default=frozenset())
    after: tuple[str, ...] = ()
    held: tuple[tuple[tuple[str, ...], str], ...] = ()
    alarm: str = ""
    blocked: Blocked | None = None

    @property
    def system(self) -> str:
        return self.id.partition("/")[0]


Resources = Mapping[str, Resource]


def collect(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Resources by id. Two with one id are a bug of ours, never a choice of the last one."""
    out: dict[str, Resource] = {}
    for item in resources:
        if item.id in out:
            raise MeshwrightError(f"two resources are called {item.id}", "report this as a bug, with the mesh file")
        out[item.id] = item
    return out


def pattern(text: str) -> str:
    """What matches exactly this text, in RE2 as in Python's own syntax."""
    return _special.sub(r"\\\g<0>", text)


_special = re.compile(r"[^A-Za-z0-9_/=-]")
_LEAVES = (str, int)  # what most of a tree is


def fill(tree: Any, attrs: Mapping[str, Mapping[str, Any]]) -> Any:
    """The tree with every Unknown replaced whose resource is in `attrs` (id -> attributes); the same object if none is.

    A resource with a saved and a live half answers from the saved one: that is what a reboot comes back to. Where it
    has lost the value ("": a conf that somebody emptied), the live one still knows it.
    """
    if isinstance(tree, Unknown):
        return _answer(tree, attrs)
    if isinstance(tree, list):
        new = tree if _plain(tree) else [fill(item, attrs) for item in tree]
        return new if any(map(operator.is_not, new, tree)) else tree
    if type(tree) is not dict and not isinstance(tree, Mapping):
        return tree
    changed = {}
    for key, value in tree.items():
        if not isinstance(value, _LEAVES) and not _plain(value) and (new := fill(value, attrs)) is not value:
            changed[key] = new
    return {**tree, **changed} if changed else tree


def _plain(value: Any) -> bool:
    """Whether it is a list of texts or numbers, as most lists are: of one kind."""
    return type(value) is list and (not value or isinstance(value[0], _LEAVES))


def _answer(unknown: Unknown, attrs: Mapping[str, Mapping[str, Any]]) -> Any:
    found = attrs.get(unknown.id, {})
    for half in (found, found.get("saved"), found.get("live")):
        if isinstance(half, Mapping) and isinstance(value := half.get(unknown.field), str) and value:
            return pattern(value) if unknown.pattern else value
    return unknown
