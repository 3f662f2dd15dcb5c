"""The house of these tests: a mesh with one named service of the cluster, its lab, a control plane and a node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from meshwright import events, flow, lab
from meshwright.io.host import Namespace
from meshwright.lab import Lab, play
from meshwright.lab.cluster import control, kubeconfig, node, programs
from meshwright.lab.cluster.control import Plane
from meshwright.providers import table
from meshwright.spec import load
from meshwright.spec.model import Address, Mesh

PORT = 7443
# not its own -T: that of Debian's static busybox ends in a segmentation fault
WGET = ("timeout", "4", "busybox", "wget", "-q", "-O", "-")
MESH = """
version: 1
name: house
hub: {node: k3s-server-1, address: 192.168.20.20, interface: wg1, endpoint: "home.example.net:51821"}
network:
  cidr: 10.100.0.0/16
  hub: 10.100.0.1
  routes: {nodes: 192.168.20.0/24, pods: 10.42.0.0/16, services: 10.43.0.0/16, mesh: 10.100.0.0/16}
  dns: 10.43.0.10
peers:
  bryce: {address: 10.100.2.2, namespace: bryce}
  jake: {address: 10.100.2.3, namespace: jake}
services:
  web: {kubernetes: jake/web, ports: [80/tcp]}
policy:
  allow:
    - {from: peers, to: hub, ports: [7443/tcp]}
    - {from: jake, to: web}
    - {from: hub, to: jake, ports: [8080/tcp]}
"""
# What our apply gives a friend, as far as these tests need it.
ACCESS = """
apiVersion: v1
kind: Namespace
metadata: {name: collective-access}
---
apiVersion: v1
kind: Namespace
metadata: {name: jake, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: peer-jake, namespace: collective-access}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: meshwright-admin, namespace: jake}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: ServiceAccount, name: peer-jake, namespace: collective-access}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: meshwright-default-deny, namespace: jake}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"""


class InHub:
    """control.Runner: programs in the hub's namespaces, which end with the lab."""

    def __init__(self, hub: Namespace) -> None:
        self.hub = hub
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: list[str], log: Path) -> None:
        with log.open("ab") as out:
            self.running[name] = subprocess.Popen(
                self.hub.enter(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/"
            )

    def ended(self) -> list[str]:
        return [name for name, child in self.running.items() if child.poll() is not None]


@dataclass
class House:
    """seconds: how long the node took to be Ready. said: what node.start answered."""

    lab: Lab
    mesh: Mesh
    plane: Plane
    runner: InHub
    seconds: float = 0
    said: str = ""
    services: dict[str, tuple[Address, ...]] = field(default_factory=dict)

    def kubectl(self, *args: str, friend: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        """As the admin on the hub; with `friend`, on his host and so through his tunnel, with his own kubeconfig."""
        host = self.lab.peer(friend) if friend else self.lab.host("hub")
        file = self.plane.folder / f"kubeconfig-{friend}" if friend else self.plane.kubeconfig
        # kubectl's cache must not be the user's
        argv = host.enter(["kubectl", f"--kubeconfig={file}", f"--cache-dir={self.plane.folder / 'cache'}", *args])
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    def ask(self, path: str) -> tuple[int, bytes]:
        done = self.kubectl("get", "--raw", path)
        return (200, done.stdout.encode()) if done.returncode == 0 else (0, b"")

    def json(self, *args: str) -> Any:
        done = self.kubectl(*args, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def apply(self) -> list[str]:
        """The product's own apply, with what the cluster says of the service. Gives the ids that it changed."""
        places = replace(play.places(self.lab), services=self.services)
        played = play.played(self.mesh)
        found = table.providers(played, places)
        view = flow.look(played, found, places, events.silent)
        results = flow.apply(view.todo, found, events.silent)
        assert [r for r in results if not r.ok] == []
        return [r.id for r in results]

    def fetch(self, host: str, url: str) -> str:
        """What a host of the lab gets from a URL; "" when nothing."""
        done = self.lab.host(host).run([*WGET, url], timeout=30)
        return done.out.decode().strip() if done.code == 0 else ""

    def in_pod(self, pod: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return self.kubectl("exec", "-n", "jake", pod, "--", *argv)


def build(folder: Path, state: Path) -> House:
    """Lab, hub and tunnels by the product; control plane; node; jake's access and his kubeconfig."""
    file = folder / "mesh.yaml"
    file.write_text(MESH)
    mesh = load.load(file).mesh
    running = lab.up(mesh, state)
    hub = running.host("hub")
    # the API server's port is the hub's own, not that of the lab's responder
    hub.run(["sh", "-c", 'echo \'[["tcp", 80], ["tcp", 22]]\' > /run/responder.json'])
    os.kill(running.state.hosts["hub"], signal.SIGHUP)
    plane = Plane(state / "kubernetes", "192.168.20.20", PORT, (2379, 2380), ("10.100.0.1",), advertise="192.168.20.20")
    house = House(running, mesh, plane, InHub(hub))
    house.apply()
    running.peers_up(play.places(running).clients)
    found = programs.find([*programs.CONTROL_PLANE, *programs.NODE])
    control.start(plane, found, house.runner, house.ask)
    begun = time.monotonic()
    house.said = node.start(node.Site(running, plane, found, house.runner, house.ask), mesh)
    house.seconds = time.monotonic() - begun
    if house.said:
        return house
    done = house.kubectl("apply", "-f", "-", stdin=ACCESS)
    assert done.returncode == 0, done.stderr
    token = house.kubectl("create", "token", "peer-jake", "-n", "collective-access").stdout.strip()
    ca = plane.folder / "pki" / "ca.crt"
    kubeconfig.write(plane.folder / "kubeconfig-jake", f"https://10.100.0.1:{PORT}", ca, {"token": token}, "jake")
    return house


def resolved(house: House) -> dict[str, tuple[Address, ...]]:
    return {"web": (ip_address(house.json("get", "service", "web", "-n", "jake")["spec"]["clusterIP"]),)}


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.2)
