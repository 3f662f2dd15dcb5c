"""The hub's WireGuard: the interface and its peers, saved and live, in the words of wg(8) and wg-quick(8)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Any, TypedDict

from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource, Unknown
from meshwright.spec import boxes
from meshwright.spec.boxes import Span
from meshwright.spec.model import Device, Mesh, host_prefix

SECRET = frozenset({("saved", "preshared_key"), ("live", "preshared_key")})


class Interface(TypedDict):
    """`addresses` carry the prefix length of the mesh's network; the saved half also says that boot starts it."""

    public_key: str | Unknown
    listen: int
    addresses: list[str]
    mtu: int


class PeerHalf(TypedDict):
    """`allowed_ips`: the device's addresses and the networks behind it, sorted; "" is no preshared key."""

    public_key: str | Unknown
    allowed_ips: list[str]
    preshared_key: str | Unknown


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """The interface, and a peer for each active device."""
    yield _interface(mesh)
    own = [boxes.span(ip_interface(text).network) for text in _addresses(mesh)]
    for device in mesh.devices:
        if device.active(facts.now):
            yield _peer(mesh, device, own)


def _interface(mesh: Mesh) -> Resource:
    id = f"hub/interface/{mesh.hub.interface}"
    half = Interface(
        public_key=mesh.hub.public_key or Unknown(id, "public_key"),
        listen=mesh.hub.port,
        addresses=sorted(_addresses(mesh)),
        mtu=mesh.hub.mtu,
    )
    attrs: dict[str, Any] = {"saved": {**half, "enabled": True}, "live": dict(half)}
    return Resource(id, attrs, after=(f"hub/closed/{mesh.hub.interface}", f"hub/table/{mesh.table}"))


def _addresses(mesh: Mesh) -> Iterator[str]:
    """Each of the hub's addresses with the length of the mesh network that holds it."""
    for address in mesh.network.hub:
        lengths = [n.prefixlen for n in mesh.network.cidr if n.version == address.version and address in n]
        yield str(ip_interface(f"{address}/{max(lengths, default=address.max_prefixlen)}"))


def _peer(mesh: Mesh, device: Device, own: list[Span]) -> Resource:
    """`own`: the interface's own networks; what lies in none of them needs a route."""
    label = device.label
    behind = {host_prefix(address): boxes.host(address) for address in device.addresses}
    behind |= {str(network): boxes.span(network) for network in device.lan}
    allowed = sorted(behind)
    routes = [text for text in allowed if not any(_inside(behind[text], span) for span in own)]
    preshared: str | Unknown = ""
    if device.preshared_key:
        preshared = Unknown(f"files/preshared/{label}", "preshared_key")
    half = PeerHalf(
        public_key=device.public_key or Unknown(f"files/key/{label}", "public_key"),
        allowed_ips=allowed,
        preshared_key=preshared,
    )
    attrs: dict[str, Any] = {"saved": dict(half), "live": {**half, "routes": routes}}
    after = (f"hub/interface/{mesh.hub.interface}", f"files/key/{label}", f"files/preshared/{label}")
    return Resource(f"hub/peer/{label}", attrs, SECRET, after)


def _inside(span: Span, whole: Span) -> bool:
    return span.version == whole.version and whole.low <= span.low and span.high <= whole.high
