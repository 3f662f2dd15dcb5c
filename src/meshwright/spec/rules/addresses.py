"""Addresses and networks: inside, outside, taken, overlapping. Everything sorts, nothing compares all with all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from meshwright.spec.model import Address, Network
from meshwright.spec.nodes import Fault, Path
from meshwright.spec.rules.scene import Scene, dotted

# Networks that home routers hand out from the box: a friend at home would reach his own devices instead.
HOME = tuple(
    ip_network(text)
    for text in (
        *(f"192.168.{n}.0/24" for n in (0, 1, 2, 8, 11, 15, 31, 50, 68, 86, 88, 100, 123, 178, 179, 188, 254)),
        "10.0.0.0/24",
        "10.0.1.0/24",
        "10.1.1.0/24",
        "10.1.10.0/24",
    )
)
_HOME_HINT = "renumber it while few peers know it; their own network wins over the tunnel's, or the other way round"


def _taken(address: Address, cidr: Iterable[Network]) -> str | None:
    """Why no host of the mesh may have this address."""
    home = next((network for network in cidr if address in network), None)
    if home is None:
        return "is outside network.cidr"
    if home.num_addresses <= 2:
        return None
    if address == home.network_address:
        return f"is the network address of {home}"
    if address.version == 4 and address == home.broadcast_address:
        return f"is the broadcast address of {home}"
    return None


def hub_addresses(scene: Scene) -> Iterator[Fault]:
    """The hub has an address of each family of the network, and no other."""
    network = scene.mesh.network
    for index, address in enumerate(network.hub):
        why = _taken(address, network.cidr)
        if why:
            yield Fault(("network", "hub", index), f"{address} {why}", _cidr_hint(scene))
        elif address in network.hub[:index]:
            yield Fault(("network", "hub", index), f"{address} is here twice", "keep one of them")
    address = scene.mesh.hub.address
    if any(address in cidr for cidr in network.cidr):
        text = f"{address} lies inside network.cidr: this is the hub's address outside the tunnel"
        yield Fault(("hub", "address"), text, "give its address in the house; network.hub is the one in the tunnel")
    for version in sorted({n.version for n in network.cidr} - {a.version for a in network.hub}):
        text = f"network.cidr has IPv{version}, the hub has no IPv{version} address"
        yield Fault(("network", "hub"), text, "add one to network.hub", on_key=True)


def _cidr_hint(scene: Scene) -> str:
    return f"network.cidr is {', '.join(map(str, scene.mesh.network.cidr))}"


def device_addresses(scene: Scene) -> Iterator[Fault]:
    """Every device has addresses of its own inside the network."""
    network = scene.mesh.network
    seen: dict[Address, str] = dict.fromkeys(network.hub, "the hub")
    edges = {network.network_address for network in network.cidr} | {n.broadcast_address for n in network.cidr}
    spans = [(n.version, int(n.network_address), int(n.broadcast_address)) for n in network.cidr]
    for path, device in scene.devices():
        for index, address in enumerate(device.addresses):
            value = int(address)
            inside = any(v == address.version and low <= value <= high for v, low, high in spans)
            if not inside or address in edges:
                why = _taken(address, network.cidr)
                if why:
                    yield Fault((*path, "address", index), f"{address} {why}", _cidr_hint(scene))
                    continue
            other = seen.setdefault(address, device.reference)
            if other != device.reference or address in device.addresses[:index]:
                owner = "here twice" if other == device.reference else f"the address of {other} too"
                yield Fault((*path, "address", index), f"{address} is {owner}", "take another one")


def overlaps(scene: Scene) -> Iterator[Fault]:
    """One destination must mean one place: routes, LANs and the network itself do not overlap."""
    network = scene.mesh.network
    own = [(("network", "cidr", index), n) for index, n in enumerate(network.cidr)]
    # a route that is the network itself only gives it a name
    routes = [(path, n) for path, n in scene.routes() if n not in network.cidr]
    naming = [path for path, n in scene.routes() if n in network.cidr]
    hub = ip_network(scene.mesh.hub.address)
    lans = list(scene.lans())
    yield from _crossing([*own, *routes, *lans])
    yield from (
        Fault(path, f"{n} holds hub.address ({scene.mesh.hub.address})", "a peer's LAN cannot hold the hub")
        for path, n in lans
        if hub.version == n.version and hub.network_address in n
    )
    names = {path[:3] for path in naming}
    if len(names) > len(network.cidr):
        yield Fault(naming[-1], "another route names the network already", "keep one of them")


def _crossing(places: list[tuple[Path, Network]]) -> Iterator[Fault]:
    """Overlaps found by one walk over the sorted networks: each is compared with the widest before it."""
    rows = sorted(
        ((n.version, int(n.network_address), -int(n.broadcast_address), order) for order, (_, n) in enumerate(places))
    )
    widest: tuple[int, int, int] | None = None
    for version, low, minus_high, order in rows:
        if widest and widest[0] == version and low <= widest[1]:
            # the one that comes later in the file is told of the one before it
            first, second = sorted((widest[2], order))
            path, n = places[second]
            other_path, other = places[first]
            yield Fault(path, f"{n} overlaps {dotted(other_path)} ({other})", "no two may overlap")
        if not widest or widest[0] != version or -minus_high > widest[1]:
            widest = (version, -minus_high, order)


def home_networks(scene: Scene) -> Iterator[Fault]:
    """Networks that many friends have at home already."""
    for path, network in (*scene.routes(), *scene.lans()):
        if network in scene.mesh.network.cidr:
            continue
        common = next((home for home in HOME if home.version == network.version and home.overlaps(network)), None)
        if common is not None:
            text = f"{network} holds {common}," if common != network else f"{network} is"
            yield Fault(path, f"{text} a network that many home routers use", _HOME_HINT, "warning")


def families(scene: Scene) -> Iterator[Fault]:
    """A client without an address of a family cannot send anything of that family."""
    have = {n.version for n in scene.mesh.network.cidr}
    for path, network in (*scene.routes(), *scene.lans()):
        if network.version not in have:
            text = f"network.cidr has no IPv{network.version}: nobody can reach {network}"
            yield Fault(path, text, f"add an IPv{network.version} network to network.cidr", "warning")
