"""What is in the cluster and ours: one LIST per kind, whatever the number of objects. Reads, never writes.

Ours is what bears the mesh's label. In a tenant's namespace it is also what our manager holds without that label: then
somebody took the label off. An object that is wanted and somebody else's is a conflict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from meshwright.desired.names import MESH, PEER, QUARANTINE
from meshwright.desired.resource import Blocked, Resource, Resources
from meshwright.errors import ClusterError
from meshwright.io.cluster import Cluster, Object
from meshwright.plan.diff import same
from meshwright.providers.kubernetes import managed, project
from meshwright.providers.kubernetes.kinds import SYSTEM, TABLE, Kind, Place, place_of

AT_ONCE = 8


@dataclass(frozen=True)
class Seen:
    """resources: what is there and ours, or in the way of what is wanted. live: the same, as the server has it."""

    resources: dict[str, Resource] = field(default_factory=dict)
    live: dict[str, Object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Eyes:
    """What an object is judged by. tenants: names of tenants' namespaces. ending: those that end with all in them."""

    mesh: str
    wanted: Resources
    tenants: frozenset[str]
    ending: frozenset[str]


def look(cluster: Cluster, mesh: str, wanted: Resources, kinds: Collection[Kind]) -> Seen:
    """Every object of these kinds that matters. What is wanted of a kind that the cluster does not know has to wait."""
    namespaces = TABLE["namespace"]
    lists = _lists(cluster, {*kinds, namespaces})
    spaces = lists[namespaces] or ()
    ending = frozenset(space["metadata"]["name"] for space in spaces if offboarded(space))
    eyes = _Eyes(mesh, wanted, _tenants(mesh, wanted, spaces), ending)
    seen = Seen()
    for kind in kinds:
        found = lists[kind]
        if found is None:
            seen.resources.update(_waiting(kind, wanted))
        for live in found or ():
            if resource := _judged(live, eyes):
                seen.resources[resource.id] = resource
                seen.live[resource.id] = live
    return seen


def offboarded(space: Mapping[str, Any]) -> bool:
    """Whether somebody deletes a namespace that was in quarantine: nobody has a right in it any more, let it go."""
    meta = space["metadata"]
    return "deletionTimestamp" in meta and QUARANTINE in (meta.get("labels") or {})


def again(cluster: Cluster, where: Place) -> Object | None:
    """One object as it is now; None when it is gone."""
    found = listed(cluster, where.kind, where.namespace, f"metadata.name={where.name}")
    return found[0] if found else None


def listed(cluster: Cluster, kind: Kind, namespace: str = "", fields: str = "") -> list[Object]:
    """The objects of a kind; of what is opaque only the metadata."""
    found = cluster.list(kind.collection(namespace), field=fields, metadata=kind.opaque)
    return [{**live, "apiVersion": kind.api, "kind": kind.name} for live in found]


def _lists(cluster: Cluster, kinds: Iterable[Kind]) -> dict[Kind, list[Object] | None]:
    """None for a kind that the cluster does not know. Any other failure fails all: half a look could look like none."""

    def ask(kind: Kind) -> list[Object] | None:
        try:
            return listed(cluster, kind)
        except ClusterError as error:
            if error.status == 404 and kind.optional:
                return None
            if error.status == 403:
                hint = f"give this user the right to list {kind.full_name} in the whole cluster, or use another context"
                raise ClusterError(f"may not list {kind.full_name}: {error.message}", hint, 403, error.reason) from None
            raise

    ordered = list(kinds)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(ordered, pool.map(ask, ordered), strict=True))


def _tenants(mesh: str, wanted: Resources, namespaces: Iterable[Object]) -> frozenset[str]:
    spaces = [*namespaces, *(r.attrs for r in wanted.values() if r.id.startswith(f"{SYSTEM}/namespace/"))]
    return frozenset(
        space["metadata"]["name"]
        for space in spaces
        if (labels := space["metadata"].get("labels") or {}).get(MESH) == mesh and PEER in labels
    )


