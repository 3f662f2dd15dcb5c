"""Walls that name the tenants: what no friend, no pod of his and no deployer may write. Pure.

The owner, the kubelet and the controllers are never judged here, so nobody who repairs things is locked out.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.kubernetes.admission.ours import deployer_data, ours
from meshwright.desired.kubernetes.admission.policy import Check, Policy, Rule, tenant
from meshwright.spec.model import Kubernetes, Mesh

TOKEN_SECONDS = 24 * 60 * 60
KUBELET_SECONDS = 3607
"""A token of exactly this age for a pod is taken for one of the kubelet's, and lives for a year."""
OPERATORS = (
    "monitoring.coreos.com",
    "helm.cattle.io",
    "k3s.cattle.io",
    "helm.toolkit.fluxcd.io",
    "kustomize.toolkit.fluxcd.io",
    "argoproj.io",
    "traefik.io",
    "traefik.containo.us",
    "externaldns.k8s.io",
    "external-secrets.io",
    "acme.cert-manager.io",
    "cilium.io",
    "crd.projectcalico.org",
    "k8s.cni.cncf.io",
)
"""Their controllers do with the cluster's rights what is written to them."""
KINDS = (
    Rule(
        "gateway.networking.k8s.io",
        ("gateways", "tcproutes", "udproutes", "listenersets", "xlistenersets"),
        version="*",
    ),
    Rule("cert-manager.io", ("certificaterequests",), version="*"),
)


def policies(mesh: Mesh, kubernetes: Kubernetes) -> Iterator[Policy]:
    """What is ours, and the ways to more rights."""
    who = tenant(kubernetes)
    yield from ours(mesh, kubernetes, who)
    yield deployer_data(kubernetes)
    yield _secret_types(who)
    yield _tokens(who)
    yield _bindings(who)
    yield _roles(who)
    yield _network_policies(who)
    yield _operators(who)


def _secret_types(who: str) -> Policy:
    types = "['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token']"
    return Policy(
        "secret-types",
        (Rule("", ("secrets",)),),
        (
            Check(
                f"oldObject != null || !(object.?type.orValue('') in {types})",
                "A Secret of this type would hold a credential that never ends."
                " Ask for a token that does: kubectl create token ACCOUNT",
            ),
        ),
        who=who,
    )


def _tokens(who: str) -> Policy:
    return Policy(
        "tokens",
        (Rule("", ("serviceaccounts/token",), ("CREATE",)),),
        (
            Check(
                f"object.spec.?expirationSeconds.orValue(0) <= {TOKEN_SECONDS}",
                "A token here lives for 24 hours at most. Ask for less (--duration=24h), and again when it ends",
            ),
            Check(
                f"object.spec.?expirationSeconds.orValue(0) != {KUBELET_SECONDS} || !has(object.spec.boundObjectRef)",
                "A token for a pod with this duration would live for a year. Ask for another duration (--duration=1h)",
            ),
        ),
        who=who,
    )


def _bindings(who: str) -> Policy:
    role = "(object.roleRef.kind == 'Role' || object.roleRef.name in ['admin', 'edit', 'view'])"
    return Policy(
        "bindings",
        (Rule("rbac.authorization.k8s.io", ("rolebindings",)),),
        (
            Check(
                "object.?subjects.orValue([]).all(s, (s.kind == 'ServiceAccount' && s.?namespace.orValue('')"
                " == request.namespace) || (oldObject != null && s in oldObject.?subjects.orValue([])))",
                "Here rights are given to ServiceAccounts of this namespace only: no users, no groups, no accounts of"
                " other namespaces. Who else should work here is the owner's to say",
            ),
            Check(
                f"{role} || (oldObject != null && object.roleRef == oldObject.roleRef)",
                "Bind a Role of this namespace, or the ClusterRole admin, edit or view",
            ),
        ),
        who=who,
    )


def _roles(who: str) -> Policy:
    return Policy(
        "roles",
        (Rule("rbac.authorization.k8s.io", ("roles",)),),
        (
            Check(
                "object.?rules.orValue([]).all(r, (oldObject != null && r in oldObject.?rules.orValue([]))"
                " || !r.verbs.exists(v, v in ['*', 'impersonate', 'bind', 'escalate']))",
                "A Role here names its verbs, and none of impersonate, bind, escalate or *: with those it would be more"
                " than it says",
            ),
        ),
        who=who,
    )


def _network_policies(who: str) -> Policy:
    """Network policies add up: one that opens a way opens it, whatever the others say."""
    peers = "(size(r.?{0}.orValue([])) > 0 && r.{0}.all(p, has(p.podSelector) && !has(p.ipBlock)"
    peers += " && !has(p.namespaceSelector)))"
    why = (
        "A NetworkPolicy here may open ways between pods of this namespace only: every entry of ingress and egress"
        " needs from or to, with nothing but a podSelector. For other ways ask the owner"
    )
    checks = [
        f"object.spec.?{way}.orValue([]).all(r, {peers.format(end)}"
        f" || (oldObject != null && r in oldObject.spec.?{way}.orValue([])))"
        for way, end in (("ingress", "from"), ("egress", "to"))
    ]
    rules = (Rule("networking.k8s.io", ("networkpolicies",)),)
    return Policy("network-policies", rules, tuple(Check(check, why) for check in checks), who=who)


def _operators(who: str) -> Policy:
    rules = (*(Rule(group, ("*",), version="*") for group in OPERATORS),)
    why = (
        "Objects of this kind are carried out with the rights of the whole cluster, so only the owner writes them."
        " Ask him, or use what your namespace has: label prometheus.io/scrape for metrics, an Ingress for pages"
    )
    return Policy("operators", (*rules, *KINDS), (Check("false", why),), who=who)
