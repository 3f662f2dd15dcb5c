"""The file's services and its DNS server: their addresses, and who in the house answers for each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshwright.lab import addresses
from meshwright.lab.ground import Ground, first_of_each
from meshwright.spec.model import Address, Mesh


@dataclass(frozen=True, slots=True)
class Answer:
    """A host that answers for an address.

    held: the address is one of the host's own, on its loopback interface. nat: the pod's address that the hub puts in
    place of it. via: the hub's next hop towards it.
    """

    host: str
    held: bool = False
    nat: Address | None = None
    via: Address | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One address of a service. kind as in Target: service, or dns."""

    name: str
    kind: str
    address: Address
    answer: Answer


def invent(mesh: Mesh, ground: Ground) -> dict[str, tuple[Address, ...]]:
    """Addresses for services that only a cluster knows: from the middle of the service range, by name."""
    pool = mesh.network.routes.get("services", ()) or ground.pods
    used = _declared(mesh)
    wanted = sorted(name for name, s in mesh.services.items() if not s.address)
    out: dict[str, tuple[Address, ...]] = {}
    for name in wanted:
        found = tuple(addresses.unused(network, used) for network in first_of_each(pool))
        used |= set(found)
        out[name] = found
    return out


def place(mesh: Mesh, ground: Ground, standins: Mapping[str, tuple[Address, ...]]) -> Iterator[Service]:
    """Every address of every service, one that is no service's in each service network, and the DNS server's."""
    dns = mesh.network.dns
    used = _declared(mesh) | {a for found in standins.values() for a in found} | ({dns.server} if dns else set())
    for network in mesh.network.routes.get("services", ()):
        address = addresses.unused(network, used, 80)
        yield Service("any service", "service", address, _answer(mesh, ground, address, "pod2"))
    for name, service in mesh.services.items():
        for address in service.address or standins.get(name, ()):
            yield Service(name, "service", address, _answer(mesh, ground, address, "pod1"))
    if dns:
        yield Service("dns", "dns", dns.server, _answer(mesh, ground, dns.server, "coredns"))


def _declared(mesh: Mesh) -> set[Address]:
    return {a for s in mesh.services.values() for a in s.address or ()}


def _answer(mesh: Mesh, ground: Ground, address: Address, pod: str) -> Answer:
    """Who answers for a service's address, by the kind of network that holds it."""
    behind = addresses.of_pod(ground, pod, address.version)
    if behind and any(address in n for n in mesh.network.routes.get("services", ())):
        return Answer(pod, nat=behind)
    if address in (mesh.hub.address, *mesh.network.hub):
        return Answer("hub")
    for name, networks in ground.others.items():
        if any(address in n for n in networks):
            return Answer(f"net.{name}", held=True)
    if any(address in n for n in ground.vlan):
        gateways = [addresses.gateway(mesh, n) for n in ground.vlan]
        return Answer("gw") if address in gateways else Answer("node2", held=True)
    if behind and any(address in n for n in ground.pods):
        return Answer(pod, held=True, via=behind)
    return Answer("inet", held=True)
