"""Which object goes into which file, and in what order."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshwright.desired.documents import documents
from meshwright.desired.facts import ClusterFacts, Facts, TenantNamespace
from meshwright.desired.manifest import id_of
from meshwright.desired.names import MESH, PEER, QUARANTINE
from meshwright.desired.resource import Resource
from meshwright.desired.state import known, state
from meshwright.spec import emit, load
from meshwright.spec.model import Mesh

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "examples/homelab/mesh.yaml").read_text()
CASES = [path for path in sorted((ROOT / "tests/cases").glob("*/mesh.yaml")) if "\nkubernetes:" in path.read_text()]
APPS = "kubernetes/apps"


def wanted(text: str, *tenants: TenantNamespace) -> tuple[Mesh, dict[str, Resource]]:
    mesh = load.load_text(text, now=NOW).mesh
    services = {name: (ip_address("10.96.7.8"),) for name, service in mesh.services.items() if service.kubernetes}
    found = state(mesh, Facts(NOW, services, cluster=ClusterFacts("1.36", {t.name: t for t in tenants})))
    keys = {id: Resource(id, {"public_key": f"{id}="}) for id in found if id.startswith("files/key/")}
    return mesh, known(found, keys)


def rendered(text: str, *tenants: TenantNamespace) -> dict[str, list[Any]]:
    mesh, resources = wanted(text, *tenants)
    return {path: list(found) for path, found in documents(mesh, resources.values()).items()}


def ids(found: list[Any]) -> list[str]:
    return [id_of(manifest).removeprefix("kubernetes/") for manifest in found]


def test_the_reference_is_at_the_paths_of_the_homelab() -> None:
    """R7, R12, R17, and the files of `files:` that have a default."""
    found = {path: ids(manifests) for path, manifests in rendered(REFERENCE).items()}
    assert list(found) == [
        f"{APPS}/mesh-peers/admission.yaml",
        f"{APPS}/mesh-peers/collective-mesh-access.yaml",
        f"{APPS}/ham/hamilton-rbac.yaml",
        f"{APPS}/mesh-peers/collective-mesh.yaml",
        f"{APPS}/mesh-peers/collective-deployer-rbac.yaml",
        f"{APPS}/mesh-peers/peer-observability.yaml",
        f"{APPS}/monitoring/wireguard-exporter.yaml",
        f"{APPS}/mesh-peers/prometheus-rules.yaml",
        f"{APPS}/mesh-peers/grafana-dashboard-collective-mesh.yaml",
    ]
    admission, access, ham, others, deployer, monitors, exporter, rules, dashboard = found.values()
    assert rules == ["prometheusrule/monitoring/collective-mesh"]
    assert dashboard == ["configmap/monitoring/grafana-dashboard-collective-mesh"]
    assert {id.split("/")[0] for id in admission} == {"validatingadmissionpolicy", "validatingadmissionpolicybinding"}
    assert set(access) == {
        "namespace/collective-access",
        "clusterrole/hamilton-cluster-reader",
        "clusterrolebinding/hamilton-cluster-reader",
        *(f"serviceaccount/collective-access/peer-{peer}" for peer in ("hamilton", "bryce", "jake", "steve")),
    }
    assert ham[0] == "namespace/ham"
    assert "rolebinding/ham/meshwright-admin" in ham
    assert "secret/ham/wireguard-hamilton" in ham
    assert all(id.split("/")[1] == "ham" for id in ham)
    spaces = [id for id in others if id.startswith("namespace/")]
    assert spaces == ["namespace/bryce", "namespace/jake", "namespace/steve"], "in the order of the file"
    assert {id.split("/")[1] for id in others} == {"bryce", "jake", "steve"}
    assert "serviceaccount/default/collective-deployer" in deployer
    assert {id for id in deployer if id.startswith("role")} == {
        f"{kind}/{space}/meshwright-deployer"
        for kind in ("role", "rolebinding")
        for space in ("ham", "bryce", "jake", "steve")
    }
    assert set(monitors) == {
        f"{kind}/{space}/{space}-{name}"
        for kind, name in (("servicemonitor", "autodiscover"), ("podmonitor", "pods"))
        for space in ("ham", "bryce", "jake", "steve")
    }
    assert exporter[0] == "namespace/wireguard-exporter"
    kinds = {"service", "serviceaccount", "daemonset", "servicemonitor"}
    assert set(exporter[1:]) == {f"{kind}/wireguard-exporter/wireguard-exporter" for kind in kinds}


VARIANTS = {
    "restricted": "kubernetes:\n  tenant: {role: restricted}\n",
    "open": "kubernetes:\n  tenant: {network_policy: false, admission: false}\n",
}


@pytest.mark.parametrize("name", [*(path.parent.name for path in CASES), *VARIANTS])
def test_every_object_is_in_one_place_and_after_what_it_stands_on(name: str) -> None:
    if name in VARIANTS:
        text = REFERENCE.replace("kubernetes:\n", VARIANTS[name], 1)
        text = text.replace("    - {from: jake, to: nodes, port: 22/tcp, expect: deny}\n", "")
    else:
        text = (ROOT / f"tests/cases/{name}/mesh.yaml").read_text()
    mesh, resources = wanted(text)
    found = documents(mesh, resources.values())
    order = [id_of(manifest) for manifests in found.values() for manifest in manifests]
    cluster = {id for id in resources if id.startswith("kubernetes/")}
    assert sorted(order) == sorted(cluster)
    place = {id: number for number, id in enumerate(order)}
    for id in order:
        for base in resources[id].after:
            assert place.get(base, -1) < place[id], f"{id} stands on {base}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_the_text_holds_what_is_wanted_and_nothing_else(path: Path) -> None:
    for manifests in rendered(path.read_text()).values():
        assert list(yaml.safe_load_all(emit.text(manifests))) == manifests


def test_a_restricted_tenants_role_is_in_his_file() -> None:
    text = REFERENCE.replace("kubernetes:\n", VARIANTS["restricted"], 1)
    assert "role/ham/meshwright-tenant" in ids(rendered(text)[f"{APPS}/ham/hamilton-rbac.yaml"])


def test_the_order_of_the_file_is_the_order_of_tenants_and_nothing_else_matters() -> None:
    mesh, resources = wanted(REFERENCE)
    once = {path: emit.text(found) for path, found in documents(mesh, resources.values()).items()}
    again = documents(mesh, reversed(list(resources.values())))
    assert {path: emit.text(found) for path, found in again.items()} == once
    assert list(again) == list(once)


def test_parts_may_share_a_file() -> None:
    text = re.sub(r"(?m)^  tenants: .*$", "  tenants: all/{name}-x.yaml", REFERENCE)
    text = re.sub(r"(?m)^  tenant: .*$", "  tenant: {hamilton: all//./collective-mesh-x.yaml}", text)
    text += "  access: all/collective-mesh-x.yaml\n"
    found = rendered(text)
    spaces = [id for id in ids(found["all/collective-mesh-x.yaml"]) if id.startswith("namespace/")]
    assert spaces == [f"namespace/{name}" for name in ("collective-access", "ham", "bryce", "jake", "steve")]


def test_a_quarantined_namespace_stays_with_its_walls_and_without_what_is_not_ours() -> None:
    text = re.sub(r"(?m)^  jake: .*\n", "", REFERENCE).replace("jake", "bryce")
    workload = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "jake", "labels": {MESH: "collective-mesh"}},
        "spec": {"replicas": 3},
    }
    jake = TenantNamespace("jake", {MESH: "collective-mesh", PEER: "jake"}, {}, (), (workload,))
    mesh, resources = wanted(text, jake)
    assert "kubernetes/deployment/jake/web" in resources, "apply does stop it"
    kept = [id for manifests in documents(mesh, resources.values()).values() for id in ids(manifests) if "jake" in id]
    assert {id.split("/")[0] for id in kept} == {"namespace", "resourcequota", "networkpolicy", "serviceaccount"}
    assert len(kept) == 5
    found = documents(mesh, resources.values())[f"{APPS}/mesh-peers/collective-mesh.yaml"]
    here = [id for id in ids(list(found)) if "jake" in id]
    assert here == ids(list(found))[-4:], "after those of the file"
    assert here[0] == "namespace/jake"
    assert QUARANTINE not in emit.text(found), "only apply may set the mark"


def test_without_a_kubernetes_section_there_are_none() -> None:
    text = (ROOT / "examples/minimal/mesh.yaml").read_text()
    assert rendered(text) == {}
