"""Which roles and bindings of a cluster are as they should be; what reaches out of a friend's namespace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshwright.desired.facts import ClusterFacts, Facts, TenantNamespace
from meshwright.events import Checked
from meshwright.spec.model import Mesh
from meshwright.verify import exposed, grants, surroundings
from meshwright.verify.grants import AGGREGATE
from meshwright.verify.spaces import spaces

NOW = datetime(2026, 11, 23, tzinfo=UTC)
STRANGERS = "bindings in the friends' namespaces name only who belongs there"
ELSEWHERE = "no other binding names somebody of the mesh"
CLIMBING = "nobody makes himself more in his own namespace"
BUILT_IN = "the roles admin, edit and view are Kubernetes' own"


def mesh(**kubernetes: Any) -> Mesh:
    """ann and ben have namespaces, cid's has no admission wall; dan is gone, his namespace is not."""
    return Mesh.model_validate(
        {
            "version": 1,
            "name": "home",
            "hub": {"node": "n", "address": "192.0.2.9", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
            "network": {"cidr": "10.100.0.0/16", "hub": "10.100.255.1"},
            "peers": {
                "ann": {"address": "10.100.0.1", "namespace": "ann"},
                "ben": {"address": "10.100.0.2", "namespace": "ben"},
                "cid": {"address": "10.100.0.3", "namespace": "cid", "tenant": {"admission": False}},
            },
            "kubernetes": kubernetes,
        }
    )


FACTS = Facts(
    NOW, cluster=ClusterFacts("1.36", {n: TenantNamespace(n, {"meshwright.io/peer": n}, {}) for n in ("ann", "dan")})
)
PLACES = spaces(mesh(), FACTS)


def role(name: str, *rules: dict[str, Any], namespace: str = "", **labels: str) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "labels": labels} | ({"namespace": namespace} if namespace else {})
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": meta, "rules": list(rules)}


def rule(verbs: str, resources: str, group: str = "") -> dict[str, Any]:
    return {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": [group]}


def added(name: str, *rules: dict[str, Any], to: str = "edit") -> dict[str, Any]:
    return role(name, *rules, **{f"{AGGREGATE}{to}": "true"})


def bound(
    name: str, subject: dict[str, str], namespace: str = "", of: str = "ClusterRole/view", **labels: str
) -> dict[str, Any]:
    kind, _, to = of.partition("/")
    meta: dict[str, Any] = {"name": name, "labels": labels} | ({"namespace": namespace} if namespace else {})
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": meta,
        "roleRef": {"kind": kind, "name": to},
        "subjects": [subject],
    }


