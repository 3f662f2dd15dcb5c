"""The ways to more rights: credentials, roles, bindings, other people's names."""

from __future__ import annotations

from typing import Any

from api import Request, create, get, merge, patch
from attempt import OWN_BINDING, OWN_ROLE, Attempt, acting, add, core
from things import RBAC, Body, account, allow, binding, labelled, make, role, secret, token
from world import ACCESS, DEPLOYER, JAKE, STEVE


def credentials() -> list[Attempt]:
    sa = {"kubernetes.io/service-account.name": "worker"}
    own = f"{core('ServiceAccount', 'worker')}/token"
    hour = Request("POST", own, token(3600))
    bound = {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "own"}}
    never = "a credential that never ends"
    return [
        Attempt(
            "a token Secret of one's own account",
            create(secret(JAKE, type="kubernetes.io/service-account-token", **sa)),
            never,
            create(secret(JAKE, **sa)),
            policy="secret-types",
        ),
        Attempt(
            "a bootstrap token",
            create(secret(JAKE, type="bootstrap.kubernetes.io/token")),
            never,
            create(secret(JAKE)),
            policy="secret-types",
        ),
        Attempt(
            "a token for a year",
            Request("POST", own, token(365 * 86400)),
            "lives for 24 hours at most",
            Request("POST", own, token(86400)),
            policy="tokens",
        ),
        Attempt(
            "a token a second beyond the cap",
            Request("POST", own, token(86401)),
            "lives for 24 hours at most",
            hour,
            policy="tokens",
        ),
        Attempt(
            "a token of which the server makes a year",
            Request("POST", f"{core('ServiceAccount', 'default')}/token", token(3607, **bound)),
            "would live for a year",
            Request("POST", f"{core('ServiceAccount', 'default')}/token", token(3600, **bound)),
            policy="tokens",
        ),
        Attempt(
            "a token of one's own access account",
            Request("POST", f"{core('ServiceAccount', 'peer-jake', ACCESS)}/token", token(3600)),
            'cannot create resource "serviceaccounts/token"',
            hour,
        ),
        Attempt(
            "a token of another friend",
            Request("POST", f"{core('ServiceAccount', 'peer-steve', ACCESS)}/token", token(3600)),
            'cannot create resource "serviceaccounts/token"',
            hour,
        ),
        Attempt(
            "a token of the deployer",
            Request("POST", f"{core('ServiceAccount', DEPLOYER, 'default')}/token", token(3600)),
            'cannot create resource "serviceaccounts/token"',
            hour,
        ),
        Attempt(
            "a certificate for another name",
            create(
                make(
                    "certificates.k8s.io/v1",
                    "CertificateSigningRequest",
                    "me",
                    spec={
                        "request": "eA==",
                        "signerName": "kubernetes.io/kube-apiserver-client",
                        "usages": ["client auth"],
                    },
                )
            ),
            'cannot create resource "certificatesigningrequests"',
            hour,
        ),
    ]


def rights() -> list[Attempt]:
    def to(title: str, subject: Body, **more: Any) -> Attempt:
        return Attempt(
            title,
            create(binding(JAKE, subject, **more)),
            "ServiceAccounts of this namespace only",
            create(binding(JAKE, account("worker", JAKE))),
            policy="bindings",
        )

    def rule_(title: str, rule: Body, says: str = "names its verbs", policy: str = "roles") -> Attempt:
        fine = create(role(JAKE, allow("get list", "pods")))
        return Attempt(title, create(role(JAKE, rule)), says, fine, policy=policy)

    group = {"apiGroup": RBAC, "kind": "Group", "name": "system:authenticated"}
    user = {"apiGroup": RBAC, "kind": "User", "name": "mallory"}
    fine = create(binding(JAKE, account("worker", JAKE), "edit"))
    cluster = make(
        f"{RBAC}/v1",
        "ClusterRoleBinding",
        "me",
        subjects=[account("worker", JAKE)],
        roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
    )
    stranger = account("default", STEVE)
    attempt = "attempting to grant RBAC permissions not currently held"
    return [
        to("rights for everybody", group),
        to("rights for a stranger", user),
        to("rights for an account of another namespace", account("default", STEVE)),
        to("rights for another friend", account("peer-steve", ACCESS)),
        to("rights for the deployer", account(DEPLOYER, "default")),
        Attempt(
            "a stranger added to a binding",
            patch(OWN_BINDING, add("/subjects/-", user)),
            "ServiceAccounts of this namespace only",
            patch(OWN_BINDING, add("/subjects/-", account("default", JAKE))),
            policy="bindings",
        ),
        Attempt(
            "cluster-admin in one's namespace",
            create(binding(JAKE, account("worker", JAKE), "cluster-admin")),
            "the ClusterRole admin, edit or view",
            fine,
            policy="bindings",
        ),
        Attempt(
            "a role of the system's",
            create(binding(JAKE, account("worker", JAKE), "system:node")),
            "the ClusterRole admin, edit or view",
            fine,
            policy="bindings",
        ),
        Attempt("rights in the whole cluster", create(cluster), 'cannot create resource "clusterrolebindings"', fine),
        Attempt(
            "a ClusterRole that tops up admin",
            create(
                labelled(
                    make(f"{RBAC}/v1", "ClusterRole", "me", rules=[allow("*", "*", "*")]),
                    **{"rbac.authorization.k8s.io/aggregate-to-admin": "true"},
                )
            ),
            'cannot create resource "clusterroles"',
            create(role(JAKE, allow("get", "pods"))),
        ),
        rule_("a role to be somebody else", allow("impersonate", "serviceaccounts")),
        rule_("a role that may bind", allow("bind", "roles", RBAC)),
        rule_("a role that may escalate", allow("escalate", "roles", RBAC)),
        *(
            Attempt(title, create(request), attempt, create(good), "steve")
            for title, request, good in (
                (
                    "cluster-admin in one's namespace, by who may not bind",
                    binding(STEVE, stranger, "cluster-admin"),
                    binding(STEVE, stranger, "admin"),
                ),
                (
                    "a role that may bind, by who may not",
                    role(STEVE, allow("bind", "roles", RBAC)),
                    role(STEVE, allow("get", "roles", RBAC)),
                ),
                (
                    "a role that may escalate, by who may not",
                    role(STEVE, allow("escalate", "roles", RBAC)),
                    role(STEVE, allow("get", "roles", RBAC)),
                ),
                (
                    "a role to read the house's nodes in full",
                    role(STEVE, allow("get", "nodes/proxy")),
                    role(STEVE, allow("get", "pods/proxy")),
                ),
            )
        ),
        rule_("a role for all verbs", allow("*", "pods")),
        Attempt(
            "a role with rights that one has not",
            create(role(STEVE, allow("create", "resourcequotas"))),
            attempt,
            create(role(STEVE, allow("get", "resourcequotas"))),
            "steve",
        ),
        Attempt(
            "a role changed later",
            merge(OWN_ROLE, {"rules": [allow("impersonate", "serviceaccounts")]}),
            "names its verbs",
            merge(OWN_ROLE, {"rules": [allow("get list", "pods")]}),
            policy="roles",
        ),
        Attempt(
            "being the administrator",
            acting(get(core("Secret")), **{"Impersonate-Group": "system:masters"}),
            "cannot impersonate resource",
            acting(get(core("Secret"))),
        ),
    ]
