"""A whole mesh over SSH: a booted hub, an operator with a mesh file and the real program, peers who ping all the time.

Each peer is a machine of its own and uses the very .conf that apply wrote.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from booted import HUB, PASSWORD, SLOW, Hub
from meshwright.io.host import Namespace

ROOT = Path(__file__).parents[1]
INTERFACE, TABLE, GATE = "wg1", "stage", "10.100.0.1"
CONF = f"/etc/wireguard/{INTERFACE}.conf"
ADDRESS = {name: f"10.100.2.{number}" for number, name in enumerate(("anna", "bert", "carl", "dora", "eve"), 1)}
WILL = {"anna": ["icmp", "22/tcp"], "bert": ["icmp"], "carl": ["icmp"], "dora": ["icmp"], "eve": ["icmp"]}
MESH = """version: 1
name: {name}
hub: {{node: hub-1, address: {hub}, interface: {interface}, endpoint: "{hub}:51821", connection: {connection}{pin}}}
network: {{cidr: 10.100.0.0/16, hub: {gate}, routes: {{mesh: 10.100.0.0/16}}}}
peers:
{peers}
policy:
  allow:
{rules}
"""
KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")


@dataclass
class Done:
    """The program at its end."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"code {self.code}\n{self.out}\n{self.err}"

    def refused(self, code: int, *words: str) -> None:
        """It ended with this code and one error with one next step, which have these words."""
        last = self.err[self.err.find("error: ") :].splitlines()
        assert self.code == code, self
        assert [line.partition(": ")[0] for line in last] == ["error", "next"], self
        for word in words:
            assert word in self.err, (word, self)


class Stream:
    """A ping from a peer that goes on until it is stopped; `received` are the numbers of its answers so far."""

    def __init__(self, home: Namespace, target: str, log: Path, interval: float) -> None:
        self.log = log
        words = home.enter(["ping", "-n", "-i", str(interval), target])
        with log.open("wb") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def received(self) -> list[int]:
        # the last line may be half a line
        return [int(found) for found in re.findall(r" icmp_seq=(\d+) ttl=.*\n", self.log.read_text())]

    def alive(self, seconds: float = 20) -> float:
        """Wait for three more answers -> how long the first of them took."""
        begun, before, first = time.monotonic(), len(self.received), 0.0
        while (now := len(self.received)) < before + 3:
            first = first or (time.monotonic() - begun if now > before else 0)
            assert time.monotonic() < begun + seconds * SLOW, f"{self.log.name}: no answer for {seconds * SLOW:.0f} s"
            time.sleep(0.05)
        return first or time.monotonic() - begun

    def lost(self, since: int) -> int:
        """How many have stayed without an answer since the answer with this number."""
        numbers = [number for number in self.received if number > since]
        return (numbers[-1] - since if numbers else 0) - len(numbers)

    @property
    def last(self) -> int:
        return max(self.received, default=0)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@dataclass
