"""plan, apply, drift, render against a real API server; what kubectl makes of the rendered files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import controlplane
from controlplane import ControlPlane
from door import REFERENCE, Door
from meshwright import keys
from meshwright.lab.cluster import programs
from meshwright.providers.files import keep

pytestmark = pytest.mark.cluster
SPACES = ("ham", "bryce", "jake", "steve")


class Cluster(Door):
    """The program with a kubeconfig, on a mesh whose names in the cluster are its own."""

    def __init__(self, folder: Path, plane: ControlPlane, prefix: str) -> None:
        super().__init__(folder)
        self.plane, self.prefix = plane, prefix
        self.env["KUBECONFIG"] = str(plane.kubeconfig)
        text = re.sub(rf"\bnamespace: ({'|'.join(SPACES)})\b", rf"namespace: {prefix}-\1", REFERENCE.read_text())
        text = re.sub(r"\b(name|reader): (collective-mesh|[a-z]*-deployer|[a-z-]*-reader)\b", rf"\1: {prefix}-\2", text)
        text = text.replace("\nkubernetes:\n", f"\nkubernetes:\n  access: {{namespace: {prefix}-access}}\n")
        text = text.replace("namespace: wireguard-exporter", f"namespace: {prefix}-exporter")
        self.mesh(text)
        plane.kubectl("create", "namespace", "monitoring")
        keep(folder / ".meshwright", {who: keys.generate() for who in ("hamilton", "bryce", "jake", "steve")}, {})

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = self(*arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def kubectl(self, *arguments: str, stdin: str = "", program: str = "") -> str:
        done = self.plane.kubectl(*arguments, stdin=stdin.encode(), program=program)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b"", "not even a warning"
        return done.stdout.decode()

    def rendered(self) -> dict[str, list[str]]:
        """The arguments of kubectl for each file, in the order that render says."""
        order = json.loads(self.run("render", "out", "-o", "json").stdout)["order"]
        return {path: ["-f", str(self.folder / "out" / path)] for path in order}


@pytest.fixture
def operator(cluster: ControlPlane) -> None:
    """An API server that knows monitors."""
    cluster.install_crds("servicemonitors", "podmonitors", "prometheusrules")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Cluster]:
    """The house with an API server of its own, which is empty and knows no monitors."""
    with controlplane.running() as plane:
        yield Cluster(tmp_path, plane, "bare")


@pytest.fixture
def house(tmp_path: Path, cluster: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    prefix = f"cli{abs(hash(request.node.name)) % 10**6}"
    yield Cluster(tmp_path, cluster, prefix)
    kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces"
    mesh = f"meshwright.io/mesh={prefix}-collective-mesh"
    cluster.kubectl("delete", kinds, "-l", mesh, "--wait=false")
    cluster.kubectl("delete", "serviceaccounts", "-n", "default", "-l", mesh)
    cluster.kubectl("delete", "configmaps", "-n", "monitoring", "-l", mesh)


def kubectls() -> list[str]:
    """The kubectl that the tests use, the machine's, and the one that was built, where those are others."""
    places = (programs.look(["kubectl"]).get("kubectl"), shutil.which("kubectl", path="/usr/bin:/usr/local/bin"))
    built = programs.own() / "kubectl"
    return sorted({str(path) for path in (*places, built) if path and Path(path).exists()}) or [""]


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("program", kubectls())
def test_kubectl_applies_the_tree_without_a_warning_and_leaves_an_empty_plan(house: Cluster, program: str) -> None:
    files = [word for words in house.rendered().values() for word in words]
    said = house.kubectl("apply", "--server-side", "--validate=strict", *files, program=program)
    assert said.count("serverside-applied") > 100
    assert house.run("plan", "--only", "kubernetes").stdout.startswith("Nothing to do. digest ")
    assert house.run("drift", "--only", "kubernetes").stdout == "no drift\n"
    assert house.run("render", "out", "--check").stdout.endswith("every file is right\n")
    again = house.kubectl("apply", "--server-side", *files, program=program)
    assert again == said


