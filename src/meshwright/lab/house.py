"""The home of a lab's owner and the internet before it: gateway, server VLAN, hub, a second node, pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from meshwright.lab import addresses, iproute, rulesets, services
from meshwright.lab.ground import Ground, chunks, first_of_each, literal
from meshwright.lab.parts import LATER, ROUTER, SERVER, SWITCH, WAN, Link, Place, files
from meshwright.lab.ports import listening
from meshwright.lab.services import Service
from meshwright.spec.model import Address, Mesh, Network


@dataclass(frozen=True, slots=True)
class House:
    """What every host of the house is made from. standins: service name -> addresses we invented for it."""

    mesh: Mesh
    ground: Ground
    standins: Mapping[str, tuple[Address, ...]]
    services: tuple[Service, ...]


def settle(mesh: Mesh, ground: Ground, *, cluster: bool = False) -> House:
    standins = {} if cluster else services.invent(mesh, ground)
    return House(mesh, ground, standins, tuple(services.place(mesh, ground, standins)))


def hosts(house: House) -> list[Place]:
    out = [_inet(house), _gw(house), _hub(house), _node2(house)]
    out += [_pod(house, name) for name in ("pod1", "coredns", "pod2")]
    return out + [_other(house, name, networks) for name, networks in house.ground.others.items()]


def links(house: House) -> list[Link]:
    vlan = [Link(h, "eth0", "gw", f"v-{h}", SERVER) for h in ("hub", "node2")]
    pods = [Link("pod1", "eth0", "hub", "c-pod1", "cni0"), Link("coredns", "eth0", "hub", "c-coredns", "cni0")]
    second = "node2" if any(theirs for _, theirs in chunks(house.ground.pods)) else "hub"
    pods.append(Link("pod2", "eth0", second, "c-pod2", "cni0"))
    more = [Link(f"net.{name}", "eth0", "gw", f"v{n}", SERVER) for n, name in enumerate(house.ground.others)]
    return [Link("gw", WAN, "inet", "p-gw", "wan", iproute.hardware(iproute.HOUSE, 2)), *vlan, *pods, *more]


# -- hosts --------------------------------------------------------------------------------------------------------


def _inet(house: House) -> Place:
    ground = house.ground
    lines = [f"link set wan address {iproute.hardware(iproute.HOUSE, 1)}"]
    lines.append(iproute.add("wan", ground.public, ground.outside))
    if ground.wan not in ground.outside:
        lines.append(f"route add {ground.wan} dev wan")
    if _direct(house.mesh):
        lines.append(f"route add {house.mesh.hub.address} via {ground.wan}")
    return _place(house, "inet", [ground.public], lines, {**ROUTER, **SWITCH})


def _gw(house: House) -> Place:
    ground, mesh = house.ground, house.mesh
    gateways = [addresses.gateway(mesh, n) for n in ground.vlan]
    lines = [f"link set {WAN} up"]
    lines += [iproute.add(SERVER, a, n) for a, n in zip(gateways, ground.vlan, strict=True)]
    if ground.wan in ground.outside:
        lines.append(iproute.add(WAN, ground.wan, ground.outside))
    else:
        lines += [iproute.add(WAN, ground.outside[2], ground.outside), iproute.add(WAN, ground.wan)]
    lines.append(iproute.default(ground.version, ground.public))
    trusting, direct = mesh.network.return_path == "gateway", mesh.hub.address if _direct(mesh) else None
    if trusting:
        lines += _towards_mesh(house)
    nft = rulesets.home_gateway(ground.version, WAN, SERVER, trusting=trusting, direct=direct)
    return _place(house, "gw", [ground.wan, *gateways], lines, {**ROUTER, **SWITCH}, nft)


def _hub(house: House) -> Place:
    mesh, ground = house.mesh, house.ground
    lines = _in_vlan(house, [(addresses.hub(mesh, n), n) for n in ground.segment])
    lines += _bridge(house, 0)
    nodes = {n.version: addresses.node2(mesh, n) for n in ground.segment}
    for _, theirs in chunks(ground.pods):
        if theirs and theirs.version in nodes:
            lines.append(f"route add {theirs} via {nodes[theirs.version]}")
    for name, networks in ground.others.items():
        legs = {n.version: addresses.leg(ground, name, n) for n in ground.segment}
        lines += [f"route add {n} via {legs[n.version]}" for n in networks]
    lines += [f"route add {ip_network(s.address)} via {s.answer.via}" for s in house.services if s.answer.via]
    nat = {s.address: s.answer.nat for s in house.services if s.answer.nat}
    nft = rulesets.kube_proxy(nat, ground.pods, [mine for mine, _ in chunks(ground.pods)])
    sysctl = {**ROUTER, **(LATER if _dns(house, "hub") else {})}
    own = [addresses.hub(mesh, n) for n in ground.vlan]
    return _place(house, "hub", [*own, *mesh.network.hub], lines, sysctl, nft)


def _node2(house: House) -> Place:
    mesh, ground = house.mesh, house.ground
    lines = _in_vlan(house, [(addresses.node2(mesh, n), n) for n in ground.segment])
    lines += _bridge(house, 1)
    hubs = {n.version: addresses.hub(mesh, n) for n in ground.segment}
    lines += [f"route add {mine} via {hubs[mine.version]}" for mine, _ in chunks(ground.pods) if mine.version in hubs]
    if mesh.network.return_path == "nodes":
        lines += _towards_mesh(house)
    return _place(house, "node2", [addresses.node2(mesh, n) for n in ground.vlan], lines, ROUTER)


def _pod(house: House, name: str) -> Place:
    seats = [addresses.in_chunk(name, chunk) for chunk in chunks(house.ground.pods)]
    lines, routed = ["link set eth0 up"], set()
    for address, network in seats:
        lines.append(iproute.add("eth0", address, network))
        if network.version not in routed:
            lines.append(iproute.default(network.version, addresses.nth(network, 1)))
            routed.add(network.version)
    return _place(house, name, [address for address, _ in seats], lines)


def _other(house: House, name: str, networks: tuple[Network, ...]) -> Place:
    """The host that stands for a route of the file."""
    legs = [(addresses.leg(house.ground, name, n), n) for n in house.ground.segment]
    own = [addresses.nth(n, 10) for n in networks]
    lines = [*_in_vlan(house, legs), *(iproute.add("lo", a) for a in own)]
    if house.mesh.network.return_path == "nodes":
        lines += _towards_mesh(house)
    return _place(house, f"net.{name}", [legs[0][0], *own], lines)


# -- what several have in common ------------------------------------------------------------------------------------


def _place(
    house: House,
    name: str,
    own: Iterable[Address],
    lines: list[str],
    sysctl: Mapping[str, str] | None = None,
    nft: str = "",
) -> Place:
    held = list(dict.fromkeys(s.address for s in house.services if s.answer.host == name and s.answer.held))
    served = tuple(str(a) for a in _dns(house, name))
    outside = name == "inet"
    return Place(
        name,
        tuple(str(a) for a in (*own, *held)),
        ("link set lo up", *lines, *(iproute.add("lo", a) for a in held)),
        sysctl or {},
        nft,
        files(name, "127.0.0.1" if outside else house.ground.public),
        _public_names(house) if outside else _cluster_names(house) if served else {},
        served,
        str(house.ground.public) if served and not outside else "",
        tuple(p for p in listening(house.mesh, name) if not (served and p[1] == 53)),
    )


def _dns(house: House, name: str) -> list[Address]:
    """The addresses on which a host answers DNS questions."""
    public = [house.ground.public] if name == "inet" else []
    return public + [s.answer.nat or s.address for s in house.services if s.kind == "dns" and s.answer.host == name]


def _public_names(house: House) -> dict[str, tuple[str, ...]]:
    host = house.mesh.hub.endpoint_host
    names = {} if literal(host) else {host: (str(house.ground.wan),)}
    return {**names, "public.example": (str(house.ground.public),)}


def _cluster_names(house: House) -> dict[str, tuple[str, ...]]:
    dns = house.mesh.network.dns
    out: dict[str, tuple[str, ...]] = {}
    if dns:
        out["kube-dns.kube-system.svc.cluster.local"] = (str(dns.server),)
    for name, service in house.mesh.services.items():
        namespace, _, short = (service.kubernetes or f"default/{name}").partition("/")
        if found := service.address or house.standins.get(name):
            out[f"{short}.{namespace}.svc.cluster.local"] = tuple(str(a) for a in found)
    return out


def _direct(mesh: Mesh) -> bool:
    """Whether peers dial the hub's own address: a hub with a public one, behind a router that only routes."""
    return literal(mesh.hub.endpoint_host) == mesh.hub.address


def _in_vlan(house: House, legs: list[tuple[Address, Network]]) -> list[str]:
    """eth0 of a host in the server VLAN, and its way out."""
    ways = [(n.version, addresses.gateway(house.mesh, n)) for n in first_of_each(house.ground.vlan)]
    return [
        "link set eth0 up",
        *(iproute.add("eth0", address, network) for address, network in legs),
        *(iproute.default(version, gateway) for version, gateway in ways),
    ]


def _towards_mesh(house: House) -> list[str]:
    """Routes to the mesh and to the friends' LANs by the hub's address in the VLAN."""
    networks = [*house.mesh.network.cidr, *(n for d in house.mesh.devices for n in d.lan)]
    hubs = {n.version: addresses.hub(house.mesh, n) for n in house.ground.segment}
    return [f"route add {n} via {hubs[n.version]}" for n in networks if n.version in hubs]


def _bridge(house: House, part: int) -> list[str]:
    """A node's own address in its part of the pod networks."""
    found = [chunk[part] for chunk in chunks(house.ground.pods)]
    return [iproute.add("cni0", addresses.nth(n, 1), n) for n in found if n]
