"""Files that somebody else made, read with care: plain, of a reasonable size, no link followed, no pipe waited on."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from meshwright.errors import MeshwrightError

LIMIT = 16 * 1024 * 1024
FILES = 20_000
HINT = "give a plain file, or a folder of plain files, that you may read"


def read(path: Path) -> bytes:
    """A plain file; "-" is stdin. A link to one is followed here, where the user named it himself."""
    if str(path) == "-":
        data = sys.stdin.buffer.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise _too_large("stdin")
        return data
    return _plain(path, os.O_RDONLY)


def folder(path: Path, below: tuple[str, ...]) -> dict[str, bytes]:
    """The plain files right in a folder and in these of its folders: path in it -> content."""
    out: dict[str, bytes] = {}
    left = LIMIT
    for name, place in _listed(path, below):
        out[name] = _plain(place, os.O_RDONLY | os.O_NOFOLLOW)
        left -= len(out[name])
        if left < 0 or len(out) > FILES:
            raise _too_large(str(path))
    return out


def _listed(path: Path, below: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for inner in ("", *below):
        place = path / inner
        try:
            if inner and not stat.S_ISDIR(place.lstat().st_mode):
                continue
            found = sorted(each.name for each in place.iterdir() if stat.S_ISREG(each.lstat().st_mode))
        except FileNotFoundError:
            if inner:
                continue
            raise MeshwrightError(f"{path}: there is no such folder", HINT) from None
        except OSError as error:
            raise MeshwrightError(f"{place}: cannot be read: {error.strerror}", HINT) from None
        yield from ((f"{inner}/{name}" if inner else name, place / name) for name in found)


def _plain(path: Path, flags: int) -> bytes:
    try:
        handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise MeshwrightError(f"{path}: cannot be read: {why}", HINT) from None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise MeshwrightError(f"{path}: not a plain file", HINT)
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise _too_large(str(path))
    return data


def _too_large(what: str) -> MeshwrightError:
    return MeshwrightError(f"{what}: larger than {LIMIT >> 20} MB", "no hub's configuration is; look at what it is")
