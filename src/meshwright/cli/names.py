"""Names out of a mesh file without the YAML parser: completion runs on every TAB, `lab down` on a broken file too."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from meshwright.cli.output import Output

LIMIT = 4_000_000


def complete_peer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The keys directly under `peers:` that begin with what was typed."""
    out = ctx.find_object(Output)
    chosen = out.settings.file if out else None
    text = _read(chosen or Path(os.environ.get("MESHWRIGHT_FILE") or "mesh.yaml"))
    section = re.search(r"^peers:[^\n]*\n((?:[ #][^\n]*\n|\n)*)", text, re.M)
    inside = section[1] if section else ""
    first = re.search(r"^ +(?=[a-z0-9])", inside, re.M)
    names = re.findall(rf"^{first[0]}([a-z0-9][a-z0-9-]*):", inside, re.M) if first else []
    return [name for name in names if name.startswith(incomplete)]


def mesh_name(path: Path) -> str:
    """What stands behind `name:`; "" where that is not a plain word."""
    found = re.search(r"""^name: *(["']?)([a-z0-9-]+)\1 *(?:#.*)?$""", _read(path), re.M)
    return found[2] if found else ""


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(LIMIT) + "\n"
    except OSError:
        return ""
