"""What is found is shown by plan, apply and verify, and apply refuses; check says what the way back costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from door import Door
from meshwright.io.host import Namespace

MESH = """\
version: 1
name: home
hub: {node: srv, address: 192.168.30.10, interface: wg0, endpoint: "vpn.example.net:51820", connection: {kind: local}}
network:
  cidr: 10.66.0.0/24
  hub: 10.66.0.1
  routes: {lan: 192.168.30.0/24}
peers:
  alice: {address: 10.66.0.2}
policy:
  allow: [{from: peers, to: lan, ports: [443/tcp, icmp]}]
"""


class Inside(Door):
    """The program, run on the hub itself."""

    def __init__(self, folder: Path, host: Namespace) -> None:
        super().__init__(folder)
        self.host = host
        self.env["PATH"] += ":/usr/sbin:/sbin"

    def command(self, *arguments: str) -> list[str]:
        cd = ["sh", "-c", f'cd {self.folder} && exec "$@"', "sh"]
        return self.host.enter([*cd, *super().command(*arguments)])

    def run(self, *argv: str) -> str:
        done = self.host.run(argv)
        assert done.code == 0, done.err
        return done.out.decode()


BRIDGE = "ip link add docker0 type bridge; ip address add 10.66.0.129/25 dev docker0; ip link set docker0 up"


@pytest.mark.lab
def test_a_fault_of_a_new_hub_is_shown_and_stops_apply(tmp_path: Path, hub_host: Namespace) -> None:
    door = Inside(tmp_path, hub_host)
    door.mesh(MESH)
    door.run("sh", "-ec", BRIDGE)
    plan = door("plan")
    assert (
        "in the way: hub: address overlap: network.cidr 10.66.0.0/24 overlaps 10.66.0.128/25 (docker0)" in plan.stderr
    )
    assert "needs --force and a reason" in plan.stdout
    findings = json.loads(door("plan", "-o", "json").stdout)["findings"]
    assert [(f["name"], f["level"]) for f in findings if f["level"] == "refuse"] == [("address overlap", "refuse")]
    refused = door("apply", "--yes")
    assert refused.returncode == 1
    assert "overlaps 10.66.0.128/25" in refused.stderr
    assert door.run("ls", "/etc/wireguard") == ""
    assert not (tmp_path / ".meshwright").exists()
    assert door("apply", "--yes", "--force", "it goes away tomorrow").returncode == 0
    assert "address overlap" not in door("plan").stderr, "a hub that is set up is not looked at again"
    verify = door("verify")
    assert verify.returncode == 4
    assert "! hub: address overlap" in verify.stdout
    door.run("ip", "link", "delete", "docker0")
    assert "! hub: address overlap" not in door("verify").stdout


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("masquerade", "return path masquerade: hosts in lan see the hub instead of the friend"),
        ("nodes", "return path nodes: every host in lan needs a route to 10.66.0.0/24 by 192.168.30.10"),
        ("gateway", "return path gateway: the gateway of lan needs a static route to 10.66.0.0/24 by 192.168.30.10"),
    ],
)
def test_check_says_what_the_way_back_costs(tmp_path: Path, choice: str, said: str) -> None:
    door = Door(tmp_path)
    door.mesh(MESH.replace("  routes: {lan", f"  return_path: {choice}\n  routes: {{lan"))
    assert said in door("check").stdout
    assert json.loads(door("check", "-o", "json").stdout)["return_path"]["choice"] == choice


def test_check_says_nothing_where_every_answer_comes_by_the_hub_anyhow(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.mesh(MESH.replace("{lan: 192.168.30.0/24}", "{pods: 10.42.0.0/16}").replace("to: lan", "to: pods"))
    assert "return path" not in door("check").stdout
