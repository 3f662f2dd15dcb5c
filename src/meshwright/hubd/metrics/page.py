"""A sample as a page for Prometheus: its text format, version 0.0.4.

Names and labels of what a peer moved are those of prometheus_wireguard_exporter 3.6.6, so that either can be watched in
the same way; `peer` and `device` come from the settings. A device without a name has no label `device`. A handshake
that never happened has no line. wireguard_scrape_success is 1 when interface and table were there and could be read;
else 0, and what could not be read has no line: the rest is of this very moment. wireguard_interface_up is 0 also for
an interface that is not there.

Between two pages nearly everything stays: names, keys, addresses. So the lines stand ready with holes for the numbers,
some thousand peers to a form, and are made again only where a peer, its allowed IPs or the settings changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from ..kernel import reading
from ..kernel.reading import Reading
from . import sample
from .sample import Owner, Sample

TYPE = "text/plain; version=0.0.4; charset=utf-8"
CHUNK = 4096  # peers to a form: enough to be quick, few enough that no piece of a page is large
UP = "wireguard_interface_up"
SUCCESS = "wireguard_scrape_success"
DURATION = "wireguard_scrape_duration_seconds"
TIME = "wireguard_scrape_time_seconds"
PEERS = "wireguard_peers_total"
SENT = "wireguard_sent_bytes_total"
RECEIVED = "wireguard_received_bytes_total"
HANDSHAKE = "wireguard_latest_handshake_seconds"
EXPECTED = "wireguard_peer_expected"
STAGED = "wireguard_peer_next_key"
ATTEMPTED = "wireguard_peer_attempted_packets_total"
DENIED = "wireguard_peer_denied_packets_total"
FAMILIES = {
    UP: ("gauge", "Whether the interface is there and up."),
    SUCCESS: ("gauge", "Whether interface and firewall could both be read."),
    DURATION: ("gauge", "Seconds that the reading took."),
    TIME: ("gauge", "Epoch seconds by the hub's clock when the peers were read: subtract a handshake for its age."),
    PEERS: ("untyped", "Peers of the interface, strangers too."),
    SENT: ("counter", "Bytes sent to the peer."),
    RECEIVED: ("counter", "Bytes received from the peer."),
    HANDSHAKE: ("gauge", "Epoch seconds of the last handshake; no line where there was none."),
    EXPECTED: ("gauge", "1 for each device that the mesh file admits."),
    STAGED: ("gauge", "1 for each device that waits to change to this key."),
    ATTEMPTED: ("counter", "Packets of the peer that the firewall had to judge."),
    DENIED: ("counter", "Packets of the peer that the firewall dropped."),
}


class Form(NamedTuple):
    """Lines of some peers, from one place to before another; each with two holes: the family's name, and the value."""

    lines: bytes
    start: int
    end: int


class Tally(NamedTuple):
    """Lines of counters in the same form, and to which of them each source adds, -1: to none; None: each to its own."""

    sources: tuple[bytes, ...]
    lines: bytes
    whose: list[int] | None
    size: int


class Forms:
    """What stays from one page of a listener to the next."""

    def __init__(self) -> None:
        self.interface = ""
        self.settings: Mapping[str, Any] | None = None
        self.keys: tuple[bytes, ...] = ()
        self.allowed: tuple[bytes, ...] = ()
        self.peers: list[Form] = []
        self.heard: dict[int, tuple[tuple[int, ...], bytes]] = {}
        self.expected: list[bytes] = []
        self.tallies: dict[str, Tally] = {}

    def fit(self, of: Sample) -> Reading:
        """Make again what no longer holds -> the live peers in the order of the forms.

        Settings are the same as long as they are the same object.
        """
        same = self.settings is of.settings and self.interface == of.interface
        if not same:
            self.interface, self.settings = of.interface, of.settings
            self.expected = list(_expected(of))
        live = _ordered(of.live or Reading(), self.keys)
        if not same or self.keys != live.keys or self.allowed != live.allowed:
            self.keys, self.allowed = live.keys, live.allowed
            self.peers = list(_forms(of.interface, live, sample.by_key(of.settings)))
            self.heard, self.tallies = {}, {}
        return live


def _ordered(live: Reading, keys: tuple[bytes, ...]) -> Reading:
    """The same peers in the order of `keys`, if they are these: wireguard-go lists them in another order each time."""
    if len(keys) != len(live.keys) or len(keys) < 2 or keys == live.keys:
        return live
    places = dict(zip(live.keys, range(len(keys))))  # noqa: B905  Python 3.9 has no strict
    try:
        order = itemgetter(*keys)(places)
    except KeyError:
        return live
    return Reading(*(itemgetter(*order)(column) for column in live))


def render(of: Sample, forms: Forms | None = None) -> bytes:
    """The whole page. `forms`: the same for all pages of one listener."""
    return b"".join(pieces(of, forms))


