"""A real node behind the tunnel: a friend's own pod by its ClusterIP, and what his pod can reach."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from house import WGET, House, resolved, until

from conftest import look
from meshwright import lab
from meshwright.lab import state

pytestmark = [pytest.mark.lab, pytest.mark.cluster]

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsNonRoot: true, runAsUser: 65534, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: main
      image: meshwright.lab/busybox:1
      imagePullPolicy: Never
      command: [sh, -c, "echo {name} answers > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
      ports: [{{name: http, containerPort: 8080}}]
      resources: {{limits: {{cpu: 200m, memory: 64Mi, ephemeral-storage: 16Mi}}}}
      securityContext: {{allowPrivilegeEscalation: {escalation}, capabilities: {{drop: [ALL]}}}}
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
"""
# Counters of the test's own around the product's chain: what comes to it, and what it lets pass.
AROUND = """
table inet around {
 chain before { type filter hook postrouting priority 89; oifname wg1 tcp dport 8080 counter; }
 chain after { type filter hook postrouting priority 91; oifname wg1 tcp dport 8080 counter; }
}
"""


@pytest.fixture(scope="module")
def web(house: House) -> str:
    """jake's pod and Service, made by himself through his tunnel. Gives the Service's address."""
    text = POD.format(name="web", escalation="false") + SERVICE + "---" + POD.format(name="other", escalation="false")
    done = house.kubectl("apply", "-f", "-", friend="jake", stdin=text)
    assert done.returncode == 0, done.stderr
    for pod in ("web", "other"):
        done = house.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=60s", friend="jake")
        assert done.returncode == 0, house.kubectl("describe", "pod", pod, "-n", "jake").stdout[-800:]
    return str(resolved(house)["web"][0])


def test_the_hub_is_the_node_of_the_file(house: House) -> None:
    assert house.said == ""
    found = house.json("get", "nodes")["items"]
    assert [n["metadata"]["name"] for n in found] == [house.mesh.hub.node]
    assert {"type": "InternalIP", "address": "192.168.20.20"} in found[0]["status"]["addresses"]
    assert house.runner.ended() == []
    print(f"node Ready after {house.seconds:.1f} s; resident: {weights(house)}")


def weights(house: House) -> dict[str, int]:
    """MB that each program of the node holds."""
    out = {}
    for folder in Path("/proc").iterdir():
        try:
            part = (folder / "cgroup").read_text() if folder.name.isdigit() else ""
            words = (folder / "cmdline").read_text().split("\0") if "/daemons" in part else []
            size = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text()) if words else None
        except OSError:
            continue
        if size:
            names = [Path(w).name for w in words[:2]]
            name = next((n for n in names if n in house.runner.running), names[0])
            out[name] = out.get(name, 0) + int(size[1]) // 1024
    return out


def test_a_friend_reaches_his_pod_by_its_cluster_ip_and_another_does_not(house: House, web: str) -> None:
    url = f"http://{web}/"
    assert house.fetch("hub", url) == "web answers", "the pod itself works"
    assert house.fetch("jake", url) == "", "no rule yet: the Service was not there at the first apply"
    house.services = resolved(house)
    assert house.apply() == ["hub/rights/10.100.2.3/32"]
    assert house.fetch("jake", url) == "web answers"
    assert house.fetch("bryce", url) == ""
    assert house.fetch("bryce", "http://10.43.0.1/") == ""
    house.services = {}
    house.apply()
    assert house.fetch("jake", url) == "", "the right is gone with the rule"
    house.services = resolved(house)
    house.apply()


def test_a_privileged_pod_is_refused(house: House, web: str) -> None:
    done = house.kubectl("apply", "-f", "-", friend="jake", stdin=POD.format(name="bad", escalation="true"))
    assert done.returncode
    assert 'violates PodSecurity "restricted' in done.stderr


