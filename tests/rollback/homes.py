"""A mesh to cut off: what is wanted on its hub, for hubs in namespaces and for the booted one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from meshwright.desired import firewall, wireguard
from meshwright.desired.facts import Facts
from meshwright.desired.resource import Resource, collect
from meshwright.desired.state import known
from meshwright.events import Event, silent
from meshwright.plan import plan
from meshwright.plan.plan import Plan
from meshwright.providers.base import Result
from meshwright.providers.hub import Hub
from meshwright.spec import load

INTERFACE, TABLE = "wg1", "cut_off"
MESH = """
version: 1
name: cut-off
hub: {{node: hub-1, address: 192.0.2.10, interface: wg1, endpoint: "192.0.2.10:{port}"}}
network:
  cidr: [10.100.0.0/16{cidr6}]
  hub: [{hub}{hub6}]
  routes: {{mesh: 10.100.0.0/16}}
peers:
{peers}
policy:
  allow:
    - {{from: peers, to: hub, ports: [22/tcp, icmp]}}
"""


def key(name: str) -> str:
    """A public key that belongs to nobody, the same for the same name."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


@dataclass(frozen=True)
class Wish:
    """One version of the mesh. peers: name -> (address, public key, further lines)."""

    peers: Mapping[str, tuple[str, str]]
    hub: str = "10.100.0.1"
    port: int = 51821
    inet6: bool = False
    lan: Mapping[str, str] = field(default_factory=dict)

    def without(self, name: str) -> Wish:
        return replace(self, peers={other: peer for other, peer in self.peers.items() if other != name})

    def also(self, name: str, address: str) -> Wish:
        return replace(self, peers={**self.peers, name: (address, key(name))})

    def resources(self) -> dict[str, Resource]:
        lines = [
            f"  {name}: {{address: {address}, public_key: {public}{self._lan(name)}}}"
            for name, (address, public) in self.peers.items()
        ]
        text = MESH.format(
            port=self.port,
            hub=self.hub,
            cidr6=", fd00:100::/64" if self.inet6 else "",
            hub6=", fd00:100::1" if self.inet6 else "",
            peers="\n".join(lines),
        )
        mesh = load.load_text(text).mesh
        facts = Facts(datetime.now(UTC))
        return collect([*wireguard.build(mesh, facts), *firewall.build(mesh, facts)])

    def _lan(self, name: str) -> str:
        return f", lan: [{self.lan[name]}]" if name in self.lan else ""


def look(hub: Hub, wanted: Mapping[str, Resource]) -> Plan:
    """The plan from what is there to what is wanted."""
    actual = hub.read(wanted)
    return plan.make(known(wanted, actual), actual)


def write(hub: Hub, wanted: Mapping[str, Resource], told: list[Event] | None = None) -> list[Result]:
    """Plan and apply."""
    todo = look(hub, wanted)
    return hub.apply(todo.changes, silent if told is None else told.append) if todo.changes else []


def settle(hub: Hub, wanted: Mapping[str, Resource]) -> None:
    """Apply; everything must succeed, and nothing is left to do."""
    failed = [result for result in write(hub, wanted) if not result.ok]
    assert not failed, failed
    left = look(hub, wanted)
    assert not left.changes, [(change.id, change.fields) for change in left.changes]
