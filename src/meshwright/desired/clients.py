"""The operator's files: each device's key pair, its preshared key, and the .conf that a friend is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource, Unknown
from meshwright.spec.model import Device, Mesh, Network, host_network, host_prefix
from meshwright.spec.policy import grants

SECRET = frozenset({("preshared_key",)})


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
    reach = _Reach(mesh, facts)
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
        yield Resource(id, {"preshared_key": Unknown(id, "preshared_key")}, SECRET)


def _client(mesh: Mesh, device: Device, reach: _Reach) -> Resource:
    interface = f"hub/interface/{mesh.hub.interface}"
    preshared = Unknown(f"files/preshared/{device.label}", "preshared_key") if device.preshared_key else ""
    dns = mesh.network.dns
    attrs = Client(
        address=[host_prefix(address) for address in device.addresses],
        public_key=device.public_key or Unknown(f"files/key/{device.label}", "public_key"),
        mtu=device.mtu or mesh.hub.mtu,
        dns=[str(dns.server), *dns.domains] if dns and dns.mode == "all" else [],
        split_dns=[str(dns.server), *dns.domains] if dns and dns.mode == "split" else [],
        hub_key=mesh.hub.public_key or Unknown(interface, "public_key"),
        preshared_key=preshared,
        endpoint=mesh.hub.endpoint,
        allowed_ips=reach.allowed_ips(device),
        keepalive=device.keepalive,
    )
    return Resource(
        f"files/client/{device.label}",
        dict(attrs),
        SECRET,
        after=(interface, f"files/key/{device.label}", f"files/preshared/{device.label}"),
    )


class _Reach:
    """What a device sends into the tunnel, worked out once for all devices of one kind."""

    def __init__(self, mesh: Mesh, facts: Facts) -> None:
        self._mesh = mesh
        self._known: dict[tuple[object, ...], list[str]] = {}
        self._rules: list[tuple[frozenset[Network], tuple[Network, ...], list[Network]]] = []
        lans = [lan for device in mesh.devices for lan in device.lan]
        for grant in grants(mesh, facts.services, facts.now) if lans else ():
            reached = [lan for lan in lans if any(_overlap(lan, to) for to in grant.destinations)]
            if reached:
                narrow = frozenset(n for n in grant.sources if n.prefixlen == n.max_prefixlen)
                wide = tuple(n for n in grant.sources if n not in narrow)
                self._rules.append((narrow, wide, reached))

    def allowed_ips(self, device: Device) -> list[str]:
        """The device's routes in the order of the file, the mesh itself, and the LANs that the policy lets it reach.

        Only of address families that the device has an address of: wg-quick refuses a route it has no address for.
        """
        families = frozenset(address.version for address in device.addresses)
        lans = self._lans(device) if self._rules else ()
        key = (device.routes, families, lans)
        if key not in self._known:
            routes = self._mesh.network.routes
            names = routes if device.routes is None else [name for name in routes if name in device.routes]
            wanted = [*(n for name in names for n in routes[name]), *self._mesh.network.cidr, *lans]
            self._known[key] = [str(n) for n in dict.fromkeys(wanted) if n.version in families]
        return self._known[key]

    def _lans(self, device: Device) -> tuple[Network, ...]:
        """The LANs behind other devices that it may reach."""
        own = [host_network(address) for address in device.addresses]
        return tuple(
            lan
            for narrow, wide, reached in self._rules
            if any(n in narrow or any(_overlap(n, w) for w in wide) for n in own)
            for lan in reached
            if lan not in device.lan
        )


def _overlap(a: Network, b: Network) -> bool:
    return a.version == b.version and a.overlaps(b)
