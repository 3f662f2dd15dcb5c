"""The protection of our own objects: it holds in every tenant's namespace, whatever his admission wall is. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired import names
from meshwright.desired.kubernetes.admission.policy import ALL, NOT_THE_OWNER, Check, Policy, Rule, tenant, text
from meshwright.spec.model import Kubernetes, Mesh

_KINDS = (
    Rule("", ("secrets", "serviceaccounts", "resourcequotas", "limitranges"), ALL),
    Rule("rbac.authorization.k8s.io", ("roles", "rolebindings"), ALL),
    Rule("networking.k8s.io", ("networkpolicies",), ALL),
    Rule("monitoring.coreos.com", ("servicemonitors", "podmonitors"), ALL, "*"),
)
_WORKLOADS = (
    Rule("", ("replicationcontrollers",)),
    Rule("apps", ("deployments", "statefulsets", "daemonsets", "replicasets")),
    Rule("batch", ("jobs", "cronjobs")),
)
_NONE = "{'metadata': {}}"
_EITHER = f"[object == null ? {_NONE} : dyn(object), oldObject == null ? {_NONE} : dyn(oldObject)]"


def ours(mesh: Mesh, kubernetes: Kubernetes, who: str) -> Iterator[Policy]:
    """Our objects, the labels of the namespaces themselves, and the marks that quarantine leaves."""
    yield _objects(kubernetes, who)
    yield _namespaces(mesh, kubernetes)
    yield _marks(who)
    yield _quarantine(who)


def _is_deployer(kubernetes: Kubernetes) -> str:
    deployer = kubernetes.deployer
    return f"request.userInfo.username == {text(f'system:serviceaccount:{deployer.namespace}:{deployer.name}')}"


def _objects(kubernetes: Kubernetes, who: str) -> Policy:
    """By label in the old or the new object, and by name: nobody may take a name before we do.

    A name that the server makes of generateName is known only afterwards, so its beginning counts.
    """
    variables = {
        "labelled": f"{_EITHER}.exists(o, o.metadata.?labels[?'{names.MESH}'].hasValue())",
        "name": f"{_EITHER}.map(o, o.metadata.?name.orValue(o.metadata.?generateName.orValue(''))).filter(n, n != '')",
        "named": f"variables.name.exists(n, n.startsWith('{names.PREFIX}') || n == '{names.PREFIX[:-1]}'"
        f" || (request.resource.resource == 'secrets' && n.startsWith('{names.TUNNEL_SECRET}'))"
        " || (request.resource.resource == 'serviceaccounts' && n == 'default')"
        " || (request.resource.resource == 'servicemonitors' && n == request.namespace + '-autodiscover')"
        " || (request.resource.resource == 'podmonitors' && n == request.namespace + '-pods'))",
    }
    return Policy(
        "protect",
        _KINDS,
        (
            Check(
                "!variables.labelled && !variables.named",
                "This object belongs to the mesh and is kept by its owner: it is not yours to make, change or delete."
                " For one of your own take another name, and no label of meshwright.io",
            ),
            Check(
                "request.operation == 'DELETE' || variables.name.all(n, size(n) <= 253)",
                "This name is too long: 253 characters at most. The server would take it, and nobody could ever"
                " ask for the object by its name",
            ),
        ),
        {"not-the-deployer": f"!({_is_deployer(kubernetes)})"},
        variables,
        who=who,
        always=True,
    )


def deployer_data(kubernetes: Kubernetes) -> Policy:
    """The deployer fills Secrets that are there; whatever else it is once allowed by mistake, it may not."""
    whole = "['labels', 'annotations', 'ownerReferences', 'finalizers']"
    return Policy(
        "deployer",
        (
            *_KINDS,
            Rule("", ("configmaps", "services", "persistentvolumeclaims", "pods"), ALL),
            Rule("", ("serviceaccounts/token",), ("CREATE",)),
            *_WORKLOADS,
        ),
        (
            Check(
                "request.operation == 'UPDATE' && request.resource.resource == 'secrets'"
                f" && oldObject.metadata.name.startsWith('{names.TUNNEL_SECRET}')"
                f" && '{names.MESH}' in oldObject.metadata.?labels.orValue({{}})",
                "The deployer fills the Secrets wireguard-... that the mesh has made, and writes nothing else",
            ),
            Check(
                "request.resource.resource != 'secrets' || request.operation != 'UPDATE' ||"
                f" ({whole}.all(k, dyn(object).metadata[?k] == dyn(oldObject).metadata[?k])"
                " && dyn(object).?immutable == dyn(oldObject).?immutable)",
                "The deployer changes the data of a Secret and nothing else: no label, annotation, owner or finalizer."
                " Use kubectl apply --server-side",
            ),
            Check(
                "request.resource.resource != 'secrets' || request.operation != 'UPDATE' ||"
                " dyn(object).?data.orValue({}).all(k, k == 'wg.conf')",
                "A Secret wireguard-... has one key: wg.conf",
            ),
        ),
        {"the-deployer-writes": _is_deployer(kubernetes)},
        always=True,
    )


def _namespaces(mesh: Mesh, kubernetes: Kubernetes) -> Policy:
    """A namespace's labels are read from the request itself, so here no selector can be trusted."""
    return Policy(
        "namespaces",
        (Rule("", ("namespaces", "namespaces/finalize", "namespaces/status"), ALL),),
        (
            Check(
                "false",
                "The namespace itself, its labels and its annotations are the owner's. Ask him",
            ),
        ),
        {
            "of-the-mesh": f"oldObject != null && oldObject.metadata.?labels[?'{names.MESH}'].orValue('')"
            f" == {text(mesh.name)}",
            "a-tenant-writes": tenant(kubernetes, "oldObject", "request.name"),
            **NOT_THE_OWNER,
        },
        always=True,
        everywhere=True,
    )


def _marks(who: str) -> Policy:
    """What stands in them is put back when a peer comes back, so no tenant may forge one."""
    marks = " && ".join(
        f"dyn(object).metadata.?{kind}.orValue({{}}).all(k, !k.startsWith('meshwright.io/')"
        f" || (oldObject == null ? '' : dyn(oldObject).metadata.?{kind}[?k].orValue(''))"
        f" == dyn(object).metadata.{kind}[k])"
        for kind in ("labels", "annotations")
    )
    why = "Labels and annotations of meshwright.io are set by the mesh only. Take them away"
    return Policy("marks", _WORKLOADS, (Check(marks, why),), who=who, always=True)


def _quarantine(who: str) -> Policy:
    """While a friend is out nobody of his writes anything, however he got the right to: what quarantine takes away
    stays away. Rights are given there by those who could lift the quarantine, and by nobody else.
    """
    may = "authorizer.group('').resource('namespaces').name(request.namespace).check('update').allowed()"
    return Policy(
        "quarantine",
        (Rule("*", ("*/*",), ("*",), "*", "Namespaced"),),
        (
            Check(
                "!variables.judged",
                "This namespace is in quarantine: its peer is out, and nothing is written here in his name."
                " Ask the owner to let him back in",
            ),
            Check(
                "request.resource.resource != 'rolebindings' || request.operation == 'DELETE' || " + may,
                "This namespace is in quarantine: here rights are given by those only who may change the namespace"
                " itself. Ask the owner",
            ),
        ),
        NOT_THE_OWNER,
        {"judged": who},
        always=True,
        marked=True,
    )