def pieces(of: Sample, forms: Forms | None = None) -> Iterator[bytes]:
    """The page in pieces of at most a megabyte or so: at 60 000 peers the whole is 30."""
    forms = forms or Forms()
    live = forms.fit(of)
    yield from _alone(of)
    if of.live is not None:
        for name, values in ((SENT, live.sent), (RECEIVED, live.received)):
            yield _title(name)
            yield from (_filled(form.lines, name, values[form.start : form.end]) for form in forms.peers)
        yield _title(HANDSHAKE)
        yield from (_handshakes(forms, form, live.handshake[form.start : form.end]) for form in forms.peers)
    yield from forms.expected
    if of.live is not None and of.counters is not None:
        yield from _counts(forms, of, ATTEMPTED, of.counters.attempted_from, of.counters.attempted)
        yield from _counts(forms, of, DENIED, of.counters.denied_from, of.counters.denied)


def _title(name: str) -> bytes:
    kind, about = FAMILIES[name]
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n".encode()


def _alone(of: Sample) -> Iterator[bytes]:
    """What the interface has one line of."""
    values = {UP: str(int(of.up)), SUCCESS: str(int(not of.faults))}
    values.update({DURATION: f"{of.seconds:.6f}", TIME: f"{of.now:.3f}"})
    if of.live is not None:
        values[PEERS] = str(len(of.live.keys))
    for name, value in values.items():
        yield _title(name) + f"{name}{labels(interface=of.interface)} {value}\n".encode()


def _filled(lines: bytes, name: str, values: Sequence[bytes | int]) -> bytes:
    words: list[bytes | int] = [name.encode()] * (2 * len(values))
    words[1::2] = values
    return lines % tuple(words)


def _handshakes(forms: Forms, form: Form, values: Sequence[bytes]) -> bytes:
    """Without the lines of those who were never heard."""
    lines = form.lines
    if b"0" in values:
        never = tuple(place for place, value in enumerate(values) if value == b"0")
        if forms.heard.get(form.start, ((), b""))[0] != never:
            without = set(never)
            kept = (line for place, line in enumerate(lines.split(b"\n")) if place not in without)
            forms.heard[form.start] = (never, b"\n".join(kept))
        lines = forms.heard[form.start][1]
        values = [value for value in values if value != b"0"]
    return _filled(lines, HANDSHAKE, values)


def _forms(interface: str, live: Reading, known: Mapping[str, Owner]) -> Iterator[Form]:
    for start in range(0, len(live.keys), CHUNK):
        keys, allowed = (column[start : start + CHUNK] for column in (live.keys, live.allowed))
        lines = (_peer(interface, key, prefixes, known) for key, prefixes in zip(keys, allowed))  # noqa: B905
        yield Form(_bytes(lines), start, start + len(keys))


def _peer(interface: str, written: bytes, prefixes: bytes, known: Mapping[str, Owner]) -> str:
    key = reading.key(written)
    peer, device = sample.named(known.get(key))
    allowed = ",".join(reading.prefixes(prefixes)) or reading.NO_ALLOWED
    return _hollow(labels(interface=interface, public_key=key, allowed_ips=allowed, peer=peer, device=device), "b")


def _hollow(text: str, hole: str) -> str:
    return f"%b{text.replace('%', '%%')} %{hole}\n"


def _expected(of: Sample) -> Iterator[bytes]:
    """What of a page only the settings say."""
    yield _title(EXPECTED)
    for start in range(0, len(of.settings.get("peers", {})), CHUNK):
        owners = islice(sample.owners(of.settings), start, start + CHUNK)
        yield _bytes(_admitted(of.interface, owner) for owner in owners)
    yield _title(STAGED)
    waiting = (owner for owner in sample.owners(of.settings) if owner.next_key)
    yield _bytes(_waits(of.interface, owner) for owner in waiting)


def _admitted(interface: str, owner: Owner) -> str:
    who = labels(
        interface=interface,
        public_key=owner.public_key,
        peer=owner.peer,
        device=owner.device,
        always_on="true" if owner.always_on else "false",
    )
    return f"{EXPECTED}{who} 1\n"


def _waits(interface: str, owner: Owner) -> str:
    who = labels(interface=interface, public_key=owner.next_key, peer=owner.peer, device=owner.device)
    return f"{STAGED}{who} 1\n"


def _bytes(lines: Iterable[str]) -> bytes:
    return "".join(lines).encode(errors="replace")


def _counts(
    forms: Forms, of: Sample, name: str, sources: tuple[bytes, ...], packets: tuple[int, ...]
) -> Iterator[bytes]:
    tally = forms.tallies.get(name)
    if tally is None or tally.sources != sources:
        tally = forms.tallies[name] = _tally(of, sources)
    sums: Sequence[int] = packets
    if tally.whose is not None:
        sums = added = [0] * (tally.size + 1)  # the last is nobody's
        for place, count in zip(tally.whose, packets):  # noqa: B905  Python 3.9 has no strict
            added[place] += count
        added.pop()
    yield _title(name)
    yield _filled(tally.lines, name, sums)


def _tally(of: Sample, sources: tuple[bytes, ...]) -> Tally:
    lines: dict[tuple[str, str], int] = {}
    whose = []
    for who in sample.whose(of, sources):
        whose.append(-1 if who is None else lines.setdefault(who, len(lines)))
    texts = (labels(interface=of.interface, peer=peer, device=device) for peer, device in lines)
    made = _bytes(_hollow(text, "d") for text in texts)
    alone = whose == list(range(len(lines)))
    return Tally(sources, made, None if alone else whose, len(lines))


def labels(**values: str) -> str:
    """Labels in braces; one without a value is left away, which is the same."""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items() if value) + "}"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value
