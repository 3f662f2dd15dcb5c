"""Meshes of many forms come up, leave nothing to plan, and are what their file says, packet by packet."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from scene import Document, Stage, staged

from meshwright.lab import attempts, matrix
from meshwright.spec.load import load
from meshwright.spec.model import Mesh

pytestmark = pytest.mark.lab

FULL = Path(__file__).parents[1] / "data" / "mesh-full.yaml"
PORTS = ("22/tcp", "53/udp", "443/tcp", "7000-7005/udp", "8000-8010/tcp", "icmp", "tcp", "udp")


def peer(pick: random.Random, number: int, six: bool) -> dict[str, Any]:
    def device(host: int) -> dict[str, Any]:
        addresses = [f"10.91.{number}.{host}", *([f"fd91::{number}:{host}"] if six and pick.random() < 0.7 else [])]
        out: dict[str, Any] = {"address": addresses}
        if pick.random() < 0.3:
            out["lan"] = [f"198.51.{100 + number}.{host * 16}/28"]
        if pick.random() < 0.4:
            out["preshared_key"] = True
        if pick.random() < 0.3:
            out["mtu"] = pick.choice((1280, 1380))
        return out

    if pick.random() < 0.4:
        return {"devices": {"home": device(1), "phone": device(2)}}
    return device(1)


def names(peers: Document) -> list[str]:
    """What rules may name of the peers: themselves, their devices, their LANs."""
    out = list(peers)
    for name, one in peers.items():
        out += [f"{name}/{device}" for device in one.get("devices", ())]
        if any("lan" in each for each in (one, *one.get("devices", {}).values())):
            out.append(f"{name}.lan")
    return out


def generated(seed: int) -> Document:
    """A small mesh, the same for the same seed."""
    pick = random.Random(seed)
    six = pick.random() < 0.6
    peers = {f"friend{number}": peer(pick, number, six) for number in range(1, pick.randint(3, 5))}
    for one in peers.values():
        if pick.random() < 0.5:
            one["groups"] = ["gamers"]
    peers["friend1"]["groups"] = ["gamers"]
    sources = [*names(peers), "gamers", "peers", "hub", "pods", "any"]
    targets = [*names(peers), "gamers", "peers", "hub", "nodes", "pods", "services", "store", "10.42.0.0/28"]
    rules = []
    for _ in range(pick.randint(3, 6)):
        some = {"from": pick.choice(sources), "to": pick.choice(targets)}
        rules.append({**some, "ports": sorted(pick.sample(PORTS, pick.randint(1, 3)))} if pick.random() < 0.8 else some)
    return {
        "version": 1,
        "name": f"live-seed-{seed}",
        "hub": {
            "node": "hub-1",
            "address": "192.168.20.20",
            "interface": pick.choice(("wg0", "wg7", "mesh-home")),
            "endpoint": f"hub.example.net:{pick.choice((443, 51820))}",
            "mark": pick.choice((0x100000, 0x400)),
        },
        "network": {
            "cidr": ["10.91.0.0/16", *(["fd91::/64"] if six else [])],
            "hub": ["10.91.0.1", *(["fd91::1"] if six else [])],
            "routes": {
                "nodes": "192.168.20.0/24",
                "pods": ["10.42.0.0/16", *(["fd42::/56"] if six else [])],
                "services": "10.43.0.0/16",
            },
            "dns": "10.43.0.10",
        },
        "peers": peers,
        "services": {"store": {"address": "10.43.0.80", "ports": ["8000/tcp", "7000/udp"]}},
        "policy": {"allow": rules},
    }


def holds(stage: Stage, mesh: Mesh) -> None:
    assert stage.left() == []
    seen = matrix.run(stage.lab, mesh)
    faults = [(row.name, source, c.faults) for row in seen.rows for source, c in row.cells.items() if not c.ok]
    assert not faults, faults
    assert not seen.unproved, seen.unproved
    assert seen.probes > 50
    tried = attempts.run(stage.lab, mesh)
    assert [check for check in tried if not check.ok] == []
    assert len(tried) > 5


def test_the_full_mesh(tmp_path: Path) -> None:
    mesh = load(FULL).mesh
    with staged(tmp_path, mesh) as stage:
        holds(stage, mesh)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_generated_mesh(tmp_path: Path, seed: int) -> None:
    wanted = generated(seed)
    print(wanted)
    with staged(tmp_path, wanted) as stage:
        holds(stage, stage.mesh)
