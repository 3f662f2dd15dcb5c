"""What watches the mesh, on a real API server: made, left alone when it is right, mended, and gone when it shall be."""

from __future__ import annotations

import json
import os
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from meshwright.cli import byhand
from meshwright.desired.facts import ClusterFacts, Exporter, Facts
from meshwright.desired.resource import Resource
from meshwright.desired.state import state
from meshwright.events import silent
from meshwright.plan import text
from meshwright.plan.plan import Change, Plan, make
from meshwright.providers.kubernetes import Kubernetes
from meshwright.spec import load
from meshwright.spec.model import Mesh

pytestmark = pytest.mark.cluster

NOW = datetime(2026, 11, 23, tzinfo=UTC)
KEY = "6TTEUVdTc4YgMD2rYHYQ8Yh5NS4XyO0yNKR3lLxvHkA="
MESH = """version: 1
name: {name}
hub: {{node: hub, address: "{address}", interface: wg1, endpoint: "vpn.example.net:51821"}}
network: {{cidr: 10.100.0.0/16, hub: 10.100.0.1}}
peers: {{ben: {{address: 10.100.2.1, public_key: {key}, namespace: {name}-ben}}}}
kubernetes: {{access: {{namespace: {name}-access}}}}
{watch}policy: {{allow: [{{from: ben, to: hub, ports: [icmp]}}]}}
"""
MINDFLAVOR = "{{kind: mindflavor, namespace: {name}-exporter}}"
BUILTIN = "{{kind: builtin, token: {{file: t}}, tls: {{certificate: c, key: {{file: k}}}}}}"
OPEN = "{{kind: builtin}}"
TOKEN = "of-those-who-may-scrape"


