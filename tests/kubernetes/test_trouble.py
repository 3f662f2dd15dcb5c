"""What goes wrong in the middle of an apply is told of each object, and the next run makes it good."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from relay import relay
from specimen import RBAC, Specimen, many, role, undeclared, versions

from controlplane import ControlPlane
from meshwright import discover
from meshwright.desired.manifest import resource
from meshwright.desired.names import labels
from meshwright.events import Event, Progress
from meshwright.io.cluster import Cluster
from meshwright.plan import text
from meshwright.plan.plan import make
from meshwright.providers.kubernetes import Kubernetes
from meshwright.providers.kubernetes.kinds import of
from meshwright.providers.kubernetes.look import look
from meshwright.providers.kubernetes.write import Writer
from meshwright.spec import load

pytestmark = pytest.mark.cluster
SMALL = """version: 1
name: {name}
hub: {{node: hub, address: 192.168.20.20, interface: wg1, endpoint: "vpn.example.net:51821"}}
network: {{cidr: 10.100.0.0/16, hub: 10.100.0.1, routes: {{}}}}
peers: {{ben: {{address: 10.100.2.1}}}}
kubernetes: {{}}
policy: {{allow: [{{from: ben, to: hub, ports: [icmp]}}]}}
"""
CRD = "prometheusrules.monitoring.coreos.com"


def ids(todo: Any) -> list[str]:
    return [change.id for change in todo.changes]


def test_what_changed_since_the_plan_is_refused_and_the_rest_is_written(home: Specimen) -> None:
    home.apply()
    changed, other = home.id("RoleBinding", "meshwright-admin"), home.id("ResourceQuota", "meshwright-quota")
    for id, body in ((changed, {"subjects": []}), (other, {"spec": {"hard": {"pods": "99"}}})):
        home.patch(id, body)
    todo = home.plan()
    eve = {"kind": "User", "name": "eve", "apiGroup": RBAC}
    home.patch(changed, {"subjects": [eve]})
    results = home.write(todo)
    assert results[other].ok
    assert not results[changed].ok
    assert "changed since the plan" in results[changed].why
    assert "meshwright plan" in results[changed].hint
    assert home.live(changed)["subjects"] == [eve]
    home.apply()
    assert ids(home.plan()) == []


def test_a_stranger_who_takes_the_name_since_the_plan_is_named_and_untouched(home: Specimen) -> None:
    home.apply()
    home.more = [resource({**role(home, "meshwright-new"), "rules": []})]
    todo = home.plan()
    stranger = undeclared(home.name, "Role", "meshwright-new", home.tenant, {"rules": role(home, "x")["rules"]})
    home.kubectl("create", "--field-manager=stranger", "-f", "-", stdin=stranger)
    (id,) = ids(todo)
    before = home.live(id)
    results = home.write(todo)
    assert "stranger" in results[id].why
    assert home.live(id) == before


def test_done_by_another_operator_meanwhile_is_done(home: Specimen) -> None:
    home.apply()
    id = home.id("ResourceQuota", "meshwright-quota")
    home.patch(id, {"spec": {"hard": {"pods": "99"}}})
    todo = home.plan()
    home.apply()
    assert {id: r.why for id, r in home.write(todo).items()} == {id: ""}


def test_a_status_written_in_between_does_not_matter_but_an_edit_does(home: Specimen) -> None:
    """Compare-and-set on the resourceVersion, and a second look where it has moved."""
    home.apply()
    id = home.id("RoleBinding", "meshwright-admin")
    home.patch(id, {"subjects": []})
    (change,) = home.plan().changes
    cluster = home.control.connect()
    wanted = {id: home.wanted()[id]}
    seen = look(cluster, home.name, wanted, of([id]))
    home.patch(id, {"metadata": {"annotations": {"stranger": "1"}}})
    assert Writer(cluster, seen).write(change).why == ""
    assert home.live(id)["subjects"]
    home.patch(id, {"subjects": []})
    seen = look(cluster, home.name, wanted, of([id]))
    home.patch(id, {"subjects": [{"kind": "User", "name": "eve", "apiGroup": RBAC}]})
    assert "changed since the plan" in Writer(cluster, seen).write(change).why
    assert home.live(id)["subjects"][0]["name"] == "eve"


def test_one_object_that_the_server_refuses_fails_alone(home: Specimen) -> None:
    """Only what stands on it is not tried: nobody gets a right whose wall could not be built."""
    bad = home.id("ResourceQuota", "meshwright-quota")
    home.edits = {bad: lambda manifest: manifest["spec"]["hard"].update({"limits.cpu": "much"})}
    results = home.write(home.plan())
    failed = {id: r.why for id, r in results.items() if not r.ok}
    assert failed.pop(bad)
    rights = {home.id("RoleBinding", name) for name in ("meshwright-admin", "meshwright-deployer")}
    rights.add(home.id("ClusterRoleBinding", f"{home.name}-reader", ""))
    assert failed.keys() == rights
    assert all(why == f"not tried: it needs {bad} first" for why in failed.values())
    assert [id for id in rights if home.live(id)] == []
    home.edits = {}
    home.apply()
    assert ids(home.plan()) == []


def test_two_at_once(home: Specimen) -> None:
    """One writes, the other is told who does; nothing is written twice, and both together make it whole."""
    home.more = many(home, 60)
    todo = home.plan()
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(home.write(todo))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(answers) == 2
    whys = {r.why for results in answers for r in results.values() if not r.ok}
    assert all("is applying this mesh" in why or "taking the lock" in why for why in whys), whys
    assert any(all(r.ok for r in results.values()) for results in answers)
    assert ids(home.plan()) == []


def test_an_interrupt_stops_every_thread(home: Specimen) -> None:
    home.apply()
    home.more = many(home, 150)

    def interrupted(event: Event) -> None:
        if isinstance(event, Progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        home.write(home.plan(), interrupted)
    found = versions(home)
    assert 20 < len(found) < 150
    time.sleep(1)
    assert versions(home) == found
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    home.apply()  # the lock was given back
    assert ids(home.plan()) == []


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
import pickle
from meshwright.io.cluster import connect
from meshwright.providers.kubernetes import Kubernetes
changes = pickle.loads(Path(sys.argv[3]).read_bytes())
provider = Kubernetes(connect(kubeconfig=Path(sys.argv[1])), sys.argv[2], f"{sys.argv[2]}-access")
provider.apply(changes, lambda event: print(event, flush=True))
"""


