"""What a probe may aim at in a lab. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshwright.lab import addresses
from meshwright.lab.addresses import nth
from meshwright.lab.ground import Ground, chunks
from meshwright.lab.house import House
from meshwright.lab.parts import CLUSTER, Target
from meshwright.lab.ports import ends, listening, policy_ports
from meshwright.lab.services import Service
from meshwright.spec.model import Address, Device, Mesh

DNS = (("udp", 53), ("tcp", 53))


def of_house(house: House) -> Iterator[Target]:
    mesh = house.mesh
    for address in mesh.network.hub:
        yield _target(mesh, "hub", "hub", address, "hub")
    for name, address, host in _routes(mesh, house.ground):
        yield _target(mesh, name, "route", address, host)
    for service in house.services:
        yield _service(mesh, service)
    yield _target(mesh, "internet", "outside", house.ground.public, "inet")


def of_peers(mesh: Mesh, devices: tuple[Device, ...], names: Mapping[str, str]) -> Iterator[Target]:
    ports = policy_ports(mesh)
    for device in devices:
        for address in device.addresses:
            yield Target(device.reference, "peer", str(address), names[device.label], ports)
        for network in device.lan:
            yield Target(f"{device.reference}.lan", "lan", str(nth(network, 10)), f"{device.label}.lan", ports)


def of_services(mesh: Mesh, resolved: Mapping[str, tuple[Address, ...]]) -> Iterator[Target]:
    """The `kubernetes:` services of the file where a cluster has them. What listens there is not the lab's."""
    for name, service in mesh.services.items():
        ports = tuple(dict.fromkeys(p for text in service.ports for p in ends(text)))
        for address in resolved.get(name, ()) if service.kubernetes and not service.address else ():
            yield Target(name, "service", str(address), CLUSTER, ports)


def _routes(mesh: Mesh, ground: Ground) -> Iterator[tuple[str, Address, str]]:
    """(name, address, host) of what stands for the networks of the file."""
    yield "hub node", mesh.hub.address, "hub"
    for network in ground.vlan:
        yield "node2", addresses.node2(mesh, network), "node2"
    for mine, theirs in chunks(ground.pods) if mesh.network.routes.get("pods") else []:
        yield "pod1", nth(mine, 10), "pod1"
        if theirs:
            yield "pod2", nth(theirs, 10), "pod2"
    for name, networks in ground.others.items():
        for network in networks:
            yield name, nth(network, 10), f"net.{name}"


def _service(mesh: Mesh, service: Service) -> Target:
    if service.kind == "dns":
        return Target(service.name, service.kind, str(service.address), service.answer.host, DNS)
    return _target(mesh, service.name, service.kind, service.address, service.answer.host)


def _target(mesh: Mesh, name: str, kind: str, address: Address, host: str) -> Target:
    ports = tuple(p for p in listening(mesh, host) if host != "inet" or p[1] != 53)
    return Target(name, kind, str(address), host, ports)
