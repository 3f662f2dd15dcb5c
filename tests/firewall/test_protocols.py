"""A hub without /etc/protocols (a minimal Debian has none): nft lists protocols as numbers there."""

from __future__ import annotations

import json

import pytest

from meshwright.hubd.firewall import nft as codec
from meshwright.verify.evaluate import Evaluator

pytestmark = pytest.mark.lab

ALLOW = ["peers tcp 25565", "10.43.0.0/16 tcp 443", "10.43.0.0/16 udp 53", "10.43.0.0/16 icmp -"]
TABLE = {
    "name": "home",
    "interface": "wg0",
    "mark": 0x100000,
    "format": 1,
    "hub": ["10.66.0.1/32"],
    "masquerade": [],
    "sources": {"10.66.0.2/32": {"peer": "alice", "allow": ALLOW}},
    "inbound": ["192.168.30.0/24 -> 10.66.0.2/32 tcp 22"],
}
LIST = "mount --bind /dev/null /etc/protocols && exec nft -j list table inet home"


@pytest.fixture
def numbers(nft):
    """The table as nft lists it where it knows no protocol by name."""
    nft.run("nft", "delete", "table", "inet", "home")
    nft.load(codec.create(TABLE))
    code, out, error = nft.run("unshare", "-m", "sh", "-c", f"[ ! -e /etc/protocols ] || {LIST}")
    assert code == 0, error
    return json.loads(out or nft.run("nft", "-j", "list", "table", "inet", "home")[1])["nftables"]


def test_nft_does_write_numbers_there(numbers):
    assert [6, 25565] in [e["concat"] for item in numbers for e in elements(item) if "concat" in e]


def elements(item):
    return [e for e in item.get("set", {}).get("elem", ()) if isinstance(e, dict)]


def test_the_table_reads_the_same(numbers):
    assert codec.parse(numbers, "home") == TABLE
    assert codec.transaction(numbers, TABLE) == []


def test_such_a_table_can_be_changed(nft, numbers):
    wanted = {**TABLE, "inbound": [], "sources": {"10.66.0.2/32": {"peer": "alice", "allow": ALLOW[1:]}}}
    nft.load(codec.transaction(numbers, wanted))
    assert codec.parse(nft.objects("home"), "home") == wanted


def test_the_second_evaluator_reads_the_same(nft, numbers):
    named, numbered = Evaluator(nft.objects("home"), "home"), Evaluator(numbers, "home")
    assert numbered.sets == named.sets
    assert numbered.sets
