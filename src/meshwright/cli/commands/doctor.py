"""doctor: the first thing that is broken, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command, Group
from meshwright.cli.names import complete_namespace
from meshwright.cli.output import Output

if TYPE_CHECKING:
    from meshwright.cli.world import World
    from meshwright.verify.scraping import Way

MARKS = {"ok": "ok", "failed": "!", "unknown": "?", "warned": "~"}


@click.group(cls=Group)
def doctor() -> None:
    """Find what is broken on a way through the mesh, name the first thing and how to mend it."""


@doctor.command(cls=Command, short_help="Say why a Service or Pod of a friend is not scraped.")
@click.argument("what", metavar="NAMESPACE/NAME", shell_complete=complete_namespace)
@click.option("--prometheus", metavar="URL", default="", help="Ask this Prometheus too, for its targets.")
@click.pass_obj
def scrape(out: Output, what: str, prometheus: str) -> int:
    """Say why a Service or Pod is scraped by Prometheus or not: every hop from its label to the one who reads it.

    A friend's app is scraped when its Service or its Pod has the label prometheus.io/scrape: "true" and a port named
    metrics. Where both have the name, both are told; of a Deployment its first Pod. Marks: ! is broken, ? could not be
    looked at, ~ is doubtful. Exit code 4 when nothing of the name is scraped.
    """
    from meshwright.cli import world
    from meshwright.errors import MeshwrightError
    from meshwright.verify.scraping import judge, live, reading

    namespace, _, name = what.partition("/")
    if not namespace or not name or "/" in name:
        raise MeshwrightError(f"{what} is not NAMESPACE/NAME", "write it as bryce/web")
    where = world.world(out)
    if where.places.cluster is None or where.mesh.kubernetes is None:
        hint = "start it with `lab up --kubernetes`" if where.lab else "add a `kubernetes` section to the file"
        raise MeshwrightError("there is no cluster to look at", hint)
    seen = reading.look(where.places.cluster, namespace)
    ways = judge(namespace, name, seen, reading.world(where.mesh, _now(), namespace))
    if prometheus:
        ways = tuple(live.ask(prometheus, namespace, way) if way.kind else way for way in ways)
        ways = tuple(sorted(ways, key=lambda way: way.broken is not None))
    return _report(out, where, what, ways)


def _now() -> Any:
    from datetime import UTC, datetime

    from meshwright.desired.facts import Facts

    return Facts(datetime.now(UTC))


def _report(out: Output, where: World, what: str, ways: tuple[Way, ...]) -> int:
    from dataclasses import asdict

    from meshwright.errors import MeshwrightError, VerifyFailed
    from meshwright.plan.text import printable

    told = [{**asdict(way), "broken": way.broken.name if way.broken else None} for way in ways]
    best = ways[0]
    data = {"mesh": where.mesh.name, "object": what, "scraped": _scraped(best), "ways": told}
    text = out.marked("\n\n".join(lines(way) for way in ways))
    if not best.kind and best.broken is None:
        hint = "use a kubeconfig that may list Services and Pods there"
        return out.result(data, text, MeshwrightError(printable(f"{what} is not known: {best.hops[-1].what}"), hint))
    if best.broken is None:
        return out.result(data, text)
    why = printable(f"{what} is not scraped: {best.broken.what}")
    return out.result(data, text, VerifyFailed(why, best.broken.next))


def _scraped(way: Way) -> bool | None:
    """Whether it is; None where nothing is known to be in the way, but not everything could be looked at."""
    if way.broken:
        return False
    return None if any(hop.state == "unknown" for hop in way.hops) else True


def lines(way: Way) -> str:
    """A line for the way and one for each hop, whatever is quoted in it."""
    from meshwright.plan.text import printable

    said = {True: "everything is as it must be", False: "not scraped", None: "nothing is seen to be in the way"}
    head = f"{way.kind or 'nothing called'} {way.name}: {said[_scraped(way)]}"
    hops = (f"{MARKS[hop.state]} {hop.name}: {hop.what}{f'; next: {hop.next}' if hop.next else ''}" for hop in way.hops)
    return "\n".join(map(printable, (head, *hops)))