def test_killed_in_the_middle_the_next_run_converges(home: Specimen, tmp_path: Path) -> None:
    import pickle

    home.apply()
    home.more = many(home, 200)
    (tmp_path / "changes").write_bytes(pickle.dumps(home.plan().changes))
    arguments = [str(home.control.kubeconfig), home.name, str(tmp_path / "changes"), *sys.path]
    child = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE)
    assert child.stdout
    assert b"Progress" in child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    assert 20 < len(versions(home)) < 200
    refused = home.write(home.plan())
    assert all("is applying this mesh" in r.why for r in refused.values())
    assert all("ends by itself" in r.hint for r in refused.values())
    home.forget_lock()  # as if a minute had gone by
    home.apply()
    assert ids(home.plan()) == []


def test_a_server_that_goes_away_leaves_nothing_unnamed(home: Specimen, tmp_path: Path) -> None:
    home.apply()
    home.more = many(home, 150)
    todo = home.plan()
    with relay(home.control) as wire:
        text = home.control.kubeconfig.read_text().replace(home.control.server, f"https://127.0.0.1:{wire.port}")
        assert str(wire.port) in text
        (tmp_path / "kubeconfig").write_text(text)
        (tmp_path / "kubeconfig").chmod(0o600)
        client = Cluster(None, tmp_path / "kubeconfig", patience=2)

        def cuts(event: Event) -> None:
            if isinstance(event, Progress):
                wire.cut()

        began = time.monotonic()
        results = Kubernetes(client, home.name, home.access).apply(todo.changes, cuts)
        assert time.monotonic() - began < 60  # bounded; in practice a few seconds
    assert [r.id for r in results] == ids(todo)
    failed = [r for r in results if not r.ok]
    assert 50 < len(failed) < 150
    assert all(f"127.0.0.1:{wire.port}" in r.why and r.hint for r in failed)
    home.forget_lock()
    home.apply()
    assert ids(home.plan()) == []


def test_credentials_that_end_stop_all(home: Specimen, cluster: ControlPlane) -> None:
    home.apply()
    home.more = many(home, 3)
    todo = home.plan()
    home.kubectl("create", "serviceaccount", "operator", "-n", "default")
    someone = cluster.as_(cluster.token("default", "operator"))
    home.kubectl("delete", "serviceaccount", "operator", "-n", "default")
    results = home.provider(someone).apply(todo.changes, lambda event: None)
    assert len(results) == 3
    assert all("not accepted" in r.why for r in results)


