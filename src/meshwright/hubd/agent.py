"""The operations that a remote call may ask for; `batch` runs several of them in order."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from .host import system, tools, units
from .resources import packed, state, writing
from .rollback import pending

PATIENCE = 20.0
SETTLING = 5.0  # a colleague's write is confirmed sooner


def operate(operation: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Run one operation by name. What goes in and comes out is plain JSON."""
    if operation not in OPERATIONS:
        raise system.HubError(f"unknown operation {operation}", "this is a bug of meshwright; report it")
    if operation in OF_MESH:
        system.need_root()
    return OPERATIONS[operation](payload)


def read(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{interface, table, mark, sysctl: [key], units: [path], labels: {public key: label}} -> what is there.

    HubError where a newer meshwright wrote, where what is there may be rolled back any moment, or where the survey is
    for a "new" hub and write would refuse it for another mesh's sake.
    "service_python": [3, 11], the one that the service would have.

    {"resources": {id: attrs}, "peers": {id: {endpoint, handshake, received, sent}}}; the last
    is observed and no part of any resource: epoch seconds, bytes. With {"survey": "always"}, or "new" where interface
    or table are not in force yet, also "survey": what else lives here (survey/). With {"packages": {id: {package:
    [program]}}} also which are installed. Where a program is missing that reading needs: "lacking", and "used", whether
    a mesh was set up here before.
    """
    where = state.place(payload)
    pending.settled(where.table, SETTLING)
    installed = tools.there(payload.get("packages", {}))
    if lacking := tools.lacking():
        used = tools.used(where)
        survey = {} if used else _survey(payload, None)  # what cannot be read would be taken for somebody else's
        blind = {**survey, "resources": installed, "peers": {}}
        return {**blind, "lacking": lacking, "used": used}
    found = state.read(where)
    state.check_formats(found)
    if payload.get("survey") == "new":
        writing.check_new(found, where)
    return {
        **_survey(payload, found),
        "resources": {**installed, **state.resources(found, where, payload["labels"], {})},
        "peers": state.observed(found, payload["labels"]),
        "service_python": packed.python(),
    }


def _survey(payload: Mapping[str, Any], found: state.State | None) -> dict[str, Any]:
    when = payload.get("survey", "never")
    if when != "always" and (when != "new" or (found and found.live and found.tables["live"])):
        return {}
    from .survey import facts  # seldom wanted, and not small

    return {"survey": facts.gather(payload)}


def write(payload: Mapping[str, Any]) -> dict[str, Any]:
    """As read, with {"changes": [{id, before, after}], "patience": s} -> {"results": [{id, ok, why, hint, attrs}]}.

    One writer at a time. Nothing is written unless every change finds what it expects ("before"). With {"rollback":
    {"seconds", "token", "insist"}} all of it is rolled back unless `rollback.confirm` comes in time; then the answer
    has "rollback": {"until": epoch seconds, "hear": how many peers `confirm` waits to hear one of}.
    """
    with _turn(payload):
        if not payload.get("rollback"):
            return {"results": writing.write(payload)}
        from .rollback import arming  # only where a network lies between

        return arming.write(payload)


def _turn(payload: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """One writer at a time; see pending.turn"""
    return pending.turn(state.place(payload), payload.get("patience", PATIENCE), payload.get("who", ""))


def put(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"path", "data": base64, "mode": int} -> {}"""
    system.write_file(payload["path"], base64.b64decode(payload["data"]), payload["mode"])
    return {}


def service(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"name", "action"} -> {"active": bool, "enabled": bool}; see units.act"""
    return units.act(payload["name"], payload["action"])


def remove(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"path"} -> {}; a file that is not there is no error."""
    system.remove_file(payload["path"])
    return {}


def load(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"commands": [nft command]} -> {}; one transaction of libnftables-json(5)."""
    system.run(["nft", "-j", "-f", "-"], stdin=json.dumps({"nftables": payload["commands"]}).encode())
    return {}


def batch(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"steps": [[operation, payload], ...]} -> {"results": [...]}; stops at the first that fails."""
    return {"results": [operate(operation, part) for operation, part in payload["steps"]]}


def take(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What only the hub has, for an encrypted backup; see keep.take"""
    from . import keep

    return keep.take(payload)


def plant(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a backup has of a hub, onto an empty one; see keep.plant"""
    from . import keep

    with _turn(payload):
        return keep.plant(payload)


def clear(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The last trace of a mesh that is gone; see clear.clear"""
    from . import clear as last

    if not payload["interface"]:
        return last.clear(payload)
    with _turn(payload):
        return last.clear(payload)


OPERATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "read": read,
    "write": write,
    "put": put,
    "service": service,
    "remove": remove,
    "load": load,
    "batch": batch,
    "take": take,
    "plant": plant,
    "clear": clear,
}
OF_MESH = frozenset({"read", "write", "take", "plant", "clear"})
"""Only root can do anything of these; the others are as good as the path or unit that they name."""
