"""The control plane of a lab: where it is, what its settings follow from, whether it is there. Starts nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from ipaddress import ip_network
from itertools import islice
from pathlib import Path

from meshwright.errors import LabError
from meshwright.lab.cluster.control import Plane
from meshwright.lab.ports import policy_ports
from meshwright.spec.model import Mesh, Network

PORT, KUBELET = 6443, 10250
FOLDER = "kubernetes"
RELAY = "api"
# Where services have their addresses when the mesh file has no route of that name.
SERVICES = {4: ("10.43.0.0/16", "10.96.0.0/16", "172.30.0.0/16"), 6: ("fd6d:7363::/108", "fd6d:7364::/108")}
# The API server keeps a bitmap of its range: it takes 20 bits at most.
BITS = 20


def folder(directory: Path) -> Path:
    """All that the control plane keeps, in the directory of its lab."""
    return directory / FOLDER


def friends(directory: Path) -> Path:
    """The friends' kubeconfigs, by device label."""
    return directory / "kubeconfigs"


def there(directory: Path) -> bool:
    """Whether this lab was given a control plane. It may have died."""
    return (folder(directory) / "plane.json").exists()


def relay(directory: Path) -> Path:
    """The socket that leads to the API server, as short as a socket's name must be (unix(7): 107 bytes)."""
    path = directory / RELAY
    if len(os.fsencode(path)) < 100:
        return path
    # by way of a descriptor of this process, which it keeps to its end
    return Path(f"/proc/self/fd/{os.open(directory, os.O_PATH | os.O_DIRECTORY)}/{RELAY}")


def plane(directory: Path, mesh: Mesh) -> Plane:
    """The control plane that this mesh file calls for."""
    etcd = free(mesh, 2379)
    names = [*map(str, mesh.network.hub), mesh.hub.node, mesh.hub.endpoint_host]
    return Plane(
        folder(directory),
        str(mesh.hub.address),
        PORT,
        etcd,
        tuple(dict.fromkeys(names)),
        tuple(_services(mesh)),
        advertise=str(mesh.hub.address),
    )


def free(mesh: Mesh, first: int) -> tuple[int, int]:
    """Two ports for the hub's loopback, from `first` on, that no probe of the lab aims at."""
    taken = {PORT, KUBELET, *(port for kind, port in policy_ports(mesh) if kind == "tcp")}
    one, two = islice((port for port in range(first, 65536) if port not in taken), 2)
    return one, two


def same(wanted: Plane) -> bool:
    """Whether what is there was made for the same settings."""
    try:
        return bool(json.loads((wanted.folder / "plane.json").read_text()) == _plain(wanted))
    except (OSError, ValueError):
        return False


def remember(wanted: Plane) -> None:
    (wanted.folder / "plane.json").write_text(json.dumps(_plain(wanted)))


def node(directory: Path) -> tuple[str, str]:
    """The name of the node, "" when there is none, and why there is none, as the last `lab up` found."""
    try:
        found = json.loads((folder(directory) / "node.json").read_text())
        return str(found["name"]), str(found["why"])
    except (OSError, ValueError):
        return "", "it is not known yet whether the hub can be one"


def remember_node(directory: Path, name: str, why: str) -> None:
    (folder(directory) / "node.json").write_text(json.dumps({"name": name, "why": why}))


def _plain(wanted: Plane) -> object:
    return json.loads(json.dumps(asdict(wanted), default=str))


def _services(mesh: Mesh) -> Iterator[str]:
    """One range per IP version, that of hub.address first: Service `kubernetes` has its address in it."""
    declared: dict[int, Network] = {n.version: _small(n) for n in reversed(mesh.network.routes.get("services", ()))}
    first = mesh.hub.address.version
    yield str(declared.get(first) or _free(mesh, first))
    if other := declared.get(10 - first):
        yield str(other)


def _small(network: Network) -> Network:
    length = max(network.prefixlen, network.max_prefixlen - BITS)
    return ip_network(f"{network.network_address}/{length}")


def _free(mesh: Mesh, version: int) -> Network:
    used = [*mesh.network.cidr, *(n for found in mesh.network.routes.values() for n in found)]
    for text in SERVICES[version]:
        network = ip_network(text)
        if not any(n.version == version and n.overlaps(network) for n in used):
            return network
    raise LabError(
        "the mesh file leaves no range free for the cluster's services", "give `routes` a network `services`"
    )
