"""The mark of a namespace in quarantine: the part of the Namespace that is a thing of its own. Pure."""

from __future__ import annotations

from meshwright.desired.manifest import Manifest
from meshwright.desired.names import BINDINGS, QUARANTINE

MARK = "quarantine"
"""Its kind, in ids."""


def mark_id(namespace: str) -> str:
    """The id of a namespace's mark."""
    return f"kubernetes/{MARK}/{namespace}"


def mark(namespace: str, saved: str | None, label: str | None = "true") -> Manifest:
    """The mark as attributes of a Resource. saved: the RoleBindings that it keeps."""
    labels = {} if label is None else {QUARANTINE: label}
    annotations = {} if saved is None else {BINDINGS: saved}
    meta = {"name": namespace, "labels": labels, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
