"""meshwright as a library: what the Ansible collection is written on, and whoever wants to may be. What stands in
`__all__` stays as it is; everything else of this package may change with any version.

    mesh = load(Path("mesh.yaml"))
    todo = plan(mesh, Path("."))
    print(todo.text)
    print(apply(todo).error)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meshwright import flow
from meshwright.desired.brief import brief
from meshwright.errors import GuardError, HostError, MeshwrightError
from meshwright.events import Checked, Tell, silent
from meshwright.io.host import Host, Lost, put
from meshwright.io.process import Done, Overdue
from meshwright.plan import text
from meshwright.providers import table
from meshwright.providers.base import Provider
from meshwright.providers.table import Places
from meshwright.spec import load as loading
from meshwright.spec.model import Mesh

__all__ = [
    "Applied",
    "Done",
    "GuardError",
    "Host",
    "HostError",
    "Lost",
    "Mesh",
    "MeshwrightError",
    "Overdue",
    "Planned",
    "apply",
    "load",
    "plan",
    "put",
    "verify",
]


@dataclass(frozen=True)
class Planned:
    """One look at a mesh: what would have to change, and where. False when there is nothing to do."""

    view: flow.View
    places: Places
    providers: Mapping[str, Provider]

    def __bool__(self) -> bool:
        return bool(self.view.todo)

    @property
    def digest(self) -> str:
        return self.view.todo.digest

    @property
    def changes(self) -> tuple[str, ...]:
        """The ids of what would change, in the order in which it would be written."""
        return tuple(change.id for change in self.view.todo.changes)

    @property
    def text(self) -> str:
        """The plan in the words of `meshwright plan`. Holds no secret."""
        return text.text(self.view.todo, brief)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is worth knowing before it is applied: what is in the way on a hub that is new to us, and services
        that stand for nobody.
        """
        ways = [f"hub: {finding.text}" for finding in self.view.findings if finding.level != "info"]
        nobody = [
            f"service {name} has no address, so no rule lets anybody reach it: {why}"
            for name, why in sorted(self.view.facts.missing.items())
        ]
        return tuple(text.printable(note) for note in [*ways, *nobody])

    @property
    def error(self) -> MeshwrightError | None:
        """Why an apply of it would end with an error although there is nothing to write; see flow.outcome."""
        return flow.outcome(self.view.todo, [])


@dataclass(frozen=True)
class Applied:
    """What came of a plan. written: ids. error: None where all went well; `lines` say what did not and why."""

    written: tuple[str, ...]
    lines: tuple[str, ...]
    error: MeshwrightError | None


def load(path: Path) -> Mesh:
    """The mesh file, checked. MeshwrightError holds every problem with its place."""
    return loading.load(path).mesh


def plan(
    mesh: Mesh, folder: Path, *, hub: Host | None = None, systems: Sequence[str] = (), tell: Tell = silent
) -> Planned:
    """Look at the world and compare. Writes nothing.

    folder: where the mesh file's paths begin. hub: a way of your own to the hub; without it, what the file says.
    systems: those that the plan is about (files, hub, gateway, kubernetes); none: all.
    """
    places = table.real(mesh, folder)
    places = replace(places, hub=hub) if hub else places
    providers = table.providers(mesh, places)
    return Planned(flow.look(mesh, providers, places, tell, systems), places, providers)


def apply(planned: Planned, *, digest: str | None = None, force: str | None = None, tell: Tell = silent) -> Applied:
    """Write a plan. MeshwrightError, before anything is written, when it is not the one of `digest`, or destroys much
    and `force` gives no reason; with one, no peer has to be heard again on the hub.
    """
    todo = planned.view.todo
    flow.allow(todo, digest, force)
    results = flow.apply(todo, planned.providers, tell, force)
    lines = () if all(result.ok for result in results) else tuple(flow.failures(results))
    return Applied(tuple(result.id for result in results if result.ok), lines, flow.outcome(todo, results))


def verify(planned: Planned, *, systems: Sequence[str] = (), tell: Tell = silent) -> tuple[Checked, ...]:
    """Whether the mesh, as it was looked at, is what the file says: nothing left to do, the hub's table does what every
    policy test says, and so on. systems: as in plan.
    """
    providers = {name: each for name, each in planned.providers.items() if not systems or name in systems}
    return flow.verify(planned.view, planned.places, providers, tell)
