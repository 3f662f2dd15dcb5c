"""wg-easy's wg0.json, which is also its backup: up to its version 14. Later ones keep a database and write a wg0.conf.

{"server": {"privateKey", "publicKey", "address"}, "clients": {id: {"name", "address", "privateKey", "publicKey",
"preSharedKey", "enabled", "expiredAt"}}}. Its network is always a /24. Endpoint, port, DNS and keepalive are not in it:
they were variables of the container.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from meshwright import keys
from meshwright.adopt.source import Client, Source, public, quoted
from meshwright.errors import MeshwrightError
from meshwright.hubd.kernel import wg
from meshwright.keys import Secret
from meshwright.spec.model import expiry

NOT_EASY = "give wg-easy's wg0.json, as its page offers it as a backup"
MEND = "mend that in wg-easy, make its backup again, and import that"


def read(name: str, text: str) -> Source:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise MeshwrightError(f"{name}: not valid JSON", NOT_EASY) from None
    server = found.get("server") if isinstance(found, dict) else None
    clients = found.get("clients") if isinstance(found, dict) else None
    if not isinstance(server, dict) or not isinstance(clients, dict):
        raise MeshwrightError(f"{name}: JSON, but without the `server` and `clients` of wg-easy", NOT_EASY)
    where = f"{name}: server"
    private = _key(where, server, "privateKey")
    assert private
    if server.get("publicKey") not in (None, public(private)):
        raise MeshwrightError(f"{where}: publicKey does not belong to privateKey", MEND)
    address = _address(where, server)
    return Source(
        kind="a backup of wg-easy",
        interface="wg0",
        public_key=public(private),
        addresses=(f"{address}/24",) if "/" not in address else (address,),
        clients=tuple(_client(f"{name}: client {quoted(str(id))}", client) for id, client in clients.items()),
        notes=(
            "the backup says nothing of port, DNS, MTU, keepalive and of the hooks that wg-easy was started with: they"
            " were variables of its container (WG_PORT, WG_DEFAULT_DNS, WG_MTU, WG_PERSISTENT_KEEPALIVE, WG_POST_UP)",
        ),
    )


def _client(where: str, client: Any) -> Client:
    if not isinstance(client, dict):
        raise MeshwrightError(f"{where}: not an object", NOT_EASY)
    private = _key(where, client, "privateKey", needed=False)
    shown = client.get("publicKey") or public(private)
    if not isinstance(shown, str) or keys.fault(shown):
        raise MeshwrightError(f"{where}: publicKey is not a key", MEND)
    if private and public(private) != shown:
        raise MeshwrightError(f"{where}: publicKey does not belong to privateKey", MEND)
    if not isinstance(client.get("enabled", True), bool):
        raise MeshwrightError(f"{where}: enabled is neither true nor false", MEND)
    title = client.get("name")
    until = client.get("expiredAt")
    expires = until if isinstance(until, str) and _moment(until) else ""
    return Client(
        name=title if isinstance(title, str) else "",
        public_key=shown,
        allowed_ips=wg.prefixes([_address(where, client)]),
        private_key=private,
        preshared_key=_key(where, client, "preSharedKey", needed=False),
        disabled=client.get("enabled") is False,
        expires=expires,
        notes=(f"its expiry is not a time: {quoted(str(until))}",) if until and not expires else (),
    )


def _key(where: str, found: Mapping[str, Any], field: str, needed: bool = True) -> Secret | None:
    value = found.get(field)
    if value in (None, "") and not needed:
        return None
    why = keys.fault(value) if isinstance(value, str) else "not a text"
    if why:
        raise MeshwrightError(f"{where}: {field} is not a key: {why}", MEND)
    return Secret(str(value))


def _address(where: str, found: Mapping[str, Any]) -> str:
    value = found.get("address")
    try:
        wg.prefixes([value if isinstance(value, str) else "-"])
    except ValueError:
        raise MeshwrightError(f"{where}: address is not an address", MEND) from None
    return str(value).strip()


def _moment(text: str) -> bool:
    try:
        expiry(text)
    except (ValueError, OverflowError):
        return False
    return True
