"""Whose a namespace is, also where labels were taken off it. Pure.

Only who runs the cluster may write to a Namespace, so what it says of itself is believed. What stands inside may be a
friend's work, in whatever namespace he has rights: it says more only where the Namespace bears traces of a mesh.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from meshwright.desired import names
from meshwright.desired.names import MESH, PEER
from meshwright.providers.kubernetes import inside, managed
from meshwright.providers.kubernetes.kinds import TABLE

Object = Mapping[str, Any]
Meshes = Mapping[str, frozenset[str]]
"""Namespace -> the meshes that objects in it say they belong to."""

_PART, _BY = "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by"
TELLING = (inside.BINDING, TABLE["resourcequota"], TABLE["networkpolicy"])
"""Kinds of which every tenant's namespace has an object of ours."""
_WALLS = frozenset({"resourcequota", "limitrange", "networkpolicy"})
_label_value = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?").fullmatch


def meshes(objects: Iterable[Object]) -> Meshes:
    """What walls, and the bindings of tenants' rights, say of the namespaces that they stand in."""
    out: dict[str, set[str]] = {}
    for live in objects:
        meta, kind = live["metadata"], live["kind"].lower()
        telling = wall(kind, meta["name"]) or (kind, meta["name"]) == ("rolebinding", names.ADMIN)
        if telling and (mesh := (meta.get("labels") or {}).get(MESH)):
            out.setdefault(meta["namespace"], set()).add(mesh)
    return {namespace: frozenset(named) for namespace, named in out.items()}


def wall(kind: str, name: str) -> bool:
    """Whether an object of ours limits somebody, or keeps his data, rather than giving a right."""
    if kind == "secret":
        return name.startswith(names.TUNNEL_SECRET)
    return kind in _WALLS or (kind, name) == ("serviceaccount", "default")


def says(space: Object) -> str:
    """The mesh that a Namespace names; "" where it names none."""
    labels = _labels(space)
    return str(labels.get(MESH) or (labels.get(_PART) if labels.get(_BY) == names.MANAGER else "") or "")


def traced(space: Object) -> bool:
    """Whether a Namespace shows that it is, or was, some mesh's."""
    notes = (*_labels(space), *(space["metadata"].get("annotations") or {}))
    ours = any(holder.ours for holder in managed.holders(space))
    return ours or bool(says(space)) or any(note.startswith("meshwright.io/") for note in notes)


def ours(space: Object, mesh: str, within: Collection[str]) -> bool:
    """Whether it bears traces, and nothing says that they are another mesh's. within: the meshes of what is inside."""
    said = says(space)
    others = said != mesh if said else bool(within) and mesh not in within
    return traced(space) and not others


def lost(space: Object, mesh: str, within: Collection[str] = ()) -> tuple[str, ...]:
    """The labels that a tenant's namespace of ours, as it seems, should have and has not; () where nothing is amiss.

    A namespace that is ours and no tenant's (that of the accounts) has no label of a tenant, and no walls inside.
    """
    labels = _labels(space)
    missing = tuple(key for key in (MESH, PEER) if not labels.get(key))
    amiss = MESH in missing or bool(within) or _tenants(space)
    return missing if missing and amiss and ours(space, mesh, within) else ()


def whole(space: Object) -> bool:
    """Whether a Namespace says itself of which mesh and of which peer it is."""
    labels = _labels(space)
    return bool(labels.get(MESH) and labels.get(PEER))


def surely(space: Object, mesh: str, within: Collection[str], filed: bool) -> bool:
    """Whether it is this mesh's, beyond doubt. filed: whether the file has it, for a friend who is in or out."""
    return (filed or says(space) == mesh or set(within) == {mesh}) and ours(space, mesh, within)


def peer(binding: Object, mesh: str, access: str, prefix: str | None) -> str:
    """The peer whose rights a RoleBinding gives, where it is ours; "" for any other.

    access: namespace of the peers' accounts. prefix: of users' names at the API server, where they are users.
    """
    meta = binding["metadata"]
    if meta["name"] != names.ADMIN or (meta.get("labels") or {}).get(MESH) != mesh:
        return ""
    starts = {("ServiceAccount", access): names.PEER_ACCOUNT} | ({} if prefix is None else {("User", ""): prefix})
    for subject in binding.get("subjects") or ():
        start = starts.get((subject["kind"], subject.get("namespace", "")))
        if start is not None and subject["name"].startswith(start):
            name = str(subject["name"]).removeprefix(start)
            return name if _label_value(name) else ""
    return ""


def _labels(space: Object) -> Mapping[str, str]:
    return space["metadata"].get("labels") or {}


def _tenants(space: Object) -> bool:
    """Whether it bears what only tenants' namespaces do."""
    notes = space["metadata"].get("annotations") or {}
    return bool({PEER, names.ADMISSION, names.QUARANTINE} & _labels(space).keys()) or any(
        note.startswith("meshwright.io/") for note in notes
    )
