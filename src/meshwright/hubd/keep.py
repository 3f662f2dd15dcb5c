"""What only the hub has, out of it for an encrypted backup, and back onto an empty one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from .host import system
from .kernel import device, wg
from .resources import state


def take(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{interface, table} -> {"conf", "table": base64 or null, "public_key"}: the saved conf with the private key.

    The answer holds secrets: its only way leads into a backup that is encrypted before it is written.
    """
    where = state.place(payload)
    conf = system.read_file(where.conf)
    private = wg.parse_conf(conf.decode(errors="replace")).private_key if conf else ""
    if not private:
        raise system.HubError(
            f"there is no private key in {where.conf}", "apply once, so that there is a hub to back up"
        )
    table = system.read_file(where.ruleset)
    return {
        "public_key": device.public_key(private),
        "conf": base64.b64encode(conf or b"").decode(),
        "table": base64.b64encode(table).decode() if table else None,
    }


def plant(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{interface, table, conf: base64} -> {"public_key", "there": bool}: the conf without its peers, not started.

    Only where there is no other hub: no conf with another key, no such interface, no other mesh on it.
    """
    where = state.place(payload)
    conf = wg.parse_conf(base64.b64decode(payload["conf"]).decode(errors="replace"))
    if not conf.private_key:
        raise system.HubError("there is no private key in the backup's conf", "take another backup")
    wanted = device.public_key(conf.private_key)
    there = _there(where, wanted)
    if not there:
        bare = conf._replace(peers={}, strange=())
        system.write_file(where.conf, wg.render_conf(bare).encode(), 0o600)
    return {"public_key": wanted, "there": there}


def _there(where: state.Place, wanted: str) -> bool:
    """Whether this very hub is here already. HubError when another is."""
    for other in state.neighbours(where):
        raise system.HubError(
            f"{where.interface} is the interface of the mesh with the table {other}", "restore onto an empty hub"
        )
    data = system.read_file(where.conf)
    live = device.read(where.interface)
    saved = wg.parse_conf(data.decode(errors="replace")).private_key if data is not None else ""
    found = {device.public_key(key) for key in (saved, live.device.private_key if live else "") if key}
    # not the whole key: the operator's side cannot tell it from a private one, and would hide it
    shown = ", ".join(f"{key[:8]}..." for key in sorted(found))
    if found - {wanted} or (data is not None and not saved):
        raise system.HubError(
            f"this hub has {where.interface} already, with another key: {shown or 'none'}",
            f"restore onto an empty hub; or, if that one is not needed: systemctl disable --now {where.service}, and"
            f" move {where.conf} away",
        )
    if live is None and device.exists(where.interface):
        raise system.HubError(f"{where.interface} exists and is no WireGuard interface", "remove that link")
    return data is not None