def counted(house: House, chain: str) -> int:
    rows = json.loads(house.lab.host("hub").run(["nft", "-j", "list", "chain", "inet", "around", chain]).out)[
        "nftables"
    ]
    return sum(e["counter"]["packets"] for row in rows if "rule" in row for e in row["rule"]["expr"] if "counter" in e)


def test_a_pod_that_dials_a_peer_is_stopped_on_the_way_into_the_tunnel(house: House, web: str) -> None:
    hub = house.lab.host("hub")
    done = hub.run(["nft", "-f", "-"], stdin=AROUND.encode())
    assert done.code == 0, done.err
    try:
        assert raw_in_pod(house, "10.100.2.3", 8080) == ""
        assert counted(house, "before") > 0, "the pod's packets came as far as the tunnel"
        assert counted(house, "after") == 0, "and no further"
        assert raw(hub, "10.100.2.3", 8080).startswith("jake saw 10.100.0.1"), "the hub may: same listener, same port"
        assert counted(house, "after") > 0
        assert raw_in_pod(house, "203.0.113.1", 80).startswith("inet saw"), "what the pod lacks is the right, not a way"
    finally:
        hub.run(["nft", "delete", "table", "inet", "around"])


def raw(host, address: str, port: int) -> str:
    """The first line that a listener says."""
    return host.run(["sh", "-c", f"sleep 1 | busybox nc -w 3 {address} {port} | head -n 1"], timeout=30).out.decode()


def raw_in_pod(house: House, address: str, port: int) -> str:
    return house.in_pod("web", "sh", "-c", f"sleep 1 | nc -w 3 {address} {port} | head -n 1").stdout


def test_network_policies_are_there_but_nothing_enforces_them_here(house: House, web: str) -> None:
    """Not a proof, and said so: no controller for NetworkPolicies can be had (docs/decisions). With one, this test has
    to become the opposite: deny-all in the namespace, yet a pod reaches the hub and another pod."""
    assert house.json("get", "networkpolicies", "-n", "jake")["items"][0]["spec"]["policyTypes"] == [
        "Ingress",
        "Egress",
    ]
    assert raw_in_pod(house, "192.168.20.20", 80).startswith("hub saw")
    other = house.json("get", "pod", "other", "-n", "jake")["status"]["podIP"]
    assert house.in_pod("web", *WGET, f"http://{other}:8080/").stdout == "other answers\n"


def test_a_pod_that_is_taken_away_is_dead_for_real(house: House, web: str) -> None:
    """What quarantine rests on: quota 0, and the pods deleted."""
    assert "other" in running_in_pods()
    quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: meshwright-quota}\nspec: {hard: {pods: '0'}}"
    assert house.kubectl("apply", "-n", "jake", "-f", "-", stdin=quota).returncode == 0
    try:
        assert house.kubectl("delete", "pod", "other", "-n", "jake", "--timeout=60s").returncode == 0
        until(lambda: "other" not in running_in_pods())
        again = house.kubectl("apply", "-f", "-", friend="jake", stdin=POD.format(name="again", escalation="false"))
        assert "exceeded quota: meshwright-quota" in again.stderr
        assert "web" in running_in_pods()
    finally:
        house.kubectl("delete", "quota", "meshwright-quota", "-n", "jake")


def running_in_pods() -> set[str]:
    """Names of the pods whose container has a process on this machine."""
    out = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and "/kubepods/" in (folder / "cgroup").read_text():
                out |= set((folder / "root/tmp/index.html").read_text().split()[:1])
        except OSError:
            continue
    return out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run containers")
def test_down_leaves_nothing(machine_before: dict[str, str], house: House) -> None:
    ours = [pid for pid in os.listdir("/proc") if pid.isdigit() and in_lab(pid, house)]
    assert len(ours) > 10
    assert lab.down(house.lab.directory)
    assert [pid for pid in ours if state.started(int(pid))] == []
    assert not house.lab.directory.exists()
    assert look() == machine_before


def in_lab(pid: str, house: House) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{house.lab.state.pid}/ns/pid")
    except OSError:
        return False
