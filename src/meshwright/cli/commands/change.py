"""plan, apply, drift: the difference between the file and the world, and the one command that ends it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command
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


@click.command(cls=Command)
@only
@click.pass_obj
def plan(out: Output, systems: Sequence[str]) -> int:
    """Show what would change: + create, ~ update, - delete. Exit code 2 when there is something to do."""
    _, view, todo = _planned(out, systems)
    out.result(_plan_json(todo, view), _plan_text(out, todo, view))
    return PENDING if todo else 0


@click.command(cls=Command)
@only
@click.pass_obj
def drift(out: Output, systems: Sequence[str]) -> int:
    """Tell whether the world is still what the file says. Exit code 2 when it is not."""
    _, view, todo = _planned(out, systems)
    said = f"{len(todo.changes)} things are not as the file says" if todo else "no drift"
    out.result(
        {**_plan_json(todo, view), "drift": bool(todo)},
        f"{_plan_text(out, todo, view)}\n{said}; `meshwright apply` mends them" if todo else said,
    )
    return PENDING if todo else 0


@click.command(cls=Command)
@click.argument("digest", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", metavar="REASON", help="Go on although the plan destroys much; say why.")
@only
@click.pass_obj
def apply(out: Output, digest: str | None, yes: bool, force: str | None, systems: Sequence[str]) -> int:
    """Make the world what the file says.

    Shows the plan and asks. With DIGEST, the digest of a plan that was looked at, it applies exactly that plan and does
    not ask; with --yes it applies whatever the plan is now.
    """
    from meshwright import flow

    where, view, todo = _planned(out, systems)
    if not todo:
        return out.result({**_plan_json(todo, view), "results": []}, _plan_text(out, todo, view))
    flow.allow(todo, digest, force)
    out.say(_plan_text(out, todo, view))
    if not (digest or yes):
        _ask(out)
    with out.progress() as tell:
        results = flow.apply(todo, where.providers, tell)
    return _report(out, todo, view, results)


def _planned(out: Output, systems: Sequence[str]) -> tuple[World, View, Plan]:
    from meshwright.cli import world
    from meshwright.errors import MeshwrightError

    where = world.world(out)
    if unknown := [system for system in systems if system not in where.providers]:
        raise MeshwrightError(f"no system is called {unknown[0]}", f"systems here are {', '.join(where.providers)}")
    view = world.look(out, where, systems)
    return where, view, view.todo


def _ask(out: Output) -> None:
    from meshwright.errors import MeshwrightError

    if out.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise MeshwrightError(
            "nobody approved this plan, and there is no terminal to ask on",
            "look at `meshwright plan`, then run apply with the digest it ends with, or with --yes",
        )
    if not click.confirm("Apply this plan?"):
        raise MeshwrightError("nothing was applied", "edit the mesh file, or run apply again")


def _report(out: Output, todo: Plan, view: View, results: Sequence[Result]) -> int:
    from meshwright.errors import MeshwrightError, PartlyApplied

    failed = [result for result in results if not result.ok]
    data = {
        **_plan_json(todo, view),
        "results": [{"id": r.id, "ok": r.ok, **({} if r.ok else {"why": r.why, "hint": r.hint})} for r in results],
    }
    if not failed:
        return out.result(data, f"Applied {len(results)} change{'' if len(results) == 1 else 's'}.")
    kind = MeshwrightError if len(failed) == len(results) else PartlyApplied
    text = "\n".join(f"! {r.id}: {r.why}{f' ({r.hint})' if r.hint else ''}" for r in failed)
    error = kind(
        f"{len(failed)} of {len(results)} changes could not be written",
        failed[0].hint or "mend what the lines above name, then run apply again: it goes on where this stopped",
    )
    return out.result(data, out.marked(text), error)


def _plan_json(todo: Plan, view: View) -> dict[str, Any]:
    from meshwright.plan import text

    return {**text.as_json(todo), "unmanaged": list(view.unmanaged)}


def _plan_text(out: Output, todo: Plan, view: View) -> str:
    from meshwright.plan import text

    for system in view.unmanaged:
        out.note(f"not managed here: {system} (what the file says about it is left to you)")
    return out.marked(text.text(todo))
