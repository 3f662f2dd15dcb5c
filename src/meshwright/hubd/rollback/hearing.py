"""Whether peers are heard again after a change, and what makes them answer soon."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence

from ..kernel import device

LOOK = 0.1  # seconds between two looks
KNOCK = 5.0  # seconds between two packets to each
DISCARD = 9


def seen(interface: str, keys: Sequence[str]) -> dict[str, list[int]]:
    """public key -> [bytes received, last handshake] as the device counts them now."""
    found = device.wireguard(interface)
    live = found.peers if found else {}
    none = [0, 0]
    return {key: [live[key].received, live[key].handshake] if key in live else none for key in keys}


def heard(before: Mapping[str, Sequence[int]], now: Mapping[str, Sequence[int]]) -> bool:
    """Whether any of the peers was received again. Counters begin anew with a new device."""
    return any(
        (received != before[key][0] and received > 0) or handshake > before[key][1]
        for key, (received, handshake) in now.items()
    )


def wait(interface: str, before: Mapping[str, Sequence[int]], end: float) -> bool:
    """Wait until one of the peers is heard again, up to `end` (monotonic)."""
    again = 0.0
    while not heard(before, seen(interface, list(before))):
        now = time.monotonic()
        if now >= end:
            return False
        if now >= again:
            knock(interface, list(before))
            again = now + KNOCK
        time.sleep(LOOK)
    return True


def speak(interface: str, endpoints: Mapping[str, str]) -> None:
    """Send each peer an empty packet at once, whatever the table says: so he learns where the hub sends from now.

    endpoints: by public key, for peers of whom the device does not know where they are.
    """
    found = device.wireguard(interface)
    peers = (
        {key: (peer.endpoint or endpoints.get(key), peer.keepalive) for key, peer in found.peers.items()}
        if found
        else {}
    )
    known = {key: (endpoint, keepalive) for key, (endpoint, keepalive) in peers.items() if endpoint}
    if known:
        device.speak(interface, known)


def knock(interface: str, keys: Sequence[str]) -> None:
    """Send each peer a datagram to nobody (the port `discard`): WireGuard answers data within ten seconds, even where
    the friend's own system does not. Where the table forbids it, his own next packet has to be waited for.
    """
    found = device.wireguard(interface)
    peers = [found.peers[key] for key in keys if key in found.peers] if found else []
    for address, _, length in [prefix.partition("/") for peer in peers for prefix in peer.allowed_ips]:
        family = socket.AF_INET6 if length == "128" else socket.AF_INET
        if length in ("32", "128"):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as link:
                link.sendto(b"", (address, DISCARD))
