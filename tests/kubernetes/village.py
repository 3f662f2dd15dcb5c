"""A mesh of as many friends as one likes, each with other walls, played through the front door on a real API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from controlplane import ControlPlane
from door import Door

FIRST = int(ip_address("10.100.2.1"))
HEAD = """version: 1
name: {name}
hub: {{node: hub, address: 192.168.20.20, interface: wg1, endpoint: "vpn.example.net:51821"}}
network: {{cidr: 10.100.0.0/16, hub: 10.100.0.1, routes: {{pods: 10.42.0.0/16, services: 10.43.0.0/16}}}}
kubernetes:
  reader: {name}-reader
  deployer: {{name: {name}-deployer, namespace: default}}
  access: {{namespace: {name}-access{access}}}
policy:
  allow:
    - {{from: peers, to: hub, ports: [6443/tcp, icmp]}}
    - {{from: peers, to: services, ports: [53/udp, 53/tcp]}}
peers:
"""
OIDC = ", issuer: oidc, oidc: {issuer_url: https://id.example.net, client_id: mesh, username_prefix: 'mesh:'}"
WALLS = (
    "", "role: restricted", "egress: none", "egress: [203.0.113.0/24, '2001:db8::/32']", "egress: internet",
    "network_policy: false", "admission: false", "quota: {pods: 7, cpu: '2.5'}", "registries: [ghcr.io]",
    "storage_classes: [fast, slow]", "limits: {cpu: 250m, memory: 128Mi}",
)  # fmt: skip


def friend(name: str, number: int, walls: str = "") -> str:
    """One peer's line. Every seventh has two devices, every 17th is disabled, every 19th has expired."""
    address = ip_address(FIRST + 2 * number)
    parts = [f"namespace: {name}-p{number}", *([f"tenant: {{{walls}}}"] if walls else [])]
    if number % 7 == 3:
        parts.append(f"devices: {{router: {{address: {address}}}, phone: {{address: {address + 1}}}}}")
    else:
        parts.append(f"address: {address}")
    parts += ["disabled: true"] if number % 17 == 11 else []
    parts += ['expires: "2020-01-01"'] if number % 19 == 13 else []
    return f"  p{number}: {{{', '.join(parts)}}}\n"


def text(name: str, count: int, access: str = "") -> str:
    lines = [friend(name, number, WALLS[number % len(WALLS)]) for number in range(count)]
    return HEAD.format(name=name, access=access) + "".join(lines)


class Village(Door):
    """The program on the mesh `name`; everything of it in the cluster bears that name."""

    def __init__(self, folder: Path, plane: ControlPlane, name: str, mesh: str) -> None:
        super().__init__(folder)
        self.plane, self.name = plane, name
        self.env["KUBECONFIG"] = str(plane.kubeconfig)
        self.mesh(mesh)

    def edit(self, old: str, new: str) -> None:
        mesh = (self.folder / "mesh.yaml").read_text()
        assert mesh.count(old) == 1, old
        self.mesh(mesh.replace(old, new))

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = self(*arguments, "--only", "kubernetes")
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def changes(self) -> list[str]:
        """The ids of what a plan would change; what waits or is in the way is none."""
        done = self("plan", "--only", "kubernetes", "-o", "json")
        document = json.loads(done.stdout)
        assert done.returncode == (2 if document["changes"] else 0), done.stderr
        assert document["blocked"] == []
        return [change["id"] for change in document["changes"]]

    def kubectl(self, *arguments: str) -> str:
        done = self.plane.kubectl(*arguments)
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout.decode()

    def sweep(self) -> None:
        kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
        mesh = ("-l", f"meshwright.io/mesh={self.name}", "--wait=false")
        self.plane.kubectl("delete", f"{kinds},namespaces", *mesh)
        self.plane.kubectl("delete", "serviceaccounts", "-n", "default", *mesh)


@contextmanager
def village(folder: Path, plane: ControlPlane, name: str, mesh: str) -> Iterator[Village]:
    made = Village(folder, plane, name, mesh)
    try:
        yield made
    finally:
        made.sweep()
