"""Where peers were last heard: what of it is worth remembering, and what may be given back. Pure.

The file is JSON: {"format": 1, "peers": {public key: [endpoint, epoch seconds of the last handshake there]}}.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..kernel import wg

FORMAT = 1
AGE = 86400  # a friend's router has long forgotten the way in, and his address may be somebody else's
COARSE = 3600  # how far a saved time may lag behind: handshakes come every two minutes, and wear the disk


class Entry(NamedTuple):
    endpoint: str
    heard: int


Memory = Mapping[str, Entry]


def parse(data: bytes | None) -> dict[str, Entry]:
    """What a file holds. What cannot be understood is left out, be it an entry or the whole file."""
    try:
        document = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return {}
    peers = document.get("peers")
    found = {key: _entry(value) for key, value in (peers if isinstance(peers, dict) else {}).items()}
    return {key: entry for key, entry in found.items() if entry and wg.usable(key)}


def _entry(value: Any) -> Entry | None:
    if not (isinstance(value, list) and len(value) == 2):
        return None
    endpoint, heard = value
    if isinstance(endpoint, str) and usable(endpoint) and type(heard) is int and heard > 0:
        return Entry(endpoint, heard)
    return None


def usable(endpoint: str) -> bool:
    """Whether this is ADDRESS:PORT as WireGuard writes it, an IPv6 address in brackets."""
    address, _, port = endpoint.rpartition(":")
    try:
        parsed = ipaddress.ip_address(address[1:-1] if address[:1] == "[" and address[-1:] == "]" else address)
    except ValueError:
        return False
    plain = endpoint.isascii() and endpoint.isprintable() and " " not in endpoint
    return plain and (parsed.version == 6) == (address[:1] == "[") and port.isdigit() and 0 < int(port) < 65536


def render(memory: Memory) -> bytes:
    return json.dumps({"format": FORMAT, "peers": memory}, sort_keys=True).encode() + b"\n"


def learn(memory: Memory, peers: Mapping[str, wg.Peer], kept: Collection[str], now: float) -> dict[str, Entry]:
    """The memory after a look at the device. kept: keys of the conf, which may be missing on the device for a while.

    Only where a handshake was made somebody was heard: an endpoint that was only set proves nothing.
    """
    out = {key: entry for key, entry in memory.items() if key in peers or key in kept}
    for key, peer in peers.items():
        if peer.endpoint and peer.handshake > 0 and usable(peer.endpoint):
            out[key] = Entry(peer.endpoint, peer.handshake)
    return {key: entry for key, entry in out.items() if _lately(entry, now)}


def _lately(entry: Entry, now: float) -> bool:
    """A time to come is no reason against: a hub without a clock of its own starts in the past."""
    return now - entry.heard < AGE


def restorable(memory: Memory, peers: Mapping[str, wg.Peer], kept: Collection[str], now: float) -> dict[str, Entry]:
    """What may be given back: to peers that the conf has too, that have no endpoint now, and were heard lately."""
    return {
        key: entry
        for key, entry in memory.items()
        if key in kept and key in peers and not peers[key].endpoint and _lately(entry, now)
    }


def differs(saved: Memory, memory: Memory, coarse: int = COARSE) -> bool:
    """Whether it has to be written: for another endpoint or peer at once, for a later time only now and then."""
    return saved.keys() != memory.keys() or any(
        entry.endpoint != saved[key].endpoint or abs(entry.heard - saved[key].heard) >= coarse
        for key, entry in memory.items()
    )
