"""The lab's directory: who holds it, what is in it, how it goes away.

DIRECTORY/state.json (0600) says which process is process 1 of the lab. A pid alone proves nothing: the process must
have started when we started it, since the same boot, with our directory in its arguments.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meshwright.errors import LabError

MARK = "meshwright-lab"
FILE = "state.json"


@dataclass(frozen=True, slots=True)
class State:
    """What is written down. complete: False while it is being built. hosts: name -> pid. topology: as_json of it."""

    mesh: str
    pid: int
    started: str
    boot: str
    userns: bool
    complete: bool = False
    hosts: Mapping[str, int] = field(default_factory=dict)
    topology: Mapping[str, Any] = field(default_factory=dict)


def directory(name: str) -> Path:
    """Where the lab of the mesh `name` lives (XDG base directories: state)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else home() / ".local/state"
    return root / "meshwright" / "lab" / name


def home() -> Path:
    """The user's home. In a container he may have no name, and none."""
    try:
        return Path.home()
    except RuntimeError:
        hint = "set HOME, or XDG_STATE_HOME and XDG_CACHE_HOME, to folders of his"
        raise LabError("nobody knows a home folder of this user", hint) from None


def read(folder: Path) -> State | None:
    """The state as written, whether or not the lab still lives. None when there is none."""
    try:
        return State(**json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        raise LabError(
            f"{folder / FILE} cannot be read", "remove that directory; a restart of this machine ends what still runs"
        ) from None


def write(folder: Path, state: State) -> None:
    temporary = folder / f".{FILE}.new"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(state), file)
    temporary.replace(folder / FILE)


def alive(state: State) -> bool:
    """Whether process 1 of this lab is still that very process."""
    return boot() == state.boot and started(state.pid) == state.started and MARK in _arguments(state.pid)


def unwritten(folder: Path) -> list[int]:
    """Processes 1 of labs in this folder, as the process list tells: for when somebody removed the state file."""
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in found if is_first(pid, folder)]


def is_first(pid: int, folder: Path) -> bool:
    """Whether the process says that it is process 1 of a lab in this folder, and is ours."""
    if _arguments(pid)[-3:] != [str(folder), MARK, ""]:
        return False
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    said = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return said["NSpid"][1:][-1:] == ["1"] and said["Uid"][0] == str(os.getuid())


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started(pid: int) -> str:
    """Start time of a process in clock ticks since boot (proc(5), field 22 of stat); "" when it is gone or a zombie."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


@contextlib.contextmanager
def locked(folder: Path, *, create: bool) -> Iterator[bool]:
    """Hold the lab's directory. LabError when another command holds it. Gives False when it does not exist.

    The directory itself is locked, so nothing is left over; if `down` removed it just then, we start again.
    """
    while True:
        made = _make(folder) if create else []
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            if create:
                continue
            yield False
            return
        except OSError as error:
            raise LabError(f"{folder}: {error.strerror}", "remove what is there, or choose another mesh name") from None
        try:
            _take(handle, folder)
            if not _same(handle, folder):
                continue
            _judge(handle, folder)
            if made:
                (folder / "made").write_text("\n".join(map(str, made)))
            yield True
            return
        finally:
            os.close(handle)


def _make(folder: Path) -> list[Path]:
    """Create the directory and its parents; gives the parents that were not there."""
    new = [p for p in folder.parents if not p.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LabError(f"{folder}: {error.strerror}", "set XDG_STATE_HOME to a directory that you may write") from None
    return new


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LabError(
            f"another command is working on the lab in {folder}", "wait until it has finished, then try again"
        ) from None


def _same(handle: int, folder: Path) -> bool:
    try:
        there = folder.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)


def _judge(handle: int, folder: Path) -> None:
    found = os.fstat(handle)
    if found.st_uid != os.geteuid():
        raise LabError(f"{folder} belongs to another user", "remove it, or run as its owner")
    if found.st_mode & 0o077:
        os.fchmod(handle, 0o700)


def erase(folder: Path) -> None:
    """Remove the directory, and those parents that `up` made and that are empty now."""
    try:
        made = [Path(line) for line in (folder / "made").read_text().splitlines()]
    except OSError:
        made = []
    shutil.rmtree(folder)
    for parent in made:
        try:
            parent.rmdir()
        except OSError:
            break
