"""Who has a namespace in the cluster, with the walls around it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshwright.desired.facts import Facts
from meshwright.spec.model import Device, Mesh
from meshwright.spec.walls import Walls, walls


@dataclass(frozen=True, slots=True)
class Tenant:
    """A peer who is active and has a namespace. devices: all of his, `active` those that belong to the mesh now."""

    peer: str
    namespace: str
    walls: Walls
    devices: tuple[Device, ...]
    active: tuple[Device, ...]


def tenants(mesh: Mesh, facts: Facts) -> tuple[Tenant, ...]:
    """Every tenant, in the order of the file."""
    if mesh.kubernetes is None:
        return ()
    devices: dict[str, list[Device]] = {}
    for device in mesh.devices:
        devices.setdefault(device.peer, []).append(device)
    out = []
    for name, peer in mesh.peers.items():
        active = tuple(device for device in devices.get(name, ()) if device.active(facts.now))
        if peer.namespace and active:
            out.append(Tenant(name, peer.namespace, walls(mesh.kubernetes, peer), tuple(devices[name]), active))
    return tuple(out)
