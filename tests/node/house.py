"""The house of these tests: a mesh with one named service of the cluster, its lab as `lab up --kubernetes` makes it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from door import Door
from meshwright.errors import LabError
from meshwright.io.host import Namespace
from meshwright.lab import Lab, open_lab
from meshwright.lab.cluster import programs

# not its own -T: that of Debian's static busybox ends in a segmentation fault
WGET = ("timeout", "4", "busybox", "wget", "-q", "-O", "-")
PEERS = """\
  bryce: {address: 10.100.2.2, namespace: bryce}
  jake: {address: 10.100.2.3, namespace: jake}
"""
# what speaks of jake, who leaves the file for a while
HIS = """\
    - {from: jake, to: web}
    - {from: hub, to: jake, ports: [8080/tcp]}
"""
# 10250 is kubelet's; 10256 would be kube-proxy's, if nobody asked for it
MESH = f"""
version: 1
name: house
hub: {{node: k3s-server-1, address: 192.168.20.20, interface: wg1, endpoint: "home.example.net:51821"}}
network:
  cidr: 10.100.0.0/16
  hub: 10.100.0.1
  routes: {{nodes: 192.168.20.0/24, pods: 10.42.0.0/16, services: 10.43.0.0/16, mesh: 10.100.0.0/16}}
  dns: 10.43.0.10
peers:
{PEERS}services:
  web: {{kubernetes: jake/web, ports: [80/tcp]}}
policy:
  allow:
    - {{from: peers, to: hub, ports: [6443/tcp]}}
    - {{from: bryce, to: hub, ports: [10250/tcp, 10256/tcp]}}
    - {{from: bryce, to: services, ports: [25/tcp]}}
{HIS}kubernetes: {{pod_security: restricted}}
"""


class House(Door):
    """The lab of MESH with its cluster. said: what `lab up` answered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.env |= {"XDG_CACHE_HOME": str(programs.base().parents[1]), "MESHWRIGHT_FILE": str(self.mesh(MESH))}
        self.said: dict[str, Any] = {}

    @property
    def state(self) -> Path:
        return self.folder / "home/.local/state/meshwright/lab/house"

    @property
    def lab(self) -> Lab:
        return open_lab(self.state)

    @property
    def hub(self) -> Namespace:
        return self.lab.host("hub")

    def json(self, *arguments: object) -> Any:
        done = self(*arguments, "--output", "json")
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr
        return json.loads(done.stdout)

    def up(self) -> None:
        self.said = self.json("lab", "up", "--kubernetes")

    def changes(self) -> dict[str, str]:
        """What a plan would do, by id."""
        done = self("--lab", "plan", "--output", "json")
        assert done.returncode in (0, 2), done.stderr
        return {c["id"]: c["verb"] for c in json.loads(done.stdout)["changes"]}

    def apply(self, *more: str) -> None:
        done = self("--lab", "apply", "--yes", *more)
        assert done.returncode == 0, done.stdout + done.stderr

    def kubectl(self, host: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """As whoever is at home on the host: the admin on the hub, a friend with his own kubeconfig on his."""
        found: subprocess.CompletedProcess[str]
        found = self("lab", "exec", host, programs.find()["kubectl"], "--request-timeout=20s", *arguments, stdin=stdin)
        return found

    def get(self, *arguments: str) -> Any:
        """As the admin."""
        done = self.kubectl("hub", "get", *arguments, "--output=json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fetch(self, host: str, url: str) -> str:
        """What a host of the lab gets from a URL; "" when nothing."""
        done = self.lab.host(host).run([*WGET, url], timeout=30)
        return done.out.decode().strip() if done.code == 0 else ""

    def raw(self, host: str, address: str, port: int) -> str:
        """The first line that a listener says to a host."""
        found = self.lab.host(host).run(["sh", "-c", _listen(address, port)], timeout=30)
        return found.out.decode()

    def raw_in_pod(self, pod: str, address: str, port: int) -> str:
        return self.in_pod(pod, "sh", "-c", _listen(address, port)).stdout

    def in_pod(self, pod: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.kubectl("hub", "exec", "-n", "jake", pod, "--", *argv)

    def pids(self) -> dict[str, int]:
        found = json.loads((self.state / "kubernetes/programs.json").read_text())["programs"]
        return {name: one["pid"] for name, one in found.items()}


def _listen(address: str, port: int) -> str:
    return f"sleep 1 | busybox nc -w 3 {address} {port} | head -n 1"


def inhabitants(first: int) -> list[int]:
    """The processes of a lab, whose first has this pid."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _space(name) == _space(str(first))]


def _space(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def running_in_pods() -> set[str]:
    """What the containers on this machine that have a process call themselves."""
    out = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and "/kubepods/" in (folder / "cgroup").read_text():
                out |= set((folder / "root/tmp/index.html").read_text().split()[:1])
        except OSError:
            continue
    return out


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.2)


def obstacle() -> str:
    if os.geteuid():
        return "only root can run containers; run the tests as root"
    try:
        programs.find([*programs.CONTROL_PLANE, *programs.NODE])
    except LabError as error:
        return f"{error.message}; {error.hint}"
    return ""


def give_up(reason: str) -> None:
    """An ordinary user has the other tests; in CI, root must be able to run these."""
    if reason and os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"the node's tests must run in CI: {reason}")
    if reason:
        pytest.skip(f"THE NODE'S TESTS DID NOT RUN: {reason}")


def look() -> dict[str, str]:
    settings = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys")
    out = {name: Path("/proc/sys", name).read_text() for name in settings}
    for folder in ("/var/lib", "/var/log", "/run", "/opt", "/etc"):
        out[folder] = "\n".join(sorted(os.listdir(folder)))
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", "meshwright-lab-*"], capture_output=True, timeout=60)
    return {**out, "cgroups": found.stdout.decode(), "mounts": Path("/proc/self/mountinfo").read_text()}
