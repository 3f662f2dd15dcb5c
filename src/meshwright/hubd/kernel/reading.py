"""A WireGuard device read without running a program: what its peers moved and when they were heard.

A userspace device answers on its control socket (the cross-platform userspace interface, get=1), the kernel's by
generic netlink (WG_CMD_GET_DEVICE; numbers and nesting: linux/wireguard.h, linux/genetlink.h). Either is read by one
regular expression over the bytes, as they are written today; what is written otherwise is taken apart bit by bit, some
ten times slower. Private and preshared keys come in with the rest: they are passed over, never taken out of it.
"""

from __future__ import annotations

import binascii
import errno
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..host import system
from . import device, netlink

NO_ALLOWED = "(none)"
"""What wg(8), and whoever reads it, says of a peer without allowed IPs."""
BLOCK = 1 << 18  # bytes that are worth a search
GENERIC, CONTROL, GET_FAMILY, GET_DEVICE = 16, 16, 3, 0
FAMILY_ID, FAMILY_NAME, IFNAME, PEERS = 1, 2, 2, 8
PUBLIC_KEY, HEARD, RECEIVED, SENT, ALLOWED = 1, 6, 7, 8, 9
ADDRESS, LENGTH = 2, 3
NESTED = 0x8000


class Reading(NamedTuple):
    """The peers of a device in its own order: columns of one length, one place per peer. No object per peer.

    keys: as the device writes them; `key` gives the text. allowed: its prefixes likewise; `prefixes` gives the texts.
    handshake: epoch seconds, 0 for never. received, sent: bytes. These three are digits in ASCII.
    """

    keys: tuple[bytes, ...] = ()
    allowed: tuple[bytes, ...] = ()
    handshake: tuple[bytes, ...] = ()
    received: tuple[bytes, ...] = ()
    sent: tuple[bytes, ...] = ()


def read(interface: str) -> Reading | None:
    """The device as it is now, None when there is none. HubError or OSError where it does not answer as it should."""
    parts = device.answer(interface, b"get=1\n\n")
    if parts is not None:
        return spoken(parts)
    try:
        bodies = netlink.listed(GENERIC, _family(), _get(GET_DEVICE, IFNAME, interface), 4)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP):
            return None  # no link, no WireGuard in this kernel, or a link of another kind
        raise
    return told(bodies)


def key(written: bytes) -> str:
    """A public key of `keys` in base64."""
    raw = written if len(written) == 32 else binascii.a2b_hex(written)
    return binascii.b2a_base64(raw, newline=False).decode()


def prefixes(written: bytes) -> list[str]:
    """The prefixes of one place of `allowed`, in the device's order and as wg(8) writes them."""
    if written.startswith(b"allowed_ip="):
        return [_plain(line[11:]) for line in written.decode().split("\n") if line]
    return [_prefix(value) for _, value, _ in netlink.attributes(written)]


# -- the control socket

# as wireguard-go writes a peer
PEER = re.compile(
    rb"public_key=(.{64})\n(?:preshared_key=.{64}\n)?(?:protocol_version=1\n)?(?:endpoint=.*\n)?"
    rb"last_handshake_time_sec=(\d+)\nlast_handshake_time_nsec=\d+\ntx_bytes=(\d+)\nrx_bytes=(\d+)\n"
    rb"persistent_keepalive_interval=\d+\n((?:allowed_ip=.*\n)*)"
)
BEGIN = b"public_key="
LINE = re.compile(rb"^(public_key|last_handshake_time_sec|tx_bytes|rx_bytes|allowed_ip)=(.*)$", re.MULTILINE)


def spoken(parts: Iterable[bytes]) -> Reading:
    """The answer to get=1, in whatever parts it comes."""
    found: list[tuple[bytes, ...]] = []
    for block in _blocks(parts):
        rows = PEER.findall(block)
        found += rows if len(rows) == block.count(BEGIN) else _by_line(block)
    keys, heard, sent, received, allowed = _columns(found)
    return Reading(keys, allowed, heard, received, sent)


def _columns(rows: list[tuple[bytes, ...]]) -> list[tuple[bytes, ...]]:
    return list(zip(*rows)) if rows else [()] * 5  # noqa: B905  Python 3.9 has no strict


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Whole peers, some hundred at a time, so that a large device never stands in memory at once."""
    rest = b""
    for part in parts:
        rest += part
        if len(rest) > BLOCK:
            end = rest.rfind(b"\n" + BEGIN) + 1
            yield rest[:end]
            rest = rest[end:]
    yield rest


def _by_line(block: bytes) -> Iterator[tuple[bytes, ...]]:
    """The same from lines in any order, as other implementations write them."""
    for peer in re.split(rb"^(?=public_key=)", block, flags=re.MULTILINE)[1:]:
        lines = LINE.findall(peer)
        seen = dict(lines)
        allowed = b"".join(b"allowed_ip=%b\n" % value for name, value in lines if name == b"allowed_ip")
        numbers = (seen.get(name, b"0") for name in (b"last_handshake_time_sec", b"tx_bytes", b"rx_bytes"))
        yield (seen[b"public_key"], *numbers, allowed)


def _plain(text: str) -> str:
    address, _, length = text.partition("/")
    if ":" not in address:
        return text
    try:  # each implementation shortens IPv6 in its own way; wg by inet_ntop(3)
        return f"{socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))}/{length}"
    except (OSError, ValueError):
        raise system.HubError("the WireGuard device has an allowed IP that is none", "look at wg show") from None


# -- the kernel's device


def _get(command: int, name: int, value: str) -> bytes:
    return struct.pack("=BBH", command, 1, 0) + netlink.attribute(name, value.encode() + b"\0")


def _family() -> int:
    """The number that the kernel gave to WireGuard's family; OSError ENOENT when it has none."""
    for body in netlink.listed(GENERIC, CONTROL, _get(GET_FAMILY, FAMILY_NAME, "wireguard"), 4):
        parts = {kind: value for kind, value, _ in netlink.attributes(body)}
        if parts.get(FAMILY_NAME) == b"wireguard\0":
            return int(struct.unpack("=H", parts[FAMILY_ID])[0])
    raise OSError(errno.ENOENT, "this kernel has no WireGuard")


