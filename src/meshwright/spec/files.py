"""The one place of spec that looks at the disk: the text of a mesh file, and whether others can read the secrets.

Whatever stands at the path, the answer is a text of reasonable size or one problem.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path as FilePath

from meshwright.errors import Problem, SpecError
from meshwright.spec.model import Mesh
from meshwright.spec.nodes import Fault, printable

LIMIT = 16 * 1024 * 1024

_WHY = {
    errno.ENOENT: ("there is no such file", "give the path of a mesh file"),
    errno.ENOTDIR: ("a part of the path is not a directory", "give the path of a mesh file"),
    errno.EACCES: ("no permission to read this file", "ask its owner, or look at it with ls -l"),
    errno.EPERM: ("no permission to read this file", "ask its owner, or look at it with ls -l"),
    errno.ELOOP: ("symbolic links that lead to each other", "look at them with ls -l"),
    errno.ENXIO: ("this is a socket or device, not a file", "give the path of a mesh file"),
    errno.ENAMETOOLONG: ("the path is too long", "give the path of a mesh file"),
}
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read(name: str) -> str:
    """The text of a file. SpecError when it is not a readable file of text of at most 16 MB."""
    try:
        raw = _bytes(name)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else errno.ENOENT
        text, hint = _WHY.get(number or 0, (f"cannot be read: {os.strerror(number or errno.EIO)}", ""))
        raise _unreadable(name, text, hint) from None
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _not_utf8(name, raw, error.start) from None


def _bytes(name: str) -> bytes:
    # a pipe without a writer must not hold us up
    handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
            raise _unreadable(name, f"this is {kind}, not a file", "give the path of a mesh file")
        raw = b""
        # some files (under /proc) tell no size, so what was read is counted too
        while found.st_size <= LIMIT and len(raw) <= LIMIT:
            more = os.read(handle, LIMIT + 1 - len(raw))
            if not more:
                return raw
            raw += more
        raise _unreadable(name, f"larger than {LIMIT >> 20} MB: this is no mesh file", "give the path of a mesh file")
    finally:
        os.close(handle)


def _unreadable(name: str, text: str, hint: str) -> SpecError:
    return SpecError((Problem(printable(name[:500]), 0, 0, "", text, hint),))


def _not_utf8(name: str, raw: bytes, start: int) -> SpecError:
    line = raw.count(b"\n", 0, start) + 1
    before = raw[raw.rfind(b"\n", 0, start) + 1 : start].decode("utf-8", "replace")
    hint = "save it as UTF-8 in a text editor"
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        hint = "it looks like UTF-16; save it as UTF-8"
    problem = Problem(name, line, len(before) + 1, "", f"byte 0x{raw[start]:02x} is not UTF-8 text", hint)
    return SpecError((problem,))


def secrets_directory(mesh: Mesh, folder: FilePath | None) -> Iterator[Fault]:
    """A directory of secrets that is there already and that others can look into."""
    if folder is None or os.path.normpath(mesh.secrets.directory) in (".", "..", "/"):
        return
    path = ("secrets", "directory")
    where = folder / mesh.secrets.directory
    try:
        found = where.stat()
    except (OSError, ValueError):
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Fault(path, f"{mesh.secrets.directory} is not a directory", "move the file away")
    elif found.st_mode & 0o077:
        yield Fault(path, f"others can look into {mesh.secrets.directory}", f"chmod 700 {mesh.secrets.directory}")
