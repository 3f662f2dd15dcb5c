"""A tenant's namespace whose labels were taken off before its friend goes, on a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from test_quarantine import ASLEEP, AWAKE, mark, running

from controlplane import ControlPlane
from meshwright.desired.names import ADMISSION, MESH, PEER, QUARANTINE, labels
from meshwright.plan.plan import Plan
from tenancy import House, about, belongings, binding, eventually, placed, state

pytestmark = pytest.mark.cluster

NAMED = (MESH, "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by")
WAYS: dict[str, tuple[tuple[str, ...], bool]] = {
    "mesh": ((MESH,), False),
    "mesh, nobody remembers": ((MESH,), True),
    "mesh and peer": ((MESH, PEER), False),
    "mesh and peer, nobody remembers": ((MESH, PEER), True),
    "peer": ((PEER,), False),
    "all that names the mesh": (NAMED, True),
    "all but our manager": ((*NAMED, PEER, ADMISSION), False),
}
"""Labels that are taken off, and whether managedFields are cleared."""
_serial = iter(range(1000))


@pytest.fixture
def house(cluster: ControlPlane) -> Iterator[House]:
    """Two friends; ann has moved in, and the deployer has filled her Secret."""
    here = House(cluster, f"lost{next(_serial)}")
    try:
        assert here.apply() == []
        here.make(*belongings(here.space("ann")))
        filled = {"stringData": {"wg0.conf": "[Interface]"}}
        secret = ("secret", "wireguard-ann", "-n", here.space("ann"))
        assert here.run("patch", *secret, "--type=merge", "-p", json.dumps(filled)).returncode == 0
        eventually(lambda: len(running(here)) >= 8)
        yield here
    finally:
        here.gone()


def strip(house: House, away: tuple[str, ...], forget: bool, what: str = "") -> None:
    """Take labels off ann's namespace, or off a thing in it."""
    target = [*what.split("/"), "-n", house.space("ann")] if what else ["namespace", house.space("ann")]
    meta: dict[str, Any] = {"labels": dict.fromkeys(away)} | ({"managedFields": [{}]} if forget else {})
    done = house.run("patch", *target, "--type=merge", "-p", json.dumps({"metadata": meta}))
    assert done.returncode == 0, done.stderr


def plan(house: House) -> Plan:
    with house.connected() as to:
        return house.plan(to)


def versions(house: House, space: str) -> dict[str, str]:
    """The resource version of a namespace, and of everything of a mesh that is in it."""
    kinds = "networkpolicies,resourcequotas,limitranges,serviceaccounts,secrets,roles,rolebindings,deployments"
    found = json.loads(house.run("get", kinds, "-n", space, "-o", "json").stdout)["items"]
    found = [o for o in found if o["kind"] == "Deployment" or MESH in o["metadata"].get("labels", {})]
    found.append(json.loads(house.run("get", "namespace", space, "-o", "json").stdout))
    about = [o["metadata"] for o in found if o["kind"] not in ("Deployment", "ResourceQuota")]
    out = {
        f"{o['kind']}/{o['metadata']['name']}": str(o["spec"]["replicas"]) for o in found if o["kind"] == "Deployment"
    }
    quotas = {f"quota {o['metadata']['name']}": str(o["spec"]) for o in found if o["kind"] == "ResourceQuota"}
    return out | quotas | {f"{m['name']}{m['uid']}": m["resourceVersion"] for m in about}


@pytest.mark.parametrize("way", WAYS)
def test_a_namespace_without_its_labels_is_found_mended_and_shut_in_one_apply(house: House, way: str) -> None:
    space = house.space("ann")
    robot = house.control.token(space, "robot")
    assert house.run("get", "secrets", "-n", space, token=robot).returncode == 0
    strip(house, *WAYS[way])
    strip(house, (), True, "secret/wireguard-ann")
    house.out.add("ann")
    todo = {change.id: change for change in plan(house).changes}
    assert "HOSTILE" in todo[f"kubernetes/namespace/{space}"].alarm or way == "peer"
    assert house.apply() == []
    assert house.left() == []
    assert plan(house).blocked == {}
    assert house.run("get", "secrets", "-n", space, token=robot).returncode != 0
    assert state(house, "ann") == ASLEEP
    assert running(house) == set()
    assert house.names("ann", "rolebindings") == set()
    assert "meshwright-default-deny" in house.names("ann", "networkpolicies")
    assert house.get("ann", "resourcequota/meshwright-quota")["spec"]["hard"]["pods"] == "0"
    assert "wg0.conf" in house.get("ann", "secret/wireguard-ann")["data"]
    meta = json.loads(house.run("get", "namespace", space, "-o", "json").stdout)["metadata"]
    assert labels(house.name).items() <= meta["labels"].items()
    assert (meta["labels"][PEER], meta["labels"][ADMISSION]) == ("ann", "enforced")
    assert mark(house) == ("true", ["robot"])


