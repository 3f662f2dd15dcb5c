"""Rights as text, the first phase between two tables, and which flows have to end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tables import allow, some_rights, tables

from meshwright.hubd.firewall import nft, rights

PEERS = ["10.42.0.3/32", "10.42.0.4/32", "192.168.20.7/32", "fd77::3/128"]
SERVICES = [1, 5, 12, 65535, rights.PORTS + 1, rights.PORTS + 5, rights.ICMP, rights.OTHER]


def holds(texts, version, value, service, peers):
    for text in texts:
        right = rights.parse(text)
        if right.version == 0:
            here = rights.render_span(version, value, value) in peers
        else:
            here = right.version == version and right.low <= value <= right.high
        if here and right.first <= service <= right.last:
            return True
    return False


def places(*lists):
    edges = {rights.parse(text)[:3] for texts in lists for text in texts} - {(0, 0, 0)}
    edges |= {rights.parse_span(peer) for peer in PEERS}
    top = {4: 2**32, 6: 2**128}
    return sorted({(v, n) for v, low, high in edges for n in (low - 1, low, high, high + 1) if 0 <= n < top[v]})


@settings(max_examples=300)
@given(allow, allow)
def test_common_rights_are_exactly_what_both_allow(left, right):
    both = rights.common(left, right, lambda: PEERS)
    for version, value in places(left, right):
        for service in SERVICES:
            wanted = all(holds(side, version, value, service, PEERS) for side in (left, right))
            assert holds(both, version, value, service, PEERS) == wanted


@settings(max_examples=300)
@given(st.lists(some_rights, max_size=6))
def test_texts_are_disjoint_in_order_and_hold_the_same(found):
    texts = rights.texts(found)
    parsed = [rights.parse(text) for text in texts]
    assert parsed == sorted(parsed)
    assert rights.texts(parsed) == texts
    for i, a in enumerate(parsed):
        for b in parsed[i + 1 :]:
            assert rights._both(a, b) is None
    raw = [text for right in found for text in rights.render(right)]
    for version, value in places(texts):
        for service in SERVICES:
            assert holds(texts, version, value, service, PEERS) == holds(raw, version, value, service, PEERS)


@given(some_rights)
def test_a_right_reads_as_it_was_written(right):
    texts = list(rights.render(right))
    if len(texts) == 1:
        assert rights.parse(texts[0]) == right


def flow(source, right, reader):
    """A flow that the right allows, None when it speaks of peers and there is none."""
    spot = rights.parse(right)
    if spot.version == 0:
        if not reader.hosts:
            return None
        version, value = sorted(reader.hosts)[0]
    else:
        version, value = spot.version, spot.high
    own, number, _ = rights.parse_span(source)
    if own != version:
        return None
    packed = value.to_bytes(4 if version == 4 else 16, "big")
    protocol, port = named(spot.last)
    return rights.Flow(number.to_bytes(len(packed), "big"), packed, protocol, port, packed, port)


def named(service):
    if service < rights.PORTS:
        return "tcp", service
    if service < rights.ICMP:
        return "udp", service - rights.PORTS
    return ("icmp", 0) if service == rights.ICMP else ("47", 0)


def flows(table):
    reader = rights._Reader(table)
    for source, held in table["sources"].items():
        yield from (one for right in held["allow"] if (one := flow(source, right, reader)))


@settings(max_examples=200)
@given(tables, tables, st.data())
def test_the_first_phase_opens_nothing_that_both_tables_do_not(before, target, data):
    shared = [p for p in target["sources"] if p in before["sources"]]
    moved = set(data.draw(st.lists(st.sampled_from(shared), unique=True))) if shared else set()
    phase = nft.between(before, target, moved)
    assert set(phase["sources"]) == set(shared) - moved
    assert nft.parse(nft.objects(phase), phase["name"]) == phase
    for side in (before, target):
        reader = rights._Reader(side)
        for one in flows(phase):
            assert reader.outward(one)
    assert {k: v for k, v in phase.items() if k not in ("sources", "inbound")} == {
        k: v for k, v in target.items() if k not in ("sources", "inbound")
    }


@settings(max_examples=100)
@given(tables, st.data())
def test_a_first_phase_that_takes_nothing_is_the_table_before(table, data):
    assert nft.between(table, table, set()) == table
    if table["sources"]:
        one = data.draw(st.sampled_from(sorted(table["sources"])))
        less = {**table, "sources": {p: s for p, s in table["sources"].items() if p != one}}
        assert set(nft.between(less, table, set())["sources"]) == set(less["sources"])


@settings(max_examples=100)
@given(tables)
def test_no_flow_is_stale_while_nothing_changes_and_all_are_when_all_goes(table):
    stays, ends = rights.stale(table, table), rights.stale(table, {**table, "sources": {}, "inbound": []})
    for one in flows(table):
        assert not stays(one)
        assert ends(one)


def packed(text):
    version, value = rights.number(text)
    return value.to_bytes(4 if version == 4 else 16, "big")


def one(source, destination, protocol, port, final=None):
    return rights.Flow(packed(source), packed(destination), protocol, port, packed(final or destination), port)


def test_stale_flows_by_example():
    before = {
        "sources": {
            "10.1.0.1/32": {"peer": "a", "allow": ["peers tcp 22", "10.43.0.0/16 udp 53"]},
            "10.1.0.2/32": {"peer": "b", "allow": ["peers tcp 22"]},
        },
        "inbound": ["192.168.0.0/16 -> 10.1.0.1-10.1.0.2 tcp 80"],
    }
    after = {
        "sources": {"10.1.0.1/32": {"peer": "a", "allow": ["peers tcp 22"]}},
        "inbound": ["192.168.0.0/17 -> 10.1.0.1/32 tcp 80"],
    }
    stale = rights.stale(before, after)
    assert stale(one("10.1.0.1", "10.43.0.10", "udp", 53, final="10.42.0.7"))
    assert stale(one("10.1.0.1", "10.1.0.2", "tcp", 22))
    assert stale(one("10.1.0.2", "10.1.0.1", "tcp", 22))
    assert not stale(one("10.1.0.1", "10.1.0.1", "tcp", 22))
    assert not stale(one("192.168.3.3", "10.1.0.1", "tcp", 80))
    assert stale(one("192.168.200.3", "10.1.0.1", "tcp", 80))
    assert stale(one("192.168.3.3", "192.168.0.20", "tcp", 80, final="10.1.0.2"))
    assert not stale(one("192.168.3.3", "8.8.8.8", "tcp", 443))


def test_addresses_are_written_as_python_writes_them():
    assert rights.address(6, 0x10005) == "::1:5"
    assert rights.address(6, (0xFFFF << 32) | 0x01020304) == "::ffff:102:304"
    assert rights.plain("::0.1.0.5") == "::1:5"