def _head(size: int, kind: int) -> bytes:
    return re.escape(struct.pack("=HH", 4 + size, kind))


def _nest(kind: int) -> bytes:
    return b".." + re.escape(struct.pack("=H", kind | NESTED))


_PAD = b"(?:" + _head(0, 0) + b")?"  # before numbers of 8 bytes, where the machine needs them in their place
_PREFIX = b"%b%b.{4}%b.{4}(?:%b.{4}|%b.{16})" % (
    *(_nest(0), _head(1, LENGTH), _head(2, 1)),
    *(_head(4, ADDRESS), _head(16, ADDRESS)),
)
_STATE = b"%b.{32}%b(.{8}).{8}%b.{4}%b%b(.{8})%b%b(.{8})%b.{4}(?:%b.{16}|%b.{28})?" % (
    *(_head(32, 2), _head(16, HEARD), _head(2, 5)),
    *(_PAD, _head(8, SENT), _PAD, _head(8, RECEIVED), _head(4, 10)),
    *(_head(16, 4), _head(28, 4)),
)
# as the kernel writes a peer; one that goes on from the message before has no state
TOLD = re.compile(
    b"%b%b(.{32})(?:%b)?(?:%b((?:%b)*))?" % (_nest(0), _head(32, PUBLIC_KEY), _STATE, _nest(ALLOWED), _PREFIX),
    re.DOTALL,
)
KEY = struct.pack("=HH", 36, PUBLIC_KEY)
WANTED = frozenset((PUBLIC_KEY, HEARD, RECEIVED, SENT, ALLOWED))


def told(bodies: Iterable[bytes]) -> Reading:
    """The messages of WG_CMD_GET_DEVICE, each without its two headers."""
    found: list[tuple[bytes, ...]] = []
    for body in bodies:
        peers = _peers(body)
        rows = TOLD.findall(peers)
        found += rows if len(rows) == peers.count(KEY) else _by_attribute(peers)
    columns = _columns(found)
    if b"" in columns[1]:
        columns = _columns(_joined(found))
    keys, heard, sent, received, allowed = columns
    return Reading(keys, allowed, _digits(heard), _digits(received), _digits(sent))


def _peers(body: bytes) -> bytes:
    """What is inside the list of peers. The private key stands before it, and stays where it is."""
    place = 0
    while place + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, place)
        if kind & 0x3FFF == PEERS:
            return body[place + 4 : place + length]
        if length < 4:
            break
        place += (length + 3) & ~3
    return b""


def _by_attribute(peers: bytes) -> Iterator[tuple[bytes, ...]]:
    """The same from attributes in any order."""
    for _, peer, _ in netlink.attributes(peers):
        parts = {kind: value for kind, value, _ in netlink.attributes(peer) if kind in WANTED}
        state = (parts.get(kind, b"")[:8] for kind in (HEARD, SENT, RECEIVED))
        yield (parts.get(PUBLIC_KEY, bytes(32)), *state, parts.get(ALLOWED, b""))


def _joined(rows: Iterable[tuple[bytes, ...]]) -> list[tuple[bytes, ...]]:
    """A peer whose allowed IPs fill more than one message comes again, with more of them and nothing else."""
    found: list[tuple[bytes, ...]] = []
    for row in rows:
        if found and not row[1] and found[-1][0] == row[0]:
            found[-1] = (*found[-1][:4], found[-1][4] + row[4])
        else:
            found.append((row[0], *(number or bytes(8) for number in row[1:4]), row[4]))
    return found


def _digits(numbers: tuple[bytes, ...]) -> tuple[bytes, ...]:
    values = struct.unpack(f"={len(numbers)}Q", b"".join(numbers))
    return tuple((b"%d " * len(values) % values).split())


def _prefix(attributes: bytes) -> str:
    parts = {kind: value for kind, value, _ in netlink.attributes(attributes)}
    family = socket.AF_INET6 if len(parts[ADDRESS]) == 16 else socket.AF_INET
    return f"{socket.inet_ntop(family, parts[ADDRESS])}/{parts[LENGTH][0]}"
