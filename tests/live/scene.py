"""A lab of a mesh of these tests, the product acting on it, and real traffic on its hosts."""

from __future__ import annotations

import copy
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

import meshwright
from meshwright import events, flow, lab
from meshwright.flow import View
from meshwright.io.host import Namespace
from meshwright.lab import Lab, play
from meshwright.providers import table
from meshwright.spec.load import load
from meshwright.spec.model import Mesh

TRAFFIC = Path(__file__).with_name("traffic.py")
Document = dict[str, Any]

# Two IP versions, a service, and three friends. The lab itself listens on both ends of a range of ports, not between.
BASE: Document = {
    "version": 1,
    "name": "live",
    "hub": {
        "node": "hub-1",
        "address": "192.168.20.20",
        "interface": "wg4",
        "endpoint": "hub.example.net:51844",
    },
    "network": {
        "cidr": ["10.90.0.0/16", "fd90::/64"],
        "hub": ["10.90.0.1", "fd90::1"],
        "routes": {
            "nodes": "192.168.20.0/24",
            "pods": ["10.42.0.0/16", "fd42::/56"],
            "services": "10.43.0.0/16",
        },
    },
    "peers": {
        "anna": {"address": ["10.90.1.1", "fd90::1:1"]},
        "bert": {"address": ["10.90.1.2", "fd90::1:2"]},
        "carl": {"address": ["10.90.1.3", "fd90::1:3"]},
    },
    "services": {"store": {"address": "10.43.0.80", "ports": ["7000-7049/udp", "7000-7049/tcp"]}},
    "policy": {"allow": []},
}


def document(name: str, *rules: Mapping[str, Any], peers: Mapping[str, Any] | None = None) -> Document:
    """The base mesh with this name, these rules, and these peers in place of the three."""
    out = copy.deepcopy(BASE)
    out["name"] = name
    out["policy"]["allow"] = [dict(rule) for rule in rules]
    if peers is not None:
        out["peers"] = dict(peers)
    return out


def rule(source: str, to: str, *ports: str) -> dict[str, Any]:
    return {"from": source, "to": to, "ports": list(ports)}


def home(folder: Path, name: str) -> Path:
    """The directory of a lab, where the command line finds it too when `environment(folder)` holds."""
    return folder / "state/meshwright/lab" / name


