"""Friends who are out, and friends who take our labels off: what verify says of them, on a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from manor import Manor, faults, names

from controlplane import ControlPlane
from meshwright.desired.names import MESH, PEER, QUARANTINE
from meshwright.verify import standing
from tenancy import belongings, binding, eventually, held_on

pytestmark = pytest.mark.cluster
_serial = iter(range(1000))


@pytest.fixture
def manor(cluster: ControlPlane) -> Iterator[Manor]:
    here = Manor(cluster, f"stand{next(_serial)}")
    try:
        assert here.apply() == []
        yield here
    finally:
        here.gone()


def test_nobody_left_is_said_in_one_line(manor: Manor) -> None:
    assert names(manor.standing().values()) == ["accounts of friends who are out"]
    assert faults(manor.standing()) == []


@pytest.mark.parametrize("way", ["removed", "disabled"])
def test_of_a_friend_who_goes_what_remains_is_listed(manor: Manor, way: str) -> None:
    space, access = manor.space("ann"), f"{manor.name}-access"
    home, account = f"the namespace {space} of ann, who is out", "the account of ann, who is out"
    many = [{"kind": "ServiceAccount", "name": f"s{n:0200}", "namespace": space} for n in range(900)]
    manor.make(*belongings(space), {**binding("wide", "robot", space, namespace=space), "subjects": many})
    if way == "removed":
        manor.out.add("ann")
    else:
        manor.peers["ann"] = {"disabled": True}
    before = manor.standing()
    assert faults(before) == [home, account], "not applied yet"
    assert "no quarantine" in before[home].observed
    assert f"serviceaccount/{access}/peer-ann is there" in before[account].observed
    assert f"rolebinding/{space}/meshwright-admin names it" in before[account].observed
    assert f"clusterrolebinding/{manor.name}-reader names it" in before[account].observed
    with held_on(manor, "ann", "alone") as node:
        assert manor.apply() == []
        eventually(lambda: manor.names("ann", "pods") == {"alone"})
        found = manor.standing()
        assert faults(found) == [home]
        assert found[home].observed.startswith(f"still there: pods alone (ending on {node}); kept: 1 ConfigMap, ")
        assert f"kubectl describe pod -n {space} alone" in found[home].hint
    eventually(lambda: not manor.names("ann", "pods"))

    found = manor.standing()
    assert faults(found) == []
    assert found[home].observed == (
        "kept: 1 ConfigMap, 1 PersistentVolumeClaim, 1 Secret, 1 ServiceAccount, 7 workloads at rest,"
        " his RoleBindings robot to be given back; gone for good, too many or too large to keep: RoleBindings wide"
    )
    assert found[account].observed == "none"


def test_what_still_gives_somebody_rights_who_is_out_is_named(manor: Manor) -> None:
    space, ben, access = manor.space("ann"), manor.space("ben"), f"{manor.name}-access"
    home, account = f"the namespace {space} of ann, who is out", "the account of ann, who is out"
    manor.out.add("ann")
    assert manor.apply() == []
    assert faults(manor.standing()) == []
    manor.make(
        binding("for-robot", "robot", space, namespace=ben),
        binding("for-ann", "peer-ann", access, namespace=ben),
        binding("for-zed", "peer-zed", access, namespace=ben),
        binding("for-ben", "peer-ben", access, namespace=ben),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "peer-old", "namespace": access}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": access}},
    )
    named = binding("for-user", "x", ben, namespace=ben)
    subject = {
        "kind": "User",
        "name": f"system:serviceaccount:{access}:peer-ann",
        "apiGroup": named["roleRef"]["apiGroup"],
    }
    manor.make({**named, "subjects": [subject]})
    found = manor.standing()
    assert faults(found) == [home, account, "the account of old, who is out", "the account of zed, who is out"]
    assert f"rights by rolebinding/{ben}/for-robot" in found[home].observed
    assert found[account].observed == f"rolebinding/{ben}/for-ann names it, rolebinding/{ben}/for-user names it"
    assert found["the account of old, who is out"].observed == f"serviceaccount/{access}/peer-old is there"


def test_who_came_back_is_not_out(manor: Manor) -> None:
    manor.out.add("ann")
    assert manor.apply() == []
    manor.out.clear()
    assert manor.apply() == []
    assert names(manor.standing().values()) == ["accounts of friends who are out"]


# labels that are taken off


def test_a_label_that_a_friend_takes_off_fails_verify_and_apply_mends_it(manor: Manor) -> None:
    token, space = manor.token("ann"), manor.space("ann")
    take = ("label", "networkpolicy", "meshwright-default-deny", f"{MESH}-", "-n", space)
    eventually(lambda: b"belongs to the mesh" in manor.run(*take, "--dry-run=server", token=token).stderr)
    assert manor.converged().ok
    manor.without_admission("ann", token)
    assert manor.run(*take, token=token).returncode == 0
    loosened = json.dumps({"spec": {"egress": [{}]}})
    wall = ("networkpolicy", "meshwright-default-deny", "-n", space)
    assert manor.run("patch", *wall, "--type=merge", "-p", loosened, token=token).returncode == 0
    check = manor.converged()
    id = f"kubernetes/networkpolicy/{space}/meshwright-default-deny"
    assert not check.ok
    assert check.observed.startswith(
        f"differs: {id} (HOSTILE: its label {MESH} was taken off; fields of it are held by kubectl-patch), "
    )
    assert "apply" in check.hint
    assert manor.apply() == []
    assert manor.converged().ok
    assert "egress" not in manor.get("ann", "networkpolicy/meshwright-default-deny")["spec"]


def test_who_clears_managed_fields_too_makes_a_conflict_and_that_fails_verify(manor: Manor) -> None:
    token, space = manor.token("ann"), manor.space("ann")
    manor.without_admission("ann", token)
    body = {"metadata": {"labels": {MESH: None}, "managedFields": [{}]}, "spec": {"egress": [{}]}}
    wall = ("networkpolicy", "meshwright-default-deny", "-n", space)
    done = manor.run("patch", *wall, "--type=merge", "-p", json.dumps(body), token=token)
    assert done.returncode == 0, done.stderr
    id = f"kubernetes/networkpolicy/{space}/meshwright-default-deny"
    assert manor.converged().observed.startswith(f"differs: {id} (HOSTILE: it is there and not of this mesh: ")
    assert manor.apply() == [], "it is left alone"
    check = manor.converged()
    assert not check.ok
    assert check.observed.startswith(f"differs: {id} (HOSTILE: ")
    assert check.hint == f"meshwright apply --adopt {id}"


def test_a_namespace_that_lost_its_labels_is_hostile(manor: Manor) -> None:
    """Only who may write to namespaces can do that; a friend who got so far must be seen."""
    space = manor.space("ann")
    manor.run("label", "namespace", space, f"{MESH}-")
    check = manor.converged()
    assert f"kubernetes/namespace/{space} (HOSTILE: its label {MESH} was taken off" in check.observed
    assert faults(manor.standing()) == [], "it is wanted, so the plan has it"
    assert manor.apply() == []
    assert manor.converged().ok
    manor.out.add("ann")
    assert manor.apply() == []
    assert faults(manor.standing()) == []
    manor.run("label", "namespace", space, f"{MESH}-")
    assert faults(manor.standing()) == [f"the namespace {space} bears its labels"]
    assert "HOSTILE" in manor.standing()[f"the namespace {space} bears its labels"].observed


OURS = [{"manager": "meshwright", "operation": "Apply", "fieldsV1": {"f:metadata": {}}}]


@pytest.mark.parametrize(
    ("meta", "lost"),
    [
        ({}, False),
        ({"managedFields": OURS}, True),
        ({"labels": {PEER: "ann"}}, True),
        ({"annotations": {"meshwright.io/bindings": "[]"}}, True),
        ({"labels": {MESH: "m", QUARANTINE: "true"}}, True),
        ({"labels": {MESH: "m"}, "managedFields": OURS}, False),
        ({"labels": {MESH: "another", QUARANTINE: "true"}, "managedFields": OURS}, False),
        ({"labels": {MESH: "another"}, "managedFields": OURS}, False),
    ],
)
def test_what_a_disowned_namespace_looks_like(meta: dict[str, Any], lost: bool) -> None:
    found = standing._lost({"metadata": {"name": "x", **meta}}, "m")
    assert (found is not None) is lost
