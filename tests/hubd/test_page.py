"""The page that Prometheus reads: the same as the sample, whatever the names, and accepted by its own checker."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import Peer, genetlink, uapi

from meshwright.hubd.kernel import reading
from meshwright.hubd.kernel.counters import Counters
from meshwright.hubd.metrics import page, sample
from meshwright.hubd.metrics.sample import Counts, Sample

LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_][a-zA-Z0-9_]*=\"(?:[^\"\\\n]|\\[\\n\"])*\",?)*)\} (\S+)")
LABEL = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)=\"((?:[^\"\\]|\\.)*)\"")
TEXT = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(data: bytes) -> Series:
    """A little reader of the text format, which knows nothing of how the page is made; each family in one piece."""
    out: Series = {}
    family, closed = "", set()
    for line in data.decode().removesuffix("\n").split("\n"):
        if line.startswith("# TYPE "):
            closed.add(family)
            family = line.split(" ")[2]
            assert family not in closed, line
        elif not line.startswith("# HELP "):
            match = LINE.fullmatch(line)
            assert match, line
            assert match[1] == family
            labels = {n: re.sub(r"\\.", lambda found: TEXT[found[0]], value) for n, value in LABEL.findall(match[2])}
            key = (match[1], frozenset(labels.items()))
            assert key not in out, line
            out[key] = float(match[3])
    return out


def series(name: str, value: float, /, **labels: str) -> tuple[tuple[str, frozenset[tuple[str, str]]], float]:
    return (name, frozenset((n, text) for n, text in labels.items() if text)), float(value)


def meant(of: Sample) -> Series:
    """What a page of the sample has to say, row by row."""
    face = {"interface": of.interface}
    found = [
        series("wireguard_interface_up", of.up, **face),
        series("wireguard_scrape_success", not of.faults, **face),
        series("wireguard_scrape_duration_seconds", round(of.seconds, 6), **face),
        series("wireguard_scrape_time_seconds", round(of.now, 3), **face),
    ]
    rows = list(sample.rows(of))
    if of.live is not None:
        found.append(series("wireguard_peers_total", len(rows), **face))
    for row in rows:
        who = {"public_key": row.public_key, "allowed_ips": row.allowed_ips, "peer": row.peer, "device": row.device}
        found.append(series("wireguard_sent_bytes_total", row.sent, **face, **who))
        found.append(series("wireguard_received_bytes_total", row.received, **face, **who))
        if row.handshake is not None:
            found.append(series("wireguard_latest_handshake_seconds", row.handshake, **face, **who))
    for owner in sample.owners(of.settings):
        who = {"peer": owner.peer, "device": owner.device}
        always = "true" if owner.always_on else "false"
        found.append(series("wireguard_peer_expected", 1, **face, **who, public_key=owner.public_key, always_on=always))
        if owner.next_key:
            found.append(series("wireguard_peer_next_key", 1, **face, **who, public_key=owner.next_key))
    for (peer, device), counts in sample.counted(of).items():
        for name, count in zip(("attempted", "denied"), counts, strict=True):
            if count is not None:
                found.append(series(f"wireguard_peer_{name}_packets_total", count, **face, peer=peer, device=device))
    assert len(dict(found)) == len(found)
    return dict(found)


def key(number: int) -> bytes:
    return bytes([number]) * 32


def base(number: int) -> str:
    return base64.b64encode(key(number)).decode()


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def entry(public: str = "", following: str = "", *, always: bool = False) -> dict[str, Any]:
    return {"public_key": public, "next_public_key": following, "always_on": always}


# -- anything at all

KEYS = st.integers(0, 12)
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=5)
LABELS = st.one_of(NAMES.map(lambda name: name.replace("/", "-")), st.tuples(NAMES, NAMES).map("/".join))
ENTRIES = st.builds(
    lambda present, following, always: entry(present, following, always=always),
    st.one_of(st.just(""), KEYS.map(base)),
    st.one_of(st.just(""), KEYS.map(base)),
    st.booleans(),
)
SETTINGS = st.dictionaries(LABELS, ENTRIES, max_size=6).map(lambda peers: {"peers": peers})
ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.1.9", "fd00::1", "fd00::2:1"]
ALLOWED = st.lists(
    st.sampled_from(["10.0.0.1/32", "10.0.0.0/24", "10.0.0.0/8", "fd00::1/128", "fd00::/64", "0.0.0.0/0"]),
    max_size=3,
    unique=True,
)
PEERS = st.lists(
    st.builds(
        lambda number, allowed, *numbers: Peer(key(number), tuple(allowed), *numbers),
        KEYS, ALLOWED, st.sampled_from([0, 0, 1, 1_700_000_000]), st.integers(0, 2**63), st.integers(0, 2**63),
    ),
    max_size=6,
    unique_by=lambda peer: peer.key,
)  # fmt: skip
SOURCES = st.lists(st.sampled_from(ADDRESSES), max_size=5, unique=True)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    peers, of_kernel = draw(PEERS), draw(st.booleans())
    live = reading.told(genetlink(peers)) if of_kernel else reading.spoken([uapi(peers)])
    halves = []
    for _ in range(2):
        sources = tuple(map(packed, draw(SOURCES)))
        counts = draw(st.lists(st.integers(0, 2**60), min_size=len(sources), max_size=len(sources)))
        halves += [sources, tuple(counts)]
    return Sample(
        draw(st.sampled_from(["wg1", 'a"b\\%s'])),
        draw(st.booleans()),
        live if draw(st.integers(0, 9)) else None,
        Counters(*halves) if draw(st.integers(0, 9)) else None,
        draw(SETTINGS),
        draw(st.sampled_from([(), ("something",)])),
        draw(st.sampled_from([0.0, 0.123456, 7.5])),
        draw(st.sampled_from([0.0, 1_700_000_060.25])),
    )


@settings(max_examples=100)
@given(samples())
def test_the_page_says_what_the_sample_says(of: Sample) -> None:
    assert parsed(page.render(of)) == meant(of)


@settings(max_examples=40)
@given(st.lists(samples(), min_size=2, max_size=4), st.integers(1, 3))
def test_forms_kept_from_page_to_page_change_nothing(several: list[Sample], chunk: int) -> None:
    forms, mixed = page.Forms(), [*several, *(one._replace(settings=several[0].settings) for one in several)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "CHUNK", chunk)
        for of in [*mixed, *reversed(mixed), *mixed]:
            assert parsed(page.render(of, forms)) == parsed(page.render(of))


# -- one by one

FRIENDS: Mapping[str, Any] = {
    "peers": {
        "bjorn": entry(base(1), always=True),
        "cleo/phone": entry(base(2), base(3)),
        "dora": entry(base(9)),
    }
}


def of_three(**more: Any) -> Sample:
    peers = [
        Peer(key(1), ("10.0.0.1/32", "10.7.0.0/24"), 1_700_000_000, 10, 20),
        Peer(key(3), ("10.0.0.2/32",), 0, 0, 5),
        Peer(key(7), (), 0, 0, 0),
    ]
    return Sample("wg1", True, reading.spoken([uapi(peers)]), Counters(), FRIENDS)._replace(**more)


def test_rows_tell_strangers_staged_keys_and_who_was_never_heard() -> None:
    rows = {row.public_key: row for row in sample.rows(of_three())}
    assert [(row.peer, row.device, row.staged, row.handshake) for row in rows.values()] == [
        ("bjorn", "", False, 1_700_000_000),
        ("cleo", "phone", True, None),
        ("unknown", "", False, None),
    ]
    assert [row.allowed_ips for row in rows.values()] == ["10.0.0.1/32,10.7.0.0/24", "10.0.0.2/32", "(none)"]
    assert [owner.peer for owner in sample.missing(of_three())] == ["dora"]


def test_what_could_not_be_read_is_not_there() -> None:
    names = {name for name, _ in parsed(page.render(of_three(live=None, counters=None, up=False, faults=("gone",))))}
    assert names == {
        "wireguard_interface_up", "wireguard_scrape_success", "wireguard_scrape_duration_seconds",
        "wireguard_scrape_time_seconds", "wireguard_peer_expected", "wireguard_peer_next_key",
    }  # fmt: skip
    assert sample.missing(of_three(live=None)) == []


def test_counts_are_of_whom_the_address_belongs_to_now() -> None:
    counts = Counters(
        tuple(map(packed, ["10.0.0.1", "10.7.0.128", "10.0.0.2", "10.9.9.9"])), (1, 10, 100, 1000),
        tuple(map(packed, ["10.7.0.128", "10.0.0.1"])), (5, 1),
    )  # fmt: skip
    found = {("bjorn", ""): Counts(11, 6), ("cleo", "phone"): Counts(100, None)}
    assert sample.counted(of_three(counters=counts)) == found


def test_the_most_specific_allowed_ips_say_whose_an_address_is() -> None:
    peers = [Peer(key(1), ("10.0.0.0/8", "::/0")), Peer(key(2), ("10.0.0.0/24", "fd00::/64"))]
    sources = tuple(map(packed, ["10.0.0.1", "10.0.1.1", "fd00::9", "fd01::9"]))
    of = of_three(live=reading.spoken([uapi(peers)]), counters=Counters(sources, (1, 10, 100, 1000), (), ()))
    assert sample.counted(of) == {("cleo", "phone"): Counts(101, None), ("bjorn", ""): Counts(1010, None)}


def test_a_peer_that_gets_another_address_or_name_has_it_on_the_next_page() -> None:
    forms = page.Forms()
    first = of_three()
    assert parsed(page.render(first, forms)) == meant(first)
    assert first.live is not None
    handed = first._replace(live=first.live._replace(allowed=first.live.allowed[::-1]))
    assert parsed(page.render(handed, forms)) == meant(handed)
    moved = first._replace(live=reading.spoken([uapi([Peer(key(1), ("10.0.0.9/32",), 1, 2, 3)])]))
    assert parsed(page.render(moved, forms)) == meant(moved)
    renamed = moved._replace(settings={"peers": {"björn/töff\n": entry(base(1))}})
    assert parsed(page.render(renamed, forms)) == meant(renamed)


def test_peers_in_another_order_need_no_new_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [Peer(key(number), (f"10.0.0.{number}/32",), number % 2, number, 2 * number) for number in range(9)]
    forms, of = page.Forms(), of_three(live=reading.spoken([uapi(peers)]))
    page.render(of, forms)
    monkeypatch.delattr(page, "_forms")
    turned = of._replace(live=reading.spoken([uapi(peers[4:] + peers[:4])]))
    assert parsed(page.render(turned, forms)) == meant(turned)


def test_a_page_stands_in_pieces_that_are_not_large() -> None:
    peers = [Peer(number.to_bytes(32, "big"), ("10.0.0.1/32",), 1, 2, 3) for number in range(20_000)]
    of = Sample("wg1", True, reading.spoken([uapi(peers)]), None, {"peers": {}})
    sizes = [len(piece) for piece in page.pieces(of)]
    assert sum(sizes) > 6 << 20
    assert max(sizes) < 1 << 20


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "CI" not in os.environ, "promtool is missing: apt-get install prometheus"
        pytest.skip("NO PROMTOOL: the page was not checked. Next: apt-get install prometheus")
    counts = Counters((packed("10.0.0.1"),), (4,), (packed("10.0.0.1"),), (2,))
    for of in (of_three(counters=counts), of_three(live=None, counters=None, faults=("x",))):
        done = subprocess.run(
            [promtool, "check", "metrics"], input=page.render(of), capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_families_are_those_that_rules_and_dashboard_name() -> None:
    from meshwright.desired.monitoring import series as names

    theirs = {value for value in vars(names).values() if isinstance(value, str) and value.startswith("wireguard_")}
    assert theirs | {page.DURATION} == page.FAMILIES.keys()
    assert sample.UNKNOWN == names.UNKNOWN
