"""The lab of a mesh file, as values: golden worlds, and what holds for any file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from worlds import FULL, NOW, REFERENCE, read, small

from meshwright.errors import LabError
from meshwright.lab import topology
from meshwright.lab.ground import OUTSIDE
from meshwright.lab.ports import policy_ports

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("file", [REFERENCE, FULL], ids=["reference", "full"])
def test_golden(file: Path, request: pytest.FixtureRequest, update: bool) -> None:
    found = json.dumps(topology.as_json(topology.build(read(file), NOW)), indent=1) + "\n"
    golden = GOLDEN / f"{request.node.callspec.id}.json"
    if update:
        golden.write_text(found)
    assert found == golden.read_text()


def addresses(world: topology.Topology, host: str) -> set[str]:
    return set(world.host(host).addresses)


def test_every_active_device_is_a_host_behind_a_router_of_its_own() -> None:
    world = topology.build(read(FULL), NOW)
    assert set(world.peers) == {"astrid", "bjorn-router", "bjorn-phone"}  # carl is disabled
    wans = [addresses(world, f"{label}.nat") for label in world.peers]
    assert all(not a & b for a in wans for b in wans if a is not b)
    later = topology.build(read(FULL), datetime(2027, 7, 1, tzinfo=UTC))
    assert set(later.peers) == {"bjorn-router", "bjorn-phone"}  # astrid has expired


def test_homes_and_the_internet_overlap_nothing_of_the_mesh(tmp_path: Path) -> None:
    mesh = small(tmp_path, routes="{nodes: 192.168.20.0/24, a: 203.0.113.0/24, b: 172.16.0.0/12, c: 198.18.0.0/15}")
    world = topology.build(mesh, NOW)
    taken = [ip_network(n) for n in ("192.168.20.0/24", "203.0.113.0/24", "172.16.0.0/12", "198.18.0.0/15")]
    for label in world.peers:
        for address in [*addresses(world, f"{label}.nat"), world.host(label).addresses[0]]:
            assert not any(ip_address(address) in n for n in taken), address


def test_a_range_that_the_mesh_takes_as_a_whole_is_left_at_once(tmp_path: Path) -> None:
    """Its networks are far too many to try one by one."""
    mesh = small(
        tmp_path,
        hub='"fd20::20"',
        routes='{nodes: "fd20::/64", taken: "fd6d:6577::/32"}',
        allow="[{from: peers, to: hub, ports: [icmp]}]",
    )
    world = topology.build(mesh, NOW)
    homes = [ip_address(world.host(label).addresses[0]) for label in world.peers]
    assert homes
    assert all(home in ip_network("fd6d:6578::/32") for home in homes)


def test_no_range_left_is_one_sentence(tmp_path: Path) -> None:
    wide = ", ".join(f"r{i}: {n}" for i, n in enumerate(OUTSIDE[4]))
    with pytest.raises(LabError, match="no address range free") as caught:
        topology.build(small(tmp_path, routes=f"{{nodes: 192.168.20.0/24, {wide}}}"), NOW)
    assert caught.value.hint


def test_interface_names_fit_whatever_the_peers_are_called(tmp_path: Path) -> None:
    name = "a" * 60
    world = topology.build(small(tmp_path, peers=f"{{{name}: {{address: 10.100.2.1}}}}", allow="[]"), NOW)
    assert all(len(n) <= 15 for link in world.links for n in (link.a_name, link.b_name))
    assert name in world.peers


def test_a_peer_may_be_called_like_a_host_of_the_house(tmp_path: Path) -> None:
    world = topology.build(small(tmp_path, peers="{gw: {address: 10.100.2.1}}", allow="[]"), NOW)
    assert world.peers == {"gw": "gw.peer"}
    assert len({h.name for h in world.hosts}) == len(world.hosts)


def test_slots_stay_when_peers_come_and_go() -> None:
    assert topology.assign(["a", "b", "c"], {}) == {"a": 0, "b": 1, "c": 2}
    assert topology.assign(["new", "c", "a"], {"a": 0, "b": 1, "c": 2}) == {"a": 0, "c": 2, "new": 1}


def test_a_hub_that_is_dialled_by_its_own_address_needs_no_forward(tmp_path: Path) -> None:
    world = topology.build(small(tmp_path, endpoint="192.168.20.20:51820"), NOW)
    assert "ip daddr 192.168.20.20 meta l4proto udp accept" in world.host("gw").nft
    assert "route add 192.168.20.20 via 203.0.113.2" in world.host("inet").ip


def test_an_address_as_endpoint_is_the_gateways(tmp_path: Path) -> None:
    world = topology.build(small(tmp_path, endpoint="45.80.1.2:51820"), NOW)
    assert world.host("gw").addresses[0] == "45.80.1.2"


def test_a_house_of_ipv6_alone(tmp_path: Path) -> None:
    mesh = small(
        tmp_path,
        hub='"fd20::20"',
        cidr='"fd77::/64"',
        tunnel='"fd77::1"',
        routes='{nodes: "fd20::/64"}',
        peers='{ann: {address: "fd77::a"}}',
        allow="[{from: peers, to: hub, ports: [icmp]}]",
    )
    world = topology.build(mesh, NOW)
    assert all(":" in a for host in world.hosts for a in host.addresses if host.name not in ("pod1", "pod2", "coredns"))
    assert "table ip6 nat" in world.host("ann.nat").nft


@pytest.mark.parametrize(("way", "host", "other"), [("nodes", "node2", "gw"), ("gateway", "gw", "node2")])
def test_return_path(tmp_path: Path, way: str, host: str, other: str) -> None:
    mesh = small(tmp_path, tunnel=f"10.100.0.1\n  return_path: {way}")
    world = topology.build(mesh, NOW)
    route = "route add 10.100.0.0/16 via 192.168.20.20"
    assert route in world.host(host).ip
    assert route not in world.host(other).ip
    assert route not in topology.build(small(tmp_path), NOW).host(host).ip


def test_a_service_without_a_cluster_gets_an_address_of_the_service_range() -> None:
    world = topology.build(read(FULL), NOW)
    (address,) = world.standins["jellyfin"]
    assert address in ip_network("10.96.0.0/16")
    assert str(address) not in {"10.96.0.10", "10.96.7.7"}
    assert f"ip daddr {address} meta l4proto" in world.host("hub").nft


def test_responders_listen_where_the_policy_allows_and_beside_it() -> None:
    ports = policy_ports(read(FULL))
    assert {("udp", 27000), ("udp", 27100), ("udp", 27101), ("tcp", 22), ("tcp", 8080)} <= set(ports)
