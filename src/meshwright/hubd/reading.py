"""A WireGuard device read without running a program: what its peers moved and when they were heard.

A userspace device answers on its control socket (the cross-platform userspace interface, get=1). One pass of one
regular expression; private and preshared keys are passed over, never taken out of the buffer.
"""

from __future__ import annotations

import binascii
import re
import socket
from typing import NamedTuple

from . import device, system

NO_ALLOWED = "(none)"
"""What wg(8), and whoever reads it, says of a peer without allowed IPs."""


class Reading(NamedTuple):
    """The peers of a device in its own order: columns of one length, one place per peer. No object per peer.

    keys: 32 bytes each, in hexadecimal. allowed: "allowed_ip=PREFIX\\n" for each prefix, in the device's order.
    handshake: epoch seconds, 0 for never. received, sent: bytes. All are digits in ASCII.
    """

    keys: tuple[bytes, ...] = ()
    allowed: tuple[bytes, ...] = ()
    handshake: tuple[bytes, ...] = ()
    received: tuple[bytes, ...] = ()
    sent: tuple[bytes, ...] = ()


# as wireguard-go writes a peer
PEER = re.compile(
    rb"^public_key=([0-9a-f]{64})\n(?:preshared_key=.*\n)?(?:protocol_version=.*\n)?(?:endpoint=.*\n)?"
    rb"last_handshake_time_sec=(\d+)\nlast_handshake_time_nsec=\d+\ntx_bytes=(\d+)\nrx_bytes=(\d+)\n"
    rb"persistent_keepalive_interval=\d+\n((?:allowed_ip=.*\n)*)",
    re.MULTILINE,
)


def read(interface: str) -> Reading | None:
    """The device as it is now, None when there is none. HubError where it does not answer as it should."""
    answer = device.ask(interface, b"get=1\n\n")
    return None if answer is None else spoken(answer)


def spoken(data: bytes) -> Reading:
    """The answer to get=1."""
    columns = list(zip(*PEER.findall(data)))  # noqa: B905  Python 3.9 has no strict
    if not columns:
        return Reading()
    keys, handshake, sent, received, allowed = columns
    return Reading(keys, allowed, handshake, received, sent)


def key(written: bytes) -> str:
    """A public key of `keys` in base64."""
    return binascii.b2a_base64(binascii.a2b_hex(written), newline=False).decode()


def prefixes(written: bytes) -> list[str]:
    """The prefixes of one place of `allowed`, as wg(8) writes them."""
    return [_prefix(line[11:]) for line in written.decode().split("\n") if line]


def _prefix(text: str) -> str:
    address, _, length = text.partition("/")
    if ":" not in address:
        return text
    try:  # every implementation shortens IPv6 in its own way; wg by inet_ntop(3)
        return f"{socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))}/{length}"
    except OSError:
        raise system.HubError(f"the WireGuard device speaks of {address[:50]}, which is no address") from None
