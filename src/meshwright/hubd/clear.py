"""The last trace: what belongs to no resource and is left when the mesh is gone from a machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from typing import Any

from .host import system, units
from .host.place import HOME, Place
from .kernel import device
from .resources import state
from .rollback import pending

WANTS = ("multi-user.target", "nftables.service", "firewalld.service")


def clear(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{interface or "", table} -> {"left": [path]}: what of ours is still there, by somebody's hand or because it is
    in use. Only what no apply needs any more: HubError while the mesh is still there.
    """
    where = state.place(payload)
    if where.interface:
        _check_gone(where)
    pending.disarm(where.table)
    for path in (f"{HOME}/{where.table}", pending.folder(where.table)):
        shutil.rmtree(path, ignore_errors=True)
    for name in _units(where):
        units.disable(name)  # links to a unit whose file somebody removed
    for path in _strays(where):
        system.remove_file(path)
    _remove_empty(
        HOME,
        "/etc/meshwright",
        f"/etc/systemd/system/{where.service}.d",
        *(f"/etc/systemd/system/{name}.wants" for name in (*WANTS, where.hubd)),
        units.RUNNING,
    )
    if where.interface:
        units.act(where.service, "daemon-reload")
        if units.booted():
            system.attempt(["systemctl", "reset-failed", where.service, where.hubd])
        system.remove_file(where.lock)  # held by us; whoever waits for it finds nothing to write
    return {"left": [path for path in (HOME, "/etc/meshwright") if os.path.lexists(path)]}


def _check_gone(where: Place) -> None:
    there = [path for path in (where.conf, where.ruleset, where.program) if os.path.lexists(path)]
    if there or device.read(where.interface):
        raise system.HubError(
            f"the mesh is still there: {there[0] if there else where.interface}", "run destroy again: it goes on"
        )


def _units(where: Place) -> list[str]:
    names = (f"meshwright-{where.table}", f"meshwright-{where.table}-gateway")
    return [*(f"{name}.service" for name in names), where.hubd, where.listener]


def _strays(where: Place) -> list[str]:
    """Files that a killed writer left half written, and logs of units that ran without systemd."""
    files = [f"/etc/meshwright/{where.table}.json", f"/etc/meshwright/{where.table}-gateway.json"]
    folders = ["/etc/systemd/system", f"/etc/systemd/system/{where.service}.d", "/etc/sysctl.d"]
    files += [where.conf] if where.interface else []
    half = [f"{os.path.dirname(path)}/.{os.path.basename(path)}.meshwright" for path in files]
    half += [path for folder in folders for path in _half(folder, where.table)]
    ran = [f"{units.RUNNING}/{name}" for name in _units(where)]
    return [*half, *ran, *(f"{units.RUNNING}/.{name}.log" for name in (*_units(where), where.service))]


def _half(folder: str, table: str) -> list[str]:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    ours = ("meshwright", "90-meshwright")
    return [
        f"{folder}/{name}"
        for name in names
        if name.startswith(".") and name.endswith(".meshwright") and name[1:].startswith(ours) and table in name
    ]


def _remove_empty(*folders: str) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
