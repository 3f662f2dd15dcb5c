"""backup and restore: the mesh file, the keys and what only the hub has, in one encrypted file; and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshwright.cli.lazy import Command
from meshwright.cli.output import Output

if TYPE_CHECKING:
    from meshwright.backup.archive import Backup
    from meshwright.cli.world import World

without = click.option("--without-hub", is_flag=True, help="Leave the hub and its key out of it.")


@click.command(cls=Command)
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@without
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@click.pass_obj
def backup(out: Output, /, target: Path, without_hub: bool, force: bool) -> int:
    """Write everything of the mesh into FILE: the mesh file, all keys, the hub's private key, what the hub had saved.

    It is encrypted to every one of `secrets.recipients`; whoever has one of their private keys can restore it, nobody
    else can read it. The hub's key is in the clear nowhere but on the hub.
    """
    from meshwright.backup import archive
    from meshwright.cli import world
    from meshwright.errors import ConflictError, SecretsError
    from meshwright.io import age, files, sources

    where = world.world(out)
    recipients = where.mesh.secrets.recipients
    if not recipients:
        raise SecretsError(
            "the mesh file names nobody to encrypt a backup to",
            'add to it, for example: secrets: {recipients: ["ssh-ed25519 AAAA..."]}, with the line of your'
            " ~/.ssh/id_ed25519.pub",
        )
    _check_target(target, force)
    found = _collect(out, where, without_hub)
    sealed = age.encrypt(archive.packed(found), recipients)
    with files.named(target):
        files.write(target, sealed)
    if sources.read(target, archive.MOST) != sealed:
        raise ConflictError(f"{target} is not what was written to it", "look at the disk, then take the backup again")
    return out.result(_json(target, found, len(recipients)), _made(target, found, len(recipients)))


def _check_target(target: Path, force: bool) -> None:
    """Before anything is read: there is a place for the backup."""
    from meshwright.errors import ConflictError, MeshwrightError
    from meshwright.io import files

    with files.named(target):
        if str(target) == "-":
            raise ConflictError("a backup goes into a file, not to stdout", "name a file")
        if target.is_dir():
            raise ConflictError(f"{target} is a folder", "name a file in it")
        if not target.parent.is_dir():
            raise MeshwrightError(f"{target.parent}: there is no such folder", "make it, or name another file")
        if target.exists() and not target.is_file():
            raise ConflictError(f"{target} is no plain file", "name another file")
        if target.exists() and not force:
            raise ConflictError(f"{target} is there already", "name another file, or say --force to replace it")


def _collect(out: Output, where: World, without_hub: bool) -> Backup:
    from datetime import UTC, datetime

    from meshwright import __version__
    from meshwright.backup import folder, hub
    from meshwright.backup.archive import Backup
    from meshwright.cli import meshfile

    mesh, home = where.mesh, meshfile.folder(out)
    return Backup(
        mesh=mesh.name,
        file=meshfile.path(out).name,
        secrets=folder.relative(mesh.secrets.directory),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        files=folder.texts(meshfile.loaded(out).files, home),
        keys=folder.keys(where.places.secrets),
        hub={} if without_hub else hub.take(where.places.hub, mesh.hub.interface, mesh.table),
    )


def _json(file: Path, found: Backup, recipients: int) -> dict[str, Any]:
    return {
        "file": str(file),
        "mesh": found.mesh,
        "made": found.made,
        "files": sorted(found.files),
        "keys": len(found.keys),
        "hub": bool(found.hub),
        "recipients": recipients,
    }


def _made(file: Path, found: Backup, recipients: int) -> str:
    hub = "the hub's key and what it had saved" if found.hub else "nothing of the hub"
    people = "1 recipient" if recipients == 1 else f"{recipients} recipients"
    return (
        f"{file}: {', '.join(sorted(found.files))}; {len(found.keys)} files of secrets; {hub}; encrypted to {people}\n"
        "next: keep it elsewhere, and try it: `meshwright restore` into an empty folder, with --without-hub"
    )


@click.command(cls=Command)
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
@click.option("--identity", metavar="KEY", type=click.Path(path_type=Path), help="The private key. [default: ~/.ssh]")
@without
@click.option("--force", is_flag=True, help="Write over what is in the way in DIR.")
@click.pass_obj
def restore(
    out: Output, /, target: Path, directory: Path, identity: Path | None, without_hub: bool, force: bool
) -> int:
    """Put a backup back: the mesh file and all keys into the empty folder DIR, the hub's key onto an empty hub.

    The hub is the one that the restored mesh file names. It gets its key and settings, without peers and not started:
    the `apply` that follows makes it the same hub again, so that no friend has to change anything.
    """
    from meshwright.backup import archive, folder
    from meshwright.io import age, sources

    found = archive.unpack(age.decrypt(sources.read(target, archive.MOST), target, identity))
    folder.check_room(directory, found, force)
    folder.write(directory, found)
    out.settings.file = directory / found.file
    _check(out, found)
    planted = None if without_hub or not found.hub else _plant(out, found)
    data = {"directory": str(directory), "mesh": found.mesh, "made": found.made, "keys": len(found.keys)}
    return out.result({**data, "hub": planted}, _restored(directory, found, planted))


def _check(out: Output, found: Backup) -> None:
    """SpecError where the restored file is no mesh file for this meshwright: what is written stays, and he is told."""
    from meshwright.cli import meshfile
    from meshwright.errors import SpecError

    try:
        meshfile.loaded(out)
    except SpecError as error:
        error.hint = (
            "the folder is restored, and no more: correct the file and run `meshwright check`, or use the version of"
            f" meshwright that made the backup, {found.version}"
        )
        raise


def _plant(out: Output, found: Backup) -> str:
    """The hub's key onto the hub; what it says of the hub's public key."""
    from meshwright.backup import hub
    from meshwright.cli import world
    from meshwright.errors import HostError

    where = world.world(out)
    try:
        return hub.plant(where.places.hub, where.mesh.hub.interface, where.mesh.table, found.hub)
    except HostError as error:
        error.message = f"the folder is restored, the hub is not: {error.message}"
        error.hint = f"{error.hint}; then run the same restore again, or with --without-hub"
        raise


def _restored(directory: Path, found: Backup, planted: str | None) -> str:
    from meshwright.plan.text import printable

    mesh, made = printable(found.mesh), printable(found.made)
    lines = [f"{directory}: the mesh {mesh} as it was at {made}, with {len(found.keys)} files of secrets"]
    if planted:
        lines.append(f"the hub has its key again: {printable(planted)}; it is not started yet, and has no peers")
    elif not found.hub:
        lines.append("this backup was made without the hub: its key is not in it")
    go = "" if str(directory) == "." else f"cd {directory}; "
    return "\n".join(
        [*lines, f"next: {go}meshwright plan, then meshwright apply: the same hub, and every friend's .conf"]
    )
