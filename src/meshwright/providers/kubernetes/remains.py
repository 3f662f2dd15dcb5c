"""What is still there of tenants whose namespaces are in quarantine: his data, what has not ended, what reaches out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from meshwright.desired.kubernetes import bindings, workloads
from meshwright.desired.names import BINDINGS
from meshwright.io.cluster import Cluster, Object
from meshwright.providers.kubernetes import inside
from meshwright.providers.kubernetes.kinds import RBAC, Kind

_DATA = (
    Kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims"),
    Kind("Secret", "v1", "secrets"),
    Kind("ConfigMap", "v1", "configmaps"),
    Kind("Service", "v1", "services"),
    Kind("ServiceAccount", "v1", "serviceaccounts"),
)
_WITHOUT = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})
_FOR_ALL = Kind("ClusterRoleBinding", RBAC, "clusterrolebindings", namespaced=False)


@dataclass(frozen=True, slots=True)
class Remains:
    """One namespace.

    data: how many of each kind are kept for him. resting: workloads that come back with him. kept: his RoleBindings in
    the annotation. pods: those that have not ended, with their node. grants: bindings elsewhere, or not deleted, that
    name somebody of this namespace: they go on giving rights to tokens that he may have. lost: names of RoleBindings
    that were deleted and could not be kept.
    """

    namespace: str
    data: Mapping[str, int]
    resting: tuple[str, ...]
    kept: tuple[str, ...]
    pods: tuple[str, ...]
    grants: tuple[str, ...]
    lost: tuple[str, ...] = ()

    @property
    def reaches(self) -> bool:
        """Whether anything of it still runs, or may do something."""
        return bool(self.pods or self.grants)


def remains(cluster: Cluster, namespaces: Collection[str]) -> list[Remains]:
    """What is there of each namespace, in the order of their names. ClusterError where the cluster cannot say it."""
    if not namespaces:
        return []
    data = inside.objects(cluster, _DATA, namespaces, metadata=True)
    work = inside.objects(cluster, inside.WORKLOADS, namespaces)
    pods = inside.objects(cluster, [inside.POD], namespaces)
    granting = cluster.list(inside.BINDING.collection()) + cluster.list(_FOR_ALL.collection())
    found = [data, work, pods, granting]
    return [_of(name, cluster.get(f"/api/v1/namespaces/{name}"), found) for name in sorted(namespaces)]


def _of(name: str, space: Object, found: list[list[Object]]) -> Remains:
    here = [[live for live in each if live["metadata"].get("namespace") == name] for each in found[:3]]
    counted = Counter(o["kind"] for o in here[0] if (o["kind"], o["metadata"]["name"]) not in _WITHOUT)
    notes = space["metadata"].get("annotations") or {}
    return Remains(
        name,
        dict(sorted(counted.items())),
        tuple(sorted(_short(live) for live in here[1] if workloads.awake(live))),
        tuple(bindings.saved(notes.get(BINDINGS), name)),
        tuple(sorted(_pod(live) for live in here[2] if _runs(live))),
        tuple(sorted(_grants(found[3], name))),
        bindings.lost(notes),
    )


def _short(live: Object) -> str:
    return f"{live['kind'].lower()}/{live['metadata']['name']}"


def _runs(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def _pod(pod: Object) -> str:
    node = pod["spec"].get("nodeName")
    ending = "ending" if pod["metadata"].get("deletionTimestamp") else "running"
    return f"{pod['metadata']['name']} ({ending}{f' on {node}' if node else ''})"


def _grants(granting: list[Object], namespace: str) -> Iterator[str]:
    for live in granting:
        if any(_names(subject, namespace) for subject in live.get("subjects") or ()):
            place = live["metadata"].get("namespace")
            yield f"{live['kind'].lower()}/{f'{place}/' if place else ''}{live['metadata']['name']}"


def _names(subject: Mapping[str, str], namespace: str) -> bool:
    """Whether a subject is a ServiceAccount of this namespace, or all of them."""
    if subject["kind"] == "ServiceAccount":
        return subject.get("namespace") == namespace
    if subject["kind"] == "Group":
        return subject["name"] == f"system:serviceaccounts:{namespace}"
    return subject["name"].startswith(f"system:serviceaccount:{namespace}:")
