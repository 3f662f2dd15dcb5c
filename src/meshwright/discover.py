"""Facts: what must be known of the world before anything can be wanted. Reads, never writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

from meshwright.desired.facts import ClusterFacts, Exporter, Facts, TenantNamespace
from meshwright.desired.kubernetes.bindings import foreign
from meshwright.desired.kubernetes.namespaces import user_name
from meshwright.desired.kubernetes.quarantine import marked
from meshwright.desired.names import MESH, PEER
from meshwright.desired.tenants import tenants
from meshwright.errors import ClusterError
from meshwright.io import program
from meshwright.io.cluster import Cluster, Object
from meshwright.providers.kubernetes import claims, inside
from meshwright.providers.kubernetes.look import offboarded
from meshwright.spec.model import Address, Kubernetes, Mesh, MindflavorExporter

FEW = 3
"""Services that are asked for one by one; where there are more, all of the cluster's are listed."""


def read(
    mesh: Mesh,
    services: Mapping[str, tuple[Address, ...]],
    cluster: Cluster | None = None,
    now: datetime | None = None,
    folder: Path | None = None,
) -> Facts:
    """The facts of this moment. ClusterError where the cluster cannot say them: what is not said is not gone.

    services: addresses of the file's `kubernetes:` services, as far as they are known without a cluster. folder: where
    the exporter's token and certificate are looked for, by SecretsError where they cannot be used; None: nobody asks.
    """
    told = _exporter(mesh, folder) if folder else None
    facts = Facts(now=now or datetime.now(UTC), services=services, program=program.facts(), exporter=told)
    names = {n: s.kubernetes for n, s in mesh.services.items() if s.kubernetes and not s.address and n not in services}
    if cluster is None:
        return replace(facts, missing={name: f"there is no cluster to ask for {of}" for name, of in names.items()})
    found, missing = _resolved(names, _services(cluster, set(names.values())) if names else {})
    facts = replace(facts, services={**services, **found}, missing=missing)
    return replace(facts, cluster=_cluster(mesh, mesh.kubernetes, facts, cluster)) if mesh.kubernetes else facts


def _exporter(mesh: Mesh, folder: Path) -> Exporter | None:
    if mesh.observability is None:
        return None
    from meshwright.io import exporter  # brings TLS, which few commands need

    return exporter.read(mesh, folder)


def _services(cluster: Cluster, wanted: set[str]) -> dict[str, Object]:
    """Services of the cluster by NAMESPACE/NAME; those that do not exist are left out."""
    if len(wanted) > FEW:
        return {
            f"{service['metadata']['namespace']}/{service['metadata']['name']}": service
            for service in cluster.list("/api/v1/services")
        }
    out = {}
    for name in sorted(wanted):
        namespace, _, service = name.partition("/")
        try:
            out[name] = cluster.get(f"/api/v1/namespaces/{quote(namespace, '')}/services/{quote(service, '')}")
        except ClusterError as error:
            if error.status != 404:
                raise
    return out


def _resolved(
    names: Mapping[str, str], there: Mapping[str, Object]
) -> tuple[dict[str, tuple[Address, ...]], dict[str, str]]:
    """The addresses of services by their name in the file; and why the others have none."""
    found: dict[str, tuple[Address, ...]] = {}
    missing = {}
    for name, of in names.items():
        addresses = _addresses(there[of]) if of in there else ()
        if addresses:
            found[name] = addresses
        elif of in there:
            missing[name] = f"the Service {of} has no address of its own ({_kind(there[of])})"
        else:
            missing[name] = f"the cluster has no Service {of}"
    return found, missing


def _addresses(service: Object) -> tuple[Address, ...]:
    spec = service["spec"]
    texts = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
    return tuple(ip_address(text) for text in texts if text not in ("", "None"))


def _kind(service: Object) -> str:
    return "ExternalName" if service["spec"].get("type") == "ExternalName" else "headless"


def _cluster(mesh: Mesh, kubernetes: Kubernetes, facts: Facts, cluster: Cluster) -> ClusterFacts:
    said = cluster.get("/version")
    active = {tenant.namespace for tenant in tenants(mesh, facts)}
    spaces = list(_tenants(mesh, kubernetes, cluster, active))
    looked = [space.name for space in spaces if space.name not in active or marked(space)]
    own = _by_namespace(b for b in inside.objects(cluster, [inside.BINDING], looked) if foreign(b, mesh.name))
    work = _by_namespace(inside.objects(cluster, inside.WORKLOADS, looked))
    return ClusterFacts(
        ".".join(_digits(said.get(part, "")) for part in ("major", "minor")),
        {s.name: replace(s, bindings=own.get(s.name, ()), workloads=work.get(s.name, ())) for s in spaces},
    )


def _tenants(
    mesh: Mesh, kubernetes: Kubernetes, cluster: Cluster, active: Collection[str]
) -> Iterator[TenantNamespace]:
    """Every tenant's namespace of this mesh: by its labels, or by what is left where they were taken off.

    So all namespaces are listed, whatever their labels say.
    """
    own = {kubernetes.access.namespace}
    if mesh.observability and isinstance(mesh.observability.exporter, MindflavorExporter):
        own.add(mesh.observability.exporter.namespace)
    spaces = {s["metadata"]["name"]: s for s in cluster.list("/api/v1/namespaces", metadata=True)}
    doubtful = {name for name, s in spaces.items() if claims.ours(s, mesh.name, ()) and not claims.whole(s)}
    found = inside.objects(cluster, claims.TELLING, doubtful - own)
    within, bound = claims.meshes(found), _bound(mesh, kubernetes, found)
    filed = {peer.namespace: name for name, peer in mesh.peers.items() if peer.namespace}
    for name, space in spaces.items():
        gone = name not in active and offboarded(space)
        if name in own or gone or not claims.surely(space, mesh.name, within.get(name, ()), name in filed):
            continue
        meta = space["metadata"]
        labels = meta.get("labels") or {}
        if peer := labels.get(PEER) or bound.get(name) or filed.get(name):
            yield TenantNamespace(name, {**labels, MESH: mesh.name, PEER: peer}, meta.get("annotations") or {})


def _bound(mesh: Mesh, kubernetes: Kubernetes, found: Iterable[Object]) -> dict[str, str]:
    """Namespace -> the peer who has rights in it by our RoleBinding."""
    prefix = user_name(kubernetes, "")
    out: dict[str, str] = {}
    for each in found:
        if each["kind"] == inside.BINDING.name:
            peer = claims.peer(each, mesh.name, kubernetes.access.namespace, prefix)
            out |= {each["metadata"]["namespace"]: peer} if peer else {}
    return out


def _by_namespace(objects: Iterable[Object]) -> dict[str, tuple[Mapping[str, Any], ...]]:
    out: dict[str, list[Object]] = {}
    for live in objects:
        out.setdefault(live["metadata"]["namespace"], []).append(live)
    return {namespace: tuple(found) for namespace, found in out.items()}


def _digits(text: str) -> str:
    """The number in "36+", as some clouds write it."""
    return "".join(c for c in text if c.isdigit())