REORDER = "Sorting order is set both in 'kustomization.yaml'"
"""kubectl -k asks for an order of its own, and then says on every run that the file's holds."""


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("program", kubectls())
def test_kubectl_applies_the_kustomization_at_once(house: Cluster, program: str) -> None:
    house.run("render", "out", "--kustomize")
    done = house.plane.kubectl("apply", "--server-side", "-k", str(house.folder / "out"), program=program)
    assert done.returncode == 0, done.stderr.decode()
    assert [line for line in done.stderr.decode().splitlines() if REORDER not in line] == []
    assert done.stdout.count(b"serverside-applied") > 100
    assert house.run("plan", "--only", "kubernetes").stdout.startswith("Nothing to do. digest ")
    assert house.run("render", "out", "--check").stdout.endswith("every file is right\n")


@pytest.mark.usefixtures("operator")
def test_what_apply_made_is_what_the_files_say(house: Cluster) -> None:
    assert house.run("plan", "--only", "kubernetes", code=2).stdout.count("\n") < 100, "one screen or two, not thirty"
    house.run("apply", "--yes", "--only", "kubernetes")
    house.run("plan", "--only", "kubernetes")
    files = [word for words in house.rendered().values() for word in words]
    assert house.kubectl("diff", "--server-side", *files) == ""
    space = f"{house.prefix}-jake"
    house.kubectl("delete", "rolebinding", "-n", space, "meshwright-admin")
    assert house.plane.kubectl("diff", "--server-side", *files).returncode == 1, "it can see a difference"


def test_without_the_operator_the_other_files_apply_and_monitors_wait(bare: Cluster) -> None:
    house, files = bare, bare.rendered()
    parts = [path for path in files if re.search("observability|exporter|rules", path)]
    done = house.plane.kubectl("apply", "--server-side", *[word for words in files.values() for word in words])
    assert done.returncode == 1
    errors = [line for line in done.stderr.decode().splitlines() if not line.startswith("ensure CRDs")]
    assert len(errors) == 10
    assert all(any(path in line for path in parts) for line in errors), errors
    plan = house.run("plan", "--only", "kubernetes")
    assert "5 things: waits for the CRD servicemonitors" in plan.stdout
    assert "Nothing to do, 10 waiting. digest" in plan.stdout
    assert house.run("apply", "--only", "kubernetes").stdout == plan.stdout


def test_somebody_elses_thing_is_named_left_alone_and_adopted_only_by_its_name(house: Cluster) -> None:
    space = f"{house.prefix}-ham"
    id = f"kubernetes/limitrange/{space}/meshwright-limits"
    house.run("apply", "--yes", "--only", "kubernetes")
    house.kubectl("delete", "limitrange", "-n", space, "meshwright-limits")
    foreign = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "meshwright-limits", "namespace": space},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "9"}}]},
    }
    house.kubectl("create", "-f", "-", stdin=json.dumps(foreign))

    plan = house.run("plan", "--only", "kubernetes", code=2)
    assert re.search(rf"^! {id}  HOSTILE  conflict: .*", plan.stdout, re.M)
    assert house.run("drift", "--only", "kubernetes", code=2).stdout.splitlines()[-1].count("HOSTILE") == 1
    document = json.loads(house.run("drift", "--only", "kubernetes", "-o", "json", code=2).stdout)
    assert document["drift"] is True
    assert [(b["id"], b["hostile"]) for b in document["blocked"] if b["kind"] == "conflict"] == [(id, True)]

    applied = house.run("apply", "--yes", "--only", "kubernetes", code=1)
    assert "Nothing to do, 1 left alone: somebody else's" in applied.stdout
    assert applied.stderr.splitlines()[-2].startswith(f"error: HOSTILE: {id} is somebody else's and was left alone: ")
    assert applied.stderr.splitlines()[-1] == f"next: meshwright apply --adopt {id}"
    house.kubectl("delete", "networkpolicy", "-n", space, "meshwright-dns")
    applied = house.run("apply", "--yes", "--only", "kubernetes", "-o", "json", code=3)
    document = json.loads(applied.stdout)
    assert [result["ok"] for result in document["results"]] == [True]
    assert document["error"]["exit_code"] == 3
    assert id in document["error"]["message"]
    assert "9" in house.kubectl("get", "limitrange", "-n", space, "-o", "jsonpath={.items[*].spec.limits[*].default}")

    wrong = house.run("plan", "--only", "kubernetes", "--adopt", f"{id}x", code=1)
    assert f"{id}x is not somebody else's" in wrong.stderr
    assert f"could be taken over: {id}" in wrong.stderr
    adopting = json.loads(house.run("plan", "--only", "kubernetes", "--adopt", id, "-o", "json", code=2).stdout)
    assert [change["id"] for change in adopting["changes"]] == [id]
    refused = house.run("apply", adopting["digest"], "--only", "kubernetes", code=1)
    assert "the plan is now" in refused.stderr, "that digest was of a plan that adopts"
    house.run("apply", adopting["digest"], "--adopt", id, "--only", "kubernetes")
    assert house.run("drift", "--only", "kubernetes").stdout.endswith("no drift\n")


