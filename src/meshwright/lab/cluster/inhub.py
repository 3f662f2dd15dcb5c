"""Programs inside the lab's hub. They live below process 1 of the lab, so `lab down` ends them with everything else.

What runs is written down, so that the next command finds it: a pid, and when that process started.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from pathlib import Path

from meshwright.errors import LabError
from meshwright.lab import entry, state
from meshwright.lab.world import Lab

GRACE = 10  # seconds between SIGTERM and SIGKILL


class InHub:
    """control.Runner: a program that lives already is left alone.

    record: the file in which they are written down. prune: forget those that died, to start them again.
    """

    def __init__(self, lab: Lab, record: Path, *, prune: bool = True) -> None:
        self.lab = lab
        self.record = record
        self._known = {name: found for name, found in _read(record).items() if not prune or _lives(found)}

    def start(self, name: str, argv: list[str], log: Path) -> None:
        if self.alive(name) or self._found(name, log):
            return
        done = self.lab.host("hub").run(entry.command("daemon", "run", str(log), *argv))
        if done.code or not done.out.strip().isdigit():
            reason = (done.err.strip().splitlines() or ["it said nothing"])[-1]
            raise LabError(
                f"{name} cannot be started in the hub: {reason}", "run `meshwright lab up --kubernetes` again"
            )
        self._note(name, int(done.out))

    def recover(self, logs: Path) -> None:
        """Know also what an interrupted command started and could not write down: ports are theirs already."""
        for file in sorted(logs.glob("*.pid")):
            if not self.alive(file.stem):
                self._found(file.stem, file.with_suffix(""))

    def _note(self, name: str, inner: int) -> None:
        pid = _outer(self.lab.state.pid, inner)
        self._known[name] = {"pid": pid, "started": state.started(pid)}
        self._write()

    def _found(self, name: str, log: Path) -> bool:
        """Whether a command that was interrupted has started it, and could not write it down."""
        try:
            inner, began = log.with_name(f"{log.name}.pid").read_text().split()
        except (OSError, ValueError):
            return False
        pid = _outer(self.lab.state.pid, int(inner))
        if not pid or state.started(pid) != began:
            return False
        self._note(name, int(inner))
        return True

    def alive(self, name: str) -> bool:
        return name in self._known and _lives(self._known[name])

    def ended(self) -> list[str]:
        return [name for name, found in self._known.items() if not _lives(found)]

    def end(self, name: str) -> None:
        """End one, if it lives."""
        if name in self._known:
            _end(self._known.pop(name))
            self._write()

    def stop(self) -> None:
        """End all, the last started first."""
        for name in list(reversed(self._known)):
            self.end(name)

    def _write(self) -> None:
        temporary = self.record.with_name(f".{self.record.name}.new")
        temporary.write_text(json.dumps({"boot": state.boot(), "programs": self._known}))
        temporary.replace(self.record)


def _read(record: Path) -> dict[str, dict[str, object]]:
    try:
        document = json.loads(record.read_text())
        return dict(document["programs"]) if document["boot"] == state.boot() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _lives(found: dict[str, object]) -> bool:
    """Whether it is still the same process: a pid alone proves nothing."""
    return bool(found["started"]) and state.started(int(str(found["pid"]))) == found["started"]


def _outer(first: int, inner: int) -> int:
    """The pid here of a process that the lab, whose process 1 is `first`, knows as `inner`. 0 when it is gone."""
    space = Path(f"/proc/{first}/ns/pid").stat().st_ino
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "ns" / "pid").stat().st_ino == space:
                lines = (folder / "status").read_text().splitlines()
                if any(line.split()[-1] == str(inner) for line in lines if line.startswith("NSpid:")):
                    return int(folder.name)
    return 0


def _end(found: dict[str, object]) -> None:
    try:
        handle = os.pidfd_open(int(str(found["pid"])))
    except OSError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _lives(found):  # asked after pidfd_open: from here on the pid cannot become another process
                return
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], GRACE)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
