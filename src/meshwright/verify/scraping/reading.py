"""What the judgement of scraping needs of the API server: a few LISTs, whatever the number of objects."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from meshwright.desired.facts import Facts
from meshwright.desired.monitoring import tenants as watched
from meshwright.desired.resource import Resource
from meshwright.desired.tenants import tenants
from meshwright.errors import ClusterError
from meshwright.io.cluster import Cluster
from meshwright.spec import boxes
from meshwright.spec.model import Mesh
from meshwright.verify.scraping.hops import Json, Seen, World

_OPERATOR = "/apis/monitoring.coreos.com"
WITHIN = {
    "services": "/api/v1/namespaces/{}/services",
    "pods": "/api/v1/namespaces/{}/pods",
    "endpointslices": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "networkpolicies": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "statefulsets": "/apis/apps/v1/namespaces/{}/statefulsets",
    "daemonsets": "/apis/apps/v1/namespaces/{}/daemonsets",
}
"""Of the namespace that was named."""
AROUND = {
    "servicemonitors": f"{_OPERATOR}/v1/servicemonitors",
    "podmonitors": f"{_OPERATOR}/v1/podmonitors",
    "prometheuses": f"{_OPERATOR}/v1/prometheuses",
    "prometheusagents": f"{_OPERATOR}/v1alpha1/prometheusagents",
}
"""Of the whole cluster: a monitor elsewhere may select what is here."""


def look(cluster: Cluster, namespace: str) -> Seen:
    """What is there now. ClusterError where the server cannot be asked at all; what it refuses is said in its place."""
    parts: dict[str, list[Json] | str] = {"namespaces": _list(cluster, "/api/v1/namespaces", metadata=True)}
    for plural, path in {**WITHIN, **AROUND}.items():
        parts[plural] = _list(cluster, path.format(quote(namespace, "")))
    return Seen(parts)


def _list(cluster: Cluster, path: str, metadata: bool = False) -> list[Json] | str:
    try:
        return cluster.list(path, metadata=metadata)
    except ClusterError as error:
        if error.status in (403, 404):
            return "forbidden" if error.status == 403 else "missing"
        raise


def world(mesh: Mesh, facts: Facts, namespace: str) -> World:
    """What the file wants of scraping in this namespace."""
    watch = mesh.observability
    active = {tenant.namespace: tenant.peer for tenant in tenants(mesh, facts)}
    every = {peer.namespace: name for name, peer in mesh.peers.items() if peer.namespace}
    return World(
        mesh.name,
        active,
        {space: name for space, name in every.items() if space not in active},
        {resource.attrs["kind"]: resource for resource in _wanted(mesh, facts, namespace)},
        watch.namespace if watch else "",
        boxes.merge(map(boxes.span, mesh.network.routes.get("pods", ()))),
    )


def _wanted(mesh: Mesh, facts: Facts, namespace: str) -> Iterator[Resource]:
    if mesh.observability and mesh.kubernetes:
        for resource in watched.build(mesh, mesh.observability, facts):
            if resource.attrs["metadata"]["namespace"] == namespace:
                yield resource
