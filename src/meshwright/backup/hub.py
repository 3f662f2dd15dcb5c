"""What of a hub goes into a backup, and how it gets onto an empty hub. It never touches this machine's disk."""

from __future__ import annotations

import base64

from meshwright.backup.archive import Files
from meshwright.errors import MeshwrightError
from meshwright.io.host import Host, remote

CONF, TABLE = "interface.conf", "table.json"


def take(host: Host, interface: str, table: str) -> dict[str, bytes]:
    """The conf with the hub's private key, and the table as it was saved last."""
    answer = remote(host, "take", {"interface": interface, "table": table})
    out = {CONF: base64.b64decode(answer["conf"])}
    return out | ({TABLE: base64.b64decode(answer["table"])} if answer["table"] else {})


def plant(host: Host, interface: str, table: str, found: Files) -> str:
    """The hub's key and settings onto a hub without any -> its public key."""
    if CONF not in found:
        raise MeshwrightError("this backup holds no key of a hub", "take another backup, or use --without-hub")
    conf = base64.b64encode(found[CONF]).decode()
    answer = remote(host, "plant", {"interface": interface, "table": table, "conf": conf})
    return str(answer["public_key"])