@dataclass
class Watched:
    """A mesh and what watches it. exporter: as in the file; "" for no `observability` at all."""

    control: ControlPlane
    name: str
    exporter: str = ""
    address: str = "192.168.20.20"
    facts: Facts = field(
        default_factory=lambda: Facts(NOW, cluster=ClusterFacts("1.36"), exporter=Exporter(TOKEN, ca="CA"))
    )

    @property
    def monitoring(self) -> str:
        return f"{self.name}-monitoring"

    @property
    def builtin(self) -> dict[str, str]:
        """Its objects, by kind."""
        names = {"secret": f"meshwright-{self.name}-exporter", "configmap": f"meshwright-{self.name}-exporter"}
        kinds = ("secret", "configmap", "service", "endpoints", "endpointslice", "servicemonitor")
        return {
            kind: f"kubernetes/{kind}/{self.monitoring}/{names.get(kind, f'{self.name}-exporter')}" for kind in kinds
        }

    @property
    def mindflavor(self) -> dict[str, str]:
        place = f"{self.name}-exporter/wireguard-exporter"
        kinds = ("serviceaccount", "daemonset", "service", "servicemonitor")
        return {kind: f"kubernetes/{kind}/{place}" for kind in kinds}

    def mesh(self) -> Mesh:
        watch = ""
        if self.exporter:
            watch = f"observability: {{{{namespace: {self.monitoring}, exporter: {self.exporter}}}}}\n".format(
                name=self.name
            )
        file = MESH.format(name=self.name, address=self.address, key=KEY, watch=watch)
        return load.load_text(file, now=NOW).mesh

    def wanted(self) -> dict[str, Resource]:
        found = state(self.mesh(), self.facts)
        kept = (f"/{self.monitoring}/", f"/{self.name}-exporter/", "kubernetes/namespace/")
        return {id: resource for id, resource in found.items() if any(part in id for part in kept)}

    def provider(self) -> Kubernetes:
        return Kubernetes(self.control.connect(), self.name, f"{self.name}-access")

    def plan(self, *adopt: str) -> Plan:
        wanted = self.wanted()
        return make(wanted, self.provider().read(wanted), adopt)

    def apply(self, *adopt: str) -> dict[str, Change]:
        """What was changed. All of it must go well, and nothing be left to do."""
        todo = self.plan(*adopt)
        failed = {r.id: r.why for r in self.provider().apply(todo.changes, silent) if not r.ok}
        assert not failed, failed
        left = self.plan()
        assert not left, text.text(left)
        return {change.id: change for change in todo.changes}

    def kubectl(self, *args: str, stdin: Any = None) -> str:
        done = self.control.kubectl(*args, stdin=json.dumps(stdin).encode() if stdin else b"")
        assert done.returncode == 0, (args, done.stderr.decode())
        return done.stdout.decode()

    def live(self, id: str) -> dict[str, Any]:
        _, kind, *place = id.split("/")
        where = ["-n", place[0]] if len(place) == 2 else []
        done = self.control.kubectl("get", kind, place[-1], *where, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def patch(self, id: str, body: Mapping[str, Any], how: str = "merge") -> None:
        _, kind, namespace, name = id.split("/")
        self.kubectl("patch", kind, name, "-n", namespace, f"--type={how}", "-p", json.dumps(body))


@pytest.fixture(scope="module")
def watched(cluster: ControlPlane) -> Iterator[Callable[[str], Watched]]:
    cluster.install_crds("servicemonitors", "podmonitors", "prometheusrules")
    made: list[Watched] = []

    def one(name: str) -> Watched:
        made.append(Watched(cluster, name))
        made[-1].kubectl("create", "namespace", made[-1].monitoring)
        return made[-1]

    yield one
    for each in made:
        cluster.kubectl("delete", "namespace", "--ignore-not-found", "--wait=false", each.monitoring,
                        *(f"{each.name}-{end}" for end in ("access", "ben", "exporter")))  # fmt: skip


DRIFT: Mapping[str, tuple[dict[str, Any], Any]] = {
    "secret": ({"data": {"token": "ZXZl"}}, lambda it: b64decode(it["data"]["token"]).decode() == TOKEN),
    "configmap": ({"data": {"ca.crt": "of eve", "more": "x"}}, lambda it: it["data"] == {"ca.crt": "CA"}),
    "service": (
        {"spec": {"ports": [{"name": "metrics", "port": 1}], "publishNotReadyAddresses": True}},
        lambda it: (it["spec"]["ports"][0]["port"], it["spec"].get("publishNotReadyAddresses")) == (9586, None),
    ),
    "endpoints": (
        {"subsets": [{"addresses": [{"ip": "203.0.113.6"}], "ports": [{"name": "metrics", "port": 1}]}]},
        lambda it: it["subsets"][0]["addresses"] == [{"ip": "192.168.20.20"}],
    ),
    "endpointslice": (
        {"endpoints": [{"addresses": ["203.0.113.6"]}]},
        lambda it: it["endpoints"][0]["addresses"] == ["192.168.20.20"],
    ),
    "servicemonitor": ({"spec": {"sampleLimit": 0}}, lambda it: it["spec"]["sampleLimit"] == 1_000_000),
}  # fmt: skip


def test_builtin_is_made_mended_and_turned_into_the_other_kind_and_back(watched: Callable[[str], Watched]) -> None:
    mesh = watched("obs-one")
    mesh.exporter = BUILTIN
    made = mesh.apply()
    assert made.keys() >= set(mesh.builtin.values())
    assert TOKEN not in text.text(mesh.plan())
    for kind, (body, right) in DRIFT.items():
        id = mesh.builtin[kind]
        mesh.patch(id, body)
        todo = mesh.plan()
        assert [change.id for change in todo.changes] == [id], kind
        assert "ZXZl" not in text.text(todo) + json.dumps(text.as_json(todo))
        mesh.apply()
        assert right(mesh.live(id)), kind
    for kind in ("endpoints", "endpointslice", "secret"):
        mesh.patch(mesh.builtin[kind], {"metadata": {"labels": {"meshwright.io/mesh": None}}})
        assert mesh.apply().keys() == {mesh.builtin[kind]}
        mesh.kubectl("delete", kind, mesh.builtin[kind].rpartition("/")[2], "-n", mesh.monitoring)
        assert mesh.apply().keys() == {mesh.builtin[kind]}
    # a new token is a change, and it is not shown
    mesh.facts = replace(mesh.facts, exporter=Exporter("another", ca="CA"))
    assert "(secret, changed)" in text.text(mesh.plan())
    assert mesh.apply().keys() == {mesh.builtin["secret"]}
    # without a token nobody keeps one
    mesh.exporter = OPEN
    gone = {id: change.verb for id, change in mesh.apply().items()}
    assert gone == {
        mesh.builtin["secret"]: "delete", mesh.builtin["configmap"]: "delete", mesh.builtin["servicemonitor"]: "update",
    }  # fmt: skip
    mesh.exporter = MINDFLAVOR
    verbs = {id: change.verb for id, change in mesh.apply().items()}
    for id in (id for kind, id in mesh.builtin.items() if kind not in ("secret", "configmap")):
        assert verbs.pop(id) == "delete"
    assert verbs.pop(f"kubernetes/namespace/{mesh.name}-exporter") == "create"
    assert all(verbs.pop(id) == "create" for id in mesh.mindflavor.values())
    assert all("prometheusrule" in id or "configmap" in id for id in verbs), verbs
    mesh.exporter = ""
    verbs = {id: change.verb for id, change in mesh.apply().items()}
    assert all(verbs[id] == "delete" for id in mesh.mindflavor.values())
    assert mesh.live(f"kubernetes/namespace/{mesh.name}-exporter"), "a namespace is never deleted"


def test_the_pod_of_the_other_exporter(watched: Callable[[str], Watched]) -> None:
    """Its namespace lets it in, and the copies that controllers make of our labels are theirs."""
    mesh = watched("obs-two")
    mesh.exporter = MINDFLAVOR
    mesh.apply()
    space = f"{mesh.name}-exporter"
    template = mesh.live(mesh.mindflavor["daemonset"])["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-in-the-set", "namespace": space}, **template}
    pod["metadata"] = {"name": "as-in-the-set", "namespace": space}
    mesh.kubectl("create", "--dry-run=server", "-f", "-", stdin=pod)
    pod["metadata"]["namespace"] = f"{mesh.name}-ben"
    pod["spec"] = {name: value for name, value in pod["spec"].items() if "serviceAccount" not in name}
    for _ in range(100):  # the cluster makes the account `default`
        if mesh.live(f"kubernetes/serviceaccount/{mesh.name}-ben/default"):
            break
        time.sleep(0.1)
    refused = mesh.control.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod).encode())
    assert b"violates PodSecurity" in refused.stderr, "nobody else's namespace would"
    copied = {"meshwright.io/mesh": mesh.name, "kubernetes.io/service-name": "wireguard-exporter"}
    slice_ = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": []}
    copy = slice_ | {"metadata": {"name": "wireguard-exporter-x", "namespace": space, "labels": copied}}
    mesh.kubectl("create", "-f", "-", stdin=copy)
    assert not mesh.plan()
    mesh.patch(
        mesh.mindflavor["daemonset"],
        [{"op": "add", "path": "/spec/template/spec/containers/0/args/7", "value": "true"}],
        "json",
    )
    assert [change.id for change in mesh.plan().changes] == [mesh.mindflavor["daemonset"]]
    mesh.apply()
    (container,) = mesh.live(mesh.mindflavor["daemonset"])["spec"]["template"]["spec"]["containers"]
    assert container["args"][6:] == ["-v", "false", "-r", "false"]


