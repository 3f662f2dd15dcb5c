"""Netlink as both of its users need it: messages, attributes, and the kernel's word that a link came or went.

Numbers and layout: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h. Native byte order.
"""

from __future__ import annotations

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
