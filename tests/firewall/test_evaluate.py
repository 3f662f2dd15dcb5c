"""The independent evaluator on hand-written tables: the meaning of nft(8), case by case, and against our own codec."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import tables

from meshwright.hubd.firewall import nft as codec
from meshwright.hubd.firewall import rights
from meshwright.verify.evaluate import Evaluator, NotUnderstood, Packet

PLACE = {"family": "inet", "table": "t"}
BASE = {"chain": {**PLACE, "name": "base", "type": "filter", "hook": "prerouting", "prio": 0, "policy": "accept"}}
PACKET = Packet("wg1", "", "10.0.0.1", "10.0.0.9", "tcp", 443)
SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
DPORT = {"payload": {"protocol": "th", "field": "dport"}}


def match(left, right, op="=="):
    return {"match": {"left": left, "right": right, "op": op}}


def world(*rules, policy="accept", sets=(), chains=()):
    base = {"chain": {**BASE["chain"], "policy": policy}}
    return [
        {"metainfo": {}},
        {"table": {"family": "inet", "name": "t"}},
        *sets,
        base,
        *({"chain": {**PLACE, "name": name}} for name in chains),
        *({"rule": {**PLACE, "chain": chain, "expr": expr}} for chain, expr in rules),
    ]


def passed(objects, packet=PACKET):
    return Evaluator(objects, "t").fate(packet).passed


DROP, ACCEPT = {"drop": None}, {"accept": None}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], True),
        ([("base", [DROP])], False),
        ([("base", [ACCEPT]), ("base", [DROP])], True),
        ([("base", [match(SADDR, "10.0.0.1"), DROP])], False),
        ([("base", [match(SADDR, "10.0.0.2"), DROP])], True),
        ([("base", [match(SADDR, "10.0.0.2", "!="), DROP])], False),
        ([("base", [match(SADDR, {"prefix": {"addr": "10.0.0.0", "len": 30}}), DROP])], False),
        ([("base", [match(SADDR, {"set": [{"range": ["10.0.0.1", "10.0.0.2"]}]}), DROP])], False),
        ([("base", [match(DPORT, {"range": [443, 444]}), DROP])], False),
        ([("base", [match(DPORT, {"range": [444, 445]}), DROP])], True),
        ([("base", [match({"payload": {"protocol": "ip6", "field": "saddr"}}, "::1", "!="), DROP])], True),
        ([("base", [match({"meta": {"key": "iifname"}}, "wg*"), DROP])], False),
        ([("base", [match({"meta": {"key": "oifname"}}, "wg1", "!="), DROP])], True),
        ([("base", [match({"ct": {"key": "state"}}, ["established", "related"], "in"), DROP])], True),
        ([("base", [match({"ct": {"key": "state"}}, ["new", "related"], "in"), DROP])], False),
        ([("base", [{"jump": {"target": "one"}}]), ("base", [DROP])], False),
        ([("base", [{"jump": {"target": "one"}}]), ("base", [DROP]), ("one", [ACCEPT])], True),
        ([("base", [{"goto": {"target": "one"}}]), ("base", [DROP])], True),
        (
            [("base", [{"jump": {"target": "one"}}]), ("base", [DROP]), ("one", [{"return": None}]), ("one", [ACCEPT])],
            False,
        ),
        ([("base", [{"jump": {"target": "one"}}]), ("one", [{"goto": {"target": "two"}}]), ("one", [DROP])], True),
        ([("base", [{"jump": {"target": "one"}}]), ("base", [DROP]), ("one", [{"goto": {"target": "two"}}])], False),
        ([("base", [{"reject": {"type": "tcp reset"}}])], False),
        ([("base", [{"vmap": {"key": SADDR, "data": {"set": [["10.0.0.1", DROP]]}}}])], False),
        ([("base", [{"vmap": {"key": SADDR, "data": {"set": [["10.0.0.2", DROP]]}}}])], True),
    ],
)
def test_rules(rules, expected):
    assert passed(world(*rules, chains=("one", "two"))) == expected


def test_a_policy_holds_where_no_rule_speaks():
    assert not passed(world(policy="drop"))
    assert passed(world(("base", [ACCEPT]), policy="drop"))


def test_named_sets_maps_and_marks():
    sets = [
        {
            "map": {
                **PLACE,
                "name": "m",
                "type": "ipv4_addr",
                "map": "verdict",
                "elem": [["10.0.0.1", {"jump": {"target": "one"}}]],
            }
        },
        {
            "set": {
                **PLACE,
                "name": "s",
                "type": ["ipv4_addr", "inet_proto", "inet_service"],
                "elem": [{"concat": [{"prefix": {"addr": "10.0.0.8", "len": 30}}, "tcp", {"range": [440, 450]}]}],
            }
        },
    ]
    to = {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"meta": {"key": "l4proto"}}, DPORT]}
    mark = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 4]}}}
    objects = world(
        ("base", [{"vmap": {"key": SADDR, "data": "@m"}}]),
        ("base", [DROP]),
        ("one", [match(to, "@s"), mark, ACCEPT]),
        sets=sets,
        chains=("one",),
    )
    fate = Evaluator(objects, "t").fate(Packet("wg1", "", "10.0.0.1", "10.0.0.9", "tcp", 443, mark=1))
    assert (fate.passed, fate.mark, fate.chain) == (True, 5, "one")
    for change in ({"port": 451}, {"protocol": "udp"}, {"destination": "10.0.0.12"}, {"source": "10.0.0.3"}):
        packet = Packet(**{**{f: getattr(PACKET, f) for f in Packet.__dataclass_fields__}, **change})
        assert not passed(objects, packet)


@pytest.mark.parametrize(
    "rule",
    [
        [{"dnat": {"addr": "1.2.3.4"}}],
        [match({"meta": {"key": "skuid"}}, 0)],
        [match(SADDR, "@nowhere"), ACCEPT],
        [{"jump": {"target": "nowhere"}}],
        [match(SADDR, "10.0.0.1", "<")],
    ],
)
def test_what_is_not_understood_is_an_error(rule):
    with pytest.raises(NotUnderstood):
        passed(world(("base", rule)))


def test_a_loop_of_chains_is_an_error():
    with pytest.raises(NotUnderstood):
        passed(world(("base", [{"jump": {"target": "one"}}]), ("one", [{"jump": {"target": "one"}}]), chains=("one",)))


def hold(texts, source_version, value, service, hosts):
    for text in texts:
        right = rights.parse(text)
        here = (
            (source_version, value) in hosts
            if right.version == 0
            else (right.version == source_version and right.low <= value <= right.high)
        )
        if here and right.first <= service <= right.last:
            return True
    return False


@settings(max_examples=300)
@given(tables, st.data())
def test_the_evaluator_and_the_plain_rights_agree(table, data):
    """Each knows nothing of the other: the rights as texts, the packets through the rules that the codec wrote."""
    evaluator = Evaluator(codec.objects(table), table["name"])
    hosts = {rights.parse_span(p)[:2] for p in table["sources"] if p.endswith(("/32", "/128"))}
    edges = {rights.parse(t)[:3] for s in table["sources"].values() for t in s["allow"]} - {(0, 0, 0)}
    edges |= {rights.parse_span(p) for p in table["sources"]}
    places = sorted(
        {
            (v, n)
            for v, low, high in edges
            for n in (low - 1, low, high, high + 1)
            if 0 <= n < 2 ** (32 if v == 4 else 128)
        }
    )
    if not table["sources"] or not places:
        return
    for _ in range(10):
        source = data.draw(st.sampled_from(sorted(table["sources"])))
        version, low, _ = rights.parse_span(source)
        value = data.draw(st.sampled_from([n for v, n in places if v == version]))
        protocol, port = data.draw(
            st.sampled_from([("tcp", 1), ("tcp", 12), ("tcp", 65535), ("udp", 5), ("icmp", 0), ("gre", 0)])
        )
        service = (
            rights.OFFSET[protocol] + port
            if protocol in rights.OFFSET
            else rights.ICMP
            if protocol == "icmp"
            else rights.OTHER
        )
        owner = next(s for p, s in table["sources"].items() if p == source)
        # a mesh file's LANs overlap nothing; where a generated one holds a host, both rights would count
        inner = [p for p in table["sources"] if p != source and _holds(p, version, low)]
        destination = rights.address(version, value)
        if inner or _everybodys(version, value):
            continue
        name = protocol + ("v6" if protocol == "icmp" and version == 6 else "")
        packet = Packet(
            table["interface"].replace("*", "x"),
            "eth0",
            rights.address(version, low),
            destination,
            name,
            port,
            "echo-request" if service == rights.ICMP else "",
        )
        fate = evaluator.fate(packet)
        assert fate.passed == hold(owner["allow"], version, value, service, hosts)
        assert bool(fate.mark & table["mark"]) == fate.passed


def _holds(prefix, version, value):
    found, low, high = rights.parse_span(prefix)
    return found == version and low <= value <= high


def _everybodys(version, value):
    if version == 4:
        return value >> 28 == 14 or value == 2**32 - 1
    return value >> 120 == 0xFF or value >> 118 == 0xFE80 >> 6


NEVER = [
    ({"destination": "224.0.0.251", "protocol": "udp", "port": 5353}, "multicast"),
    ({"destination": "255.255.255.255"}, "limited broadcast"),
    ({"destination": "10.0.0.255", "kind": "broadcast"}, "broadcast"),
    ({"destination": "10.0.0.200", "kind": "multicast"}, "multicast by the routing table alone"),
    ({"source": "fd00::1", "destination": "ff02::fb"}, "IPv6 multicast"),
    ({"source": "fe80::1", "destination": "fe80::2"}, "IPv6 link-local"),
    ({"source": "fd00::1", "destination": "fe80::2"}, "towards IPv6 link-local"),
    ({"source": "10.0.0.77"}, "an unknown source"),
    ({"state": "established"}, "established alone, of a source without rights"),
    ({"state": "related"}, "related without being an ICMP error"),
    ({"protocol": "icmp", "icmp": "echo-reply", "state": "new"}, "an answer that nobody asked for"),
    ({"protocol": "icmp", "icmp": "redirect", "state": "related"}, "a redirect"),
]


@pytest.mark.parametrize(("change", "what"), NEVER, ids=[what for _, what in NEVER])
def test_what_never_gets_in(change, what):
    table = {
        "name": "t",
        "interface": "wg1",
        "mark": 4,
        "format": 1,
        "hub": [],
        "masquerade": ["192.168.0.0/16"],
        "sources": {
            "10.0.0.1/32": {"peer": "all", "allow": ["0.0.0.0/0 tcp 0-65535", "0.0.0.0/0 icmp -"]},
            "10.0.0.2/32": {"peer": "none", "allow": []},
            "fd00::1/128": {"peer": "all", "allow": ["::/0 any -"]},
        },
        "inbound": [],
    }
    evaluator = Evaluator(codec.objects(table), "t")
    fields = {f: getattr(PACKET, f) for f in Packet.__dataclass_fields__}
    if what.startswith(("established", "related", "a redirect")):
        fields["source"] = "10.0.0.2"
    assert evaluator.fate(PACKET).passed
    assert not evaluator.fate(Packet(**{**fields, **change})).passed


@pytest.mark.parametrize("icmp", ["destination-unreachable", "time-exceeded", "parameter-problem"])
def test_errors_about_known_flows_get_through(icmp):
    table = {
        "name": "t",
        "interface": "wg1",
        "mark": 4,
        "format": 1,
        "hub": [],
        "masquerade": [],
        "sources": {},
        "inbound": [],
    }
    evaluator = Evaluator(codec.objects(table), "t")
    for into, out in (("wg1", "eth0"), ("eth0", "wg1")):
        packet = Packet(into, out, "10.0.0.9", "10.0.0.1", "icmp", 0, icmp, state="related")
        assert evaluator.fate(packet).passed
        assert evaluator.fate(packet).mark == 4
        assert not evaluator.fate(Packet(into, out, "10.0.0.9", "10.0.0.1", "icmp", 0, icmp, state="new")).passed
