"""Mesh files of any size for benchmarks: the reference mesh's shape, every tenth peer with rights of his own."""

from __future__ import annotations

import base64
import hashlib
from ipaddress import ip_address

FIRST = int(ip_address("10.100.2.1"))


def address(number: int) -> str:
    """The tunnel address of a peer, counted from 0."""
    return str(ip_address(FIRST + number))


def nobodys_key(number: int) -> str:
    """A public key whose private half nobody has."""
    return base64.b64encode(hashlib.sha256(b"bench %d" % number).digest()).decode()


def text(count: int, keys: dict[int, str] | None = None, disabled: int = -1) -> str:
    """A mesh file with `count` peers, called peer0 and so on. `keys`: number -> public key; one may be disabled."""
    peers = [
        f"  peer{n}: {{address: {address(n)}, namespace: peer{n}, groups: [g{n % 10}]"
        + (f", public_key: '{keys[n]}'" if keys and n in keys else "")
        + (", disabled: true" if n == disabled else "")
        + "}"
        for n in range(count)
    ]
    rules = [f"    - {{from: g{n}, to: nodes, ports: [{8000 + n}/tcp]}}" for n in range(min(10, count))]
    return "\n".join([HEAD, *peers, RULES, *rules, TESTS, ""])


HEAD = """version: 1
name: many
hub: {node: hub, address: 192.168.20.20, interface: wg1, endpoint: 'vpn.example.net:51821'}
network:
  cidr: 10.100.0.0/16
  hub: 10.100.0.1
  routes: {nodes: 192.168.20.0/24, pods: 10.42.0.0/16, services: 10.43.0.0/16}
peers:"""
RULES = """policy:
  allow:
    - {from: peers, to: hub, ports: [6443/tcp, icmp]}
    - {from: peers, to: services, ports: [53/udp, 53/tcp, 80/tcp, 443/tcp]}
    - {from: peers, to: peers, ports: [icmp, 25565/tcp]}"""
TESTS = """  tests:
    - {from: peers, to: nodes, port: 22/tcp, expect: deny}"""
