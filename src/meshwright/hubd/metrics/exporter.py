"""The exporter's settings on the hub, as a file of the mesh: where it listens, who may read, whom it expects.

The file is JSON, 0600, for it may hold the key of a certificate: {"format", "address", "port", "token_sha256" (hex, ""
for none), "certificate", "key" (PEM, "" for no TLS), "peers": {"PEER" or "PEER/DEVICE": {"public_key"[,
"next_public_key"][, "always_on"]}}}. The token itself never comes here. scrape.py serves by it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from ..host import system

FORMAT = 1
TEXTS = ("address", "token_sha256", "certificate", "key")


def read(path: str) -> dict[str, Any] | None:
    """The settings as attributes of a resource, None where there are none. What is no settings is shown as strange."""
    data = system.read_file(path)
    if data is None:
        return None
    found = parse(data)
    said = system.in_others_hands(path)
    mode = f"{stat.S_IMODE(os.stat(path).st_mode):04o}"
    return {**(found or {"format": 0, "strange": f"{path} is not what apply wrote"}), "mode": mode, **_strange(said)}


def _strange(said: str) -> dict[str, str]:
    return {"strange": said} if said else {}  # nobody wants this key, so it is drift


def parse(data: bytes) -> dict[str, Any] | None:
    """The settings, None for what cannot be served by. Of a newer format nothing but the number is asked."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or type(found.get("format")) is not int:
        return None
    if found["format"] != FORMAT:
        return {"format": found["format"]}
    port = found.get("port")
    sound = all(isinstance(found.get(name), str) for name in TEXTS) and isinstance(found.get("peers"), dict)
    if not sound or type(port) is not int or not 0 < port < 65536:
        return None
    return found if all(isinstance(entry, dict) for entry in found["peers"].values()) else None


def write(path: str, wanted: Mapping[str, Any]) -> None:
    """Put the settings there in one step."""
    content = {name: value for name, value in wanted.items() if name != "mode"}
    system.write_file(path, json.dumps(content, sort_keys=True).encode() + b"\n", int(wanted["mode"], 8))
