"""Whatever is edited by hand on an object of ours is seen, with who did it, and mended by one apply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from specimen import RBAC, Specimen, specimen

from controlplane import ControlPlane
from meshwright.plan import text

pytestmark = pytest.mark.cluster
NAME = "edits"
SPACE = f"{NAME}-ann"
WIDE = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
STRANGER = {"kind": "User", "name": "eve", "apiGroup": RBAC}


@pytest.fixture(scope="module")
def home(cluster: ControlPlane) -> Iterator[Specimen]:
    with specimen(cluster, NAME) as made:
        made.apply()
        yield made


def ids(todo: Any) -> list[str]:
    return [change.id for change in todo.changes]


def test_every_kind_is_there_and_a_second_plan_is_empty(home: Specimen) -> None:
    assert ids(home.plan()) == []
    assert {id.split("/")[1] for id in home.wanted()} == {
        "namespace", "serviceaccount", "secret", "resourcequota", "limitrange", "networkpolicy", "role", "rolebinding",
        "clusterrole", "clusterrolebinding", "validatingadmissionpolicy", "validatingadmissionpolicybinding",
    }  # fmt: skip
    assert [id for id in home.wanted() if not home.live(id)] == []


# id -> merge patches, each by a stranger; the field that the plan has to name
PATCHES: list[tuple[str, dict[str, Any], str]] = [
    (f"namespace/{SPACE}", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}, "enforce"),
    (f"namespace/{SPACE}", {"metadata": {"labels": {"meshwright.io/peer": None}}}, "meshwright.io/peer"),
    (f"namespace/{SPACE}", {"metadata": {"annotations": {"meshwright.io/ingress-domain": "eve.net"}}}, "ingress"),
    (f"serviceaccount/{SPACE}/default", {"automountServiceAccountToken": True}, "automount"),
    (f"serviceaccount/{SPACE}/default", {"imagePullSecrets": [{"name": "x"}]}, "imagePullSecrets"),
    (f"secret/{SPACE}/wireguard-ann", {"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}}, "part-of"),
    (f"resourcequota/{SPACE}/meshwright-quota", {"spec": {"hard": {"pods": "500"}}}, "spec.hard.pods"),
    (f"resourcequota/{SPACE}/meshwright-quota", {"spec": {"hard": {"pods": None}}}, "spec.hard.pods"),
    (f"resourcequota/{SPACE}/meshwright-quota", {"spec": {"hard": {"secrets": "1"}}}, "spec.hard.secrets"),
    (f"resourcequota/{SPACE}/meshwright-quota", {"spec": None}, "spec"),
    (f"limitrange/{SPACE}/meshwright-limits", {"spec": {"limits": []}}, "spec.limits"),
    (
        f"limitrange/{SPACE}/meshwright-limits",
        {"spec": {"limits": [{"type": "Container", "default": {"cpu": "8"}}]}},
        "spec.limits",
    ),
    (
        f"networkpolicy/{SPACE}/meshwright-default-deny",
        {"spec": {"podSelector": {"matchLabels": {"app": "none"}}}},
        "spec.podSelector",
    ),
    (f"networkpolicy/{SPACE}/meshwright-default-deny", {"spec": {"ingress": [{}]}}, "spec.ingress"),
    (f"networkpolicy/{SPACE}/meshwright-default-deny", {"spec": {"policyTypes": ["Ingress"]}}, "policyTypes"),
    (f"networkpolicy/{SPACE}/meshwright-dns", {"spec": {"egress": [{}]}}, "spec.egress"),
    (f"role/{SPACE}/meshwright-deployer", {"rules": [WIDE]}, "rules"),
    (f"role/{SPACE}/meshwright-deployer", {"rules": None}, "rules"),
    (f"rolebinding/{SPACE}/meshwright-admin", {"subjects": [STRANGER]}, "subjects"),
    (f"rolebinding/{SPACE}/meshwright-admin", {"subjects": None}, "subjects"),
    (f"rolebinding/{SPACE}/meshwright-admin", {"metadata": {"labels": {"app.kubernetes.io/part-of": None}}}, "part-of"),
    (f"clusterrole/{NAME}-reader", {"rules": [WIDE]}, "rules"),
    (
        f"clusterrole/{NAME}-reader",
        {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"eve": "1"}}]}},
        "aggregationRule",
    ),
    (f"clusterrolebinding/{NAME}-reader", {"subjects": [STRANGER]}, "subjects"),
    (f"validatingadmissionpolicy/{NAME}-services", {"spec": {"failurePolicy": "Ignore"}}, "failurePolicy"),
    (
        f"validatingadmissionpolicy/{NAME}-services",
        {"spec": {"matchConditions": [{"name": "never", "expression": "false"}]}},
        "spec.matchConditions",
    ),
    (
        f"validatingadmissionpolicy/{NAME}-services",
        {"spec": {"validations": [{"expression": "true"}]}},
        "spec.validations",
    ),
    (
        f"validatingadmissionpolicy/{NAME}-services",
        {
            "spec": {
                "variables": [{"name": "other", "expression": "true"}],
                "validations": [{"expression": "variables.other"}],
            }
        },
        "spec.variables",
    ),
    (
        f"validatingadmissionpolicy/{NAME}-services",
        {"spec": {"matchConstraints": {"namespaceSelector": {"matchLabels": {"no": "where"}}}}},
        "spec.matchConstraints",
    ),
    (f"validatingadmissionpolicy/{NAME}-services", {"spec": {"auditAnnotations": [
        {"key": "k", "valueExpression": "'v'"}]}}, "spec.auditAnnotations"),
    (f"validatingadmissionpolicybinding/{NAME}-services", {"spec": {"validationActions": ["Audit"]}}, "Actions"),
    (f"validatingadmissionpolicybinding/{NAME}-services", {"spec": {"validationActions": ["Warn"]}}, "Actions"),
    (
        f"validatingadmissionpolicybinding/{NAME}-services",
        {"spec": {"matchResources": {"objectSelector": {"matchLabels": {"no": "thing"}}}}},
        "spec.matchResources",
    ),
    (
        f"validatingadmissionpolicybinding/{NAME}-services",
        {"spec": {"matchResources": {"excludeResourceRules": [{
            "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}]}}},
        "spec.matchResources",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("id", "patch", "field"), PATCHES, ids=[f"{i.split('/')[0]}-{f}" for i, _, f in PATCHES])
def test_an_edited_field_is_found_and_mended(home: Specimen, id: str, patch: dict[str, Any], field: str) -> None:
    id = f"kubernetes/{id}"
    home.patch(id, patch, manager="eve")
    todo = home.plan()
    assert ids(todo) == [id]
    assert field in text.text(todo)
    home.apply()
    assert ids(home.plan()) == []


@pytest.mark.parametrize(
    ("id", "patch"),
    [p for p in [(i, p) for i, p, _ in PATCHES] if "None" not in str(p[1]) and "namespace/" not in p[0]],
)
def test_the_plan_says_who_did_it(home: Specimen, id: str, patch: dict[str, Any]) -> None:
    home.patch(f"kubernetes/{id}", patch, manager="eve")
    assert "(held by eve" in text.text(home.plan())
    home.apply()


def test_every_kind_that_is_deleted_comes_back(home: Specimen) -> None:
    # what makes others wait on it, or takes long to go, is left out here
    for id in home.wanted():
        _, kind, *place = id.split("/")
        if kind != "namespace":
            where = ["-n", place[0]] if len(place) == 2 else []
            home.kubectl("delete", kind, place[-1], *where)
    gone = {id for id in home.wanted() if "/namespace/" not in id and not id.endswith("/default")}
    todo = home.plan()
    assert {c.id for c in todo.changes if c.verb == "create"} >= gone
    home.apply()
    assert ids(home.plan()) == []


def test_a_binding_to_another_role_is_made_again(home: Specimen) -> None:
    """The server lets nobody change a role that is bound; the plan need not know."""
    id = home.id("RoleBinding", "meshwright-admin")
    binding = {key: value for key, value in home.live(id).items() if key != "metadata"}
    meta = {"name": "meshwright-admin", "namespace": SPACE, "labels": home.live(id)["metadata"]["labels"]}
    home.kubectl("delete", "rolebinding", "meshwright-admin", "-n", SPACE)
    ref = {**binding["roleRef"], "name": "cluster-admin"}
    home.kubectl("create", "-f", "-", stdin={**binding, "metadata": meta, "roleRef": ref})
    todo = home.plan()
    assert [(c.id, c.verb) for c in todo.changes] == [(id, "update")]
    home.write(todo)
    assert home.live(id)["roleRef"]["name"] == "admin"
    assert ids(home.plan()) == []


def test_a_replaced_object_is_mended_whole(home: Specimen) -> None:
    """kubectl replace puts another object in the place of ours, under our label."""
    id = home.id("NetworkPolicy", "meshwright-default-deny")
    live = home.live(id)
    other = {
        "podSelector": {"matchLabels": {"x": "y"}},
        "ingress": [{"from": [{"podSelector": {}}]}],
        "egress": [{}],
        "policyTypes": ["Egress"],
    }
    meta = {key: live["metadata"][key] for key in ("name", "namespace", "labels")}
    home.kubectl("replace", "-f", "-", stdin={**live, "metadata": meta, "spec": other})
    assert ids(home.plan()) == [id]
    home.apply()
    assert home.live(id)["spec"] == live["spec"]
    assert ids(home.plan()) == []


def test_strangers_labels_and_annotations_stay(home: Specimen) -> None:
    id = home.id("RoleBinding", "meshwright-admin")
    home.patch(id, {"metadata": {"labels": {"team": "x"}, "annotations": {"note": "hers"}}})
    assert ids(home.plan()) == []
    home.patch(id, {"subjects": []})
    home.apply()
    meta = home.live(id)["metadata"]
    assert (meta["labels"]["team"], meta["annotations"]["note"]) == ("x", "hers")


def test_an_equal_value_is_no_change_whoever_set_it(home: Specimen) -> None:
    id = home.id("ResourceQuota", "meshwright-quota")
    home.patch(id, {"spec": {"hard": {"limits.cpu": "500m", "limits.memory": "1Gi", "pods": "10"}}}, manager="eve")
    assert ids(home.plan()) == []
    policy = home.id("ValidatingAdmissionPolicy", f"{NAME}-services", "")
    home.patch(policy, {"spec": {"matchConstraints": {"matchPolicy": "Equivalent"}}}, manager="eve")
    assert ids(home.plan()) == []


def test_a_field_that_we_no_longer_declare_goes(home: Specimen) -> None:
    quota, role = home.id("ResourceQuota", "meshwright-quota"), home.id("RoleBinding", "meshwright-deployer")
    try:
        home.edits = {
            quota: lambda m: m["spec"]["hard"].update({"secrets": "9"}),
            role: lambda m: m["metadata"].update({"annotations": {"meshwright.io/x": "1"}}),
        }
        home.apply()
        assert home.live(quota)["spec"]["hard"]["secrets"] == "9"
    finally:
        home.edits = {}
    todo = home.plan()
    assert sorted(ids(todo)) == sorted([quota, role])
    home.apply()
    assert "secrets" not in home.live(quota)["spec"]["hard"]
    assert "annotations" not in home.live(role)["metadata"]
    assert ids(home.plan()) == []


def test_a_finalizer_does_not_keep_what_has_to_go(home: Specimen) -> None:
    id = home.id("RoleBinding", "meshwright-deployer")
    home.patch(id, {"metadata": {"finalizers": ["eve.example.net/stay"]}})
    home.without = {id}
    try:
        assert [(c.id, c.verb) for c in home.apply()] == [(id, "delete")]
        assert home.live(id) == {}
    finally:
        home.without = set()
        home.apply()
