"""What is remembered of endpoints, and to whom one may be given back."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright.hubd.kernel import wg
from meshwright.hubd.service import memory
from meshwright.hubd.service.memory import AGE, Entry

NOW = 1_800_000_000


def key(name: str) -> str:
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


A, B, C, D = map(key, "abcd")
HERE = "192.0.2.1:1000"
THERE = "[2001:db8::1]:51820"


def peer(endpoint: str = "", handshake: int = 0) -> wg.Peer:
    return wg.Peer(endpoint=endpoint, handshake=handshake)


def test_who_was_heard_is_remembered() -> None:
    assert memory.learn({}, {A: peer(HERE, NOW), B: peer()}, (), NOW) == {A: Entry(HERE, NOW)}


def test_an_endpoint_that_was_only_set_proves_nothing() -> None:
    assert memory.learn({}, {A: peer(HERE)}, (), NOW) == {}
    assert memory.learn({A: Entry(THERE, NOW - 9)}, {A: peer(HERE)}, (), NOW) == {A: Entry(THERE, NOW - 9)}


def test_a_new_place_takes_the_old_ones_place() -> None:
    assert memory.learn({A: Entry(HERE, NOW - 9)}, {A: peer(THERE, NOW)}, (), NOW) == {A: Entry(THERE, NOW)}


def test_who_is_neither_in_the_conf_nor_on_the_device_is_forgotten() -> None:
    old = {A: Entry(HERE, NOW), B: Entry(HERE, NOW), C: Entry(HERE, NOW)}
    assert memory.learn(old, {A: peer()}, {B}, NOW).keys() == {A, B}


def test_what_is_old_is_forgotten_and_a_time_to_come_is_not() -> None:
    old = {A: Entry(HERE, NOW - AGE), B: Entry(HERE, NOW - AGE + 1), C: Entry(HERE, NOW + 10 * AGE)}
    assert memory.learn(old, dict.fromkeys(old, peer()), old, NOW).keys() == {B, C}
    assert memory.learn({}, {A: peer(HERE, NOW - AGE)}, (), NOW) == {}


def test_only_who_is_in_the_conf_and_has_no_endpoint_now_gets_one_back() -> None:
    known = {name: Entry(HERE, NOW - 60) for name in (A, B, C)} | {D: Entry(HERE, NOW - AGE)}
    peers = {A: peer(), B: peer(THERE), D: peer()}
    assert memory.restorable(known, peers, {A, B, C, D}, NOW) == {A: Entry(HERE, NOW - 60)}
    assert memory.restorable(known, peers, {B, C, D}, NOW) == {}


def test_a_peer_with_another_key_gets_nothing_of_the_old_one() -> None:
    assert memory.restorable({A: Entry(HERE, NOW)}, {B: peer()}, {B}, NOW) == {}


keys = st.sampled_from([A, B, C, D])
ends = st.sampled_from(["", HERE, THERE, "10.0.0.1:1"])
times = st.integers(0, 2 * NOW)
entries = st.dictionaries(keys, st.builds(Entry, ends.filter(bool), times))
devices = st.dictionaries(keys, st.builds(peer, ends, times))


@given(entries, devices, st.sets(keys), times)
def test_nobody_outside_the_conf_is_ever_given_an_endpoint(known, device, kept, now) -> None:  # type: ignore[no-untyped-def]
    back = memory.restorable(memory.learn(known, device, kept, now), device, kept, now)
    assert back.keys() <= kept & device.keys()
    assert not [name for name in back if device[name].endpoint]
    assert all(known[name] == entry for name, entry in back.items())


@given(entries)
def test_what_is_written_is_read(known) -> None:  # type: ignore[no-untyped-def]
    assert memory.parse(memory.render(known)) == {name: entry for name, entry in known.items() if entry.heard > 0}


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
words = st.sampled_from(["format", "peers", A, "x"])


@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(words, inner)))
def test_garbage_is_no_memory_and_no_error(content) -> None:  # type: ignore[no-untyped-def]
    for text in (json.dumps(content), json.dumps({"format": 1, "peers": content}), str(content)):
        for name, entry in memory.parse(text.encode(errors="replace")).items():
            assert wg.usable(name)
            assert memory.usable(entry.endpoint)


@pytest.mark.parametrize(
    "data",
    [None, b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": 2, "peers": {}}', b'{"format": 1, "peers": []}'],
)
def test_a_broken_file_is_an_empty_memory(data: bytes | None) -> None:
    assert memory.parse(data) == {}


@pytest.mark.parametrize(
    "entry",
    [[HERE], [HERE, "1"], [HERE, True], [HERE, 0], [HERE, -5], [HERE, 1.5], [7, 1], "x", {}, [f"{HERE}\nx=", 1]],
)  # fmt: skip
def test_a_broken_entry_spoils_no_other(entry: object) -> None:
    data = json.dumps({"format": 1, "peers": {A: entry, B: [THERE, 5], "no key": [HERE, 5]}}).encode()
    assert memory.parse(data) == {B: Entry(THERE, 5)}


@pytest.mark.parametrize("text", [HERE, THERE, "[fe80::1%eth0]:1", "0.0.0.0:65535"])
def test_endpoints_as_wireguard_writes_them(text: str) -> None:
    assert memory.usable(text)


@pytest.mark.parametrize(
    "text",
    ["", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:٣", "host:1", "2001:db8::1:1",
     "[1.2.3.4]:1", "[2001:db8::1:1", "1.2.3.4:1\n", "1.2.3.4 :1", "[fe80::1%a b]:1", "[fe80::1%a\nx=1]:1",
     "1.2.3.4:+1"],
)  # fmt: skip
def test_what_is_no_endpoint(text: str) -> None:
    assert not memory.usable(text)


def test_the_disk_is_spared() -> None:
    saved = {A: Entry(HERE, NOW)}
    assert not memory.differs(saved, {A: Entry(HERE, NOW + 3599)})
    assert memory.differs(saved, {A: Entry(HERE, NOW + 3600)})
    assert memory.differs(saved, {A: Entry(HERE, NOW - 3600)})
    assert memory.differs(saved, {A: Entry(THERE, NOW)})
    assert memory.differs(saved, {})
    assert memory.differs(saved, {A: Entry(HERE, NOW + 1)}, 1)
    assert not memory.differs(saved, dict(saved), 1)
