"""peer: a friend's life in the mesh. Edits change the file and nothing else; apply makes them true."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command, Group
from meshwright.cli.names import complete_device, complete_either, complete_peer
from meshwright.cli.output import Output, colourful

if TYPE_CHECKING:
    from meshwright.spec.edit import Edited
    from meshwright.spec.model import Device, Mesh

peer_label = click.argument("label", shell_complete=complete_peer)
device_label = click.argument("label", shell_complete=complete_device)
either_label = click.argument("label", shell_complete=complete_either)


@click.group(cls=Group, short_help="Friends in the mesh.")
def peer() -> None:
    """Friends: add, remove, disable, enable, rename, list, conf, qr.

    The first five edit the mesh file, comments kept, and change nothing else: `meshwright apply` makes it true.
    """


@peer.command("list", cls=Command)
@click.pass_obj
def list_(out: Output) -> int:
    """List every device of every friend."""
    from datetime import UTC, datetime

    from meshwright.cli import meshfile
    from meshwright.cli.columns import columns

    now = datetime.now(UTC)
    devices = meshfile.mesh(out).devices
    states = [_state(device, device.active(now)) for device in devices]
    rows = [
        (d.label, ", ".join(map(str, d.addresses)), state, d.namespace or "-", ", ".join(d.groups) or "-")
        for d, state in zip(devices, states, strict=True)
    ]
    data = [
        {
            "label": d.label,
            "peer": d.peer,
            "addresses": [str(address) for address in d.addresses],
            "state": state,
            "expires": d.expires,
            "namespace": d.namespace,
            "groups": list(d.groups),
            "lan": [str(network) for network in d.lan],
        }
        for d, state in zip(devices, states, strict=True)
    ]
    return out.result({"devices": data}, columns([("DEVICE", "ADDRESS", "STATE", "NAMESPACE", "GROUPS"), *rows]))


def _state(device: Device, active: bool) -> str:
    return "active" if active else "disabled" if device.disabled else "expired"


@peer.command(cls=Command)
@click.argument("name")
@click.option("--address", help="His address in the mesh. [default: the next free one]")
@click.option("--namespace", help="His namespace in the cluster.")
@click.option("--group", "groups", multiple=True, help="A group he belongs to; may be repeated.")
@click.option("--public-key", help="His own public key: then his private key is never here.")
@click.option("--preshared-key", is_flag=True, help="With a preshared key, against recordings decrypted one day.")
@click.option("--lan", multiple=True, help="A network behind him; may be repeated.")
@click.option("--expires", help="A day (2027-06-30, to its end) or a time with offset.")
@click.pass_obj
def add(out: Output, /, name: str, address: str | None, **values: Any) -> int:
    """Add a friend to the file."""
    from meshwright.cli import meshfile
    from meshwright.spec import edit

    known = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    edited = edit.add_peer(meshfile.path(out), name, address, **known)
    given = ", ".join(map(str, edited.loaded.mesh.peers[name].address or ()))
    return _edited(out, edited, f"{name} is in the file, with {given}")


@peer.command(cls=Command, short_help="Take a friend out of the file.")
@peer_label
@click.pass_obj
def remove(out: Output, label: str) -> int:
    """Take a friend out of the file, and out of every rule, test and entry that names him."""
    from meshwright.cli import meshfile
    from meshwright.spec import edit

    edited = edit.remove_peer(meshfile.path(out), label)
    return _edited(out, edited, f"{label} is out of the file{_closes(edited, label)}")


@peer.command(cls=Command, short_help="Shut a friend or a device out; keys are kept.")
@either_label
@click.pass_obj
def disable(out: Output, label: str) -> int:
    """Shut a friend out, or one device of his (bjorn/phone); his address and keys are kept."""
    from meshwright.cli import meshfile
    from meshwright.spec import edit

    edited = edit.set_disabled(meshfile.path(out), label, True)
    return _edited(out, edited, f"{label} is disabled in the file{_closes(edited, label)}")


@peer.command(cls=Command, short_help="Let a disabled friend or device in again.")
@either_label
@click.pass_obj
def enable(out: Output, label: str) -> int:
    """Let a disabled friend, or device, in again."""
    from meshwright.cli import meshfile
    from meshwright.spec import edit

    edited = edit.set_disabled(meshfile.path(out), label, False)
    space = _namespace(edited.loaded.mesh, label)
    opens = f"; apply takes the namespace {space} out of quarantine, if it is in it" if space else ""
    return _edited(out, edited, f"{label} is enabled in the file{opens}")


@peer.command(cls=Command, short_help="Give a friend another name in the file.")
@peer_label
@click.argument("new")
@click.pass_obj
def rename(out: Output, label: str, new: str) -> int:
    """Give a friend another name, everywhere in the file. His keys keep, so his .conf goes on working."""
    from meshwright.cli import meshfile
    from meshwright.providers import files
    from meshwright.spec import edit

    edited = edit.rename_peer(meshfile.path(out), label, new)
    mesh = edited.loaded.mesh
    labels = {f"{label}{d.label.removeprefix(new)}": d.label for d in mesh.devices if d.peer == new}
    moved = files.rename(meshfile.folder(out) / mesh.secrets.directory, labels)
    told = f"; his keys too: {', '.join(moved)}" if moved else ""
    return _edited(out, edited, f"{label} is {new} now in the file{told}")


def _namespace(mesh: Mesh, label: str) -> str | None:
    """The namespace in the cluster of a peer, or of the peer whose device this is."""
    peer = mesh.peers.get(label.partition("/")[0])
    return peer.namespace if peer and mesh.kubernetes else None


def _closes(edited: Edited, label: str) -> str:
    """What apply will do with the namespace of a friend who is out with all of his devices."""
    from datetime import UTC, datetime

    now, namespace = datetime.now(UTC), _namespace(edited.before, label)
    if not namespace or any(d.namespace == namespace and d.active(now) for d in edited.loaded.mesh.devices):
        return ""
    return f"; apply puts the namespace {namespace} into quarantine: nothing runs or is allowed there, data is kept"


def _edited(out: Output, edited: Edited, said: str) -> int:
    """What an edit did: every place that it touched, and what comes next."""
    from meshwright.cli.output import problem_json

    lines = [said if edited.files else "the file says so already: nothing was changed"]
    lines += [f"  changed {place}" for place in edited.touched if edited.files]
    lines += [warning.render() for warning in edited.loaded.warnings]
    lines += ["next: `meshwright plan`, then `meshwright apply`"] if edited.files else []
    data = {
        "files": list(edited.files),
        "touched": list(edited.touched) if edited.files else [],
        "warnings": [problem_json(warning) for warning in edited.loaded.warnings],
    }
    return out.result(data, "\n".join(lines))


@peer.command(cls=Command, short_help="Say where a friend's .conf is, or print it.")
@device_label
@click.option("--show", is_flag=True, help="Print the file itself, private key and all.")
@click.pass_obj
def conf(out: Output, label: str, show: bool) -> int:
    """Say where a friend's .conf is; with --show print it.

    LABEL is a device (bjorn-phone) or a friend with one device. The file holds a private key, unless the friend gave
    his public key: send it over a channel that only he can read.
    """
    found, path, text = _conf(out, label)
    private = _private(text)
    data = {"label": found.label, "path": str(path), "private_key": private, **({"conf": text} if show else {})}
    if private and not show:
        out.note("this file holds a private key: send it over a channel that only its owner can read")
    return out.result(data, text.rstrip("\n") if show else str(path))


@peer.command(cls=Command, short_help="Draw a friend's .conf as a QR code.")
@device_label
@click.option("--show", is_flag=True, help="Draw it even where stdout is no terminal.")
@click.option("--invert", is_flag=True, help="Without colours: for dark letters on a light terminal.")
@click.pass_obj
def qr(out: Output, label: str, show: bool, invert: bool) -> int:
    """Draw a friend's .conf as a QR code, for the WireGuard app of a phone.

    Whoever sees it has the private key, so it is drawn on a terminal only, unless --show says otherwise.
    """
    from meshwright.cli.qr import drawing
    from meshwright.errors import MeshwrightError

    if out.json or not (show or sys.stdout.isatty()):
        raise MeshwrightError(
            "a QR code of a private key is drawn on a terminal only",
            "run it on a terminal, or use --show, or `meshwright peer conf --show` for the text",
        )
    found, _, text = _conf(out, label)
    if _private(text):
        out.note(f"this shows the private key of {found.label}: mind who looks; clear the screen afterwards")
    else:
        raise MeshwrightError(
            f"{found.label} has a private key of its own, which is not in its .conf",
            f"send the file instead: meshwright peer conf {found.label}",
        )
    return out.result({}, drawing(text, colour=colourful(sys.stdout), invert=invert))


def _conf(out: Output, label: str) -> tuple[Device, Path, str]:
    from meshwright.cli import meshfile, world
    from meshwright.errors import MeshwrightError
    from meshwright.io import files

    mesh = meshfile.mesh(out)
    found = meshfile.device(mesh, label)
    path = world.clients(out, mesh) / f"{found.label}.conf"
    text = files.read_private(path)
    if text is None:
        raise MeshwrightError(
            f"{found.label} has no .conf yet", "run `meshwright apply`: it writes one for every active device"
        )
    return found, path, text + "\n"


def _private(text: str) -> bool:
    """Whether a .conf holds a private key: a friend with a key of his own gets a file with the place left empty."""
    return any(line.startswith("PrivateKey") and line.partition("=")[2].strip() for line in text.splitlines())
