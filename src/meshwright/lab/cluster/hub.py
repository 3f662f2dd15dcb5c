"""The control plane in a lab's hub: up, with what the mesh needs in it, and reachable from outside the lab.

It listens on all of the hub's addresses, so friends come by their tunnels; we come by a relay.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshwright.errors import LabError
from meshwright.events import Progress, Started, Tell, silent
from meshwright.lab import entry, make, state
from meshwright.lab.cluster import build, control, node, programs, site
from meshwright.lab.cluster.ask import Ask, asker
from meshwright.lab.cluster.control import Plane
from meshwright.lab.cluster.inhub import InHub
from meshwright.lab.cluster.programs import CONTROL_PLANE, NODE, Programs
from meshwright.lab.world import Lab
from meshwright.spec.model import Mesh

AGAIN = "run `meshwright lab up --kubernetes` again"
_PATIENT = ("kube-controller-manager", "kube-scheduler")
"""Who looks for a server that was away ever more seldom: begun anew, they are there at once."""


def prepare(mesh: Mesh, tell: Tell = silent) -> Programs:
    """Have the programs, before anything is built: that may take minutes. LabError when this mesh has no cluster."""
    if mesh.kubernetes is None:
        raise LabError(
            f"{mesh.name} has no cluster", "add a section `kubernetes` to the mesh file, or leave --kubernetes"
        )
    return build.ensure([*CONTROL_PLANE, *(NODE if os.geteuid() == 0 else ())], tell, crds=bool(mesh.observability))


def up(lab: Lab, mesh: Mesh, found: Programs, tell: Tell = silent) -> str:
    """Bring the control plane up, as root the node too. Gives why the hub is not a node, "" when it is.

    What runs stays; what died is started again with its data. LabError with the last words of what does not come up,
    or when another command is at work on this lab.
    """
    with state.locked(lab.directory, create=False) as there:
        if not there:
            raise LabError("the lab was taken down meanwhile", AGAIN)
        why = _up(lab, mesh, found, tell)
        site.remember_node(lab.directory, "" if why else node.name_of(mesh), why)
        return why


def _up(lab: Lab, mesh: Mesh, found: Programs, tell: Tell) -> str:
    wanted = site.plane(lab.directory, mesh)
    runner = _runner(lab, wanted.folder)
    runner.recover(wanted.folder / "log")
    if wanted.folder.exists() and not site.same(wanted):
        tell(Progress("the hub has other addresses: a new control plane, without what the old one knew"))
        runner.stop()
        shutil.rmtree(wanted.folder)
    wanted.folder.mkdir(mode=0o700, exist_ok=True)
    site.remember(wanted)
    _step_aside(lab, wanted, runner)
    relay = entry.command("relay", str(lab.directory / site.RELAY), wanted.address, str(wanted.port))
    runner.start("relay", relay, wanted.folder / "relay.log")
    ask = _asker(lab, wanted)
    running = all(map(runner.alive, control.PROGRAMS))
    here = _listening(wanted)
    if not runner.alive("kube-apiserver"):
        for name in _PATIENT:
            runner.end(name)
    control.start(here, found, runner, ask, silent if running else tell)
    if watch := mesh.observability:
        there = ("/apis/monitoring.coreos.com/v1", f"/api/v1/namespaces/{watch.namespace}")
        if any(ask(path)[0] == 404 for path in there):
            _monitoring(lab, wanted, found, watch.namespace, tell)
    why = node.start(node.Site(lab, here, found, runner, ask), mesh, tell)
    _listen(lab, _ports(lab))  # what no program took is the responder's again
    return why


@dataclass(frozen=True, slots=True)
class Status:
    """How a lab's cluster does, in words. node: the name of its only node, "" when it has none; then no_node says why.
    state, node_state: "up" and "Ready", or what is wrong and what to do.
    """

    server: str
    state: str
    node: str
    node_state: str
    no_node: str


def status(lab: Lab) -> Status:
    folder = site.folder(lab.directory)
    known = json.loads((folder / "plane.json").read_text())
    dead = InHub(lab, folder / "programs.json", prune=False).ended()
    server, keys = f"https://{known['address']}:{known['port']}", folder / "pki"
    ask = asker(server, keys / "ca.crt", keys / "admin", site.relay(lab.directory))
    gone = [name for name in dead if name not in node.RUNNING]
    ready = not gone and ask("/readyz")[0] == 200
    words = "up" if ready else f"{', '.join(gone)} died ({AGAIN})" if gone else f"does not answer ({AGAIN})"
    name, why = site.node(lab.directory)
    lost = [one for one in dead if one in node.RUNNING]
    condition = f"{', '.join(lost)} died ({AGAIN})" if lost else node.condition(ask, name) if name else ""
    return Status(server, words, name, condition, why)


def _runner(lab: Lab, folder: Path) -> InHub:
    return InHub(lab, folder / "programs.json")


def _asker(lab: Lab, plane: Plane) -> Ask:
    keys = plane.folder / "pki"
    return asker(plane.server, keys / "ca.crt", keys / "admin", site.relay(lab.directory))


def _listening(plane: Plane) -> Plane:
    """Without IPv6 in the kernel nothing can listen on its addresses."""
    return plane if Path("/proc/net/if_inet6").exists() else replace(plane, everywhere="0.0.0.0")  # noqa: S104


def _step_aside(lab: Lab, plane: Plane, runner: InHub) -> None:
    """The hub's responder leaves the ports of real programs to these, as soon as one of them is to be started."""
    mine = {plane.port: "kube-apiserver", plane.etcd[0]: "etcd", plane.etcd[1]: "etcd"}
    if not node.obstacle(lab):
        mine[site.KUBELET] = "kubelet"
    wanted = [str(port) for port, name in mine.items() if not runner.alive(name)]
    if not wanted:
        return
    _listen(lab, [[kind, port] for kind, port in _ports(lab) if kind != "tcp" or port not in mine])
    done = lab.host("hub").run(entry.command("daemon", "free", *wanted))
    if done.code:
        raise LabError(f"hub: {done.err.strip()}", "run `meshwright lab down`, then `meshwright lab up --kubernetes`")


def _ports(lab: Lab) -> list[list[Any]]:
    """What the hub's responder listens on in a lab without a cluster."""
    return next(h["ports"] for h in lab.state.topology["hosts"] if h["name"] == "hub")


def _listen(lab: Lab, ports: list[list[Any]]) -> None:
    task = {"name": "hub", "pid": lab.state.hosts["hub"], "ports": ports}
    make.inside(lab.state.pid, lab.state.userns, "build", "ports", [task])


def _monitoring(lab: Lab, plane: Plane, found: Programs, namespace: str, tell: Tell) -> None:
    """What a house with monitoring has: the Prometheus operator's resource definitions, and a namespace for it all."""
    tell(Started("installing the Prometheus operator's resource definitions"))
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    where = [f"--kubeconfig={plane.kubeconfig}", f"--cache-dir={plane.folder / 'kubectl'}"]
    apply = ["apply", "--server-side", "--filename", str(programs.crds()), "--filename", "-"]
    done = lab.host("hub").run([found["kubectl"], *where, *apply], stdin=json.dumps(made).encode(), timeout=180)
    if done.code:
        raise LabError(f"kubectl apply: {(done.err.strip().splitlines() or ['failed'])[-1]}", AGAIN)
