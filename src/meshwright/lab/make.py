"""Brings a lab up, changes it, takes it down. Everything here can be interrupted and run again.

One process is process 1 of the lab's pid namespace; all others live below it, so `down` is one signal. It is written
down before it may go on, and everything is built from outside by lab/inside/build.py, so the first `up` and a later
change are the same code.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from meshwright.errors import LabError
from meshwright.events import Progress, Started, Tell, silent
from meshwright.io import process
from meshwright.lab import cgroups, entry, preflight, state, topology
from meshwright.lab.parts import CORE, Link, Place
from meshwright.lab.state import State
from meshwright.lab.topology import Topology
from meshwright.spec.model import Mesh

BATCH = 40  # hosts per step of progress


def up(mesh: Mesh, folder: Path, tell: Tell = silent, now: datetime | None = None, *, cluster: bool = False) -> State:
    """Make the lab in `folder` the world of this mesh file: nothing to do, a peer more or less, or everything anew.

    cluster: it gets a Kubernetes cluster, which then says where services are.
    LabError when this machine cannot hold a lab (with the sentence that mends it), or when another command holds it.
    """
    moment = now or datetime.now(UTC)
    with state.locked(folder, create=True):
        before = _living(folder)
        slots = before.topology.get("slots", {}) if before else {}
        try:
            wanted = topology.build(mesh, moment, slots, cluster=cluster)
            if before and _same_core(before, wanted):
                return _change(folder, before, wanted, tell)
            userns = preflight.check(len(wanted.peers) + 1)
            if before:
                tell(Progress("the house itself has changed: the lab is built anew"))
                end(before)
            return _build(folder, State(mesh.name, 0, "", state.boot(), userns), wanted, tell)
        except BaseException:
            _tidy(folder)
            raise


def down(folder: Path) -> bool:
    """End every process of the lab and remove its directory. False when there was none."""
    with state.locked(folder, create=False) as there:
        if there:
            with contextlib.suppress(LabError):
                found = state.read(folder)
                if found:
                    end(found)
            state.erase(folder)
        unwritten = _end_unwritten(folder)
        cgroups.sweep(folder)
        return unwritten or there


def end(found: State) -> None:
    """Kill process 1 of the lab, if it still is that process, and wait until the kernel has ended all others."""
    if found.pid:
        _kill(found.pid, lambda: state.alive(found))


def _end_unwritten(folder: Path) -> bool:
    """End labs of this folder that no state file speaks of: somebody removed it by hand."""
    pids = state.unwritten(folder)
    for pid in pids:
        _kill(pid, partial(state.is_first, pid, folder))
    return bool(pids)


def _kill(pid: int, still: Callable[[], bool]) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not still():  # asked after pidfd_open: from here on the pid cannot become another process
            return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not select.select([handle], [], [], 60)[0]:
            raise LabError(f"process {pid} of the lab does not end", "look at it with ps, then try again")
    finally:
        os.close(handle)


def inside(pid: int, userns: bool, program: str, step: str, document: Any) -> Any:
    """Run one step of lab/inside/PROGRAM.py in the lab's own namespaces, and give its answer."""
    user = ["-U", "--preserve-credentials"] if userns else []
    argv = ["nsenter", "-t", str(pid), *user, "-n", "-m", "-p", "--", *entry.command(program, step)]
    done = process.run(argv, stdin=json.dumps(document).encode(), timeout=300)
    try:
        answer = json.loads(done.out)
    except ValueError:
        answer = {"error": (done.err.strip().splitlines() or ["no answer"])[-1]}
    if "error" in answer:
        raise LabError(f"building the lab: {answer['error']}", "run `meshwright lab down`, then `meshwright lab up`")
    return answer


def _living(folder: Path) -> State | None:
    """The lab that is up and whole; a half-built or dead one is cleared away first."""
    found = state.read(folder)
    if found and found.complete and state.alive(found):
        return found
    if found:
        end(found)
        (folder / state.FILE).unlink()
    _end_unwritten(folder)
    return None


def _tidy(folder: Path) -> None:
    """After a failure: nothing of a half-built lab stays; a whole one, and the keys of an earlier one, do."""
    found = state.read(folder)
    if found and found.complete:
        return
    if found:
        end(found)
        (folder / state.FILE).unlink()
    if {p.name for p in folder.iterdir()} <= {"made", "log"}:
        state.erase(folder)


def _build(folder: Path, found: State, wanted: Topology, tell: Tell) -> State:
    tell(Started("building the lab", len(wanted.hosts)))
    found = _start(folder, found)
    pids = _hosts(found, wanted.hosts, tell)
    found = replace(found, hosts=pids)
    state.write(folder, found)
    _links(found, wanted.links)
    _configure(found, wanted.hosts, tell)
    _neighbours(found, wanted.links)
    return _finish(folder, found, wanted)


