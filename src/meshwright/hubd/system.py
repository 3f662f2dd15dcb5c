"""The hub's own edges: programs, files, locks. Whatever has an effect goes through the functions of this file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
FULL = "make room on that disk of the hub (df -h shows them), then apply again"


class HubError(Exception):
    """Something on the hub that its owner can mend; `hint` is the next step. Never holds a secret."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Done(NamedTuple):
    """A finished program."""

    code: int
    out: bytes
    err: str


def memory() -> IO[bytes]:
    """A file that is nowhere but in memory (memfd_create(2)): what goes through it may be secret. Where the system has
    no such thing, which is never so on a hub, a file without a name.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("meshwright"), "w+b")
    return tempfile.TemporaryFile()


def attempt(argv: Sequence[str], stdin: bytes = b"", timeout: float = 60, env: dict[str, str] | None = None) -> Done:
    """Run a program to its end, whatever its code. Output goes through files: wg-quick may leave a daemon behind."""
    with memory() as source, memory() as out, memory() as err:
        source.write(stdin)
        source.seek(0)
        try:
            process = subprocess.Popen(
                list(argv), stdin=source, stdout=out, stderr=err, env=_environment(env), start_new_session=True, cwd="/"
            )
        except OSError as error:
            raise HubError(f"{argv[0]}: {error.strerror}", f"install the program {argv[0]} on the hub") from None
        try:
            code = wait(process, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise HubError(f"{argv[0]} did not finish within {timeout:g} s", "look at the hub's load") from None
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read().decode(errors="replace"))


def wait(process: subprocess.Popen[bytes], timeout: float) -> int:
    """The code of the program as soon as it ends: Python's own wait looks only every so often, at most every 50 ms."""
    with contextlib.suppress(OSError, AttributeError):  # pidfd_open(2) is of Linux 5.3 and Python 3.9
        handle = os.pidfd_open(process.pid)
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            ended.poll(timeout * 1000)
        finally:
            os.close(handle)
        timeout = 0 if process.poll() is None else timeout
    return process.wait(timeout)


def run(argv: Sequence[str], stdin: bytes = b"", timeout: float = 60, env: dict[str, str] | None = None) -> bytes:
    """What the program printed; HubError with its last word when it fails."""
    done = attempt(argv, stdin, timeout, env)
    if done.code:
        lines = [line.strip() for line in done.err.splitlines() if line.strip()]
        said = lines[-1] if lines else f"code {done.code}"
        raise HubError(f"{' '.join(argv[:3])}: {said[:300]}", "run the same on the hub by hand to see more")
    return done.out


def _environment(extra: dict[str, str] | None) -> dict[str, str]:
    return {**os.environ, "PATH": PATH, "LC_ALL": "C", **(extra or {})}


def read_file(path: str) -> bytes | None:
    """The whole file, None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_file(path: str, data: bytes, mode: int) -> None:
    """Replace a file in one step: complete, on disk and with its mode before it gets its name. Makes its folder.

    The temporary name is fixed, so a killed writer leaves at most one, which the next writer removes. HubError with
    the path where that fails: then the old file is still there.
    """
    try:
        _replace(path, data, mode)
    except OSError as error:
        hint = FULL if error.errno in NO_ROOM else "check that path and its permissions on the hub, then try again"
        raise HubError(f"{path}: {error.strerror}", hint) from None


def _replace(path: str, data: bytes, mode: int) -> None:
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    waiting = os.path.join(folder, f".{name}.meshwright")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(waiting)
    descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(waiting, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(waiting)
        raise
    _sync_folder(folder)


def remove_file(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(path: str, patience: float, who: str = "") -> Iterator[None]:
    """Hold the lock file, waiting up to `patience` seconds for another holder, who is then named in the error.

    who: the user and machine that this is done for.

    The kernel frees it when the holder dies, so a killed run never blocks the next.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a+", encoding="ascii") as file:
        os.chmod(path, 0o600)
        end = time.monotonic() + patience
        while not _grab(file.fileno()):
            if time.monotonic() >= end:
                file.seek(0)
                raise HubError(
                    f"another run is writing this hub ({file.read().strip() or 'unknown holder'})",
                    "wait for it to end, or end that process on the hub, then apply again",
                )
            time.sleep(0.05)
        file.truncate(0)
        by = f"{who.encode('ascii', 'replace').decode()}, " if who else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        file.write(f"{by}pid {os.getpid()} since {since}\n")
        file.flush()
        yield


@contextlib.contextmanager
def grab(path: str) -> Iterator[bool]:
    """Hold the same lock if nobody else does; False otherwise. The file may be read-only here, but must be there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # in a sandbox nothing can be made, even if it is there
    try:
        yield _grab(descriptor)
    finally:
        os.close(descriptor)


def _grab(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
