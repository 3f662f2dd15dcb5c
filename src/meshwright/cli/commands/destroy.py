"""destroy: no trace of the mesh on the hub and the router; data in the cluster and files on this machine are kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command
from meshwright.cli.output import Output

if TYPE_CHECKING:
    from meshwright.cli.world import World
    from meshwright.flow import View
    from meshwright.providers.base import Result
    from meshwright.spec.model import Mesh


@click.command(cls=Command)
@click.option("--yes", "named", metavar="NAME", help="Do not ask; NAME is the mesh's name.")
@click.option("--without-cluster", is_flag=True, help="Leave the rights in the cluster, too.")
@click.pass_obj
def destroy(out: Output, named: str | None, without_cluster: bool) -> int:
    """Take the mesh away from the hub, the router and the cluster.

    The hub loses the tunnel, its private key, the firewall table, units and files of ours; installed packages and
    kernel settings that are in force stay. The port forward goes. In the cluster the friends' rights go; namespaces,
    what runs in them, data and walls stay. The mesh file, the keys and the .conf files on this machine stay: with them
    and a backup of the hub's key everything can be put back. Shows what goes, then asks for the mesh's name.
    """
    from meshwright import flow
    from meshwright.cli import world
    from meshwright.cli.lines import once

    where = world.world(out)
    mesh = where.mesh
    cluster = not without_cluster and "kubernetes" in where.providers
    with out.progress() as tell:
        view = flow.leave(mesh, where.providers, where.places, tell, cluster)
    out.say(_shown(out, view))
    _agreed(out, mesh, named)
    with out.progress() as tell:
        results = flow.apply(view.todo, where.providers, once(tell))
    return _report(out, where, view, results)


def _shown(out: Output, view: View) -> str:
    from meshwright.desired.brief import brief
    from meshwright.plan import text

    if not view.todo:
        return f"nothing of the mesh {view.mesh.name} is there"
    return out.marked(text.text(view.todo, None if out.settings.full else brief))


def _agreed(out: Output, mesh: Mesh, named: str | None) -> None:
    """The mesh's name, given or typed. MeshwrightError for anything else: then nothing is touched."""
    from meshwright.errors import MeshwrightError

    if named is None:
        if out.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise MeshwrightError(
                "nobody agreed to this, and there is no terminal to ask on", f"say --yes {mesh.name} if that is meant"
            )
        named = str(click.prompt("Type the mesh's name to take all of this away", default="", show_default=False))
    if named != mesh.name:
        raise MeshwrightError(
            f"the mesh is not called {named!r}: nothing was touched", "give the name in the mesh file"
        )


def _report(out: Output, where: World, view: View, results: Sequence[Result]) -> int:
    from meshwright import flow
    from meshwright.plan import text

    error = flow.outcome(view.todo, results)
    left = [] if error else _cleared(where)
    told = list(_kept(where, view))
    data: dict[str, Any] = {
        **text.as_json(view.todo),
        "results": [{"id": r.id, "ok": r.ok, **({} if r.ok else {"why": r.why, "hint": r.hint})} for r in results],
        "kept": told,
        "left": left,
    }
    if error:
        error.hint = f"{error.hint}; destroy goes on where it stopped"
        return out.result(data, out.marked("\n".join(flow.failures(results))), error)
    lines = [f"{where.mesh.name} is gone: {len(results)} things were taken away. What stays:"]
    lines += [f"  - {line}" for line in (*told, *(f"not empty on the hub, so left: {path}" for path in left))]
    return out.result(data, "\n".join(lines))


def _cleared(where: World) -> list[str]:
    """Take away what belongs to no resource -> what is left of our folders, because somebody put something there."""
    from meshwright.io.host import remote

    mesh = where.mesh
    answer = remote(where.places.hub, "clear", {"interface": mesh.hub.interface, "table": mesh.table})
    if where.places.gateway:
        remote(where.places.gateway[0], "clear", {"interface": "", "table": mesh.table})
    return list(answer["left"])


def _kept(where: World, view: View) -> Iterator[str]:
    """What is there still, in words, with the command that takes it away."""
    mesh, places = where.mesh, where.places
    yield f"on this machine: the mesh file, the keys in {places.secrets}, the .conf files in {places.clients}"
    yield "on the hub: packages that were installed, kernel settings until the next boot"
    if places.gateway is None:
        yield "on the router: a port forward that was made by hand"
    if mesh.kubernetes:
        label = f"meshwright.io/mesh={mesh.name}"
        rights = any(change.system == "kubernetes" for change in view.todo.changes)
        also = "" if rights else ", and the friends' rights"
        yield (
            f"in the cluster: namespaces with all that is in them, and their walls{also};"
            f" to see them: kubectl get ns,networkpolicies,resourcequotas,rolebindings -A -l {label}"
        )
        yield f"to take the namespaces and all their data away, for ever: kubectl delete ns -l {label}"
