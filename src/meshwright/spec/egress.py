"""Where a friend's pods may start connections to, by his `tenant.egress`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from meshwright.spec import boxes
from meshwright.spec.boxes import Span
from meshwright.spec.model import Mesh, Network, host_network
from meshwright.spec.policy import ANYWHERE
from meshwright.spec.walls import Walls

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))

_NOT_PUBLIC = (
    # RFC 6890 and the IANA registry of special addresses: this host, private, shared (CGNAT), loopback, link-local,
    # protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4"),
    # all but the global unicast addresses (2000::/3), so also loopback, NAT64, unique local, link-local, multicast
    *("::/3", "4000::/2", "8000::/1"),
    # and what of these leads to IPv4 or nowhere: protocol assignments with Teredo, documentation, 6to4
    *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
)


def own_networks(mesh: Mesh) -> tuple[Network, ...]:
    """The mesh's own networks: its addresses, its routes, the hub, the LANs behind peers.

    A route that leads everywhere is no network of the mesh.
    """
    section = mesh.network
    said = [*section.cidr, *(n for networks in section.routes.values() for n in networks)]
    said += [host_network(address) for address in (*section.hub, mesh.hub.address)]
    said += [network for device in mesh.devices for network in device.lan]
    return tuple(network for network in _merged(said) if network.prefixlen)


def not_internet(mesh: Mesh) -> tuple[Network, ...]:
    """What `egress: internet` does not reach: no public addresses, and the mesh's own networks even if they are."""
    return _merged([*_special(), *own_networks(mesh)])


@cache
def _special() -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in _NOT_PUBLIC)


def _merged(networks: Iterable[Network]) -> tuple[Network, ...]:
    """As few as possible, in order, IPv4 first."""
    four: list[IPv4Network] = []
    six: list[IPv6Network] = []
    for network in networks:
        if isinstance(network, IPv4Network):
            four.append(network)
        else:
            six.append(network)
    return (*collapse_addresses(four), *collapse_addresses(six))


def reach(mesh: Mesh, walls: Walls) -> tuple[Span, ...]:
    """Every address that a pod behind these walls may start a connection to, as far as NetworkPolicy says.

    His own namespace and the cluster's DNS, which every pod reaches, are not in it.
    """
    if not walls.network_policy:
        return ANYWHERE
    if walls.egress == "internet":
        return boxes.without(ANYWHERE, _spans(not_internet(mesh)))
    return () if walls.egress == "none" else _spans(walls.egress)


def _spans(networks: Sequence[Network]) -> tuple[Span, ...]:
    return boxes.merge(boxes.span(network) for network in networks)
