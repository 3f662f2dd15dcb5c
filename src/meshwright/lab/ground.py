"""The networks of a lab: those of the mesh file, and free ones for all that it does not speak of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import chain, islice
from typing import cast

from meshwright.errors import LabError
from meshwright.spec.model import Address, Device, Mesh, Network

# Where nothing of the mesh lies; the first that fits is taken.
OUTSIDE = {
    4: ("203.0.113.0/24", "198.18.0.0/16", "198.51.0.0/16", "100.64.0.0/16", "11.0.0.0/16"),
    6: ("2001:db8:ffff::/48", "2001:db8:fffe::/48"),
}
HOMES = {4: ("172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10"), 6: ("fd6d:6577::/32", "fd6d:6578::/32")}
HIDDEN_PODS = {4: ("10.42.0.0/16", "10.244.0.0/16", "172.20.0.0/16", "100.96.0.0/16"), 6: ("fd6d:7064::/48",)}
TRANSIT = {4: ("169.254.77.0/24", "100.127.77.0/24"), 6: ("fd6d:7472::/64", "fd6d:7473::/64")}


@dataclass(frozen=True, slots=True)
class Ground:
    """The ranges that the whole lab agrees on.

    homes: one per slot. others: routes that no other field holds. segment: what hosts in the server VLAN have an
    address of: the VLAN, and a range for next hops of each IP version that only pods or other routes speak.
    """

    version: int
    outside: Network
    wan: Address
    public: Address
    homes: tuple[Network, ...]
    vlan: tuple[Network, ...]
    pods: tuple[Network, ...]
    others: Mapping[str, tuple[Network, ...]]
    segment: tuple[Network, ...]


def survey(mesh: Mesh, devices: tuple[Device, ...], count: int) -> Ground:
    """The ground for `count` homes. LabError when no address range is left."""
    version, vlan = mesh.hub.address.version, _vlan(mesh)
    avoid = _claimed(mesh)
    outside = _free(OUTSIDE[version], avoid, count + 20)
    found = literal(mesh.hub.endpoint_host)
    usable = found and found.version == version and found != mesh.hub.address
    wan = found if found and usable else outside[2]
    homes = _homes(version, [*avoid, outside, ip_network(wan)], count)
    pods = _pods(mesh, vlan, [*avoid, outside, *homes])
    others = _others(mesh, vlan, devices)
    segment = (*vlan, *_transit({n.version for n in chain(pods, *others.values())} - {n.version for n in vlan}, avoid))
    return Ground(version, outside, wan, outside[1], homes, vlan, pods, others, segment)


def literal(text: str) -> Address | None:
    """The address that a text is, if it is one."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def chunks(pods: tuple[Network, ...]) -> list[tuple[Network, Network | None]]:
    """Each pod network as the hub's part and node2's part (None where it is too small to share)."""
    out: list[tuple[Network, Network | None]] = []
    for network in pods:
        length = max(24 if network.version == 4 else 64, network.prefixlen + 1)
        if length > network.max_prefixlen - 3:
            out.append((network, None))
        else:
            first, second = islice(network.subnets(new_prefix=length), 2)
            out.append((cast(Network, first), cast(Network, second)))
    return out


def first_of_each(networks: Iterable[Network]) -> list[Network]:
    """One network of each IP version."""
    found: dict[int, Network] = {}
    for network in networks:
        found.setdefault(network.version, network)
    return list(found.values())


def _claimed(mesh: Mesh) -> list[Network]:
    """Every network that the mesh file speaks of, disabled devices' too."""
    routes = chain.from_iterable(mesh.network.routes.values())
    lans = chain.from_iterable(d.lan for d in mesh.devices)
    return [*mesh.network.cidr, *routes, *lans, *_vlan(mesh)]


def _vlan(mesh: Mesh) -> tuple[Network, ...]:
    """The server VLAN: the route that holds hub.address, else the /24 (or /64) around it."""
    address = mesh.hub.address
    for networks in mesh.network.routes.values():
        if any(address in n and n.num_addresses >= 8 for n in networks if n.version == address.version):
            return networks
    length = 24 if address.version == 4 else 64
    return (ip_network(f"{address}/{length}", strict=False),)


MOST_HOMES = 65536


def _homes(version: int, avoid: list[Network], count: int) -> tuple[Network, ...]:
    """`count` home networks that overlap nothing of the mesh."""
    length = 24 if version == 4 else 64
    out: list[Network] = []
    for text in HOMES[version]:
        # of an IPv6 range only the beginning: one that is taken as a whole would be searched for hours
        subnets: Iterator[Network] = ip_network(text).subnets(new_prefix=length)
        for network in islice(subnets, MOST_HOMES):
            if not _clash(network, avoid):
                out.append(network)
            if len(out) == count:
                return tuple(out)
    raise LabError("the mesh file leaves no address range free for the peers' homes", "use smaller networks there")


def _pods(mesh: Mesh, vlan: tuple[Network, ...], avoid: list[Network]) -> tuple[Network, ...]:
    declared = mesh.network.routes.get("pods", ())
    if declared and set(declared) != set(vlan):
        return declared
    return (_free(HIDDEN_PODS[mesh.hub.address.version], avoid, 1024),)


def _others(mesh: Mesh, vlan: tuple[Network, ...], devices: tuple[Device, ...]) -> dict[str, tuple[Network, ...]]:
    """Routes that are neither the VLAN, pods, services, the mesh itself, nor a friend's LAN."""
    skip = (*vlan, *mesh.network.cidr, *(n for d in devices for n in d.lan))
    out = {}
    for name, networks in mesh.network.routes.items():
        if name not in ("pods", "services") and (left := tuple(n for n in networks if not _clash(n, skip))):
            out[name] = left
    return out


def _transit(versions: Iterable[int], avoid: list[Network]) -> Iterator[Network]:
    for version in sorted(versions):
        yield _free(TRANSIT[version], avoid, 64)


def _free(candidates: Iterable[str], avoid: Iterable[Network], size: int) -> Network:
    taken = list(avoid)
    for text in candidates:
        network = ip_network(text)
        if network.num_addresses >= size and not _clash(network, taken):
            return network
    raise LabError(
        "the mesh file leaves no address range free for the lab's own networks", "use smaller networks in the mesh file"
    )


def _clash(network: Network, others: Iterable[Network]) -> bool:
    return any(network.version == o.version and network.overlaps(o) for o in others)