def test_somebody_elses_exporter_is_left_alone_until_it_is_adopted(watched: Callable[[str], Watched]) -> None:
    mesh = watched("obs-three")
    mesh.exporter = OPEN
    meta = {"name": f"{mesh.name}-exporter", "namespace": mesh.monitoring}
    ports = [{"name": "web", "port": 80}]
    mesh.kubectl(
        "create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}}
    )
    id = mesh.builtin["service"]
    todo = mesh.plan()
    assert todo.blocked[id].kind == "conflict"
    assert mesh.builtin["servicemonitor"] in todo.blocked, "what stands on it waits"
    assert id in mesh.apply(id)
    assert mesh.live(id)["spec"]["clusterIP"] == "None"


def test_what_render_says_to_make_by_hand_is_ours(watched: Callable[[str], Watched], tmp_path: Path) -> None:
    mesh = watched("obs-seven")
    (tmp_path / "t").write_text(f"{TOKEN}\n")
    (tmp_path / "c").write_text("CA")
    kept = {mesh.builtin["secret"], mesh.builtin["configmap"]}
    for program in mesh.control.kubectls:
        mesh.exporter = BUILTIN
        for command in byhand.commands(mesh.mesh()):
            home = {"KUBECONFIG": str(mesh.control.kubeconfig), "HOME": str(tmp_path)}
            path = {"PATH": f"{Path(program).parent}:{os.environ['PATH']}"}
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, env=home | path,
                                  capture_output=True, timeout=60, check=False)  # fmt: skip
            assert done.returncode == 0, done.stderr.decode()
        assert all(mesh.live(id) for id in kept)
        todo = mesh.plan()
        assert not kept & ({change.id for change in todo.changes} | todo.blocked.keys()), text.text(todo)
        mesh.apply()
        mesh.exporter = OPEN
        assert kept <= mesh.apply().keys()
        assert not any(mesh.live(id) for id in kept)


