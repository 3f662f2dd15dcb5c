"""From the start of the command to the last packet: flows through the hub while `apply` takes the right, or the friend.

    python bench/revoke.py [ROUNDS]        as root or not; a lab of its own, about 10 s per round

A peer and a server behind the hub send each other UDP datagrams and lines over TCP, 500 a second each way. Then the
file is changed and `meshwright apply --lab --yes` starts; what counts is when the last packet arrived, on either side.
`removed right`: the rule goes; `removed peer`: the friend is disabled.

Then the hub's own ports: a peer sends to a port of the hub that nobody may use, `nft flush ruleset` opens it, and
a reload of the firewall service, or `apply`, closes it again: milliseconds from the flush to the last packet let in.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import ENV, record
from meshwright import lab
from meshwright.io.host import Namespace, service

ROUNDS = int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdigit() else 7
PORT, HUB_PORT, RATE = 9050, 9999, 500
MESH = """version: 1
name: revoked
hub: {{node: hub, address: 192.168.20.20, interface: wg1, endpoint: 'vpn.example.net:51821'}}
network:
  cidr: 10.100.0.0/16
  hub: 10.100.0.1
  routes: {{nodes: 192.168.20.0/24, pods: 10.42.0.0/16, services: 10.43.0.0/16}}
peers:
  bryce: {{address: 10.100.2.2, namespace: bryce, disabled: {disabled}}}
  jake: {{address: 10.100.2.3, namespace: jake}}
policy:
  allow:
    - {{from: peers, to: hub, ports: [icmp]}}
    - {{from: jake, to: nodes, ports: [9000-9099/udp, 9000-9099/tcp]}}
{rule}"""
RULE = "    - {from: bryce, to: nodes, ports: [9000-9099/udp, 9000-9099/tcp]}\n"
FILES = {
    "whole": MESH.format(disabled="false", rule=RULE),
    "removed right": MESH.format(disabled="false", rule=""),
    "removed peer": MESH.format(disabled="true", rule=RULE),
}


# -- inside a host of the lab: send and receive until stdin ends, then say when the last packet came


class Flow:
    """One end of the flows; CLOCK_MONOTONIC is one clock for all namespaces."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.count: dict[str, int] = {}

    def got(self, kind: str) -> None:
        now = time.monotonic()
        self.first.setdefault(kind, now)
        self.last[kind] = now
        self.count[kind] = self.count.get(kind, 0) + 1

    def run(self, udp: socket.socket, tcp: socket.socket | None, listener: socket.socket | None) -> None:
        """Send on both, 500 a second, and note what arrives."""
        due, peer = time.monotonic(), None
        while True:
            inputs: list[Any] = [udp, sys.stdin, *(s for s in (tcp, listener) if s)]
            ready = select.select(inputs, [], [], max(0, due - time.monotonic()))[0]
            if sys.stdin in ready:
                return
            if udp in ready:
                peer = self._datagram(udp) or peer
            if listener and listener in ready:
                tcp = listener.accept()[0]
                tcp.setblocking(False)
            if tcp and tcp in ready:
                tcp = self._line(tcp)
            if time.monotonic() >= due:
                due = max(due + 1 / RATE, time.monotonic() - 0.1)
                self._send(udp, tcp, peer)

    def _datagram(self, udp: socket.socket) -> Any:
        with contextlib.suppress(OSError):
            peer = udp.recvfrom(100)[1]
            self.got("udp")
            return peer
        return None

    def _line(self, tcp: socket.socket) -> socket.socket | None:
        try:
            if tcp.recv(1 << 16):
                self.got("tcp")
                return tcp
        except BlockingIOError:
            return tcp
        except OSError:
            pass
        tcp.close()
        return None

    def _send(self, udp: socket.socket, tcp: socket.socket | None, peer: Any) -> None:
        with contextlib.suppress(OSError):
            udp.sendto(b"x" * 64, peer) if peer else udp.send(b"x" * 64)
        with contextlib.suppress(OSError):
            if tcp:
                tcp.send(b"x" * 64)


def end(role: str, address: str, port: int) -> None:
    """One program of the flows; prints {kind: [first, last, count]} of what arrived."""
    flow = Flow()
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    tcp = listener = None
    if role == "server":
        udp.bind((address, port))
        listener = socket.create_server((address, port))
    else:
        udp.connect((address, port))
        if role == "client":
            tcp = socket.create_connection((address, port), 5)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tcp.setblocking(False)
    flow.run(udp, tcp, listener)
    print(json.dumps({kind: [flow.first[kind], flow.last[kind], flow.count[kind]] for kind in flow.count}))


# -- outside


class End:
    """A program of the flows on a host of the lab."""

    def __init__(self, host: Namespace, role: str, address: str, port: int) -> None:
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        argv = host.enter([sys.executable, __file__, "--end", role, address, str(port)])
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self.out, stderr=self.err, env=ENV)

    def stop(self) -> dict[str, list[float]]:
        assert self.process.stdin
        self.process.stdin.close()
        if self.process.wait(20):
            self.err.seek(0)
            sys.exit(self.err.read().decode()[-2000:])
        self.out.seek(0)
        found: dict[str, list[float]] = json.loads(self.out.read())
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def ends(*wanted: tuple[Namespace, str, str, int]) -> Iterator[list[End]]:
    running: list[End] = []
    try:
        for each in wanted:
            running.append(End(*each))
            time.sleep(0.4)
        yield running
    finally:
        for one in running:
            one.kill()


