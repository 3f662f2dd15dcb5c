"""Process 1 of a lab. The kernel ends every process of the lab when this one ends, so `down` is one signal.

    python -I -S -c BOOT init rootless|root DIRECTORY

Prints the pid by which the world outside knows it, then waits for the line "go" on stdin: whoever started it has
written that pid down by then. If it dies before, the pipe closes and the lab ends with it.
"""

from __future__ import annotations

import os
import signal
import sys

from . import kernel


def main(arguments: list[str]) -> int:
    rootless = arguments[0] == "rootless"
    uid, gid = os.getuid(), os.getgid()
    spaces = kernel.NEWNS | kernel.NEWNET | kernel.NEWPID | kernel.NEWUTS | kernel.NEWIPC
    kernel.unshare(spaces | (kernel.NEWUSER if rootless else 0))
    if rootless:
        kernel.isolate_user(uid, gid)
    pid = os.fork()
    if pid == 0:
        _first()
    os.close(0)
    _, status = os.waitpid(pid, os.WNOHANG)
    os.write(1, f"{pid}\n".encode())
    return os.waitstatus_to_exitcode(status) if status else 0


def _first() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are reaped by the kernel
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("lab", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    os.mkdir("/run/lab", 0o755)  # noqa: PTH102
    os.chdir("/")
    if sys.stdin.readline() != "go\n":
        os._exit(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    while True:
        signal.pause()
