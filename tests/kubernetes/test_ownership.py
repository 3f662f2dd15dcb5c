"""What is somebody else's stays as it is; what was ours and was disowned comes back, loudly where a friend did it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from specimen import RBAC, Specimen, specimen, undeclared

from controlplane import ControlPlane
from meshwright.desired.manifest import resource
from meshwright.desired.names import MESH, labels
from meshwright.errors import ClusterError
from meshwright.plan import text

pytestmark = pytest.mark.cluster
NAME = "owned"
SPACE = f"{NAME}-ann"
HELM = {"meta.helm.sh/release-name": "app", "meta.helm.sh/release-namespace": "x"}


@pytest.fixture(scope="module")
def home(cluster: ControlPlane) -> Iterator[Specimen]:
    with specimen(cluster, NAME) as made:
        made.apply()
        yield made


def ids(todo: Any) -> list[str]:
    return [change.id for change in todo.changes]


def role(name: str, namespace: str = SPACE) -> dict[str, Any]:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    return undeclared(NAME, "Role", name, namespace, {"rules": rules})


def taken(home: Specimen, manifest: dict[str, Any], *how: str) -> str:
    """A stranger makes an object; its id."""
    home.kubectl("create", *(how or ("--field-manager=stranger",)), "-f", "-", stdin=manifest)
    meta = manifest["metadata"]
    return home.id(manifest["kind"], meta["name"], meta.get("namespace", ""))


def test_a_name_that_is_taken_is_a_conflict_and_stays_untouched(home: Specimen) -> None:
    id = taken(home, role("meshwright-taken"))
    before = home.live(id)
    home.more = [resource(_ours(role("meshwright-taken"), rules=[]))]
    try:
        todo = home.plan()
        assert ids(todo) == []
        blocked = todo.conflicts[id]
        assert "stranger" in blocked.why
        assert blocked.hostile  # it is in a tenant's namespace
        assert f"--adopt {id}" in blocked.hint
        home.apply()
        assert home.live(id) == before
        todo = home.plan(id)
        assert ids(todo) == [id]
        assert "(held by stranger)" in text.text(todo)
        home.apply(id)
        assert ids(home.plan()) == []
        assert home.live(id)["metadata"]["uid"] == before["metadata"]["uid"]
        assert home.live(id)["metadata"]["labels"][MESH] == NAME
    finally:
        home.more = []
    assert [(c.id, c.verb) for c in home.apply()] == [(id, "delete")]


def _ours(manifest: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels(NAME)}, **body}


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ({"annotations": HELM}, "the Helm release app"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, "the Flux Kustomization apps"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "shop:x/y"}}, "Argo CD (shop:x/y)"),
        ({"labels": {MESH: "another"}}, "the mesh another"),
        ({}, "written by stranger"),
    ],
)
def test_a_conflict_says_whose_it_is(home: Specimen, note: dict[str, Any], said: str) -> None:
    manifest = role("somebody", "default")
    manifest["metadata"] |= note
    home.more = [resource(_ours(role("somebody", "default")))]
    id = taken(home, manifest)
    try:
        conflict = home.plan().conflicts[id]
        assert said in conflict.why
        assert not conflict.hostile
    finally:
        home.more = []
        home.kubectl("delete", "role", "somebody", "-n", "default")


def test_what_stands_on_a_conflict_waits(home: Specimen) -> None:
    """A wall that somebody else holds the name of: no rights without it."""
    wall, right = home.id("ResourceQuota", "meshwright-late"), home.id("RoleBinding", "meshwright-late")
    quota = undeclared(NAME, "ResourceQuota", "meshwright-late", SPACE, {"spec": {"hard": {"pods": "999"}}})
    taken(home, quota)
    binding = _ours(
        undeclared(NAME, "RoleBinding", "meshwright-late", SPACE, {}),
        roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
        subjects=[],
    )
    home.more = [resource(_ours(quota, spec={"hard": {"pods": "1"}})), resource(binding, wall)]
    try:
        todo = home.plan()
        assert ids(todo) == []
        assert {id: b.kind for id, b in todo.blocked.items()} == {wall: "conflict", right: "waits"}
    finally:
        home.more = []
        home.kubectl("delete", "resourcequota", "meshwright-late", "-n", SPACE)


@pytest.mark.parametrize(
    "kind", ["ResourceQuota/meshwright-quota", "RoleBinding/meshwright-admin", "Secret/wireguard-ann"]
)
def test_a_label_that_a_friend_took_off_is_an_alarm(home: Specimen, kind: str) -> None:
    id = home.id(*kind.split("/"))
    home.patch(id, {"metadata": {"labels": {MESH: None}}}, manager="friend")
    todo = home.plan()
    assert [(c.id, c.verb) for c in todo.changes] == [(id, "update")]
    assert todo.changes[0].alarm.startswith("HOSTILE")
    assert "HOSTILE" in text.text(todo)
    home.apply()
    assert ids(home.plan()) == []
    assert home.live(id)["metadata"]["labels"][MESH] == NAME


def test_a_label_taken_off_elsewhere_is_plain_drift(home: Specimen) -> None:
    id = home.id("ServiceAccount", "peer-ann", home.access)
    home.patch(id, {"metadata": {"labels": {MESH: None}}})
    (change,) = home.apply()
    assert (change.id, change.alarm) == (id, "")
    assert ids(home.plan()) == []


def test_a_disowned_object_of_a_tenant_goes_when_it_is_no_longer_wanted(home: Specimen) -> None:
    """A friend who takes our label off his binding does not keep it."""
    id = home.id("RoleBinding", "meshwright-admin")
    home.patch(id, {"metadata": {"labels": {MESH: None}}}, manager="friend")
    home.without = {id}
    try:
        todo = home.plan()
        assert [(c.id, c.verb, c.alarm[:7]) for c in todo.changes] == [(id, "delete", "HOSTILE")]
        home.apply()
        assert home.live(id) == {}
    finally:
        home.without = set()
        home.apply()


def test_who_also_clears_the_managed_fields_makes_a_conflict(home: Specimen) -> None:
    id = home.id("NetworkPolicy", "meshwright-default-deny")
    home.patch(id, {"metadata": {"labels": {MESH: None}, "managedFields": [{}]}, "spec": {"ingress": [{}]}})
    todo = home.plan()
    assert ids(todo) == []
    assert todo.conflicts[id].hostile
    before = home.live(id)
    home.apply()
    assert home.live(id) == before
    home.apply(id)
    assert ids(home.plan()) == []
    assert "ingress" not in home.live(id)["spec"]


def test_cleared_managed_fields_hide_nothing(home: Specimen) -> None:
    """Nobody holds anything then, and the object is ours by its label: whatever is not declared goes."""
    id = home.id("ValidatingAdmissionPolicy", f"{NAME}-services", "")
    home.patch(id, {"spec": {"matchConditions": [{"name": "never", "expression": "false"}]}})
    home.patch(id, {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in home.live(id)["metadata"]
    assert "spec.matchConditions" in text.text(home.plan())
    home.apply()
    assert "matchConditions" not in home.live(id)["spec"]
    assert ids(home.plan()) == []


def test_what_bears_our_label_and_is_not_wanted_goes_and_nothing_else(home: Specimen) -> None:
    stranger = taken(home, role("a-strangers"))
    ours = taken(home, _ours(role("meshwright-old")))
    before = home.live(stranger)
    assert [(c.id, c.verb) for c in home.apply()] == [(ours, "delete")]
    assert home.live(ours) == {}
    assert home.live(stranger) == before


def test_namespaces_and_secrets_with_data_are_never_pruned(home: Specimen) -> None:
    space, full = home.id("Namespace", f"{NAME}-old", ""), home.id("Secret", "wireguard-full")
    empty = home.id("Secret", "wireguard-empty")
    home.kubectl("create", "-f", "-", stdin=_ours(undeclared(NAME, "Namespace", f"{NAME}-old", "", {})))
    for id, body in ((full, {"stringData": {"wg.conf": "x"}}), (empty, {})):
        home.kubectl("create", "-f", "-", stdin=_ours(undeclared(NAME, "Secret", id.split("/")[-1], SPACE, body)))
    try:
        assert [(c.id, c.verb) for c in home.apply()] == [(empty, "delete")]
        assert home.live(space)
        assert home.live(full)
    finally:
        home.kubectl("delete", "namespace", f"{NAME}-old", "--wait=false")
        home.kubectl("delete", "secret", "wireguard-full", "-n", SPACE)


def test_nothing_wanted_is_no_wish_to_delete_all(home: Specimen) -> None:
    assert home.provider().read({}) == {}


def test_a_kind_that_cannot_be_listed_stops_everything(home: Specimen, cluster: ControlPlane) -> None:
    """Half a look would look like things that are gone, or like nothing to delete."""
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    rules = [{"apiGroups": ["", "networking.k8s.io"], "resources": ["*"], "verbs": ["list"]}]
    name = f"{NAME}-half"
    home.kubectl("create", "-f", "-", stdin=undeclared(NAME, "ClusterRole", name, "", {"rules": rules}))
    home.kubectl(
        "create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={home.access}:peer-ann"
    )
    try:
        someone = cluster.as_(cluster.token(home.access, "peer-ann"))
        with pytest.raises(ClusterError, match=r"may not list \w+\.") as caught:
            home.provider(someone).read(home.wanted())
        assert "the right to list" in caught.value.hint
    finally:
        home.kubectl("delete", "clusterrole,clusterrolebinding", name)


def test_the_content_of_secrets_is_never_asked_for(home: Specimen, monkeypatch: pytest.MonkeyPatch) -> None:
    id = home.id("Secret", "wireguard-ann")
    home.patch(id, {"stringData": {"wg.conf": "Zm9ydHktdHdv"}}, manager="deployer")
    home.patch(id, {"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}})
    answers: list[str] = []
    from meshwright.io import apiserver

    send = apiserver.Connection.send

    def heard(self: Any, request: Any) -> Any:
        answer = send(self, request)
        answers.append(repr(answer))
        return answer

    monkeypatch.setattr(apiserver.Connection, "send", heard)
    todo = home.plan()
    assert ids(todo) == [id]
    home.apply()
    assert len(answers) > 20
    secret = ("Zm9ydHktdHdv", "Wm05eWRIa3RkSGR2")
    assert [answer for answer in answers if any(text in answer for text in secret)] == []
    assert home.live(id)["data"]["wg.conf"]  # and it is still there
    assert ids(home.plan()) == []
