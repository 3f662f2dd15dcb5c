"""The program that stays on the hub: it comes packed in the payload, and a unit runs it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import sys
import zlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..host import system, units
from ..host.place import Place
from ..metrics import exporter

PYTHON = "/usr/bin/python3"  # what the unit runs


class Service(NamedTuple):
    """The service in one write. changed: ids; resources: what shall be there; packed: the program as it came, or ""."""

    changed: Collection[str]
    resources: Mapping[str, Any]
    where: Place
    packed: str

    @property
    def _unit(self) -> str:
        return f"hub/unit/etc/systemd/system/{self.where.hubd}"

    @property
    def _program(self) -> str:
        return f"hub/program/{self.where.table}"

    @property
    def _touched(self) -> bool:
        return bool({self._program, self._unit, self._listener} & set(self.changed))

    @property
    def _listener(self) -> str:
        return f"hub/unit{self.where.socket}"

    @property
    def _exporter(self) -> str:
        return f"hub/exporter/{self.where.table}"

    def off(self) -> None:
        """Stop the service if anything about it changes, and put its program there."""
        if self._touched and units.load(self.where.hubd):
            units.act(self.where.hubd, "stop")
        if self._listener in self.changed and self._listener not in self.resources:
            units.act(self.where.listener, "disable")  # or it would start with the service once more
        wanted = self.resources.get(self._program)
        if wanted and self._program in self.changed:
            system.write_file(self.where.program, self._unpacked(wanted["saved"]["sha256"]), _mode(wanted))

    def _unpacked(self, digest: str) -> bytes:
        data = zlib.decompress(base64.b64decode(self.packed)) if self.packed else b""
        if hashlib.sha256(data).hexdigest() != digest:
            raise system.HubError("the program for the hub is not the planned one", "plan again, then apply")
        return data

    def metrics(self) -> None:
        """What the exporter serves by, or nothing any more. The service sees by itself that it was written."""
        if self._exporter in self.changed:
            wanted = self.resources.get(self._exporter)
            if wanted:
                exporter.write(self.where.exporter, wanted["saved"])
            else:
                system.remove_file(self.where.exporter)

    def on(self) -> None:
        """Start it, unless its program or its unit is to go."""
        stays = not {self._program, self._unit} & (set(self.changed) - self.resources.keys())
        if self._touched and stays and units.load(self.where.hubd):
            units.act(self.where.hubd, "start")

    def heard(self) -> None:
        """HubError where the exporter should listen and does not; everything else is done by then."""
        if self._touched and self._listener in self.resources and not units.active(self.where.listener):
            raise system.HubError(
                f"{self.where.listener} is {units.state(self.where.listener)}: nobody can read the metrics",
                "see on the hub who has that port already (ss -ltnp), or take another observability.exporter.port",
            )


def _mode(wanted: Mapping[str, Any]) -> int:
    return int(wanted["saved"]["mode"], 8)


def remove(where: Place) -> None:
    """Take the program and what it remembers away; folders only if nothing else is in them."""
    for file in (where.program, where.memory, where.exporter):
        system.remove_file(file)
    home = os.path.dirname(where.program)
    for folder in (os.path.dirname(where.memory), home, os.path.dirname(home)):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def python() -> list[int]:
    """The version of the Python that the unit runs, [] when there is none. By its name, where that tells it."""
    place = os.path.realpath(PYTHON)
    if not os.access(place, os.X_OK):
        return []
    if place == os.path.realpath(sys.executable):
        return list(sys.version_info[:2])
    named = re.fullmatch(r"python(\d+)\.(\d+)", os.path.basename(place))
    if named:
        return [int(named[1]), int(named[2])]
    done = system.attempt([PYTHON, "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"])
    return [int(word) for word in done.out.split()] if not done.code else []
