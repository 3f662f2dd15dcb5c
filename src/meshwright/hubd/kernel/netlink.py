"""Netlink as its users need it: messages, attributes, whole lists, and the kernel's word that a link came or went.

Numbers and layout: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h. Native byte order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

ROUTE = 0
LINKS = 1  # RTMGRP_LINK
NEW_LINK, DELETE_LINK = 16, 17
NAME = 3  # IFLA_IFNAME
UP = 1  # IFF_UP
SIOCGIFFLAGS = 0x8913
REQUEST, DUMP = 0x1, 0x300
INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: what is listed changed meanwhile
ERROR, DONE = 2, 3
ATTEMPTS = 10


class Link(NamedTuple):
    """What was said of a link. number: the kernel's number, never used twice for two links of one name."""

    name: str
    number: int
    there: bool
    up: bool


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of every whole message."""
    place = 0
    while place + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, place)
        if length < 16 or place + length > len(data):
            return
        yield kind, data[place + 16 : place + length]
        place += (length + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(type without flags, value, the whole attribute padded) of each attribute."""
    place = 0
    while place + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, place)
        if length < 4:
            return
        padded = (length + 3) & ~3
        yield kind & 0x3FFF, data[place + 4 : place + length], data[place : place + padded].ljust(padded, b"\0")
        place += padded


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def listed(protocol: int, kind: int, request: bytes, head: int) -> list[bytes]:
    """The bodies of all messages that answer a request for a list, each without its first `head` bytes.

    OSError with the kernel's errno; EINTR where the list changes faster than it can be read.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as link:
        link.settimeout(20)
        link.bind((0, 0))
        for _ in range(ATTEMPTS):
            link.send(struct.pack("=IHHII", 16 + len(request), kind, REQUEST | DUMP, 1, 0) + request)
            found: list[bytes] = []
            if not _gather(link, found, head):
                return found
    raise OSError(errno.EINTR, "it changes all the time")


def _gather(link: socket.socket, found: list[bytes], head: int) -> bool:
    """Take one list off the socket -> whether it is torn."""
    torn = False
    while True:
        data = link.recv(1 << 16)
        place = 0
        while place + 16 <= len(data):
            length, kind, flags = struct.unpack_from("=IHH", data, place)
            torn = torn or bool(flags & INTERRUPTED)
            if kind in (DONE, ERROR):
                code = struct.unpack_from("=i", data, place + 16)[0]
                if code:
                    raise OSError(-code, os.strerror(-code))
                return torn
            found.append(data[place + 16 + head : place + length])
            place += (length + 3) & ~3


def links(data: bytes) -> Iterator[Link]:
    """The links that one datagram of the kernel speaks of."""
    for kind, body in messages(data):
        if kind in (NEW_LINK, DELETE_LINK) and len(body) >= 16:
            number, flags = struct.unpack_from("=iI", body, 4)
            name = next((value for kind, value, _ in attributes(body[16:]) if kind == NAME), b"")
            text = name.rstrip(b"\0").decode(errors="replace")
            yield Link(text, number, kind == NEW_LINK, bool(flags & UP))


def watch() -> socket.socket:
    """A socket that becomes readable whenever a link of this network namespace changes."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, ROUTE)
    link.setblocking(False)
    link.bind((0, LINKS))
    return link