def _start(folder: Path, found: State) -> State:
    """Start process 1. It waits until it is written down; if we die before, it ends."""
    mode = "rootless" if found.userns else "root"
    with (folder / "log").open("wb") as log:
        starter = subprocess.Popen(
            entry.marked("init", mode, str(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    if starter.stdin is None or starter.stdout is None:
        raise LabError("the lab's first process has no pipe", "report this as a bug")
    with starter.stdin as go, starter.stdout as answer:
        words = answer.readline().decode().strip()
        starter.wait(30)
        if not words.isdigit():
            raise LabError(f"the lab cannot start: {_last(folder / 'log')}", "run `meshwright lab up` again as root")
        pid = int(words)
        found = replace(found, pid=pid, started=state.started(pid))
        state.write(folder, found)
        go.write(b"go\n")
        go.flush()
        answer.read()  # ends when process 1 has let go of the pipe: from here it lives without us
    if not state.alive(found):
        raise LabError(f"the lab's first process died: {_last(folder / 'log')}", "run `meshwright lab up` again")
    return found


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _hosts(found: State, places: Sequence[Place], tell: Tell) -> dict[str, int]:
    pids: dict[str, int] = {}
    for number in range(0, len(places), BATCH):
        part = [{"name": p.name, "files": dict(p.files)} for p in places[number : number + BATCH]]
        pids.update(inside(found.pid, found.userns, "build", "hosts", part)["pids"])
        tell(Progress("hosts", len(pids)))
    return pids


def _links(found: State, links: Iterable[Link]) -> None:
    cables = [{**asdict(x), "a": found.hosts[x.a], "b": found.hosts[x.b]} for x in links]
    inside(found.pid, found.userns, "build", "links", cables)


def _neighbours(found: State, links: Iterable[Link]) -> None:
    lines: dict[str, list[str]] = {}
    for host, line in (pair for x in links for pair in x.neighbours):
        lines.setdefault(host, []).append(line)
    tasks = [{"name": host, "pid": found.hosts[host], "ip": found_lines} for host, found_lines in lines.items()]
    inside(found.pid, found.userns, "build", "lines", tasks)


def _configure(found: State, places: Sequence[Place], tell: Tell) -> None:
    for number in range(0, len(places), BATCH):
        part = [_task(found, p) for p in places[number : number + BATCH]]
        inside(found.pid, found.userns, "build", "configure", part)
        tell(Progress("addresses and services", min(number + BATCH, len(places))))


def _task(found: State, place: Place) -> dict[str, Any]:
    return {
        "name": place.name,
        "pid": found.hosts[place.name],
        "ip": place.ip,
        "sysctl": dict(place.sysctl),
        "nft": place.nft,
        "names": dict(place.names),
        "dns": place.dns,
        "upstream": place.upstream,
        "ports": place.ports,
    }


def _finish(folder: Path, found: State, wanted: Topology) -> State:
    found = replace(found, complete=True, topology=json.loads(json.dumps(topology.as_json(wanted))))
    state.write(folder, found)
    return found


def _same_core(before: State, wanted: Topology) -> bool:
    """Whether the house is the same, so that only peers come and go. What the responders listen on does not count."""
    plain = json.loads(json.dumps(topology.as_json(wanted)))

    def core(world: Mapping[str, Any]) -> list[Any]:
        hosts = [_without_ports(h) for h in world["hosts"] if h["name"] in CORE or h["name"].startswith("net.")]
        names = {h["name"] for h in hosts}
        return [hosts, [x for x in world["links"] if x["a"] in names and x["b"] in names], world["standins"]]

    return core(before.topology) == core(plain)


def _without_ports(host: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in host.items() if key != "ports"}


def _change(folder: Path, before: State, wanted: Topology, tell: Tell) -> State:
    """Only peers differ: take away what is gone or different, build what is new, leave everybody else alone."""
    plain = json.loads(json.dumps(topology.as_json(wanted)))
    if plain == before.topology and all(state.started(pid) for pid in before.hosts.values()):
        return before
    old = {h["name"]: h for h in before.topology["hosts"]}
    new = {h["name"]: h for h in plain["hosts"]}
    whole = {name for name, pid in before.hosts.items() if state.started(pid)}
    kept = {n for n in new if n in whole and n in old and _without_ports(new[n]) == _without_ports(old[n])}
    kept = _with_neighbours(kept, wanted.links)
    gone = [pid for name, pid in before.hosts.items() if name not in kept]
    fresh = [p for p in wanted.hosts if p.name not in kept]
    tell(Started("changing the lab", len(gone) + len(fresh)))
    state.write(folder, replace(before, complete=False))
    inside(before.pid, before.userns, "build", "remove", gone)
    found = replace(before, hosts={n: p for n, p in before.hosts.items() if n in kept})
    found = replace(found, hosts={**found.hosts, **_hosts(found, fresh, tell)})
    names = {p.name for p in fresh}
    cables = [x for x in wanted.links if x.a in names or x.b in names]
    _links(found, cables)
    _configure(found, fresh, tell)
    _neighbours(found, cables)
    ports = [p for p in wanted.hosts if p.name in kept and new[p.name]["ports"] != old[p.name]["ports"]]
    _relisten(found, ports)
    return _finish(folder, found, wanted)


def _with_neighbours(kept: set[str], links: Iterable[Link]) -> set[str]:
    """Who can stay: a host loses its cable when the host at the other end is built anew. A switch only loses a port."""
    kept = set(kept)
    while lost := {x.a if x.b not in kept else x.b for x in links if (x.a in kept) != (x.b in kept)} - {
        x.b for x in links if x.master
    }:
        kept -= lost
    return kept


def _relisten(found: State, places: Iterable[Place]) -> None:
    tasks = [{"name": p.name, "pid": found.hosts[p.name], "ports": p.ports} for p in places]
    if tasks:
        inside(found.pid, found.userns, "build", "ports", tasks)
