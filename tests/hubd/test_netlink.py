"""What the kernel says of links, and how WireGuard is asked to speak first."""

from __future__ import annotations

import base64
import struct

from hypothesis import given
from hypothesis import strategies as st

from meshwright.hubd.kernel import netlink, wg
from meshwright.hubd.kernel.netlink import Link

KEY = base64.b64encode(bytes(range(32))).decode()
HEX = bytes(range(32)).hex()


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def message(kind: int, number: int, flags: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BxHiII", 0, 1, number, flags, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


NAME = attribute(netlink.NAME, b"wg1\0")


def test_a_link_that_came_and_one_that_went_in_one_datagram() -> None:
    data = message(16, 7, 1, attribute(13, b"\0"), NAME) + message(17, 8, 0, attribute(netlink.NAME, b"veth0123\0"))
    assert list(netlink.links(data)) == [Link("wg1", 7, True, True), Link("veth0123", 8, False, False)]


def test_other_messages_are_passed_over() -> None:
    assert list(netlink.links(message(20, 1, 1, NAME) + message(16, 2, 0x1002, NAME))) == [Link("wg1", 2, True, False)]


def test_a_cut_message_says_nothing() -> None:
    whole = message(16, 7, 1, NAME)
    assert [list(netlink.links(whole[:end])) for end in range(len(whole))] == [[]] * len(whole)


@given(st.binary(max_size=200))
def test_whatever_comes_in_is_no_error(data: bytes) -> None:
    list(netlink.links(data))
    list(netlink.links(message(16, 7, 1, data)))


def test_a_peer_without_keepalive_has_one_for_a_moment() -> None:
    first, second = (part.decode().split("\n") for part in wg.render_endpoints({KEY: ("192.0.2.1:5", 0)}))
    peer = [f"public_key={HEX}", "update_only=true"]
    assert first == ["set=1", *peer, "endpoint=192.0.2.1:5", "persistent_keepalive_interval=25", "", ""]
    assert second == ["set=1", *peer, "persistent_keepalive_interval=0", "", ""]


def test_a_peer_with_keepalive_loses_it_for_a_moment() -> None:
    first, second = wg.endpoint_words({KEY: ("[::1]:5", 21)})
    assert first == ["peer", KEY, "endpoint", "[::1]:5", "persistent-keepalive", "0"]
    assert second == ["peer", KEY, "persistent-keepalive", "21"]


def test_the_keepalive_is_read_from_both_kinds_of_device() -> None:
    dump = f"(none)\t(none)\t51821\toff\n{KEY}\t(none)\t(none)\t(none)\t0\t0\t0\t21\n"
    assert wg.parse_dump(dump).peers[KEY].keepalive == 21
    assert wg.parse_dump(dump.replace("\t21\n", "\toff\n")).peers[KEY].keepalive == 0
    said = f"listen_port=51821\npublic_key={HEX}\npersistent_keepalive_interval=21\nerrno=0\n\n"
    assert wg.parse_uapi(said.encode()).peers[KEY].keepalive == 21
