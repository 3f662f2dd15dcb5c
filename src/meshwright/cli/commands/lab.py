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
    from meshwright.lab import Lab


@click.group(cls=Group)
def lab() -> None:
    """The mesh on this one machine: up, down, exec, status, verify.

    Every host of the file becomes a network namespace, with real WireGuard, firewalls and DNS. No root needed. Commands
    with --lab act on it: `meshwright --lab plan`.
    """


@lab.command(cls=Command, short_help="Bring the lab up, or to what the file says now.")
@click.pass_obj
def up(out: Output) -> int:
    """Bring the lab up, or to what the file says now: hosts, apply, tunnels of all peers."""
    from meshwright import flow, lab
    from meshwright.cli import meshfile, world
    from meshwright.errors import PartlyApplied

    begun = time.monotonic()
    mesh = meshfile.mesh(out)
    with out.progress() as tell:
        running = lab.up(mesh, lab.directory(mesh.name), tell)
        where = world.in_lab(mesh)
        view = flow.look(where.mesh, where.providers, where.places, tell)
        failed = [result for result in flow.apply(view.todo, where.providers, tell) if not result.ok]
        if failed:
            raise PartlyApplied(
                f"{len(failed)} of {len(view.todo.changes)} changes could not be written; first {failed[0].id}: "
                f"{failed[0].why}",
                failed[0].hint or "run `meshwright lab up` again: it goes on where this stopped",
            )
        running.peers_up(where.places.clients, tell)
    seconds = time.monotonic() - begun
    standins = {name: [str(address) for address in found] for name, found in running.standins.items()}
    data = {"mesh": mesh.name, "hosts": list(running.hosts), "peers": list(running.peers), "standins": standins}
    return out.result({**data, "seconds": round(seconds, 1)}, _summary(running, seconds))


def _summary(running: Lab, seconds: float) -> str:
    lines = [
        f"The lab of {running.mesh} is up: {len(running.hosts)} hosts, {len(running.peers)} peers, {seconds:.1f} s."
    ]
    lines += [
        f"no cluster here: {name} stands in at {', '.join(map(str, addresses))}"
        for name, addresses in running.standins.items()
    ]
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
    return out.result(
        {"mesh": running.mesh, "hosts": data}, columns([("HOST", "ADDRESSES", "STATE", "HANDSHAKE"), *rows])
    )


@lab.command(cls=Command, short_help="Prove the lab with real packets.")
@click.pass_obj
def verify(out: Output) -> int:
    """Prove the lab with real packets: every allowed pair passes, every denied pair fails. The same as verify --lab."""
    from meshwright.cli.commands.prove import prove

    out.settings.lab = True
    return prove(out, packets=True)
