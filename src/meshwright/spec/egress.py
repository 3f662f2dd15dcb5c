"""Where a friend's pods may start connections to, by his `tenant.egress`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import NamedTuple

from meshwright.spec import boxes
from meshwright.spec.boxes import Span
from meshwright.spec.model import Address, Mesh, Network, Test, host_network
from meshwright.spec.policy import ANYWHERE, Grant, Names
from meshwright.spec.walls import Walls, walls

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

_OWN = {4: 8, 6: 16}
"""What is shorter than this prefix is no network that anybody has at home."""


def own_networks(mesh: Mesh) -> tuple[Network, ...]:
    """The mesh's own networks: its addresses, its routes, the hub, the LANs behind peers.

    A route that leads to the world, as clients that send everything into the tunnel have it, is no network of ours.
    """
    section = mesh.network
    said = [*section.cidr, *(n for networks in section.routes.values() for n in networks)]
    said += [host_network(address) for address in (*section.hub, mesh.hub.address)]
    said += [network for device in mesh.devices for network in device.lan]
    return _merged(network for network in said if network.prefixlen >= _OWN[network.version])


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


def reach(mesh: Mesh, his: Walls) -> tuple[Span, ...]:
    """Every address that a pod behind these walls may start a connection to, as far as NetworkPolicy says.

    His own namespace and the cluster's DNS, which every pod reaches, are not in it. Who may dial pods may dial the
    Services before them: NetworkPolicy sees the pod that a Service has led to.
    """
    if not his.network_policy:
        return ANYWHERE
    if his.egress == "internet":
        return boxes.without(ANYWHERE, _spans(not_internet(mesh)))
    opened = () if his.egress == "none" else _spans(his.egress)
    pods, services = (_spans(mesh.network.routes.get(name, ())) for name in ("pods", "services"))
    return boxes.merge([*opened, *services]) if boxes.overlap(opened, pods) else opened


def _spans(networks: Sequence[Network]) -> tuple[Span, ...]:
    return boxes.merge(boxes.span(network) for network in networks)


def kept_off(names: Names, rules: Sequence[Grant]) -> tuple[Span, ...]:
    """What the hub's firewall keeps every pod from, whatever NetworkPolicy says: the friends and their LANs.

    Only what a rule lets in from somewhere outside the tunnel may reach them.
    """
    tunnel = [boxes.host(a) for device in names.active for a in device.addresses]
    tunnel += [boxes.span(lan) for device in names.active for lan in device.lan]
    outside = [rule for rule in rules if not all(map(names.inside, rule.from_))]
    let_in = boxes.merge(item for rule in outside for item in rule.destination_spans)
    return boxes.without(boxes.merge(tunnel), let_in)


class Leak(NamedTuple):
    """A friend's pods reach what a test denies him."""

    peer: str
    address: Address

    def __str__(self) -> str:
        return f"pods of {self.peer} may reach {self.address}"


class Pods:
    """Judges the pods of friends as the tunnel is judged; what is the same for all tests is worked out once."""

    def __init__(self, names: Names, rules: Sequence[Grant]) -> None:
        self._names = names
        self._kept_off = kept_off(names, rules)
        self._kinds = _kinds(names)

    def leak(self, test: Test) -> Leak | None:
        """One friend of those that a denied test speaks of, and one address that his pods reach nevertheless."""
        if test.expect != "deny" or not self._kinds:
            return None
        there = boxes.without(self._names.spans(test.to), self._kept_off)
        for reached, owners in self._kinds:
            if found := boxes.overlap(there, reached):
                sources = self._names.spans(test.from_)
                for item, peer in owners:
                    if boxes.overlap((item,), sources):
                        return Leak(peer, boxes.address(found[0].version, found[0].low))
        return None


def _kinds(names: Names) -> list[tuple[tuple[Span, ...], list[tuple[Span, str]]]]:
    """What pods reach, each with the tunnel addresses of the friends whose pods those are."""
    mesh = names.mesh
    if mesh.kubernetes is None:
        return []
    around = {name: walls(mesh.kubernetes, peer) for name, peer in mesh.peers.items() if peer.namespace}
    found: dict[tuple[bool, object], list[tuple[Span, str]]] = {}
    for device in names.active:
        if device.peer in around:
            his = around[device.peer]
            owners = found.setdefault((his.network_policy, his.egress), [])
            owners += [(boxes.host(address), device.peer) for address in device.addresses]
    return [(reach(mesh, around[owners[0][1]]), owners) for owners in found.values()]
