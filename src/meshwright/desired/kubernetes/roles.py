"""What the roles of the mesh may do: explicit lists, no wildcard, no aggregation. Pure data."""

from __future__ import annotations

from typing import Any

Rules = list[dict[str, Any]]

_READ = ("get", "list", "watch")
_WRITE = ("create", "delete", "deletecollection", "patch", "update")


def _rules(verbs: tuple[str, ...], **groups: str) -> Rules:
    """One rule per API group. `core` is the nameless one; an underscore stands for a dot."""
    names = {"core": ""} | {word: word.replace("_", ".") for word in groups if word != "core"}
    return [
        {"apiGroups": [names[group]], "resources": resources.split(), "verbs": list(verbs)}
        for group, resources in groups.items()
    ]


READER: Rules = _rules(
    _READ,
    core="endpoints events limitranges namespaces nodes persistentvolumeclaims persistentvolumes pods"
    " replicationcontrollers resourcequotas serviceaccounts services",
    admissionregistration_k8s_io="validatingadmissionpolicies validatingadmissionpolicybindings",
    apiextensions_k8s_io="customresourcedefinitions",
    apiregistration_k8s_io="apiservices",
    apps="daemonsets deployments replicasets statefulsets",
    autoscaling="horizontalpodautoscalers",
    batch="cronjobs jobs",
    coordination_k8s_io="leases",
    discovery_k8s_io="endpointslices",
    events_k8s_io="events",
    metrics_k8s_io="nodes pods",
    monitoring_coreos_com="podmonitors prometheusrules servicemonitors",
    networking_k8s_io="ingressclasses ingresses networkpolicies",
    node_k8s_io="runtimeclasses",
    policy="poddisruptionbudgets",
    rbac_authorization_k8s_io="clusterrolebindings clusterroles rolebindings roles",
    scheduling_k8s_io="priorityclasses",
    storage_k8s_io="storageclasses",
)
"""What every friend may look at in the whole cluster: nothing that holds a secret or runs a command."""

RESTRICTED: Rules = [
    *_rules(
        _READ,
        core="configmaps endpoints events limitranges persistentvolumeclaims persistentvolumeclaims/status pods"
        " pods/log pods/status replicationcontrollers replicationcontrollers/scale replicationcontrollers/status"
        " resourcequotas resourcequotas/status secrets serviceaccounts services services/status",
        apps="controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status"
        " replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
        autoscaling="horizontalpodautoscalers horizontalpodautoscalers/status",
        batch="cronjobs cronjobs/status jobs jobs/status",
        coordination_k8s_io="leases",
        discovery_k8s_io="endpointslices",
        events_k8s_io="events",
        networking_k8s_io="ingresses ingresses/status networkpolicies",
        policy="poddisruptionbudgets poddisruptionbudgets/status",
        rbac_authorization_k8s_io="rolebindings roles",
    ),
    *_rules(
        _WRITE,
        core="configmaps persistentvolumeclaims pods replicationcontrollers replicationcontrollers/scale secrets"
        " serviceaccounts services",
        apps="daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
        autoscaling="horizontalpodautoscalers",
        batch="cronjobs jobs",
        coordination_k8s_io="leases",
        networking_k8s_io="ingresses",
        policy="poddisruptionbudgets",
    ),
    *_rules(("create", "get"), core="pods/attach pods/exec pods/portforward"),
    *_rules(("create",), core="pods/eviction"),
]
"""Full use of one's own namespace, without writing network policies, roles or bindings, without impersonation and
tokens of ServiceAccounts, and without reaching pods and services through the API server."""
