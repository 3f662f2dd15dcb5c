"""A part of the machine's cgroups for one lab, v1 and v2 alike. See cgroups(7), cgroup_namespaces(7).

The part is a directory at the top of each hierarchy. In it `daemons` holds the node's own programs; everything else is
made by what runs in the cgroup namespace whose top it is, so nothing of the lab is ever outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from . import kernel

WANTED = ("cpu", "cpuset", "memory", "pids", "io")
NEEDED = {"cpu", "memory", "pids"}
DAEMONS = "daemons"
# What keeps a machine from being a node, for node.py of the lab to put into a sentence.
MISSING, CLOSED, CROWDED = "cgroups-missing", "cgroups-closed", "cgroups-crowded"


class Unfit(Exception):
    """The machine's cgroups cannot be used; the argument is one of the words above."""


@dataclass(frozen=True)
class Hierarchy:
    """folder: where it is mounted, below /sys/fs/cgroup; "" is that itself. controllers: of v1, those it has."""

    folder: str
    kind: str
    options: str = ""
    controllers: tuple[str, ...] = ()


def hierarchies() -> list[Hierarchy]:
    """Those of this machine: the v1 ones where memory is v1's, else the one of v2."""
    rows = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    old = [row[1] for row in rows if row[1]]
    if "memory" not in ",".join(old).split(","):
        return [Hierarchy("", "cgroup2")]
    return [_old(names) for names in old]


def _old(names: str) -> Hierarchy:
    if names.startswith("name="):
        return Hierarchy(names[5:], "cgroup", f"none,{names}")
    return Hierarchy(names, "cgroup", names, tuple(names.split(",")))


def mount(found: list[Hierarchy], base: str) -> None:
    """All hierarchies below `base`, as the cgroup namespace of this process shows them."""
    safe = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    if found[0].kind == "cgroup":
        kernel.mount("cgroup", base, "tmpfs", safe, "mode=755")
    for one in found:
        folder = Path(base, one.folder)
        folder.mkdir(exist_ok=True)
        kernel.mount("cgroup", str(folder), one.kind, safe, one.options)
        for name in one.controllers if len(one.controllers) > 1 else ():
            Path(base, name).symlink_to(one.folder)


def enter(found: list[Hierarchy], base: str, name: str) -> None:
    """Make the part `name`, put this process into it, and make it the top of a new cgroup namespace."""
    try:
        for one in found:
            _make(Path(base, one.folder), name, one)
        kernel.unshare(kernel.NEWCGROUP)
        for one in found:
            _daemons(Path(base, one.folder, name), one)
    except OSError as error:
        word = {errno.EROFS: CLOSED, errno.EACCES: CLOSED, errno.EPERM: CLOSED, errno.EBUSY: CROWDED}
        if error.errno in word:
            raise Unfit(word[error.errno]) from error
        raise


def _make(top: Path, name: str, one: Hierarchy) -> None:
    part = top / name
    part.mkdir(exist_ok=True)
    if one.kind == "cgroup2":
        there = set((top / "cgroup.controllers").read_text().split())
        if not there >= NEEDED:
            raise Unfit(MISSING)
        _pass_on(top)
    _inherit(top, part, one)
    (part / "cgroup.procs").write_text("0")


def _daemons(part: Path, one: Hierarchy) -> None:
    daemons = part / DAEMONS
    daemons.mkdir(exist_ok=True)
    _inherit(part, daemons, one)
    (daemons / "cgroup.procs").write_text("0")
    if one.kind == "cgroup2":  # only now: a cgroup that hands controllers down may hold no process
        _pass_on(part)


def _pass_on(cgroup: Path) -> None:
    """v2: what is below may use the controllers."""
    there = (cgroup / "cgroup.controllers").read_text().split()
    on = (cgroup / "cgroup.subtree_control").read_text().split()
    for name in WANTED:
        if name in there and name not in on:
            (cgroup / "cgroup.subtree_control").write_text(f"+{name}")


def _inherit(top: Path, below: Path, one: Hierarchy) -> None:
    """v1: a new cpuset is empty, and takes no process before it has processors and memory."""
    for key in ("cpuset.cpus", "cpuset.mems") if "cpuset" in one.controllers else ():
        (below / key).write_text((top / key).read_text())


def join(base: str) -> None:
    """Put this process among the daemons of the part that is mounted at `base`."""
    for one in hierarchies():
        Path(base, one.folder, DAEMONS, "cgroup.procs").write_text("0")


def remove(found: list[Hierarchy], base: str, name: str) -> None:
    """Take the part away. Its processes are dead or dying."""
    for one in found:
        part = Path(base, one.folder, name)
        end = time.monotonic() + 10
        while part.is_dir() and not _emptied(part) and time.monotonic() < end:
            time.sleep(0.05)


def _emptied(part: Path) -> bool:
    for folder, _, _ in os.walk(part, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # noqa: PTH106
    return not part.is_dir()
