"""The hub's WireGuard: the interface and its peers, saved and live, in the words of wg(8) and wg-quick(8)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Any, TypedDict

from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource, Unknown
from meshwright.spec.model import Device, Mesh, host_network


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
    yield _interface(mesh, facts)
    for device in mesh.devices:
        if device.active(facts.now):
            yield _peer(mesh, facts, device)


def _interface(mesh: Mesh, facts: Facts) -> Resource:
    id = f"hub/interface/{mesh.hub.interface}"
    half = Interface(
        public_key=mesh.hub.public_key or facts.hub_key or Unknown(id, "public_key"),
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


def _peer(mesh: Mesh, facts: Facts, device: Device) -> Resource:
    label = device.label
    allowed = sorted(str(n) for n in [*(host_network(a) for a in device.addresses), *device.lan])
    preshared: str | Unknown = ""
    if device.preshared_key:
        known = facts.preshared.get(label)
        preshared = known.reveal() if known else Unknown(f"files/preshared/{label}", "preshared_key")
    half = PeerHalf(
        public_key=device.public_key or facts.device_keys.get(label) or Unknown(f"files/key/{label}", "public_key"),
        allowed_ips=allowed,
        preshared_key=preshared,
    )
    attrs: dict[str, Any] = {"saved": dict(half), "live": {**half, "routes": _routes(mesh, allowed)}}
    secret = frozenset({("saved", "preshared_key"), ("live", "preshared_key")})
    after = (f"hub/interface/{mesh.hub.interface}", f"files/key/{label}", f"files/preshared/{label}")
    return Resource(f"hub/peer/{label}", attrs, secret, after)


def _routes(mesh: Mesh, allowed: list[str]) -> list[str]:
    """What the interface's own networks do not reach and so needs a route."""
    own = [ip_interface(text).network for text in _addresses(mesh)]
    networks = [ip_interface(text).network for text in allowed]
    return [str(n) for n in networks if not any(n.version == o.version and n.subnet_of(o) for o in own)]  # type: ignore[arg-type]
