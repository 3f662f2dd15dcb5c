"""import: a hub that is there already becomes a mesh file, with its keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command
from meshwright.cli.output import Output

if TYPE_CHECKING:
    from meshwright.adopt.meshfile import Adopted, Answers
    from meshwright.adopt.source import Source

FOLDERS = ("configs", "keys")


@click.command("import", cls=Command)
@click.argument("source", type=click.Path(path_type=Path, readable=False, allow_dash=True))
@click.option("--into", type=click.Path(path_type=Path), help="The mesh file to write. [default: mesh.yaml]")
@click.option("--endpoint", metavar="HOST:PORT", help="Where friends dial the hub.")
@click.option("--address", metavar="ADDRESS", help="The hub's address in the house, not in the tunnel.")
@click.option("--network", metavar="ADDRESS/LENGTH", multiple=True, help="The hub's address in the tunnel.")
@click.option("--interface", metavar="NAME", help="The hub's WireGuard interface.")
@click.option("--name", default="home", show_default=True, help="The mesh's name.")
@click.option("--node", default="hub", show_default=True, help="The hub's name.")
@click.option("--local", is_flag=True, help="meshwright runs on the hub itself, and needs no ssh.")
@click.option("--force", is_flag=True, help="Write over the mesh file that is there.")
@click.pass_obj
def adopt(out: Output, /, source: Path, into: Path | None, force: bool, **said: Any) -> int:
    """Make a mesh file of a hub that is there already: its peers, addresses and keys are kept.

    SOURCE is a wg-quick file, what `wg showconf IF` prints (- is stdin), wg-easy's wg0.json, or the folder of a PiVPN.
    Nothing is changed on the hub. Private keys that SOURCE holds are kept beside the mesh file, readable by you alone;
    every other friend keeps his own. What the mesh file cannot say is listed, and stands in it as comments.
    """
    from meshwright.adopt import meshfile

    target = into or out.settings.file or Path("mesh.yaml")
    found = _source(source, said["interface"] or "")
    found, answers = _answers(out, found, **said)
    adopted = meshfile.write(found, answers)
    _write(target, adopted, force)
    return out.result(_json(target, found, adopted), _text(target, found, adopted))


def _write(target: Path, adopted: Adopted, force: bool) -> None:
    """Keys first: a mesh file without them would have new ones made."""
    from meshwright.errors import ConflictError, MeshwrightError
    from meshwright.io import files
    from meshwright.providers.files import keep
    from meshwright.spec.model import Secrets

    with files.named(target):
        if target.is_dir():
            raise ConflictError(f"{target} is a folder", "name a file in it with --into")
        if target.exists() and not force:
            hint = "name another one with --into, or say --force to replace it"
            raise ConflictError(f"{target} is there already", hint)
        if not target.parent.is_dir():
            hint = "make it, or name another file with --into"
            raise MeshwrightError(f"{target.parent}: there is no such folder", hint)
        keep(target.parent / Secrets().directory, adopted.keys, adopted.preshared)
        files.write(target, adopted.text.encode(), 0o644)


def _source(path: Path, interface: str) -> Source:
    from meshwright import adopt
    from meshwright.io import sources

    if str(path) != "-" and path.is_dir():
        return adopt.read_folder(str(path), sources.folder(path, FOLDERS), interface)
    return adopt.read("stdin" if str(path) == "-" else path.name, sources.read(path))


def _answers(out: Output, found: Source, **said: Any) -> tuple[Source, Answers]:
    """What the source does not say, from the command line, or asked on a terminal; all that is missing at once."""
    from dataclasses import replace
    from ipaddress import ip_address, ip_interface

    from meshwright.adopt.meshfile import Answers

    given = {name: said[name] or "" for name in ("endpoint", "address", "interface")}
    asked = {
        "endpoint": (given["endpoint"] or found.endpoint, "Where friends dial the hub, as HOST:PORT"),
        "address": (given["address"], "The hub's address in the house (not in the tunnel)"),
        "network": (" ".join(said["network"] or found.addresses), "The hub's address in the tunnel, with its length"),
    }
    values = _asked(out, asked)
    networks = [_value(ip_interface, "--network", text) for text in values["network"].replace(",", " ").split()]
    answers = Answers(
        name=said["name"],
        node=said["node"],
        interface=given["interface"] or found.interface or "wg0",
        address=_value(ip_address, "--address", values["address"]),
        endpoint=values["endpoint"],
        local=said["local"],
    )
    return replace(found, addresses=tuple(map(str, networks))), answers


def _value(kind: Any, option: str, text: str) -> Any:
    from meshwright.errors import MeshwrightError

    try:
        return kind(text.strip())
    except ValueError:
        hint = "for example 10.8.0.1/24" if option == "--network" else "for example 192.168.1.10"
        raise MeshwrightError(f"{option}: {text} is not an address", hint) from None


def _asked(out: Output, asked: dict[str, tuple[str, str]]) -> dict[str, str]:
    from meshwright.errors import MeshwrightError

    missing = [name for name, (value, _) in asked.items() if not value]
    terminal = not out.json and sys.stdin.isatty() and sys.stderr.isatty()
    if missing and not terminal:
        told = "; ".join(f"--{name}: {asked[name][1]}" for name in missing)
        raise MeshwrightError(f"the source does not say all that a mesh file needs: {told}", "give these options")
    return {name: value or str(click.prompt(text, err=True)) for name, (value, text) in asked.items()}


def _text(target: Path, found: Source, adopted: Adopted) -> str:
    from meshwright.adopt.source import quoted
    from meshwright.cli.columns import columns

    rows = [
        (
            each.label,
            ", ".join(map(str, each.addresses)),
            "key kept here" if each.label in adopted.keys else "has his own key",
            "disabled" if each.client.disabled else "",
            f"was {quoted(each.client.name)}" if each.client.name != each.label and each.client.name else "",
        )
        for each in adopted.peers
    ]
    lines = [f"{target}: {len(rows)} peers of {found.kind}", *([columns(rows)] if rows else [])]
    if adopted.notes:
        lines += ["what the mesh file does not say:", *(f"  - {note}" for note in adopted.notes)]
    told = "its policy lets everybody reach everything, as today: narrow it when the first apply is done"
    return "\n".join([*lines, told, "next: `meshwright check`, then `meshwright plan`, which touches nothing"])


def _json(target: Path, found: Source, adopted: Adopted) -> dict[str, Any]:
    from meshwright.adopt.source import quoted

    return {
        "file": str(target),
        "source": found.kind,
        "public_key": found.public_key or None,
        "peers": [
            {
                "label": each.label,
                "name": quoted(each.client.name),
                "address": [str(address) for address in each.addresses],
                "lan": [str(lan) for lan in each.lan],
                "private_key": each.label in adopted.keys,
                "preshared_key": each.label in adopted.preshared,
                "disabled": each.client.disabled,
            }
            for each in adopted.peers
        ],
        "notes": list(adopted.notes),
    }