def environment(folder: Path) -> dict[str, str]:
    source = str(Path(meshwright.__file__).parents[1])
    return {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": source, "NO_COLOR": "1"}


def command(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """meshwright WORDS as a process in a group of its own; what it says goes to FOLDER/said."""
    with (folder / f"said-{time.monotonic_ns()}").open("wb") as said:
        argv = [sys.executable, "-m", "meshwright", *words]
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment(folder), start_new_session=True
        )


class Stage:
    """A running lab and what acts on it. `mesh` is the one that was applied last."""

    def __init__(self, folder: Path, first: Document | Mesh) -> None:
        self.folder = folder
        self.numbers = itertools.count()
        self.mesh = first if isinstance(first, Mesh) else self.load(first)
        self.lab: Lab = lab.up(self.mesh, home(folder, self.mesh.name))
        self.places = play.places(self.lab)
        self.apply(self.mesh)
        self.lab.peers_up(self.places.clients)
        self.traffic: list[Traffic] = []

    def file(self, wanted: Document) -> Path:
        file = self.folder / f"mesh-{next(self.numbers)}.yaml"
        file.write_text(yaml.safe_dump(wanted, sort_keys=False))
        return file

    def load(self, wanted: Document) -> Mesh:
        return load(self.file(wanted)).mesh

    def look(self, mesh: Mesh) -> View:
        played = play.played(mesh)
        return flow.look(played, table.providers(played, self.places), self.places, events.silent)

    def write(self, view: View) -> list[str]:
        """Apply what was planned -> why it failed, one sentence per failed change."""
        results = flow.apply(view.todo, table.providers(view.mesh, self.places), events.silent)
        return [f"{result.id}: {result.why}" for result in results if not result.ok]

    def apply(self, wanted: Document | Mesh) -> None:
        """Make it so; everything must succeed."""
        self.mesh = wanted if isinstance(wanted, Mesh) else self.load(wanted)
        failed = self.write(self.look(self.mesh))
        assert not failed, failed

    def left(self) -> list[str]:
        """What a plan of the mesh applied last still wants."""
        return [change.id for change in self.look(self.mesh).todo.changes]

    @property
    def hub(self) -> Namespace:
        return self.lab.host("hub")

    def sh(self, host: str, script: str) -> str:
        done = self.lab.host(host).run(["sh", "-c", script], timeout=60)
        assert done.code == 0, (host, script, done.err)
        return done.out.decode()

    def start(self, host: str, mode: str, **spec: Any) -> Traffic:
        it = Traffic(self.lab.host(host), self.folder / f"traffic-{next(self.numbers)}", mode, spec)
        self.traffic.append(it)
        return it

    def quiet(self) -> None:
        """End all traffic."""
        running, self.traffic = self.traffic, []
        for each in running:
            each.hang_up()
        for each in running:
            each.end()

    def down(self) -> None:
        self.quiet()
        for one in (self.folder / "state/meshwright/lab").glob("*"):
            lab.down(one)


@contextmanager
def staged(folder: Path, first: Document | Mesh) -> Iterator[Stage]:
    """A stage that is taken down whatever happens, also when it does not come up."""
    stage = Stage.__new__(Stage)
    stage.traffic = []
    stage.folder = folder
    try:
        stage.__init__(folder, first)  # type: ignore[misc]
        yield stage
    finally:
        stage.down()


class Traffic:
    """One run of traffic.py on a host."""

    def __init__(self, host: Namespace, file: Path, mode: str, spec: Mapping[str, Any]) -> None:
        self.file, self.name = file, f"{mode} on {host.name} {json.dumps(spec)}"
        argv = host.enter([host.python, "-I", "-S", str(TRAFFIC), mode, json.dumps(spec), str(file)])
        with file.with_suffix(".log").open("wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def ready(self) -> Traffic:
        """Wait until it runs, for a dialler of TCP until it is connected."""
        if not wait(lambda: bool(self.now) or self.process.poll() is not None, 30) or not self.now:
            raise AssertionError(f"{self.name}: {self.file.with_suffix('.log').read_text()[-500:]}")
        return self

    @property
    def now(self) -> dict[str, Any]:
        """What it last reported, {} before the first time."""
        with suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads(self.file.read_text())
            return found
        return {}

    @property
    def heard(self) -> int:
        return int(self.now.get("heard", 0))

    def hang_up(self) -> None:
        """Tell it to end."""
        with suppress(OSError):
            if self.process.stdin:
                self.process.stdin.close()

    def end(self) -> dict[str, Any]:
        """End it, and what it says at the end."""
        self.hang_up()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        return self.now


def wait(until: Callable[[], bool], patience: float = 20) -> bool:
    """Whether it comes true within `patience` seconds."""
    end = time.monotonic() + patience
    while not until():
        if time.monotonic() > end:
            return until()
        time.sleep(0.02)
    return True


class End:
    """One end of a flow, one of many that a process on its host has."""

    def __init__(self, host: str, spec: Mapping[str, Any]) -> None:
        self.host, self.spec = host, spec
        self.name = f"{host} {json.dumps(spec)}"
        self.place: tuple[Traffic, int] | None = None

    @property
    def now(self) -> dict[str, Any]:
        assert self.place
        traffic, number = self.place
        found: dict[str, Any] = traffic.now["ends"][number]
        return found

    @property
    def heard(self) -> int:
        return int(self.now["heard"])


class Flows:
    """Flows between hosts, one process per host. `flow` adds one, `begin` starts them all."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.ends: list[End] = []

    def end(self, host: str, **spec: Any) -> End:
        self.ends.append(End(host, spec))
        return self.ends[-1]

    def begin(self) -> None:
        hosts: dict[str, list[End]] = {}
        for end in self.ends:
            hosts.setdefault(end.host, []).append(end)
        started = [self.stage.start(host, "talk", ends=[e.spec for e in ends]) for host, ends in hosts.items()]
        for traffic, ends in zip(started, hosts.values(), strict=True):
            traffic.ready()
            for number, end in enumerate(ends):
                end.place = traffic, number


def silent(*ends: End) -> list[str]:
    """Those that do not go on hearing."""
    goals = [(end, end.heard + 5) for end in ends]
    wait(lambda: all(end.heard >= goal for end, goal in goals))
    return [end.name for end, goal in goals if end.heard < goal]


def heard(ends: Sequence[End], beside: Sequence[End]) -> list[str]:
    """Those that never fall silent while those beside them go on hearing.

    What was under way may still come in, on a busy machine for a while; a flow that lives never pauses for so long.
    """
    for _ in range(15):
        before = [(end, end.heard) for end in ends]
        time.sleep(0.5)
        for _ in range(4):
            assert silent(*beside) == []
        loud = [f"{end.name}: {count} -> {end.heard}" for end, count in before if end.heard != count]
        if not loud:
            break
    return loud


def counted(stage: Stage, hosts: Sequence[str], ports: Sequence[int]) -> Callable[[], dict[str, int]]:
    """Count what comes in to these UDP ports at these hosts, before anything there could drop it -> host -> packets.

    A packet that is only passed on (a service behind the hub) is counted where it ends.
    """
    text = "".join(f"udp dport {port} counter; " for port in ports)
    rules = f"table inet live_count {{ chain come {{ type filter hook prerouting priority -350; {text} }}; }}"
    for host in hosts:
        stage.sh(host, f"nft delete table inet live_count 2>/dev/null; nft '{rules}'")

    def read() -> dict[str, int]:
        out = {}
        for host in hosts:
            rows = json.loads(stage.sh(host, "nft -j list table inet live_count"))["nftables"]
            parts = [part for row in rows if "rule" in row for part in row["rule"]["expr"]]
            out[host] = sum(part["counter"]["packets"] for part in parts if "counter" in part)
        return out

    return read
