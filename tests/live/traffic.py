"""Traffic on a host of the lab. Run there by the bare interpreter: traffic.py MODE SPEC FILE, SPEC in JSON.

It goes on until stdin ends, and keeps FILE (JSON, replaced as a whole) up to date. Times are of the machine's own
clock (CLOCK_MONOTONIC), which all network namespaces share.

    talk    {"ends": [{"protocol": udp|tcp, "port", "to": [address, port], "from": address, "rate", "word",
             "speak": always|once (until it hears something)|never, "hears": WORD}]}
            Ends of flows. One without "to" waits to be spoken to. -> {"ends": [{"heard": packets, or pieces of TCP,
            with the word "hears", if any is named; "last": when; "ended": whether a TCP connection was closed}]}
    flood   {"to": [[address, port, source or ""], ...], "rate"}: datagrams to everybody in turn
            -> {"sent", "heard", "last"}
    echo    {"port"}: answers each datagram with itself -> {"heard"}
    count   {"to": [address, port], "rate"}: numbered datagrams to an echo -> {"sent", "lost"} when stdin has ended
    drain   {"port"}: one TCP connection, checks that the numbers in it go up by one -> {"heard", "broken"}
    stream  {"to", "rate"}: numbered pieces to a drain
            -> {"sent", "lost": segments sent again whose place was empty over there; "again": all sent again;
                "gap": longest silence before an acknowledgement, s; "dead": error} when stdin has ended
"""

import contextlib
import errno
import json
import os
import select
import socket
import struct
import sys
import time

PIECE = 1000  # bytes of a numbered piece
PATIENCE = 3.0  # for what is still under way at the end


def report(path, **values):
    with open(path + ".new", "w") as file:
        json.dump(values, file)
    os.rename(path + ".new", path)


def bound(kind, spec, port=0):
    version = 6 if ":" in (spec.get("from") or (spec.get("to") or ["::"])[0]) else 4
    sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: from an address that it may get only later
    if version == 6 and not spec.get("from"):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((spec.get("from") or "", port))
    return sock


class Clock:
    """Says when something is due, `rate` times a second, and waits for sockets until then."""

    def __init__(self, rate):
        self.step, self.due = 1 / rate, time.monotonic()

    def wait(self, reading):
        """(whether it is time, the readable ones, whether stdin has ended)"""
        left = self.due - time.monotonic()
        ready = select.select([0, *reading], [], [], max(0, min(left, 0.05)))[0]
        over = 0 in ready and not os.read(0, 1)
        return self.passed(), ready, over

    def passed(self):
        now = time.monotonic()
        if now < self.due:
            return False
        self.due = max(self.due + self.step, now - 1)
        return True


def dialled(sock, spec):
    """The socket, connected: tried for a while, for the other side may not listen yet."""
    end = time.monotonic() + 25
    while True:
        sock.settimeout(2)
        try:
            sock.connect(tuple(spec["to"]))
            return sock
        except OSError:
            if time.monotonic() > end:
                raise
            sock.close()
            time.sleep(0.1)
            sock = bound(socket.SOCK_STREAM, spec, spec.get("port", 0))


class End:
    """One end of a flow."""

    def __init__(self, spec):
        self.tcp = spec["protocol"] == "tcp"
        self.sock = bound(socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM, spec, spec.get("port", 0))
        self.spec, self.other, self.listening = spec, spec.get("to"), None
        self.word, self.want = spec.get("word", "x").encode(), spec.get("hears", "").encode()
        self.speak, self.clock = spec.get("speak", "always"), Clock(spec.get("rate", 100))
        self.heard, self.last, self.ended, self.said = 0, 0.0, False, 0
        if self.tcp and not self.other:
            self.sock.listen(5)
            self.sock, self.listening = None, self.sock

    def dial(self):
        if self.tcp and self.other:
            self.sock = dialled(self.sock, self.spec)
        (self.sock or self.listening).setblocking(False)

    def take(self):
        """What has come in: all of it."""
        if not self.sock:
            self.sock, _ = self.listening.accept()
            self.sock.setblocking(False)
            return
        try:
            for _ in range(100):
                data, source = (self.sock.recv(65536), None) if self.tcp else self.sock.recvfrom(65536)
                if self.tcp and not data:
                    self.close()
                    return
                self.other = self.other or source
                if self.want in data:
                    self.heard, self.last = self.heard + 1, time.monotonic()
        except BlockingIOError:
            pass
        except OSError as error:
            if self.tcp and error.errno in (errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH):
                self.close()

    def close(self):
        self.ended = True
        self.sock.close()
        self.sock = self.listening = None

    def give(self):
        if not self.clock.passed() or not self.sock or not (self.other or self.tcp):
            return
        if self.speak == "always" or (self.speak == "once" and not self.heard and self.said < 20):
            self.said += 1
            with contextlib.suppress(OSError):
                self.sock.send(self.word) if self.tcp else self.sock.sendto(self.word, tuple(self.other))


