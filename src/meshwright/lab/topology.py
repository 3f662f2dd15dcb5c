"""Mesh -> the hosts, links and addresses of a lab. Pure: the same file and slots give the same world.

                      inet (switch, public server, DNS)
          ___________________|____________________
         |                   |                    |
         gw               LABEL.nat ...      (one per active device)
         | server VLAN       | a home of its own
    hub -+- node2          LABEL -- LABEL.lan (only where the device has `lan`)
     |        |
   pod1     pod2           services: DNAT on the hub, as kube-proxy would
   coredns

A device keeps its slot (and so its addresses) while the lab is up; what a change of the file may touch is decided
from the values made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from meshwright.lab import ground, house, peers, targets
from meshwright.lab.parts import Link, Place, Target
from meshwright.spec.model import Address, Mesh


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab. peers: device label -> host name. standins: service name -> addresses we invented for it."""

    hosts: tuple[Place, ...]
    links: tuple[Link, ...]
    peers: Mapping[str, str]
    slots: Mapping[str, int]
    standins: Mapping[str, tuple[Address, ...]]
    targets: tuple[Target, ...]
    public: str

    def host(self, name: str) -> Place:
        return next(h for h in self.hosts if h.name == name)


def as_json(topology: Topology) -> dict[str, Any]:
    """Plain data, for golden files and for the state file."""
    plain = asdict(topology)
    plain["standins"] = {name: [str(a) for a in found] for name, found in topology.standins.items()}
    return plain


def build(mesh: Mesh, now: datetime, slots: Mapping[str, int] | None = None, *, cluster: bool = False) -> Topology:
    """The lab of a mesh file at `now`. slots: those of a lab that is up. cluster: nothing stands in for its services.

    LabError when no address range is left.
    """
    devices = tuple(d for d in mesh.devices if d.active(now))
    taken = assign((d.label for d in devices), slots or {})
    land = ground.survey(mesh, devices, max(taken.values(), default=0) + 1)
    home = house.settle(mesh, land, cluster=cluster)
    hosts, links = house.hosts(home), house.links(home)
    names = peers.names_of(devices)
    for device in devices:
        hosts += peers.hosts(mesh, land, device, names[device.label], taken[device.label])
        links += peers.links(land, device, names[device.label], taken[device.label])
    aims = (*targets.of_house(home), *targets.of_peers(mesh, devices, names))
    return Topology(tuple(hosts), tuple(links), names, taken, home.standins, aims, str(land.public))


def assign(labels: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """A slot for each label: the one it has, else the lowest that is free."""
    wanted = list(labels)
    out = {label: before[label] for label in wanted if label in before}
    free = (n for n in range(len(wanted) + len(before) + 1) if n not in set(out.values()))
    for label in wanted:
        if label not in out:
            out[label] = next(free)
            free = (n for n in range(len(wanted) + len(before) + 1) if n not in set(out.values()))
    return out
