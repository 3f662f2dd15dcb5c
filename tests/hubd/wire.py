"""Bytes as a WireGuard device and the kernel's nf_tables write them, to the layouts that their headers document."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from meshwright.hubd.kernel import counters, netlink

SHARED = b"preshared, nobody's business" + b"\x24\x00\x01\x00"  # with a header that looks like that of a public key
PRIVATE = b"a private key, nobody's business"


class Peer(NamedTuple):
    """key: 32 bytes; allowed: prefixes as text."""

    key: bytes
    allowed: tuple[str, ...] = ()
    handshake: int = 0
    received: int = 0
    sent: int = 0
    endpoint: str = ""


def nest(kind: int, *inside: bytes, flag: int = 0x8000) -> bytes:
    return netlink.attribute(kind | flag, b"".join(inside))


# -- the control socket


def uapi(peers: Sequence[Peer], shuffle: random.Random | None = None) -> bytes:
    """The answer to get=1, as wireguard-go orders it, or in another order."""
    out = [f"private_key={PRIVATE.hex()}", "listen_port=51821"]
    for peer in peers:
        lines = [
            f"preshared_key={SHARED.hex()}",
            "protocol_version=1",
            *([f"endpoint={peer.endpoint}"] if peer.endpoint else []),
            f"last_handshake_time_sec={peer.handshake}",
            "last_handshake_time_nsec=5",
            f"tx_bytes={peer.sent}",
            f"rx_bytes={peer.received}",
            "persistent_keepalive_interval=0",
        ]
        if shuffle:
            shuffle.shuffle(lines)
        out += [f"public_key={peer.key.hex()}", *lines, *(f"allowed_ip={prefix}" for prefix in peer.allowed)]
    return ("\n".join(out) + "\nerrno=0\n\n").encode()


# -- generic netlink


def genetlink(peers: Sequence[Peer], per_message: int = 3, prefixes: int = 2, shuffle: random.Random | None = None,
              *, padded: bool = False) -> list[bytes]:  # fmt: skip
    """WG_CMD_GET_DEVICE's messages without their headers: so many peers, and prefixes of a peer, to one message."""
    pieces = [piece for peer in peers for piece in _pieces(peer, prefixes, shuffle, padded)]
    first = [(1, struct.pack("=I", 7)), (2, b"wg1\0"), (3, PRIVATE), (4, b"k" * 32), (6, struct.pack("=H", 51821))]
    device = [netlink.attribute(kind, value) for kind, value in first]
    batches = [pieces[start : start + per_message] for start in range(0, len(pieces), per_message)] or [[]]
    messages = []
    for batch in batches:
        messages.append(b"".join(device) + nest(8, *batch))
        device = [netlink.attribute(2, b"wg1\0")]
    return messages


def _pieces(peer: Peer, prefixes: int, shuffle: random.Random | None, padded: bool) -> list[bytes]:
    key = netlink.attribute(1, peer.key)
    state = [
        netlink.attribute(2, SHARED),
        netlink.attribute(6, struct.pack("=qq", peer.handshake, 5)),
        netlink.attribute(5, struct.pack("=H", 25)),
        (b"\4\0\0\0" if padded else b"") + netlink.attribute(8, struct.pack("=Q", peer.sent)),
        netlink.attribute(7, struct.pack("=Q", peer.received)),
        netlink.attribute(10, struct.pack("=I", 1)),
        *([netlink.attribute(4, bytes(28 if "[" in peer.endpoint else 16))] if peer.endpoint else []),
    ]
    if shuffle:
        shuffle.shuffle(state)
    groups = [peer.allowed[start : start + prefixes] for start in range(0, len(peer.allowed), prefixes)]
    out = [nest(0, key, *state, *([_allowed(groups[0])] if groups else []))]
    return out + [nest(0, key, _allowed(group)) for group in groups[1:]]


def _allowed(prefixes: Sequence[str]) -> bytes:
    return nest(9, *map(_prefix, prefixes))


def _prefix(text: str) -> bytes:
    address, _, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return nest(
        0,
        netlink.attribute(3, bytes([int(length)])),
        netlink.attribute(1, struct.pack("=H", family)),
        netlink.attribute(2, socket.inet_pton(family, address)),
    )


# -- nf_tables


def elements(counts: Sequence[tuple[bytes, int]], *, comment: str = "", verdict: str = "", ends: bool = False,
             flag: int = 0) -> bytes:  # fmt: skip
    """A message of NFT_MSG_NEWSETELEM without its headers. verdict: a chain to jump to, "drop", or "" in a set."""

    def make(kind: int, *inside: bytes) -> bytes:
        return nest(kind, *inside, flag=flag)

    out = []
    for source, packets in counts:
        key = make(1, netlink.attribute(1, source))
        count = make(2, netlink.attribute(1, struct.pack(">Q", packets * 84)),
                     netlink.attribute(2, struct.pack(">Q", packets)))  # fmt: skip
        counter = make(7, netlink.attribute(1, b"counter\0"), count)
        target = [_verdict(make, verdict)] if verdict else []
        told = [netlink.attribute(6, b"\0" + bytes([len(comment) + 1]) + comment.encode() + b"\0")] if comment else []
        out.append(make(1, key, *target, counter, *told))
        if ends:
            out.append(make(1, key, netlink.attribute(3, struct.pack(">I", 1))))
    place = netlink.attribute(1, b"mesh\0") + netlink.attribute(2, b"hosts4\0")
    return place + make(3, *out)


def _verdict(make: Callable[..., bytes], verdict: str) -> bytes:
    code = struct.pack(">i", 0 if verdict == "drop" else -3)
    chain = [] if verdict == "drop" else [netlink.attribute(2, verdict.encode() + b"\0")]
    return make(2, make(2, netlink.attribute(1, code), *chain))


def packets(part: bytes, family: str) -> list[tuple[bytes, int]]:
    return [(source, int.from_bytes(count, "big")) for source, count in counters.counted(part, family)]
