"""One moment of the hub, from which the page of the exporter and the terminal's table are both made.

`take` reads; everything else here is pure. What could not be read is missing, never old and never a guess.

Settings are the exporter's: {"peers": {"PEER" or "PEER/DEVICE": {"public_key", "next_public_key", "always_on"}}}.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from . import counters, device, reading, system
from .place import Place

UNKNOWN = "unknown"
"""The peer of a key that the settings do not have."""
NOTHING: Mapping[str, Any] = {}


class Sample(NamedTuple):
    """What was read at one moment.

    up: whether the interface exists and is up. live: None when the device is not there or could not be read.
    counters: None when our table is not there or could not be read. faults: why live or counters are None, a sentence
    each; empty means that everything could be read. settings: as given. seconds: how long the reading took.
    """

    interface: str
    up: bool
    live: reading.Reading | None
    counters: counters.Counters | None
    settings: Mapping[str, Any] = NOTHING
    faults: tuple[str, ...] = ()
    seconds: float = 0.0


class Owner(NamedTuple):
    """A device that the mesh file admits. device: "" for the only one of its peer. next_key: "" when none is staged."""

    peer: str
    device: str
    public_key: str
    next_key: str
    always_on: bool


class Row(NamedTuple):
    """A peer of the live interface.

    peer: UNKNOWN for a stranger's key; device: "" for one that has no name. allowed_ips: as `wg show` says, joined by
    commas. handshake: epoch seconds, None when there never was one. received, sent: bytes. staged: whether this is the
    device's next key, not yet its present one.
    """

    public_key: str
    peer: str
    device: str
    allowed_ips: str
    handshake: int | None
    received: int
    sent: int
    staged: bool = False


class Counts(NamedTuple):
    """Packets of one device that the hub's firewall judged, and those of them that it dropped."""

    attempted: int
    denied: int


def take(where: Place, settings: Mapping[str, Any] | None) -> Sample:
    """Read the interface and the table now. Never fails for what is missing: see `faults`."""
    begun = time.perf_counter()
    faults: list[str] = []
    link = device.index(where.interface)
    live = counts = None
    try:
        live = reading.read(where.interface)
        if live is None:
            faults.append(f"there is no WireGuard interface {where.interface}")
    except (system.HubError, OSError) as error:
        faults.append(f"{where.interface} cannot be read: {error}")
    try:
        counts = counters.read(where.table)
        if counts is None:
            faults.append(f"there is no nft table inet {where.table}")
    except (system.HubError, OSError) as error:
        faults.append(f"the nft table inet {where.table} cannot be read: {error}")
    up = link is not None and link[1]
    return Sample(where.interface, up, live, counts, settings or {}, tuple(faults), time.perf_counter() - begun)


def owners(settings: Mapping[str, Any]) -> Iterator[Owner]:
    """Every device that is expected, in the order of the settings."""
    for label, entry in settings.get("peers", {}).items():
        peer, _, name = label.partition("/")
        present, following = (str(entry.get(field) or "") for field in ("public_key", "next_public_key"))
        yield Owner(peer, name, present, following, bool(entry.get("always_on")))


def by_key(settings: Mapping[str, Any]) -> dict[str, Owner]:
    """Who owns a key, whether it is the present or the next one."""
    found: dict[str, Owner] = {}
    for owner in owners(settings):
        for key in (owner.public_key, owner.next_key):
            if key:
                found.setdefault(key, owner)
    return found


def rows(sample: Sample) -> Iterator[Row]:
    """The peers of the live interface in its own order, strangers too; none when it could not be read."""
    if sample.live is None:
        return
    known = by_key(sample.settings)
    for written, allowed, heard, received, sent in zip(*sample.live):  # noqa: B905  Python 3.9 has no strict
        key = reading.key(written)
        owner = known.get(key)
        yield Row(
            key,
            owner.peer if owner else UNKNOWN,
            owner.device if owner else "",
            ",".join(reading.prefixes(allowed)) or reading.NO_ALLOWED,
            int(heard) or None,
            int(received),
            int(sent),
            owner is not None and owner.public_key != key,
        )


def missing(sample: Sample) -> list[Owner]:
    """Who is expected and has no peer on the live interface; nobody where that could not be read."""
    if sample.live is None:
        return []
    there = {reading.key(written) for written in sample.live.keys}
    return [owner for owner in owners(sample.settings) if not {owner.public_key, owner.next_key} & there]


def counted(sample: Sample) -> dict[tuple[str, str], Counts]:
    """(peer, device) -> its counts, by the allowed IPs of the live interface; empty where either could not be read."""
    return {}
