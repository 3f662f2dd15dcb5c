"""`lab up --kubernetes`: a real API server in the hub, managed by the same commands, used by friends."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest

import controlplane
from door import Door
from meshwright.lab.cluster import control, programs

pytestmark = [pytest.mark.lab, pytest.mark.cluster]

# ann may reach the API server, bob may not; both have a namespace.
MESH = """
version: 1
name: small
hub: {node: k3s, address: 192.168.20.20, interface: wg1, endpoint: "home.example.net:51820"}
network:
  cidr: 10.100.0.0/16
  hub: 10.100.0.1
  routes: {nodes: 192.168.20.0/24, services: 10.43.0.0/16, mesh: 10.100.0.0/16}
peers:
  ann: {address: 10.100.2.1, namespace: ann}
  bob: {address: 10.100.2.2, namespace: bob}
policy:
  allow:
    - {from: ann, to: hub, ports: [6443/tcp, icmp]}
    - {from: bob, to: hub, ports: [icmp]}
kubernetes: {pod_security: restricted}
"""
CLUSTER = "kubernetes"
AUDITED = {"rights of ann", "rights of bob", "rights of the deployer", "no Secret holds a token that never ends"}


class House(Door):
    """The lab of MESH, up with its cluster. said: what `lab up` answered."""

    def __init__(self, folder: Path, cache: Path) -> None:
        super().__init__(folder)
        self.env |= {"XDG_CACHE_HOME": str(cache), "MESHWRIGHT_FILE": str(self.mesh(MESH))}
        self.said: dict = {}

    @property
    def state(self) -> Path:
        return self.folder / "home/.local/state/meshwright/lab/small"

    def json(self, *arguments):
        done = self(*arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kubectl(self, host, *arguments):
        return self("lab", "exec", host, programs.find()["kubectl"], "--request-timeout=3s", *arguments)

    def words(self, name: str) -> str:
        return control.last_words(self.state / CLUSTER / "log" / name, 8)

    def pids(self) -> dict[str, int]:
        found = json.loads((self.state / CLUSTER / "programs.json").read_text())["programs"]
        return {name: one["pid"] for name, one in found.items()}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    if reason := controlplane.obstacle():
        controlplane.give_up(reason)
    house = House(tmp_path_factory.mktemp("kube"), programs.base().parents[1])
    try:
        house.said = house.json("lab", "up", "--kubernetes")
        yield house
    finally:
        house("lab", "down")


def test_everything_the_file_says_is_in_the_cluster(house):
    assert house.said["kubernetes"] is True
    assert house.said["kubeconfigs"] == ["ann", "bob"]
    if os.geteuid():  # as root, tests/node sees to the node
        assert house.said["no_node"] == "only root can run containers. Next: run the same command as root"
        assert f"No node, so no pod runs: {house.said['no_node']}" in house("lab", "status").stdout
    plan = house.json("--lab", "plan")
    assert plan["changes"] == []
    assert plan["unmanaged"] == []
    assert house.kubectl("hub", "get", "namespace", "ann", "bob").returncode == 0


def test_a_friend_uses_the_cluster_through_his_tunnel_within_his_rights(house):
    allowed = house.kubectl("ann", "get", "secrets", "--output=name")
    assert allowed.stdout.split() == ["secret/wireguard-ann"], "his namespace is the one he is in"
    refused = house.kubectl("ann", "get", "secrets", "--namespace=bob")
    assert refused.returncode != 0
    assert 'User "system:serviceaccount:collective-access:peer-ann" cannot list resource "secrets"' in refused.stderr


def test_a_friend_whom_the_policy_does_not_let_through_never_gets_there(house):
    assert "secret/wireguard-bob" in house.kubectl("hub", "get", "secrets", "-n", "bob", "--output=name").stdout
    stopped = house.kubectl("bob", "get", "secrets")
    assert stopped.returncode != 0
    assert "Forbidden" not in stopped.stderr, "it is the tunnel's policy that stops him, not the API server"


def test_a_host_without_access_of_its_own_has_not_the_owners(house):
    found = house("lab", "exec", "node2", "sh", "-c", 'cat "$KUBECONFIG"')
    assert found.returncode != 0
    assert "No such file" in found.stderr


def test_secrets_of_the_cluster_are_for_nobody_else(house):
    keys = [*house.state.glob("kubeconfigs/*"), house.state / CLUSTER / "kubeconfig"]
    keys += (house.state / CLUSTER / "pki").glob("*.key")
    assert len(keys) >= 7
    assert [p for p in keys if p.stat().st_mode & 0o077] == []
    assert stat.S_IMODE(house.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((house.state / "api").stat().st_mode) == 0o600


def test_drift_in_the_cluster_is_seen_and_mended(house):
    house.kubectl("hub", "label", "namespace", "ann", "pod-security.kubernetes.io/enforce=privileged", "--overwrite")
    found = house("--lab", "plan", "--output", "json")
    assert [c["id"] for c in json.loads(found.stdout)["changes"]] == ["kubernetes/namespace/ann"]
    assert house("--lab", "apply", "--yes").returncode == 0
    assert house.json("--lab", "plan")["changes"] == []


def test_real_packets_find_the_api_server_where_the_policy_says(house):
    done = house("lab", "verify", "--output", "json")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr
    rows = {row["address"]: row["cells"] for row in json.loads(done.stdout)["matrix"]["rows"]}
    assert rows["10.100.0.1"]["ann"]["observed"] == ["6443/tcp", "icmp"]
    assert rows["10.100.0.1"]["bob"]["observed"] == ["icmp"]
    assert {check["name"] for check in json.loads(done.stdout)["checks"]} >= AUDITED, "the cluster is looked at too"


def test_the_tenancy_is_audited_alone(house):
    done = house("--lab", "audit", "--output", "json")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr
    names = {check["name"] for check in json.loads(done.stdout)["checks"]}
    assert names >= AUDITED
    assert "hub is as the file says" not in names
    binding = ("clusterrolebinding", "too-much", "--clusterrole=view", "--serviceaccount=collective-access:peer-ann")
    house.kubectl("hub", "create", *binding)
    try:
        done = house("--lab", "audit")
    finally:
        house.kubectl("hub", "delete", "clusterrolebinding", "too-much")
    assert done.returncode == 4
    assert "! rights of ann: expected " in done.stdout
    assert 'allowed by ClusterRoleBinding "too-much"' in done.stdout


def test_what_runs_stays_and_what_died_comes_back_with_its_data(house):
    before = house.pids()
    assert house("lab", "up").returncode == 0
    assert house.pids() == before, f"what runs stays; {house.words('kube-proxy')}"
    os.kill(before["kube-apiserver"], signal.SIGKILL)
    assert "kube-apiserver died" in house("lab", "status").stdout
    broken = house("--lab", "plan")
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr
    house.kubectl("hub", "version")
    assert house("lab", "up").returncode == 0
    after = house.pids()
    anew = {"kube-apiserver", "kube-controller-manager", "kube-scheduler"} & before.keys()
    assert {name for name in before if after[name] != before[name]} == anew
    assert "6443: up" in house("lab", "status").stdout
    assert house.json("--lab", "plan")["changes"] == []


def test_a_friend_who_leaves_the_file_loses_his_kubeconfig(house):
    file = Path(house.env["MESHWRIGHT_FILE"])
    old = (house.state / "kubeconfigs/ann").read_bytes()
    file.write_text(MESH.replace("  bob: {address: 10.100.2.2, namespace: bob}\n", "").replace(
        "    - {from: bob, to: hub, ports: [icmp]}\n", ""
    ))  # fmt: skip
    try:
        assert house.json("lab", "up")["kubeconfigs"] == ["ann"]
        assert not (house.state / "kubeconfigs/bob").exists()
        assert (house.state / "kubeconfigs/ann").read_bytes() != old, "a fresh token"
    finally:
        file.write_text(MESH)
    assert house.json("lab", "up")["kubeconfigs"] == ["ann", "bob"]


def test_a_mesh_without_a_cluster_says_so(house, tmp_path):
    other = tmp_path / "mesh.yaml"
    other.write_text(MESH.replace("kubernetes: {pod_security: restricted}\n", "").replace("name: small", "name: none"))
    done = house("--file", other, "lab", "up", "--kubernetes")
    assert done.returncode == 1
    assert "none has no cluster" in done.stderr
    assert not house.state.with_name("none").exists()


def test_down_takes_everything_along(house):
    pids = house.pids().values()
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert house("lab", "down").returncode == 0
    assert not house.state.exists()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