class World:
    """The running lab and its file."""

    def __init__(self, home: str) -> None:
        self.file = Path(home) / "mesh.yaml"
        self.write("whole")
        self.program = [sys.executable, "-m", "meshwright", "--file", str(self.file)]
        self.command("lab", "up")
        self.lab = lab.open(lab.directory("revoked"))
        routes = [t for t in self.lab.targets if t.kind == "route" and t.address.startswith("192.168.20.")]
        self.server = next(t for t in routes if t.host not in ("hub", "gw"))

    def write(self, which: str) -> None:
        self.file.write_text(FILES[which])

    def command(self, *words: str) -> tuple[float, float]:
        """(start, end) of a command of the product."""
        with tempfile.TemporaryFile() as out:
            start = time.monotonic()
            argv, none = [*self.program, *words], subprocess.DEVNULL
            code = subprocess.run(
                argv, env=ENV, stdin=none, stdout=out, stderr=out, timeout=300, check=False
            ).returncode
            done = time.monotonic()
            out.seek(0)
            if code:
                sys.exit(f"{' '.join(words)}: {out.read().decode()[-2000:]}")
        return start, done

    def apply(self) -> tuple[float, float]:
        return self.command("apply", "--lab", "--yes", "--force", "benchmark")

    def revoke(self, which: str) -> dict[str, float]:
        """Milliseconds from the command's start until each kind of packet was last seen, and until its end."""
        server, friend = self.lab.host(self.server.host), self.lab.host("bryce")
        with ends((server, "server", self.server.address, PORT), (friend, "client", self.server.address, PORT)) as both:
            time.sleep(0.6)
            self.write(which)
            start, done = self.apply()
            time.sleep(0.7)
            there, here = (one.stop() for one in both)
        self._restore(which)
        out = {"command": done - start}
        for name, seen in (("to the server", there), ("to the friend", here)):
            for kind in ("udp", "tcp"):
                _, last, count = seen[kind]
                if last < start or count < 100:
                    sys.exit(f"{kind} {name} was not running: {seen}")
                out[f"{kind} {name}"] = last - start
        out["last packet"] = max(value for name, value in out.items() if name != "command")
        return {name: value * 1e3 for name, value in out.items()}

    def _restore(self, which: str) -> None:
        self.write("whole")
        self.apply()
        if which == "removed peer":  # his side would only notice after 15 s that the hub forgot the session
            self.lab.peer_down("bryce")
            self.lab.peers_up(self.lab.directory / "clients")

    def reopen(self, way: str) -> dict[str, float]:
        """Milliseconds from a flush until the hub's own ports are closed again."""
        hub, friend = self.lab.host("hub"), self.lab.host("jake")
        with ends((hub, "server", "10.100.0.1", HUB_PORT), (friend, "blind", "10.100.0.1", HUB_PORT)) as both:
            start = time.monotonic()
            if way == "service reload":
                service(hub, "nftables.service", "reload")
            else:
                hub.run(["nft", "flush", "ruleset"])
                flushed = time.monotonic()
                self.apply()
                start = flushed
            done = time.monotonic()
            time.sleep(0.5)
            seen, _ = (one.stop() for one in both)
        self.apply()
        if "udp" not in seen:
            return {"open": 0.0, "command": (done - start) * 1e3}
        first, last, _ = seen["udp"]
        return {"open": (last - first) * 1e3, "command": (done - start) * 1e3}


def figures(name: str, rows: list[dict[str, float]]) -> list[str]:
    out = []
    for key in rows[0]:
        values = [row[key] for row in rows]
        out.append(f"| {name} | {key} | {min(values):.0f} / {statistics.median(values):.0f} / {max(values):.0f} |")
    return out


def main() -> None:
    lines = ["| what | ms after the command's start until | min / median / max |", "|---|---|---|"]
    closing = ["| after `nft flush ruleset` | ms | min / median / max |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as home:
        ENV["XDG_STATE_HOME"] = os.environ["XDG_STATE_HOME"] = home
        world = World(home)
        try:
            for which in ("removed right", "removed peer"):
                lines += figures(which, [world.revoke(which) for _ in range(ROUNDS)])
            service(world.lab.host("hub"), "nftables.service", "start")  # flushes, as at boot
            world.apply()
            for way in ("service reload", "apply"):
                closing += figures(way, [world.reopen(way) for _ in range(ROUNDS)])
        finally:
            world.command("lab", "down")
    record(f"A right taken away: command start to last packet ({ROUNDS} rounds)", lines)
    record(f"The hub's own ports after a flush ({ROUNDS} rounds)", closing)


if sys.argv[1:2] == ["--end"]:
    end(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    main()
