"""An object of ours: how it begins, and as a Resource, whose attributes are the manifest itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meshwright.desired.names import labels
from meshwright.desired.resource import Resource

Manifest = dict[str, Any]
ANNOTATIONS = 256 * 1024
"""Bytes that all annotations of one object may have, names and values (Kubernetes API, ObjectMeta)."""


def id_of(manifest: Mapping[str, Any]) -> str:
    """`kubernetes/rolebinding/ham/meshwright-admin`, or `kubernetes/namespace/ham` for what has no namespace."""
    meta = manifest["metadata"]
    place = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"kubernetes/{manifest['kind'].lower()}/{place}{meta['name']}"


def resource(manifest: Mapping[str, Any], *after: str, secret: Iterable[tuple[str, ...]] = ()) -> Resource:
    """The manifest as a Resource; it waits for its namespace, and for the ids in `after`. secret: as in Resource.

    The manifest must be canonical, as the server would give it back: every default inside a list written out (a port's
    protocol, a subject's apiGroup), quantities in their shortest form. An ordinary field that is left out is the
    server's to fill.
    """
    namespace = manifest["metadata"].get("namespace")
    first = (f"kubernetes/namespace/{namespace}",) if namespace else ()
    return Resource(id_of(manifest), manifest, frozenset(secret), (*first, *after))


def make(mesh: str, kind: str, name: str, namespace: str = "", /, **body: Any) -> Manifest:
    """An object of the mesh. kind: `v1/Secret`, `rbac.authorization.k8s.io/v1/Role`."""
    version, _, what = kind.rpartition("/")
    metadata: dict[str, Any] = {"name": name, "labels": labels(mesh)}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": what, "metadata": metadata, **body}


def annotated(manifest: Manifest, more: Mapping[str, str], annotations: Mapping[str, str]) -> Manifest:
    """The object with more labels, and with annotations if there are any."""
    metadata = manifest["metadata"]
    metadata["labels"] |= more
    if annotations:
        metadata["annotations"] = dict(annotations)
    return manifest