def test_a_crd_that_is_missing_holds_up_only_its_own(home: Specimen) -> None:
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "meshwright-rules", "namespace": home.tenant, "labels": labels(home.name)},
        "spec": {"groups": [{"name": "mesh", "rules": [{"record": "a", "expr": "b"}]}]},
    }
    home.more = [resource(rule)]
    (id,) = (r.id for r in home.more)
    home.kubectl("delete", "customresourcedefinition", CRD, "--ignore-not-found")  # another test's
    changes = home.apply()
    assert len(changes) == len(home.wanted()) - 1
    todo = home.plan()
    assert (ids(todo), todo.blocked[id].kind, todo.blocked[id].why) == ([], "waits", f"waits for the CRD {CRD}")
    assert "install the Prometheus operator" in todo.blocked[id].hint
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "PrometheusRule", "plural": "prometheusrules", "singular": "prometheusrule"}
    spec = {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    note = {"api-approved.kubernetes.io": "unapproved, a test"}
    home.kubectl("apply", "-f", "-", stdin={**crd, "metadata": {"name": CRD, "annotations": note}})
    try:
        home.kubectl("wait", "--for=condition=established", "--timeout=30s", f"customresourcedefinition/{CRD}")
        assert ids(home.plan()) == [id]
        home.apply()
        assert ids(home.plan()) == []
        home.patch(id, {"spec": {"groups": []}})
        assert [c.id for c in home.apply()] == [id]
        home.more = []
        assert [(c.id, c.verb) for c in home.apply()] == [(id, "delete")]
    finally:
        home.kubectl("delete", "customresourcedefinition", CRD)


def test_an_account_that_the_cluster_made_meanwhile_is_no_stranger(home: Specimen) -> None:
    """The account `default` comes with its namespace, maybe before we get to it."""
    id = home.id("ServiceAccount", "default")
    todo = home.plan()
    home.kubectl("create", "namespace", home.tenant)
    for _ in range(100):
        if home.live(id):
            break
        time.sleep(0.1)
    wanted = {i: r for i, r in home.wanted().items() if i in (id, home.id("Namespace", "", None))}
    assert make(wanted, home.provider().read(home.wanted())).conflicts.keys() == {home.id("Namespace", "", None)}
    home.patch(home.id("Namespace", "", None), {"metadata": {"labels": {"meshwright.io/mesh": home.name}}})
    (change,) = [c for c in todo.changes if c.id == id]
    cluster = home.control.connect()
    seen = look(cluster, home.name, {id: home.wanted()[id]}, of([id]))
    assert Writer(cluster, seen).write(change).why == ""
    home.apply()
    assert ids(home.plan()) == []


def test_a_namespace_that_is_being_deleted_is_told_and_made_anew_when_it_is_gone(home: Specimen) -> None:
    """What was in it goes too: nothing is put into it, and least of all a right without its walls."""
    home.apply()
    space = home.id("Namespace", "", None)
    home.patch(space, {"metadata": {"finalizers": ["eve.example.net/stay"]}})
    home.kubectl("delete", "namespace", home.tenant, "--wait=false")
    todo = home.plan()
    assert space in ids(todo)
    assert "deletionTimestamp" in text.text(todo)
    home.kubectl("wait", "--for=delete", "rolebinding/meshwright-admin", "-n", home.tenant, "--timeout=60s")
    # the finalizer of the namespace's own controller goes when nothing is left in it; the kinds go one by one before
    for _ in range(600):
        if not home.live(space)["spec"].get("finalizers"):
            break
        time.sleep(0.1)
    home.kubectl("delete", "serviceaccount", "peer-ann", "-n", home.access)
    todo = home.plan()
    results = home.write(todo)
    inside = [id for id in results if f"/{home.tenant}" in id]
    assert len(inside) > 8
    assert results[home.id("ServiceAccount", "peer-ann", home.access)].ok, "nobody else has to wait"
    assert not [id for id in inside if results[id].ok]
    assert "it is being deleted since" in results[space].why
    assert "kubectl wait --for=delete" in results[space].hint
    untried = [results[id].why for id in inside if id.count("/") == 3]
    assert all(why.startswith("not tried: it needs ") and space in why for why in untried)
    home.patch(space, {"metadata": {"finalizers": None}})
    home.kubectl("wait", "--for=delete", f"namespace/{home.tenant}", "--timeout=60s")
    home.apply()
    assert ids(home.plan()) == []
    assert "deletionTimestamp" not in home.live(space)["metadata"]


def test_a_namespace_that_left_quarantine_for_good_is_let_go(home: Specimen) -> None:
    """Deleted by its owner while it ends slowly: no plan, and it is not filled again."""
    home.apply()
    space = home.id("Namespace", "", None)
    home.without = {id for id in home.wanted() if f"/{home.tenant}" in id}
    note = {"meshwright.io/quarantine": "true"}
    home.patch(space, {"metadata": {"finalizers": ["eve.example.net/stay"], "labels": note}})
    assert ids(home.plan()) != [], "while nobody deletes it"
    secret = home.id("Secret", "wireguard-ann")
    home.patch(secret, {"metadata": {"finalizers": ["eve.example.net/stay"]}})
    mesh = load.load_text(SMALL.format(name=home.name)).mesh
    cluster = home.control.connect()

    def known() -> list[str]:
        facts = discover.read(mesh, {}, cluster).cluster
        return list(facts.tenants) if facts else []

    assert known() == [home.tenant]
    home.kubectl("delete", "namespace", home.tenant, "--wait=false")
    try:
        assert known() == []
        assert [id for id in ids(home.plan()) if home.tenant in id] == []
    finally:
        home.patch(secret, {"metadata": {"finalizers": None}})
        home.patch(space, {"metadata": {"finalizers": None}})


def test_an_object_that_somebody_deletes_slowly_is_made_anew(home: Specimen) -> None:
    home.apply()
    for kind, name in (("RoleBinding", "meshwright-admin"), ("NetworkPolicy", "meshwright-default-deny")):
        id = home.id(kind, name)
        home.patch(id, {"metadata": {"finalizers": ["eve.example.net/stay"]}})
        before = home.live(id)
        home.kubectl("delete", kind, name, "-n", home.tenant, "--wait=false")
        assert [(c.id, c.verb) for c in home.apply()] == [(id, "update")]
        assert home.live(id)["metadata"]["uid"] != before["metadata"]["uid"]
        assert "deletionTimestamp" not in home.live(id)["metadata"]
        assert ids(home.plan()) == []


def test_fields_that_nobody_may_change_are_made_right_all_the_same(home: Specimen) -> None:
    """The scopes of a quota, and the role of a binding: the object is made anew, and the rest is as it was."""
    home.apply()
    quota, right = (
        home.id("ResourceQuota", "meshwright-quota"),
        home.id("ClusterRoleBinding", f"{home.name}-reader", ""),
    )
    for id, body in (
        (quota, {"spec": {"hard": {"pods": "500"}, "scopes": ["BestEffort"]}}),
        (right, {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}}),
    ):
        live = home.live(id)
        meta = {key: live["metadata"][key] for key in ("name", "namespace", "labels") if key in live["metadata"]}
        other = {key: live[key] for key in live if key not in ("metadata", "status")} | body | {"metadata": meta}
        home.kubectl("delete", live["kind"], meta["name"], *(["-n", home.tenant] if "namespace" in meta else []))
        home.kubectl("create", "-f", "-", stdin=other)
    assert sorted((c.id, c.verb) for c in home.apply()) == sorted([(quota, "update"), (right, "update")])
    assert "scopes" not in home.live(quota)["spec"]
    assert home.live(right)["roleRef"]["name"] == f"{home.name}-reader"
    assert ids(home.plan()) == []


def test_a_secret_of_another_type_is_not_thrown_away(home: Specimen) -> None:
    """What is in it is somebody's: it is told, with the way out."""
    home.without = {home.id("Secret", "wireguard-ann")}
    home.apply()
    home.without = set()
    body = {"type": "example.net/other", "stringData": {"a": "b"}}
    home.kubectl("create", "-f", "-", stdin=undeclared(home.name, "Secret", "wireguard-ann", home.tenant, body))
    id = home.id("Secret", "wireguard-ann")
    assert list(home.plan().conflicts) == [id]
    result = home.write(home.plan(id))[id]
    assert "field is immutable" in result.why
    assert "save what is in the object, delete it, then apply again" in result.hint
    assert home.live(id)["data"]
    home.kubectl("delete", "secret", "wireguard-ann", "-n", home.tenant)
    home.apply()
    assert ids(home.plan()) == []
