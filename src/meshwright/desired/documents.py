"""The objects of the cluster as files: which goes into which, in an order in which each can be made. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any, Final

from meshwright.desired import names
from meshwright.desired.resource import Resource, Resources, Unknown
from meshwright.spec.model import Kubernetes, Mesh

Manifest = Mapping[str, Any]

_PARTS: Final = ("admission", "access", "tenants", "deployer", "monitors", "exporter", "rules", "dashboard")
_BY_KIND: Final = {
    "ServiceMonitor": "monitors",
    "PodMonitor": "monitors",
    "PrometheusRule": "rules",
    "ConfigMap": "dashboard",
    "ValidatingAdmissionPolicy": "admission",
    "ValidatingAdmissionPolicyBinding": "admission",
}
"""Where each object of a kind goes that is not the exporter's."""


KUSTOMIZATION: Final = "kustomization.yaml"


def mark(mesh: str) -> str:
    """What the first line of a file of ours begins with. Never to change: files are known by it."""
    return f"# Made by meshwright for the mesh {mesh}:"


def documents(mesh: Mesh, wanted: Iterable[Resource]) -> dict[str, list[Manifest]]:
    """Path -> the objects of that file. Applied in this order, file by file, nothing stands on what comes later.

    A thing of somebody else that is only changed for a while, as a workload in quarantine, is in no file.
    """
    if mesh.kubernetes is None:
        return {}
    ours = {resource.id: resource for resource in wanted if _ours(resource, mesh.name)}
    order = _Order(
        mesh.kubernetes, {peer: number for number, peer in enumerate(mesh.peers)}, _tenants(ours), _depths(ours)
    )
    out: dict[str, list[Manifest]] = {}
    for resource in sorted(ours.values(), key=order.key):
        out.setdefault(_path(mesh, *order.place(resource.attrs)), []).append(resource.attrs)
    return out


def ready(wanted: Resources) -> tuple[dict[str, Resource], list[str]]:
    """The objects without those items of their lists that wait for a value, and the ids that it would come from."""
    missing: dict[str, None] = {}

    def known(tree: Any) -> Any:
        if isinstance(tree, Mapping):
            return {key: known(value) for key, value in tree.items()}
        return [known(item) for item in tree if not waits(item)] if isinstance(tree, list) else tree

    def waits(item: Any) -> bool:
        found = [v.id for v in item.values() if isinstance(v, Unknown)] if isinstance(item, Mapping) else []
        missing.update(dict.fromkeys(found))
        return bool(found)

    out = {id: replace(resource, attrs=known(resource.attrs)) for id, resource in wanted.items()}
    return out, sorted(missing)


def kustomization(paths: Iterable[str]) -> Manifest:
    """What lets kubectl, Flux and Argo take these files as one, in this order: each thing after what it stands on."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(paths),
        "sortOptions": {"order": "fifo"},
    }


def _ours(resource: Resource, mesh: str) -> bool:
    labels = resource.attrs.get("metadata", {}).get("labels", {}) if resource.system == "kubernetes" else {}
    return bool(labels.get(names.MESH) == mesh)


def _tenants(resources: Resources) -> dict[str, str]:
    """Namespace -> its peer, of those in quarantine too."""
    spaces = [r.attrs["metadata"] for r in resources.values() if r.attrs["kind"] == "Namespace"]
    return {space["name"]: space["labels"][names.PEER] for space in spaces if names.PEER in space["labels"]}


def _depths(resources: Resources) -> dict[str, int]:
    """How many others must have been made before each of them, one after the other."""
    bases = {id: [base for base in resource.after if base in resources] for id, resource in resources.items()}
    out: dict[str, int] = {}
    for id in TopologicalSorter(bases).static_order():
        out[id] = max((out[base] + 1 for base in bases[id]), default=0)
    return out


@dataclass(frozen=True)
class _Order:
    """Where an object belongs. peers: with their places in the file; tenants: namespace -> peer; depths: by id."""

    cluster: Kubernetes
    peers: Mapping[str, int]
    tenants: Mapping[str, str]
    depths: Mapping[str, int]

    def place(self, manifest: Manifest) -> tuple[str, str]:
        """The part, and the peer whose file it goes into; "" where it is in no tenant's."""
        kind, meta = manifest["kind"], manifest["metadata"]
        if meta["labels"].get(names.COMPONENT) == names.EXPORTER:
            return "exporter", ""
        if kind in _BY_KIND:
            return _BY_KIND[kind], ""
        if self._deployers(kind, meta):
            return "deployer", ""
        peer = self.tenants.get(meta["name"] if kind == "Namespace" else meta.get("namespace", ""), "")
        return ("tenants", peer) if peer else ("access", "")

    def _deployers(self, kind: str, meta: Mapping[str, Any]) -> bool:
        # the quota of rights may stand only where no right is to be made any more
        if kind in ("Role", "RoleBinding", "ResourceQuota"):
            return meta["name"] in (names.DEPLOYER, names.BINDINGS_QUOTA)
        own = (meta.get("namespace"), meta["name"]) == (self.cluster.deployer.namespace, self.cluster.deployer.name)
        return kind == "ServiceAccount" and own

    def key(self, resource: Resource) -> tuple[int, int, str, int, str]:
        """Part by part, tenant by tenant in the order of the file, then what others stand on first."""
        part, peer = self.place(resource.attrs)
        return (
            _PARTS.index(part),
            self.peers.get(peer, len(self.peers)),
            peer,
            self.depths[resource.id],
            resource.id,
        )


def _path(mesh: Mesh, part: str, peer: str) -> str:
    name: str = getattr(mesh.files, part)
    if part == "tenants":
        name = mesh.files.tenant.get(peer, name)
    watch = mesh.observability
    said = {
        "name": mesh.name,
        "deployer": mesh.kubernetes.deployer.name if mesh.kubernetes else "",
        "dashboard": (watch.dashboard if watch else None) or mesh.name,
    }
    for word, value in said.items():
        name = name.replace(f"{{{word}}}", value)
    return posixpath.normpath(name)
