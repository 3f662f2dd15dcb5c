"""The folder of a mesh file: its files and keys into a backup, and out of one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from meshwright.backup.archive import Files, inside
from meshwright.errors import ConflictError, MeshwrightError, SecretsError
from meshwright.io import files, sources

SKIPPED = (".lock",)


def texts(names: Iterable[str], folder: Path) -> dict[str, bytes]:
    """The mesh file and what it includes, byte for byte, by their paths from the folder."""
    out = {}
    for name in names:
        path = os.path.relpath(Path(name).absolute(), folder)
        if not inside(path):
            raise MeshwrightError(
                f"{name} is included, but lies outside of the mesh file's folder", "move it into that folder"
            )
        out[path] = sources.read(Path(name))
    return out


def keys(secrets: Path) -> dict[str, bytes]:
    """Every file of the directory of secrets, {} when there is none. SecretsError when others can read one."""
    files.check_private_directory(secrets)
    return {str(path.relative_to(secrets)): sources.read(path) for path in _plain(secrets)}


def _plain(secrets: Path) -> Iterator[Path]:
    for path in sorted(secrets.rglob("*")) if secrets.is_dir() else ():
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) or path.name in SKIPPED:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise SecretsError(f"{path}: not a plain file", "put the plain file there, or remove this one")
        if found.st_mode & 0o077:
            raise SecretsError(f"{path}: others can read this secret", f"chmod 600 {path}")
        yield path


def relative(directory: str) -> str:
    """The directory of secrets as a path from the mesh file's folder. MeshwrightError when it lies elsewhere."""
    path = os.path.normpath(directory)
    if not inside(path):
        raise MeshwrightError(
            f"secrets.directory is {directory}, outside of the mesh file's folder: a backup could not be put back as"
            " one folder",
            "move the directory into that folder, and say so in the mesh file",
        )
    return path


def check_room(folder: Path, found: Files, force: bool) -> None:
    """ConflictError when something is in the folder: but a restore that was interrupted may go on, and --force says
    that what is in the way may go."""
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    same = all((folder / path).is_file() and (folder / path).read_bytes() == data for path, data in found.items())
    if there and not same and not force:
        raise ConflictError(
            f"{folder} is not empty ({there[0].name})",
            "name an empty folder, or say --force to write over what is in the way there",
        )


def write(folder: Path, found: Files, secrets: str, stored: Files) -> None:
    """Keys first, each 0600; then the files. A link in the way is replaced, never followed."""
    directory = folder / secrets
    folder.mkdir(parents=True, exist_ok=True)
    if stored:
        _private(folder, secrets)
        files.private_directory(directory)
    for path, data in stored.items():
        _private(directory, str(Path(path).parent))
        files.write(directory / path, data)
    for path, data in sorted(found.items(), key=lambda item: item[0].count("/"), reverse=True):
        _folders(folder, str(Path(path).parent), 0o755)
        files.write(folder / path, data, 0o644)


def _private(folder: Path, path: str) -> None:
    _folders(folder, path, 0o700)


def _folders(folder: Path, path: str, mode: int) -> None:
    place = folder
    for part in Path(path).parts:
        place = place / part
        if place.is_symlink():
            raise ConflictError(f"{place} is a link", "remove it, then restore again")
        place.mkdir(mode=mode, exist_ok=True)
