"""The hub's own edges: programs, files, locks. Whatever has an effect goes through the functions of this file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import re
import select
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
FULL = "make room on that disk of the hub (df -h shows them), then apply again"
NO_FILE = "see what it is and move it away on the hub, then try again"
OURS = re.compile(r"/etc/meshwright|/var/lib/meshwright(/.+)?|/run/meshwright-units|/etc/systemd/system/[^/]+\.d")
"""Folders of ours: who can write in one of them is root on the hub."""


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


def need_root() -> None:
    """HubError for anybody but root, also the root of a namespace."""
    if os.geteuid():
        raise not_root()


def not_root() -> HubError:
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = f"user {os.geteuid()}"
    return HubError(
        f"you are {user} there, not root",
        "set become: true in the connection of the mesh file (become for the play, in Ansible), or log in as root",
    )


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
    """The whole file, None when there is none. HubError with the path for what is no file: it is never waited for."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) and os.path.realpath(path) != os.devnull:
                raise HubError(f"{path} is no file", NO_FILE)
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise HubError(f"{path} is a folder, not a file", NO_FILE) from None


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
    make_folder(folder)
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


def make_folder(path: str, mode: int = 0o755) -> None:
    """Make a folder and those above it, 0755 but for the last, whatever the umask; one of ours is taken from others."""
    if path != os.path.dirname(path):
        if not os.path.isdir(path):
            make_folder(os.path.dirname(path))
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
                os.chmod(path, mode)
        elif OURS.fullmatch(path):
            make_folder(os.path.dirname(path))  # from above: nobody exchanges it meanwhile
            _take(path, mode)


def _take(folder: str, mode: int) -> None:
    if not loose(folder):
        return
    if os.lstat(folder).st_uid != os.geteuid() and os.path.islink(folder):
        raise HubError(f"{folder} is a link that is not root's", "see who made it, remove it, then apply again")
    os.chown(folder, os.geteuid(), os.getegid())
    os.chmod(folder, mode)


def loose(path: str) -> bool:
    """Whether somebody else than its owner, who is to be us, can write it; False for what is not there."""
    try:
        found = [os.lstat(path), os.stat(path)]
    except OSError:
        return False
    return any(each.st_uid != os.geteuid() for each in found) or bool(found[1].st_mode & 0o022)


def in_others_hands(path: str) -> str:
    """What of a file of ours, and of our folders above it, others can write: a sentence, "" for nothing."""
    folder = os.path.dirname(path)
    if folder != path and (said := in_others_hands(folder)):
        return said
    if not loose(path) or (os.path.isdir(path) and not OURS.fullmatch(path)):
        return ""
    return f"others than root can write {path}; see whether they did"


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
    end = time.monotonic() + patience
    while True:
        with _lock_file(path) as file:
            while not _grab(file.fileno()):
                if time.monotonic() >= end:
                    raise HubError(
                        f"another run is writing this hub ({file.read().strip() or 'unknown holder'})",
                        "wait for it to end, or end that process on the hub, then apply again",
                    )
                time.sleep(0.05)
            if not _names(path, file):
                continue  # its last holder took it away, or it was replaced
            file.truncate(0)
            by = f"{who.encode('ascii', 'replace').decode()}, " if who else ""
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            file.write(f"{by}pid {os.getpid()} since {since}\n")
            file.flush()
            yield
            return


def _lock_file(path: str) -> IO[str]:
    """The lock file, which nobody else can open: whoever can may hold it for good. One that others can is replaced."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    make_folder(os.path.dirname(path))
    try:
        found = os.lstat(path) if os.path.lexists(path) else None
        if found and (found.st_mode != stat.S_IFREG | 0o600 or found.st_uid != os.geteuid()):
            os.unlink(path)
        return open(os.open(path, flags, 0o600), "r+", encoding="ascii")
    except OSError as error:
        raise HubError(f"{path}: {error.strerror}", NO_FILE) from None


def _names(path: str, file: IO[str]) -> bool:
    """Whether the path still is that of the open file."""
    return os.path.lexists(path) and os.path.samestat(os.lstat(path), os.fstat(file.fileno()))


@contextlib.contextmanager
def grab(path: str) -> Iterator[bool]:
    """Hold the same lock if nobody else does; False otherwise. The file may be read-only here, but must be there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
