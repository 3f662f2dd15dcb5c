"""The compiled firewall against the plainest reading of the file, packet by packet, as the second evaluator sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.desired import firewall
from meshwright.desired.facts import Facts
from meshwright.desired.resource import collect
from meshwright.hubd.firewall import nft, rights
from meshwright.spec import policy
from meshwright.spec.model import Mesh
from meshwright.verify import judge
from meshwright.verify.evaluate import Evaluator, answer_to

NOW = datetime(2027, 1, 1, tzinfo=UTC)
FACTS = Facts(now=NOW, services={"jellyfin": (ip_address("10.43.0.77"),)})
FILE = {
    "version": 1,
    "name": "northern-lights",
    "hub": {"node": "n", "address": "192.168.20.20", "interface": "wg1", "endpoint": "vpn.example.net:51820"},
    "network": {
        "cidr": ["10.100.0.0/16", "fd77::/64"],
        "hub": ["10.100.0.1", "fd77::1"],
        "routes": {
            "nodes": ["192.168.20.0/24", "fd20::/64"],
            "pods": ["10.42.0.0/16", "fd42::/64"],
            "services": "10.43.0.0/16",
            "mesh": ["10.100.0.0/16", "fd77::/64"],
        },
    },
    "peers": {
        "astrid": {"address": ["10.100.1.1", "fd77::11"], "groups": ["gamers"]},
        "bjorn": {
            "groups": ["gamers"],
            "devices": {
                "router": {"address": "10.100.1.2", "lan": ["198.51.100.0/24", "fd99::/64"]},
                "phone": {"address": ["10.100.1.3", "fd77::13"]},
                "old": {"address": "10.100.1.9", "expires": "2026-12-31", "lan": "203.0.113.0/24"},
            },
        },
        "carl": {"address": "10.100.1.4", "disabled": True},
        "dora": {"address": "10.100.1.6"},
    },
    "services": {
        "git": {"address": "10.43.7.7", "ports": ["443/tcp", "22/tcp"]},
        "jellyfin": {"kubernetes": "media/jellyfin", "ports": ["8096/tcp"]},
    },
}
PRINTER = {**FILE["peers"], "dora": {"address": "10.100.1.6", "lan": "198.51.101.9/32"}}
NAMES = ["peers", "hub", "any", "astrid", "bjorn", "bjorn/phone", "gamers", "dora", "nodes", "pods", "services", "mesh"]
NAMES += ["bjorn.lan", "git", "jellyfin", "carl", "10.100.1.0/30", "198.51.100.128/25", "10.0.0.0/8", "fd77::/124"]
PORTS = ["443/tcp", "22/tcp", "8000-8100/tcp", "tcp", "udp", "53/udp", "icmp", "65535/udp"]
some = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2)
rules = st.lists(
    st.fixed_dictionaries(
        {"from": some, "to": some}, optional={"ports": st.lists(st.sampled_from(PORTS), min_size=1, max_size=3)}
    ),
    max_size=5,
)
ADDRESSES = ["10.100.0.1", "10.100.1.1", "10.100.1.2", "10.100.1.3", "10.100.1.4", "10.100.1.6", "10.100.1.9"]
ADDRESSES += ["192.168.20.20", "192.168.20.255", "10.42.0.9", "198.51.100.1", "198.51.100.200", "203.0.113.5"]
ADDRESSES += ["10.43.7.7", "10.43.0.77", "8.8.8.8", "198.51.101.9", "10.100.200.7"]
ADDRESSES += ["fd77::1", "fd77::11", "fd77::13", "fd77::99", "fd42::9", "fd99::5", "fd20::1", "2001:db8::1"]
SERVICES = [("tcp", 443), ("tcp", 22), ("tcp", 8000), ("tcp", 8100), ("tcp", 8101), ("tcp", 8096), ("udp", 443)]
SERVICES += [("udp", 53), ("udp", 65535), ("icmp", 0), ("gre", 0), ("tcp", 65535), ("tcp", 1)]


def mesh(allow=(), tests=(), **more):
    return Mesh.model_validate({**FILE, **more, "policy": {"allow": list(allow), "tests": list(tests)}})


def table(it, facts=FACTS, half="live"):
    """The table that the resources describe."""
    found = collect(firewall.build(it, facts))
    out = {k: v for k, v in found[f"hub/table/{it.table}"].attrs[half].items() if k != "strange"}
    sources = {i.removeprefix("hub/rights/"): r.attrs[half] for i, r in found.items() if i.startswith("hub/rights/")}
    inbound = found[f"hub/inbound/{it.table}"].attrs[half]["allow"]
    return {**out, "name": it.table, "sources": sources, "inbound": inbound}


def said(word, protocol, port):
    """Whether a port word of a rule speaks of this, by reading the text alone."""
    if word in ("tcp", "udp", "icmp"):
        return word == protocol
    low, _, high = word.split("/")[0].partition("-")
    return protocol == word.split("/")[1] and int(low) <= port <= int(high or low)


def naive(it, source, destination, protocol, port):
    """The rules one by one, the names one by one."""

    def holds(name, address):
        return any(ip_address(address) in ip_network(n) for n in policy.resolve(it, name, FACTS.services, NOW))

    for rule in it.policy.allow:
        for name in rule.to:
            words = rule.ports if rule.ports is not None else getattr(it.services.get(name), "ports", ())
            spoken = not words or any(said(w, protocol, port) for w in words)
            if spoken and holds(name, destination) and any(holds(n, source) for n in rule.from_):
                return True
    return False


def active(it, address):
    """Whether an active device may send from the address."""
    found = [d for d in it.devices if d.active(NOW)]
    return any(ip_address(address) in d.addresses or any(ip_address(address) in n for n in d.lan) for d in found)


@settings(max_examples=300)
@given(rules, st.data(), st.booleans())
def test_the_firewall_lets_through_what_the_rules_say_and_nothing_else(allow, data, printer):
    peers = PRINTER if printer else FILE["peers"]
    it = mesh(allow, peers=peers)
    inside = policy.Names(it, FACTS.services, NOW).inside
    trimmed = [{**rule, "from": [name for name in rule["from"] if not inside(name)]} for rule in allow]
    from_outside = mesh([rule for rule in trimmed if rule["from"]], peers=peers)
    evaluator, place = Evaluator(nft.objects(table(it)), it.table), judge.ground(it, NOW)
    for _ in range(15):
        source, destination = data.draw(st.sampled_from(ADDRESSES)), data.draw(st.sampled_from(ADDRESSES))
        protocol, port = data.draw(st.sampled_from(SERVICES))
        packet = place.packet(source, destination, protocol, port)
        if (":" in source) != (":" in destination) or source == destination or "wg1" not in (packet.into, packet.out):
            continue
        if packet.into == "wg1":
            expected = active(it, source) and naive(it, source, destination, protocol, port)
        else:
            # only names of what lies outside the tunnel open anything towards peers, and only towards active ones
            expected = active(it, destination) and naive(from_outside, source, destination, protocol, port)
        assert judge.passes(evaluator, packet, place) == expected, packet
        if expected:
            assert judge.passes(evaluator, answer_to(packet), place)


@settings(max_examples=100)
@given(rules, st.booleans())
def test_the_table_is_in_the_form_that_nft_reads_back(allow, printer):
    it = mesh(allow, peers=PRINTER if printer else FILE["peers"])
    wanted = table(it)
    assert nft.parse(nft.objects(wanted), it.table) == wanted
    for source in wanted["sources"].values():
        assert source["allow"] == rights.texts(rights.parse(text) for text in source["allow"])
    assert wanted["inbound"] == sorted(wanted["inbound"], key=nft.inbound_order)
    assert table(it, half="saved") == wanted


@settings(max_examples=60)
@given(rules)
def test_every_active_address_and_lan_is_a_source_and_no_other(allow):
    sources = table(mesh(allow))["sources"]
    hosts = {"10.100.1.1/32", "fd77::11/128", "10.100.1.2/32", "10.100.1.3/32", "fd77::13/128", "10.100.1.6/32"}
    assert hosts <= sources.keys()
    lans = [ip_network(p) for p in sources.keys() - hosts]
    assert sum(n.num_addresses for n in lans if n.version == 4) == 256
    assert all(n.subnet_of(ip_network("198.51.100.0/24" if n.version == 4 else "fd99::/64")) for n in lans)


def test_a_lan_that_a_rule_names_in_part_comes_in_parts():
    sources = table(mesh([{"from": "198.51.100.64/26", "to": "git"}]))["sources"]
    assert {p: s["allow"] for p, s in sources.items() if p.startswith("198")} == {
        "198.51.100.0/26": [],
        "198.51.100.64/26": ["10.43.7.7/32 tcp 22", "10.43.7.7/32 tcp 443"],
        "198.51.100.128/25": [],
    }


def test_a_new_peer_changes_nothing_of_the_others_though_all_may_reach_all():
    rule = [{"from": "peers", "to": "peers", "ports": "icmp"}]
    more = {**FILE["peers"], "egon": {"address": "10.100.1.7"}}
    before, after = (collect(firewall.build(mesh(rule, peers=p), FACTS)) for p in (FILE["peers"], more))
    assert {i for i in after if i not in before or after[i].attrs != before[i].attrs} == {"hub/rights/10.100.1.7/32"}


def test_peers_are_spelled_out_where_a_lan_looks_like_one():
    rule = [{"from": "astrid", "to": "peers", "ports": "icmp"}]
    assert table(mesh(rule))["sources"]["10.100.1.1/32"]["allow"] == ["peers icmp -"]
    spelled = table(mesh(rule, peers=PRINTER))["sources"]["10.100.1.1/32"]["allow"]
    assert spelled == [
        "10.100.1.1-10.100.1.3 icmp -",
        "10.100.1.6/32 icmp -",
        "fd77::11/128 icmp -",
        "fd77::13/128 icmp -",
    ]


def test_equal_rights_are_one_list():
    found = collect(firewall.build(mesh([{"from": "peers", "to": "nodes"}]), FACTS))
    lists = [found[f"hub/rights/10.100.1.{i}/32"].attrs[half]["allow"] for i in (1, 2, 3) for half in ("saved", "live")]
    assert all(one is lists[0] for one in lists)


@pytest.mark.parametrize(
    ("return_path", "expected"), [("masquerade", ["192.168.20.0/24", "fd20::/64"]), ("nodes", []), ("gateway", [])]
)
def test_masquerade_is_for_routes_that_know_no_way_back(return_path, expected):
    it = mesh(network={**FILE["network"], "return_path": return_path})
    assert table(it)["masquerade"] == expected


def test_inbound_is_only_what_outside_names_open():
    allow = [
        {"from": ["hub", "astrid"], "to": "peers", "ports": "icmp"},
        {"from": "nodes", "to": ["bjorn.lan", "pods"], "ports": "80/tcp"},
        {"from": "peers", "to": "peers"},
    ]
    assert table(mesh(allow))["inbound"] == [
        "10.100.0.1/32 -> 10.100.1.1-10.100.1.3 icmp -",
        "10.100.0.1/32 -> 10.100.1.6/32 icmp -",
        "192.168.20.0/24 -> 198.51.100.0/24 tcp 80",
        "fd20::/64 -> fd99::/64 tcp 80",
        "fd77::1/128 -> fd77::11/128 icmp -",
        "fd77::1/128 -> fd77::13/128 icmp -",
    ]


def test_the_closing_rule_and_settings():
    found = collect(firewall.build(mesh(), FACTS))
    assert found["hub/closed/wg1"].attrs == {
        "live": {
            "rules": ["inet", "inet6"],
            "sysctl": {
                "net.ipv4.ip_forward": "1",
                "net.ipv4.conf.all.src_valid_mark": "1",
                "net.ipv6.conf.all.forwarding": "1",
            },
        }
    }
    four = mesh(network={"cidr": "10.100.0.0/16", "hub": "10.100.0.1"}, peers={})
    live = collect(firewall.build(four, FACTS))["hub/closed/wg1"].attrs["live"]
    assert "net.ipv6.conf.all.forwarding" not in live["sysctl"]


TESTS = [
    {"from": "peers", "to": "nodes", "port": "6443/tcp", "expect": "allow"},
    {"from": "dora", "to": "nodes", "port": "22/tcp", "expect": "deny"},
    {"from": "peers", "to": "peers", "port": "icmp", "expect": "allow"},
    {"from": "hub", "to": "peers", "port": "icmp", "expect": "allow"},
    {"from": "nodes", "to": "peers", "expect": "deny"},
    {"from": "gamers", "to": "git", "port": "22/tcp", "expect": "allow"},
    {"from": "dora", "to": "bjorn.lan", "expect": "deny"},
    {"from": "peers", "to": "hub", "expect": "deny"},
]
ALLOW = [
    {"from": "peers", "to": "nodes", "ports": ["6443/tcp", "icmp"]},
    {"from": "peers", "to": "peers", "ports": "icmp"},
    {"from": "hub", "to": "peers", "ports": "icmp"},
    {"from": "gamers", "to": "git"},
]


def failing(objects, it):
    return [c.name for c in judge.judge(objects, it, FACTS.services, NOW) if not c.ok]


def test_every_policy_test_holds_in_the_compiled_table():
    it = mesh(ALLOW, TESTS)
    assert failing(nft.objects(table(it)), it) == []
    assert len(list(judge.judge(nft.objects(table(it)), it, FACTS.services, NOW))) == len(TESTS)


def test_an_element_slipped_into_a_wide_destination_is_asked_about():
    """One address and one port inside what a test denies as a whole: nothing in the file leads there."""
    it = mesh(ALLOW, [{"from": "peers", "to": "nodes", "port": "tcp", "expect": "deny"}])
    objects = nft.objects(table(it))
    for item in objects:
        if item.get("set", {}).get("name", "").endswith("_ports4"):
            item["set"]["elem"] = [{"concat": ["192.168.20.77", "tcp", 2222]}]
    (check,) = judge.judge(objects, it, FACTS.services, NOW)
    assert not check.ok
    assert "192.168.20.77 port 2222" in check.observed


@settings(max_examples=80)
@given(
    rules,
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from([*PORTS, None]).filter(lambda w: w not in ("tcp", "udp", "8000-8100/tcp")),
)
def test_the_judge_never_contradicts_a_verdict_that_holds(allow, source, destination, port):
    """The verdict is about all addresses, the judge asks about some: it may miss a fault, never invent one."""
    test = {"from": source, "to": destination, **({"port": port} if port else {})}
    it = mesh(allow, [{**test, "expect": e} for e in ("allow", "deny")])
    objects = nft.objects(table(it))
    for spoken, seen in zip(it.policy.tests, judge.judge(objects, it, FACTS.services, NOW), strict=True):
        verdict = policy.judge(spoken, it, FACTS.services, NOW)
        names = policy.Names(it, FACTS.services, NOW)
        if verdict.ok and spoken.expect == "deny":
            assert seen.ok, (verdict, seen)
        if verdict.ok and spoken.expect == "allow" and names.inside(source):
            assert seen.ok, (verdict, seen)


def sabotage():
    accept = {"family": "inet", "table": "northern_lights", "expr": [{"accept": None}]}

    def rule(objects, chain):
        return [*objects[:1], {"rule": {**accept, "chain": chain}}, *objects[1:]]

    def without(objects, test):
        return [o for o in objects if not test(o)]

    def swap(objects, old, new):
        return json.loads(json.dumps(objects).replace(old, new))

    role = nft.role_name(table(mesh(ALLOW, TESTS))["sources"]["10.100.1.6/32"]["allow"])
    return {
        "all is let in": lambda o: rule(o, "from_peers"),
        "all is let in, unmarked": lambda o: rule(o, "denied"),
        "all is let out": lambda o: rule(o, "to_peers"),
        "nothing is marked": lambda o: without(o, lambda x: x.get("rule", {}).get("chain") == "pass"),
        "a role is empty": lambda o: without(o, lambda x: x.get("rule", {}).get("chain") == role),
        "no closing drop towards peers": lambda o: without(o, lambda x: x.get("rule", {}).get("chain") == "to_peers"),
        "another port": lambda o: swap(o, '"tcp", 6443', '"tcp", 6442'),
        "a wider port": lambda o: swap(o, '"tcp", 6443', '"tcp", {"range": [0, 65535]}'),
        "another interface": lambda o: swap(o, '"wg1"', '"wg2"'),
        "asleep": lambda o: swap(o, '{"table": {', '{"table": {"flags": "dormant", '),
        "no table": lambda o: [],
    }


@pytest.mark.parametrize("deed", list(sabotage()))
def test_a_sabotaged_table_is_noticed(deed):
    it = mesh(ALLOW, TESTS)
    objects = sabotage()[deed](nft.objects(table(it)))
    noticed = failing(objects, it)
    assert noticed


def test_an_established_flow_of_a_source_that_lost_its_right_is_noticed():
    it, place = mesh([], []), judge.ground(mesh(), NOW)
    flow = replace(place.packet("10.100.1.6", "192.168.20.9", "tcp", 6443), state="established")
    objects = nft.objects(table(it))
    assert not judge.passes(Evaluator(objects, it.table), flow, place)
    broken = json.loads(json.dumps(objects).replace('"right": "reply"', '"right": "original"'))
    assert judge.passes(Evaluator(broken, it.table), flow, place)


def test_a_packet_from_the_tunnel_without_the_mark_gets_no_route():
    place = judge.ground(mesh(), NOW)
    open_table = Evaluator([{"table": {"family": "inet", "name": "t"}}], "t")
    assert not judge.passes(open_table, place.packet("10.100.1.1", "192.168.20.9", "tcp", 1), place)
    assert judge.passes(open_table, place.packet("10.100.1.1", "10.100.0.1", "tcp", 1), place)
    assert judge.passes(open_table, place.packet("192.168.20.9", "10.100.1.1", "tcp", 1), place)
