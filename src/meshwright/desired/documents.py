"""The objects of the cluster as files: which goes into which, in an order in which each can be made. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshwright.desired import names
from meshwright.desired.resource import Resource
from meshwright.spec.model import Kubernetes, Mesh

Manifest = Mapping[str, Any]

_PARTS: Final = ("access", "admission", "tenants", "deployer", "monitors")
# what stands on others comes after them, and what lets somebody in comes after the walls
_KINDS: Final = (
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "Secret",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
)
_MONITORS: Final = frozenset({"ServiceMonitor", "PodMonitor"})
_DEPLOYER: Final = f"{names.PREFIX}deployer"


def mark(mesh: str) -> str:
    """What the first line of a file of ours begins with. Never to change: files are known by it."""
    return f"# Made by meshwright for the mesh {mesh}:"


def documents(mesh: Mesh, wanted: Iterable[Resource]) -> dict[str, list[Manifest]]:
    """Path -> the objects of that file. Applied in this order, file by file, nothing stands on what comes later.

    A thing of somebody else that is only changed for a while, as a workload in quarantine, is in no file.
    """
    if mesh.kubernetes is None:
        return {}
    ours = [resource.attrs for resource in wanted if _ours(resource, mesh.name)]
    order = _Order(mesh.kubernetes, {peer: number for number, peer in enumerate(mesh.peers)}, _tenants(ours))
    out: dict[str, list[Manifest]] = {}
    for manifest in sorted(ours, key=order.key):
        out.setdefault(_path(mesh, *order.place(manifest)), []).append(manifest)
    return out


def _ours(resource: Resource, mesh: str) -> bool:
    labels = resource.attrs.get("metadata", {}).get("labels", {}) if resource.system == "kubernetes" else {}
    return bool(labels.get(names.MESH) == mesh)


def _tenants(manifests: Iterable[Manifest]) -> dict[str, str]:
    """Namespace -> its peer, of those in quarantine too."""
    labels = {m["metadata"]["name"]: m["metadata"]["labels"] for m in manifests if m["kind"] == "Namespace"}
    return {name: found[names.PEER] for name, found in labels.items() if names.PEER in found}


@dataclass(frozen=True)
class _Order:
    """Where an object belongs. peers: with their places in the file; tenants: namespace -> peer."""

    cluster: Kubernetes
    peers: Mapping[str, int]
    tenants: Mapping[str, str]

    def place(self, manifest: Manifest) -> tuple[str, str]:
        """The part, and the peer whose file it goes into; "" where it is in no tenant's."""
        kind, meta = manifest["kind"], manifest["metadata"]
        if kind in _MONITORS:
            return "monitors", ""
        if kind.startswith("ValidatingAdmissionPolicy"):
            return "admission", ""
        if self._deployers(kind, meta):
            return "deployer", ""
        peer = self.tenants.get(meta["name"] if kind == "Namespace" else meta.get("namespace", ""), "")
        return ("tenants", peer) if peer else ("access", "")

    def _deployers(self, kind: str, meta: Mapping[str, Any]) -> bool:
        if kind in ("Role", "RoleBinding"):
            return bool(meta["name"] == _DEPLOYER)
        own = (meta.get("namespace"), meta["name"]) == (self.cluster.deployer.namespace, self.cluster.deployer.name)
        return kind == "ServiceAccount" and own

    def key(self, manifest: Manifest) -> tuple[int, int, str, int, str, str]:
        part, peer = self.place(manifest)
        kind, meta = manifest["kind"], manifest["metadata"]
        return (
            _PARTS.index(part),
            self.peers.get(peer, len(self.peers)),
            peer,
            _KINDS.index(kind) if kind in _KINDS else len(_KINDS),
            meta.get("namespace", ""),
            f"{meta['name']} {kind}",
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
