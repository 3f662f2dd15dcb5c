"""The walls around one friend's namespace: what he, the file and the defaults say, put together key by key. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from meshwright.spec.model import Kubernetes, Limits, Network, Peer, Quota, Tenant

Open = Literal["internet", "none"] | tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Walls:
    """Every wall, none left open: what the file does not say has its default here.

    cpu, memory, pods, storage: the most that the namespace may use.
    limit_cpu, limit_memory: of a container that does not say.
    storage_classes, registries: empty means the default class only, and any registry.
    """

    role: Literal["admin", "restricted"] = "admin"
    cpu: str = "4"
    memory: str = "8Gi"
    pods: int = 30
    storage: str = "100Gi"
    limit_cpu: str = "500m"
    limit_memory: str = "256Mi"
    egress: Open = "internet"
    network_policy: bool = True
    admission: bool = True
    storage_classes: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()


_PLAIN = ("role", "egress", "network_policy", "admission", "storage_classes", "registries")
_QUOTA = {"cpu": "cpu", "memory": "memory", "pods": "pods", "storage": "storage"}
_LIMITS = {"cpu": "limit_cpu", "memory": "limit_memory"}


def walls(cluster: Kubernetes, peer: Peer) -> Walls:
    """The walls of one peer: his own `tenant`, then `kubernetes.tenant`, then the defaults."""
    said = _said(cluster.tenant)
    if peer.tenant:
        said |= _said(peer.tenant)
    return Walls(**said)


def _said(tenant: Tenant) -> dict[str, Any]:
    plain = {key: getattr(tenant, key) for key in _PLAIN}
    quota, limits = tenant.quota or Quota(), tenant.limits or Limits()
    amounts = {name: getattr(quota, key) for key, name in _QUOTA.items()}
    amounts |= {name: getattr(limits, key) for key, name in _LIMITS.items()}
    return {key: value for key, value in (plain | amounts).items() if value is not None}
