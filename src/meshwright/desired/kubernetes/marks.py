"""The mark of a namespace in quarantine: the part of the Namespace that is a thing of its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from meshwright.desired.manifest import Manifest
from meshwright.desired.names import BINDINGS, LOST, QUARANTINE

MARK = "quarantine"
"""Its kind, in ids."""
NOTES = (BINDINGS, LOST)
"""The annotations that are part of it."""


def mark_id(namespace: str) -> str:
    """The id of a namespace's mark."""
    return f"kubernetes/{MARK}/{namespace}"


def mark(namespace: str, notes: Mapping[str, str], label: str | None = "true") -> Manifest:
    """The mark as attributes of a Resource. notes: annotations of the namespace, those of the mark among them."""
    labels = {} if label is None else {QUARANTINE: label}
    meta = {"name": namespace, "labels": labels, "annotations": {key: notes[key] for key in NOTES if key in notes}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
