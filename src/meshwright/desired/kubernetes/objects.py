"""How an object of ours begins: kind, name, labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshwright.desired.manifest import Manifest
from meshwright.desired.names import labels

RBAC = "rbac.authorization.k8s.io"
NETWORKING = "networking.k8s.io"


def make(mesh: str, kind: str, name: str, namespace: str = "", /, **body: Any) -> Manifest:
    """An object of the mesh. kind: `v1/Secret`, `rbac.authorization.k8s.io/v1/Role`."""
    version, _, what = kind.rpartition("/")
    metadata: dict[str, Any] = {"name": name, "labels": labels(mesh)}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": what, "metadata": metadata, **body}


def binding(mesh: str, name: str, namespace: str, role: tuple[str, str], subjects: list[dict[str, str]]) -> Manifest:
    """A RoleBinding in the namespace, or a ClusterRoleBinding where there is none. role: (kind, name)."""
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    ref = {"apiGroup": RBAC, "kind": role[0], "name": role[1]}
    return make(mesh, f"{RBAC}/v1/{kind}", name, namespace, roleRef=ref, subjects=subjects)


def account(name: str, namespace: str) -> dict[str, str]:
    """A ServiceAccount as a subject."""
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def user(name: str) -> dict[str, str]:
    """A user as a subject."""
    return {"apiGroup": RBAC, "kind": "User", "name": name}


def annotated(manifest: Manifest, more: Mapping[str, str], annotations: Mapping[str, str]) -> Manifest:
    """The object with more labels, and with annotations if there are any."""
    metadata = manifest["metadata"]
    metadata["labels"] |= more
    if annotations:
        metadata["annotations"] = dict(annotations)
    return manifest
