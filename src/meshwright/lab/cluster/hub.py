"""The control plane in a lab's hub: up, with what the mesh needs in it, and reachable from outside the lab.

It listens on all of the hub's addresses, so friends come by their tunnels; we come by a relay.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from meshwright.errors import LabError
from meshwright.events import Progress, Started, Tell, silent
from meshwright.lab import entry, make
from meshwright.lab.cluster import build, control, node, programs, site
from meshwright.lab.cluster.ask import Ask, asker
from meshwright.lab.cluster.control import Plane
from meshwright.lab.cluster.inhub import InHub
from meshwright.lab.cluster.programs import CONTROL_PLANE, NODE, Programs
from meshwright.lab.world import Lab
from meshwright.spec.model import Mesh

RUNNING = ("kubelet", "kube-proxy")
AGAIN = "run `meshwright lab up --kubernetes` again"


def prepare(mesh: Mesh, tell: Tell = silent) -> Programs:
    """Have the programs, before anything is built: that may take minutes. LabError when this mesh has no cluster."""
    if mesh.kubernetes is None:
        raise LabError(
            f"{mesh.name} has no cluster", "add a section `kubernetes` to the mesh file, or leave --kubernetes"
        )
    return build.ensure([*CONTROL_PLANE, *(NODE if os.geteuid() == 0 else ())], tell, crds=bool(mesh.observability))


def up(lab: Lab, mesh: Mesh, found: Programs, tell: Tell = silent) -> str:
    """Bring the control plane up, as root the node too. Gives why the hub is not a node, "" when it is.

    What runs stays; what died is started again with its data. LabError with the last words of what does not come up.
    """
    wanted = site.plane(lab.directory, mesh)
    runner = _runner(lab, wanted.folder)
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
    if all(map(runner.alive, (*control.PROGRAMS, *(RUNNING if os.geteuid() == 0 else ())))):
        tell = silent
    control.start(_listening(wanted), found, runner, ask, tell)
    if mesh.observability and ask("/apis/monitoring.coreos.com/v1")[0] == 404:
        _definitions(lab, wanted, found, tell)
    if os.geteuid():
        return "only root can run containers"
    return node.start(node.Site(lab, wanted, found, runner, ask), mesh, tell)


def status(lab: Lab) -> dict[str, str]:
    """Where the API server is, and in words how it does."""
    folder = site.folder(lab.directory)
    known = json.loads((folder / "plane.json").read_text())
    dead = InHub(lab, folder / "programs.json", prune=False).ended()
    keys = folder / "pki"
    server = f"https://{known['address']}:{known['port']}"
    ready = not dead and asker(server, keys / "ca.crt", keys / "admin", site.relay(lab.directory))("/readyz")[0] == 200
    state = "up" if ready else f"{', '.join(dead)} died ({AGAIN})" if dead else f"does not answer ({AGAIN})"
    return {"server": server, "state": state}


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
    wanted = [str(port) for port, name in mine.items() if not runner.alive(name)]
    if not wanted:
        return
    listed = next(h["ports"] for h in lab.state.topology["hosts"] if h["name"] == "hub")
    kept = [[kind, port] for kind, port in listed if kind != "tcp" or port not in mine]
    task = {"name": "hub", "pid": lab.state.hosts["hub"], "ports": kept}
    make.inside(lab.state.pid, lab.state.userns, "build", "ports", [task])
    done = lab.host("hub").run(entry.command("daemon", "free", *wanted))
    if done.code:
        raise LabError(f"hub: {done.err.strip()}", "run `meshwright lab down`, then `meshwright lab up --kubernetes`")


def _definitions(lab: Lab, plane: Plane, found: Programs, tell: Tell) -> None:
    """The Prometheus operator's resource definitions: what a house with monitoring has."""
    tell(Started("installing the Prometheus operator's resource definitions"))
    where = [f"--kubeconfig={plane.kubeconfig}", f"--cache-dir={plane.folder / 'kubectl'}"]
    apply = ["apply", "--server-side", "--filename", str(programs.crds())]
    done = lab.host("hub").run([found["kubectl"], *where, *apply], timeout=180)
    if done.code:
        raise LabError(f"kubectl apply: {(done.err.strip().splitlines() or ['failed'])[-1]}", AGAIN)
