"""The lab's hub as a real Kubernetes node: scheduler, containerd, kubelet and kube-proxy beside the control plane.

Needs root. Everything runs in the hub's own namespaces and in cgroups of the lab's own (lab/inside/node.py), so that
ending the lab ends it all; lab/cgroups.py then removes the empty cgroups.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

from meshwright.errors import LabError
from meshwright.events import Progress, Started, Tell, silent
from meshwright.io.process import Done
from meshwright.lab import cgroups, entry
from meshwright.lab.cluster import images, kubeconfig, pki, settings
from meshwright.lab.cluster.ask import Ask
from meshwright.lab.cluster.control import Plane, last_words
from meshwright.lab.cluster.inhub import InHub
from meshwright.lab.cluster.programs import Programs
from meshwright.lab.cluster.settings import Ground
from meshwright.lab.cluster.site import free
from meshwright.lab.world import Lab
from meshwright.spec.model import Mesh, Network

PATIENCE = 120.0  # seconds; seen: about 10
PACKAGES = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "busybox": "busybox-static",
}
RUNNING = ("kube-scheduler", "containerd", "kubelet", "kube-proxy")
# file of settings -> who reads it, once
READERS = {"containerd.toml": "containerd", "kubelet.yaml": "kubelet", "kube-proxy.yaml": "kube-proxy"}
PLUGINS = ("bridge", "host-local", "loopback")
PLUGIN_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")
# what inside/node.py reports -> what it means, what to do
FAULTS = {
    "cgroups-missing": (
        "the cgroups of this machine lack cpu, memory or pids",
        "start the kernel with cgroup_enable=memory, or give the container these controllers",
    ),
    "cgroups-closed": (
        "the cgroups of this machine cannot be written (read-only, as in a container)",
        "start the container with --privileged, or run on the machine itself",
    ),
    "cgroups-crowded": (
        "the cgroups of this container cannot be divided, because processes are in its topmost one",
        "move them: mkdir /sys/fs/cgroup/init; for p in $(cat /sys/fs/cgroup/cgroup.procs); "
        "do echo $p > /sys/fs/cgroup/init/cgroup.procs; done",
    ),
}


@dataclass(frozen=True, slots=True)
class Site:
    """A lab whose hub has a control plane. `runner` starts programs inside the hub; programs: NODE's among them."""

    lab: Lab
    plane: Plane
    programs: Programs
    runner: InHub
    ask: Ask

    @property
    def home(self) -> Path:
        """What the node's programs know as HOME."""
        return self.plane.folder / "node"

    def log(self, name: str) -> Path:
        return self.plane.folder / "log" / name


def obstacle(lab: Lab) -> str:
    """Why there can be no node on this machine, and what to do, in one line; "" when nothing is known against it."""
    if lab.state.userns or os.geteuid():
        return "only root can run containers. Next: run the same command as root"
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
    missing = {tool: package for tool, package in PACKAGES.items() if not shutil.which(tool, path=path)}
    if not plugins():
        missing["the CNI plugins"] = "containernetworking-plugins"
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        return f"not installed: {', '.join(missing)}. Next: sudo apt install {packages}"
    return ""


def plugins() -> str:
    """The folder of the CNI plugins, "" when they are not there."""
    return next((f for f in PLUGIN_FOLDERS if all(Path(f, name).exists() for name in PLUGINS)), "")


def start(site: Site, mesh: Mesh, tell: Tell = silent) -> str:
    """Make the hub a node and wait until it is Ready. Gives why this machine cannot be one, else "".

    LabError when something that should work does not.
    """
    why = obstacle(site.lab) or _prepare(site)
    if why:
        return why
    tell = silent if all(map(site.runner.alive, RUNNING)) else tell
    tell(Started("making the hub a Kubernetes node"))
    ground = _ground(site, mesh)
    _credentials(site, ground)
    archive = site.home / "images.tar"
    if not archive.exists():
        images.write(site.home / "images.new", images.node())
        (site.home / "images.new").replace(archive)
    _settings(site, ground)
    _run(site, ground, tell)
    return ""


def _settings(site: Site, ground: Ground) -> None:
    """Write the settings. A program that runs with others ends, to be started again with these."""
    for name, text in settings.files(ground).items():
        target = site.home / name
        target.parent.mkdir(exist_ok=True)
        if not target.exists() or target.read_text() != text:
            site.runner.end(READERS.get(name, ""))
            target.write_text(text)


def condition(ask: Ask, name: str) -> str:
    """What the cluster says of its node: Ready, not Ready, or that there is none."""
    status, body = ask(f"/api/v1/nodes/{name}")
    if status != 200:
        return "unknown to the cluster" if status == 404 else "unknown: the API server does not answer"
    return "Ready" if _is_ready(body) else "not Ready"


def _prepare(site: Site) -> str:
    site.home.mkdir(mode=0o700, exist_ok=True)
    document = json.dumps({"name": cgroups.name(site.lab.directory), "folder": str(site.home)}).encode()
    done = site.lab.host("hub").run(entry.command("node", "prepare"), stdin=document)
    try:
        fault = str(json.loads(done.out)["fault"])
    except (ValueError, KeyError, TypeError):
        last = (done.err.strip().splitlines() or ["no answer"])[-1]
        raise LabError(f"the hub cannot be made a node: {last}", "run `meshwright lab down`, then try again") from None
    return ". Next: ".join(FAULTS[fault]) if fault else ""


