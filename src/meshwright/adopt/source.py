"""What is known of a hub before it is a mesh: the values that every reader gives."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from meshwright import keys
from meshwright.errors import MeshwrightError
from meshwright.keys import Secret

SHOWN = 5


@dataclass(frozen=True)
class Client:
    """A peer as its hub has it.

    name: as it was called, "" when nobody called it. allowed_ips: the hub's, canonical. keepalive, mtu: of the device's
    own file, None where that is not known. routes: what the device's own file sends into the tunnel.
    """

    name: str
    public_key: str
    allowed_ips: tuple[str, ...] = ()
    private_key: Secret | None = None
    preshared_key: Secret | None = None
    keepalive: int | None = None
    mtu: int | None = None
    routes: tuple[str, ...] | None = None
    disabled: bool = False
    expires: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """kind: for people, "a wg-quick file". addresses: the hub's in the tunnel, with their length. mtu, listen: 0 where
    they are not said. notes: what of it a mesh file cannot say."""

    kind: str
    interface: str = ""
    public_key: str = ""
    listen: int = 0
    addresses: tuple[str, ...] = ()
    mtu: int = 0
    clients: tuple[Client, ...] = ()
    endpoint: str = ""
    dns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def refuse(name: str, faults: Iterable[str], hint: str) -> None:
    """MeshwrightError with the first few of these faults, if there are any."""
    found = list(faults)
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise MeshwrightError(f"{name}: {'; '.join([*found[:SHOWN], *more])}", hint)


def public(private: Secret | None) -> str:
    return keys.public(private) if private else ""


def quoted(text: str) -> str:
    """A foreign text for messages and comments: one line, nothing that moves a cursor, no key, not endless."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:160])
    return _KEY.sub("(key)", shown) + ("..." if len(text) > 160 else "")


def named(text: str) -> str:
    """A name as somebody gave it; "" where a key is in it: then it is none, and nobody shall read it."""
    return "" if _KEY.search(text) else text


_KEY = re.compile(r"[A-Za-z0-9+/]{42,43}=|[0-9a-fA-F]{64}")