def talk(spec, path):
    ends = [End(one) for one in spec["ends"]]
    for end in ends:
        end.dial()
    written, over = 0.0, False
    while not over:
        reading = {end.sock or end.listening: end for end in ends if end.sock or end.listening}
        left = min(end.clock.due for end in ends) - time.monotonic()
        ready = select.select([0, *reading], [], [], max(0, min(left, 0.05)))[0]
        over = 0 in ready and not os.read(0, 1)
        for sock in ready:
            if sock in reading:
                reading[sock].take()
        for end in ends:
            end.give()
        if over or time.monotonic() - written > 0.05:
            written = time.monotonic()
            report(path, ends=[{"heard": end.heard, "last": end.last, "ended": end.ended} for end in ends])


def flood(spec, path):
    socks = {}
    for address, _, source in spec["to"]:
        key = (source, ":" in address)
        if key not in socks:
            socks[key] = bound(socket.SOCK_DGRAM, {"from": source, "to": [address]})
            socks[key].setblocking(False)
    clock, sent, heard, last, written = Clock(spec["rate"]), 0, 0, 0.0, 0.0
    while True:
        due, ready, over = clock.wait(socks.values())
        for sock in ready:
            if sock != 0:
                with contextlib.suppress(OSError):
                    sock.recv(2000)
                    heard, last = heard + 1, time.monotonic()
        if due:
            address, port, source = spec["to"][sent % len(spec["to"])]
            sent += 1
            with contextlib.suppress(OSError):
                socks[source, ":" in address].sendto(b"forbidden", (address, port))
        if over or time.monotonic() - written > 0.05:
            written = time.monotonic()
            report(path, sent=sent, heard=heard, last=last)
        if over:
            return


def echo(spec, path):
    sock = bound(socket.SOCK_DGRAM, {}, spec["port"])
    heard = 0
    report(path, heard=0)
    while True:
        ready = select.select([0, sock], [], [])[0]
        if 0 in ready and not os.read(0, 1):
            report(path, heard=heard)
            return
        if sock in ready:
            data, source = sock.recvfrom(2000)
            heard += 1
            sock.sendto(data, source)


def count(spec, path):
    sock = bound(socket.SOCK_DGRAM, spec)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    clock, sent, back, end = Clock(spec["rate"]), 0, set(), None
    report(path, sent=0)
    while end is None or (time.monotonic() < end and len(back) < sent):
        due, ready, over = clock.wait([sock]) if end is None else (False, select.select([sock], [], [], 0.1)[0], False)
        if sock in ready:
            back.add(sock.recv(2000))
        if due:
            with contextlib.suppress(OSError):  # counted as lost
                sock.sendto(struct.pack("!Q", sent), tuple(spec["to"]))
            sent += 1
        if over:
            end = time.monotonic() + PATIENCE
    report(path, sent=sent, lost=sent - len(back))


def drain(spec, path):
    listening = bound(socket.SOCK_STREAM, {}, spec["port"])
    listening.listen(5)
    report(path, heard=0, broken=False)
    sock, rest, number, broken = None, b"", 0, False
    while True:
        ready = select.select([0, sock or listening], [], [])[0]
        if 0 in ready and not os.read(0, 1):
            report(path, heard=number, broken=broken)
            return
        if not sock and listening in ready:
            sock, _ = listening.accept()
            rest, number, broken = b"", 0, False
        elif sock and sock in ready:
            data = sock.recv(1 << 16)
            rest += data
            while len(rest) >= PIECE:
                broken = broken or struct.unpack_from("!Q", rest)[0] != number
                number, rest = number + 1, rest[PIECE:]
            if not data:
                sock.sendall(struct.pack("!QBI", number, broken, _field(sock, 224)))  # tcpi_rcv_ooopack
                sock.close()
                sock = None


def stream(spec, path):
    sock = dialled(bound(socket.SOCK_STREAM, spec), spec)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    clock, sent, dead, gap, heard, late, over = Clock(spec["rate"]), 0, "", 0.0, "", 0, False
    report(path, sent=0)
    while not over and not dead:
        due, _, over = clock.wait([])
        try:
            if due:
                sock.sendall(struct.pack("!Q", sent).ljust(PIECE, b"."))
                sent += 1
            gap = max(gap, _field(sock, 56) / 1000)  # tcpi_last_ack_recv, ms
        except OSError as error:
            dead = str(error)
    again, known = _field(sock, 100), _field(sock, 216)  # tcpi_total_retrans, tcpi_dsack_dups
    try:
        sock.settimeout(15)
        sock.shutdown(socket.SHUT_WR)
        *heard, late = struct.unpack("!QBI", sock.recv(13, socket.MSG_WAITALL))
        again, known = _field(sock, 100), _field(sock, 216)
    except (OSError, struct.error) as error:
        dead = dead or str(error)
    report(path, sent=sent, lost=min(max(0, again - known), late), again=again, gap=gap, dead=dead, heard=heard)


def _field(sock, place):
    """A 32 bit field of struct tcp_info (linux/tcp.h); 0 where this kernel does not have it yet."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("=I", info, place)[0] if len(info) >= place + 4 else 0


if __name__ == "__main__":
    {"talk": talk, "flood": flood, "echo": echo, "count": count, "drain": drain, "stream": stream}[sys.argv[1]](
        json.loads(sys.argv[2]), sys.argv[3]
    )
