"""What quarantine wants, decided without a cluster: who is out, what is remembered, what is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.desired import kubernetes
from meshwright.desired.brief import brief
from meshwright.desired.facts import ClusterFacts, Facts, TenantNamespace
from meshwright.desired.kubernetes import bindings, workloads
from meshwright.desired.names import BINDINGS, LOST, MESH, PEER, QUARANTINE, WAS, labels
from meshwright.desired.resource import Resource, collect
from meshwright.spec.model import Mesh

NOW = datetime(2026, 11, 23, tzinfo=UTC)
MARK = "kubernetes/quarantine/home"
ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}


def mesh(**peers: Any) -> Mesh:
    return Mesh.model_validate(
        {
            "version": 1,
            "name": "friends",
            "hub": {"node": "n", "address": "192.0.2.9", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
            "network": {"cidr": "10.100.0.0/16", "hub": "10.100.0.1"},
            "peers": peers,
            "kubernetes": {},
        }
    )


def built(what: Mesh, space: TenantNamespace, now: datetime = NOW) -> dict[str, Resource]:
    return collect(kubernetes.build(what, Facts(now, cluster=ClusterFacts("1.36", {space.name: space}))))


def home(*work: dict[str, Any], bound: tuple[dict[str, Any], ...] = (), **notes: str) -> TenantNamespace:
    marked = {QUARANTINE: "true"} if "saved" in notes else {}
    saved = {BINDINGS: notes["saved"]} if notes.get("saved") else {}
    return TenantNamespace("home", labels("friends") | {PEER: "ann"} | marked, saved, bound, work)


def workload(kind: str = "Deployment", value: Any = 3, was: str | None = None, **meta: Any) -> dict[str, Any]:
    api = {"Job": "batch/v1", "CronJob": "batch/v1", "ReplicationController": "v1"}.get(kind, "apps/v1")
    notes = {} if was is None else {WAS: was}
    about = {"name": "w", "namespace": "home", "resourceVersion": "7", "annotations": {"his": "own", **notes}, **meta}
    out: dict[str, Any] = {"apiVersion": api, "kind": kind, "metadata": about, "spec": {}}
    path = workloads.RESTS[kind.lower()].path
    inner = out
    for step in path[:-1]:
        inner = inner.setdefault(step, {})
    if value is not None:
        inner[path[-1]] = value
    return out


def binding(name: str = "his", **meta: Any) -> dict[str, Any]:
    about = {"name": name, "namespace": "home", "uid": "1", "resourceVersion": "5", "managedFields": [], **meta}
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "home"}
    api = "rbac.authorization.k8s.io/v1"
    return {"apiVersion": api, "kind": "RoleBinding", "metadata": about, "roleRef": ROLE, "subjects": [subject]}


ANN = {"address": "10.100.1.1", "namespace": "home"}
PHONE = {"address": "10.100.1.2"}


@pytest.mark.parametrize(
    ("peers", "now"),
    [
        ({}, NOW),
        ({"ann": {**ANN, "disabled": True}}, NOW),
        ({"ann": {**ANN, "expires": "2026-11-30"}}, datetime(2026, 12, 1, tzinfo=UTC)),
        ({"ann": {**ANN, "namespace": "other"}}, NOW),
        ({"ann": {"address": "10.100.1.1"}}, NOW),
    ],
)
def test_a_namespace_without_an_active_peer_is_closed(peers: dict[str, Any], now: datetime) -> None:
    wanted = built(mesh(**peers), home(workload()), now)
    assert MARK in wanted
    inside = {id for id in wanted if id.split("/")[2] == "home"}
    assert inside == {
        MARK,
        "kubernetes/namespace/home",
        "kubernetes/serviceaccount/home/default",
        "kubernetes/networkpolicy/home/meshwright-default-deny",
        "kubernetes/resourcequota/home/meshwright-quota",
        "kubernetes/resourcequota/home/meshwright-quota-bindings",
        "kubernetes/deployment/home/w",
    }
    assert wanted["kubernetes/resourcequota/home/meshwright-quota"].attrs["spec"]["hard"]["pods"] == "0"
    space = wanted["kubernetes/namespace/home"].attrs["metadata"]
    assert space["labels"][PEER] == "ann"
    assert space["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert QUARANTINE not in space["labels"], "the mark is a thing of its own"
    assert (
        "kubernetes/serviceaccount/collective-access/peer-ann" not in wanted
        or peers.get("ann", {}).get("namespace") == "other"
    )


@pytest.mark.parametrize(
    ("ann", "now"),
    [
        (ANN, NOW),
        ({**ANN, "expires": "2026-11-30"}, datetime(2026, 11, 30, 23, 59, tzinfo=UTC)),
        ({"namespace": "home", "devices": {"a": {"address": "10.100.1.1", "disabled": True}, "b": PHONE}}, NOW),
    ],
)
def test_a_namespace_with_an_active_peer_is_his(ann: dict[str, Any], now: datetime) -> None:
    wanted = built(mesh(ann=ann), home(workload(was='{"replicas": 9}'), bound=(binding(),)), now)
    assert MARK not in wanted
    assert "kubernetes/deployment/home/w" not in wanted, "what he wrote himself is nothing to us"
    assert "kubernetes/rolebinding/home/his" not in wanted
    assert "kubernetes/rolebinding/home/meshwright-admin" in wanted


@pytest.mark.parametrize(
    ("kind", "value", "quiet", "was"),
    [
        ("Deployment", 3, 0, '{"replicas": 3}'),
        ("StatefulSet", None, 0, '{"replicas": 1}'),
        ("ReplicaSet", 2, 0, '{"replicas": 2}'),
        ("ReplicationController", 1, 0, '{"replicas": 1}'),
        ("CronJob", None, True, '{"suspend": false}'),
        ("Job", False, True, '{"suspend": false}'),
        ("DaemonSet", None, "true", '{"nodeSelector": null}'),
        ("DaemonSet", "mine", "true", '{"nodeSelector": "mine"}'),
    ],
)
def test_each_kind_is_put_to_rest_and_woken(kind: str, value: Any, quiet: Any, was: str) -> None:
    live = workload(kind, value)
    rest = workloads.at_rest(live, ours=False)
    assert rest is not None
    assert rest["metadata"]["annotations"] == {WAS: was}
    asleep = workload(kind, quiet, was)
    assert workloads.projected(asleep) == rest
    assert workloads.at_rest(asleep, ours=True) == rest, "a second look changes nothing"
    assert workloads.awake(asleep) == workloads.projected(workload(kind, json.loads(was).popitem()[1]))
    body = workloads.patch(rest, live)
    version = live["metadata"]["resourceVersion"]
    assert body["metadata"] == {"resourceVersion": version, "annotations": {WAS: was}}, "one patch for both"


def test_annotations_that_leave_no_room_go_the_largest_first() -> None:
    live = workload("Deployment", 3)
    live["metadata"]["annotations"] = {"x": "y" * 262_000, "z": "y" * 143, "small": "kept"}
    assert sum(len(name) + len(value) for name, value in live["metadata"]["annotations"].items()) == 256 * 1024 + 10
    live["metadata"]["annotations"]["z"] = "y" * 133  # exactly full, as the API server lets him
    rest = workloads.at_rest(live, ours=False)
    assert rest is not None
    body = workloads.patch(rest, live)
    assert body["metadata"]["annotations"] == {"x": None, WAS: '{"replicas": 3}'}
    assert workloads.lost(body) == ["x"]
    waking = workloads.patch({**rest, "metadata": {**rest["metadata"], "annotations": {}}}, live)
    assert waking["metadata"]["annotations"] == {WAS: None}, "what takes nothing up needs no room"


def test_what_was_at_rest_already_is_left_alone() -> None:
    for kind, value in (("Deployment", 0), ("CronJob", True), ("DaemonSet", "true")):
        assert workloads.at_rest(workload(kind, value), ours=True) is None
    done = workload("Job", False) | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert workloads.at_rest(done, ours=False) is None


def test_what_something_else_leads_is_left_to_it() -> None:
    led = [{"kind": "Deployment", "name": "d", "controller": True}]
    assert workloads.at_rest(workload("ReplicaSet", 3, ownerReferences=led), ours=False) is None
    copied = workload("ReplicaSet", 0, '{"replicas": 3}', ownerReferences=led)
    assert workloads.at_rest(copied, ours=True) is None, "a Deployment copies its annotations"
    assert workloads.awake(copied) is None
    cron = [{"kind": "CronJob", "name": "c", "controller": True}]
    assert workloads.at_rest(workload("Job", False, ownerReferences=cron), ours=False) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["replicas", "x"]), inner, max_size=2),
    max_leaves=4,
)


@given(st.text(max_size=20) | json_values.map(json.dumps), st.integers(0, 5), st.booleans())
def test_no_annotation_makes_anything_but_a_number_of_replicas(text: str, value: int, ours: bool) -> None:
    live = workload("Deployment", value, text)
    for found in (workloads.at_rest(live, ours), workloads.awake(live)):
        if found is not None:
            assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
            assert list(found["spec"]) == ["replicas"]
            assert type(found["spec"]["replicas"]) is int
            assert 0 <= found["spec"]["replicas"] < 2**31
            assert set(found["metadata"]["annotations"]) <= {WAS}
            assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("w", "home")


GARBAGE = (
    *("x", "3", "null", "[" * 100_000, "9" * 10_000, '{"replicas": 1, "x": 1}', '{"suspend": false}'),
    *(f'{{"replicas": {value}}}' for value in ("true", "1.0", "-1", "2147483648", "null", '"1"', "{}")),
)


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_remembered_as_nothing(text: str) -> None:
    assert workloads.remembered(workload("Deployment", 0, text)) == (False, None)
    assert workloads.awake(workload("Deployment", 0, text)) is None
    rest = workloads.at_rest(workload("Deployment", 4, text), ours=True)
    assert rest is not None
    assert rest["metadata"]["annotations"][WAS] == '{"replicas": 4}'


def test_a_number_that_was_remembered_is_never_forgotten() -> None:
    once = workload("Deployment", 2, '{"replicas": 5}')
    assert workloads.at_rest(once, ours=True) == workloads.at_rest(
        workload("Deployment", 0, '{"replicas": 5}'), ours=True
    )
    his = workloads.at_rest(once, ours=False)
    assert his is not None
    assert his["metadata"]["annotations"][WAS] == '{"replicas": 2}', "before the mark, a WAS is the tenant's"


def test_what_somebody_set_meanwhile_stays() -> None:
    woken = workloads.awake(workload("Deployment", 8, '{"replicas": 5}'))
    assert woken is not None
    assert woken["spec"]["replicas"] == 8
    assert woken["metadata"]["annotations"] == {}


names = st.text(st.characters(codec="utf-8", exclude_characters="/%"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..") and bindings.worth_keeping({"metadata": {"name": name}})
)
made = st.builds(binding, names, labels=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))


@given(st.lists(made, max_size=5), st.lists(made, max_size=3))
def test_bindings_are_kept_whole_whatever_is_kept_already(first: list[Any], second: list[Any]) -> None:
    notes = bindings.merged({}, first, "home")
    more = bindings.merged(notes, second, "home")
    newest = {b["metadata"]["name"]: bindings.kept(b) for b in (*first, *second)}
    assert bindings.saved(more.get(BINDINGS), "home") == newest
    assert bindings.merged(more, [], "home") == more, "a second look changes nothing"
    assert (more == {}) == (not newest)


sizes = st.sampled_from([1, 3_000, 5_000, 30_000, 90_000, 200_000])
fat = st.builds(
    lambda name, wide, note, many: (
        binding(name, labels={"l": "x" * wide}, annotations={"a": "ä" * note})
        | {"subjects": [{"kind": "ServiceAccount", "name": "s" * many, "namespace": "home"}]}
    ),
    st.integers(0, 90).map(lambda n: f"n{n}") | st.sampled_from(["long" * 100, "\x1b" * 200, "\U0001f600" * 250]),
    sizes,
    sizes,
    sizes,
)


@given(st.lists(fat, max_size=70), st.lists(fat, max_size=10), sizes)
@settings(max_examples=60)
def test_however_much_there_is_it_fits_and_nothing_goes_unnamed(
    first: list[Any], second: list[Any], other: int
) -> None:
    notes: dict[str, str] = {"another.example.com/note": "x" * other}
    for live in (first, second):
        before = set(bindings.saved(notes.get(BINDINGS), "home"))
        made = bindings.merged(notes, live, "home")
        assert bindings.merged({**notes, **made}, live, "home") == made, "a second look changes nothing"
        notes = {key: text for key, text in notes.items() if key not in (BINDINGS, LOST)} | made
        assert bindings.merged(notes, [], "home") == made
        assert sum(len(k.encode()) + len(v.encode()) for k, v in notes.items()) < 250_000
        kept, lost = bindings.saved(notes.get(BINDINGS), "home"), set(bindings.lost(notes))
        names = {b["metadata"]["name"] for b in live}
        assert len(kept) <= bindings.MOST
        assert before - names <= kept.keys(), "what is kept stays kept"
        assert not lost & kept.keys()
        assert "..." in lost or {name[: bindings.LONGEST] for name in names - kept.keys()} <= lost
        newest = {b["metadata"]["name"]: b for b in live}
        for name in names & kept.keys():
            assert kept[name]["roleRef"] == newest[name]["roleRef"]
            assert kept[name]["subjects"] == newest[name]["subjects"]


def test_the_small_ones_are_kept_first_and_what_is_beside_the_rights_goes_first() -> None:
    one = binding("one", annotations={"a": "x" * 200_000}, labels={"l": "v"})
    rest = [binding("two", annotations={"a": "b"}), binding("big") | {"subjects": [{"name": "x" * 100_000}]}]
    notes = bindings.merged({}, [*rest, one], "home")
    kept = bindings.saved(notes[BINDINGS], "home")
    assert kept["one"]["metadata"] == {"name": "one", "namespace": "home", "labels": {"l": "v"}}
    assert kept["two"] == bindings.kept(rest[0])
    assert (set(kept), bindings.lost(notes)) == ({"one", "two"}, ("big",))
    assert "NOT kept, too many or too large: big" in brief(MARK, {"metadata": {"annotations": notes}})
    crowd = [binding(f"r{n}", creationTimestamp="2026-11-23T12:00:01Z") for n in range(90)]
    crowd = [*crowd, binding("z" * 200, creationTimestamp="2026-11-23T12:00:00Z")]
    assert "z" * 200 in bindings.saved(bindings.merged({}, crowd, "home")[BINDINGS], "home"), "the oldest first"
    again = bindings.merged(notes, [binding("big")], "home")
    assert bindings.lost(again) == ()


@given(json_values.map(json.dumps) | st.text(max_size=20))
def test_garbage_keeps_nothing_and_breaks_nothing(text: str) -> None:
    assert bindings.saved(text, "home") == {}


@pytest.mark.parametrize(
    "item",
    [
        {"metadata": {"name": "../../secrets"}, "roleRef": ROLE},
        {"metadata": {"name": "meshwright-admin"}, "roleRef": ROLE},
        {"metadata": {"name": "a", "namespace": 3, "labels": {"a": 1}}, "roleRef": ROLE},
        {"metadata": {"name": "a"}, "roleRef": "edit"},
        {"metadata": {"name": "a"}, "roleRef": ROLE, "subjects": [{"kind": ["x"]}]},
        {"metadata": {"name": "a"}, "roleRef": ROLE, "spec": {}},
    ],
)
def test_what_is_no_binding_of_his_is_not_kept(item: Any) -> None:
    good = {"metadata": {"name": "good"}, "roleRef": ROLE}
    assert list(bindings.saved(json.dumps([item, good]), "home")) == ["good"]


def test_a_saved_binding_belongs_to_this_namespace_whatever_it_says() -> None:
    item = {"metadata": {"name": "a", "namespace": "kube-system"}, "roleRef": ROLE}
    assert bindings.saved(json.dumps([item]), "home")["a"]["metadata"]["namespace"] == "home"


def test_whoever_comes_back_gets_his_own_back() -> None:
    text = bindings.merged({}, [binding("a"), binding("b")], "home")[BINDINGS]
    newer = binding("b") | {"roleRef": {**ROLE, "name": "view"}}
    wanted = built(mesh(ann=ANN), home(workload(value=0, was='{"replicas": 4}'), bound=(newer,), saved=text))
    assert MARK not in wanted, "so it goes, after everything is back"
    assert wanted["kubernetes/rolebinding/home/a"].attrs["roleRef"] == ROLE
    assert wanted["kubernetes/rolebinding/home/b"].attrs["roleRef"]["name"] == "view", "he has made it anew"
    back = wanted["kubernetes/deployment/home/w"]
    assert back.attrs["spec"] == {"replicas": 4}
    assert "kubernetes/resourcequota/home/meshwright-quota" in back.after, "or no pod of it may start"
    assert wanted["kubernetes/resourcequota/home/meshwright-quota"].attrs["spec"]["hard"]["pods"] == "30"


def test_only_this_meshs_label_makes_a_binding_ours() -> None:
    assert bindings.foreign(binding(), "friends")
    assert bindings.foreign(binding(labels={MESH: "others"}), "friends")
    assert not bindings.foreign(binding(labels={MESH: "friends"}), "friends")


def test_nothing_is_decided_about_namespaces_where_no_cluster_was_asked() -> None:
    facts = Facts(NOW, cluster=ClusterFacts("1.36", {"home": home(workload())}))
    wanted = collect(kubernetes.build(mesh(), replace(facts, cluster=None)))
    assert not [id for id in wanted if "/home" in id]
