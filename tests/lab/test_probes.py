"""What is probed, and how a result is judged: pure."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from worlds import NOW, REFERENCE, read, small

from meshwright.lab import matrix, probes, topology
from meshwright.lab.parts import Target
from meshwright.lab.ports import policy_ports
from meshwright.lab.probes import Probe, Rules, Source
from meshwright.spec.policy import grants

TARGET = Target("node2", "route", "192.168.20.21", "node2", (("tcp", 443), ("tcp", 22)))


def probe(*, allowed: bool, sees: str = "") -> Probe:
    return Probe("ann", "ann", TARGET, "tcp", 443, allowed, "", sees)


@pytest.mark.parametrize(
    ("allowed", "result", "sees", "fault"),
    [
        (True, ("open", "node2 saw 10.100.2.1"), "", ""),
        (True, ("open", "node2 saw 10.100.2.1"), "10.100.2.1", ""),
        (True, ("open", "node2 saw 10.100.2.9"), "10.100.2.1", "arrived as 10.100.2.9 instead of 10.100.2.1"),
        (True, ("open", "pod1 saw 10.100.2.1"), "", "answered by pod1 instead of node2"),
        (True, ("timeout", ""), "", "is allowed but got timeout"),
        (True, ("refused", "Connection refused"), "", "is allowed but got refused"),
        (False, ("timeout", ""), "", ""),
        (False, ("refused", ""), "", ""),
        (False, ("open", "node2 saw 10.100.2.1"), "", "is denied but was answered"),
        (False, ("error", "Network is unreachable"), "", "proves nothing"),
    ],
)
def test_judge(allowed: bool, result: tuple[str, str], sees: str, fault: str) -> None:
    found = matrix.judge(probe(allowed=allowed, sees=sees), result)
    assert (fault in found) if fault else found == ""


def test_rules_say_what_the_file_says(tmp_path: Path) -> None:
    rules = Rules(grants(small(tmp_path), {}, NOW))
    assert rules.allow("10.100.2.1", "192.168.20.21", "tcp", 443)
    assert not rules.allow("10.100.2.1", "192.168.20.21", "tcp", 444)
    assert not rules.allow("10.100.2.1", "192.168.20.21", "udp", 443)
    assert rules.allow("10.100.2.1", "10.100.0.1", "icmp", 0)
    assert not rules.allow("10.100.2.2", "10.100.0.1", "icmp", 0)
    assert not rules.allow("10.100.9.9", "192.168.20.21", "tcp", 443)


def world(count: int) -> tuple[list[Source], list[Target], Rules]:
    mesh = read(REFERENCE)
    targets = [t for t in topology.build(mesh, NOW).targets if t.kind != "peer"]
    ports = policy_ports(mesh)
    names = [(f"p{i}", f"10.100.{3 + i // 200}.{1 + i % 200}") for i in range(count)]
    found = [Target(name, "peer", address, name, ports) for name, address in names]
    sources = [Source(name, name, (address,), (ip_network("10.0.0.0/8"),)) for name, address in names]
    return sources, [*targets, *found], Rules(grants(mesh, {}, NOW))


def test_a_small_mesh_is_probed_whole() -> None:
    sources, targets, rules = world(4)
    chosen = probes.choose(sources, targets, rules, ["kube-dns.example"])
    pairs = {(p.source, p.target.name) for p in chosen}
    assert {(s.name, t.name) for s in sources for t in targets if t.kind == "peer" and t.name != s.name} <= pairs
    assert {p.allowed for p in chosen} == {True, False}
    # what is not routed into the tunnel is no proof of a firewall
    assert not [p for p in chosen if p.target.name == "node2"]


def test_a_large_mesh_is_sampled_and_nobody_is_left_out() -> None:
    sources, targets, rules = world(300)
    chosen = probes.choose(sources, targets, rules, ["kube-dns.example"])
    assert len(chosen) < 30 * len(sources)
    names = {s.name for s in sources}
    assert {p.source for p in chosen} == names
    assert {p.target.name for p in chosen if p.target.kind == "peer"} == names


def test_every_denial_has_a_control_that_asks_the_same() -> None:
    denied, allowed = probe(allowed=False), probe(allowed=True)
    (control,) = probes.controls([denied, denied, allowed], {"ann": "ann"})
    assert (control.target, control.protocol, control.port, control.allowed) == (TARGET, "tcp", 443, True)
    assert control.host == "hub"
    assert probes.controls([allowed], {}) == []


def test_a_fault_makes_the_matrix_red() -> None:
    good = matrix.build([probe(allowed=False)], [("timeout", "")])
    assert good.ok
    assert not matrix.build([probe(allowed=False)], [("open", "node2 saw 10.100.2.1")]).ok
    assert not matrix.build([probe(allowed=False)], [("timeout", "")], ["nothing answers there"]).ok
