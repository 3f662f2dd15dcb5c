"""Makes the hub a place where containers can run without a trace on the machine, and starts programs there.

    python -I -S -c BOOT node prepare              {"name", "folder"} on stdin -> {"fault": word}, "" when it is ready
    python -I -S -c BOOT node run ARGUMENT...      becomes that program, in the node's cgroups
    python -I -S -c BOOT node sweep NAME           outside, after the lab: removes the cgroups of that name

prepare and run are for processes inside the hub. `folder`, on a disk, becomes HOME there; all that Kubernetes writes
elsewhere goes to memory that is private to the hub.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

from . import cgroups, kernel

HOME = "/run/kubernetes"
CGROUPS = "/sys/fs/cgroup"
SPACE = f"{HOME}.cgroup"  # keeps the cgroup namespace
EVERYTHING = f"{HOME}.all"  # all of the machine's cgroups, for a moment
BEGUN, READY = f"{HOME}.begun", f"{HOME}.ready"
# Folders in which Kubernetes' programs write to paths of their own, whatever their settings say.
PRIVATE_SOURCE = "private-to-the-node"
PRIVATE = {"/var/lib": ("kubelet", "cni", "containerd"), "/var/log": ("containers", "pods")}
# What kubelet wants the machine's kernel set to. It sees these files instead, and leaves the machine alone.
SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def main(arguments: list[str]) -> int:
    step, *rest = arguments
    if step == "run":
        run(rest)
    if step == "sweep":
        sweep(rest[0])
        return 0
    print(json.dumps({"fault": prepare(**json.load(sys.stdin))}))
    return 0


def prepare(name: str, folder: str) -> str:
    if Path(READY).exists():
        return ""
    if Path(BEGUN).exists():
        _undo()
    Path(BEGUN).touch()
    try:
        _cgroups(name)
    except cgroups.Unfit as unfit:
        return str(unfit)
    Path(HOME).mkdir(exist_ok=True)
    kernel.mount(folder, HOME, "", kernel.MS_BIND)
    for place, names in PRIVATE.items():
        _cover(Path(place), names)
    _settings()
    Path(READY).touch()
    return ""


def _undo() -> None:
    """Unmount what an interrupted prepare has mounted. It deletes nothing: real folders are bound here."""
    rows = (line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    there = {(left.split()[4], right.split()[1]) for left, right in rows}
    covered = [place for place in PRIVATE if (place, PRIVATE_SOURCE) in there]
    settings = [f"/proc/sys/{path}" for path in SETTINGS]
    beside = [f"{HOME}.real{place}" for place in PRIVATE]
    for place in (*settings, *covered, *beside, HOME, CGROUPS, SPACE, EVERYTHING):
        with contextlib.suppress(OSError):  # it did not come as far as that
            kernel.unmount(place)


def _cgroups(name: str) -> None:
    """The hub's /sys/fs/cgroup shows a part of the machine's cgroups that is the lab's own, as if it were all."""
    found = cgroups.hierarchies()
    Path(EVERYTHING).mkdir(exist_ok=True)
    try:
        cgroups.mount(found, EVERYTHING)
    except OSError as error:
        raise cgroups.Unfit(cgroups.CLOSED) from error
    try:
        cgroups.remove(found, EVERYTHING, name)  # of an earlier lab that was not taken down
        cgroups.enter(found, EVERYTHING, name)
    finally:
        kernel.unmount(EVERYTHING)
    Path(SPACE).touch()
    kernel.mount("/proc/self/ns/cgroup", SPACE, "", kernel.MS_BIND)
    cgroups.mount(found, CGROUPS)


def _cover(place: Path, names: tuple[str, ...]) -> None:
    """Memory over a folder: the named folders are new and private, all others lead to the real ones."""
    real = Path(f"{HOME}.real{place}")
    real.mkdir(parents=True, exist_ok=True)
    kernel.mount(str(place), str(real), "", kernel.MS_BIND | kernel.MS_REC)
    kernel.mount(PRIVATE_SOURCE, str(place), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for name in names:
        (place / name).mkdir(mode=0o700)
    for entry in real.iterdir():
        if entry.name not in names:
            (place / entry.name).symlink_to(entry)


def _settings() -> None:
    for path, value in SETTINGS.items():
        copy, real = Path(f"{HOME}.settings", path), Path("/proc/sys", path)
        if real.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(f"{value}\n")
            kernel.mount(str(copy), str(real), "", kernel.MS_BIND)


def run(argv: list[str]) -> None:
    """Never returns."""
    cgroups.join(CGROUPS)  # before the next line: a process may be moved only where its namespace reaches
    kernel.setns(SPACE, kernel.NEWCGROUP)
    os.execvp(argv[0], argv)  # noqa: S606


def sweep(name: str) -> None:
    try:
        kernel.unshare(kernel.NEWNS)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        found, folder = cgroups.hierarchies(), tempfile.gettempdir()
        cgroups.mount(found, folder)
    except OSError:
        return  # who may not mount them cannot have made any
    cgroups.remove(found, folder, name)