class Stage:
    """What the operator has: a folder with mesh.yaml. `peers` are those that the file names."""

    hub: Hub
    folder: Path
    connection: str
    peers: list[str]
    rights: dict[str, list[str]] = field(default_factory=lambda: {name: list(ports) for name, ports in WILL.items()})
    homes: dict[str, Namespace] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    name: str = "stage"
    pin: str = ""
    disabled: set[str] = field(default_factory=set)
    environment: dict[str, str] = field(default_factory=dict)

    # -- the program

    def write(self) -> None:
        """The mesh file as `peers` and `rights` have it now."""
        off = {name: ", disabled: true" for name in self.disabled}
        peers = "\n".join(f"  {name}: {{address: {ADDRESS[name]}{off.get(name, '')}}}" for name in self.peers)
        rules = [
            f"    - {{from: {name}, to: hub, ports: [{', '.join(self.rights[name])}]}}"
            for name in self.peers
            if self.rights[name]
        ]
        if {"anna", "bert"} <= {*self.peers}:
            rules.append("    - {from: anna, to: bert, ports: [icmp]}")
        text = MESH.format(
            name=self.name, hub=HUB, interface=INTERFACE, connection=self.connection, gate=GATE, peers=peers,
            rules="\n".join(rules), pin=f", public_key: {self.pin}" if self.pin else "",
        )  # fmt: skip
        (self.folder / "mesh.yaml").write_text(text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The program in the background; `end` waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "meshwright", "--file", str(self.folder / "mesh.yaml"), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
            env={**os.environ, **self.hub.environment, **self.environment, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip

    def end(self, process: subprocess.Popen[str], seconds: float = 120) -> Done:
        out, err = process.communicate(timeout=seconds * SLOW)
        done = Done(process.returncode, out, err)
        self.check_words(done)
        return done

    def run(self, *words: str, seconds: float = 120) -> Done:
        return self.end(self.start(*words), seconds)

    def apply(self, *words: str) -> Done:
        self.write()
        return self.run("apply", "--yes", *words)

    def check_words(self, done: Done) -> None:
        """No traceback and no secret in what the program says."""
        said = done.out + done.err
        assert "Traceback" not in said, said
        assert "is likely a bug" not in said, said
        assert PASSWORD not in said, said
        for secret in self.secrets():
            assert secret not in said, said

    def secrets(self) -> Iterator[str]:
        for place in (*self.folder.rglob("*.key"), self.hub.root / CONF.lstrip("/")):
            if place.is_file():
                text = place.read_text(errors="replace")
                yield from KEY.findall(text if place.suffix == ".key" else "\n".join(re.findall("Private.*", text)))

    def converge(self) -> Done:
        """The next apply mends everything: nothing is left to do."""
        done = self.apply()
        assert done.code == 0, done
        self.settled()
        return done

    @contextmanager
    def fault(self, *, quiet: bool = False) -> Iterator[None]:
        """A change is wanted (carl and dora change places) and goes wrong in the block.

        Then the old mesh works, nobody has more than before or after, and the next apply makes everything right. quiet:
        what broke is the mesh itself, which only apply mends.
        """
        before = self.access()
        (leaving,) = {"carl", "dora"} - self.disabled
        self.disabled = {leaving}
        seen = self.streams["eve"].last
        yield
        if not quiet:
            self.alive()
        between = self.access()
        self.expire()
        self.converge()
        assert between <= before | (after := self.access()), sorted(between - before - after)
        out = self.streams[leaving].last
        self.alive()
        assert (self.streams["eve"].last, self.streams[leaving].last) == (seen, out)

    def expire(self) -> bool:
        """Let the time of a write that nobody confirmed be over now -> whether there was one."""
        armed = self.hub.run("test", "-e", f"/var/lib/meshwright/rollback-{TABLE}/snapshot.json", check=False)
        if armed.returncode == 0:
            self.hub.run("systemctl", "start", f"meshwright-rollback-{TABLE}.service")
        return armed.returncode == 0

    def settled(self) -> None:
        plan = self.run("plan")
        assert plan.code == 0, plan

    def check(self) -> None:
        """What is quicker to ask once for many faults: verify finds nothing, and whoever is in gets answers."""
        found = self.run("verify")
        assert found.code == 0, found
        (coming,) = {"carl", "dora"} - self.disabled
        self.streams[coming].alive(30)
        assert not self.gets_in(*self.disabled)

    # -- the peers

    def join(self, name: str) -> Namespace:
        """The peer's own machine, with the .conf that apply wrote; from now on it pings the hub."""
        number = int(ADDRESS[name].rpartition(".")[2])
        home = self.hub.site.host(name, f"192.0.2.{20 + number}")
        home.put("/etc/wireguard/mesh.conf", self.conf(name).read_bytes(), 0o600)
        up = home.run(["wg-quick", "up", "mesh"], timeout=60 * SLOW)
        assert up.code == 0, up.err
        self.homes[name] = home
        self.stream(name, name, GATE)
        return home

    def conf(self, name: str) -> Path:
        (found,) = self.folder.rglob(f"{name}.conf")
        return found

    def stream(self, stream: str, name: str, target: str) -> Stream:
        interval = 0.5 if SLOW > 1 else 0.1
        self.streams[stream] = Stream(self.homes[name], target, self.folder / f"{stream}.ping", interval)
        return self.streams[stream]

    def alive(self, seconds: float = 20) -> float:
        """Whoever shall be in gets answers -> the longest that one had to wait."""
        return max(
            stream.alive(seconds) for name, stream in self.streams.items() if name not in ("carl", "dora", "eve")
        )

    def gets_in(self, name: str, target: str = GATE) -> bool:
        """Whether the peer gets an answer now, after any handshake that this takes."""
        words = ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", target]
        return self.homes[name].run(words, timeout=20 * SLOW).code == 0

    # -- the hub

    def access(self) -> set[str]:
        """What anybody may do now: a line per right of the table in force, and per address of the device."""
        listed = self.hub.run("nft", "-j", "list", "table", "inet", TABLE, check=False).stdout or b'{"nftables": []}'
        sets = {
            body["name"]: [_element(part) for part in body.get("elem", [])]
            for entry in json.loads(listed)["nftables"]
            for body in (entry[kind] for kind in ("set", "map") if kind in entry)
        }
        if not sets:
            self.check_closed()
        roles = {e[0]: e[1]["jump"]["target"] for e in (*sets.get("hosts4", ()), *sets.get("networks4", ()))}
        out = {
            f"{source} {name.rpartition('_')[2]} {json.dumps(element)}"
            for source, role in roles.items()
            for name, elements in sets.items()
            for element in elements
            if name.startswith(f"{role}_")
        }
        device = self.hub.run("wg", "show", INTERFACE, "allowed-ips", check=False).stdout.decode()
        return out | {line for line in device.split("\n") if line}

    def kill_sessions(self) -> None:
        """Kill sshd's processes of every session, with what they had still to say."""
        found = self.hub.run("pgrep", "-f", "^sshd: root").stdout.decode().split()
        self.hub.run("kill", "-9", *found)
        time.sleep(0.3)

    def check_closed(self) -> None:
        """Without our table nothing may come in: by the rule, or because there is no interface."""
        for family in ("-4", "-6"):
            rules = self.hub.run("ip", family, "rule").stdout.decode()
            link = self.hub.run("ip", "link", "show", INTERFACE, check=False)
            assert f"iif {INTERFACE}" in rules or link.returncode, f"open: {rules}"

    @contextmanager
    def wall(self, verdict: str) -> Iterator[None]:
        """What ssh sends from the operator to the hub, or back, meets this verdict of nft."""
        ground = self.hub.site.ground
        rules = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; tcp {port} 22 {verdict}; }}\n"
            for hook, port in (("output", "dport"), ("input", "sport"))
        )
        done = ground.run(["nft", "-f", "-"], stdin=f"table inet wall {{\n{rules}}}".encode())
        assert done.code == 0, done.err
        try:
            yield
        finally:
            ground.run(["nft", "delete", "table", "inet", "wall"])

    @contextmanager
    def held(self, program: str, pattern: str = "", *, after: bool = False) -> Iterator[Callable[[], None]]:
        """Stop a program on the hub where hubd calls it with `pattern` in its words or input -> wait until it is so.

        after: when it has done its work. Leaving the block lets it go on.
        """
        gate = self.hub.root / "usr/local/sbin" / program
        real = f"/usr/{'sbin' if program in ('nft', 'conntrack') else 'bin'}/{program}"
        stop = "echo here >/run/held.here; while [ -e /run/held ]; do sleep 0.05; done"
        text = f"""#!/bin/bash
input=$(mktemp /run/held.XXXXXX); [ -t 0 ] || cat >"$input"
match=""; {{ printf '%s ' "$@"; cat "$input"; }} | grep -qE -- '{pattern}' && [ -e /run/held ] && match=1
{"" if after else f'if [ "$match" ]; then {stop}; fi'}
{real} "$@" <"$input"; code=$?
rm -f "$input"
{f'if [ "$match" ]; then {stop}; fi' if after else ""}
exit $code
"""
        self.hub.run("touch", "/run/held")
        gate.write_text(text)
        gate.chmod(0o755)

        def reached() -> None:
            end = time.monotonic() + 60 * SLOW
            while self.hub.run("test", "-e", "/run/held.here", check=False).returncode:
                assert time.monotonic() < end, f"nobody called {program} with {pattern}"
                time.sleep(0.05)

        try:
            yield reached
        finally:
            gate.unlink(missing_ok=True)
            if self.hub.machine and self.hub.machine.poll() is None:
                self.hub.run("rm", "-f", "/run/held", "/run/held.here")


def _element(part: Any) -> Any:
    """An element without its counter and comment: what it matches and, in a map, what follows from it."""
    if isinstance(part, dict) and "elem" in part:
        return part["elem"]["val"]
    return [_element(each) for each in part] if isinstance(part, list) else part


@contextmanager
def stage(hub: Hub, folder: Path, *, connection: str = "") -> Iterator[Stage]:
    """A mesh in force. anna and bert ping; carl is in, dora disabled; eve was a peer once and keeps trying."""
    here = Stage(hub, folder, connection or hub.connection(), list(ADDRESS))
    try:
        done = here.apply()
        assert done.code == 0, done
        for name in here.peers:
            here.join(name)
        here.stream("anna-bert", "anna", ADDRESS["bert"])
        for stream in here.streams.values():
            stream.alive(30)
        here.peers.remove("eve")
        here.disabled = {"dora"}
        here.converge()
        assert not here.gets_in("eve")
        yield here
        here.check()
    finally:
        for stream in here.streams.values():
            stream.stop()
        shutil.rmtree(folder, ignore_errors=True)
