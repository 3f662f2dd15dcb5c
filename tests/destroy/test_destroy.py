"""destroy leaves no trace: after a whole apply, after half of one, and twice in a row; and touches nobody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from traces import difference, seen

from meshwright import flow
from meshwright.cli import app, world
from meshwright.events import silent
from meshwright.io.host import HostError, Namespace, remote, service
from meshwright.providers import table
from meshwright.providers.table import Places
from meshwright.spec import load
from support import machine

pytestmark = pytest.mark.lab

MESH = """version: 1
name: house-two
hub: {node: hub, address: 192.168.20.20, interface: wg1, endpoint: "vpn.example.net:51821", connection: {kind: local}}
network: {cidr: [10.8.0.0/24, "fd08::/64"], hub: [10.8.0.1, "fd08::1"]}
peers:
  ham: {address: [10.8.0.2, "fd08::2"], preshared_key: true}
  bryce: {address: 10.8.0.3, lan: 192.168.77.0/24}
policy: {allow: [{from: peers, to: peers, ports: [icmp]}]}
gateway: {kind: nftables, connection: {kind: ssh, host: router}, wan: wan0}
"""


class House:
    """A mesh folder whose hub and router are machines of namespaces, and the command line in it."""

    def __init__(self, hub: Namespace, router: Namespace, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.hub, self.router, self.folder, self.capsys = hub, router, folder, capsys
        self.file = folder / "mesh.yaml"
        self.file.write_text(MESH)
        self.before = self.traces()

    def traces(self) -> dict[str, list[str]]:
        hub, router = (seen(self._run(host), systemd=False) for host in (self.hub, self.router))
        return {
            f"{name} {part}": lines
            for name, found in (("hub", hub), ("router", router))
            for part, lines in found.items()
        }

    def _run(self, host: Namespace):
        def run(*argv: str) -> bytes:
            done = host.run(list(argv), timeout=60)
            assert done.code == 0, (argv, done.err)
            return done.out

        return run

    def places(self, mesh: load.Mesh) -> Places:
        return Places(self.hub, (self.router, "wan0"), self.folder / ".meshwright", self.folder / "clients", {})

    def apply(self) -> None:
        mesh = load.load(self.file).mesh
        places = self.places(mesh)
        providers = table.providers(mesh, places)
        view = flow.look(mesh, providers, places, silent)
        results = flow.apply(view.todo, providers, silent)
        assert not [result for result in results if not result.ok]

    def destroy(self, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
        def real(mesh: load.Mesh, folder: Path, terminal: object = None) -> Places:
            return self.places(mesh)

        monkeypatch.setattr(world.table, "real", real)
        code = app.run(["destroy", "--file", str(self.file), *words])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err


@pytest.fixture
def house(hub_host: Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[House]:
    with machine("router") as router:
        yield House(hub_host, router, tmp_path, capsys)


def sh(host: Namespace, script: str) -> str:
    done = host.run(["sh", "-c", script], timeout=30)
    assert done.code == 0, (script, done.err)
    return done.out.decode().strip()


def test_no_trace_is_left_and_twice_is_once(house, monkeypatch):
    house.apply()
    private = sh(house.hub, "wg show wg1 private-key")
    confs = {p.name: p.read_bytes() for p in (house.folder / "clients").iterdir()}
    assert set(difference(house.before, house.traces())) >= {
        "hub files",
        "hub nft",
        "hub rules",
        "hub links",
        "router files",
    }
    code, said, err = house.destroy(monkeypatch, "--yes", "house-two")
    assert code == 0, err
    assert "- hub/interface/wg1" in said
    assert private not in said + err
    assert difference(house.before, house.traces()) == {}
    assert {p.name: p.read_bytes() for p in (house.folder / "clients").iterdir()} == confs
    assert len(list((house.folder / ".meshwright/keys").iterdir())) == 2
    code, said, err = house.destroy(monkeypatch, "--yes", "house-two")
    assert code == 0, err
    assert "nothing of the mesh house-two is there" in said
    assert difference(house.before, house.traces()) == {}
    house.apply()


@pytest.mark.parametrize("wrong", [[], ["--yes", "house"], ["--yes", ""], ["--output", "json"]])
def test_without_the_meshs_name_nothing_is_touched(house, monkeypatch, wrong):
    house.apply()
    there = house.traces()
    code, out, err = house.destroy(monkeypatch, *wrong)
    assert code == 1
    assert "house-two" in out + err
    assert difference(there, house.traces()) == {}


HALVES = {
    "no interface": "ip link del wg1",
    "no conf": "rm /etc/wireguard/wg1.conf",
    "no table": "nft delete table inet house_two",
    "no saved table": "rm /etc/meshwright/house_two.json",
    "no rule": "ip rule del priority 10; ip -6 rule del priority 10",
    "no unit": "rm /etc/systemd/system/meshwright-house_two.service",
    "half written": "touch /etc/wireguard/.wg1.conf.meshwright /etc/meshwright/.house_two.json.meshwright"
    " /etc/systemd/system/.meshwright-house_two.service.meshwright",
}


def test_half_an_apply_goes_as_well(house, monkeypatch):
    for what, script in HALVES.items():
        house.apply()
        # an apply starts it last of all, and it would bring the interface back between destroy's look and its write
        service(house.hub, "meshwright-hubd-house_two", "stop")
        sh(house.hub, script)
        code, _, err = house.destroy(monkeypatch, "--yes", "house-two")
        assert code == 0, (what, err)
        assert difference(house.before, house.traces()) == {}, what


def test_what_somebody_else_put_there_stays(house, monkeypatch):
    house.apply()
    sh(house.hub, "nft add table inet other; echo x >/etc/meshwright/notes; ip rule add iif wg9 prohibit")
    sh(house.hub, "umask 077; echo '[Interface]' >/etc/wireguard/wg9.conf")
    code, said, err = house.destroy(monkeypatch, "--yes", "house-two")
    assert code == 0, err
    assert "/etc/meshwright" in said
    left = difference(house.before, house.traces())
    assert [line.split()[1] for line in left["hub files"]] == [
        "/etc/meshwright/notes",
        "/etc/wireguard/wg9.conf",
    ]
    assert any("table inet other" in line for line in left["hub nft"])
    assert any("wg9" in line for line in left["hub rules"])


def test_a_hub_of_another_mesh_or_of_nobody_is_refused(house, monkeypatch):
    house.apply()
    there = house.traces()
    house.file.write_text(MESH.replace("house-two", "house-three"))
    code, _, err = house.destroy(monkeypatch, "--yes", "house-three")
    assert code == 1
    assert "nothing there is of the mesh house-three" in err
    house.file.write_text(MESH.replace("hub: {node", f"hub: {{public_key: {'A' * 42}E=, node"))
    code, _, err = house.destroy(monkeypatch, "--yes", "house-two")
    assert code == 1
    assert "but the file pins" in err
    assert difference(there, house.traces()) == {}


def test_the_last_trace_is_not_taken_before_the_mesh_is_gone(house):
    house.apply()
    there = house.traces()
    with pytest.raises(HostError, match="the mesh is still there"):
        remote(house.hub, "clear", {"interface": "wg1", "table": "house_two"})
    assert difference(there, house.traces()) == {}
    assert service(house.hub, "wg-quick@wg1", "status")["active"]
    assert json.loads(sh(house.hub, "cat /etc/meshwright/house_two.json"))
