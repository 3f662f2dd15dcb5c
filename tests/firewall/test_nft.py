"""The nft codec against the real nft: what is written is what is read, whatever was there before."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import WORDS, tables

from meshwright.hubd.firewall import nft as codec

pytestmark = pytest.mark.lab
real = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@real
@given(tables)
def test_what_was_written_is_read_back(nft, table):
    nft.load(codec.create(table))
    assert codec.parse(nft.objects(table["name"]), table["name"]) == table


@real
@given(tables, tables)
def test_any_table_becomes_any_other_in_one_transaction(nft, old, new):
    nft.load(codec.create(old))
    commands = codec.transaction(nft.objects(old["name"]), new)
    if commands:
        nft.load(commands)
    live = nft.objects(new["name"])
    assert codec.parse(live, new["name"]) == new
    assert codec.transaction(live, new) == []


@real
@given(tables, st.randoms(use_true_random=False))
def test_elements_load_in_any_order(nft, table, order):
    commands = codec.create(table)
    singles = []
    for command in commands:
        element = command.get("add", {}).get("element")
        if element:
            singles += [{"add": {"element": {**element, "elem": [one]}}} for one in element["elem"]]
    order.shuffle(singles)
    nft.load([c for c in commands if "element" not in c.get("add", {})] + singles)
    assert codec.parse(nft.objects(table["name"]), table["name"]) == table


@settings(max_examples=200)
@given(tables)
def test_objects_are_what_nft_lists(table):
    assert codec.parse(codec.objects(table), table["name"]) == table


@pytest.mark.parametrize("name", WORDS)
def test_any_name_works(nft, name):
    table = {**EXAMPLE, "name": name}
    nft.load(codec.create(table))
    changed = {**table, "sources": {"10.100.2.9/32": {"peer": "x", "allow": ["peers icmp -"]}}}
    nft.load(codec.transaction(nft.objects(name), changed))
    assert codec.parse(nft.objects(name), name) == changed
    nft.load([{"delete": {"table": {"family": "inet", "name": name}}}])


EXAMPLE = {
    "name": "collective_mesh",
    "interface": "wg1",
    "mark": 0x100000,
    "format": codec.FORMAT,
    "hub": ["10.100.0.1/32"],
    "masquerade": ["192.168.20.0/24"],
    "sources": {
        "10.100.2.1/32": {
            "peer": "hamilton",
            "allow": ["peers icmp -", "10.42.0.0/16 icmp -", "192.168.20.0/24 tcp 443"],
        },
        "10.100.2.2/32": {"peer": "bryce", "allow": ["peers icmp -", "10.42.0.0/16 icmp -", "192.168.20.0/24 tcp 443"]},
        "198.51.100.0/24": {"peer": "bryce", "allow": []},
    },
    "inbound": ["10.100.0.1/32 -> 10.100.2.1-10.100.2.2 icmp -", "192.168.20.0/24 -> 10.100.2.1/32 tcp 22"],
}
T = {"family": "inet", "table": "collective_mesh"}


def role():
    return codec.role_name(EXAMPLE["sources"]["10.100.2.1/32"]["allow"])


def element(name, *elem):
    return {"add": {"element": {**T, "name": name, "elem": list(elem)}}}


def gone(name, *elem):
    return {"delete": {"element": {**T, "name": name, "elem": list(elem)}}}


def edits():
    concat = {"concat": ["10.9.9.9", "tcp", 22]}
    accept = {"rule": {**T, "chain": "from_peers", "expr": [{"accept": None}]}}
    return {
        "a rule before ours": [{"insert": accept}],
        "a rule after ours": [{"add": {"rule": {**T, "chain": role(), "expr": [{"accept": None}]}}}],
        "a rule in pass": [{"insert": {"rule": {**T, "chain": "pass", "expr": [{"drop": None}]}}}],
        "a rule with a comment": [
            {"add": {"rule": {**T, "chain": "clamp", "expr": [{"accept": None}], "comment": "x"}}}
        ],
        "a flushed base chain": [{"flush": {"chain": {**T, "name": "from_peers"}}}],
        "a flushed role": [{"flush": {"chain": {**T, "name": role()}}}],
        "a flushed pass": [{"flush": {"chain": {**T, "name": "pass"}}}],
        "a foreign chain": [{"add": {"chain": {**T, "name": "mine"}}}],
        "a foreign base chain": [
            {"add": {"chain": {**T, "name": "mine", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}}
        ],
        "a foreign role": [{"add": {"chain": {**T, "name": "role_mine"}}}],
        "a foreign set": [{"add": {"set": {**T, "name": "mine", "type": "ipv4_addr"}}}],
        "a foreign map": [{"add": {"map": {**T, "name": "mine", "type": "ipv4_addr", "map": "verdict"}}}],
        "a foreign counter": [{"add": {"counter": {**T, "name": "mine"}}}],
        "another policy": [
            {
                "add": {
                    "chain": {
                        **T,
                        "name": "to_peers",
                        "type": "filter",
                        "hook": "postrouting",
                        "prio": 90,
                        "policy": "drop",
                    }
                }
            }
        ],
        "a wider role": [element(f"{role()}_ports4", concat)],
        "a narrower role": [gone(f"{role()}_echo4", {"prefix": {"addr": "10.42.0.0", "len": 16}})],
        "a foreign protocol": [element(f"{role()}_ports4", {"concat": ["10.9.9.9", "sctp", 22]})],
        "a source that may all": [element("hosts4", ["10.9.9.9", {"accept": None}])],
        "a source that is dropped": [element("hosts4", ["10.9.9.9", {"drop": None}])],
        "a source with a role": [element("networks4", ["10.9.9.9", {"jump": {"target": role()}}])],
        "a source gone": [gone("hosts4", ["10.100.2.1", {"jump": {"target": role()}}])],
        "a peer more": [element("peers4", "10.9.9.9")],
        "a peer less": [gone("peers4", "10.100.2.1")],
        "a counter less": [gone("denied_hosts4", "10.100.2.1")],
        "another hub": [element("hub4", "10.9.9.9")],
        "more inbound": [element("inbound_any4", {"concat": ["10.9.9.9", "10.100.2.1"]})],
        "more masquerade": [element("masquerade4", "10.9.9.9")],
        "another name": [
            gone("hosts4", ["10.100.2.1", {"jump": {"target": role()}}]),
            element("hosts4", [{"elem": {"val": "10.100.2.1", "comment": "eve"}}, {"jump": {"target": role()}}]),
        ],
        "another format": [element("format", 7)],
    }


@pytest.mark.parametrize("edit", list(edits()))
def test_a_foreign_edit_is_seen_and_mended(nft, edit):
    nft.load(codec.create(EXAMPLE))
    nft.load(edits()[edit])
    live = nft.objects(EXAMPLE["name"])
    assert codec.parse(live, EXAMPLE["name"]) != EXAMPLE
    nft.load(codec.transaction(live, EXAMPLE))
    assert codec.parse(nft.objects(EXAMPLE["name"]), EXAMPLE["name"]) == EXAMPLE


def test_a_sleeping_table_is_seen_and_mended(nft):
    nft.load(codec.create(EXAMPLE))
    assert nft.run("nft", "add table inet collective_mesh { flags dormant; }")[0] == 0
    live = nft.objects(EXAMPLE["name"])
    assert codec.parse(live, EXAMPLE["name"])["strange"]
    nft.load(codec.transaction(live, EXAMPLE))
    assert codec.parse(nft.objects(EXAMPLE["name"]), EXAMPLE["name"]) == EXAMPLE


def test_a_table_of_an_older_form_is_drift_and_is_replaced_in_one_transaction(nft):
    nft.load(json.loads(Path(__file__).with_name("format1.json").read_text())["nftables"])
    live = nft.objects(EXAMPLE["name"])
    found = codec.parse(live, EXAMPLE["name"])
    assert found["format"] == 1
    assert "the rules of the chain from_peers were changed" in found["strange"]
    assert found["sources"] == EXAMPLE["sources"]
    nft.load(codec.transaction(live, EXAMPLE))
    assert codec.parse(nft.objects(EXAMPLE["name"]), EXAMPLE["name"]) == EXAMPLE


def test_no_table_is_none(nft):
    assert codec.parse([{"metainfo": {}}], "collective_mesh") is None
    other = codec.objects({**EXAMPLE, "name": "other"})
    assert codec.parse(other, "collective_mesh") is None
    assert codec.transaction(other, EXAMPLE) == codec.create(EXAMPLE)


def counted(objects, name):
    held = next(o[k] for o in objects for k in ("map", "set") if o.get(k, {}).get("name") == name).get("elem", [])
    inner = [(e[0] if isinstance(e, list) else e)["elem"] for e in held]
    return {i["val"]: i["counter"]["packets"] for i in inner}


def test_counts_survive_changes_of_others(nft):
    nft.load(codec.create(EXAMPLE))
    label = EXAMPLE["sources"]["10.100.2.1/32"]["peer"]
    for name, verdict, extra in (("hosts4", f" : jump {role()}", f' comment "{label}"'), ("denied_hosts4", "", "")):
        plain = f"10.100.2.1{verdict}"
        full = f"10.100.2.1 counter packets 7 bytes 70{extra}{verdict}"
        place = f"element inet collective_mesh {name}"
        done = nft.run("nft", "-f", "-", stdin=f"delete {place} {{ {plain} }}\nadd {place} {{ {full} }}")
        assert done[0] == 0, done
    changed = copy.deepcopy(EXAMPLE)
    changed["sources"]["10.100.2.2/32"]["allow"] = ["10.42.0.0/16 icmp -"]
    changed["sources"]["10.100.2.3/32"] = {"peer": "jake", "allow": ["peers icmp -"]}
    nft.load(codec.transaction(nft.objects("collective_mesh"), changed))
    live = nft.objects("collective_mesh")
    assert codec.parse(live, "collective_mesh") == changed
    for name in ("hosts4", "denied_hosts4"):
        assert counted(live, name) == {"10.100.2.1": 7, "10.100.2.2": 0, "10.100.2.3": 0}


def test_a_change_of_one_peer_touches_nothing_of_the_others(nft):
    nft.load(codec.create(EXAMPLE))
    changed = copy.deepcopy(EXAMPLE)
    changed["sources"]["10.100.2.3/32"] = {"peer": "jake", "allow": ["peers icmp -"]}
    commands = codec.transaction(nft.objects("collective_mesh"), changed)
    words = str(commands)
    assert "10.100.2.1" not in words
    assert "10.100.2.2" not in words
    assert role() not in words
    assert not any("delete" in c for c in commands)
    assert all("table" not in c.get("add", {}) for c in commands)


def test_deletions_come_before_additions(nft):
    nft.load(codec.create(EXAMPLE))
    changed = copy.deepcopy(EXAMPLE)
    changed["sources"]["10.100.2.1/32"]["allow"] = ["10.42.0.0/15 icmp -"]
    commands = codec.transaction(nft.objects("collective_mesh"), changed)
    verbs = [next(iter(c)) for c in commands]
    assert verbs == sorted(verbs, key=lambda verb: verb == "add")
