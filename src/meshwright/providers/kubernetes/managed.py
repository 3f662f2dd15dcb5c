"""Who holds which field of an object, as metadata.managedFields tells. Pure.

Format: "Server-side apply" of the Kubernetes documentation, FieldsV1. Lists are leaves here, as they are in a plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshwright.desired.names import MANAGER

Path = tuple[str, ...]
Tree = Mapping[str, Any]
"""Field name -> Tree of the fields inside; an empty one is a field held as a whole: a value, a list, one piece."""
_ENTRIES = frozenset({"k:", "v:", "i:"})


@dataclass(frozen=True, slots=True)
class Holder:
    """One manager of an object. ours: it is we, by server-side apply, which is the only way in which we own a field."""

    manager: str
    ours: bool
    fields: Tree


def holders(live: Mapping[str, Any]) -> tuple[Holder, ...]:
    """Every manager of an object but those of its subresources: what they hold is nobody's wish."""
    return tuple(
        Holder(
            str(entry.get("manager") or "somebody"),
            entry.get("manager") == MANAGER and entry.get("operation") == "Apply",
            tree(entry.get("fieldsV1") or {}),
        )
        for entry in live["metadata"].get("managedFields") or ()
        if not entry.get("subresource")
    )


def tree(fields: Mapping[str, Any]) -> Tree:
    """FieldsV1 as a Tree: `f:NAME` are fields; keys and values of a list (k:, v:, i:) make it a leaf."""
    out: dict[str, Tree] = {}
    for key, inner in fields.items():
        mark = key[:2]
        if mark == "f:":
            out[key[2:]] = tree(inner)
        elif mark in _ENTRIES:
            return {}
    return out


def union(trees: Iterable[Tree]) -> Tree:
    """What any of them holds."""
    out: dict[str, Any] = {}
    for each in trees:
        for key, inner in each.items():
            out[key] = union((out[key], inner)) if key in out else inner
    return out


def holds(fields: Tree, path: Path) -> bool:
    """Whether a manager holds this field, something inside it, or what it is a part of."""
    for depth, step in enumerate(path):
        if step not in fields:
            return depth > 0 and not fields
        fields = fields[step]
    return True


def without(entries: Iterable[Mapping[str, Any]], paths: Iterable[Path]) -> list[Mapping[str, Any]]:
    """managedFields in which nobody but we, by apply, holds anything at or below these paths."""
    gone = tuple(paths)
    out: list[Mapping[str, Any]] = []
    for entry in entries:
        kept = entry
        if not entry.get("subresource") and not (entry.get("manager") == MANAGER and entry["operation"] == "Apply"):
            fields = entry.get("fieldsV1") or {}
            for path in gone:
                fields = _without(fields, path)
            kept = {**entry, "fieldsV1": fields}
        if kept.get("fieldsV1"):
            out.append(kept)
    return out


def _without(fields: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    key = f"f:{path[0]}"
    if key not in fields:
        return fields
    inner = _without(fields[key], path[1:]) if len(path) > 1 else {}
    rest = {name: value for name, value in fields.items() if name != key}
    return {**rest, key: inner} if inner and inner.keys() != {"."} else rest
