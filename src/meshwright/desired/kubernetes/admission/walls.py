"""Walls that hold for everybody who writes in a tenant's namespace: what is exposed, claimed and stored. Pure.

On UPDATE only what differs from before is judged, so that what was there already can still be changed or ended.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired import names
from meshwright.desired.kubernetes.admission import hosts
from meshwright.desired.kubernetes.admission.hosts import PUBLISHING
from meshwright.desired.kubernetes.admission.policy import (
    NEW,
    OLD,
    Check,
    Policy,
    Rule,
    listed,
    text,
    unchanged,
)
from meshwright.spec.model import Mesh

BINDERS = ("system:serviceaccount:kube-system:persistent-volume-binder", "system:kube-controller-manager")
SIDECAR_LABELS = ("grafana_alert", "grafana_dashboard", "grafana_datasource", "grafana_notifier", "grafana_plugin")

# Annotations by which a controller copies an object from or into another namespace.
_COPYING = r"^(replicator\.v1\.mittwald\.de|reflector\.v1\.k8s\.emberstack\.com|kubed\.appscode\.com)/"
# The old way to name a storage class; the controllers still take it first.
_CLASS_NOTE = r"^volume\.beta\.kubernetes\.io/storage-class$"


def policies(mesh: Mesh) -> Iterator[Policy]:
    """What is exposed, claimed, stored, and picked up by what the owner runs for the whole cluster."""
    yield _services()
    yield from hosts.policies()
    yield _claims()
    yield _claim_classes()
    yield _copies()
    yield _labels(mesh.observability.dashboard_label if mesh.observability else SIDECAR_LABELS[1])


def _services() -> Policy:
    """An address of one's own choice is seen in managedFields: at admission the server has chosen already."""
    variables = {
        "type": "object.spec.?type.orValue('ClusterIP')",
        "external": "object.spec.?externalIPs.orValue([])",
        "address": "object.spec.?clusterIP.orValue('')",
        "before": f"{OLD}.spec.?clusterIP.orValue('')",
        "chosen": f"{NEW}.metadata.?managedFields.orValue([]).exists(m, ['f:clusterIP', 'f:clusterIPs']"
        ".exists(f, m.?fieldsV1[?'f:spec'][?f].hasValue()))",
    }
    return Policy(
        "services",
        (Rule("", ("services",)),),
        (
            Check(
                f"variables.type == 'ClusterIP' || variables.type == {OLD}.spec.?type.orValue('')",
                "Here a Service has the type ClusterIP: no port of a node and no address outside the cluster is yours."
                " For a web page use an Ingress",
            ),
            Check(
                f"variables.external.all(ip, ip in {OLD}.spec.?externalIPs.orValue([]))",
                "A Service here has no externalIPs: such an address belongs to others. Leave spec.externalIPs out",
            ),
            Check(
                "variables.address in ['', 'None'] || variables.address == variables.before || "
                "(!variables.chosen && size(dyn(object).metadata.?managedFields.orValue([])) > 0)",
                "The cluster chooses the address of a Service. Leave spec.clusterIP and spec.clusterIPs out,"
                " or write None",
            ),
            Check(
                unchanged(PUBLISHING),
                "This annotation would publish the Service outside the cluster. Take it away, or ask the owner",
            ),
        ),
        variables=variables,
    )


def _claims() -> Policy:
    binders = ", ".join(text(name) for name in BINDERS)
    return Policy(
        "claims",
        (Rule("", ("persistentvolumeclaims",)),),
        (
            Check(
                f"object.spec.?volumeName.orValue('') in ['', string({OLD}.spec.?volumeName.orValue(''))]"
                f" || (request.operation == 'UPDATE' && request.userInfo.username in [{binders}])",
                "A claim here may not choose its volume. Leave spec.volumeName out; the owner can reserve a volume for"
                " a claim by the volume's claimRef",
            ),
            Check(
                f"!has(object.spec.selector) || {OLD}.spec.?selector == {NEW}.spec.?selector",
                "A claim here may not select volumes by their labels. Leave spec.selector out",
            ),
            Check(
                "object.spec.?dataSourceRef.?namespace.orValue('') in ['', request.namespace]",
                "A claim here is filled from your own namespace only. Leave dataSourceRef.namespace out",
            ),
            Check(
                "object.spec.?storageClassName.orValue('default') != '' || oldObject != null",
                "A claim without a storage class would take a volume of the owner's."
                " Leave spec.storageClassName out for the default class",
            ),
            Check(
                unchanged(_CLASS_NOTE),
                "The storage class of a claim stands in spec.storageClassName. Take the annotation away",
            ),
            Check(
                f"size(variables.classes) == 0 || {_CLASS} in variables.classes || {_CLASS} == {_CLASS_BEFORE}",
                "This storage class is not yours",
                "'Your storage classes here are: ' + variables.classes.join(', ')",
            ),
        ),
        variables={"classes": listed(names.STORAGE_CLASSES)},
    )


_CLASS = "object.spec.?storageClassName.orValue('')"
_CLASS_BEFORE = f"{OLD}.spec.?storageClassName.orValue('')"


def _claim_classes() -> Policy:
    """Which class is the default one is known by the classes themselves; the server has filled it in already."""
    default = "storageclass.kubernetes.io/is-default-class"
    return Policy(
        "claim-classes",
        (Rule("", ("persistentvolumeclaims",)),),
        (
            Check(
                f"{_CLASS} != params.metadata.name || {_CLASS} == {_CLASS_BEFORE} || params.metadata"
                f".?annotations[?'{default}'].orValue('') == 'true' || size({listed(names.STORAGE_CLASSES)}) > 0",
                "Here only the default storage class is yours. Leave spec.storageClassName out",
            ),
        ),
        each=("storage.k8s.io/v1", "StorageClass"),
    )


def _copies() -> Policy:
    return Policy(
        "copies",
        (
            Rule("", ("configmaps", "secrets", "serviceaccounts")),
            Rule("rbac.authorization.k8s.io", ("roles", "rolebindings")),
        ),
        (
            Check(
                unchanged(_COPYING),
                "With this annotation it would be copied between namespaces. Take it away, or ask the owner",
            ),
        ),
    )


def _labels(dashboard: str) -> Policy:
    labels = ", ".join(text(label) for label in sorted({*SIDECAR_LABELS, dashboard}))
    old = f"{OLD}.metadata.?labels.orValue({{}})"
    return Policy(
        "grafana",
        (Rule("", ("configmaps", "secrets")),),
        (
            Check(
                f"{NEW}.metadata.?labels.orValue({{}}).all(k, !(k in [{labels}])"
                f" || {old}[?k].orValue('-') == {NEW}.metadata.labels[k])",
                "With this label it would be loaded into the owner's Grafana. Take the label away, and send him the"
                " dashboard",
            ),
        ),
    )
