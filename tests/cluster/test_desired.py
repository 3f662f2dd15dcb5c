"""What we declare is what the server keeps: it takes every object as it is, and gives it back so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane import ControlPlane
from meshwright.desired import kubernetes, monitoring
from meshwright.desired.facts import ClusterFacts, Exporter, Facts
from meshwright.desired.quantity import canonical
from meshwright.desired.resource import Resource, collect, fill
from meshwright.spec import load

pytestmark = pytest.mark.cluster

NOW = datetime(2026, 11, 23, tzinfo=UTC)
CASES = Path(__file__).parents[1] / "cases"
OLD = b"Warning: v1 Endpoints is deprecated in v1.33+"
VARIANTS = {
    "restricted": "{role: restricted, egress: none, quota: {cpu: '0.5', memory: 1024Mi, pods: 1000, storage: 0.5Ti}}",
    "open": "{network_policy: false, admission: false, egress: [203.0.113.0/24, 'fd00::/8'], storage_classes: [fast]}",
    "elsewhere": "{egress: [203.0.113.0/24, 'fd00::/8'], registries: [ghcr.io/a, docker.io], limits: {cpu: '0.05'}}",
}


def case(name: str, tenant: str = "") -> dict[str, Resource]:
    """Everything of a golden case under names of its own, with other walls for all."""
    # a binding's role cannot change, so variants do not share bindings
    prefix = f"desired{[*VARIANTS.values(), ''].index(tenant)}"
    text = (CASES / name / "mesh.yaml").read_text()
    spaces = "ham|bryce|jake|steve|astrid|bjorn|collective-access|monitoring|wireguard-exporter"
    text = re.sub(rf"\bnamespace: ({spaces})\b", rf"namespace: {prefix}-\1", text)
    if f"{prefix}-monitoring" not in text:
        text = text.replace("\nobservability:\n", f"\nobservability:\n  namespace: {prefix}-monitoring\n")
    text = re.sub(
        r"\b(name|reader): (collective-mesh|northern-lights|[a-z]*-deployer|[a-z-]*-reader)\b",
        rf"\1: {prefix}-\2",
        text,
    )
    if f"{prefix}-collective-access" not in text:
        text = text.replace("\nkubernetes:\n", f"\nkubernetes:\n  access: {{namespace: {prefix}-access}}\n")
    if tenant:
        text = text.replace("\nkubernetes:\n", f"\nkubernetes:\n  tenant: {tenant}\n")
        # open walls keep no test that denies the house to a friend's pods
        text = text.replace("    - {from: jake, to: nodes, port: 22/tcp, expect: deny}\n", "")
    mesh = load.load_text(text, now=NOW).mesh
    assert mesh.kubernetes
    assert mesh.kubernetes.tenant.model_fields_set or not tenant
    services = {name: (ip_address("10.96.7.8"),) for name, service in mesh.services.items() if service.kubernetes}
    facts = Facts(NOW, services, cluster=ClusterFacts("1.36"), exporter=Exporter("of a scraper", ca="a certificate"))
    objects = collect([*kubernetes.build(mesh, facts), *monitoring.build(mesh, facts)])
    keys = {f"files/key/{device.label}": {"public_key": f"{device.label}+/="} for device in mesh.devices}
    objects = {id: replace(r, attrs=fill(r.attrs, keys)) for id, r in objects.items()}
    assert all(prefix in id or "/default/" in id for id in objects)
    return objects


def ordered(objects: dict[str, Resource]) -> list[dict[str, Any]]:
    bases = {id: [base for base in r.after if base in objects] for id, r in objects.items()}
    return [dict(objects[id].attrs) for id in TopologicalSorter(bases).static_order()]


def listed(manifests: list[dict[str, Any]]) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}).encode()


def projected(live: Any, wanted: Any) -> Any:
    """The live object as far as we declare it; a list is one value."""
    if not isinstance(live, dict) or not isinstance(wanted, dict):
        return live
    return {key: projected(live.get(key, "(absent)"), value) for key, value in wanted.items()}


@pytest.fixture(scope="module")
def monitored(cluster: ControlPlane) -> None:
    """An API server that knows monitors."""
    cluster.install_crds("servicemonitors", "podmonitors", "prometheusrules")


@pytest.fixture(scope="module")
def clean(cluster: ControlPlane) -> Iterator[None]:
    yield
    kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,namespaces"
    for number in range(len(VARIANTS) + 1):
        mesh = f"meshwright.io/mesh in (desired{number}-collective-mesh, desired{number}-northern-lights)"
        cluster.kubectl("delete", kinds, "-l", mesh, "--wait=false")
        cluster.kubectl("delete", "namespace", f"desired{number}-monitoring", "--ignore-not-found", "--wait=false")
        cluster.kubectl("delete", "serviceaccounts", "-n", "default", "-l", mesh)


@pytest.mark.parametrize(
    ("name", "tenant"),
    [("reference", ""), ("every-key", ""), *(("reference", tenant) for tenant in VARIANTS.values())],
    ids=["reference", "every-key", *VARIANTS],
)
@pytest.mark.usefixtures("monitored", "clean")
def test_the_server_keeps_what_we_declare(cluster: ControlPlane, name: str, tenant: str) -> None:
    manifests = ordered(case(name, tenant))
    cluster.kubectl("create", "namespace", f"desired{[*VARIANTS.values(), ''].index(tenant)}-monitoring")
    strict = ("apply", "--server-side", "--validate=strict", "--field-manager=meshwright", "-f", "-")
    done = cluster.kubectl(*strict, stdin=listed(manifests))
    assert done.returncode == 0, done.stderr.decode()
    assert [line for line in done.stderr.splitlines() if not line.startswith(OLD)] == []  # no warning
    live = json.loads(cluster.kubectl("get", "-f", "-", "-o", "json", stdin=listed(manifests)).stdout)["items"]
    assert [projected(there, wanted) for there, wanted in zip(live, manifests, strict=True)] == manifests


AMOUNTS = st.builds(
    lambda whole, behind, suffix: f"{whole}{behind}{suffix}",
    st.integers(0, 2_000_000),
    st.sampled_from(["", ".5", ".25", ".000", ".1"]),
    st.sampled_from(["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e3"]),
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(AMOUNTS, min_size=30, max_size=60))
def test_amounts_have_the_servers_own_form(cluster: ControlPlane, amounts: list[str]) -> None:
    """One object with all of them; a dry run answers as the server would keep it."""
    volumes = [{"name": f"v{n}", "emptyDir": {"sizeLimit": canonical(amount)}} for n, amount in enumerate(amounts)]
    template = {"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes}}
    metadata = {"name": "amounts", "namespace": "default"}
    whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": template}
    dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    done = cluster.kubectl(*dry, stdin=json.dumps(whole).encode())
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["template"]["spec"]["volumes"] == volumes


def test_an_amount_in_another_form_would_be_seen(cluster: ControlPlane) -> None:
    """The twin: what is not canonical comes back changed, so the tests above can fail."""
    metadata = {"name": "amounts", "namespace": "default"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "1000"}}}
    dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    done = cluster.kubectl(*dry, stdin=json.dumps(quota).encode())
    assert json.loads(done.stdout)["spec"]["hard"] == {"pods": "1k"}