def account(namespace: str, name: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def user(name: str) -> dict[str, str]:
    return {"kind": "User", "name": name}


def group(name: str) -> dict[str, str]:
    return {"kind": "Group", "name": name}


def seen(
    *things: dict[str, Any], of: Mesh | None = None, facts: Facts = FACTS
) -> tuple[dict[str, Checked], dict[str, str]]:
    """All checks by name, and what the failed ones saw."""
    kinds = {kind: [each for each in things if each["kind"] == kind] for kind in ("ClusterRole", "Role")}
    bindings = [each for each in things if each["kind"].endswith("Binding")]
    found = grants.judged(of or mesh(), facts, grants.grants(kinds["ClusterRole"], kinds["Role"], bindings))
    checks = {check.name: check for check in found}
    return checks, {name: check.observed for name, check in checks.items() if not check.ok}


WALL_UP = Mesh.model_validate(
    {
        **mesh().model_dump(by_alias=True, mode="json", exclude_unset=True),
        "peers": {"ann": {"address": "10.100.0.1", "namespace": "ann"}},
    }
)


@pytest.mark.parametrize(
    "rules",
    [
        rule("get", "secrets"),
        rule("create", "serviceaccounts/token"),
        rule("bind", "clusterroles", "rbac.authorization.k8s.io"),
        rule("escalate", "roles", "rbac.authorization.k8s.io"),
        rule("impersonate", "users"),
        rule("get", "nodes/proxy"),
        rule("patch", "helmcharts", "helm.cattle.io"),
        rule("create", "servicemonitors", "monitoring.coreos.com"),
        rule("update", "endpoints"),
        rule("create", "resourcequotas"),
        rule("*", "pods"),
        rule("get", "*"),
        rule("get", "pods", "*"),
    ],
    ids=str,
)
@pytest.mark.parametrize("to", ["admin", "edit", "view"])
def test_a_dangerous_rule_that_is_added_fails(rules: dict[str, Any], to: str) -> None:
    checks, failed = seen(added("extra", rule("get", "pods", "metrics.k8s.io"), rules, to=to), of=WALL_UP)
    assert list(failed) == [f"ClusterRole extra, added to {to}"]
    assert failed[f"ClusterRole extra, added to {to}"].startswith("dangerous: ")
    assert f"{AGGREGATE}{to}" in checks[f"ClusterRole extra, added to {to}"].hint


@pytest.mark.parametrize(
    "rules",
    [
        rule("get list watch", "pods", "metrics.k8s.io"),
        rule("get list", "servicemonitors", "monitoring.coreos.com"),
        rule("create", "certificates", "cert-manager.io"),
    ],
    ids=str,
)
def test_a_harmless_rule_that_is_added_is_told(rules: dict[str, Any]) -> None:
    checks, failed = seen(added("extra", rules))
    assert failed == {}
    assert rules["apiGroups"][0] in checks["ClusterRole extra, added to edit"].observed


def test_what_the_admission_wall_refuses_is_told_while_every_wall_is_up() -> None:
    flux = added("flux-edit", rule("create", "kustomizations", "kustomize.toolkit.fluxcd.io"))
    assert seen(flux, of=WALL_UP)[1] == {}
    assert seen(flux)[1] == {"ClusterRole flux-edit, added to edit": "dangerous: writing kustomize.toolkit.fluxcd.io"}


def test_a_role_without_the_label_or_with_another_value_adds_nothing() -> None:
    quiet = role("quiet", rule("*", "*"), **{f"{AGGREGATE}edit": "false"})
    checks, failed = seen(role("plain", rule("*", "*")), quiet)
    assert failed == {}
    assert checks["nothing is added to the roles admin, edit and view"].ok


def test_the_clusters_own_roles_may_be_what_they_are_and_no_more() -> None:
    own = added("system:aggregate-to-edit", rule("get", "secrets"), rule("impersonate", "serviceaccounts"))
    assert seen(own)[1] == {}
    old = added("system:aggregate-to-edit", rule("update", "endpoints"))
    assert seen(old)[1] == {BUILT_IN: "system:aggregate-to-edit has writing endpoints"}
    admin = {**role("admin"), "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"mine": "yes"}}]}}
    assert seen(admin)[1] == {BUILT_IN: "admin is not put together as Kubernetes does it"}
    fake = added("system:aggregate-to-more", rule("get", "secrets"))
    fake["metadata"]["labels"]["kubernetes.io/bootstrapping"] = "rbac-defaults"
    assert list(seen(fake)[1]) == ["ClusterRole system:aggregate-to-more, added to edit"], (
        "the label alone says nothing"
    )


OURS = {"meshwright.io/mesh": "home"}


@pytest.mark.parametrize(
    ("subject", "place"),
    [
        (account("ann", "robot"), "ann"),
        (group("system:serviceaccounts:ann"), "ann"),
        (user("system:serviceaccount:ann:robot"), "ann"),
        (account("collective-access", "peer-ann"), "ann"),
        (account("flux-system", "flux"), ""),
        (account("flux-system", "flux"), "flux-system"),
        (account("default", "other"), "default"),
        (user("owner"), ""),
        (user("system:anonymous"), "kube-public"),
        (group("system:masters"), ""),
    ],
    ids=str,
)
def test_who_belongs_where_he_is_named(subject: dict[str, str], place: str) -> None:
    assert seen(bound("b", subject, place))[1] == {}


@pytest.mark.parametrize(
    ("subject", "place", "name"),
    [
        (user("eve"), "ann", STRANGERS),
        (group("system:authenticated"), "ann", STRANGERS),
        (group("system:serviceaccounts:ben"), "ann", STRANGERS),
        (account("ben", "robot"), "ann", STRANGERS),
        (account("collective-access", "peer-ben"), "ann", STRANGERS),
        (account("collective-access", "peer-dan"), "dan", STRANGERS),
        (account("default", "mesh-deployer"), "ann", STRANGERS),
        (account("collective-access", "peer-ann"), "collective-access", STRANGERS),
        (account("flux-system", "flux"), "collective-access", STRANGERS),
        (account("collective-access", "peer-ann"), "", ELSEWHERE),
        (account("collective-access", "peer-ann"), "kube-system", ELSEWHERE),
        (account("ann", "robot"), "", ELSEWHERE),
        (account("dan", "robot"), "kube-system", ELSEWHERE),
        (account("default", "mesh-deployer"), "default", ELSEWHERE),
        (user("system:serviceaccount:collective-access:peer-ann"), "", ELSEWHERE),
        (user("system:serviceaccount:default:mesh-deployer"), "", ELSEWHERE),
        (user("system:anonymous"), "", ELSEWHERE),
        (group("system:serviceaccounts:ann"), "", ELSEWHERE),
        (group("system:serviceaccounts:collective-access"), "kube-system", ELSEWHERE),
        (group("system:serviceaccounts:default"), "", ELSEWHERE),
        (group("system:serviceaccounts"), "", ELSEWHERE),
        (group("system:authenticated"), "", ELSEWHERE),
        (group("system:unauthenticated"), "kube-public", ELSEWHERE),
    ],
    ids=str,
)
def test_who_does_not(subject: dict[str, str], place: str, name: str) -> None:
    failed = seen(bound("b", subject, place))[1]
    assert list(failed) == [name]
    assert failed[name].endswith(f"gives view to {grants.named(subject)}")


def test_with_oidc_the_friends_are_users_and_accounts_of_theirs_are_nobody() -> None:
    oidc = {"issuer_url": "https://id.example.net", "client_id": "k", "username_prefix": "oidc:"}
    of = mesh(access={"issuer": "oidc", "oidc": oidc})
    assert seen(bound("b", user("oidc:ann"), "ann"), of=of)[1] == {}
    assert list(seen(bound("b", user("oidc:ben"), "ann"), of=of)[1]) == [STRANGERS]
    assert list(seen(bound("b", user("oidc:ann")), of=of)[1]) == [ELSEWHERE]
    assert list(seen(bound("b", user("oidc:dan"), "dan"), of=of)[1]) == [STRANGERS]
    assert list(seen(bound("b", account("collective-access", "peer-ann"), "ann"), of=of)[1]) == [STRANGERS]


def test_our_bindings_are_known_by_label_name_and_place() -> None:
    deployer = account("default", "mesh-deployer")
    ann = account("collective-access", "peer-ann")
    ours = [
        bound("meshwright-deployer", deployer, "ann", "Role/meshwright-deployer", **OURS),
        bound("meshwright-admin", ann, "ann", "ClusterRole/admin", **OURS),
        bound("mesh-reader", ann, "", "ClusterRole/mesh-reader", **OURS),
    ]
    assert seen(*ours)[1] == {}
    for wrong in (
        bound("meshwright-deployer", deployer, "ann"),
        bound("meshwright-other", deployer, "ann", **OURS),
        bound("meshwright-deployer", deployer, "ann", **{"meshwright.io/mesh": "other"}),
        bound("meshwright-admin", account("collective-access", "peer-dan"), "dan", **OURS),
    ):
        assert list(seen(wrong)[1]) == [STRANGERS]
    for wrong in (bound("meshwright-admin", ann, "kube-system", **OURS), bound("other", ann, "", **OURS)):
        assert list(seen(wrong)[1]) == [ELSEWHERE]


def test_what_the_api_server_gives_everybody_is_known_by_its_name_and_role() -> None:
    everybody = group("system:authenticated")
    assert seen(bound("system:discovery", everybody, of="ClusterRole/system:discovery"))[1] == {}
    assert list(seen(bound("system:discovery", everybody, of="ClusterRole/cluster-admin"))[1]) == [ELSEWHERE]
    booted = bound("cluster-admin", everybody, of="ClusterRole/cluster-admin")
    booted["metadata"]["labels"]["kubernetes.io/bootstrapping"] = "rbac-defaults"
    assert list(seen(booted)[1]) == [ELSEWHERE]


@pytest.mark.parametrize(
    "rules",
    [rule("bind", "roles"), rule("escalate", "roles"), rule("impersonate", "users"), rule("*", "pods")],
    ids=str,
)
def test_a_role_that_climbs_fails_where_somebody_of_the_namespace_has_it(rules: dict[str, Any]) -> None:
    robot, ladder = account("ann", "robot"), role("ladder", rules, namespace="ann")
    assert list(seen(ladder, bound("b", robot, "ann", "Role/ladder"))[1]) == [CLIMBING]
    assert list(seen(role("high", rules), bound("b", robot, "ann", "ClusterRole/high"))[1]) == [CLIMBING]
    assert seen(ladder)[1] == {}, "bound to nobody"
    assert seen(role("ladder", rules, namespace="ben"), bound("b", robot, "ann", "Role/ladder"))[1] == {}
    assert seen(role("admin2", rule("get", "secrets")), bound("b", robot, "ann", "ClusterRole/admin2"))[1] == {}


def test_the_clusters_own_admin_is_no_ladder() -> None:
    admin = {
        **role("admin", rule("impersonate", "serviceaccounts")),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {f"{AGGREGATE}admin": "true"}}]},
    }
    assert seen(admin, bound("b", account("ann", "robot"), "ann", "ClusterRole/admin"))[1] == {}


