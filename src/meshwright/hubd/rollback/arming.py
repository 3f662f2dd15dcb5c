"""Arming a roll-back: what it has to know is saved and its clock is started before the first step of a write."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..host import system, units
from ..resources import state, writing
from ..resources.state import Attrs, Place, State
from ..resources.writing import Target
from . import back, caller, hearing, pending, undo

ACTIVE = 180  # seconds since the last handshake after which a peer's session is dead
PROGRAM = """import json
document = json.loads({text!r})
exec(compile(document["boot"], "boot.py", "exec"), {{"document": document}})
"""
AT_BOOT = """# Written by meshwright while a roll-back is armed, for the case that the hub reboots meanwhile.
[Unit]
Description=Roll back the mesh of the table {table}
ConditionPathExists={folder}/snapshot.json
After=wg-quick@{interface}.service meshwright-{table}.service network.target

[Service]
Type=oneshot
ExecStart={python} -I {folder}/program.py
"""


class Armed(NamedTuple):
    """A roll-back that waits. active: public keys of the active peers that the write keeps, where it may cut them all;
    hear: whether one of them has to be heard. since: monotonic."""

    where: Place
    seconds: float
    active: tuple[str, ...]
    hear: bool
    since: float


def write(payload: Mapping[str, Any]) -> dict[str, Any]:
    """As agent.write with an armed roll-back; the lock is held. A write that breaks is rolled back at once."""
    where = state.place(payload)
    armed: list[Armed | None] = []

    def ready(before: State, there: Mapping[str, Attrs], target: Target) -> None:
        table = f"hub/table/{where.table}"
        caller.check(there, target.resources, target.tables["live"], back.moved(table, there, target.resources))
        order = {**payload["rollback"], "by": payload.get("who") or "somebody"}
        armed.append(arm(where, order, before, there, target))

    try:
        results = writing.write(payload, ready)
    except Exception:
        pending.give_up(where.table)
        raise
    waiting = next(iter(armed), None)
    return {"results": results, **({"rollback": _asked(waiting)} if waiting else {})}


def arm(
    where: Place, order: Mapping[str, Any], before: State, there: Mapping[str, Attrs], target: Target
) -> Armed | None:
    """Save what is there and start the clock; None where the interface is to go: nothing could be reached by it.

    order: {"seconds", "token", "by", "insist": whether to hear one of the active peers again}.
    """
    wanted = target.resources.get(f"hub/interface/{where.interface}") or {}
    if not wanted.get("live"):
        return None
    routes = before.live.routes if before.live else ()
    sysctl = undo.settings(where.sysctl)
    kept = back.keep(where, there, target.resources, target.changed, sysctl=sysctl, routes=routes)
    active = _active(before, target)
    peers = before.live.device.peers if before.live else {}
    try:
        _save(where, {**order, "endpoints": {key: peers[key].endpoint for key in active}}, kept)
        pending.start(where.table, order["seconds"])
    except (OSError, system.HubError) as error:
        with contextlib.suppress(OSError):
            pending.disarm(where.table)
        raise system.HubError(
            f"no roll-back could be armed, so nothing was written: {error}", "mend that on the hub, then apply again"
        ) from None
    active = active if target.touches(*back.KINDS) else ()
    return Armed(where, order["seconds"], active, order["insist"], time.monotonic())


def _active(before: State, target: Target) -> tuple[str, ...]:
    """Public keys of the peers with a session that the write keeps."""
    halves = [attrs["live"] for id, attrs in target.resources.items() if back.kind(id) == "peer"]
    stays = {half["public_key"] for half in halves if half}
    peers = before.live.device.peers if before.live else {}
    return tuple(key for key in peers if key in stays and time.time() - peers[key].handshake < ACTIVE)


def _save(where: Place, order: Mapping[str, Any], kept: back.Kept) -> None:
    table, home = where.table, pending.folder(where.table)
    system.make_folder(home, 0o700)
    system.remove_file(f"{home}/outcome.json")
    call = {"interface": where.interface, "table": table, "token": order["token"]}
    document = {**_source(), "mark": "", "operation": "rollback.now", "payload": call}
    system.write_file(f"{home}/program.py", PROGRAM.format(text=json.dumps(document)).encode(), 0o600)
    saved = {
        **order,
        "boot": pending.boot(),
        "deadline": pending.now() + order["seconds"],
        "place": where._asdict(),
        "kept": kept._asdict(),
        "routers": undo.routers(),
    }
    pending.save(table, saved)
    if units.booted():
        unit, link = pending.at_boot(table)
        words = {"table": table, "interface": where.interface, "folder": home, "python": sys.executable}
        system.write_file(unit, AT_BOOT.format(**words).encode(), 0o644)
        system.make_folder(os.path.dirname(link))
        with contextlib.suppress(FileExistsError):
            os.symlink(unit, link)


def _source() -> dict[str, Any]:
    """hubd as this process runs it, in the words of boot.py."""
    loader: Any = getattr(importlib.import_module(__name__).__spec__, "loader", None)
    if not hasattr(loader, "document"):
        raise system.HubError("hubd does not know its own source", "this is a bug of meshwright; report it")
    return {key: value for key, value in loader.document().items() if key in ("boot", "modules", "code")}


def _asked(armed: Armed) -> dict[str, Any]:
    """What the answer to a write says of its roll-back, after the last step: {"until", "hear": number of peers}.

    A write that took long has the whole time once more.
    """
    interface, table = armed.where.interface, armed.where.table
    found = pending.snapshot(table) or {}
    late = time.monotonic() - armed.since > armed.seconds / 4
    if late:
        found["deadline"] = pending.now() + armed.seconds
    hear = hearing.seen(interface, armed.active) if armed.hear else {}
    pending.save(table, {**found, "hear": hear})
    if late:
        pending.restart(table, armed.seconds)
    if armed.active:
        hearing.speak(interface, {})
    return {"until": time.time() + pending.left(found), "hear": len(hear)}
