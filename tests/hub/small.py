"""A small mesh as hub resources, written by hand, and the loop read -> plan -> apply around one hub."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from meshwright.desired.resource import Resource, Unknown, fill
from meshwright.events import silent
from meshwright.hubd.firewall.rights import parse, texts
from meshwright.io.host import Host
from meshwright.plan import plan
from meshwright.plan.plan import Plan
from meshwright.providers.base import Result
from meshwright.providers.hub import SECRET, Hub

INTERFACE, TABLE, MARK = "wg1", "small_mesh", 0x100000
SSH, WEB, PING = "192.168.20.0/24 tcp 22", "192.168.20.0/24 tcp 443", "10.100.0.0/16 icmp -"


def key(name: str) -> str:
    """A public key that belongs to nobody, the same for the same name."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


@dataclass(frozen=True)
class Friend:
    """A peer: its label's key, addresses and LANs, and the rights of its addresses."""

    allowed_ips: tuple[str, ...]
    allow: tuple[str, ...] = (WEB,)
    key: str = ""
    shared: str = ""


def friends(**who: Friend) -> dict[str, Friend]:
    return {name: replace(friend, key=friend.key or key(name)) for name, friend in who.items()}


def mesh(people: Mapping[str, Friend], **more: Any) -> dict[str, Resource]:
    """The resources of the hub with these peers. more: listen, mtu, addresses, inbound, masquerade, key."""
    own = {
        "public_key": more.get("key") or Unknown(f"hub/interface/{INTERFACE}", "public_key"),
        "listen": more.get("listen", 51821),
        "addresses": more.get("addresses", ["10.100.0.1/16"]),
        "mtu": more.get("mtu", 1420),
    }
    table = {
        "interface": INTERFACE,
        "mark": MARK,
        "format": 1,
        "hub": ["10.100.0.1/32"],
        "masquerade": more.get("masquerade", ["192.168.20.0/24"]),
        "strange": [],
    }
    closed = {
        "rules": ["inet", "inet6"],
        "sysctl": {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.src_valid_mark": "1"},
    }
    inbound = {"allow": list(more.get("inbound", ["10.100.0.1/32 -> 10.100.0.0/16 icmp -"]))}
    out = [
        Resource(f"hub/closed/{INTERFACE}", {"live": closed}),
        Resource(f"hub/table/{TABLE}", {"saved": table, "live": dict(table)}),
        Resource(f"hub/inbound/{TABLE}", {"saved": inbound, "live": dict(inbound)}),
        Resource(f"hub/interface/{INTERFACE}", {"saved": {**own, "enabled": True}, "live": own}),
    ]
    for name, friend in people.items():
        out += _friend(name, friend)
    return {resource.id: resource for resource in out}


def _friend(name: str, friend: Friend) -> list[Resource]:
    half = {"public_key": friend.key, "allowed_ips": sorted(friend.allowed_ips), "preshared_key": friend.shared}
    routes = [prefix for prefix in half["allowed_ips"] if not prefix.startswith("10.100.")]
    rights = {"peer": name, "allow": texts(map(parse, friend.allow))}
    return [
        Resource(f"hub/peer/{name}", {"saved": half, "live": {**half, "routes": routes}}, SECRET),
        *(
            Resource(f"hub/rights/{prefix}", {"saved": rights, "live": dict(rights)})
            for prefix in half["allowed_ips"]
        ),
    ]  # fmt: skip


def look(host: Host, wanted: Mapping[str, Resource]) -> Plan:
    """The plan from what is on the hub to `wanted`, unknown values filled in where the hub answers them."""
    actual = Hub(host, INTERFACE, TABLE).read(wanted)
    answers = {id: resource.attrs for id, resource in actual.items()}
    known = {id: replace(resource, attrs=fill(resource.attrs, answers)) for id, resource in wanted.items()}
    return plan.make(known, actual)


def apply(host: Host, wanted: Mapping[str, Resource]) -> list[Result]:
    """Plan and write."""
    todo = look(host, wanted)
    return Hub(host, INTERFACE, TABLE).apply(todo.changes, silent) if todo.changes else []


def settle(host: Host, wanted: Mapping[str, Resource]) -> None:
    """Apply; everything must succeed and a second look must find nothing to do."""
    failed = [result for result in apply(host, wanted) if not result.ok]
    assert not failed, failed
    left = look(host, wanted)
    assert not left.changes, [(c.id, c.fields) for c in left.changes]