def _waiting(kind: Kind, wanted: Resources) -> dict[str, Resource]:
    what = "CRD" if kind.api.startswith("monitoring.") else "API"
    blocked = Blocked("waits", f"waits for the {what} {kind.full_name}", kind.optional)
    prefix = f"{SYSTEM}/{kind.key}/"
    return {id: Resource(id, {}, blocked=blocked) for id in wanted if id.startswith(prefix)}


def _judged(live: Object, eyes: _Eyes) -> Resource | None:
    """The object as a Resource; None when it is nothing to us."""
    meta = live["metadata"]
    mesh = (meta.get("labels") or {}).get(MESH)
    where = place_of(live)
    want = eyes.wanted.get(where.id)
    inside = where.namespace in eyes.tenants
    if want is None and where.namespace in eyes.ending:
        return None
    if mesh == eyes.mesh:
        return _resource(live, where, want) if want or _prunable(live, where) else None
    if mesh is None and _ours(live) and (want or inside):
        his = inside or (where.kind.key == "namespace" and where.name in eyes.tenants)
        alarm = f"HOSTILE: its label {MESH} was taken off" if his else ""
        return _resource(live, where, want, alarm) if want or _prunable(live, where) else None
    if want is None:
        return None
    if mesh is None and where.kind.key == "serviceaccount" and where.name == "default":
        return _resource(live, where, want)  # the cluster itself makes it in every namespace
    why = f"it is there and not of this mesh: {owner(live)}"
    return _resource(
        live, where, want, blocked=Blocked("conflict", why, f"meshwright apply --adopt {where.id}", inside)
    )


def _ours(live: Object) -> bool:
    return any(holder.ours for holder in managed.holders(live))


def _prunable(live: Object, where: Place) -> bool:
    """Whether it may go when it is no longer wanted: never a namespace, nor what somebody has put data into."""
    if where.kind.key == "namespace":
        return False
    return not (where.kind.opaque and any("data" in holder.fields for holder in managed.holders(live)))


def _resource(
    live: Object, where: Place, want: Resource | None, alarm: str = "", blocked: Blocked | None = None
) -> Resource:
    attrs = project.view(live, want.attrs if want else None).attrs
    differs = want is not None and not same(attrs, want.attrs)
    return Resource(
        where.id,
        want.attrs if want and not differs else attrs,  # the same object: comparing it again costs nothing
        after=want.after if want else tuple(_bases(live, where)),
        held=project.held(live, attrs, want.attrs) if want and differs else (),
        alarm=alarm,
        blocked=blocked,
    )


def _bases(live: Mapping[str, Any], where: Place) -> Iterable[str]:
    """What an object stands on, for the order of deletions."""
    if where.namespace:
        yield f"{SYSTEM}/namespace/{where.namespace}"
    if role := live.get("roleRef"):
        inside = f"{where.namespace}/" if role["kind"] == "Role" else ""
        yield f"{SYSTEM}/{role['kind'].lower()}/{inside}{role['name']}"
    if policy := (live.get("spec") or {}).get("policyName"):
        yield f"{SYSTEM}/validatingadmissionpolicy/{policy}"


_OWNERS = (
    ("annotations", "meta.helm.sh/release-name", "the Helm release {}"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "the Flux Kustomization {}"),
    ("labels", "helm.toolkit.fluxcd.io/name", "the Flux HelmRelease {}"),
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD ({})"),
    ("labels", "argocd.argoproj.io/instance", "the Argo CD application {}"),
    ("labels", MESH, "the mesh {}"),
)


def owner(live: Mapping[str, Any]) -> str:
    """Whose an object is, as far as it says so itself."""
    meta = live["metadata"]
    said = [text.format(meta[note][key]) for note, key, text in _OWNERS if key in (meta.get(note) or {})]
    writers = sorted({holder.manager for holder in managed.holders(live)})
    said += [f"written by {', '.join(writers)}"] if writers else []
    return ", ".join(said) or "it does not say whose it is"