def test_where_the_file_takes_the_wall_down_it_is_told() -> None:
    checks, failed = seen(bound("b", user("eve"), "cid"))
    assert failed == {}
    said = "none but what the file allows: RoleBinding cid/b gives view to User eve"
    assert checks[STRANGERS].observed == said
    assert seen(bound("b", user("eve"), "cid"), bound("b", user("eve"), "ann"))[1] == {
        STRANGERS: "RoleBinding ann/b gives view to User eve"
    }


def test_many_are_told_in_short_and_nothing_moves_the_cursor() -> None:
    many = [bound(f"b{n}", user("e\x1b[2Jve"), "ann") for n in range(9)]
    told = seen(*many)[1][STRANGERS]
    assert told.count("RoleBinding") == 5
    assert told.endswith("; and 4 more")
    assert told.isprintable()


def secret(namespace: str, name: str, of: str) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "annotations": {"kubernetes.io/service-account.name": of},
        }
    }


@pytest.mark.parametrize(
    ("namespace", "of", "ok"),
    [
        ("ann", "default", False),
        ("dan", "robot", False),
        ("collective-access", "peer-ann", False),
        ("default", "mesh-deployer", False),
        ("default", "other", True),
        ("kube-system", "mesh-deployer", True),
    ],
)
def test_endless_tokens_of_the_mesh(namespace: str, of: str, ok: bool) -> None:
    of_mesh = mesh().kubernetes
    assert of_mesh
    found = exposed.tokens(of_mesh, PLACES, [secret(namespace, "t", of)])
    assert found.ok == ok
    assert found.observed == ("none" if ok else f"Secret {namespace}/t of ServiceAccount {of}")


