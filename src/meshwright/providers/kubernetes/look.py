"""What is in the cluster and ours: one LIST per kind, whatever the number of objects. Reads, never writes.

Ours is what bears the mesh's label. In a tenant's namespace it is also what our manager holds without that label: then
somebody took the label off. An object that is wanted and somebody else's is a conflict. So is a namespace that seems to
be a tenant's and nobody looks after: no wall in it is taken down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from meshwright.desired.names import MESH, PEER, QUARANTINE
from meshwright.desired.resource import Blocked, Resource, Resources
from meshwright.errors import ClusterError
from meshwright.io.cluster import Cluster, Object
from meshwright.plan.diff import same
from meshwright.providers.kubernetes import claims, managed, project
from meshwright.providers.kubernetes.kinds import SYSTEM, TABLE, Kind, Place, place_of

AT_ONCE = 4
"""LISTs at once. Each needs a connection, and making one costs both sides more than most LISTs do."""


@dataclass(frozen=True)
class Seen:
    """resources: what is there and ours, or in the way of what is wanted. live: the same, as the server has it."""

    resources: dict[str, Resource] = field(default_factory=dict)
    live: dict[str, Object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Eyes:
    """What an object is judged by, by the names of namespaces.

    tenants: those of tenants. ending: those that end with all in them. kept: those that are wanted, and may be written.
    within: the meshes that say of a namespace that it is theirs, by what is inside.
    """

    mesh: str
    wanted: Resources
    tenants: frozenset[str]
    ending: frozenset[str]
    kept: frozenset[str]
    within: claims.Meshes


def look(cluster: Cluster, mesh: str, wanted: Resources, kinds: Collection[Kind]) -> Seen:
    """Every object of these kinds that matters. What is wanted of a kind that the cluster does not know has to wait."""
    namespaces = TABLE["namespace"]
    lists = _lists(cluster, {*kinds, namespaces})
    spaces = lists[namespaces] or ()
    ending = frozenset(space["metadata"]["name"] for space in spaces if offboarded(space))
    within = claims.meshes(live for found in lists.values() for live in found or ())
    kept = _kept(mesh, wanted, spaces, within)
    eyes = _Eyes(mesh, wanted, _tenants(mesh, wanted, spaces), ending, kept, within)
    seen = Seen()
    for kind in kinds:
        found = lists[kind]
        if found is None:
            seen.resources.update(_waiting(kind, wanted))
        for each in found or ():
            live = _whole(cluster, each, wanted)
            if live and (resource := _judged(live, eyes)):
                seen.resources[resource.id] = resource
                seen.live[resource.id] = live
    seen.resources.update(_homeless(spaces, wanted))
    for space in spaces:
        if resource := _disowned(space, eyes):
            seen.resources[resource.id] = resource
    return seen


def offboarded(space: Mapping[str, Any]) -> bool:
    """Whether somebody deletes a namespace that was in quarantine: nobody has a right in it any more, let it go."""
    meta = space["metadata"]
    return "deletionTimestamp" in meta and QUARANTINE in (meta.get("labels") or {})


def again(cluster: Cluster, where: Place, declared: Mapping[str, Any] | None = None) -> Object | None:
    """One object as it is now, as much of it as is compared with what is declared; None when it is gone."""
    named = f"metadata.name={where.name}"
    found = listed(cluster, where.kind, where.namespace, named, whole=where.kind.whole(declared))
    return found[0] if found else None


def listed(
    cluster: Cluster, kind: Kind, namespace: str = "", fields: str = "", *, whole: bool | None = None
) -> list[Object]:
    """The objects of a kind; of what is opaque or crowded only the metadata, where not the whole is asked for."""
    whole = kind.whole(None) if whole is None else whole
    found = cluster.list(kind.collection(namespace), field=fields, metadata=not whole)
    return [{**live, "apiVersion": kind.api, "kind": kind.name} for live in found]


def _whole(cluster: Cluster, live: Object, wanted: Resources) -> Object | None:
    """The object with all that has to be compared; None where it has gone meanwhile."""
    where = place_of(live)
    want = wanted.get(where.id)
    return again(cluster, where, want.attrs) if want and where.kind.whole(want.attrs) > where.kind.whole(None) else live


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


def _kept(mesh: str, wanted: Resources, spaces: Iterable[Object], within: claims.Meshes) -> frozenset[str]:
    """Namespaces that are wanted and no conflict."""
    names = {r.attrs["metadata"]["name"] for r in wanted.values() if r.id.startswith(f"{SYSTEM}/namespace/")}
    there = {space["metadata"]["name"]: space for space in spaces}
    return frozenset(n for n in names if n not in there or claims.ours(there[n], mesh, within.get(n, ())))


def _disowned(space: Object, eyes: _Eyes) -> Resource | None:
    """A namespace that seems to be a tenant's of this mesh and is not wanted, for it cannot be said whose it is.

    Walls of ours in it stay up; a friend can make such objects too, wherever he has rights: so nothing else is done.
    """
    where = place_of({**space, "kind": "Namespace"})
    if where.name in eyes.kept or where.name in eyes.ending or where.id in eyes.wanted:
        return None
    within = eyes.within.get(where.name, frozenset())
    lost = claims.lost(space, eyes.mesh, within)
    if not lost and eyes.mesh not in within:
        return None
    why = f"{' and '.join(lost)} taken off" if lost else f"not of the mesh {eyes.mesh} by its labels"
    why += f", but walls of {eyes.mesh} stand in it" if eyes.mesh in within else ""
    hint = f"if a friend of {eyes.mesh} had it: kubectl label namespace {where.name} {MESH}={eyes.mesh} {PEER}=NAME, "
    hint += "then apply" + (f"; else delete what bears the label {MESH}={eyes.mesh} in it" if within else "")
    return Resource(where.id, {}, blocked=Blocked("conflict", why, hint, hostile=True))


def _homeless(spaces: Iterable[Object], wanted: Resources) -> Iterator[tuple[str, Resource]]:
    """What is wanted in a namespace of somebody else's that is not there yet."""
    there = {space["metadata"]["name"] for space in spaces}
    for id, want in wanted.items():
        name = want.attrs["metadata"].get("namespace")
        if name and name not in there and f"{SYSTEM}/namespace/{name}" not in wanted:
            hint = f"kubectl create namespace {name}, then apply again; or name another one in the mesh file"
            yield id, Resource(id, {}, blocked=Blocked("waits", f"waits for the namespace {name}", hint))


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
    stays = where.namespace not in eyes.kept and claims.wall(where.kind.key, where.name)
    copied = where.kind.crowded and (inside or not _wrote(live))
    if want is None and (where.namespace in eyes.ending or stays or copied):
        return None
    if mesh == eyes.mesh:
        return _resource(live, where, want) if want or _prunable(live, where) else None
    if mesh is None and _ours(live, where, eyes) and (want or inside):
        his = inside or (where.kind.key == "namespace" and where.name in eyes.tenants)
        alarm = f"HOSTILE: its label {MESH} was taken off" if his else ""
        return _resource(live, where, want, alarm) if want or _prunable(live, where) else None
    if want is None:
        return None
    if mesh is None and where.kind.key == "serviceaccount" and where.name == "default":
        return _resource(live, where, want)  # the cluster itself makes it in every namespace
    why = f"it is there and not of this mesh: {owner(live)}"
    hostile = inside or (where.kind.key == "namespace" and eyes.mesh in eyes.within.get(where.name, ()))
    return _resource(
        live, where, want, blocked=Blocked("conflict", why, f"meshwright apply --adopt {where.id}", hostile)
    )


def _ours(live: Object, where: Place, eyes: _Eyes) -> bool:
    """Whether an object without the mesh's label shows that it had it; only we and no friend can write a Namespace."""
    if where.kind.key == "namespace":
        return claims.ours(live, eyes.mesh, eyes.within.get(where.name, ()))
    return _wrote(live)


def _wrote(live: Object) -> bool:
    """Whether we hold anything of it."""
    return any(holder.ours for holder in managed.holders(live))


def _prunable(live: Object, where: Place) -> bool:
    """Whether it may go when it is no longer wanted: never a namespace, nor what somebody may have put data into."""
    if where.kind.key == "namespace":
        return False
    holders = managed.holders(live)
    return not where.kind.opaque or (bool(holders) and not _has_others_data(holders))


def _has_others_data(holders: Iterable[managed.Holder]) -> bool:
    """Whether somebody else holds data there that we do not declare too: what was adopted is still his on paper."""
    ours = managed.union(holder.fields.get("data", {}) for holder in holders if holder.ours)
    others = (holder.fields["data"] for holder in holders if not holder.ours and "data" in holder.fields)
    return any(not keys or not keys.keys() <= ours.keys() for keys in others)


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
