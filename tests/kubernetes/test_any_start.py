"""From whatever state the objects are in, one apply makes them so, and touches nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from specimen import RBAC, Specimen, specimen, undeclared

from controlplane import ControlPlane
from meshwright.desired.names import MESH

pytestmark = pytest.mark.cluster
NAME = "start"
SPACE = f"{NAME}-ann"
EDITS: dict[str, list[dict[str, Any]]] = {
    "ServiceAccount": [{"automountServiceAccountToken": True}, {"imagePullSecrets": [{"name": "x"}]}],
    "Secret": [{"metadata": {"annotations": {"x": "y"}}}],
    "ResourceQuota": [{"spec": {"hard": {"pods": "500", "secrets": "2"}}}, {"spec": None}],
    "LimitRange": [{"spec": {"limits": [{"type": "Pod", "max": {"cpu": "64"}}]}}],
    "NetworkPolicy": [{"spec": {"ingress": [{}]}}, {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}],
    "Role": [{"rules": []}, {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}],
    "RoleBinding": [{"subjects": [{"kind": "User", "name": "eve", "apiGroup": RBAC}]}, {"subjects": None}],
    "ClusterRole": [{"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"eve": "1"}}]}}, {"rules": None}],
    "ClusterRoleBinding": [{"subjects": None}],
    "ValidatingAdmissionPolicy": [
        {"spec": {"matchConditions": [{"name": "never", "expression": "false"}]}},
        {"spec": {"variables": [{"name": "other", "expression": "1"}], "validations": [{"expression": "true"}]}},
        {"spec": {"failurePolicy": "Ignore", "matchConstraints": {"matchPolicy": "Exact"}}},
    ],
    "ValidatingAdmissionPolicyBinding": [{"spec": {"validationActions": ["Warn"]}}],
}
KINDS = sorted(EDITS)
START = ["as it is", "missing", "applied by us", "server-side", "kubectl apply", "kubectl create", "flux"]
state = st.fixed_dictionaries(
    {
        "start": st.sampled_from(START),
        "edits": st.lists(st.integers(0, 5), max_size=2),
        "who": st.sampled_from(["kubectl-edit", "eve", "meshwright", "helm"]),
        "label": st.sampled_from(["ours", "ours", "stripped"]),
        "cleared": st.sampled_from([False, False, True]),
    }
)


@pytest.fixture(scope="module")
def home(cluster: ControlPlane) -> Iterator[Specimen]:
    with specimen(cluster, NAME) as made:
        made.apply()
        yield made


@pytest.fixture(scope="module")
def strangers(home: Specimen) -> list[str]:
    """Objects in the same namespaces that are nobody's business."""
    made = []
    for kind, body in (
        ("Role", {"rules": []}),
        ("RoleBinding", {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}}),
        ("ResourceQuota", {"spec": {"hard": {"configmaps": "70"}}}),
        ("Secret", {"stringData": {"a": "b"}}),
        ("ConfigMap", {"data": {"a": "b"}}),
        ("ServiceAccount", {}),
        ("NetworkPolicy", {"apiVersion": "networking.k8s.io/v1", "spec": {"podSelector": {}}}),
    ):
        manifest = undeclared(NAME, kind, "strange", SPACE, body)
        home.kubectl("create", "-f", "-", stdin=manifest)
        made.append(home.id(kind, "strange"))
    return made


def put(home: Specimen, id: str, attrs: dict[str, Any], how: dict[str, Any]) -> None:
    """Bring one object into a state."""
    made: dict[str, Callable[[], Any]] = {
        "as it is": lambda: None,
        "missing": lambda: _gone(home, id),
        "applied by us": lambda: (_gone(home, id), _apply(home, attrs, "meshwright")),
        "server-side": lambda: (_gone(home, id), _apply(home, attrs, "kubectl")),
        "flux": lambda: (_gone(home, id), _apply(home, attrs, "kustomize-controller")),
        "kubectl apply": lambda: (_gone(home, id), home.kubectl("apply", "-f", "-", stdin=attrs)),
        "kubectl create": lambda: (_gone(home, id), home.kubectl("create", "-f", "-", stdin=attrs)),
    }
    made[how["start"]]()
    if not home.live(id):
        return
    choices = EDITS[attrs["kind"]]
    for number in how["edits"]:
        patch = choices[number % len(choices)]
        home.control.kubectl(*_patching(id), f"--field-manager={how['who']}", "-p", json.dumps(patch))
    if how["label"] == "stripped":
        home.patch(id, {"metadata": {"labels": {MESH: None}}})
    if how["cleared"]:
        home.patch(id, {"metadata": {"managedFields": [{}]}})


def _gone(home: Specimen, id: str) -> None:
    _, kind, *place = id.split("/")
    where = ["-n", place[0]] if len(place) == 2 else []
    home.kubectl("delete", kind, place[-1], *where, "--ignore-not-found")


def _apply(home: Specimen, attrs: dict[str, Any], who: str) -> None:
    home.kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={who}", "-f", "-", stdin=attrs)


def _patching(id: str) -> list[str]:
    _, kind, *place = id.split("/")
    where = ["-n", place[0]] if len(place) == 2 else []
    return ["patch", kind, place[-1], *where, "--type=merge"]


@settings(
    max_examples=25, derandomize=True, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.fixed_dictionaries({kind: state for kind in KINDS}), st.sets(st.sampled_from(KINDS), min_size=2, max_size=4))
def test_one_apply_is_enough(home: Specimen, strangers: list[str], states: dict[str, Any], touched: set[str]) -> None:
    before = [home.live(id) for id in strangers]
    assert all(before)
    wanted = home.wanted()
    for id, resource in wanted.items():
        kind = resource.attrs["kind"]
        if kind in touched and not id.endswith("/default"):
            put(home, id, json.loads(json.dumps(resource.attrs)), states[kind])
    todo = home.plan()
    conflicts = list(todo.conflicts)
    kept = {id: home.live(id) for id in conflicts}
    home.apply()
    assert {id: home.live(id) for id in conflicts} == kept  # not asked to
    home.apply(*conflicts)
    left = home.plan()
    assert ([c.id for c in left.changes], left.blocked) == ([], {})
    assert [home.live(id) for id in strangers] == before


def test_the_tree_applied_by_kubectl_leaves_an_empty_plan(cluster: ControlPlane) -> None:
    with specimen(cluster, "kubectled") as made:
        for resource in made.wanted().values():
            _apply(made, json.loads(json.dumps(resource.attrs)), "kubectl")
        assert [c.id for c in made.plan().changes] == []
        # and taking over from it by an edit of ours leaves nothing either
        quota = made.id("ResourceQuota", "meshwright-quota")
        made.edits = {quota: lambda manifest: manifest["spec"]["hard"].update({"pods": "11"})}
        assert [c.id for c in made.apply()] == [quota]
        assert [c.id for c in made.plan().changes] == []
