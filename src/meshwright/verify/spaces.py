"""Whose a namespace of the mesh is, and how things that should not be there are told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshwright.desired import names
from meshwright.desired.facts import Facts
from meshwright.desired.tenants import tenants
from meshwright.events import Checked
from meshwright.io.apifailures import clean
from meshwright.spec.model import Mesh

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Space:
    """A tenant's namespace. active: he may use it now. open: the file takes its admission wall down."""

    name: str
    peer: str
    active: bool
    open: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Something that should not be there. namespace: where it is, "" for the whole cluster."""

    namespace: str
    text: str


def spaces(mesh: Mesh, facts: Facts) -> dict[str, Space]:
    """Every tenant's namespace, those in quarantine too."""
    active = {
        who.namespace: Space(who.namespace, who.peer, True, not who.walls.admission) for who in tenants(mesh, facts)
    }
    there = facts.cluster.tenants if facts.cluster else {}
    return {name: Space(name, space.labels[names.PEER], False) for name, space in there.items()} | active


def check(name: str, found: Iterable[Found], places: Mapping[str, Space], hint: str) -> Checked:
    """Nothing may be found, but where the file takes the wall down: that is told and no fault."""
    every = list(found)
    meant = [each.text for each in every if each.namespace in places and places[each.namespace].open]
    bad = [each.text for each in every if not (each.namespace in places and places[each.namespace].open)]
    if bad:
        return Checked(name, False, "none", some(bad), hint)
    return Checked(name, True, "none", f"none but what the file allows: {some(meant)}" if meant else "none")


def some(texts: Sequence[str]) -> str:
    """A few of many, on one line; what a cluster said is shown without what could move a cursor."""
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(clean(text) for text in sorted(texts)[:SHOWN]) + more
