"""Sends probes from the host it runs on, all at once, and says what came back. One JSON document on stdin.

    {"timeout": seconds, "probes": [{"kind": tcp|udp|icmp|dns-udp|dns-tcp, "address", "port", "name", "source",
                                         "size", "greet"}]}
    -> {"results": [[verdict, detail], ...]} in the order of the probes

verdict: open (answered; detail is the answer's first line), refused (a host without a listener, or a firewall's
reset), prohibited (a firewall said so), timeout, error (detail says what). source: the address to send from, "" for
any. size: bytes of payload of an echo request or a datagram. greet: False where a TCP connection that stands is
answer enough, because who listens there waits to be spoken to.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

TOGETHER = 250
ERRORS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "refused",
    errno.EHOSTUNREACH: "prohibited",
    errno.EACCES: "prohibited",
    errno.EPERM: "prohibited",
    errno.ETIMEDOUT: "timeout",
}
IDENT = os.getpid() & 0xFFFF


def main(_: list[str]) -> int:
    document = json.load(sys.stdin)
    probes, results = document["probes"], []
    for start in range(0, len(probes), TOGETHER):
        results += wave(probes[start : start + TOGETHER], document["timeout"])
    print(json.dumps({"results": results}))
    return 0


@dataclass
class _One:
    """A probe under way. number: of the echo request."""

    probe: dict[str, Any]
    number: int
    sock: socket.socket | None = None
    verdict: str = ""
    detail: str = ""
    sent: bytes = field(default=b"", repr=False)


def wave(probes: list[dict[str, Any]], timeout: float) -> list[tuple[str, str]]:
    selector = selectors.DefaultSelector()
    items = [_One(probe, number) for number, probe in enumerate(probes)]
    echoes: dict[tuple[int, str], socket.socket] = {}
    for item in items:
        try:
            _begin(item, selector, echoes)
        except OSError as error:
            _fail(item, error)
    end = time.monotonic() + timeout
    half = time.monotonic() + timeout / 2
    while any(not x.verdict for x in items) and (left := end - time.monotonic()) > 0:
        for key, _ in selector.select(min(left, 0.1)):
            _ready(key, items, selector)
        if half and time.monotonic() > half:  # one lost datagram is not a verdict
            half = 0
            for item in items:
                if not item.verdict:
                    _again(item, echoes)
    for sock in {x.sock for x in items if x.sock}:
        sock.close()
    selector.close()
    return [(x.verdict or "timeout", x.detail) for x in items]


def _fail(item: _One, error: OSError) -> None:
    code = error.errno or 0
    item.verdict, item.detail = ERRORS.get(code, "error"), error.strerror or str(error)


def _begin(item: _One, selector: selectors.BaseSelector, echoes: dict[tuple[int, str], socket.socket]) -> None:
    probe = item.probe
    family = socket.AF_INET6 if ":" in probe["address"] else socket.AF_INET
    if probe["kind"] == "icmp":
        item.sock = _echo_socket(family, probe.get("source", ""), selector, echoes)
        item.sent = _echo(family, item.number, b"p" * probe.get("size", 5))
        item.sock.sendto(item.sent, (probe["address"], 0))
        return
    stream = probe["kind"] in ("tcp", "dns-tcp")
    item.sock = sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    sock.setblocking(False)
    if probe.get("source"):
        sock.bind((probe["source"], 0))
    code = sock.connect_ex((probe["address"], probe["port"]))
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, os.strerror(code))
    if probe["kind"] == "dns-tcp" or (stream and not probe.get("greet", True)):
        # the question follows when the connection stands
        selector.register(sock, selectors.EVENT_WRITE, item)
        return
    if not stream:
        item.sent = _question(probe["name"]) if probe["kind"] == "dns-udp" else b"p" * probe.get("size", 5)
        sock.send(item.sent)
    selector.register(sock, selectors.EVENT_READ, item)


def _again(item: _One, echoes: dict[tuple[int, str], socket.socket]) -> None:
    try:
        if item.sock and item.probe["kind"] == "icmp":
            item.sock.sendto(item.sent, (item.probe["address"], 0))
        elif item.sock and item.sent:
            item.sock.send(item.sent)
    except OSError as error:
        _fail(item, error)


def _ready(key: selectors.SelectorKey, items: list[_One], selector: selectors.BaseSelector) -> None:
    if key.data is None:
        _echo_answer(key.fileobj, items)  # type: ignore[arg-type]
        return
    item: _One = key.data
    if key.events == selectors.EVENT_WRITE:
        _connected(item, key, selector)
        return
    try:
        data = item.sock.recv(65535) if item.sock else b""
    except BlockingIOError:
        return
    except OSError as error:
        _fail(item, error)
    else:
        if item.probe["kind"].startswith("dns"):
            item.verdict, item.detail = _answer(data[2:] if item.probe["kind"] == "dns-tcp" else data)
        else:
            item.verdict = "open" if data else "refused"
            item.detail = data.split(b"\n")[0].decode(errors="replace")[:200]
    selector.unregister(key.fileobj)
    if item.sock:
        item.sock.close()  # a server may serve one connection at a time


def _connected(item: _One, key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    """The attempt to connect has come to its end, or so it seems: only an address at the other end proves it."""
    if item.sock is None:
        return
    code = item.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # which the kernel says once
    try:
        if code:
            raise OSError(code, os.strerror(code))
        item.sock.getpeername()
    except OSError as error:
        _fail(item, error)
    else:
        if item.probe["kind"] == "dns-tcp":
            item.sock.send(_words(item.probe))
            selector.modify(item.sock, selectors.EVENT_READ, item)
            return
        item.verdict, item.detail = "open", "connected"
    selector.unregister(key.fileobj)
    item.sock.close()


def _words(probe: dict[str, Any]) -> bytes:
    """A question on a TCP connection."""
    question = _question(probe["name"])
    return struct.pack("!H", len(question)) + question


def _echo_socket(
    family: int, source: str, selector: selectors.BaseSelector, echoes: dict[tuple[int, str], socket.socket]
) -> socket.socket:
    if (family, source) not in echoes:
        protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
        sock = socket.socket(family, socket.SOCK_RAW, protocol)
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        selector.register(sock, selectors.EVENT_READ, None)
        echoes[family, source] = sock
    return echoes[family, source]


def _echo(family: int, number: int, payload: bytes) -> bytes:
    """An echo request (RFC 792, RFC 4443). The kernel fills in the checksum of IPv6, we that of IPv4."""
    kind = 128 if family == socket.AF_INET6 else 8
    packet = struct.pack("!BBHHH", kind, 0, 0, IDENT, number) + payload
    if family == socket.AF_INET6:
        return packet
    words = struct.unpack(f"!{(len(packet) + 1) // 2}H", packet + b"\0" * (len(packet) % 2))
    total = sum(words)
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return packet[:2] + struct.pack("!H", ~total & 0xFFFF) + packet[4:]


def _echo_answer(sock: socket.socket, items: list[_One]) -> None:
    try:
        packet, peer = sock.recvfrom(65535)
    except OSError:
        return
    six = sock.family == socket.AF_INET6
    message = packet if six else packet[(packet[0] & 15) * 4 :]
    if len(message) < 8:
        return
    kind = message[0]
    if kind == (129 if six else 0):
        _settle(message, items, "open", f"{peer[0]} answered", peer[0])
    elif kind == (1 if six else 3):
        inner = message[8 + 40 :] if six else message[8 + (message[8] & 15) * 4 :] if len(message) > 8 else b""
        _settle(inner, items, "prohibited", f"{peer[0]} says it is prohibited", "")


def _settle(message: bytes, items: list[_One], verdict: str, detail: str, sender: str) -> None:
    if len(message) < 8:
        return
    ident, number = struct.unpack("!HH", message[4:8])
    if ident != IDENT or number >= len(items):
        return
    item = items[number]
    if item.probe["kind"] == "icmp" and not item.verdict and (not sender or sender == item.probe["address"]):
        item.verdict, item.detail = verdict, detail


def _question(name: str) -> bytes:
    """A query for an A record (RFC 1035, section 4.1)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def _answer(data: bytes) -> tuple[str, str]:
    if len(data) < 12:
        return "error", "a DNS answer that is too short"
    _, flags, _, answers = struct.unpack("!HHHH", data[:8])
    if flags & 15 or not answers:
        return "error", f"DNS code {flags & 15}, {answers} answers"
    return "open", f"{answers} answers, last {socket.inet_ntoa(data[-4:])}"
