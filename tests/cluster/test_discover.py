"""What the cluster tells before anything is wanted: its release, addresses of services, namespaces of tenants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from meshwright import discover, flow
from meshwright.desired.names import MESH, PEER, QUARANTINE
from meshwright.errors import ClusterError
from meshwright.events import silent
from meshwright.io import cluster as client
from meshwright.io.cluster import Cluster
from meshwright.io.host import Local
from meshwright.providers.base import Provider
from meshwright.providers.table import Places
from meshwright.spec.model import Mesh
from meshwright.verify import checks

pytestmark = pytest.mark.cluster

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SPACE = "discover"


def mesh(services: dict[str, str], **more: Any) -> Mesh:
    return Mesh.model_validate(
        {
            "version": 1,
            "name": "discovery",
            "hub": {"node": "n", "address": "192.0.2.9", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
            "network": {"cidr": "10.100.0.0/16", "hub": "10.100.0.1", "routes": {"services": "10.43.0.0/16"}},
            "peers": {"ann": {"address": "10.100.1.1", "namespace": "discover-ann"}},
            "services": {name: {"kubernetes": of, "ports": "80/tcp"} for name, of in services.items()},
            "policy": {"allow": [{"from": "ann", "to": name} for name in services]},
            "kubernetes": {},
            **more,
        }
    )


class Counted(Cluster):
    """What was asked."""

    asked: list[str]

    def _send(self, method: str, path: str, *args: Any, **more: Any) -> Any:
        # not what is in the namespaces that other tests have left, and that could be anybody's
        if "/namespaces/" not in path or f"/namespaces/{SPACE}" in path:
            self.__dict__.setdefault("asked", []).append(path)
        return super()._send(method, path, *args, **more)


@pytest.fixture(scope="module")
def services(cluster: ControlPlane) -> Iterator[dict[str, str]]:
    """NAMESPACE/NAME -> address of some Services."""
    cluster.kubectl("create", "namespace", SPACE)
    try:
        for name in ("one", "two"):
            assert cluster.kubectl("create", "service", "clusterip", name, "--tcp=80", "-n", SPACE).returncode == 0
        assert (
            cluster.kubectl("create", "service", "clusterip", "bare", "--clusterip=None", "-n", SPACE).returncode == 0
        )
        outside = ("create", "service", "externalname", "away", "--external-name=example.net", "-n", SPACE)
        assert cluster.kubectl(*outside).returncode == 0
        found = {}
        for name in ("one", "two"):
            shown = cluster.kubectl("get", "service", name, "-n", SPACE, "-o", "jsonpath={.spec.clusterIP}")
            found[f"{SPACE}/{name}"] = shown.stdout.decode()
        yield found
    finally:
        cluster.kubectl("delete", "namespace", SPACE, "--wait=false")


@contextmanager
def asking(cluster: ControlPlane) -> Iterator[Counted]:
    connected = Counted(None, cluster.kubeconfig)
    try:
        yield connected
    finally:
        connected.close()


def test_services_are_found_by_one_question_each_or_one_for_all(
    cluster: ControlPlane, services: dict[str, str]
) -> None:
    names = {"one": f"{SPACE}/one", "two": f"{SPACE}/two"}
    wanted = {name: (ip_address(services[of]),) for name, of in names.items()}
    with asking(cluster) as connected:
        facts = discover.read(mesh(names), {}, connected, NOW)
        assert facts.services == wanted
        assert facts.missing == {}
        assert facts.cluster
        assert facts.cluster.version == "1.36"
        assert facts.cluster.tenants == {}
        assert len(connected.asked) == 4
    many = names | {f"more{n}": f"{SPACE}/one" for n in range(5)} | {"three": f"{SPACE}/3", "four": f"{SPACE}/4"}
    with asking(cluster) as connected:
        facts = discover.read(mesh(many), {}, connected, NOW)
        assert len(connected.asked) == 3
        assert set(facts.missing) == {"three", "four"}
        assert {name: facts.services[name] for name in names} == wanted


def test_what_is_not_there_stands_for_nothing_and_is_named(cluster: ControlPlane, services: dict[str, str]) -> None:
    here = mesh({"one": f"{SPACE}/one", "bare": f"{SPACE}/bare", "away": f"{SPACE}/away", "gone": "nowhere/gone"})
    with asking(cluster) as connected:
        facts = discover.read(here, {}, connected, NOW)
    assert set(facts.services) == {"one"}
    assert facts.missing == {
        "bare": f"the Service {SPACE}/bare has no address of its own (headless)",
        "away": f"the Service {SPACE}/away has no address of its own (ExternalName)",
        "gone": "the cluster has no Service nowhere/gone",
    }
    failed = {check.name: check.observed for check in checks.resolved(here, facts) if not check.ok}
    assert failed == {f"service {name}": why for name, why in facts.missing.items()}
    assert [check.observed for check in checks.resolved(here, facts) if check.ok] == [services[f"{SPACE}/one"]]


def test_a_cluster_that_does_not_answer_is_no_cluster_without_services(cluster: ControlPlane, tmp_path: Path) -> None:
    text = cluster.kubeconfig.read_text()
    away = tmp_path / "kubeconfig"
    away.write_text(text.replace(cluster.server, "https://127.0.0.1:9"))
    away.chmod(0o600)
    unreachable = client.Cluster(None, away, patience=1)
    stranger = cluster.as_(cluster.token("default", "default"))
    for connected in (unreachable, stranger):
        with pytest.raises(ClusterError):
            discover.read(mesh({"one": f"{SPACE}/one"}), {}, connected, NOW)
        connected.close()


def test_an_address_that_is_known_wins(cluster: ControlPlane, services: dict[str, str]) -> None:
    known = {"one": (ip_address("10.43.9.9"),)}
    with asking(cluster) as connected:
        facts = discover.read(mesh({"one": f"{SPACE}/one"}), known, connected, NOW)
    assert facts.services == known


def test_without_a_cluster_a_service_is_missing() -> None:
    facts = discover.read(mesh({"one": f"{SPACE}/one"}), {}, None, NOW)
    assert facts.missing == {"one": f"there is no cluster to ask for {SPACE}/one"}
    assert facts.cluster is None


class Nothing:
    """A system that holds nothing."""

    def __init__(self, system: str) -> None:
        self.system = system

    def read(self, wanted: Any) -> dict[str, Any]:
        return {}

    def apply(self, changes: Any, tell: Any) -> list[Any]:
        return []


def rights(cluster: ControlPlane, here: Mesh, systems: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """What `plan` would let ann reach, and what it asked the cluster."""
    providers: dict[str, Provider] = {name: Nothing(name) for name in ("files", "hub", "kubernetes")}
    with asking(cluster) as connected:
        places = Places(Local(), None, Path(), Path(), {}, connected)
        view = flow.look(here, providers, places, silent, systems)
        allowed = [str(r.attrs) for r in view.wanted.values() if r.id.startswith("hub/rights/10.100.1.1")]
        return allowed, connected.__dict__.get("asked", [])


def test_a_service_keeps_its_rights_when_only_the_hub_is_asked_for(
    cluster: ControlPlane, services: dict[str, str]
) -> None:
    for systems in ((), ("hub",), ("kubernetes", "hub")):
        allowed, _ = rights(cluster, mesh({"one": f"{SPACE}/one"}), systems)
        assert [text for text in allowed if services[f"{SPACE}/one"] in text], systems
    _, asked = rights(cluster, mesh({}), ("hub",))
    assert asked == [], "what nobody needs is not asked"


def test_a_changed_address_is_drift(cluster: ControlPlane, services: dict[str, str]) -> None:
    name = "moves"
    addresses = []
    for _ in range(2):
        assert cluster.kubectl("create", "service", "clusterip", name, "--tcp=80", "-n", SPACE).returncode == 0
        allowed, _ = rights(cluster, mesh({"it": f"{SPACE}/{name}"}), ("hub",))
        assert "10.43." in str(allowed)
        addresses.append(allowed)
        cluster.kubectl("delete", "service", name, "-n", SPACE)
    assert addresses[0] != addresses[1]
    allowed, _ = rights(cluster, mesh({"it": f"{SPACE}/{name}"}), ("hub",))
    assert not [text for text in allowed if "10.43." in text], "gone is gone"


def test_tenants_are_found_by_label_and_looked_into_only_where_it_matters(cluster: ControlPlane) -> None:
    spaces = {
        "discover-ann": {MESH: "discovery", PEER: "ann"},
        "discover-gone": {MESH: "discovery", PEER: "gone"},
        "discover-other": {MESH: "others", PEER: "gone"},
        "discover-access": {MESH: "discovery"},
    }
    try:
        for name, labels in spaces.items():
            cluster.kubectl("create", "namespace", name)
            cluster.kubectl("label", "namespace", name, *(f"{key}={value}" for key, value in labels.items()))
            cluster.kubectl("create", "deployment", "web", "--image=x", "-n", name)
            cluster.kubectl("create", "rolebinding", "own", "--clusterrole=view", "--user=u", "-n", name)
            cluster.kubectl("create", "rolebinding", "ours", "--clusterrole=view", "--user=u", "-n", name)
            cluster.kubectl("label", "rolebinding", "ours", f"{MESH}=discovery", "-n", name)
        assert looked(cluster) == {"discover-ann": ([], 0), "discover-gone": (["own"], 1)}
        cluster.kubectl("label", "namespace", "discover-ann", f"{QUARANTINE}=true")
        found = looked(cluster)
        assert found["discover-ann"][0] == ["own"]
        assert found["discover-ann"][1] >= 1
    finally:
        cluster.kubectl("delete", "namespace", *spaces, "--wait=false")


def looked(cluster: ControlPlane) -> dict[str, tuple[list[str], int]]:
    """Tenants with the bindings and the number of Deployments that were read of them."""
    with asking(cluster) as connected:
        found = discover.read(mesh({}), {}, connected, NOW).cluster
    assert found
    return {
        name: (
            [binding["metadata"]["name"] for binding in space.bindings],
            sum(work["kind"] == "Deployment" for work in space.workloads),
        )
        for name, space in found.tenants.items()
    }
