"""The mesh file that a command was given: where it is, what it says. Needs nothing but spec."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from meshwright.cli.names import mesh_name
from meshwright.cli.output import Output
from meshwright.errors import MeshwrightError

if TYPE_CHECKING:
    from meshwright.spec.load import Loaded
    from meshwright.spec.model import Device, Mesh


def path(out: Output) -> Path:
    """The file that was named, or mesh.yaml. MeshwrightError when none was named and there is none."""
    chosen = out.settings.file or Path("mesh.yaml")
    if out.settings.file is None and not chosen.exists():
        raise MeshwrightError(
            "there is no mesh.yaml in this folder", "name the file with --file, or set MESHWRIGHT_FILE"
        )
    return chosen


def folder(out: Output) -> Path:
    """Where the file stands: its paths begin there."""
    return path(out).absolute().parent


def loaded(out: Output) -> Loaded:
    """The file, checked. SpecError holds every problem."""
    from meshwright.spec import load

    return load.load(path(out))


def mesh(out: Output) -> Mesh:
    return loaded(out).mesh


def name(out: Output) -> str:
    """The mesh's name, for what needs no more: a lab can be taken down although its file is broken meanwhile."""
    return mesh_name(path(out)) or mesh(out).name


def device(chosen: Mesh, name: str) -> Device:
    """A device by its label (bjorn-phone) or reference (bjorn/phone); a peer's name where he has one device."""
    found = [d for d in chosen.devices if name in (d.label, d.reference)] or [
        d for d in chosen.devices if d.peer == name
    ]
    if len(found) == 1:
        return found[0]
    labels = [d.label for d in found or chosen.devices]
    if found:
        raise MeshwrightError(f"{name} has {len(found)} devices", f"name one of them: {', '.join(labels)}")
    close = get_close_matches(name, labels, 3) or labels[:5]
    hint = f"names are {', '.join(close)}; see `meshwright peer list`"
    raise MeshwrightError(f"nobody in the mesh is called {name}", hint)
