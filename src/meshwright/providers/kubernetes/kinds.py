"""The kinds of objects that a mesh consists of, and where each stands in the API. Pure.

Formats: the Kubernetes API (v1.36) reference; monitors are those of the Prometheus operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

Path = tuple[str, ...]

ABOUT = frozenset({"apiVersion", "kind", "metadata"})
"""What stands in every object, beside what it is."""
SYSTEM = "kubernetes"
RBAC = "rbac.authorization.k8s.io/v1"
ADMISSION = "admissionregistration.k8s.io/v1"
MONITORING = "monitoring.coreos.com/v1"


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind. `optional`: how to get it where the cluster does not have it.

    opaque: what stands in an object of it is read only where we declare what that is; else its metadata alone.
    crowded: others have many of it, and controllers copy our labels to theirs; so it is listed by metadata too, and
    ours is what we wrote ourselves, in no tenant's namespace. amounts: it holds quantities. defaults: fields that the
    server fills in by itself inside what is otherwise held as one piece.
    """

    name: str
    api: str
    plural: str
    namespaced: bool = True
    optional: str = ""
    opaque: bool = False
    crowded: bool = False
    amounts: bool = False
    defaults: Mapping[Path, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The kind as ids have it."""
        return self.name.lower()

    def collection(self, namespace: str = "") -> str:
        """The path of all objects, or of those of one namespace."""
        group = f"/apis/{self.api}" if "/" in self.api else f"/api/{self.api}"
        return f"{group}/namespaces/{namespace}/{self.plural}" if namespace else f"{group}/{self.plural}"

    def whole(self, declared: Mapping[str, Any] | None) -> bool:
        """Whether what stands in an object has to be read to compare it with what is declared of it."""
        if self.opaque:
            return "data" in (declared or {})
        return not self.crowded or bool((declared or {}).keys() - ABOUT)

    @property
    def full_name(self) -> str:
        """servicemonitors.monitoring.coreos.com"""
        group = self.api.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural


def _matching(*place: str) -> dict[Path, Any]:
    """What the server fills into the resources that an admission policy or its binding matches."""
    return {
        (*place, "matchPolicy"): "Equivalent",
        (*place, "namespaceSelector"): {},
        (*place, "objectSelector"): {},
    }


_OPERATOR = "install the Prometheus operator, or take `observability` out of the file; then apply again"
_NEWER = "it comes with Kubernetes 1.30: upgrade the cluster, then apply again"

TABLE: Mapping[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind("Namespace", "v1", "namespaces", namespaced=False),
        Kind("ServiceAccount", "v1", "serviceaccounts"),
        Kind("Secret", "v1", "secrets", opaque=True),
        Kind("ResourceQuota", "v1", "resourcequotas", amounts=True),
        Kind("LimitRange", "v1", "limitranges", amounts=True),
        Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
        Kind("Role", RBAC, "roles"),
        Kind("RoleBinding", RBAC, "rolebindings"),
        Kind("ClusterRole", RBAC, "clusterroles", namespaced=False),
        Kind("ClusterRoleBinding", RBAC, "clusterrolebindings", namespaced=False),
        Kind(
            "ValidatingAdmissionPolicy", ADMISSION, "validatingadmissionpolicies", namespaced=False, optional=_NEWER,
            defaults={("spec", "failurePolicy"): "Fail"} | _matching("spec", "matchConstraints"),
        ),
        Kind(
            "ValidatingAdmissionPolicyBinding", ADMISSION, "validatingadmissionpolicybindings", namespaced=False,
            optional=_NEWER, defaults=_matching("spec", "matchResources"),
        ),
        Kind("ConfigMap", "v1", "configmaps", crowded=True),
        Kind("Service", "v1", "services", crowded=True),
        Kind("Endpoints", "v1", "endpoints", crowded=True),
        Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", crowded=True),
        Kind("DaemonSet", "apps/v1", "daemonsets", crowded=True),
        Kind("ServiceMonitor", MONITORING, "servicemonitors", optional=_OPERATOR),
        Kind("PodMonitor", MONITORING, "podmonitors", optional=_OPERATOR),
        Kind("PrometheusRule", MONITORING, "prometheusrules", optional=_OPERATOR),
    )
}  # fmt: skip
"""By the kind as ids have it. An object that is no longer wanted is found only when its kind stands here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one object stands."""

    kind: Kind
    namespace: str
    name: str

    @property
    def path(self) -> str:
        # a name may hold what means something else in a URL: that of a role nearly anything
        return f"{self.kind.collection(self.namespace)}/{quote(self.name, safe='')}"

    @property
    def id(self) -> str:
        return "/".join(part for part in (SYSTEM, self.kind.key, self.namespace, self.name) if part)


def place(id: str) -> Place:
    """Where the object with this id stands: kubernetes/KIND/NAMESPACE/NAME, or kubernetes/KIND/NAME."""
    _, key, rest = id.split("/", 2)
    kind = TABLE[key]
    namespace, _, name = rest.partition("/") if kind.namespaced else ("", "", rest)
    return Place(kind, namespace, name)


def place_of(live: Mapping[str, Any]) -> Place:
    """Where an object as the server gives it stands."""
    meta = live["metadata"]
    return Place(TABLE[live["kind"].lower()], meta.get("namespace", ""), meta["name"])


def of(ids: Iterable[str]) -> list[Kind]:
    """The kinds of these ids, in the order of the table."""
    keys = {id.split("/", 2)[1] for id in ids}
    return [kind for kind in TABLE.values() if kind.key in keys]
