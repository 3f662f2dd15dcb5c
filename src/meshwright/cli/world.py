"""The systems that a command acts on: those of the house, or with --lab those of the running lab."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from meshwright import flow
from meshwright.cli import meshfile
from meshwright.cli.output import Output
from meshwright.providers import table
from meshwright.providers.base import Provider
from meshwright.providers.hub import Hub
from meshwright.providers.table import Places
from meshwright.spec.model import Mesh

if TYPE_CHECKING:
    from meshwright.lab import Lab
    from meshwright.verify.status import Status


@dataclass(frozen=True)
class World:
    """A mesh and where it is real. In the lab, the mesh is the one that the lab plays."""

    mesh: Mesh
    places: Places
    providers: Mapping[str, Provider]
    lab: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the cluster warned of so far, each once."""
        return self.places.cluster.warnings if self.places.cluster else ()


def world(out: Output) -> World:
    """The mesh of the file with its systems."""
    chosen = meshfile.mesh(out)
    if out.settings.lab:
        return in_lab(chosen)
    # who cannot be asked on a terminal must have said everything in files
    asked = out if sys.stdin.isatty() and sys.stderr.isatty() and not out.json else None
    places = table.real(chosen, meshfile.folder(out), asked)
    return World(chosen, places, table.providers(chosen, places))


def in_lab(chosen: Mesh) -> World:
    """The same mesh with the systems of its running lab."""
    from meshwright.lab import play

    played, places = play.played(chosen), play.places(running(chosen.name))
    return World(played, places, table.providers(played, places), lab=True)


def running(name: str) -> Lab:
    """The lab of the mesh `name`. LabError when it is not up."""
    from meshwright import lab

    return lab.open(lab.directory(name))


def clients(out: Output, chosen: Mesh) -> Path:
    """The folder of the .conf files."""
    return in_lab(chosen).places.clients if out.settings.lab else meshfile.folder(out) / chosen.files.clients


def look(out: Output, where: World, systems: Sequence[str] = (), adopt: Collection[str] = ()) -> flow.View:
    """One look at everything, with progress."""
    with out.progress() as tell:
        return flow.look(where.mesh, where.providers, where.places, tell, systems, adopt)


def looker(where: World) -> Callable[[], Status]:
    """Something that looks who is connected, each time that it is called: one remote call on the hub."""
    from meshwright.verify import status

    hub = where.providers["hub"]
    assert isinstance(hub, Hub)
    mesh = where.mesh
    known = status.keys(mesh, where.providers["files"].read({}))

    def look() -> Status:
        now = datetime.now(UTC)
        said = hub.sample(mesh.hub.mark, status.settings(mesh, known, now), status.exporter(mesh))
        return status.judge(mesh, said, known, now, lab=where.lab)

    return look
