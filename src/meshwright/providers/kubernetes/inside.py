"""What tenants have in their namespaces beside our objects, read by kind."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from meshwright.io.cluster import Cluster, Object
from meshwright.providers.kubernetes.kinds import RBAC, Kind

WORKLOADS = (
    Kind("Deployment", "apps/v1", "deployments"),
    Kind("StatefulSet", "apps/v1", "statefulsets"),
    Kind("ReplicaSet", "apps/v1", "replicasets"),
    Kind("DaemonSet", "apps/v1", "daemonsets"),
    Kind("ReplicationController", "v1", "replicationcontrollers"),
    Kind("Job", "batch/v1", "jobs"),
    Kind("CronJob", "batch/v1", "cronjobs"),
)
POD = Kind("Pod", "v1", "pods")
BINDING = Kind("RoleBinding", RBAC, "rolebindings")
KINDS = {kind.key: kind for kind in (*WORKLOADS, POD, BINDING)}
FEW = 3
"""Namespaces that are listed one by one; where there are more, a kind is listed everywhere."""
AT_ONCE = 8


def objects(
    cluster: Cluster, kinds: Collection[Kind], namespaces: Collection[str], metadata: bool = False
) -> list[Object]:
    """All objects of these kinds in these namespaces."""
    if not kinds or not namespaces:
        return []
    places = sorted(namespaces) if len(namespaces) <= FEW else [""]
    lists = [(kind, kind.collection(place)) for kind in kinds for place in places]

    def listed(kind: Kind, path: str) -> list[Object]:
        # where only metadata is asked for, the server names no kind
        named = {"apiVersion": kind.api, "kind": kind.name}
        return [live | named for live in cluster.list(path, metadata=metadata)]

    with ThreadPoolExecutor(min(AT_ONCE, len(lists))) as pool:
        found = pool.map(lambda each: listed(*each), lists)
        return [live for each in found for live in each if live["metadata"]["namespace"] in namespaces]


def path(live: Object) -> str:
    """Where an object stands. A name may hold what means something else in a URL: a RoleBinding's nearly anything."""
    return place(live["kind"], live["metadata"]["namespace"], live["metadata"]["name"])


def place(kind: str, namespace: str, name: str) -> str:
    return f"{KINDS[kind.lower()].collection(namespace)}/{quote(name, safe='')}"
