"""The operator's files: each device's key pair, its preshared key, and the .conf that a friend is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network
from typing import TypedDict

from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource, Unknown
from meshwright.spec.model import Device, Mesh, Network
from meshwright.spec.policy import Grant, grants


class Client(TypedDict):
    """What a .conf says, in the words of wg-quick(8). `public_key` is the device's own, `hub_key` the hub's."""

    address: list[str]
    public_key: str | Unknown
    mtu: int
    dns: list[str]
    split_dns: list[str]
    hub_key: str | Unknown
    preshared_key: str | Unknown
    endpoint: str
    allowed_ips: list[str]
    keepalive: int


def build(mesh: Mesh, facts: Facts) -> Iterator[Resource]:
    """Key pairs and preshared keys of all devices, a .conf for each active one."""
    reach = _Reach(mesh, grants(mesh, facts.services, facts.now))
    for device in mesh.devices:
        yield from _keys(device)
        if device.active(facts.now):
            yield _client(mesh, device, reach)


def _keys(device: Device) -> Iterator[Resource]:
    # a disabled device keeps its keys: enabled again, its .conf still works
    if not device.public_key:
        id = f"files/key/{device.label}"
        yield Resource(id, {"public_key": Unknown(id, "public_key")})
    if device.preshared_key:
        id = f"files/preshared/{device.label}"
        yield Resource(id, {"preshared_key": Unknown(id, "preshared_key")}, frozenset({("preshared_key",)}))


def _client(mesh: Mesh, device: Device, reach: _Reach) -> Resource:
    interface = f"hub/interface/{mesh.hub.interface}"
    preshared = Unknown(f"files/preshared/{device.label}", "preshared_key") if device.preshared_key else ""
    dns = mesh.network.dns
    attrs = Client(
        address=[str(ip_network(address)) for address in device.addresses],
        public_key=device.public_key or Unknown(f"files/key/{device.label}", "public_key"),
        mtu=device.mtu or mesh.hub.mtu,
        dns=[str(dns.server), *dns.domains] if dns and dns.mode == "all" else [],
        split_dns=[str(dns.server), *dns.domains] if dns and dns.mode == "split" else [],
        hub_key=mesh.hub.public_key or Unknown(interface, "public_key"),
        preshared_key=preshared,
        endpoint=mesh.hub.endpoint,
        allowed_ips=[str(network) for network in _allowed_ips(mesh, device, reach)],
        keepalive=device.keepalive,
    )
    return Resource(
        f"files/client/{device.label}",
        dict(attrs),
        frozenset({("preshared_key",)}),
        after=(interface, f"files/key/{device.label}", f"files/preshared/{device.label}"),
    )


def _allowed_ips(mesh: Mesh, device: Device, reach: _Reach) -> Sequence[Network]:
    """The device's routes in the order of the file, the mesh itself, and the LANs that the policy lets it reach.

    Only of address families that the device has an address of: wg-quick refuses a route it has no address for.
    """
    routes = mesh.network.routes
    names = routes if device.routes is None else [name for name in routes if name in device.routes]
    wanted = [network for name in names for network in routes[name]]
    wanted += mesh.network.cidr
    wanted += reach.lans(device)
    families = {address.version for address in device.addresses}
    return list(dict.fromkeys(network for network in wanted if network.version in families))


class _Reach:
    """Which LANs behind other devices a device may reach, answered without walking every grant per device."""

    def __init__(self, mesh: Mesh, all_grants: Iterable[Grant]) -> None:
        lans = [lan for device in mesh.devices for lan in device.lan]
        self._rules: list[tuple[frozenset[Network], tuple[Network, ...], list[Network]]] = []
        for grant in all_grants if lans else ():
            reached = [lan for lan in lans if any(_overlap(lan, to) for to in grant.destinations)]
            if reached:
                narrow = frozenset(n for n in grant.sources if n.prefixlen == n.max_prefixlen)
                wide = tuple(n for n in grant.sources if n not in narrow)
                self._rules.append((narrow, wide, reached))

    def lans(self, device: Device) -> list[Network]:
        own = [ip_network(address) for address in device.addresses]
        return [
            lan
            for narrow, wide, reached in self._rules
            if any(n in narrow or any(_overlap(n, w) for w in wide) for n in own)
            for lan in reached
            if lan not in device.lan
        ]


def _overlap(a: Network, b: Network) -> bool:
    return a.version == b.version and a.overlaps(b)
