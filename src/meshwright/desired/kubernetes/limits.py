"""How much a tenant may use: quota, defaults of a container, no token in pods that did not ask. Pure."""

from __future__ import annotations

from meshwright.desired import names
from meshwright.desired.kubernetes.objects import RBAC
from meshwright.desired.manifest import Manifest, make
from meshwright.desired.tenants import Tenant
from meshwright.spec.quantity import canonical, nano

COUNTED = {
    "count/configmaps": 100,
    "count/controllerrevisions.apps": 200,
    "count/cronjobs.batch": 20,
    "count/daemonsets.apps": 10,
    "count/deployments.apps": 50,
    "count/horizontalpodautoscalers.autoscaling": 20,
    "count/ingresses.networking.k8s.io": 20,
    "count/jobs.batch": 50,
    "count/leases.coordination.k8s.io": 50,
    "count/networkpolicies.networking.k8s.io": 50,
    "count/poddisruptionbudgets.policy": 20,
    "count/replicasets.apps": 500,
    "count/replicationcontrollers": 20,
    "count/secrets": 100,
    "count/serviceaccounts": 50,
    "count/services": 50,
    "count/statefulsets.apps": 20,
    "persistentvolumeclaims": 20,
}
"""The most objects of each kind: enough for a friend, too few to fill the cluster's store."""

EPHEMERAL = "1Gi"
"""A container's share of its node's disk; the quota has as much for each pod."""
REQUEST = "100m"
"""The processor time that a container which does not say is sure of; it may use up to its limit."""


def quota(mesh: str, who: Tenant) -> Manifest:
    """Everything but rights. Nothing that a node would show to the house: no node ports, no load balancers."""
    walls = who.walls
    cpu, memory = canonical(walls.cpu), canonical(walls.memory)
    disk = canonical(f"{walls.pods}Gi")
    counted = COUNTED | {"count/secrets": COUNTED["count/secrets"] + len(who.devices), "pods": walls.pods}
    hard = {
        "limits.cpu": cpu,
        "limits.ephemeral-storage": disk,
        "limits.memory": memory,
        "requests.cpu": cpu,
        "requests.ephemeral-storage": disk,
        "requests.memory": memory,
        "requests.storage": canonical(walls.storage),
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        **{key: canonical(str(number)) for key, number in counted.items()},
    }
    return make(mesh, "v1/ResourceQuota", names.QUOTA, who.namespace, spec={"hard": hard})


def bindings_quota(mesh: str, who: Tenant) -> Manifest:
    """Rights: apart from the rest, because this one has to come behind the last of ours."""
    hard = {f"count/{kind}.{RBAC}": "50" for kind in ("rolebindings", "roles")}
    return make(mesh, "v1/ResourceQuota", names.BINDINGS_QUOTA, who.namespace, spec={"hard": hard})


def limits(mesh: str, who: Tenant) -> Manifest:
    """What a container gets that does not say: without it the quota would refuse every such pod."""
    most = {
        "cpu": canonical(who.walls.limit_cpu),
        "ephemeral-storage": EPHEMERAL,
        "memory": canonical(who.walls.limit_memory),
    }
    least = most | {"cpu": min(most["cpu"], REQUEST, key=nano), "ephemeral-storage": "100Mi"}
    spec = {"limits": [{"type": "Container", "default": most, "defaultRequest": least}]}
    return make(mesh, "v1/LimitRange", names.LIMITS, who.namespace, spec=spec)


def default_account(mesh: str, who: Tenant) -> Manifest:
    """The account that pods run as when they name none: they get no token of it."""
    return make(mesh, "v1/ServiceAccount", "default", who.namespace, automountServiceAccountToken=False)
