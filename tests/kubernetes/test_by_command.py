"""The cluster through the front door: many friends, two operators at once, another role, and warnings."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from village import OIDC, Village, text, village

from controlplane import ControlPlane

pytestmark = pytest.mark.cluster
SPACE = "many-p0"
# kind, name, namespace -> a merge patch by a stranger
EDITS = {
    ("namespace", SPACE, ""): {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
    ("serviceaccount", "default", SPACE): {"automountServiceAccountToken": True},
    ("serviceaccount", "peer-p0", "many-access"): {"automountServiceAccountToken": True},
    ("secret", "wireguard-p0", SPACE): {"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}},
    ("resourcequota", "meshwright-quota", SPACE): {"spec": {"hard": {"pods": "500"}}},
    ("resourcequota", "meshwright-quota-bindings", SPACE): {"spec": None},
    ("limitrange", "meshwright-limits", SPACE): {"spec": {"limits": []}},
    ("networkpolicy", "meshwright-default-deny", SPACE): {"spec": {"ingress": [{}]}},
    ("role", "meshwright-deployer", SPACE): {"rules": []},
    ("role", "meshwright-tenant", "many-p1"): {"rules": []},
    ("rolebinding", "meshwright-admin", SPACE): {"subjects": []},
    ("clusterrole", "many-reader", ""): {"rules": []},
    ("clusterrolebinding", "many-reader", ""): {"subjects": []},
    ("validatingadmissionpolicy", "many-services", ""): {"spec": {"failurePolicy": "Ignore"}},
    ("validatingadmissionpolicybinding", "many-services", ""): {"spec": {"validationActions": ["Audit"]}},
}


def id_of(kind: str, name: str, namespace: str) -> str:
    return "/".join(part for part in ("kubernetes", kind, namespace, name) if part)


def patch(town: Village, kind: str, name: str, namespace: str, body: object) -> None:
    where = ["-n", namespace] if namespace else []
    town.kubectl("patch", kind, name, *where, "--type=merge", "--field-manager=eve", "-p", json.dumps(body))


@pytest.fixture
def town(tmp_path: Path, cluster: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Village]:
    """Three friends; the name is the test's."""
    name = request.node.originalname.removeprefix("test_")[:12].replace("_", "-").strip("-")
    with village(tmp_path, cluster, name, text(name, 3)) as made:
        yield made


def test_a_hundred_friends_are_made_found_right_and_every_hand_edit_is_mended(
    tmp_path: Path, cluster: ControlPlane
) -> None:
    with village(tmp_path, cluster, "many", text("many", 100)) as many:
        many.run("apply", "--yes")
        spaces = many.kubectl("get", "namespaces", "-l", "meshwright.io/mesh=many", "-o", "name").splitlines()
        out = {number for number in range(100) if number % 17 == 11 or number % 19 == 13}
        assert len(spaces) == 100 - len(out) + 1, "his own for each who is in, and the accounts'"
        assert many.changes() == []
        assert many.run("drift").stdout == "no drift\n"
        for (kind, name, namespace), body in EDITS.items():
            patch(many, kind, name, namespace, body)
        edited = {id_of(*where) for where in EDITS}
        assert set(many.changes()) == edited
        assert {id.split("/")[1] for id in edited} == _kinds(many), "one of each kind that there is"
        assert "15 things are not as the file says" in many.run("drift", code=2).stdout
        many.run("apply", "--yes")
        assert many.run("drift").stdout == "no drift\n"


def _kinds(many: Village) -> set[str]:
    """The kinds of what is ours in the cluster."""
    kinds = sorted({kind for kind, _, _ in EDITS} | {"configmap", "service", "deployment", "ingress"})
    found = many.kubectl("get", ",".join(kinds), "-A", "-l", "meshwright.io/mesh=many", "-o", "name")
    return {line.partition("/")[0].partition(".")[0] for line in found.splitlines()}


def test_people_of_an_identity_provider(tmp_path: Path, cluster: ControlPlane) -> None:
    with village(tmp_path, cluster, "people", text("people", 9, OIDC)) as people:
        people.run("apply", "--yes")
        assert people.changes() == []
        said = ("-o", "jsonpath={.subjects[*].name}")
        assert people.kubectl("get", "rolebinding", "meshwright-admin", "-n", "people-p2", *said) == "mesh:p2"
        assert "peer-" not in people.kubectl("get", "serviceaccounts", "-n", "people-access", "-o", "name")


def test_two_operators_at_once(town: Village) -> None:
    """One works, the other is told who does and since when, writes nothing, and the mesh is whole afterwards."""
    town.mesh(text(town.name, 25))
    command = town.command("apply", "--yes", "--only", "kubernetes", "-o", "json")
    both = [
        subprocess.Popen(
            command, cwd=town.folder, env=town.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=120)[0], process.returncode) for process in both]
    codes = sorted(code for _, code in ended)
    refused = [json.loads(out) for out, code in ended if code]
    assert codes[0] == 0, ended
    assert len(refused) <= 1
    for document in refused:  # where the first was not done before the second began
        failed = [result for result in document["results"] if not result["ok"]]
        assert all("is applying this mesh" in r["why"] or "changed since the plan" in r["why"] for r in failed), failed
    assert town.changes() == []