def name_of(mesh: Mesh) -> str:
    """The name of the hub's Node."""
    return mesh.hub.node.lower()


def _ground(site: Site, mesh: Mesh) -> Ground:
    """What the settings are made from. The pods' range is above the lab's own addresses in the hub's bridge."""
    rows = json.loads(site.lab.host("hub").run(["ip", "-j", "address", "show", "dev", "cni0"]).out or b"[{}]")
    own = [ip_interface(f"{a['local']}/{a['prefixlen']}") for a in rows[0].get("addr_info", ())]
    bridge = next((a for a in own if a.version == mesh.hub.address.version and not a.ip.is_link_local), None)
    if not bridge:
        raise LabError(
            f"the hub has no part of a pod network of IPv{mesh.hub.address.version}",
            "give `routes` of the mesh file a network `pods` of the family of hub.address",
        )
    used = {ip_address(a) for host in site.lab.state.topology["hosts"] for a in host["addresses"]}
    first, last = _range(bridge.network, max(a for a in {*used, bridge.ip} if a in bridge.network))
    return Ground(
        name=name_of(mesh),
        address=mesh.hub.address,
        server=site.plane.server,
        pki=site.plane.folder / "pki",
        bridge=bridge.network,
        first=first,
        last=last,
        pods=next((n for n in mesh.network.routes.get("pods", ()) if bridge.ip in n), bridge.network),
        dns=str(mesh.network.dns.server) if mesh.network.dns else "",
        plugins=plugins(),
        everywhere=site.plane.everywhere,
        loopback=free(mesh, 10256),
    )


def _range(network: Network, used: Any) -> tuple[Any, Any]:
    """Addresses for pods: above what is used; in a network that is large enough from the hundredth on."""
    first = max(used + 1, network[100] if network.num_addresses >= 200 else network[0])
    last = network[min(network.num_addresses - 2, int(first) - int(network[0]) + 1000)]
    if int(last) - int(first) < 7:
        raise LabError(f"the network {network} has no room for pods", "use a larger network for `pods`")
    return first, last


def _credentials(site: Site, ground: Ground) -> None:
    """What each program signs in with: a certificate of the name that Kubernetes' own roles are bound to."""
    subjects = {
        "kubelet": (f"/O=system:nodes/CN=system:node:{ground.name}", [ground.name, str(ground.address)]),
        "kube-scheduler": ("/CN=system:kube-scheduler", []),
        "kube-proxy": ("/CN=system:kube-proxy", []),
    }
    for name, (subject, names) in subjects.items():
        target = site.home / f"{name}.kubeconfig"
        if not target.exists():
            pki.issue(ground.pki, name, subject, names)
            keys = {f"client-{kind}": str(ground.pki / f"{name}.{end}") for kind, end in _KEYS}
            kubeconfig.write(target, ground.server, ground.pki / "ca.crt", keys)


_KEYS = (("certificate", "crt"), ("key", "key"))


def _run(site: Site, ground: Ground, tell: Tell) -> None:
    commands = settings.arguments(ground, site.programs)
    for name in ("kube-scheduler", "containerd"):
        _begin(site, name, commands[name])
    _until(site, "containerd", lambda: _images(site, "ls", "-q").code == 0)
    tell(Progress("containerd"))
    done = _images(site, "import", str(site.home / "images.tar"))
    if done.code:
        raise LabError(f"the images cannot be loaded: {done.err.strip()[-300:]}", f"look at {site.log('containerd')}")
    for name in ("kubelet", "kube-proxy"):
        _begin(site, name, commands[name])
    _until(site, "kubelet", lambda: _answers(site.ask, ground.name))
    tell(Progress("kubelet"))
    rules = ["nft", "list", "chain", ground.family, "kube-proxy", "services"]
    _until(site, "kube-proxy", lambda: site.lab.host("hub").run(rules).code == 0)
    tell(Progress("kube-proxy"))


def _begin(site: Site, name: str, argv: list[str]) -> None:
    site.runner.start(name, entry.command("node", "run", *argv), site.log(name))


def _images(site: Site, *arguments: str) -> Done:
    argv = ["ctr", "-a", settings.SOCKET, "-n", "k8s.io", "images", *arguments]
    return site.lab.host("hub").run(argv, timeout=120)


def _answers(ask: Ask, name: str) -> bool:
    """Whether the node is Ready, and its kubelet answers itself: what the API server knows may be of an earlier one."""
    return condition(ask, name) == "Ready" and ask(f"/api/v1/nodes/{name}/proxy/healthz") == (200, b"ok")


def _is_ready(node: bytes) -> bool:
    conditions = json.loads(node)["status"].get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _until(site: Site, name: str, there: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not there():
        dead = site.runner.ended()
        if dead or time.monotonic() > end:
            culprit = dead[0] if dead else name
            words = f"{culprit} {'ended' if dead else 'does not become ready'}: {last_words(site.log(culprit))}"
            raise LabError(words, f"its whole log: {site.log(culprit)}")
        time.sleep(0.2)
