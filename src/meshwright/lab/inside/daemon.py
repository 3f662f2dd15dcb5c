"""Starts a program that stays on the host it runs on.

python -I -S -c BOOT daemon run LOG ARGUMENT...   prints the program's pid; its output goes to LOG, and before it begins
                                                  "PID START" (its start time, in ticks since boot) to LOG.pid
python -I -S -c BOOT daemon free PORT...          waits until nobody listens on these TCP ports; else code 1
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 10.0


def main(arguments: list[str]) -> int:
    step, *rest = arguments
    if step == "free":
        return free([int(port) for port in rest])
    try:
        with open(rest[0], "ab") as log:  # noqa: PTH123
            child = subprocess.Popen(
                rest[1:],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                preexec_fn=lambda: _sign(rest[0] + ".pid"),  # noqa: PLW1509 this process has one thread
            )
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(child.pid)
    return 0


def _sign(path: str) -> None:
    """By the program itself: whoever started it may be interrupted before it can write anything down."""
    words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    new = Path(path + ".new")
    new.write_text(f"{os.getpid()} {words[19]}")
    new.replace(path)


def free(ports: list[int]) -> int:
    end = time.monotonic() + PATIENCE
    while taken := [port for port in ports if _taken(port)]:
        if time.monotonic() > end:
            print(f"port {taken[0]} is taken", file=sys.stderr)
            return 1
        time.sleep(0.05)
    return 0


def _taken(port: int) -> bool:
    family = socket.AF_INET6 if Path("/proc/net/if_inet6").exists() else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do not count
        try:
            sock.bind(("", port))
        except OSError:
            return True
    return False
