"""The names, labels and annotations by which Kubernetes objects of a mesh are known. Pure."""

from __future__ import annotations

MANAGER = "meshwright"
"""Our field manager in server-side apply."""

MESH = "meshwright.io/mesh"
"""Label on every object of ours; its value is the mesh's name. Whoever has it is ours."""
PEER = "meshwright.io/peer"
"""Label on a tenant's namespace: the peer it belongs to. Only tenants' namespaces have it."""
ADMISSION = "meshwright.io/admission"
"""Label on a tenant's namespace whose admission wall is up: "enforced"."""
QUARANTINE = "meshwright.io/quarantine"
"""Label on a tenant's namespace whose peer is out: "true"."""

NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
"""Labels that others give their objects too."""
EXPORTER = "exporter"
"""Value of the second one, on everything by which the hub is scraped."""

INGRESS_DOMAIN = "meshwright.io/ingress-domain"
"""Annotation on a tenant's namespace: the suffix of the hosts its Ingresses may claim; absent: none may be claimed."""
STORAGE_CLASSES = "meshwright.io/storage-classes"
"""Annotation on a tenant's namespace: allowed storage classes, comma separated; absent: the default class only."""
REGISTRIES = "meshwright.io/registries"
"""Annotation on a tenant's namespace: allowed image registries, comma separated; absent: any."""
USER = "meshwright.io/user"
"""Annotation on a tenant's namespace: the user name of its peer at the API server, where OIDC is the issuer."""
BINDINGS = "meshwright.io/bindings"
"""Annotation on a quarantined namespace: the RoleBindings that were its peer's own, as JSON."""
LOST = "meshwright.io/bindings-lost"
"""Annotation on a quarantined namespace: names of its peer's RoleBindings that could not be kept, as JSON."""
WAS = "meshwright.io/was"
"""Annotation on a workload in quarantine: the fields that quarantine changed, as JSON, to be put back."""

PREFIX = "meshwright-"
"""What every object of ours in a tenant's namespace is called begins with this, but for the names that are facts."""
TUNNEL_SECRET = "wireguard-"  # noqa: S105
"""What the deployer's Secrets begin with, one per device: wireguard-PEER, wireguard-PEER-DEVICE."""
PEER_ACCOUNT = "peer-"
"""What the ServiceAccounts of peers in the access namespace begin with."""

ADMIN = "meshwright-admin"
"""RoleBinding in a tenant's namespace: the peer's rights."""
TENANT_ROLE = "meshwright-tenant"
"""Role in a tenant's namespace whose `role` is restricted."""
DEPLOYER = "meshwright-deployer"
"""Role and RoleBinding in a tenant's namespace: what the deployer may write there."""
QUOTA = "meshwright-quota"
"""ResourceQuota of a tenant's namespace."""
BINDINGS_QUOTA = "meshwright-quota-bindings"
"""ResourceQuota for RoleBindings alone. The first one stands before the peer has rights; one that counted RoleBindings
would, until a controller has seen it, refuse the very binding that comes next."""
LIMITS = "meshwright-limits"
"""LimitRange of a tenant's namespace."""
DEFAULT_DENY = "meshwright-default-deny"
"""NetworkPolicy that closes a tenant's namespace both ways; what is open is opened by other policies of ours."""


def tunnel_secret(device: str) -> str:
    """The Secret that the deployer fills for the device of this label."""
    return f"{TUNNEL_SECRET}{device}"


def account(peer: str) -> str:
    """The peer's ServiceAccount in the access namespace."""
    return f"{PEER_ACCOUNT}{peer}"


def labels(mesh: str) -> dict[str, str]:
    """What every object of the mesh carries."""
    return {MESH: mesh, "app.kubernetes.io/part-of": mesh, "app.kubernetes.io/managed-by": MANAGER}
