"""What a lab is made of: hosts, cables, and what a probe may aim at. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshwright.spec.model import Address

CORE = ("inet", "gw", "hub", "node2", "pod1", "pod2", "coredns")
WAN = "wan0"  # the gateway's interface towards the internet
CLUSTER = "(cluster)"  # what stands where a target's host does, but is none
SERVER = "srv0"  # ... and towards the server VLAN
ROUTER = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
# a switch is not a firewall: bridged frames must bypass the IP hooks
SWITCH = {f"net/bridge/bridge-nf-call-{kind}": "0" for kind in ("iptables", "ip6tables", "arptables")}
# a DNS server on the hub's tunnel address starts before the tunnel
LATER = {"net/ipv4/ip_nonlocal_bind": "1", "net/ipv6/ip_nonlocal_bind": "1"}


@dataclass(frozen=True, slots=True)
class Place:
    """One host of the lab, in the words of what builds it.

    ip: lines of ip-batch(8). nft: text for `nft -f`. dns: addresses on which a DNS server answers with `names`
    (name -> addresses), asking `upstream` for the rest. ports: what its responder listens on, ("tcp", 22).
    addresses: all of them, without prefix length, for people and probes.
    """

    name: str
    addresses: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=dict)
    nft: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    upstream: str = ""
    ports: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A cable: interface a_name at host a, b_name at host b, there a port of the bridge `master`, if any.

    neighbours: (host, line of ip-batch) to run when the cable is there.
    """

    a: str
    a_name: str
    b: str
    b_name: str
    master: str = ""
    a_mac: str = ""
    b_mac: str = ""
    neighbours: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Something a probe may aim at. kind: hub, route, service, dns, peer, lan, outside.

    host answers for it; CLUSTER: whoever a Service of the lab's cluster leads to.
    """

    name: str
    kind: str
    address: str
    host: str
    ports: tuple[tuple[str, int], ...]


def files(name: str, resolver: Address | str) -> dict[str, str]:
    """What a host has of its own in /etc."""
    return {
        "hosts": f"127.0.0.1 localhost {name}\n::1 localhost\n",
        "resolv.conf": f"nameserver {resolver}\noptions timeout:1 attempts:2\n",
        "hostname": f"{name}\n",
    }
