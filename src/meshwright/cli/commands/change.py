"""plan, apply, drift: the difference between the file and the world, and the one command that ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command, into_settings
from meshwright.cli.names import complete_system
from meshwright.cli.output import Output

if TYPE_CHECKING:
    from meshwright.cli.world import World
    from meshwright.flow import View
    from meshwright.plan.plan import Plan
    from meshwright.providers.base import Result

PENDING = 2

only = click.option(
    "--only",
    "systems",
    multiple=True,
    metavar="SYSTEM",
    shell_complete=complete_system,
    help="Only this system; may be repeated.",
)
adopt = click.option(
    "--adopt",
    "adopted",
    multiple=True,
    metavar="ID",
    help="Take over this thing of somebody else, as the plan names it; may be repeated.",
)
full = click.option(
    "--full",
    is_flag=True,
    expose_value=False,
    callback=into_settings,
    help="Show every field of what is created or deleted, too.",
)


@click.command(cls=Command)
@only
@adopt
@full
@click.pass_obj
def plan(out: Output, systems: Sequence[str], adopted: Sequence[str]) -> int:
    """Show what would change: + create, ~ update, - delete; ! is somebody else's and left alone, . cannot be made yet.

    Exit code 2 when there is something to do, or something is somebody else's.
    """
    where, view, todo = _planned(out, systems, adopted)
    out.result(_plan_json(todo, view, where), _plan_text(out, todo, view))
    return PENDING if todo or todo.conflicts else 0


@click.command(cls=Command)
@only
@full
@click.pass_obj
def drift(out: Output, systems: Sequence[str]) -> int:
    """Tell whether the world is still what the file says. Exit code 2 when it is not."""
    where, view, todo = _planned(out, systems)
    drifted = bool(todo or todo.conflicts)
    lines = [_plan_text(out, todo, view)] if todo or todo.blocked else []
    out.result({**_plan_json(todo, view, where), "drift": drifted}, "\n".join([*lines, _drift(todo)]))
    return PENDING if drifted else 0


def _drift(todo: Plan) -> str:
    """The last line of drift, in words."""
    hostile = sum(bool(change.alarm) for change in todo.changes) + sum(why.hostile for why in todo.blocked.values())
    parts = []
    if todo:
        one = len(todo.changes) == 1
        parts.append(f"{len(todo.changes)} thing{' is' if one else 's are'} not as the file says")
    if todo.conflicts:
        parts.append(f"{len(todo.conflicts)} left alone because somebody else made it")
    if hostile:
        parts.append(f"{hostile} HOSTILE")
    said = ", ".join(parts) or "no drift"
    return f"{said}; `meshwright apply` mends what is ours" if todo else said


@click.command(cls=Command)
@click.argument("digest", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", metavar="REASON", help="Go on although this destroys much or cuts off all peers; say why.")
@only
@adopt
@full
@click.pass_obj
def apply(
    out: Output, digest: str | None, yes: bool, force: str | None, systems: Sequence[str], adopted: Sequence[str]
) -> int:
    """Make the world what the file says.

    Shows the plan and asks. With DIGEST, the digest of a plan that was looked at, it applies exactly that plan and does
    not ask; with --yes it applies whatever the plan is now. What is somebody else's is left alone and named; then the
    exit code is 3, or 1 where nothing was written at all.
    """
    from meshwright import flow
    from meshwright.cli.lines import once

    where, view, todo = _planned(out, systems, adopted)
    if not todo and not (digest and todo.conflicts):
        data = {**_plan_json(todo, view, where), "results": []}
        return out.result(data, _plan_text(out, todo, view), flow.outcome(todo, []))
    flow.allow(todo, digest, force)
    out.say(_plan_text(out, todo, view))
    if not (digest or yes):
        _ask(out)
    told = where.warnings
    with out.progress() as tell, _interruptible():
        results = flow.apply(todo, where.providers, once(tell), force)
    _warn(out, where, told)
    return _report(out, where, view, results)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Whoever tells us to end, or closes the terminal, interrupts; said again it changes nothing: we are ending.

    What is being written is written to its end and what is held is given back, each within the time that it has.
    """

    def interrupt(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: was for number in asked if (was := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def _planned(out: Output, systems: Sequence[str], adopted: Sequence[str] = ()) -> tuple[World, View, Plan]:
    from meshwright.cli import world
    from meshwright.errors import ClusterError, HostError, MeshwrightError

    where = world.world(out)
    if unknown := [system for system in systems if system not in where.providers]:
        raise MeshwrightError(f"no system is called {unknown[0]}", f"systems here are {', '.join(where.providers)}")
    try:
        view = world.look(out, where, systems, adopted)
    except ClusterError as error:
        error.hint = f"{error.hint or 'look at it with kubectl'}{_without_cluster(where, systems)}"
        raise
    except HostError as error:
        if "kubernetes" in where.providers and (not systems or "kubernetes" in systems):
            error.hint += "; or leave the hub out with --only kubernetes"
        raise
    _warn(out, where)
    _tell(out, view)
    _check_adopted(adopted, view)
    return where, view, view.todo


def _without_cluster(where: World, systems: Sequence[str]) -> str:
    """How to go on without the cluster; nothing where it alone was asked for, or the hub's rules hang on it."""
    from meshwright.spec import policy

    others = [f"--only {system}" for system in systems or where.providers if system != "kubernetes"]
    if not others or policy.unresolved(where.mesh, where.places.services):
        return ""
    return f"; or leave the cluster out with {' '.join(others)}"


def _warn(out: Output, where: World, told: Sequence[str] = ()) -> None:
    """What the cluster warned of, each once."""
    for warning in where.warnings:
        if warning not in told:
            out.note(f"warning: {warning}")


def _tell(out: Output, view: View) -> None:
    """What else lives on a hub that is new to us, as far as it matters."""
    from meshwright.plan.text import printable

    words = {"refuse": "in the way", "warn": "warning", "info": "note"}
    for finding in view.findings:
        out.note(f"{words[finding.level]}: hub: {printable(finding.text)}")


def _check_adopted(adopted: Sequence[str], view: View) -> None:
    """Every id that is to be taken over is one that a plan would leave alone."""
    from meshwright.errors import MeshwrightError

    taken = {id for id, there in view.actual.items() if there.blocked and there.blocked.kind == "conflict"}
    foreign = taken & view.wanted.keys()
    if wrong := [id for id in adopted if id not in foreign]:
        ids = ", ".join(sorted(foreign)) or "nothing here"
        raise MeshwrightError(f"{wrong[0]} is not somebody else's", f"what could be taken over: {ids}")


def _ask(out: Output) -> None:
    from meshwright.errors import MeshwrightError

    if out.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise MeshwrightError(
            "nobody approved this plan, and there is no terminal to ask on",
            "look at `meshwright plan`, then run apply with the digest it ends with, or with --yes",
        )
    if not click.confirm("Apply this plan?"):
        raise MeshwrightError("nothing was applied", "edit the mesh file, or run apply again")


def _report(out: Output, where: World, view: View, results: Sequence[Result]) -> int:
    from meshwright import flow

    todo = view.todo
    error = flow.outcome(todo, results)
    data = {
        **_plan_json(todo, view, where),
        "results": [{"id": r.id, "ok": r.ok, **({} if r.ok else {"why": r.why, "hint": r.hint})} for r in results],
    }
    if not all(result.ok for result in results):
        return out.result(data, out.marked("\n".join(flow.failures(results))), error)
    left = f", left {len(todo.conflicts)} alone that somebody else made" if todo.conflicts else ""
    return out.result(data, f"Applied {len(results)} change{'' if len(results) == 1 else 's'}{left}.", error)


def _plan_json(todo: Plan, view: View, where: World) -> dict[str, Any]:
    from dataclasses import asdict

    from meshwright.plan import text

    beside = {"unmanaged": list(view.unmanaged), "missing": dict(view.facts.missing)}
    findings = [asdict(finding) for finding in view.findings]
    return {**text.as_json(todo), **beside, "warnings": list(where.warnings), "findings": findings}


def _plan_text(out: Output, todo: Plan, view: View) -> str:
    from meshwright.desired.brief import brief
    from meshwright.plan import text

    for system in view.unmanaged:
        out.note(f"not managed here: {system} (what the file says about it is left to you)")
    for name, why in sorted(view.facts.missing.items()):
        out.note(f"service {name} has no address, so no rule lets anybody reach it: {text.printable(why)}")
    return out.marked(text.text(todo, None if out.settings.full else brief))
