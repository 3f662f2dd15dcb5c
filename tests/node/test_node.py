"""`lab up --kubernetes` as root: a friend's own pod behind the tunnel, who reaches it, and what becomes of it.

The tests are one story, told in order: each begins where the one before it ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import yaml
from house import HIS, MESH, PEERS, House, inhabitants, look, running_in_pods, until

from meshwright.lab import cgroups, state

pytestmark = [pytest.mark.lab, pytest.mark.cluster]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 65534, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: main
          image: meshwright.lab/busybox:1
          imagePullPolicy: Never
          command: [sh, -c, "echo web answers > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
          ports: [{name: http, containerPort: 8080}]
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: his}
data: {saved: game}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: his}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
PRIVILEGED = DEPLOYMENT.partition("---")[0].replace("allowPrivilegeEscalation: false, ", "privileged: true, ")
# Counters of the test's own around the product's chain: what comes to it, and what it lets pass.
AROUND = """
table inet around {
 chain before { type filter hook postrouting priority 89; oifname wg1 tcp dport 8080 counter; }
 chain after { type filter hook postrouting priority 91; oifname wg1 tcp dport 8080 counter; }
}
"""
RIGHT = "hub/rights/10.100.2.3/32"


def address(house: House) -> str:
    return str(house.get("service", "web", "-n", "jake")["spec"]["clusterIP"])


def pod(house: House) -> str:
    """The name of his pod that runs."""
    found = house.get("pods", "-n", "jake", "--selector=app=web", "--field-selector=status.phase=Running")["items"]
    assert len(found) == 1, house.kubectl("hub", "describe", "pods", "-n", "jake").stdout[-800:]
    return str(found[0]["metadata"]["name"])


def runs(house: House) -> None:
    done = house.kubectl("jake", "wait", "deployment/web", "--for=condition=Available", "--timeout=60s")
    assert done.returncode == 0, house.kubectl("hub", "describe", "pods", "-n", "jake").stdout[-800:] + done.stderr


def test_the_hub_is_the_node_of_the_file(house: House) -> None:
    assert house.said["no_node"] == ""
    found = house.get("nodes")["items"]
    assert [n["metadata"]["name"] for n in found] == ["k3s-server-1"]
    assert {"type": "InternalIP", "address": "192.168.20.20"} in found[0]["status"]["addresses"]
    shown = house("lab", "status").stdout
    assert "Kubernetes https://192.168.20.20:6443: up" in shown
    assert "Node k3s-server-1: Ready" in shown
    assert house.json("lab", "status")["kubernetes"]["node_state"] == "Ready"
    print(f"up after {house.said['seconds']} s; resident: {weights(house)}")


def weights(house: House) -> dict[str, int]:
    """MB that each program of the cluster holds."""
    sizes = {n: re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{p}/status").read_text()) for n, p in house.pids().items()}
    return {name: int(size[1]) // 1024 for name, size in sizes.items() if size}


def test_a_service_that_nobody_made_yet_is_no_fault(house: House) -> None:
    assert house.changes() == {}
    found = house.json("lab", "verify")
    assert [c["observed"] for c in found["checks"] if c["name"] == "service web"] == [
        "the cluster has no Service jake/web"
    ]
    rows = {row["name"]: row["cells"] for row in found["matrix"]["rows"]}
    assert "web" not in rows
    assert rows["any service"]["bryce"]["observed"] == ["25/tcp"], "what stands in for others still does"
    assert rows["hub"]["bryce"]["observed"] == ["6443/tcp", "10250/tcp", "10256/tcp"], "kubelet, and a responder"
    assert rows["hub"]["jake"]["observed"] == ["6443/tcp"]


def test_a_friend_deploys_and_the_file_gives_him_the_way_to_it(house: House) -> None:
    done = house.kubectl("jake", "apply", "-f", "-", stdin=DEPLOYMENT)
    assert done.returncode == 0, done.stderr
    runs(house)
    url = f"http://{address(house)}/"
    assert house.fetch("hub", url) == "web answers", "the pod itself works"
    assert house.fetch("jake", url) == "", "no right yet: the Service was not there at the last apply"
    shown = house("--lab", "plan").stdout
    assert f"~ {RIGHT}  allow: adds {address(house)}/32 tcp 80" in shown
    assert house.changes() == {RIGHT: "update"}
    house.apply()
    assert house.fetch("jake", url) == "web answers"


def test_another_friend_does_not_reach_it(house: House) -> None:
    url = f"http://{address(house)}/"
    assert house.fetch("bryce", url) == ""
    assert house.fetch("jake", url) == "web answers", "it is there all the same"
    inside = house.get("pod", pod(house), "-n", "jake")["status"]["podIP"]
    assert house.fetch("hub", f"http://{inside}:8080/") == "web answers"
    assert house.fetch("jake", f"http://{inside}:8080/") == "", "a right to a Service is none to its pod"
    found = house.json("lab", "verify")
    (row,) = [row for row in found["matrix"]["rows"] if row["name"] == "web"]
    assert row["address"] == address(house)
    assert (row["cells"]["jake"]["observed"], row["cells"]["bryce"]["observed"]) == (["80/tcp"], [])
    assert (row["cells"]["jake"]["probes"], row["cells"]["bryce"]["probes"]) == (1, 1)


def test_a_service_behind_which_nothing_answers_is_told_and_not_probed(house: House) -> None:
    patch = '{"spec": {"selector": {"app": "nobody"}}}'
    assert house.kubectl("jake", "patch", "service", "web", "--patch", patch).returncode == 0
    until(lambda: house.fetch("hub", f"http://{address(house)}/") == "")
    try:
        done = house("lab", "verify")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"not probed: web ({address(house)}) 80/tcp: nothing answers there" in done.stdout
    finally:
        patch = '{"spec": {"selector": {"app": "web"}}}'
        assert house.kubectl("jake", "patch", "service", "web", "--patch", patch).returncode == 0
    until(lambda: house.fetch("jake", f"http://{address(house)}/") == "web answers")


def test_a_privileged_pod_is_refused(house: House) -> None:
    bare = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": pod_of(PRIVILEGED)})
    done = house.kubectl("jake", "apply", "-f", "-", stdin=bare)
    assert done.returncode
    assert 'violates PodSecurity "restricted' in done.stderr
    assert "privileged" in done.stderr
    good = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "good"}, "spec": pod_of(DEPLOYMENT)})
    assert house.kubectl("jake", "apply", "-f", "-", stdin=good).returncode == 0, "the same pod without it is not"
    assert house.kubectl("jake", "delete", "pod", "good", "--timeout=60s").returncode == 0


def pod_of(deployment: str) -> object:
    return yaml.safe_load(deployment.partition("---")[0])["spec"]["template"]["spec"]


def counted(house: House, chain: str) -> int:
    rows = json.loads(house.hub.run(["nft", "-j", "list", "chain", "inet", "around", chain]).out)["nftables"]
    return sum(e["counter"]["packets"] for row in rows if "rule" in row for e in row["rule"]["expr"] if "counter" in e)


def test_a_pod_that_dials_a_peer_is_stopped_on_the_way_into_the_tunnel(house: House) -> None:
    web = pod(house)
    done = house.hub.run(["nft", "-f", "-"], stdin=AROUND.encode())
    assert done.code == 0, done.err
    try:
        assert house.raw_in_pod(web, "10.100.2.3", 8080) == ""
        assert counted(house, "before") > 0, "the pod's packets came as far as the tunnel"
        assert counted(house, "after") == 0, "and no further"
        assert house.raw("hub", "10.100.2.3", 8080).startswith("jake saw 10.100.0.1"), "the hub may, on the same port"
        assert counted(house, "after") > 0
    finally:
        house.hub.run(["nft", "delete", "table", "inet", "around"])


def test_without_the_last_rule_of_to_peers_the_pod_gets_through_and_apply_mends_that(house: House) -> None:
    """The twin: it is this rule that stops him, and the test before could fail."""
    web, table = pod(house), ["inet", "house"]
    chain = json.loads(house.hub.run(["nft", "-j", "-a", "list", "chain", *table, "to_peers"]).out)["nftables"]
    last = [row["rule"] for row in chain if "rule" in row][-1]
    assert last["expr"] == [{"drop": None}]
    assert house.hub.run(["nft", "delete", "rule", *table, "to_peers", "handle", str(last["handle"])]).code == 0
    assert house.raw_in_pod(web, "10.100.2.3", 8080).startswith("jake saw 10.42.0.")
    assert house.changes() != {}
    house.apply()
    assert house.raw_in_pod(web, "10.100.2.3", 8080) == ""


def test_what_only_a_network_policy_can_stop_is_not_stopped_here(house: House) -> None:
    """No controller for NetworkPolicies can be had for the lab (docs/decisions/007): they are there, and do nothing."""
    assert {p["metadata"]["name"] for p in house.get("networkpolicies", "-n", "jake")["items"]} >= {
        "meshwright-default-deny",
        "meshwright-egress",
    }
    assert house.raw_in_pod(pod(house), "192.168.20.20", 80).startswith("hub saw")
    assert house.raw_in_pod(pod(house), "10.42.0.10", 8080).startswith("pod1 saw")


def test_what_died_comes_back_and_his_pod_never_notices(house: House) -> None:
    before, web = house.pids(), pod(house)
    for name in ("containerd", "kubelet"):
        os.kill(before[name], signal.SIGKILL)
    assert "containerd, kubelet died" in house("lab", "status").stdout
    house.up()
    after = house.pids()
    assert {name for name in before if after[name] != before[name]} == {"containerd", "kubelet"}
    assert pod(house) == web
    assert house.fetch("jake", f"http://{address(house)}/") == "web answers"
    assert house.in_pod(web, "true").returncode == 0, "kubelet finds the container that it did not start"


def test_a_friend_who_leaves_the_file_is_out_and_his_data_stays(house: House) -> None:
    url, file = f"http://{address(house)}/", Path(house.env["MESHWRIGHT_FILE"])
    assert "web" in running_in_pods()
    file.write_text(MESH.replace(PEERS.splitlines()[1] + "\n", "").replace(HIS, ""))
    house.apply("--force", "he is one of two, so this is much")
    until(lambda: "web" not in running_in_pods())
    until(lambda: house.get("pods", "-n", "jake")["items"] == [])  # kubelet says so a moment after it is true
    kubeconfig = house.state / "kubeconfigs/jake"
    refused = house.kubectl("hub", "--kubeconfig", str(kubeconfig), "get", "configmaps")
    assert "You must be logged in" in refused.stderr, "also from where nothing stands between him and the API server"
    assert house.kubectl("jake", "get", "configmaps").returncode != 0
    space = house.get("namespace", "jake")
    assert [v for k, v in space["metadata"]["labels"].items() if k.endswith("/quarantine")] == ["true"]
    assert house.get("configmap", "his", "-n", "jake")["data"] == {"saved": "game"}
    assert house.get("persistentvolumeclaim", "his", "-n", "jake")["metadata"]["name"] == "his"
    assert house.get("deployment", "web", "-n", "jake")["spec"]["replicas"] == 0
    assert house.fetch("jake", url) == ""
    assert house.changes() == {}


def test_with_his_line_he_has_everything_back(house: House) -> None:
    Path(house.env["MESHWRIGHT_FILE"]).write_text(MESH)
    house.up()
    runs(house)
    assert house.fetch("jake", f"http://{address(house)}/") == "web answers"
    assert house.fetch("bryce", f"http://{address(house)}/") == ""
    assert house.changes() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run containers")
def test_down_leaves_nothing(machine_before: dict[str, str], house: House) -> None:
    ours = inhabitants(house.lab.state.pid)
    assert len(ours) > 20
    assert "web" in running_in_pods()
    part = cgroups.name(house.state)
    assert list(Path("/sys/fs/cgroup").glob(f"*/{part}")) or Path("/sys/fs/cgroup", part).exists()
    assert house("lab", "down").returncode == 0
    assert [pid for pid in ours if state.started(pid)] == []
    assert not house.state.exists()
    assert look() == machine_before