def test_a_label_that_was_taken_off_is_hostile_drift_and_mended(house: Cluster) -> None:
    house.run("apply", "--yes", "--only", "kubernetes")
    space = f"{house.prefix}-jake"
    house.kubectl("label", "resourcequota", "-n", space, "meshwright-quota", "meshwright.io/mesh-")
    drift = house.run("drift", "--only", "kubernetes", code=2)
    assert re.search(rf"^~ kubernetes/resourcequota/{space}/meshwright-quota  HOSTILE", drift.stdout, re.M)
    assert "1 thing is not as the file says, 1 HOSTILE" in drift.stdout
    house.run("apply", "--yes", "--only", "kubernetes")
    house.run("drift", "--only", "kubernetes")


def test_audit_proves_the_tenancy_without_the_hub_and_names_what_is_too_much(house: Cluster) -> None:
    document = json.loads(house.run("audit", "-o", "json", code=4).stdout)
    assert document["error"]["exit_code"] == 4
    assert any("may not create configmaps in" in check["observed"] for check in document["checks"]), (
        "nothing is applied yet"
    )
    house.run("apply", "--yes", "--only", "kubernetes")
    said = house.run("audit").stdout
    assert said.endswith("checks, none failed\n")
    assert said.count("\nok rights of ") == 5
    space, name = f"{house.prefix}-jake", f"{house.prefix}-all"
    account = f"{house.prefix}-access:peer-jake"
    house.kubectl("create", "clusterrolebinding", name, "--clusterrole=cluster-admin", f"--serviceaccount={account}")
    try:
        done = house.run("audit", code=4)
    finally:
        house.kubectl("delete", "clusterrolebinding", name)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("! ")]
    assert len(wrong) == 2
    assert "get secrets in kube-system, must not" in wrong[0] or f"update namespaces in {space}" in wrong[0]
    assert f'allowed by ClusterRoleBinding "{name}"' in wrong[0]
    assert f"{name} gives cluster-admin to ServiceAccount {account.replace(':', '/')}" in wrong[1]
    assert done.stderr.splitlines()[-1].startswith("next: take away the binding")


def test_audit_without_a_cluster_in_the_file_says_so(house: Cluster) -> None:
    text = (house.folder / "mesh.yaml").read_text()
    house.mesh(text[: text.index("\nkubernetes:\n")])
    done = house.run("audit", code=1)
    assert "there is no cluster to audit" in done.stderr
    assert "next: add a `kubernetes` section" in done.stderr


