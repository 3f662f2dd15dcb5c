"""Files that somebody else made, read with care: plain, of a reasonable size, no link followed, no pipe waited on."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from meshwright.errors import MeshwrightError

LIMIT = 16 * 1024 * 1024  # a conf of 50 000 peers is 10 MB
WHOLE = 128 * 1024 * 1024  # a folder
FILES = 200_000  # a PiVPN has four for each peer
HINT = "give a plain file, or a folder of plain files, that you may read"
LARGE = "no mesh needs as much; look at what it is"


def read(path: Path, limit: int = LIMIT) -> bytes:
    """A plain file; "-" is stdin. A link to one is followed here, where the user named it himself."""
    if str(path) == "-":
        return _content(sys.stdin.buffer, "stdin", limit)
    return _plain(path, os.O_RDONLY, limit)


def folder(path: Path, below: tuple[str, ...]) -> dict[str, bytes]:
    """The plain files right in a folder and in these of its folders: path in it -> content."""
    out: dict[str, bytes] = {}
    left = WHOLE
    for name, place in _listed(path, below):
        out[name] = _plain(place, os.O_RDONLY | os.O_NOFOLLOW, LIMIT)
        left -= len(out[name])
        if left < 0 or len(out) > FILES:
            raise MeshwrightError(f"{path}: more than {FILES} files, or than {WHOLE >> 20} MB", LARGE)
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


def _plain(path: Path, flags: int, limit: int) -> bytes:
    try:
        handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise MeshwrightError(f"{path}: cannot be read: {why}", HINT) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise MeshwrightError(f"{path}: not a plain file", HINT)
    with os.fdopen(handle, "rb") as file:
        return _content(file, str(path), limit)


def _content(file: IO[bytes], name: str, limit: int) -> bytes:
    try:
        data = file.read(limit + 1)
    except OSError as error:  # a folder as stdin; memory that is not there
        raise MeshwrightError(f"{name}: cannot be read: {error.strerror}", HINT) from None
    if len(data) > limit:
        raise MeshwrightError(f"{name}: larger than {limit >> 20} MB", LARGE)
    return data
