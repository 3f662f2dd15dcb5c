"""Bindings and who is bound by them. Pure."""

from __future__ import annotations

from meshwright.desired.manifest import Manifest, make

RBAC = "rbac.authorization.k8s.io"
NETWORKING = "networking.k8s.io"


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
