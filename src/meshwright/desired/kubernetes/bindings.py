"""The RoleBindings that a tenant made himself: what is kept of them while his namespace is in quarantine. Pure.

They stand as JSON in one annotation of the namespace, which no tenant can write. Finalizers are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from meshwright.desired.manifest import Manifest
from meshwright.desired.names import MESH, PREFIX

Binding = Mapping[str, Any]
RBAC = "rbac.authorization.k8s.io/v1"
_META = ("name", "namespace", "labels", "annotations", "ownerReferences")


def foreign(manifest: Mapping[str, Any], mesh: str) -> bool:
    """Whether an object is not this mesh's: its label says nothing, or names another mesh."""
    labels = (manifest.get("metadata") or {}).get("labels") or {}
    return bool(labels.get(MESH) != mesh)


def kept(live: Binding) -> Manifest:
    """A RoleBinding without what the server writes into it."""
    meta = {key: live["metadata"][key] for key in _META if live["metadata"].get(key)}
    out: Manifest = {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": meta, "roleRef": live["roleRef"]}
    return out | ({"subjects": live["subjects"]} if live.get("subjects") else {})


def saved(text: str | None, namespace: str) -> dict[str, Manifest]:
    """The RoleBindings that an annotation keeps, by name. What is none, or bears a name of ours, is left out."""
    try:
        items = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return {}
    found = [item for item in items if _whole(item)] if isinstance(items, list) else []
    return {item["metadata"]["name"]: _placed(item, namespace) for item in found}


def merged(text: str | None, live: Iterable[Binding], namespace: str) -> str | None:
    """The annotation that keeps what is kept already and these too; None where that is nothing.

    Of two with one name the live one is the newer.
    """
    every = saved(text, namespace) | {b["metadata"]["name"]: kept(b) for b in live if worth_keeping(b)}
    items = [_unplaced(every[name]) for name in sorted(every)]
    return json.dumps(items, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if items else None


def worth_keeping(binding: Binding) -> bool:
    """Whether it may be his: names that begin as ours do are nobody's but ours."""
    return not binding["metadata"]["name"].startswith(PREFIX)


def _placed(item: Mapping[str, Any], namespace: str) -> Manifest:
    return kept({**item, "metadata": {**item["metadata"], "namespace": namespace}})


def _unplaced(manifest: Manifest) -> dict[str, Any]:
    meta = {key: value for key, value in manifest["metadata"].items() if key != "namespace"}
    return {key: value for key, value in manifest.items() if key in ("roleRef", "subjects")} | {"metadata": meta}


def _whole(item: Any) -> bool:
    """Whether this is a RoleBinding, down to every text in it."""
    if not isinstance(item, dict) or item.keys() - {"metadata", "roleRef", "subjects"}:
        return False
    meta, subjects = item.get("metadata"), item.get("subjects", [])
    return (
        _described(meta) and _texts(item.get("roleRef")) and isinstance(subjects, list) and all(map(_texts, subjects))
    )


def _described(meta: Any) -> bool:
    if not isinstance(meta, dict) or meta.keys() - set(_META):
        return False
    name, owners = meta.get("name"), meta.get("ownerReferences", [])
    named = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "%"}
    described = _texts(meta.get("labels", {})) and _texts(meta.get("annotations", {}))
    owned = isinstance(owners, list) and all(isinstance(owner, dict) for owner in owners)
    return named and described and owned and worth_keeping({"metadata": meta})


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
