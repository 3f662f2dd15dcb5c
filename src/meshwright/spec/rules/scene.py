"""What a rule looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from meshwright.spec.model import Device, Mesh, Network, Peer
from meshwright.spec.nodes import Path


@dataclass(frozen=True, slots=True)
class Scene:
    """A mesh at one moment.

    lost: names of the file whose owners are at fault themselves and may be missing from the mesh.
    sound: nothing of the file is missing from the mesh.
    """

    mesh: Mesh
    now: datetime
    lost: frozenset[str] = field(default=frozenset())
    sound: bool = True

    def devices(self) -> Iterator[tuple[Path, Device]]:
        """Every device with the path of what it says about itself."""
        for device in self.mesh.devices:
            yield device_path(device), device

    def peers(self) -> Iterator[tuple[Path, Peer]]:
        for name, peer in self.mesh.peers.items():
            yield ("peers", name), peer

    def routes(self) -> Iterator[tuple[Path, Network]]:
        for name, networks in self.mesh.network.routes.items():
            for index, network in enumerate(networks):
                yield ("network", "routes", name, index), network

    def lans(self) -> Iterator[tuple[Path, Network]]:
        for path, device in self.devices():
            for index, network in enumerate(device.lan):
                yield (*path, "lan", index), network


def device_path(device: Device) -> Path:
    return ("peers", device.peer, "devices", device.name) if device.name else ("peers", device.peer)


def dotted(path: Path) -> str:
    """The path as a message names another place: `peers.bjorn.lan`; the index of a list says little there."""
    return ".".join(part for part in path if isinstance(part, str))
