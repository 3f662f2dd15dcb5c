"""What peers moved and when they were heard, from the bytes of both kinds of devices."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Iterable, Iterator

import pytest
import wire
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import PRIVATE, SHARED, Peer, genetlink, uapi

from meshwright.hubd.host import system
from meshwright.hubd.kernel import reading, wg
from meshwright.hubd.kernel.reading import Reading

NUMBERS = st.integers(0, 2**63)
PREFIXES = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
)
PEERS = st.lists(
    st.builds(
        Peer,
        st.one_of(st.binary(min_size=32, max_size=32), st.just(b"\x24\x00\x01\x00" * 8)),
        st.lists(PREFIXES, max_size=5).map(tuple),
        st.integers(0, 2**40),
        NUMBERS,
        NUMBERS,
        st.sampled_from(["", "192.0.2.1:5", "[2001:db8::1]:51821"]),
    ),
    max_size=8,
    unique_by=lambda peer: peer.key,
)
SEEDS = st.one_of(st.none(), st.integers(0, 99).map(random.Random))


def plain(found: Reading) -> list[Peer]:
    return [
        Peer(base64.b64decode(reading.key(key)), tuple(reading.prefixes(allowed)), *map(int, numbers))
        for key, allowed, *numbers in zip(*found, strict=True)
    ]


def expected(peers: Iterable[Peer]) -> list[Peer]:
    return [peer._replace(endpoint="", allowed=tuple(map(as_wg, peer.allowed))) for peer in peers]


def as_wg(prefix: str) -> str:
    """inet_ntop's way: an IPv4 address inside an IPv6 one is written as such."""
    return reading._plain(prefix)


def in_parts(data: bytes, size: int) -> Iterator[bytes]:
    yield from (data[start : start + size] for start in range(0, len(data), size))


@settings(max_examples=40)
@given(PEERS, SEEDS, st.integers(1, 500))
def test_a_userspace_device_in_any_order_and_in_any_parts(
    peers: list[Peer], shuffle: random.Random | None, size: int
) -> None:
    assert plain(reading.spoken(in_parts(uapi(peers, shuffle), size))) == expected(peers)


def test_a_large_device_is_read_some_peers_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [Peer(bytes([number] * 32), ("10.0.0.1/32", "fd00::1/128"), number) for number in range(200)]
    whole = uapi(peers)
    monkeypatch.setattr(reading, "BLOCK", 1000)
    blocks = list(reading._blocks(in_parts(whole, 333)))
    assert b"".join(blocks) == whole
    assert max(map(len, blocks)) < 3000
    assert plain(reading.spoken(in_parts(whole, 333))) == expected(peers)


@settings(max_examples=40)
@given(PEERS, SEEDS, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_the_kernels_device_however_it_is_cut_up(
    peers: list[Peer], shuffle: random.Random | None, per_message: int, prefixes: int, padded: bool
) -> None:
    found = reading.told(genetlink(peers, per_message, prefixes, shuffle, padded=padded))
    assert plain(found) == expected(peers)


def test_as_the_kernel_writes_today_the_quick_way_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, endpoints = ("10.0.0.1/32", "fd00::1/128"), ("", "1:2", "[1]:2")
    peers = [Peer(bytes([n] * 32), allowed * (n % 3), n, 7, 8, endpoints[n % 3]) for n in range(9)]

    def slow(_: bytes) -> Iterator[tuple[bytes, ...]]:
        raise AssertionError("bit by bit")

    monkeypatch.setattr(wire, "SHARED", bytes(32))
    monkeypatch.setattr(reading, "_by_attribute", slow)
    monkeypatch.setattr(reading, "_by_line", slow)
    for padded in (False, True):
        assert plain(reading.told(genetlink(peers, padded=padded))) == expected(peers)
    assert plain(reading.spoken([uapi(peers)])) == expected(peers)


def test_no_secret_is_taken_out() -> None:
    peers = [Peer(bytes([number] * 32), ("10.0.0.1/32",), 1, 2, 3) for number in range(3)]
    for found in (
        reading.spoken([uapi(peers)]),
        reading.spoken([uapi(peers, random.Random(1))]),
        reading.told(genetlink(peers)),
    ):
        held = b"".join(value for column in found for value in column)
        for secret in (PRIVATE, SHARED):
            assert secret not in held
            assert secret.hex().encode() not in held


def test_a_device_without_peers() -> None:
    assert reading.spoken([uapi([])]) == Reading()
    assert reading.told(genetlink([])) == Reading()


def test_what_is_read_is_what_the_hubs_other_reader_says() -> None:
    data = uapi([Peer(bytes([number] * 32), ("10.0.0.1/32",), number, 5, 6) for number in range(1, 5)])
    other = wg.parse_uapi(data).peers
    found = {base64.b64encode(peer.key).decode(): peer for peer in plain(reading.spoken([data]))}
    assert found.keys() == other.keys()
    for key, peer in found.items():
        assert peer[1:5] == (other[key].allowed_ips, other[key].handshake, other[key].received, other[key].sent)


def test_ipv6_is_written_as_wg_does() -> None:
    allowed = b"allowed_ip=fd00:0:0:0::00aB/64\nallowed_ip=10.0.0.0/8\nallowed_ip=::102:304/128\n"
    assert reading.prefixes(allowed) == ["fd00::ab/64", "10.0.0.0/8", "::1.2.3.4/128"]
    with pytest.raises(system.HubError, match=re.escape("has an allowed IP that is none")):
        reading.prefixes(b"allowed_ip=fd00:::1/64\n")


@given(st.binary(max_size=300))
def test_whatever_the_kernel_says_is_no_crash(data: bytes) -> None:
    reading.told([data, *(message + data for message in genetlink([Peer(b"k" * 32)]))])
