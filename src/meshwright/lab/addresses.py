"""Which address each host of the house has in a network it is in. Pure."""

from __future__ import annotations

from meshwright.errors import LabError
from meshwright.lab.ground import Ground, chunks
from meshwright.spec.model import Address, Mesh, Network


def nth(network: Network, number: int) -> Address:
    """An address inside, counted from the start; in a small network as near as it goes."""
    last = network.num_addresses - (2 if network.version == 4 and network.num_addresses > 2 else 1)
    return network[min(number, last)]


def unused(network: Network, used: set[Address], start: int = 0) -> Address:
    """An address of the network that nobody uses: from its middle on, wrapping once."""
    middle = network.num_addresses // 2
    for number in range(min(network.num_addresses, 4096)):
        address = network[(middle + start + number) % network.num_addresses]
        if address not in used and address != network.network_address:
            return address
    raise LabError(f"the network {network} has no address left for a stand-in", "use a larger network for `services`")


def gateway(mesh: Mesh, network: Network) -> Address:
    return nth(network, 1) if nth(network, 1) != mesh.hub.address else nth(network, 3)


def hub(mesh: Mesh, network: Network) -> Address:
    return mesh.hub.address if mesh.hub.address in network else nth(network, 20)


def node2(mesh: Mesh, network: Network) -> Address:
    taken = {gateway(mesh, network), hub(mesh, network)}
    return next(a for a in (nth(network, n) for n in (21, 22, 4, 5, 6, 2)) if a not in taken)


def leg(ground: Ground, name: str, segment: Network) -> Address:
    """Where in the server VLAN the host that stands for a route can be reached."""
    return nth(segment, 30 + list(ground.others).index(name))


def in_chunk(pod: str, chunk: tuple[Network, Network | None]) -> tuple[Address, Network]:
    """A pod's address in a pod network, and the part of it that the pod's node has."""
    mine, theirs = chunk
    if pod == "pod2":
        return (nth(theirs, 10), theirs) if theirs else (nth(mine, 11), mine)
    return nth(mine, {"pod1": 10, "coredns": 53}[pod]), mine


def of_pod(ground: Ground, pod: str, version: int) -> Address | None:
    """A pod's first address of an IP version, if it has one."""
    found = (in_chunk(pod, chunk)[0] for chunk in chunks(ground.pods))
    return next((a for a in found if a.version == version), None)
