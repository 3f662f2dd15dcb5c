"""What the responders of a lab listen on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from meshwright.spec.model import BuiltinExporter, Mesh

ALWAYS = (22, 80, 443, 6443, 8080)
MOST_PORTS = 60


def policy_ports(mesh: Mesh) -> tuple[tuple[str, int], ...]:
    """What responders listen on: the ends of every port range in the file, one beyond, some usually shut."""
    found = {(kind, port): None for port in ALWAYS for kind in ("tcp", "udp")}
    texts = chain.from_iterable(rule.ports or () for rule in mesh.policy.allow)
    tested = (t.port for t in mesh.policy.tests if t.port)
    for text in (*texts, *tested, *chain.from_iterable(s.ports for s in mesh.services.values())):
        for pair in (*ends(text), *_beyond(text)):
            found.setdefault(pair)
    return tuple(sorted(list(found)[:MOST_PORTS]))


def listening(mesh: Mesh, host: str) -> tuple[tuple[str, int], ...]:
    """The ports of a host's responder: on the hub, WireGuard and our exporter need one of their own."""
    taken = {("udp", mesh.hub.port)}
    if mesh.observability and isinstance(mesh.observability.exporter, BuiltinExporter):
        taken.add(("tcp", mesh.observability.exporter.port))
    return tuple(p for p in policy_ports(mesh) if host != "hub" or p not in taken)


def ends(text: str) -> Iterator[tuple[str, int]]:
    """The first and the last of a range of ports, as "80-90/tcp"; both the same where it is one."""
    ports, _, protocol = text.partition("/")
    if protocol in ("tcp", "udp"):
        low, _, high = ports.partition("-")
        yield protocol, int(low)
        yield protocol, int(high or low)


def _beyond(text: str) -> Iterator[tuple[str, int]]:
    first, last = (*ends(text), ("", 65535), ("", 65535))[:2]
    if first[1] < last[1] < 65535:
        yield last[0], last[1] + 1
