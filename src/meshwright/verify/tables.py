"""Which rights matter: what a friend has to have, and what nobody of the mesh may have. Pure data.

Each line is VERB RESOURCE..., a resource being `pods`, `pods/exec` or `deployments.apps`; a path begins with `/`.
The lists say it a second time, apart from the roles that are written, so that a mistake there is seen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

EVERYBODY = "system:authenticated"
_RBAC = "rbac.authorization.k8s.io"
_CHECKS = "admissionregistration.k8s.io"
_WATCH = "monitoring.coreos.com"
_CSR = "certificatesigningrequests"


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that somebody may or may not do. Without a namespace: in all of them. path: of a URL, no resource."""

    verb: str
    resource: str = ""
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"{self.verb} {self.path}"
        sub = f"/{self.subresource}" if self.subresource else ""
        named = f" {self.name}" if self.name and self.name != self.namespace else ""
        where = self.namespace or "the whole cluster"
        return f"{self.verb} {self.resource}{sub}{f'.{self.group}' if self.group else ''}{named} in {where}"

    def attributes(self) -> dict[str, Any]:
        """The part of a SubjectAccessReview's spec that says what is asked."""
        if self.path:
            return {"nonResourceAttributes": {"verb": self.verb, "path": self.path}}
        keys = ("verb", "group", "resource", "subresource", "namespace", "name")
        return {"resourceAttributes": {key: getattr(self, key) for key in keys if getattr(self, key)}}


READ = (
    "list events namespaces nodes persistentvolumes pods resourcequotas serviceaccounts services",
    "list deployments.apps ingresses.networking.k8s.io networkpolicies.networking.k8s.io nodes.metrics.k8s.io",
    f"list clusterroles.{_RBAC} rolebindings.{_RBAC} validatingadmissionpolicies.{_CHECKS}",
    "list customresourcedefinitions.apiextensions.k8s.io storageclasses.storage.k8s.io",
    "get pods",
    "watch pods",
)
"""What every tenant looks at in the whole cluster."""

USE = (
    "create configmaps persistentvolumeclaims pods secrets serviceaccounts services pods/exec pods/portforward",
    "create deployments.apps statefulsets.apps jobs.batch cronjobs.batch ingresses.networking.k8s.io",
    "get secrets configmaps pods/log",
    "list secrets",
    "update configmaps",
    "patch deployments.apps",
    "delete pods",
)
"""What a tenant does in his own namespace, whatever his role."""

ADMIN = (
    f"create networkpolicies.networking.k8s.io rolebindings.{_RBAC} roles.{_RBAC} serviceaccounts/token",
    "get pods/proxy services/proxy",
    "impersonate serviceaccounts",
)
"""What the role admin adds to that, and the role restricted leaves out."""

NEVER = (
    "update namespaces",
    "patch namespaces",
    "delete namespaces",
    "create resourcequotas limitranges endpoints endpointslices.discovery.k8s.io",
    "update resourcequotas resourcequotas/status limitranges endpoints endpointslices.discovery.k8s.io",
    "patch resourcequotas limitranges",
    "delete resourcequotas limitranges",
    f"bind roles.{_RBAC} clusterroles.{_RBAC}",
    f"escalate roles.{_RBAC} clusterroles.{_RBAC}",
    f"create helmcharts.helm.cattle.io prometheuses.{_WATCH} alertmanagers.{_WATCH} servicemonitors.{_WATCH}",
    f"create podmonitors.{_WATCH} probes.{_WATCH} prometheusrules.{_WATCH}",
    f"patch helmcharts.helm.cattle.io helmchartconfigs.helm.cattle.io servicemonitors.{_WATCH}",
    "* *.*",
)
"""What nobody does in his own namespace: its walls, more rights than he has, what others carry out for him."""

NEVER_ANYWHERE = (
    "get secrets configmaps nodes/proxy nodes/log pods/log pods/exec pods/attach pods/portforward pods/proxy",
    "get services/proxy helmcharts.helm.cattle.io",
    "list secrets configmaps helmcharts.helm.cattle.io",
    "create pods secrets pods/exec nodes/proxy namespaces persistentvolumes serviceaccounts/token deployments.apps",
    f"create clusterroles.{_RBAC} clusterrolebindings.{_RBAC} roles.{_RBAC} rolebindings.{_RBAC}",
    f"create {_CSR}.certificates.k8s.io customresourcedefinitions.apiextensions.k8s.io",
    "create apiservices.apiregistration.k8s.io storageclasses.storage.k8s.io priorityclasses.scheduling.k8s.io",
    f"create validatingadmissionpolicies.{_CHECKS} validatingadmissionpolicybindings.{_CHECKS}",
    f"create mutatingwebhookconfigurations.{_CHECKS} validatingwebhookconfigurations.{_CHECKS}",
    f"create helmcharts.helm.cattle.io servicemonitors.{_WATCH} prometheuses.{_WATCH}",
    f"patch namespaces nodes validatingadmissionpolicies.{_CHECKS} validatingadmissionpolicybindings.{_CHECKS}",
    f"patch customresourcedefinitions.apiextensions.k8s.io clusterroles.{_RBAC} clusterrolebindings.{_RBAC}",
    f"delete namespaces nodes validatingadmissionpolicies.{_CHECKS} validatingadmissionpolicybindings.{_CHECKS}",
    f"update {_CSR}/approval.certificates.k8s.io namespaces",
    f"bind clusterroles.{_RBAC}",
    f"escalate clusterroles.{_RBAC}",
    "impersonate users groups serviceaccounts",
    "* *.*",
    "get /metrics /logs/ /debug/pprof/",
    "* /*",
)
"""What nobody of the mesh does in all namespaces, or to what has none."""

NOT_THERE = (
    "get secrets configmaps pods/log pods/proxy services/proxy",
    "list secrets",
    f"create secrets pods pods/exec services rolebindings.{_RBAC} serviceaccounts/token",
    "impersonate serviceaccounts",
    "patch deployments.apps",
    "delete pods",
)
"""What nobody of the mesh does in kube-system."""

NOT_HIS = (
    "get secrets configmaps pods/log",
    f"create pods pods/exec rolebindings.{_RBAC} serviceaccounts/token",
    "impersonate serviceaccounts",
)
"""What nobody of the mesh does in another namespace: of the owner, of another friend, one that was his once."""

NOT_THE_DEPLOYERS = (
    "get secrets configmaps",
    "list secrets",
    "patch secrets deployments.apps",
    f"create secrets pods rolebindings.{_RBAC} serviceaccounts/token",
    "delete secrets",
)
"""What the deployer does not do in a tenant's namespace; and to the Secrets that he fills:"""

NOT_TO_SECRETS = ("get", "update", "delete")


@cache
def rights(lines: Sequence[str], namespace: str = "") -> tuple[Right, ...]:
    """The lines as rights in one namespace, or in all."""
    pairs = [(verb, word) for verb, *words in map(str.split, lines) for word in words]
    return tuple(_right(verb, word, namespace) for verb, word in pairs)


def _right(verb: str, word: str, namespace: str) -> Right:
    if word.startswith("/"):
        return Right(verb, path=word)
    plain, _, group = word.partition(".")
    resource, _, subresource = plain.partition("/")
    name = namespace if resource == "namespaces" else ""
    return Right(verb, resource, group, subresource, namespace, name)