def test_a_namespace_that_the_file_still_knows_is_found_by_it(house: House) -> None:
    house.run("delete", "rolebinding", "meshwright-admin", "-n", house.space("ann"))
    strip(house, (*NAMED, PEER), True)
    house.peers["ann"] = {"disabled": True}
    assert house.apply() == []
    assert house.left() == []
    assert state(house, "ann") == ASLEEP
    assert mark(house) == ("true", ["robot"])


def test_who_comes_back_gets_his_own_back_though_labels_are_gone(house: House) -> None:
    house.out.add("ann")
    assert house.apply() == []
    strip(house, (MESH,), False)
    house.out.clear()
    assert house.apply() == []
    assert house.left() == []
    assert state(house, "ann") == AWAKE
    assert mark(house) == (None, [])


def test_what_nobody_can_be_named_for_keeps_its_walls_and_is_told(house: House) -> None:
    space = house.space("ann")
    house.run("delete", "rolebinding", "meshwright-admin", "-n", space)
    strip(house, (MESH, PEER), True)
    house.out.add("ann")
    walls = house.names("ann", "networkpolicies")
    assert house.apply() == []
    todo = plan(house)
    assert list(todo.conflicts) == [f"kubernetes/namespace/{space}"]
    blocked = todo.conflicts[f"kubernetes/namespace/{space}"]
    assert blocked.hostile
    assert f"{MESH} and {PEER} taken off, but walls of {house.name} stand in it" in blocked.why
    assert not [change.id for change in todo.changes if space in change.id]
    assert house.names("ann", "networkpolicies") == walls
    assert {"meshwright-quota", "meshwright-limits"} <= house.names("ann", "resourcequotas,limitranges")
    assert "wg0.conf" in house.get("ann", "secret/wireguard-ann")["data"]
    assert house.run("label", "namespace", space, f"{MESH}={house.name}", f"{PEER}=ann").returncode == 0
    assert house.apply() == []
    assert plan(house).blocked == {}
    assert state(house, "ann") == ASLEEP
    assert mark(house) == ("true", ["robot"])


@pytest.mark.parametrize("away", [(MESH,), (*NAMED, PEER)])
def test_another_meshs_namespace_is_left_to_it(house: House, cluster: ControlPlane, away: tuple[str, ...]) -> None:
    other = House(cluster, f"{house.name}other", ("carl",))
    try:
        assert other.apply() == []
        strip(house, away, False)
        house.out.add("ann")
        before = versions(house, house.space("ann"))
        assert other.apply() == []
        assert other.left() == []
        assert plan(other).blocked == {}, "it is not even named"
        assert versions(house, house.space("ann")) == before
    finally:
        other.gone()


def forged(house: House, space: str) -> None:
    """What whoever has rights in a namespace may put there: objects as ours are, by a manager called as we are."""
    about_it = {"labels": labels(house.name), "namespace": space}
    subject = {"kind": "ServiceAccount", "name": "peer-ann", "namespace": f"{house.name}-access"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}
    objects = [
        about("NetworkPolicy", "meshwright-default-deny", "networking.k8s.io/v1", spec={"podSelector": {}}),
        about("ResourceQuota", "meshwright-quota", spec={"hard": {"pods": "99"}}),
        about("RoleBinding", "meshwright-admin", "rbac.authorization.k8s.io/v1", roleRef=role, subjects=[subject]),
    ]
    for each in objects:
        each["metadata"] |= about_it
        done = house.control.kubectl(
            "apply", "--server-side", "--field-manager=meshwright", "-f", "-", stdin=json.dumps(each).encode()
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("where", ["kube-system", "default", "own"])
def test_forged_objects_shut_nobody_elses_namespace(house: House, where: str) -> None:
    space = f"{house.name}-lounge" if where == "own" else where
    house.run("create", "namespace", space)
    try:
        house.make(*placed(space, about("ServiceAccount", "forger")))
        house.make(binding("forger", "forger", space, namespace=space))
        house.run("create", "deployment", "forger", "--image=registry.k8s.io/pause:3.10", "-n", space)
        forged(house, space)
        todo = plan(house)
        assert list(todo.conflicts) == [f"kubernetes/namespace/{space}"]
        assert todo.conflicts[f"kubernetes/namespace/{space}"].hostile
        assert [change.id for change in todo.changes] == [f"kubernetes/rolebinding/{space}/meshwright-admin"]
        before = versions(house, space)
        house.out.add("ann")
        assert house.apply() == []
        assert state(house, "ann") == ASLEEP, "what stands on that namespace otherwise is not held up"
        after = versions(house, space)
        assert {key: value for key, value in before.items() if "meshwright-admin" not in key} == after
        meta = json.loads(house.run("get", "namespace", space, "-o", "json").stdout)["metadata"]
        assert not {MESH, PEER, QUARANTINE} & meta["labels"].keys()
    finally:
        label = f"{MESH}={house.name}"
        house.run("delete", "networkpolicies,resourcequotas,rolebindings", "-l", label, "-n", space)
        house.run("delete", "deployment/forger", "serviceaccount/forger", "rolebinding/forger", "-n", space)
        if where == "own":
            house.run("delete", "namespace", space, "--wait=false")
