"""Who connected to the hub for this call, and whether a write would take his own way in. A right that is taken is never
rolled back, so that is refused before."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..firewall import rights
from ..host import system
from ..resources.state import Attrs

DEPTH = 20  # processes that are looked at: python, sudo, a shell, sshd


class Caller(NamedTuple):
    """A TCP connection to sshd, as it says itself."""

    address: str
    hub: str
    port: int


def find() -> Caller | None:
    """The connection that this process hangs on: sudo forgets SSH_CONNECTION, the process above does not."""
    process = os.getpid()
    for _ in range(DEPTH):
        try:
            environment = system.read_file(f"/proc/{process}/environ") or b""
            status = (system.read_file(f"/proc/{process}/stat") or b"").rpartition(b")")[2].split()
        except OSError:
            return None
        for entry in environment.split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                return parse(entry.partition(b"=")[2].decode(errors="replace"))
        process = int(status[1]) if len(status) > 1 else 0
        if process <= 1:
            return None
    return None


def parse(text: str) -> Caller | None:
    """ssh(1): client address, its port, the server's address, its port."""
    words = text.split()
    try:
        client, hub = (ipaddress.ip_address(words[n].partition("%")[0]) for n in (0, 2))
        return Caller(str(client), str(hub), int(words[3]))
    except (IndexError, ValueError):
        return None


def cut(
    caller: Caller,
    there: Mapping[str, Attrs],
    wanted: Mapping[str, Attrs],
    table: Attrs | None,
    moved: Mapping[str, str],
) -> str:
    """Whose way in a write would take, if the caller came by it; "" if he stays or comes another way. Pure.

    table: the one that shall be live. moved: the hub's new address -> its old one: what moves with it is not taken.
    """
    peer = _owner(caller, there)
    if not peer:
        return ""
    hubs = [caller.hub, *(new.partition("/")[0] for new, old in moved.items() if old.partition("/")[0] == caller.hub)]
    if _owner(caller, wanted) and table and any(_allowed(caller, hub, table) for hub in hubs):
        return ""
    return peer


def _owner(caller: Caller, found: Mapping[str, Attrs]) -> str:
    """The peer from whose live addresses the caller comes."""
    address = ipaddress.ip_address(caller.address)
    for id, attrs in found.items():
        if id.startswith("hub/peer/") and attrs.get("live"):
            networks = (ipaddress.ip_network(prefix) for prefix in attrs["live"]["allowed_ips"])
            if any(address.version == network.version and address in network for network in networks):
                return id.rpartition("/")[2]
    return ""


def _allowed(caller: Caller, hub: str, table: Attrs) -> bool:
    source, destination = (ipaddress.ip_address(text) for text in (caller.address, hub))
    own = {f"{source}/{source.max_prefixlen}": {"peer": "", "allow": []}}
    before: dict[str, Any] = {"sources": own, "inbound": []}
    flow = rights.Flow(source.packed, destination.packed, "tcp", caller.port, destination.packed, caller.port)
    return not rights.stale(before, table)(flow)


def check(
    there: Mapping[str, Attrs], wanted: Mapping[str, Attrs], table: Attrs | None, moved: Mapping[str, str]
) -> None:
    """HubError when the write would lock out who asks for it."""
    caller = find()
    if caller and (peer := cut(caller, there, wanted, table, moved)):
        raise system.HubError(
            f"this would lock you out: you are connected through the tunnel of {peer}, from {caller.address}, and it"
            f" takes away {peer}'s way to {caller.hub} on tcp {caller.port}",
            "allow that in the mesh file, or apply it over another way than the tunnel",
        )