def service(namespace: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "web"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "how"),
    [
        ({"type": "ClusterIP"}, ""),
        ({}, ""),
        ({"type": "ClusterIP", "externalIPs": []}, ""),
        ({"type": "NodePort"}, "NodePort"),
        ({"type": "LoadBalancer"}, "LoadBalancer"),
        ({"type": "ExternalName", "externalName": "x"}, "ExternalName"),
        ({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]}, "externalIPs 192.0.2.1"),
        ({"type": "NodePort", "externalIPs": ["192.0.2.1"]}, "NodePort with externalIPs 192.0.2.1"),
    ],
)
def test_open_services(spec: dict[str, Any], how: str) -> None:
    found = exposed.services(PLACES, [service("ann", **spec)])
    assert (found.ok, found.observed) == ((False, f"Service ann/web: {how}") if how else (True, "none"))
    allowed = exposed.services(PLACES, [service("cid", **spec), service("kube-system", **spec)])
    assert allowed.ok
    assert ("cid/web" in allowed.observed) == bool(how)
    assert "kube-system" not in allowed.observed


def ingress(namespace: str, *hosts: str | None, **spec: Any) -> dict[str, Any]:
    rules = [{"host": host} if host else {} for host in hosts]
    return {"metadata": {"namespace": namespace, "name": "i"}, "spec": {"rules": rules, **spec}}


