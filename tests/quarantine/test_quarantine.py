"""A friend who goes: on a real API server, with his own credentials."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane import ControlPlane
from meshwright.desired.names import BINDINGS, LOST, QUARANTINE, WAS
from meshwright.errors import ClusterError
from meshwright.providers.kubernetes.remains import remains
from tenancy import RUNNING, Dying, House, about, belongings, binding, eventually, placed, pod_spec, selected, state

pytestmark = pytest.mark.cluster

WAYS = {
    "removed": lambda house: house.out.add("ann"),
    "disabled": lambda house: house.peers.update(ann={"disabled": True}),
    "expired": lambda house: (
        house.peers.update(ann={"expires": "2026-11-30"}),
        setattr(house, "now", datetime(2026, 12, 1, tzinfo=UTC)),
    ),
}
AWAKE = {what: value for what, (_, value) in RUNNING.items()}
ASLEEP = {
    "deployment/web": 0,
    "deployment/web was": {"replicas": 3},
    "deployment/idle": 0,
    "statefulset/db": 0,
    "statefulset/db was": {"replicas": 2},
    "replicaset/bare": 0,
    "replicaset/bare was": {"replicas": 1},
    "replicationcontroller/old": 0,
    "replicationcontroller/old was": {"replicas": 1},
    "cronjob/nightly": True,
    "cronjob/nightly was": {"suspend": False},
    "cronjob/paused": True,
    "job/once": True,
    "job/once was": {"suspend": False},
    "daemonset/everywhere": {QUARANTINE: "true"},
    "daemonset/everywhere was": {"nodeSelector": None},
}
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces"
_serial = iter(range(1000))


@pytest.fixture
def house(cluster: ControlPlane) -> Iterator[House]:
    """Two friends; ann has moved in."""
    here = House(cluster, f"quar{next(_serial)}")
    try:
        assert here.apply() == []
        assert here.left() == []
        here.make(*belongings(here.space("ann")))
        yield here
    finally:
        here.gone()


def mark(house: House) -> tuple[Any, list[str]]:
    meta = json.loads(house.run("get", "namespace", house.space("ann"), "-o", "json").stdout)["metadata"]
    saved = json.loads((meta.get("annotations") or {}).get(BINDINGS, "[]"))
    return meta["labels"].get(QUARANTINE), [item["metadata"]["name"] for item in saved]


def running(house: House) -> set[str]:
    """Pods that nobody has told to end."""
    return {
        pod["metadata"]["name"]
        for pod in house.get("ann", "pods")["items"]
        if "deletionTimestamp" not in pod["metadata"]
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_friend_who_goes_can_do_nothing_and_comes_back_to_what_was_his(house: House, way: str) -> None:
    space = house.space("ann")
    own = house.control.token(f"{house.name}-access", "peer-ann")
    robot = house.control.token(space, "robot")
    house.make(
        *placed(
            space,
            about("Secret", "forever", type="kubernetes.io/service-account-token")
            | {"metadata": {"name": "forever", "annotations": {"kubernetes.io/service-account.name": "robot"}}},
        )
    )
    legacy = eventually(lambda: token_of(house, "forever"))
    for token in (own, robot, legacy):
        assert house.run("get", "secrets", "-n", space, token=token).returncode == 0
    eventually(lambda: len(running(house)) >= 8)
    had = {name: house.get("ann", name) for name in ("rolebinding/robot", "secret/password", "configmap/settings")}

    undo = {"out": set(house.out), "peers": dict(house.peers), "now": house.now}
    WAYS[way](house)
    assert house.apply() == []
    assert house.left() == []

    # the API server remembers for ten seconds that a token was good; it may do nothing meanwhile
    assert house.run("get", "secrets", "-n", space, token=own).returncode != 0
    eventually(lambda: b"must be logged in" in house.run("get", "secrets", "-n", space, token=own).stderr)
    for token in (own, robot, legacy):
        for verb in (
            ["get", "secrets"],
            ["get", "pods"],
            ["create", "configmap", "x"],
            ["delete", "secret", "password"],
        ):
            done = house.run(*verb, "-n", space, token=token)
            assert done.returncode != 0, verb
    assert state(house, "ann") == ASLEEP
    assert running(house) == set()
    assert house.names("ann", "rolebindings") == set()
    assert house.names("ann", "networkpolicies") == {"meshwright-default-deny"}
    assert mark(house) == ("true", ["robot"])
    for name in ("secret/password", "configmap/settings"):
        assert house.get("ann", name)["data"] == had[name]["data"]
    assert house.get("ann", "pvc/disk")
    scaled = house.run("scale", "deployment/web", "--replicas=2", "-n", space)
    assert scaled.returncode == 0, scaled.stderr
    time.sleep(2)  # a controller that tries
    assert running(house) == set()
    assert house.left() == [f"update kubernetes/deployment/{space}/web"]
    assert house.apply() == []
    assert state(house, "ann")["deployment/web was"] == {"replicas": 3}

    for key, value in undo.items():
        setattr(house, key, value)
    assert house.apply() == []
    assert house.left() == []
    assert state(house, "ann") == AWAKE
    assert mark(house) == (None, [])
    back = house.get("ann", "rolebinding/robot")
    for key in ("roleRef", "subjects"):
        assert back[key] == had["rolebinding/robot"][key]
    for key in ("labels", "annotations"):
        assert back["metadata"][key] == had["rolebinding/robot"]["metadata"][key]
    assert house.run("get", "secrets", "-n", space, token=robot).returncode == 0
    again = house.control.token(f"{house.name}-access", "peer-ann")
    assert house.run("get", "secrets", "-n", space, token=again).returncode == 0
    assert house.run("get", "secrets", "-n", space, token=own).returncode != 0
    eventually(lambda: sum(name.startswith("web-") for name in running(house)) == 3)


def token_of(house: House, name: str) -> str:
    found = house.get("ann", f"secret/{name}").get("data", {}).get("token", "")
    return base64.b64decode(found).decode()


def test_the_other_friend_notices_nothing(house: House) -> None:
    before = {kind: house.get("ben", kind) for kind in ("rolebindings", "resourcequotas", "networkpolicies")}
    house.out.add("ann")
    assert house.apply() == []
    for kind, was in before.items():
        now = house.get("ben", kind)
        assert [i["metadata"]["resourceVersion"] for i in now["items"]] == [
            i["metadata"]["resourceVersion"] for i in was["items"]
        ], kind


@pytest.mark.parametrize("first", [0, 4, 11])
def test_cut_off_anywhere_the_next_apply_goes_on_and_nothing_is_forgotten(house: House, first: int) -> None:
    house.make(binding("second", "robot", house.space("ann"), "view", namespace=house.space("ann")))

    def cut(step: int) -> None:
        """Runs that die after a few writes each, until one gets through."""
        writes = first
        for _ in range(60):
            dying = Dying(house.control, writes)
            with house.connected(dying):
                if house.apply(dying) == []:
                    dying.close()
                    return
            dying.close()
            writes += step
        pytest.fail("it never came to an end")

    house.out.add("ann")
    cut(2)
    assert house.left() == []
    assert state(house, "ann") == ASLEEP
    assert running(house) == set()
    assert house.names("ann", "rolebindings") == set()
    assert mark(house) == ("true", ["robot", "second"])
    house.out.clear()
    cut(3)
    assert house.left() == []
    assert state(house, "ann") == AWAKE
    assert {"robot", "second"} <= house.names("ann", "rolebindings")
    assert mark(house) == (None, [])


def test_what_the_friend_wrote_beforehand_deceives_nobody(house: House) -> None:
    space = house.space("ann")
    hostile = {
        "deployment/web": '{"replicas": 1000000}',
        "deployment/idle": '{"replicas": 7}',
        "statefulset/db": "[" * 100_000,
        "cronjob/nightly": '{"suspend": true}',
        "daemonset/everywhere": '{"nodeSelector": {"a": "b"}}',
    }
    for what, text in hostile.items():
        assert house.run("annotate", what, f"{WAS}={text}", "-n", space).returncode == 0
    assert house.left() == []
    house.out.add("ann")
    assert house.apply() == []
    assert house.left() == []
    assert {**state(house, "ann"), "deployment/idle was": 0} == {**ASLEEP, "deployment/idle was": 0}
    house.out.clear()
    assert house.apply() == []
    assert house.left() == []
    awake = state(house, "ann")
    assert {what: awake[what] for what in AWAKE} == {**AWAKE, "deployment/idle": 7}


def test_names_and_finalizers_keep_no_binding_alive(house: House) -> None:
    space = house.space("ann")
    odd = "x?dryRun=All&a=#b c"
    house.make(binding(odd, "robot", space, namespace=space, finalizers=["example.com/never"]))
    house.make(binding("meshwright-mine", "robot", space, namespace=space))
    house.make(binding("other-mesh", "robot", space, namespace=space, labels={"meshwright.io/mesh": "other"}))
    house.out.add("ann")
    assert house.apply() == []
    assert house.left() == []
    assert house.names("ann", "rolebindings") == set()
    assert mark(house) == ("true", sorted([odd, "other-mesh", "robot"]))
    house.out.clear()
    assert house.apply() == []
    assert {odd, "other-mesh", "robot"} <= house.names("ann", "rolebindings")
    assert "meshwright-mine" not in house.names("ann", "rolebindings")


def test_bindings_that_nobody_can_keep_are_gone_and_named(house: House) -> None:
    space = house.space("ann")
    robot = house.control.token(space, "robot")
    for n in range(3):
        house.make(binding(f"fat{n}", "robot", space, namespace=space, annotations={"a": "x" * 200_000}))
    many = {"subjects": [{"kind": "ServiceAccount", "name": f"s{n:0200}", "namespace": space} for n in range(900)]}
    house.make(binding("wide", "robot", space, namespace=space) | many)
    house.out.add("ann")
    with house.connected() as cluster:
        assert house.apply(cluster) == []
        (told,) = [text for text in cluster.warnings if "RoleBinding" in text]
        assert f"RoleBindings of {space} are gone for good" in told
        assert ": wide; who comes back makes them anew" in told
        (found,) = remains(cluster, [space])
    assert house.run("get", "secrets", "-n", space, token=robot).returncode != 0
    assert house.names("ann", "rolebindings") == set()
    assert mark(house) == ("true", ["fat0", "fat1", "fat2", "robot"])
    assert (found.kept, found.lost, found.grants) == (("fat0", "fat1", "fat2", "robot"), ("wide",), ())
    assert house.left() == []
    house.out.clear()
    assert house.apply() == []
    assert house.left() == []
    assert {"fat0", "fat1", "fat2", "robot"} < house.names("ann", "rolebindings")
    assert "wide" not in house.names("ann", "rolebindings")
    notes = json.loads(house.run("get", "namespace", space, "-o", "json").stdout)["metadata"].get("annotations", {})
    assert not {BINDINGS, LOST} & notes.keys()
    assert house.run("get", "secrets", "-n", space, token=robot).returncode == 0


def test_annotations_without_room_for_ours_keep_nothing_running(house: House) -> None:
    space, fat = house.space("ann"), "x" * 262_135
    web = about("Deployment", "heavy", "apps/v1", spec={"replicas": 2, **selected("heavy")})
    house.make(*placed(space, {**web, "metadata": {**web["metadata"], "annotations": {"fat": fat, "thin": "1"}}}))
    house.out.add("ann")
    with house.connected() as cluster:
        assert house.apply(cluster) == []
        assert any("deployment" in text and "are gone: fat" in text for text in cluster.warnings)
    asleep = house.get("ann", "deployment/heavy")
    assert asleep["spec"]["replicas"] == 0
    assert asleep["metadata"]["annotations"].get("thin") == "1"
    assert house.left() == []
    house.out.clear()
    assert house.apply() == []
    assert house.get("ann", "deployment/heavy")["spec"]["replicas"] == 2
    assert house.left() == []


def test_a_name_that_fits_into_no_url_keeps_nobody_in(house: House) -> None:
    """The server makes such a binding, and nobody can ask it for it by name; a policy of ours refuses it."""
    space = house.space("ann")
    robot = house.control.token(space, "robot")
    with house.connected() as cluster:
        cluster.create(f"{RBAC}/{space}/rolebindings", binding("?" * 400_000, "robot", space))
    house.out.add("ann")
    assert house.apply() == []
    assert house.names("ann", "rolebindings") == set()
    assert house.run("get", "secrets", "-n", space, token=robot).returncode != 0
    assert mark(house) == ("true", ["robot"])
    assert house.left() == []


@pytest.mark.parametrize("upgraded", [False, True])
def test_who_binds_himself_again_and_again_while_it_is_written_is_out_all_the_same(
    house: House, upgraded: bool
) -> None:
    """upgraded: the policy that refuses him was never there before this very apply."""
    space = house.space("ann")
    robot = house.control.token(space, "robot")
    if upgraded:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            assert house.run("delete", kind, f"{house.name}-quarantine").returncode == 0
    house.out.add("ann")
    with binding_himself(house, robot) as answers:
        eventually(lambda: answers.count(201) > 5)
        assert house.apply() == []
        made = answers.count(201)
        assert house.left() == []
        eventually(lambda: answers[-50:].count(403) == 50)
        assert answers.count(201) == made
    assert house.names("ann", "rolebindings") == set()
    for verb in (["get", "secrets"], ["create", "configmap", "x"], ["delete", "secret", "password"]):
        assert house.run(*verb, "-n", space, token=robot).returncode != 0
    assert state(house, "ann") == ASLEEP
    saved = mark(house)
    assert saved[0] == "true"
    assert len(saved[1]) <= 48
    house.out.clear()
    assert house.apply() == []
    assert house.left() == []
    made_anew = f"{RBAC}/{space}/rolebindings/robot"
    assert house.run("get", "--raw", made_anew, token=robot).returncode == 0
    eventually(lambda: house.run("create", "configmap", "again", "-n", space, token=robot).returncode == 0)


@contextmanager
def binding_himself(house: House, robot: str) -> Iterator[list[int]]:
    """Two threads that give his robot rights, whatever the answer; what the server answered them."""
    answers: list[int] = []
    stop = threading.Event()

    cluster = house.control.as_(robot)

    def go(thread: int) -> None:
        for n in itertools.count():
            if stop.is_set():
                return
            try:
                body = binding(f"r{thread}-{n}", "robot", house.space("ann"), "admin")
                cluster.create(f"{RBAC}/{house.space('ann')}/rolebindings", body)
                answers.append(201)
            except ClusterError as error:
                answers.append(error.status or 0)
                stop.wait(0.02)

    house.make(binding("chief", "robot", house.space("ann"), "admin", namespace=house.space("ann")))
    threads = [threading.Thread(target=go, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        cluster.close()


def test_a_binding_that_cannot_come_back_is_kept_and_named_and_the_rest_is_back(house: House) -> None:
    space = house.space("ann")
    house.out.add("ann")
    assert house.apply() == []
    quota = about("ResourceQuota", "none", spec={"hard": {"count/rolebindings.rbac.authorization.k8s.io": "0"}})
    house.make(*placed(space, quota))
    eventually(lambda: "hard" in house.get("ann", "resourcequota/none").get("status", {}))
    house.out.clear()
    failed = {result.id for result in house.apply()}
    assert f"kubernetes/rolebinding/{space}/robot" in failed
    assert f"kubernetes/quarantine/{space}" in failed
    assert state(house, "ann") == AWAKE
    assert mark(house) == ("true", ["robot"])
    house.run("delete", "resourcequota", "none", "-n", space)
    assert house.apply() == []
    assert house.left() == []
    assert "robot" in house.names("ann", "rolebindings")
    assert mark(house) == (None, [])


def test_what_came_up_between_plan_and_apply_goes_too(house: House) -> None:
    space = house.space("ann")
    house.out.add("ann")
    with house.connected() as cluster:
        todo = house.plan(cluster)
        house.make(binding("late", "robot", space, namespace=space))
        house.make(*placed(space, about("Pod", "late", spec=pod_spec())))
        house.run("scale", "deployment/web", "--replicas=5", "-n", space)
        house.run("delete", "statefulset/db", "-n", space)
        results = house.provider(cluster).apply(todo.changes, lambda event: None)
    assert [result for result in results if not result.ok] == []
    assert house.names("ann", "rolebindings") == set()
    assert running(house) == set()
    assert mark(house) == ("true", ["late", "robot"])
    assert house.get("ann", "deployment/web")["metadata"]["annotations"][WAS] == '{"replicas": 5}'
    assert house.get("ann", "statefulset/db") is None
    assert house.left() == []


def test_what_is_made_anew_while_he_is_out_is_his_and_newer(house: House) -> None:
    space = house.space("ann")
    house.out.add("ann")
    assert house.apply() == []
    house.make(binding("robot", "other", space, "view", namespace=space))
    assert house.apply() == []
    assert house.names("ann", "rolebindings") == set()
    house.out.clear()
    assert house.apply() == []
    assert house.get("ann", "rolebinding/robot")["roleRef"]["name"] == "view"


def test_pods_get_no_longer_to_end_than_we_say(house: House) -> None:
    space = house.space("ann")
    house.make(*placed(space, about("Pod", "leaving", spec=pod_spec(terminationGracePeriodSeconds=31536000))))
    house.make(about("Node", house.name))
    try:
        with house.connected() as to:
            for name in ("alone", "leaving"):
                target = about("Binding", name, target={"kind": "Node", "name": house.name})
                to.create(f"/api/v1/namespaces/{space}/pods/{name}/binding", target)
            to.delete(f"/api/v1/namespaces/{space}/pods/leaving")
        assert house.get("ann", "pod/leaving")["metadata"]["deletionGracePeriodSeconds"] == 31536000
        house.out.add("ann")
        assert {f"delete kubernetes/pod/{space}/{name}" for name in ("alone", "leaving")} <= set(house.left())
        assert house.apply() == []
        for name in ("alone", "leaving"):
            meta = house.get("ann", f"pod/{name}")["metadata"]
            assert "deletionTimestamp" in meta, name
            assert meta["deletionGracePeriodSeconds"] == 30, name
        assert house.left() == []
    finally:
        house.run("delete", "node", house.name)


def test_one_of_four_may_go_whatever_he_has_but_two_need_force(cluster: ControlPlane) -> None:
    house = House(cluster, "quarfour", ("ann", "ben", "cleo", "dan"))
    space = house.space("ann")
    try:
        assert house.apply() == []
        work = [about("Deployment", f"d{n}", "apps/v1", spec=selected("d", replicas=1)) for n in range(20)]
        house.make(*placed(space, *work), *(binding(f"b{n}", "x", space, namespace=space) for n in range(40)))
        with house.connected() as to:
            house.out.add("ann")
            todo = house.plan(to)
            assert todo.guard == ()
            assert sum(change.verb == "delete" for change in todo.changes) > 50
            house.out.add("ben")
            assert house.plan(to).guard == ("shuts 2 of 5 things that are kubernetes/namespace",)
    finally:
        house.gone()
