"""Where each peer goes in the mesh's network: its allowed IPs, taken apart into addresses and networks behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network

from meshwright.adopt.source import Client, quoted
from meshwright.errors import MeshwrightError
from meshwright.spec.model import Address, Network

MOST = 1000


@dataclass(frozen=True)
class Placed:
    """A peer with its label. lost: what of its allowed IPs cannot be said, and other notes."""

    label: str
    client: Client
    addresses: tuple[Address, ...]
    lan: tuple[Network, ...]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nets:
    """The mesh's networks and the hub's addresses in them."""

    cidr: tuple[Network, ...]
    hub: tuple[Address, ...]
    notes: tuple[str, ...] = ()


def networks(addresses: Sequence[str], clients: Sequence[Client]) -> Nets:
    """The networks that the hub's addresses span. A hub with a lone address gets the least that holds its peers too."""
    own = [ip_interface(text) for text in addresses]
    notes: list[str] = []
    found: list[Network] = []
    for each in own:
        net: Network = each.network
        if net.num_addresses == 1:
            net = _around(each.ip, clients)
            notes.append(f"the hub's {each} has no network around it: {net} is taken, which holds all its peers")
        found.append(net)
    wide = [n for n in found if not any(n != m and n.version == m.version and n.subnet_of(m) for m in found)]  # type: ignore[arg-type]
    return Nets(tuple(dict.fromkeys(wide)), tuple(dict.fromkeys(each.ip for each in own)), tuple(notes))


def _around(address: Address, clients: Sequence[Client]) -> Network:
    hosts = [net.network_address for client in clients for net in _nets(client) if _alone(net, address.version)]
    net: Network = ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False)
    least = 8 if address.version == 4 else 48
    while net.prefixlen > least and not all(host in net for host in hosts):
        net = net.supernet()
    return net


def _alone(net: Network, version: int) -> bool:
    return net.version == version and net.num_addresses == 1


def _nets(client: Client) -> Iterator[Network]:
    return (ip_network(text) for text in client.allowed_ips)


def place(labels: Sequence[str], clients: Sequence[Client], nets: Nets, hub: Address) -> list[Placed]:
    """Every peer's place. Nobody has what another has; a peer without an address in the network is given a free one."""
    _check_size(clients, nets)
    taken: dict[Network, str] = {ip_network(address): "the hub" for address in nets.hub}
    out: list[Placed] = []
    for label, client in zip(labels, clients, strict=True):
        addresses: list[Address] = []
        lan: list[Network] = []
        lost: list[str] = []
        for net in _nets(client):
            why = _unsayable(net, nets, hub, taken)
            if why:
                lost.append(f"its {net} {why}; the first apply takes it away")
                continue
            taken[net] = label
            (addresses if _inside(net, nets) else lan).append(net.network_address if _inside(net, nets) else net)  # type: ignore[arg-type]
        out.append(Placed(label, client, tuple(addresses), tuple(lan), tuple(lost)))
    return list(_housed(out, nets, taken))


def _check_size(clients: Sequence[Client], nets: Nets) -> None:
    """Each network is compared with all others; a homelab has few."""
    count = sum(not _inside(net, nets) for client in clients for net in _nets(client))
    if count > MOST:
        raise MeshwrightError(
            f"{count} networks behind peers; at most {MOST} can be imported", "write them together as wider networks"
        )


def _inside(net: Network, nets: Nets) -> bool:
    return net.num_addresses == 1 and any(net.network_address in cidr for cidr in nets.cidr)


def _unsayable(net: Network, nets: Nets, hub: Address, taken: dict[Network, str]) -> str:
    """Why a mesh file cannot say that this belongs to the peer, "" when it can."""
    if net in taken:
        return f"belongs to {taken[net]} too: WireGuard gives it to one of them only"
    if _inside(net, nets):
        edge = any(c.num_addresses > 2 and _edge(net.network_address, c) for c in nets.cidr)
        return "is no host's address" if edge else ""
    if any(net.version == c.version and net.overlaps(c) for c in nets.cidr):
        return "lies across the mesh's own network, which a network behind a peer cannot"
    crossing = [other for other in taken if other.version == net.version and other.overlaps(net)]
    if crossing:
        return f"overlaps {crossing[0]}, which is behind {taken[crossing[0]]}"
    return "holds the hub's own address in the house" if hub in net else ""


def _edge(address: Address, cidr: Network) -> bool:
    if address not in cidr:
        return False
    return address == cidr.network_address or (cidr.version == 4 and address == cidr.broadcast_address)


def _housed(placed: list[Placed], nets: Nets, taken: dict[Network, str]) -> Iterator[Placed]:
    used = {net.network_address for net in taken if net.num_addresses == 1}
    free = (address for cidr in nets.cidr for address in cidr.hosts() if address not in used)
    for each in placed:
        if each.addresses:
            yield each
            continue
        address = next(free, None)
        if address is None:
            raise MeshwrightError(
                f"{quoted(each.client.name) or each.label} has no address in {', '.join(map(str, nets.cidr))}, and none"
                " is free there",
                "give the peer an address on the hub, or widen the hub's network, then import again",
            )
        given = f"it has no address in the tunnel of its own, so {address} is given to it: add it to its Address line"
        yield replace(each, addresses=(ip_address(address),), lost=(*each.lost, given))
