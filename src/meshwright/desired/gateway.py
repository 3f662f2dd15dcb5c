"""The home gateway: the port that the endpoint names leads to the hub. Says what, never how: kinds are providers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from meshwright.desired.resource import Resource
from meshwright.spec.model import Mesh, NoGateway


class PortForward(TypedDict):
    """One port forward: `port` on the outside leads to `to`:`to_port`."""

    protocol: str
    port: int
    to: str
    to_port: int


def build(mesh: Mesh) -> Iterator[Resource]:
    """The one forward of the mesh, or nothing where the gateway is not ours to manage."""
    gateway = mesh.gateway
    if gateway is None or isinstance(gateway, NoGateway):
        return
    forward = PortForward(
        protocol="udp",
        port=gateway.forward.from_ or mesh.hub.endpoint_port,
        to=str(mesh.hub.address),
        to_port=mesh.hub.port,
    )
    yield Resource(
        f"gateway/forward/{mesh.name}",
        {"saved": dict(forward), "live": dict(forward)},
        after=(f"hub/interface/{mesh.hub.interface}",),
    )