def test_a_friends_objects_with_our_label_are_his_own(watched: Callable[[str], Watched]) -> None:
    """Nothing of these kinds is ours in his namespace: a plan full of deletions is not his to write."""
    mesh = watched("obs-four")
    mesh.exporter = OPEN
    mesh.apply()
    for number in range(3):
        meta = {"name": f"c{number}", "namespace": f"{mesh.name}-ben", "labels": {"meshwright.io/mesh": mesh.name}}
        ours = ("apply", "--server-side", "--field-manager=meshwright", "-f", "-")
        mesh.kubectl(*ours, stdin={"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}})
    assert not mesh.plan()


def test_a_namespace_that_is_not_there_holds_up_only_its_own(watched: Callable[[str], Watched]) -> None:
    mesh = watched("obs-five")
    mesh.exporter = OPEN
    mesh.kubectl("delete", "namespace", mesh.monitoring)
    todo = mesh.plan()
    waiting = {id: why for id, why in todo.blocked.items() if f"/{mesh.monitoring}/" in id}
    assert waiting.keys() >= {id for kind, id in mesh.builtin.items() if kind not in ("secret", "configmap")}
    assert {why.kind for why in waiting.values()} == {"waits"}
    assert "kubectl create namespace obs-five-monitoring" in next(iter(waiting.values())).hint
    mesh.apply()
    mesh.kubectl("create", "namespace", mesh.monitoring)
    assert mesh.apply().keys() >= waiting.keys()
    assert not mesh.plan().blocked


def test_a_hub_that_is_known_by_ipv6(watched: Callable[[str], Watched]) -> None:
    mesh = watched("obs-six")
    mesh.exporter, mesh.address = OPEN, "2001:db8::20"
    mesh.apply()
    slice_ = mesh.live(mesh.builtin["endpointslice"])
    assert (slice_["addressType"], slice_["endpoints"][0]["addresses"]) == ("IPv6", ["2001:db8::20"])
    mesh.address = "192.168.20.20"
    assert {mesh.builtin[kind] for kind in ("endpoints", "endpointslice", "servicemonitor")} <= mesh.apply().keys()
    assert mesh.live(mesh.builtin["endpointslice"])["addressType"] == "IPv4"
