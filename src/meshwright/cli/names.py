"""Names out of a mesh file without the YAML parser: completion runs on every TAB, `lab down` on a broken file too."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from meshwright.cli.output import Output

LIMIT = 4_000_000


def complete_peer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The peers of the file whose names begin with what was typed."""
    return [name for name in _peers(ctx) if name.startswith(incomplete)]


def complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The devices of the file: bjorn/phone, or bjorn where he has one without a name."""
    found = [f"{peer}/{name}" if name else peer for peer, names in _peers(ctx).items() for name in names or [""]]
    return [word for word in found if word.startswith(incomplete)]


def complete_either(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Peers, and the devices of those who have several."""
    return list(dict.fromkeys(complete_peer(ctx, param, incomplete) + complete_device(ctx, param, incomplete)))


def complete_namespace(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The namespaces of the file's peers, up to the slash; what is in them only the cluster knows."""
    found = re.findall(r"\bnamespace *: *[\"']?([a-z0-9-]+)", "\n".join(_sections(ctx).values()))
    return [word for name in dict.fromkeys(found) if (word := f"{name}/").startswith(incomplete)]


def complete_system(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in ("files", "hub", "gateway", "kubernetes") if name.startswith(incomplete)]


def complete_host(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The hosts of the lab that is up."""
    from meshwright.errors import LabError
    from meshwright.lab import state

    try:
        found = state.read(state.directory(mesh_name(_file(ctx))))
    except LabError:
        return []
    return sorted(name for name in (found.hosts if found else ()) if name.startswith(incomplete))


def _file(ctx: click.Context) -> Path:
    out = ctx.find_object(Output)
    return (out.settings.file if out else None) or Path(os.environ.get("MESHWRIGHT_FILE") or "mesh.yaml")


def _sections(ctx: click.Context) -> dict[str, str]:
    return _under(_read(_file(ctx)), "peers", top=True)


def _peers(ctx: click.Context) -> dict[str, list[str]]:
    """The keys directly under `peers:`, each with those directly under its `devices:`."""
    found = _sections(ctx)
    return {name: list(_under(inside, "devices")) for name, inside in found.items()}


_KEY = r"""(?P<quote>["']?)(?P<key>[a-z0-9][a-z0-9-]*)(?P=quote) *:(?=\s)"""
_TOKEN = re.compile(rf"(?P<open>[{{\[])|(?P<close>[}}\]])|\s#[^\n]*|{_KEY}")


def _under(text: str, section: str, top: bool = False) -> dict[str, str]:
    """The keys of one section, each with the text that stands behind it; written in lines or in braces."""
    head = re.search(rf"^{section} *:" if top else rf"(?<![\w-]){section} *:", text, re.M)
    rest = text[head.end() :] if head else ""
    if re.match(r"\s*\{", rest):
        return _in_braces(rest)
    lines = re.match(r"[^\n]*\n((?:[ #][^\n]*\n|\n)*)", rest)
    inside = lines[1] if lines else ""
    first = re.search(r"""^( +)(?=["'a-z0-9])""", inside, re.M)
    if not first:
        return {}
    further_out = re.search(rf"^ {{1,{len(first[1]) - 1}}}[^ #\n]", inside, re.M) if len(first[1]) > 1 else None
    inside = inside[: further_out.start()] if further_out else inside
    return _cut(inside, list(re.finditer(rf"^{first[1]}{_KEY}", inside, re.M)), len(inside))


def _in_braces(text: str) -> dict[str, str]:
    depth, end = 0, len(text)
    found: list[re.Match[str]] = []
    for token in _TOKEN.finditer(text):
        depth += bool(token["open"]) - bool(token["close"])
        if depth == 0:
            end = token.start()
            break
        if depth == 1 and token["key"]:
            found.append(token)
    return _cut(text, found, end)


def _cut(text: str, found: list[re.Match[str]], end: int) -> dict[str, str]:
    ends = [*(match.start() for match in found[1:]), end][: len(found)]
    return {match["key"]: text[match.end() : stop] + "\n" for match, stop in zip(found, ends, strict=True)}


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
