"""Packets per source out of the elements of nft sets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import elements, packets

from meshwright.hubd.host import system
from meshwright.hubd.kernel import counters, netlink

ROLE = "role_0123456789abcdef"
# three elements of a map with intervals, as Linux 6.18 lists them: 10.7.1.0/24 and 10.7.0.0/24, each with its end, then
# the end that every such set begins with
REAL = (
    "0800010068616d000e0002006e6574776f726b733400000034010300180001000c000100080001000a070200080003000000000174000100"
    "0c000100080001000a0701002c0002002800020008000100fffffffd1a000200726f6c655f643831363931393639326231326335620000002c"
    "0007000c000100636f756e746572001c0002000c00010000000000000000000c0002000000000000000007090006000003703100000000"
    "180001000c000100080001000a07010008000300000000017400010"
    + "00c000100080001000a0700002c0002002800020008000100fffffffd"
    "1a000200726f6c655f643831363931393639326231326335620000002c0007000c000100636f756e746572001c0002000c0001000000000000"
    "0000000c0002000000000000000100090006000003703000000000180001000c00010008000100000000000800030000000001"
)
COUNTS4 = st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 2**50)), max_size=10)
COUNTS6 = st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2**50)), max_size=10)
FORMS = st.fixed_dictionaries(
    {
        "comment": st.sampled_from(["", "bjorn", "bjorn-phone", "a" * 60]),
        "verdict": st.sampled_from(["", ROLE, "drop"]),
        "ends": st.booleans(),
        "flag": st.sampled_from([0, 0x8000]),
    }
)


def test_what_a_real_kernel_lists() -> None:
    assert packets(bytes.fromhex(REAL), "4") == [(bytes([10, 7, 1, 0]), 7), (bytes([10, 7, 0, 0]), 256)]


@settings(max_examples=60)
@given(COUNTS4, COUNTS6, FORMS)
def test_every_element_is_counted_once(
    four: list[tuple[bytes, int]], six: list[tuple[bytes, int]], form: dict[str, object]
) -> None:
    assert packets(elements(four, **form), "4") == four  # type: ignore[arg-type]
    assert packets(elements(six, **form), "6") == six  # type: ignore[arg-type]


@pytest.mark.parametrize("verdict", ["another_chain", "role_short"])
def test_an_element_of_another_form_is_told_not_left_away(verdict: str) -> None:
    part = elements([(b"abcd", 5)], verdict=verdict)
    with pytest.raises(system.HubError, match="a form that is not known"):
        counters.counted(part, "4")


def test_an_element_without_a_counter_is_told() -> None:
    key = netlink.attribute(1, netlink.attribute(1, netlink.attribute(1, b"abcd")))
    with pytest.raises(system.HubError, match="a form that is not known"):
        counters.counted(netlink.attribute(3, key), "4")
