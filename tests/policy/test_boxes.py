"""The box algebra against sets of single points, on spaces small enough to count."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright.spec import boxes
from meshwright.spec.boxes import Box, Interval, Span

spans = st.builds(
    lambda v, a, b: Span(v, min(a, b), max(a, b)), st.sampled_from([4, 6]), st.integers(0, 11), st.integers(0, 11)
)
services = st.builds(lambda a, b: Interval(min(a, b), max(a, b)), st.integers(0, 7), st.integers(0, 7))
regions = st.lists(st.builds(lambda s, i: Box(*s, *i), spans, services), max_size=7)


def points(region):
    return {
        (b.version, address, service)
        for b in region
        for address in range(b.low, b.high + 1)
        for service in range(b.first, b.last + 1)
    }


def addresses(found):
    return {(s.version, a) for s in found for a in range(s.low, s.high + 1)}


@given(regions, regions)
def test_union_intersection_and_difference_hold_exactly_the_points(left, right):
    assert points(boxes.union(left, right)) == points(left) | points(right)
    assert points(boxes.intersect(left, right)) == points(left) & points(right)
    assert points(boxes.subtract(left, right)) == points(left) - points(right)


@given(regions, regions)
def test_results_are_disjoint_and_in_order(left, right):
    for result in (boxes.union(left, right), boxes.intersect(left, right), boxes.subtract(left, right)):
        sizes = sum((b.high - b.low + 1) * (b.last - b.first + 1) for b in result)
        assert sizes == len(points(result))
        assert list(result) == sorted(result)


@given(regions, st.randoms(use_true_random=False))
def test_equal_regions_have_one_form(region, random):
    pieces = [
        Box(b.version, a, a, s, s) for b in region for a in range(b.low, b.high + 1) for s in range(b.first, b.last + 1)
    ]
    random.shuffle(pieces)
    assert boxes.canonical(pieces) == boxes.canonical(region)


@given(st.lists(spans, max_size=6), st.lists(spans, max_size=6))
def test_spans_hold_exactly_the_addresses(left, right):
    a, b = boxes.merge(left), boxes.merge(right)
    assert addresses(a) == addresses(left)
    assert addresses(boxes.overlap(a, b)) == addresses(left) & addresses(right)
    assert addresses(boxes.without(a, b)) == addresses(left) - addresses(right)
    assert all(x.version != y.version or x.high + 1 < y.low for x, y in itertools.pairwise(a))


@given(st.lists(services, max_size=6))
def test_joined_services_do_not_touch(found):
    joined = boxes.join(found)
    assert {p for i in joined for p in range(i.first, i.last + 1)} == {
        p for i in found for p in range(i.first, i.last + 1)
    }
    assert all(x.last + 1 < y.first for x, y in itertools.pairwise(joined))


@given(st.lists(spans, max_size=4))
def test_networks_hold_exactly_the_addresses(found):
    nets = boxes.networks(boxes.merge(found))
    inside = {(n.version, int(n.network_address) + i) for n in nets for i in range(n.num_addresses)}
    assert inside == addresses(found)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 2**32 - 1, ["0.0.0.0/0"]),
        (1, 2, ["0.0.0.1/32", "0.0.0.2/32"]),
        (2, 3, ["0.0.0.2/31"]),
        (2**32 - 3, 2**32 - 1, ["255.255.255.253/32", "255.255.255.254/31"]),
    ],
)
def test_networks_at_the_edges(low, high, expected):
    assert [str(n) for n in boxes.networks([Span(4, low, high)])] == expected


def test_any_is_the_whole_service_axis():
    everything = [Box(4, 1, 1, *boxes.ANY)]
    named = [Box(4, 1, 1, *boxes.interval(p)) for p in ("tcp", "udp", "icmp")]
    assert boxes.union(everything, named) == tuple(everything)
    assert boxes.subtract(everything, named) == (Box(4, 1, 1, boxes.OTHER, boxes.OTHER),)