def test_the_commands_of_the_readme_run(house: Cluster) -> None:
    readme = (REFERENCE.parents[2] / "README.md").read_text()
    found = re.search(r"^```sh\n(.*?)^```$", readme, re.M | re.S)
    assert found
    commands = [line.split()[1:] for line in found[1].splitlines()]
    for words in commands:
        yes = ["--yes"] if words[0] == "apply" else []
        house.run(*words, *yes, code=2 if words[0] == "plan" else 0)
    assert [words[0] for words in commands] == ["plan", "apply", "drift", "render"]
    assert (house.folder / "kubernetes/apps/ham/hamilton-rbac.yaml").exists()


def test_full_shows_every_field_and_says_the_same_digest(house: Cluster) -> None:
    short = house.run("plan", "--only", "kubernetes", code=2).stdout
    full = house.run("plan", "--only", "kubernetes", "--full", code=2).stdout
    assert full.count("\n") > 10 * short.count("\n")
    assert "    spec.hard.pods: 30" in full
    assert short.splitlines()[-1] == full.splitlines()[-1]


ROUND = "or leave the cluster out with --only files --only hub"


@pytest.mark.parametrize(
    ("arguments", "around"),
    [
        (["plan"], ROUND),
        (["plan", "--only", "kubernetes"], ""),
        (["plan", "--only", "kubernetes", "--only", "hub"], "or leave the cluster out with --only hub"),
        (["apply", "--yes"], ROUND),
        (["drift"], ROUND),
    ],
)
def test_a_cluster_that_cannot_be_asked_is_one_sentence_and_a_way_around(
    house: Cluster, arguments: list[str], around: str
) -> None:
    text = house.plane.kubeconfig.read_text()
    gone, empty = house.folder / "gone", house.folder / "empty"
    gone.write_text(text.replace(house.plane.server, "https://127.0.0.1:9"))
    empty.touch()
    for kubeconfig in (gone, empty, house.folder / "none"):
        done = house(*arguments, env={"KUBECONFIG": str(kubeconfig)})
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("next: ")
        assert last.endswith(around)
        assert bool(around) == ("leave the cluster out" in last)


def test_the_cluster_is_not_left_out_where_the_hubs_rules_need_it(house: Cluster) -> None:
    path = house.folder / "mesh.yaml"
    path.write_text(f"{path.read_text()}\nservices:\n  wiki: {{kubernetes: tools/wiki, ports: 80/tcp}}\n")
    done = house("plan", env={"KUBECONFIG": str(house.folder / "none")})
    assert done.returncode == 1
    assert "no kubeconfig found in" in done.stderr
    assert "leave the cluster out" not in done.stderr


def test_the_hub_is_planned_without_the_cluster_and_the_cluster_without_the_hub(house: Cluster) -> None:
    config = house.folder / "ssh_config"
    config.write_text("Host *\n  ProxyCommand false\n")
    without = {"KUBECONFIG": str(house.folder / "none"), "MESHWRIGHT_SSH_CONFIG": str(config)}
    done = house("plan", "--only", "hub", env=without)
    assert "ProxyCommand" in done.stderr, "the hub was asked, not the cluster"
    done = house("plan", env={"MESHWRIGHT_SSH_CONFIG": str(config)})
    assert "leave the hub out with --only kubernetes" in done.stderr
    house.run("plan", "--only", "kubernetes", code=2)


def test_a_namespace_in_quarantine_is_in_the_files_and_render_says_what_it_cannot_do(house: Cluster) -> None:
    house.run("apply", "--yes", "--only", "kubernetes")
    house.run("peer", "disable", "jake")
    done = house.run("render", "out")
    assert f"in quarantine: {house.prefix}-jake" in done.stderr
    text = "".join(path.read_text() for path in (house.folder / "out").rglob("*.yaml"))
    assert re.search(rf"kind: Namespace\nmetadata:\n  name: {house.prefix}-jake\n", text)
    assert "peer-jake" not in text
