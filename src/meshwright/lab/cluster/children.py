"""A control plane of child processes on loopback, which end when their parent does."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshwright.errors import LabError
from meshwright.events import Tell, silent
from meshwright.lab.cluster import control
from meshwright.lab.cluster.ask import asker
from meshwright.lab.cluster.control import Plane
from meshwright.lab.cluster.programs import Programs

GRACE = 5  # seconds between SIGTERM and SIGKILL
ATTEMPTS = 3


class Children:
    """control.Runner: each program a child. The kernel kills them when this process dies, however it dies."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: list[str], log: Path) -> None:
        with log.open("ab") as out:
            self.running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
            )

    def ended(self) -> list[str]:
        return [name for name, child in self.running.items() if child.poll() is not None]

    def stop(self) -> None:
        """End all, the last started first."""
        for name in reversed(self.running):
            child = self.running[name]
            child.terminate()
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.running.clear()


@contextmanager
def loopback(folder: Path, programs: Programs, tell: Tell = silent) -> Iterator[Plane]:
    """A control plane in `folder`, on free ports of 127.0.0.1. Afterwards processes and folder are gone."""
    children = Children()
    try:
        yield _started(folder, programs, children, tell)
    finally:
        children.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, programs: Programs, children: Children, tell: Tell) -> Plane:
    keys = folder / "pki"
    for attempt in range(ATTEMPTS):
        port, *etcd = _free_ports(3)
        plane = Plane(folder, "127.0.0.1", port, (etcd[0], etcd[1]))
        try:
            control.start(plane, programs, children, asker(plane.server, keys / "ca.crt", keys / "admin"), tell)
        except LabError as error:
            # between choosing a port and listening on it somebody else may have taken it
            if "address already in use" not in error.message or attempt == ATTEMPTS - 1:
                raise
            children.stop()
            shutil.rmtree(folder)
        else:
            return plane
    raise AssertionError


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. Held until all are known, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
