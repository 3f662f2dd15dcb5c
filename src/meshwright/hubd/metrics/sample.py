"""One moment of the hub, from which the page of the exporter and the terminal's table are both made.

`take` reads; everything else here is pure. What could not be read is missing, never old and never a guess.

Settings are the exporter's: {"peers": {"PEER" or "PEER/DEVICE": {"public_key", "next_public_key", "always_on"}}}.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from ..host import system
from ..host.place import Place
from ..kernel import counters, device, reading

UNKNOWN = "unknown"
"""The peer of a key that the settings do not have."""
NOTHING: Mapping[str, Any] = {}
Read = TypeVar("Read")


class Sample(NamedTuple):
    """What was read at one moment.

    up: whether the interface exists and is up. live: None when the device is not there or could not be read.
    counters: None when our table is not there or could not be read. faults: why live or counters are None, a sentence
    each; empty means that everything could be read. settings: as given. seconds: how long the reading took. now: epoch
    seconds by the hub's clock when the interface was read, as its handshakes are.
    """

    interface: str
    up: bool
    live: reading.Reading | None
    counters: counters.Counters | None
    settings: Mapping[str, Any] = NOTHING
    faults: tuple[str, ...] = ()
    seconds: float = 0.0
    now: float = 0.0


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
    """Packets of one device that the hub's firewall judged, and those of them that it dropped; None: not counted."""

    attempted: int | None
    denied: int | None


def take(where: Place, settings: Mapping[str, Any] | None) -> Sample:
    """Read the interface and the table now. Never fails for what is missing: see `faults`."""
    begun = time.perf_counter()
    faults: list[str] = []
    link = device.index(where.interface)
    live = _tried(faults, f"the WireGuard interface {where.interface}", lambda: reading.read(where.interface))
    now = time.time()
    table = f"the table inet {where.table} of nft, or a set of it,"
    counts = _tried(faults, table, lambda: counters.read(where.table))
    seconds = time.perf_counter() - begun
    up, found = bool(link and link[1]), settings or NOTHING
    return Sample(where.interface, up, live, counts, found, tuple(faults), seconds, now)


def _tried(faults: list[str], what: str, read: Callable[[], Read | None]) -> Read | None:
    try:
        found = read()
    except (system.HubError, OSError) as error:
        faults.append(f"{what} cannot be read: {error}")
        return None
    if found is None:
        faults.append(f"{what} is not there")
    return found


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
            *named(owner),
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
    """(peer, device) -> its counts, by the allowed IPs of the live interface; empty where either could not be read.

    Strangers are one peer. What was counted for an address that no live peer holds is nobody's, and left away.
    """
    if sample.counters is None:
        return {}
    attempted = _sums(whose(sample, sample.counters.attempted_from), sample.counters.attempted)
    denied = _sums(whose(sample, sample.counters.denied_from), sample.counters.denied)
    return {who: Counts(attempted.get(who), denied.get(who)) for who in {**attempted, **denied}}


def _sums(whose: Iterator[tuple[str, str] | None], packets: Iterable[int]) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for who, count in zip(whose, packets):  # noqa: B905  Python 3.9 has no strict
        if who is not None:
            sums[who] = sums.get(who, 0) + count
    return sums


def whose(sample: Sample, sources: Iterable[bytes]) -> Iterator[tuple[str, str] | None]:
    """The labels peer and device of who holds each source on the live interface, None for nobody."""
    live = sample.live or reading.Reading()
    known, find = by_key(sample.settings), holders(live)
    for source in sources:
        place = find(source)
        yield None if place is None else named(known.get(reading.key(live.keys[place])))


def named(owner: Owner | None) -> tuple[str, str]:
    """The labels peer and device of a live peer."""
    return (owner.peer, owner.device) if owner else (UNKNOWN, "")


def holders(live: reading.Reading) -> Callable[[bytes], int | None]:
    """Finds the place of the peer that WireGuard gives an address to: the most specific of all allowed IPs."""
    tables: dict[tuple[int, int], dict[int, int]] = {}
    for place, written in enumerate(live.allowed):
        for prefix in reading.prefixes(written):
            address, _, length = prefix.partition("/")
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            packed = socket.inet_pton(family, address)
            rest = len(packed) * 8 - int(length)
            tables.setdefault((len(packed), rest), {})[int.from_bytes(packed, "big") >> rest] = place
    order = sorted(tables)  # by family, the longest prefixes first

    def find(address: bytes) -> int | None:
        number, width = int.from_bytes(address, "big"), len(address)
        found = (tables[size, rest].get(number >> rest) for size, rest in order if size == width)
        return next((place for place in found if place is not None), None)

    return find
