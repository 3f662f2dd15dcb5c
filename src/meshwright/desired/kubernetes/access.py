"""Who gets into the cluster, and what for: the peers' accounts, the reader, the deployer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from meshwright.desired import names
from meshwright.desired.kubernetes.namespaces import user_name
from meshwright.desired.kubernetes.objects import RBAC, account, binding, user
from meshwright.desired.kubernetes.roles import READER, RESTRICTED
from meshwright.desired.manifest import Manifest, make
from meshwright.desired.tenants import Tenant
from meshwright.spec.model import Kubernetes


def peer(cluster: Kubernetes, name: str) -> dict[str, str]:
    """The peer as a subject: his ServiceAccount, or his user name where OIDC is the issuer."""
    known_as = user_name(cluster, name)
    return user(known_as) if known_as else account(names.account(name), cluster.access.namespace)


def peer_account(mesh: str, cluster: Kubernetes, who: Tenant) -> Manifest:
    """The ServiceAccount whose tokens he is given. No pod ever runs as it."""
    place = cluster.access.namespace
    return make(mesh, "v1/ServiceAccount", names.account(who.peer), place, automountServiceAccountToken=False)


def reader(mesh: str, cluster: Kubernetes) -> Manifest:
    return make(mesh, f"{RBAC}/v1/ClusterRole", cluster.reader, rules=READER)


def reader_binding(mesh: str, cluster: Kubernetes, tenants: Sequence[Tenant]) -> Manifest:
    subjects = [peer(cluster, who.peer) for who in tenants]
    return binding(mesh, cluster.reader, "", ("ClusterRole", cluster.reader), subjects)


def restricted(mesh: str, who: Tenant) -> Manifest:
    return make(mesh, f"{RBAC}/v1/Role", names.TENANT_ROLE, who.namespace, rules=RESTRICTED)


def admin(mesh: str, cluster: Kubernetes, who: Tenant) -> Manifest:
    """The peer's rights in his namespace."""
    role = ("ClusterRole", "admin") if who.walls.role == "admin" else ("Role", names.TENANT_ROLE)
    return binding(mesh, names.ADMIN, who.namespace, role, [peer(cluster, who.peer)])


def deployer_account(mesh: str, cluster: Kubernetes) -> Manifest:
    who = cluster.deployer
    return make(mesh, "v1/ServiceAccount", who.name, who.namespace, automountServiceAccountToken=False)


def tunnel_secret(mesh: str, who: Tenant, device: str) -> Manifest:
    """Where the deployer puts a device's WireGuard configuration. Its data is his, so none is declared."""
    return make(mesh, "v1/Secret", names.tunnel_secret(device), who.namespace, type="Opaque")


def deployer_role(mesh: str, who: Tenant) -> Manifest:
    """To write the Secrets of active devices, by name. A write answers with the whole Secret, so it reads these too."""
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [names.tunnel_secret(device.label) for device in who.active],
        "verbs": ["patch"],
    }
    return make(mesh, f"{RBAC}/v1/Role", names.DEPLOYER, who.namespace, rules=[rule])


def deployer_binding(mesh: str, cluster: Kubernetes, who: Tenant) -> Manifest:
    subject = account(cluster.deployer.name, cluster.deployer.namespace)
    return binding(mesh, names.DEPLOYER, who.namespace, ("Role", names.DEPLOYER), [subject])
