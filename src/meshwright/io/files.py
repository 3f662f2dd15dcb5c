"""Files of the operator's machine: written whole or not at all, private where they hold a secret."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshwright.errors import ConflictError, MeshwrightError, SecretsError
from meshwright.io import process

PRIVATE = 0o600


def write(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Replace a file in one step. The mode holds before the content is there; a crash leaves the old file.

    The temporary name is nobody else's: unlike on the hub, no lock keeps a second writer out.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What is wrong with a path that the user named, as one error of his. What he can mend otherwise (a full disk, no
    permission) is told where all errors are, with the path."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            error.filename = str(path)
            raise
        raise MeshwrightError(f"{path}: cannot be written: {error.strerror}", "name another place for it") from None


_NO_PLACE = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EBUSY, errno.ELOOP,
    errno.ENAMETOOLONG, errno.EINVAL,
}  # fmt: skip


def read_private(path: Path) -> str | None:
    """The text of a private file, None when there is none. SecretsError when others can read it or it is not plain."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretsError(f"{path}: cannot be read: {error.strerror}", "make it a plain file that you own") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise SecretsError(f"{path}: not a plain file", "put the plain file back, or remove this one")
    with os.fdopen(handle, errors="replace") as file:
        if found.st_mode & 0o077:
            raise SecretsError(f"{path}: others can read this secret", f"chmod 600 {path}")
        return file.read(65536).strip()


def private_directory(path: Path) -> None:
    """Make a directory for secrets: 0700, ignored by git. SecretsError when it is open to others or tracked by git."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private_directory(path)
    ignore = path / ".gitignore"
    if not ignore.exists():
        write(ignore, b"# secrets: never in git\n*\n", 0o600)


def check_private_directory(path: Path) -> None:
    """SecretsError when a directory of secrets, if it exists, is open to others or has files in git."""
    if not path.is_dir():
        return
    if path.stat().st_mode & 0o077:
        raise SecretsError(f"{path}: others can look into the directory of secrets", f"chmod 700 {path}")
    if tracked := _tracked(path):
        raise SecretsError(
            f"{path}: git tracks {tracked}",
            f"git rm --cached {path / tracked}, then make new keys: what was in git once is known",
        )


def _tracked(path: Path) -> str:
    if not any((parent / ".git").exists() for parent in [path.absolute(), *path.absolute().parents]):
        return ""
    done = process.run(["git", "-C", str(path), "ls-files", "--", "."], timeout=20)
    return done.out.decode(errors="replace").partition("\n")[0]


@contextmanager
def lock(path: Path, what: str, patience: float = 30) -> Iterator[None]:
    """Hold a lock file while the block runs. ConflictError after `patience` seconds, naming who holds it."""
    with path.open("a+") as file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    file.seek(0)
                    holder = file.read(200).strip() or "another process"
                    raise ConflictError(
                        f"{what} is being changed by {holder}", "wait until it ends, then try again"
                    ) from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