@pytest.mark.parametrize(
    ("ingresses", "said"),
    [
        ([ingress("ann", "a.example.net"), ingress("ann", "a.example.net")], ""),
        ([ingress("ann", "a.example.net"), ingress("ben", "b.example.net")], ""),
        ([ingress("web", "a.example.net"), ingress("shop", "a.example.net")], ""),
        ([ingress("web", None), ingress("ann", "a.example.net")], ""),
        ([ingress("ann", "a.example.net"), ingress("ben", "A.example.net")], "a.example.net by ann and ben"),
        ([ingress("ann", "a.example.net"), ingress("web", "a.example.net")], "a.example.net by ann and web"),
        ([ingress("ann", "*.example.net"), ingress("web", "a.example.net")], "a.example.net by ann and web"),
        ([ingress("ann", "*.example.net"), ingress("web", "a.b.example.net")], ""),
        ([ingress("cid", "a.example.net"), ingress("web", "a.example.net")], "a.example.net by cid and web"),
        ([ingress("ann", None)], "an Ingress of ann claims every host"),
        ([ingress("ann", defaultBackend={"service": {}})], "an Ingress of ann claims every host"),
    ],
)
def test_hosts_claimed_twice(ingresses: list[dict[str, Any]], said: str) -> None:
    found = exposed.hosts(PLACES, ingresses)
    assert (found.ok, found.observed) == (not said, said or "none")


def node(name: str, version: str = "v1.36.3+k3s1", **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "status": {"nodeInfo": {"kubeletVersion": version}}}


def test_load_balancers_of_k3s_and_the_hub() -> None:
    label = {surroundings.SERVICE_LB: "true"}
    hub, off = node("n"), node("m", **label)
    for nodes, said in (
        ([hub], "k3s may put"),
        ([hub, node("m")], "k3s may put"),
        ([node("n", **label), off], "k3s may put"),
        ([hub, off], "keeps them off"),
    ):
        (check,) = surroundings.service_lb(mesh(), nodes)
        assert check.ok
        assert said in check.observed
    assert list(surroundings.service_lb(mesh(), [node("n", "v1.36.3")])) == []
    assert list(surroundings.service_lb(mesh(), [node("m")])) == [], "the hub is no node"


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("rancher/local-path-provisioner:v0.0.33", "bring it up to date"),
        ("docker.io/rancher/local-path-provisioner:0.0.9@sha256:00", "bring it up to date"),
        ("rancher/local-path-provisioner:v0.0.34", "v0.0.34"),
        ("rancher/local-path-provisioner:v0.1.0", "v0.1.0"),
        ("rancher/local-path-provisioner:master", ""),
        ("rancher/other:v0.0.1", ""),
    ],
)
def test_the_release_of_local_path_provisioner(image: str, said: str) -> None:
    store = {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}}
    found = list(surroundings.local_path([store]))
    assert len(found) == bool(said)
    assert all(check.ok and check.observed.endswith(said) for check in found)
