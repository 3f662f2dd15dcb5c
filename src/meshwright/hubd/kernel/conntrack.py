"""Running flows: list them and end those that have lost their right. Talks to the kernel's ctnetlink directly.

Numbers and nesting: linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h. Native byte order, ports in network order.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..host import system
from . import netlink

NETLINK_NETFILTER = 12
CT_NEW, CT_GET, CT_DELETE = 0x100, 0x101, 0x102
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
DONE, ERROR = 3, 2
TUPLE_ORIGINAL, TUPLE_REPLY, ZONE = 1, 2, 18
ENOENT = 2
PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
ECHO_REQUEST = {1: 8, 58: 128}


class End(NamedTuple):
    """One direction of a flow: addresses as packed bytes, `port` the destination's (the type for icmp, -1 for none)."""

    source: bytes
    destination: bytes
    number: int
    source_port: int
    port: int


class Flow(NamedTuple):
    """A conntrack entry; `key` is what the kernel needs to find it again."""

    original: End
    reply: End
    key: bytes

    @property
    def protocol(self) -> str:
        """tcp, udp, icmp (echo request only) or the protocol's number."""
        number = self.original.number
        if number in ECHO_REQUEST and self.original.port != ECHO_REQUEST[number]:
            return str(number)
        return PROTOCOLS.get(number, str(number))


def flows() -> list[Flow]:
    """Every conntrack entry of this network namespace, IPv4 and IPv6."""
    with _connect() as link:
        _send(link, CT_GET, REQUEST | DUMP, 0, b"")
        return [flow for kind, body in _answers(link) if kind == CT_NEW and (flow := _flow(body))]


def delete(flow: Flow) -> bool:
    """End one flow; False when it had ended by itself."""
    with _connect() as link:
        family = socket.AF_INET if len(flow.original.source) == 4 else socket.AF_INET6
        _send(link, CT_DELETE, REQUEST | ACK, family, flow.key)
        try:
            list(_answers(link))
        except OSError as error:
            if error.errno != ENOENT:
                raise
            return False
        return True


def end(unwanted: Callable[[Flow], bool]) -> int:
    """End every flow that `unwanted` names -> how many. Looks again until none is left, for a dump may miss one."""
    ended = 0
    for _ in range(5):
        found = [flow for flow in flows() if unwanted(flow)]
        if not found:
            break
        ended += sum(delete(flow) for flow in found)
    return ended


def _connect() -> socket.socket:
    try:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    except OSError as error:
        raise system.HubError(f"conntrack: {error.strerror}", "load nf_conntrack_netlink on the hub") from None
    link.settimeout(20)
    link.bind((0, 0))
    return link


def _send(link: socket.socket, kind: int, flags: int, family: int, body: bytes) -> None:
    payload = struct.pack("=BBH", family, 0, 0) + body
    link.send(struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload)


def _answers(link: socket.socket) -> Iterator[tuple[int, bytes]]:
    """(type, body after the nfgenmsg) of every message, up to the end of the dump or the acknowledgement."""
    while True:
        data = link.recv(1 << 20)
        place = 0
        while place + 16 <= len(data):
            length, kind, _, _, _ = struct.unpack_from("=IHHII", data, place)
            if kind == DONE:
                return
            if kind == ERROR:
                code = struct.unpack_from("=i", data, place + 16)[0]
                if code:
                    raise OSError(-code, "conntrack")
                return
            yield kind, data[place + 20 : place + length]
            place += (length + 3) & ~3


def _flow(body: bytes) -> Flow | None:
    original = reply = None
    key = b""
    for kind, value, whole in netlink.attributes(body):
        if kind == TUPLE_ORIGINAL:
            original, key = _end(value), key + whole
        elif kind == TUPLE_REPLY:
            reply = _end(value)
        elif kind == ZONE:
            key += whole
    return Flow(original, reply, key) if original and reply else None


def _end(data: bytes) -> End:
    parts = {kind: value for kind, value, _ in netlink.attributes(data)}
    addresses = {kind: value for kind, value, _ in netlink.attributes(parts.get(1, b""))}
    numbers = {kind: int.from_bytes(value, "big") for kind, value, _ in netlink.attributes(parts.get(2, b""))}
    kind = numbers.get(5, numbers.get(8, -1))
    return End(
        addresses.get(1) or addresses.get(3, b""),
        addresses.get(2) or addresses.get(4, b""),
        numbers.get(1, 0),
        numbers.get(2, -1),
        numbers.get(3, kind),
    )
