"""Do hosts behind the hub know the way back into the mesh? Asked of real hosts, as the hub, from its tunnel address.

A host that answers the hub at its own address, but not at the one in the mesh, has no route there, or a gateway in
between drops answers whose beginning it did not see.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..host import system

Json = Any
PORTS = (443, 22, 80, 6443)
MOST = 4  # hosts that are asked
PATIENCE = 1.0
KNOWN = {"REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"}


def ask(asked: Mapping[str, Any]) -> dict[str, Json]:
    """{sources: [address in the mesh], networks: [prefix]} -> {host: {"plain", "mesh": whether it answers}}."""
    out: dict[str, Json] = {}
    for source in asked["sources"]:
        version = ipaddress.ip_address(source).version
        for host in neighbours(version, [ipaddress.ip_network(n) for n in asked["networks"]])[:MOST]:
            plain = answers(host, "")
            out[host] = {"plain": plain, "mesh": plain and answers(host, source)}
    return out


def neighbours(version: int, networks: Sequence[Any]) -> list[str]:
    """Hosts that the hub has seen on its links, in those networks."""
    done = system.attempt(["ip", "-j", f"-{version}", "neighbour", "show"])
    found: list[Json] = json.loads(done.out or b"[]") if not done.code else []
    known = [entry["dst"] for entry in found if KNOWN & set(entry.get("state", ()))]
    inside = [host for host in known if any(_in(host, network) for network in networks)]
    return sorted(set(inside))


def _in(host: str, network: Any) -> bool:
    address = ipaddress.ip_address(host)
    return bool(address.version == network.version and address in network and not address.is_link_local)


def answers(host: str, source: str) -> bool:
    """Whether the host says anything to a TCP connection, be it no; `source`: from which address it is asked."""
    with contextlib.ExitStack() as stack:
        waiting = {link.fileno(): link for port in PORTS if (link := stack.enter_context(_dial(host, source, port)))}
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLOUT)
        end = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < end:
            for number, _ in poll.poll(max(0.0, end - time.monotonic()) * 1000):
                poll.unregister(number)
                error = waiting.pop(number).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error in (0, 111):  # connected, or refused: ECONNREFUSED
                    return True
    return False


def _dial(host: str, source: str, port: int) -> socket.socket:
    link = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    link.setblocking(False)
    with contextlib.suppress(OSError):
        if source:
            link.bind((source, 0))
        link.connect_ex((host, port))
    return link