@pytest.mark.parametrize("sent", [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT] * 3], ids=("term", "hup", "int"))
def test_whoever_is_told_to_end_gives_the_lock_back(
    tmp_path: Path, cluster: ControlPlane, sent: list[signal.Signals]
) -> None:
    name = f"end-{sent[0].name.lower()}"
    with village(tmp_path, cluster, name, text(name, 40)) as town, open(tmp_path / "said", "w+") as said:
        apply = town.command("apply", "--yes", "--only", "kubernetes")
        process = subprocess.Popen(apply, cwd=town.folder, env=town.env, stdout=said, stderr=said)
        while process.poll() is None and not held(town):
            time.sleep(0.05)
        for number in sent:
            process.send_signal(number)
        code = process.wait(timeout=60)
        said.seek(0)
        assert (code, said.read().count("interrupted")) == (130, 1)
        assert held(town) == ""
        town.run("apply", "--yes", "--only", "kubernetes")
        assert town.changes() == []


def held(town: Village) -> str:
    """Who holds the lock; nobody where it has no place to stand yet."""
    lease = ("lease", f"meshwright-{town.name}", "-n", f"{town.name}-access")
    return town.plane.kubectl("get", *lease, "-o", "jsonpath={.spec.holderIdentity}").stdout.decode()


def test_another_operator_is_named(town: Village) -> None:
    town.run("apply", "--yes")
    town.edit("p0: {", "p0: {groups: [old], ")
    spaces = [f"{town.name}-p0", f"{town.name}-p1"]
    for space in spaces:
        town.kubectl("delete", "limitrange", "-n", space, "meshwright-limits")
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    held = {"holderIdentity": "ada@desk (process 7) 1234abcd", "leaseDurationSeconds": 60, "renewTime": now}
    lease = ("lease", f"meshwright-{town.name}", "-n", f"{town.name}-access")
    town.kubectl("patch", *lease, "--type=merge", "-p", json.dumps({"spec": {**held, "acquireTime": now}}))
    done = town.run("apply", "--yes", code=1)
    assert "ada@desk (process 7) is applying this mesh to the cluster since" in done.stdout
    assert "its lock ends by itself in" in done.stdout
    for said in (done.stdout, done.stderr):
        assert said.count("ada@desk") == 1, "not once for each change"
    assert "1234abcd" not in done.stdout
    left = [f"kubernetes/limitrange/{space}/meshwright-limits" for space in spaces]
    assert town.changes() == left, "nothing was written"
    town.kubectl("delete", *lease)
    town.run("apply", "--yes")
    assert town.changes() == []


def test_role_of_a_friend_there_and_back(town: Village) -> None:
    """The server lets nobody change a binding's role; and what protects ours does not stop its operator."""
    town.run("apply", "--yes")
    space = f"{town.name}-p0"
    ref = ("get", "rolebinding", "meshwright-admin", "-n", space, "-o", "jsonpath={.roleRef.kind}/{.roleRef.name}")
    assert town.kubectl(*ref) == "ClusterRole/admin"
    line = f"p0: {{namespace: {space}, "
    town.edit(line, f"{line}tenant: {{role: restricted}}, ")
    role = f"kubernetes/role/{space}/meshwright-tenant"
    binding = f"kubernetes/rolebinding/{space}/meshwright-admin"
    assert set(town.changes()) == {role, binding}
    town.run("apply", "--yes")
    assert town.kubectl(*ref) == "Role/meshwright-tenant"
    assert town.changes() == []
    town.edit(f"{line}tenant: {{role: restricted}}, ", line)
    assert set(town.changes()) == {role, binding}
    town.run("apply", "--yes")
    assert town.kubectl(*ref) == "ClusterRole/admin"
    assert town.changes() == []


WARNING = "not on a Monday"


def test_warnings_are_told_once(town: Village) -> None:
    """What the server warns of, and a certificate that nobody checks: beside the result, and in the JSON."""
    town.run("apply", "--yes")
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["limitranges"]}
    name, api = f"{town.name}-monday", "admissionregistration.k8s.io/v1"
    here = {"namespaceSelector": {"matchLabels": {"meshwright.io/mesh": town.name}}}
    bound = {"policyName": name, "validationActions": ["Warn"], "matchResources": here}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": WARNING}],
    }
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    for kind, body in zip(kinds, (spec, bound), strict=True):
        manifest = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": body}
        done = town.plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest).encode())
        assert done.returncode == 0, done.stderr
    try:
        spaces = [f"{town.name}-p{number}" for number in range(3)]
        end = time.monotonic() + 30
        while WARNING not in _annotated(town, spaces[0]):
            assert time.monotonic() < end
        for space in spaces:
            town.kubectl("delete", "limitrange", "-n", space, "meshwright-limits")
        done = town.run("apply", "--yes")
        assert done.stderr.count(WARNING) == 1, done.stderr
        assert "warning: " in done.stderr
        assert WARNING not in done.stdout
        assert WARNING not in town.run("plan").stderr
        town.kubectl("delete", "limitrange", "-n", spaces[0], "meshwright-limits")
        document = json.loads(town.run("apply", "--yes", "-o", "json").stdout)
        assert [WARNING in warning for warning in document["warnings"]] == [True]
    finally:
        town.kubectl("delete", ",".join(kinds), name)
    _unchecked(town)
    done = town.run("plan")
    assert done.stderr.count("is not checked (insecure-skip-tls-verify of context 'lab')") == 1
    assert len(json.loads(town.run("plan", "-o", "json").stdout)["warnings"]) == 1


def _annotated(town: Village, space: str) -> str:
    how = ("annotate", "limitrange", "-n", space, "meshwright-limits", "--overwrite", "--dry-run=server")
    return town.plane.kubectl(*how, f"note={time.monotonic()}").stderr.decode()


def _unchecked(town: Village) -> None:
    document = json.loads(town.plane.kubeconfig.read_text())
    document["clusters"][0]["cluster"] = {"server": town.plane.server, "insecure-skip-tls-verify": True}
    path = town.folder / "unchecked"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    town.env["KUBECONFIG"] = str(path)
