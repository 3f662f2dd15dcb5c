"""The RoleBindings that a tenant made himself: what is kept of them while his namespace is in quarantine. Pure.

They stand as JSON in one annotation of the namespace, which no tenant can write. Finalizers are not kept. There is room
for what an ordinary friend has; who has more loses the largest ones, and their names are kept in another annotation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from meshwright.desired.manifest import ANNOTATIONS, Manifest
from meshwright.desired.names import BINDINGS, LOST, MESH, PREFIX

Binding = Mapping[str, Any]
RBAC = "rbac.authorization.k8s.io/v1"
_META = ("name", "namespace", "labels", "annotations", "ownerReferences")
MOST = 48
"""RoleBindings that are kept: as many as the quota lets a tenant have beside ours, and take back."""
ROOM = 96 * 1024
"""Bytes for all of them, where the namespace's other annotations leave as much."""
SMALL = 4096
"""Bytes up to which one is kept whole; of a larger one what gives rights, and not what is written beside it."""
LONGEST = 253
"""Letters of a name. The server takes longer ones, which are good for nothing but keeping us from deleting them."""
_SPARE = 48 * 1024  # of ANNOTATIONS, for the names of what is lost and for what the mesh itself writes there
_NAMES = 24 * 1024  # bytes
_MORE = "..."


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


def lost(notes: Mapping[str, str]) -> tuple[str, ...]:
    """The names of what could not be kept, as a namespace's annotations tell."""
    try:
        names = json.loads(notes.get(LOST, "[]"))
    except (ValueError, RecursionError):
        return ()
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def merged(notes: Mapping[str, str], live: Iterable[Binding], namespace: str) -> dict[str, str]:
    """The annotations that keep what is kept already and these too; an empty one is left out.

    notes: the namespace's annotations. Of two with one name the live one is the newer. Room is given to small ones
    first, and of these to the oldest: so what somebody makes many of does not drive out what was there before.
    """
    found = {b["metadata"]["name"]: b for b in live if worth_keeping(b)}
    new = {name: _slim(kept(binding)) for name, binding in found.items()}
    made = {name: str(binding["metadata"].get("creationTimestamp")) for name, binding in found.items()}
    sizes = {name: _size(manifest) for name, manifest in new.items()}
    every = {name: _unplaced(m) for name, m in saved(notes.get(BINDINGS), namespace).items() if name not in new}
    left = _room(notes) - _bytes(_text([*every.values()]))
    for name in sorted(new, key=lambda name: (max(sizes[name], SMALL), made[name], sizes[name], name)):
        if sizes[name] <= left and len(every) < MOST and len(name) <= LONGEST:
            every[name] = _unplaced(new[name])
            left -= sizes[name]
    gone = sorted({name[:LONGEST] for name in new.keys() - every.keys()} | set(lost(notes)) - every.keys())
    out = {BINDINGS: _text([every[name] for name in sorted(every)]) if every else "", LOST: _names(gone)}
    return {key: text for key, text in out.items() if text}


def _room(notes: Mapping[str, str]) -> int:
    others = sum(_bytes(k) + _bytes(v) for k, v in notes.items() if k not in (BINDINGS, LOST))
    return min(ROOM, ANNOTATIONS - _SPARE - others)


def _slim(manifest: Manifest) -> Manifest:
    """Without annotations and owners where it is large with them; then without labels."""
    slim = manifest
    for away in ((), ("annotations", "ownerReferences"), ("annotations", "ownerReferences", "labels")):
        meta = {key: value for key, value in manifest["metadata"].items() if key not in away}
        slim = {**manifest, "metadata": meta}
        if _size(slim) <= SMALL:
            break
    return slim


def _size(manifest: Manifest) -> int:
    """Bytes in the annotation, with the comma."""
    return _bytes(_text(_unplaced(manifest))) + 1


def _names(gone: list[str]) -> str:
    """So many of them as there is room for."""
    some: list[str] = []
    left, cut = _NAMES, False
    for name in gone:
        left -= _bytes(_text(name))
        if name == _MORE or left < 0:
            cut = True
        else:
            some.append(name)
    return _text([*some, *([_MORE] if cut else [])]) if gone else ""


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


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
