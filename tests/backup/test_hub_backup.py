"""The hub's part of a backup: out of one hub, onto an empty one, and never over another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwright import flow
from meshwright.backup import archive, hub
from meshwright.errors import HostError
from meshwright.events import silent
from meshwright.io.host import Namespace, service
from meshwright.plan.plan import Change
from meshwright.providers import table
from meshwright.providers.table import Places
from meshwright.spec import load
from support import machine

pytestmark = pytest.mark.lab

MESH = """version: 1
name: house-two
hub: {node: hub, address: 192.168.20.20, interface: wg1, endpoint: "vpn.example.net:51821", connection: {kind: local}}
network: {cidr: 10.8.0.0/24, hub: 10.8.0.1}
peers:
  ham: {address: 10.8.0.2, preshared_key: true}
  bryce: {address: 10.8.0.3, lan: 192.168.77.0/24}
policy: {allow: [{from: peers, to: peers, ports: [icmp]}]}
"""
IT = ("wg1", "house_two")
CONF = "/etc/wireguard/wg1.conf"


def sh(host: Namespace, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout=30)
    assert done.code == 0, (script, done.err)
    return done.out.decode().strip()


def apply(folder: Path, host: Namespace) -> list[Change]:
    mesh = load.load(folder / "mesh.yaml").mesh
    places = Places(host, None, folder / mesh.secrets.directory, folder / "clients", {})
    providers = table.providers(mesh, places)
    view = flow.look(mesh, providers, places, silent)
    results = flow.apply(view.todo, providers, silent)
    assert not [result for result in results if not result.ok]
    return list(view.todo.changes)


@pytest.fixture
def second() -> Iterator[Namespace]:
    with machine("second") as host:
        yield host


@pytest.fixture
def first(hub_host: Namespace, tmp_path: Path) -> Namespace:
    (tmp_path / "mesh.yaml").write_text(MESH)
    apply(tmp_path, hub_host)
    return hub_host


def confs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "clients").glob("*.conf"))}


def test_the_second_hub_becomes_the_first(first: Namespace, second: Namespace, tmp_path: Path) -> None:
    before, live = confs(tmp_path), sh(first, "wg show wg1 dump | cut -f1,2,4 | sort")
    taken = hub.take(first, *IT)
    assert set(taken) == {hub.CONF, hub.TABLE}
    key = hub.plant(second, *IT, taken)
    assert sh(second, f"stat -c %a {CONF}; grep -c Peer {CONF} || true") == "600\n0"
    assert not service(second, "wg-quick@wg1", "status")["active"]
    assert not service(second, "wg-quick@wg1", "status")["enabled"]
    assert hub.plant(second, *IT, taken) == key  # again, after an interrupt
    for path in (tmp_path / "clients").iterdir():
        path.unlink()
    apply(tmp_path, second)
    assert confs(tmp_path) == before
    assert len(before) == 2
    assert sh(second, "wg show wg1 dump | cut -f1,2,4 | sort") == live
    assert sh(second, "wg show wg1 public-key") == key


def test_what_the_hub_saved_is_in_it_whole(first: Namespace) -> None:
    taken = hub.take(first, *IT)
    assert taken[hub.CONF].decode().strip() == sh(first, f"cat {CONF}")
    assert json.loads(taken[hub.TABLE]) == json.loads(sh(first, "cat /etc/meshwright/house_two.json"))
    backup = archive.Backup("house-two", "mesh.yaml", ".m", "", "", {"mesh.yaml": b""}, {}, taken)
    assert not any(text.decode() in repr(backup) for text in taken.values())


@pytest.mark.parametrize(("there", "said"), [
    (f"wg genkey >/run/k; echo '[Interface]' >{CONF}; echo PrivateKey = $(cat /run/k) >>{CONF}", "with another key"),
    (f"echo '# a note' >{CONF}", "with another key"),
    ("wireguard-go wg1 >/dev/null 2>&1; wg genkey | wg set wg1 private-key /dev/stdin", "with another key"),
    ("ip link add wg1 type bridge", "is no WireGuard interface"),
])  # fmt: skip
def test_another_hub_is_never_written_over(first: Namespace, second: Namespace, there: str, said: str) -> None:
    taken = hub.take(first, *IT)
    sh(second, there)
    before = sh(second, f"cat {CONF} || true")
    with pytest.raises(HostError, match=said) as found:
        hub.plant(second, *IT, taken)
    assert found.value.hint
    assert "(key)" not in found.value.message  # a public one, shown by its first letters
    assert sh(second, f"cat {CONF} || true") == before


def test_another_mesh_on_the_interface_is_never_written_over(first: Namespace) -> None:
    taken = hub.take(first, *IT)
    with pytest.raises(HostError, match="the mesh with the table house_two"):
        hub.plant(first, "wg1", "other", taken)


def test_a_hub_without_a_key_says_so(second: Namespace) -> None:
    with pytest.raises(HostError, match="there is no private key"):
        hub.take(second, *IT)
