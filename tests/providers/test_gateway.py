"""The nftables gateway against real nft: written, read back, drift seen, back after a reload, gone again."""

from __future__ import annotations

import json

import pytest

from meshwright.desired.resource import Resource, collect
from meshwright.events import silent
from meshwright.io.host import Action, Namespace, service
from meshwright.plan.plan import make
from meshwright.providers.nftables import NftablesGateway

pytestmark = pytest.mark.lab
ID = "gateway/forward/northern-lights"


def forward(**more: object) -> Resource:
    half = {"protocol": "udp", "port": 443, "to": "192.0.2.10", "to_port": 51820, **more}
    return Resource(ID, {"saved": dict(half), "live": dict(half)}, after=("hub/interface/wg1",))


@pytest.fixture
def gateway(hub_host: Namespace) -> NftablesGateway:
    return NftablesGateway(hub_host, "wan0", "northern_lights", "northern-lights")


def apply(gateway: NftablesGateway, *wanted: Resource) -> list[str]:
    """Plan and apply; gives the changed ids."""
    target = collect(wanted)
    todo = make(target, gateway.read(target))
    assert [r.why for r in gateway.apply(todo.changes, silent) if not r.ok] == []
    assert not make(target, gateway.read(target))
    return [change.id for change in todo.changes]


def nft(gateway: NftablesGateway, *words: str) -> None:
    assert gateway.host.run(["nft", *words]).code == 0


def tables(gateway: NftablesGateway) -> list[str]:
    listed = json.loads(gateway.host.run(["nft", "-j", "list", "tables"]).out)["nftables"]
    return [item["table"]["name"] for item in listed if "table" in item]


@pytest.mark.parametrize("to", ["192.0.2.10", "2001:db8::10"])
def test_written_once_and_then_nothing(gateway: NftablesGateway, to: str) -> None:
    assert apply(gateway, forward(to=to)) == [ID]
    assert apply(gateway, forward(to=to)) == []


def test_a_changed_forward_replaces_the_old(gateway: NftablesGateway) -> None:
    apply(gateway, forward())
    apply(gateway, forward(to_port=51821))
    listing = gateway.host.run(["nft", "list", "ruleset"]).out.decode()
    assert "51821" in listing
    assert "51820" not in listing


@pytest.mark.parametrize(
    "edit",
    [
        ["add", "rule", "ip", "northern_lights", "forwards", "tcp", "dport", "22", "dnat", "to", "192.0.2.10"],
        ["flush", "chain", "ip", "northern_lights", "forwards"],
        ["delete", "table", "ip", "northern_lights"],
        ["add", "chain", "ip", "northern_lights", "other"],
    ],
)
def test_someone_elses_edit_is_seen_and_mended(gateway: NftablesGateway, edit: list[str]) -> None:
    apply(gateway, forward())
    nft(gateway, *edit)
    assert apply(gateway, forward()) == [ID]


def test_a_lost_file_is_seen_and_mended(gateway: NftablesGateway) -> None:
    apply(gateway, forward())
    assert gateway.host.run(["rm", "/etc/meshwright/northern_lights-gateway.json"]).code == 0
    assert apply(gateway, forward()) == [ID]


def test_removed_leaves_nothing_and_touches_no_stranger(gateway: NftablesGateway) -> None:
    nft(gateway, "add", "table", "ip", "theirs")
    apply(gateway, forward())
    assert apply(gateway) == [ID]
    assert tables(gateway) == ["theirs"]
    found = gateway.host.run(["find", "/etc/meshwright", "/etc/systemd/system", "-name", "*northern*"]).out
    assert found == b""


@pytest.mark.parametrize("actions", [("reload",), ("restart",), ("stop", "start")])
def test_the_hosts_firewall_brings_it_back(gateway: NftablesGateway, actions: tuple[Action, ...]) -> None:
    gateway.host.put("/etc/nftables.conf", b"flush ruleset\n")
    service(gateway.host, "nftables.service", "start")
    apply(gateway, forward())
    for action in actions:
        service(gateway.host, "nftables.service", action)
    assert tables(gateway) == ["northern_lights"]
    assert apply(gateway, forward()) == []
