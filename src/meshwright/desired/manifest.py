"""A Kubernetes object as a Resource: its attributes are the manifest itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshwright.desired.resource import Resource

Manifest = dict[str, Any]
ANNOTATIONS = 256 * 1024
"""Bytes that all annotations of one object may have, names and values (Kubernetes API, ObjectMeta)."""


def id_of(manifest: Mapping[str, Any]) -> str:
    """`kubernetes/rolebinding/ham/meshwright-admin`, or `kubernetes/namespace/ham` for what has no namespace."""
    meta = manifest["metadata"]
    place = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"kubernetes/{manifest['kind'].lower()}/{place}{meta['name']}"


def resource(manifest: Mapping[str, Any], *after: str) -> Resource:
    """The manifest as a Resource; it waits for its namespace, and for the ids in `after`.

    The manifest must be canonical, as the server would give it back: every default inside a list written out (a port's
    protocol, a subject's apiGroup), quantities in their shortest form. An ordinary field that is left out is the
    server's to fill.
    """
    namespace = manifest["metadata"].get("namespace")
    first = (f"kubernetes/namespace/{namespace}",) if namespace else ()
    return Resource(id_of(manifest), manifest, after=(*first, *after))
