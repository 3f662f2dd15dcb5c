"""The homes of a lab's peers: a router, the device behind it, and the network behind that where it has one. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from meshwright.lab import iproute, rulesets
from meshwright.lab.addresses import nth
from meshwright.lab.ground import Ground, first_of_each
from meshwright.lab.iproute import HOUSE, hardware, neighbour
from meshwright.lab.parts import CORE, ROUTER, WAN, Link, Place, files
from meshwright.lab.ports import policy_ports
from meshwright.spec.model import Address, Device, Mesh


def names_of(devices: Iterable[Device]) -> dict[str, str]:
    """Device label -> host name: the label itself, unless a host of the house has that name. No label has a dot."""
    return {d.label: f"{d.label}.peer" if d.label in CORE else d.label for d in devices}


def hosts(mesh: Mesh, ground: Ground, device: Device, name: str, slot: int) -> list[Place]:
    """The hosts of one friend's home."""
    lan = [_lan(mesh, device)] if device.lan else []
    return [_router(ground, device, slot), *lan, _device(mesh, ground, device, name, slot)]


def links(ground: Ground, device: Device, name: str, slot: int) -> list[Link]:
    """The cables of one friend's home."""
    nat, mac = f"{device.label}.nat", hardware(slot, 3)
    near = tuple((h, neighbour(_outer(ground, slot), mac, i)) for h, i in (("inet", "wan"), ("gw", WAN)))
    out = [
        Link(nat, WAN, "inet", f"p{slot}", "wan", mac, neighbours=near),
        Link(name, "eth0", nat, "lan0", a_mac=hardware(slot, 2), b_mac=hardware(slot, 1)),
    ]
    return [*out, Link(f"{device.label}.lan", "eth0", name, "lan0")] if device.lan else out


def _outer(ground: Ground, slot: int) -> Address:
    """The address that the internet knows a home by."""
    return ground.outside[slot + 16]


def _router(ground: Ground, device: Device, slot: int) -> Place:
    home, outer, name = ground.homes[slot], _outer(ground, slot), f"{device.label}.nat"
    router, own = home[1], home[2]
    lines = [
        "link set lo up",
        f"link set {WAN} up",
        "link set lan0 up",
        iproute.add(WAN, outer, ground.outside),
        iproute.add("lan0", router, home),
        iproute.default(ground.version, ground.public),
        neighbour(own, hardware(slot, 2), "lan0"),
        neighbour(ground.public, hardware(HOUSE, 1), WAN),
    ]
    if ground.wan in ground.outside:
        lines.append(neighbour(ground.wan, hardware(HOUSE, 2), WAN))
    nft = rulesets.home_router(ground.version, WAN, "lan0")
    return Place(name, (str(outer), str(router)), tuple(lines), ROUTER, nft, files(name, ground.public))


def _device(mesh: Mesh, ground: Ground, device: Device, name: str, slot: int) -> Place:
    home = ground.homes[slot]
    router, own = home[1], home[2]
    lines = [
        "link set lo up",
        "link set eth0 up",
        iproute.add("eth0", own, home),
        iproute.default(ground.version, router),
        neighbour(router, hardware(slot, 1), "eth0"),
    ]
    if device.lan:
        lines += ["link set lan0 up", *(iproute.add("lan0", nth(n, 1), n) for n in device.lan)]
    found = tuple(str(a) for a in (own, *device.addresses, *(nth(n, 1) for n in device.lan)))
    sysctl = ROUTER if device.lan else {}
    return Place(name, found, tuple(lines), sysctl, "", files(name, ground.public), ports=policy_ports(mesh))


def _lan(mesh: Mesh, device: Device) -> Place:
    """A host in the network behind a device."""
    name, own = f"{device.label}.lan", [nth(n, 10) for n in device.lan]
    lines = [
        "link set lo up",
        "link set eth0 up",
        *(iproute.add("eth0", a, n) for a, n in zip(own, device.lan, strict=True)),
        *(iproute.default(n.version, nth(n, 1)) for n in first_of_each(device.lan)),
    ]
    return Place(name, tuple(map(str, own)), tuple(lines), files=files(name, "127.0.0.1"), ports=policy_ports(mesh))
