"""The folder of a mesh file: its files and keys into a backup, and out of one."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterable, Iterator, Set
from pathlib import Path

from meshwright.backup.archive import Backup, inside, layout
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
        if not inside(str(path.relative_to(secrets))):
            raise SecretsError(
                f"{path}: a backup takes no such name (too long, a \\ in it, or git's own)", "rename it, or remove it"
            )
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


def check_room(folder: Path, backup: Backup, force: bool) -> None:
    """ConflictError when a restore would write over what is there, or mix with it; --force says that it may. One that
    was interrupted goes on, wherever that was."""
    with files.named(folder):
        if folder.exists() and not folder.is_dir():
            raise ConflictError(f"{folder} is no folder", "name an empty folder, or one that is not there yet")
    if not folder.exists() or force:
        return
    hint = "name an empty folder, or say --force to write over what is in the way there"
    wanted = layout(backup)
    for path, data in wanted.items():
        place = folder / path
        if path != _ignore(backup) and os.path.lexists(place) and not _same(place, data):
            raise ConflictError(f"{place} is there already, and is not as in the backup", hint)
    if all((folder / path).exists() for path in backup.files):
        return
    ours = {*wanted, _ignore(backup)}
    for path in _walked(folder):
        if path not in ours and not _half(path, ours):
            raise ConflictError(f"{folder} is not empty ({path})", hint)


def _ignore(backup: Backup) -> str:
    """That is made with the directory of secrets, before the files of the backup."""
    return f"{backup.secrets}/.gitignore"


def _walked(folder: Path) -> Iterator[str]:
    """Whatever is below it and no folder."""
    for place, inner, names in os.walk(folder):
        inner.sort()
        links = [name for name in inner if Path(place, name).is_symlink()]
        yield from (os.path.relpath(Path(place, name), folder) for name in sorted([*names, *links]))


def _same(path: Path, data: bytes) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size == len(data) and path.read_bytes() == data


def _half(path: str, wanted: Container[str]) -> bool:
    """Whether a write that was ended in the middle has left it."""
    found = _TEMPORARY.fullmatch(path)
    return bool(found) and f"{found[1]}{found[2]}" in wanted  # type: ignore[index]


_TEMPORARY = re.compile(r"((?:.*/)?)\.([^/]+)\.[a-z0-9_]{8}")


def write(folder: Path, backup: Backup) -> None:
    """Keys first, each 0600; then the files, the mesh file last. A link in the way is replaced, never followed."""
    directory = folder / backup.secrets
    with files.named(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if backup.keys:
        _private(folder, backup.secrets)
        with files.named(directory):
            files.private_directory(directory)
    for path, data in backup.keys.items():
        _private(directory, str(Path(path).parent))
        _write(directory / path, data, files.PRIVATE)
    for path, data in sorted(backup.files.items(), key=lambda item: (item[0] == backup.file, item[0])):
        _folders(folder, str(Path(path).parent), 0o755)
        _write(folder / path, data, 0o644)
    _sweep(folder, {*layout(backup), _ignore(backup)} if backup.keys else backup.files.keys())


def _write(path: Path, data: bytes, mode: int) -> None:
    with files.named(path):
        files.write(path, data, mode)


def _sweep(folder: Path, wanted: Set[str]) -> None:
    """What an interrupted restore has left, which may be half a key."""
    for inner in sorted({str(Path(path).parent) for path in wanted}):
        for place in (folder / inner).iterdir():
            if _half(os.path.relpath(place, folder), wanted):
                place.unlink()


def _private(folder: Path, path: str) -> None:
    _folders(folder, path, 0o700)


def _folders(folder: Path, path: str, mode: int) -> None:
    place = folder
    for part in Path(path).parts:
        place = place / part
        if place.is_symlink():
            raise ConflictError(f"{place} is a link", "remove it, then restore again")
        with files.named(place):
            place.mkdir(mode=mode, exist_ok=True)
