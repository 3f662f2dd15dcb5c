"""doctor scrape against a real API server that has the operator's kinds: each break is named, and mended again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane import ControlPlane
from door import Door

pytestmark = pytest.mark.cluster
MESH = """
version: 1
name: doc
hub: {node: hub-1, address: 192.0.2.10, interface: wg1, endpoint: "vpn.example.net:51821"}
network: {cidr: 10.77.0.0/20, hub: 10.77.0.1, routes: {nodes: 192.0.2.0/24, pods: 10.42.0.0/16, services: 10.43.0.0/16}}
peers: {bryce: {address: 10.77.1.1, namespace: doc-bryce}}
policy: {allow: [{from: peers, to: nodes, ports: [443/tcp]}]}
kubernetes: {access: {namespace: doc-access}, reader: doc-reader, deployer: {name: doc-deployer}}
observability: {namespace: doc-monitoring, release: doc-release}
"""
SPACE = "doc-bryce"
SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1", "namespace": SPACE, "labels": {"app": "web"}},
    "spec": {
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "web",
                "image": "web:1",
                "securityContext": SAFE,
                "ports": [{"name": "metrics", "containerPort": 9090}],
                "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}, "limits": {"cpu": "10m", "memory": "10Mi"}},
            }
        ],
    },
}
READY = {
    "phase": "Running",
    "podIP": "10.42.0.7",
    "podIPs": [{"ip": "10.42.0.7"}],
    "conditions": [{"type": "Ready", "status": "True"}],
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": SPACE, "labels": {"prometheus.io/scrape": "true"}},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "metrics", "port": 80, "targetPort": "metrics"}]},
}
SLICE = {
    # no node runs here, so no controller makes it
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-1", "namespace": SPACE, "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"name": "metrics", "port": 9090}],
    "endpoints": [{"addresses": ["10.42.0.7"], "conditions": {"ready": True}}],
}
PROMETHEUS = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "Prometheus",
    "metadata": {"name": "doc", "namespace": "doc-monitoring"},
    "spec": {
        "serviceMonitorSelector": {"matchLabels": {"release": "doc-release"}},
        "serviceMonitorNamespaceSelector": {},
        "podMonitorSelector": {"matchLabels": {"release": "doc-release"}},
        "podMonitorNamespaceSelector": {},
    },
}


class House(Door):
    """The program on a mesh of its own, with the admin's kubeconfig."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        super().__init__(folder)
        self.plane = plane
        self.env["KUBECONFIG"] = str(plane.kubeconfig)
        self.mesh(MESH)

    def kubectl(self, *arguments: str, stdin: Any = None) -> None:
        done = self.plane.kubectl(*arguments, stdin=yaml.safe_dump(stdin).encode() if stdin else b"")
        assert done.returncode == 0, done.stderr.decode()

    def apply(self) -> None:
        done = self("apply", "--yes", "--only", "kubernetes")
        assert done.returncode == 0, done.stdout + done.stderr

    def ask(self, name: str = "web", **env: str) -> tuple[int, dict[str, Any]]:
        done: subprocess.CompletedProcess[str] = self("doctor", "scrape", f"{SPACE}/{name}", "-o", "json", env=env)
        return done.returncode, json.loads(done.stdout)

    def broken(self, name: str = "web") -> str | None:
        code, said = self.ask(name)
        assert code == (4 if said["ways"][0]["broken"] else 0), said
        found: str | None = said["ways"][0]["broken"]
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, cluster: ControlPlane) -> Iterator[House]:
    cluster.install_crds()
    house = House(tmp_path_factory.mktemp("doctor"), cluster)
    house.kubectl("create", "namespace", "doc-monitoring")
    try:
        house.apply()
        for each in (PROMETHEUS, POD, SERVICE, SLICE):
            house.kubectl("apply", "-f", "-", stdin=each)
        status = ["--subresource=status", "--type=merge", "-p", json.dumps({"status": READY})]
        house.kubectl("patch", "pod", "web-1", "-n", SPACE, *status)
        yield house
    finally:
        kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
        cluster.kubectl("delete", f"{kinds},namespaces", "-l", "meshwright.io/mesh=doc", "--wait=false")
        cluster.kubectl("delete", "namespace", "doc-monitoring", "--wait=false")
        cluster.kubectl("delete", "serviceaccounts", "-n", "default", "-l", "meshwright.io/mesh=doc")


def test_what_is_right_is_scraped(house: House) -> None:
    _, said = house.ask()
    assert {hop["state"] for hop in said["ways"][0]["hops"]} == {"ok"}, said
    assert said["scraped"] is True
    text = house("doctor", "scrape", f"{SPACE}/web").stdout
    assert text.startswith("Service web: everything is as it must be\nok namespace: ")


def test_the_pod_behind_it_has_no_label(house: House) -> None:
    assert house.broken("web-1") == "label"
    house.kubectl("label", "pod", "web-1", "-n", SPACE, "prometheus.io/scrape=true")
    assert house.broken("web-1") is None
    assert [h["state"] for h in house.ask()[1]["ways"][0]["hops"] if h["name"] == "once"] == ["warned"], "both now"
    house.kubectl("label", "pod", "web-1", "-n", SPACE, "prometheus.io/scrape-")


BREAKS = {
    "label": ["label", "service", "web", "-n", SPACE, "--overwrite", "prometheus.io/scrape=True"],
    "port": ["patch", "service", "web", "-n", SPACE, "--type=json", "-p",
             '[{"op": "replace", "path": "/spec/ports/0/name", "value": "http-metrics"}]'],
    "selector": ["patch", "service", "web", "-n", SPACE, "--type=merge", "-p", '{"spec": {"selector": {"app": "x"}}}'],
    "Prometheus": ["patch", "prometheus", "doc", "-n", "doc-monitoring", "--type=merge", "-p",
                   '{"spec": {"serviceMonitorSelector": {"matchLabels": {"release": "x"}}}}'],
    "monitor": ["delete", "servicemonitor", f"{SPACE}-autodiscover", "-n", SPACE],
    "network": ["delete", "networkpolicy", "meshwright-monitoring", "-n", SPACE],
}  # fmt: skip
OURS = ("monitor", "network")


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_named_and_what_is_mended_is_not(house: House, what: str) -> None:
    house.kubectl(*BREAKS[what])
    assert house.broken() == what
    if what in OURS:
        house.apply()
    else:
        for each in (SERVICE, PROMETHEUS):
            house.kubectl("apply", "-f", "-", stdin=each)
    assert house.broken() is None


def test_who_may_look_at_nothing_is_told_so(house: House) -> None:
    house.kubectl("create", "serviceaccount", "nobody", "-n", "doc-monitoring")
    nobody = str(house.plane.kubeconfig_of(house.plane.token("doc-monitoring", "nobody")))
    code, said = house.ask(KUBECONFIG=nobody)
    assert code == 1
    assert "you may not list them" in said["error"]["message"]
    assert said["scraped"] is None


def test_what_does_not_exist_is_told_with_what_is_meant(house: House) -> None:
    code, said = house.ask("wep")
    assert (code, said["error"]["hint"]) == (4, "did you mean web?")
    assert house("doctor", "scrape", "web").stderr == (
        "error: web is not NAMESPACE/NAME\nnext: write it as bryce/web\n"
    )
