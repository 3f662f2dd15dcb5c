"""Lines of ip-batch(8), and the hardware addresses that some of them name. Pure."""

from __future__ import annotations

from meshwright.spec.model import Address, Network

HOUSE = 0xFFFF  # the "slot" of inet and gw


def add(interface: str, address: Address, network: Network | None = None) -> str:
    """`address` on an interface, with the length of the network it lies in; alone without one."""
    length = network.prefixlen if network else address.max_prefixlen
    return f"addr add {address}/{length} dev {interface}{' nodad' if address.version == 6 else ''}"


def default(version: int, gateway: Address) -> str:
    return f"route add {'default' if version == 4 else '::/0'} via {gateway}"


def neighbour(address: Address, mac: str, interface: str) -> str:
    return f"neigh replace {address} lladdr {mac} dev {interface} nud permanent"


def hardware(slot: int, number: int) -> str:
    """Hardware addresses are fixed: the kernel's neighbour table is one for all namespaces and holds 1024 entries, too
    few for 200 peers; permanent entries do not count."""
    return f"02:6d:77:{slot >> 8 & 255:02x}:{slot & 255:02x}:{number:02x}"
