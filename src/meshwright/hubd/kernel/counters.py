"""What the hub's firewall counted, per source address: packets that it had to judge, and those that it dropped.

Read by netlink without running a program: the elements of the sets of firewall/nftform.py, each with its counter.
Numbers and nesting: linux/netfilter/nfnetlink.h and nf_tables.h. Headers in native byte order, contents in network
order.
"""

from __future__ import annotations

import errno
import re
import struct
from typing import NamedTuple

from ..host import system
from . import netlink

NETFILTER, GET_ELEMENTS = 12, 10 << 8 | 13
INET = 1  # NFPROTO_INET
TABLE, SET = 1, 2
NESTED = 0x8000
WIDTH = {"4": 4, "6": 16}
ATTEMPTED = ("hosts", "networks")
DENIED = ("denied_hosts", "denied_networks")


class Counters(NamedTuple):
    """Sources in the table's own order, and as many counts. A source: its first address, 4 or 16 bytes."""

    attempted_from: tuple[bytes, ...] = ()
    attempted: tuple[int, ...] = ()
    denied_from: tuple[bytes, ...] = ()
    denied: tuple[int, ...] = ()


def read(table: str) -> Counters | None:
    """The counts of the mesh's table, None when it, or one of its sets, is not there.

    HubError where the kernel lists it in a form that this does not know; OSError for its other refusals.
    """
    try:
        return Counters(*_counts(table, ATTEMPTED), *_counts(table, DENIED))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _counts(table: str, names: tuple[str, ...]) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    sources: list[bytes] = []
    packets: list[bytes] = []
    for family in WIDTH:
        for name in names:
            for part in elements(table, name + family):
                rows = counted(part, family)
                sources += [source for source, _ in rows]
                packets += [count for _, count in rows]
    return tuple(sources), struct.unpack(f">{len(packets)}Q", b"".join(packets))


def elements(table: str, name: str) -> list[bytes]:
    """What the kernel lists of one set: its elements in some messages."""
    place = netlink.attribute(TABLE, table.encode() + b"\0") + netlink.attribute(SET, name.encode() + b"\0")
    head = struct.pack("=BBH", INET, 0, 0)
    return netlink.listed(NETFILTER, GET_ELEMENTS, head + place, len(head))


def _head(size: int, kind: int, *, nest: bool = False) -> bytes:
    """An attribute's header; of one that holds others, with the flag that says so, which the kernel leaves away."""
    plain, flagged = (re.escape(struct.pack("=HH", 4 + size, kind | flag)) for flag in (0, NESTED))
    return b"(?:%b|%b)" % (plain, flagged) if nest else plain


def _value(width: int, kind: int) -> bytes:
    return _head(4 + width, kind, nest=True) + _head(width, 1)


def _element(width: int) -> re.Pattern[bytes]:
    """An element with a counter: its key, the key of its end, its verdict (to a chain of a role's name, or none), the
    counter."""
    chain = len("role_0123456789abcdef") + 1
    jump = _head(40, 2, nest=True) + _head(36, 2, nest=True) + _head(4, 1) + b".{4}" + _head(chain, 2) + b".{24}"
    drop = _head(12, 2, nest=True) + _head(8, 2, nest=True) + _head(4, 1) + b".{4}"
    counter = _head(40, 7, nest=True) + _head(8, 1) + b"counter\\0" + _head(24, 2, nest=True)
    end = b"(?:%b.{%d})?" % (_value(width, 10), width)
    verdict = b"(?:%b|%b)?" % (jump, drop)
    packets = _head(8, 1) + b".{8}" + _head(8, 2) + b"(.{8})"
    return re.compile(_value(width, 1) + b"(.{%d})" % width + end + verdict + counter + packets, re.DOTALL)


ELEMENT = {family: _element(width) for family, width in WIDTH.items()}
KEYS = {
    family: [struct.pack("=HHHH", 8 + width, 1 | flag, 4 + width, 1) for flag in (0, NESTED)]
    for family, width in WIDTH.items()
}
END = struct.pack("=HH", 8, 3) + b"\0\0\0\1"


def counted(part: bytes, family: str) -> list[tuple[bytes, bytes]]:
    """(first address, packets as 8 bytes) of each element of a part of a set; the ends of its intervals are none."""
    rows: list[tuple[bytes, bytes]] = ELEMENT[family].findall(part)
    if len(rows) + part.count(END) != sum(part.count(key) for key in KEYS[family]):
        raise system.HubError("its counters are listed in a form that is not known", "tell the authors of meshwright")
    return rows
