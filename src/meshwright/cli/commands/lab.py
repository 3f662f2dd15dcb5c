"""lab: the mesh of the file, alive on this one machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from meshwright.cli.lazy import Command, Group
from meshwright.cli.names import complete_host
from meshwright.cli.output import Output

if TYPE_CHECKING:
    from meshwright.cli.world import World
    from meshwright.desired.facts import Facts
    from meshwright.events import Tell
    from meshwright.lab import Lab
    from meshwright.lab.cluster.programs import Programs
    from meshwright.plan.plan import Plan
    from meshwright.providers.base import Result
    from meshwright.spec.model import Mesh


@click.group(cls=Group)
def lab() -> None:
    """The mesh on this one machine: up, down, exec, status, verify.

    Every host of the file becomes a network namespace, with real WireGuard, firewalls and DNS. No root needed. Commands
    with --lab act on it: `meshwright --lab plan`.
    """


@lab.command(cls=Command, short_help="Bring the lab up, or to what the file says now.")
@click.option("--kubernetes", is_flag=True, help="With a real Kubernetes control plane in the hub.")
@click.pass_obj
def up(out: Output, kubernetes: bool) -> int:
    """Bring the lab up, or to what the file says now: hosts, apply, tunnels of all peers.

    With --kubernetes the hub runs a real API server, which the peers use through their tunnels; as root it is a node
    too. Its programs are built once, which takes minutes. It stays until `lab down`, also without the option.
    """
    from meshwright import flow, lab
    from meshwright.cli import meshfile, world
    from meshwright.lab import play
    from meshwright.lab.cluster import site

    begun = time.monotonic()
    mesh = meshfile.mesh(out)
    had = site.there(lab.directory(mesh.name))
    kubernetes = kubernetes or (had and mesh.kubernetes is not None)
    with out.progress() as tell:
        programs = _programs(mesh, tell) if kubernetes else None
        running = lab.up(mesh, lab.directory(mesh.name), tell, cluster=kubernetes or had)
        no_node = _cluster(running, mesh, programs, tell) if programs else ""
        where = world.in_lab(mesh)
        view = flow.look(where.mesh, where.providers, where.places, tell)
        _all_written(view.todo, flow.apply(view.todo, where.providers, tell))
        running.peers_up(where.places.clients, tell)
        friends = _kubeconfigs(running, where, view.facts, tell)
    seconds = time.monotonic() - begun
    standins = {name: [str(address) for address in found] for name, found in running.services.items()}
    data = {"mesh": mesh.name, "hosts": list(running.hosts), "peers": list(running.peers), "standins": standins}
    more = {"kubernetes": running.kubernetes, "kubeconfigs": list(friends), "no_node": no_node}
    more["not_played"] = [f"observability.exporter.{name}" for name in play.unplayed(mesh)]
    text = [
        _summary(running, mesh, seconds),
        *(_about_cluster(running, friends, no_node) if running.kubernetes else ()),
    ]
    return out.result({**data, **more, "seconds": round(seconds, 1)}, out.marked("\n".join(text)))


def _programs(mesh: Mesh, tell: Tell) -> Programs:
    from meshwright.lab.cluster import hub

    return hub.prepare(mesh, tell)


def _cluster(running: Lab, mesh: Mesh, programs: Programs, tell: Tell) -> str:
    from meshwright.lab.cluster import hub

    return hub.up(running, mesh, programs, tell)


def _all_written(todo: Plan, results: Sequence[Result]) -> None:
    from meshwright.errors import PartlyApplied

    failed = [result for result in results if not result.ok]
    if failed:
        raise PartlyApplied(
            f"{len(failed)} of {len(todo.changes)} changes could not be written; first {failed[0].id}: {failed[0].why}",
            failed[0].hint or "run `meshwright lab up` again: it goes on where this stopped",
        )


def _kubeconfigs(running: Lab, where: World, facts: Facts, tell: Tell) -> tuple[str, ...]:
    from meshwright.lab.cluster import friends

    if where.places.cluster is None:
        return ()
    return friends.issue(running.directory, where.mesh, facts, where.places.cluster, tell)


def _about_cluster(running: Lab, friends: Sequence[str], no_node: str) -> list[str]:
    from meshwright.lab.cluster import site

    file = site.folder(running.directory) / "kubeconfig"
    lines = [f"Its cluster: meshwright lab exec hub kubectl get namespaces (the admin's kubeconfig: {file})"]
    if friends:
        lines.append(
            f"As a friend, through his tunnel: meshwright lab exec {running.peers[friends[0]]} kubectl get pods"
        )
    if no_node:
        lines.append(f"! The hub is not a node, so no pod runs: {no_node}")
    return lines


def _summary(running: Lab, mesh: Mesh, seconds: float) -> str:
    from meshwright.lab import play

    lines = [
        f"The lab of {running.mesh} is up: {len(running.hosts)} hosts, {len(running.peers)} peers, {seconds:.1f} s."
    ]
    lines += [
        f"no cluster here: {name} stands in at {', '.join(map(str, addresses))}"
        for name, addresses in running.services.items()
    ]
    if unplayed := play.unplayed(mesh):
        lines.append(f"no {' and no '.join(unplayed)} of the exporter here: who reaches its port can read the metrics")
    return "\n".join(lines)


@lab.command(cls=Command)
@click.pass_obj
def down(out: Output) -> int:
    """Take the lab away: namespaces, processes, files."""
    from meshwright import lab
    from meshwright.cli import meshfile

    name = meshfile.name(out)
    gone = lab.down(lab.directory(name))
    return out.result({"mesh": name, "was_up": gone}, f"The lab of {name} is gone." if gone else "There was no lab.")


@lab.command(
    "exec",
    cls=Command,
    short_help="Run a command on a host of the lab.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("host", shell_complete=complete_host)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def exec_(out: Output, host: str, command: Sequence[str]) -> int:
    """Run COMMAND on HOST of the lab, and end with its exit code: lab exec jake ping -c 1 10.100.0.1"""
    from meshwright.cli import meshfile, world

    argv = command[1:] if command[0] == "--" else command
    return world.running(meshfile.name(out)).exec(host, list(argv))


@lab.command(cls=Command, short_help="Show every host of the lab.")
@click.pass_obj
def status(out: Output) -> int:
    """Show every host of the lab, and how old each peer's last handshake is."""
    from meshwright.cli import meshfile, world
    from meshwright.cli.columns import age, columns

    running = world.running(meshfile.name(out))
    hosts = running.status()
    now = int(time.time())
    rows = [
        (
            h.name,
            ", ".join(h.addresses) or "-",
            "up" if h.alive else "gone",
            age(now, h.handshake) if h.peer else "-",
        )
        for h in hosts
    ]
    data = [
        {"name": h.name, "addresses": list(h.addresses), "alive": h.alive, "peer": h.peer, "handshake": h.handshake}
        for h in hosts
    ]
    text = columns([("HOST", "ADDRESSES", "STATE", "HANDSHAKE"), *rows])
    cluster, lines = _cluster_status(running) if running.kubernetes else (None, [])
    return out.result({"mesh": running.mesh, "hosts": data, "kubernetes": cluster}, "\n".join([text, *lines]))


def _cluster_status(running: Lab) -> tuple[dict[str, str], list[str]]:
    """How the lab's API server and its node do, as data and in words."""
    from dataclasses import asdict

    from meshwright.lab.cluster import hub

    found = hub.status(running)
    node = f"Node {found.node}: {found.node_state}" if found.node else f"No node, so no pod runs: {found.no_node}"
    return asdict(found), [f"Kubernetes {found.server}: {found.state}", node]


@lab.command(cls=Command, short_help="Prove the lab with real packets.")
@click.pass_obj
def verify(out: Output) -> int:
    """Prove the lab with real packets: every allowed pair passes, every denied pair fails. The same as verify --lab."""
    from meshwright.cli.commands.prove import prove

    out.settings.lab = True
    return prove(out, packets=True)
