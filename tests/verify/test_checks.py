"""verify's own looks at a hub, against a real one: sabotage that no plan could mend must not pass."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meshwright.desired.facts import Facts
from meshwright.io.host import Namespace
from meshwright.spec import load
from meshwright.spec.model import Mesh
from meshwright.verify import checks

pytestmark = pytest.mark.lab
OURS = "iif wg7 fwmark 0/0x100000 prohibit"


@pytest.fixture
def mesh() -> Mesh:
    return load.load_text(
        "version: 1\nname: m\n"
        "hub: {node: h, address: 192.0.2.1, interface: wg7, endpoint: 'vpn.example.net:51820'}\n"
        "network: {cidr: 10.7.0.0/24, hub: 10.7.0.1}\n"
    ).mesh


def seen(mesh: Mesh, host: Namespace, *rules: str) -> list[bool]:
    for rule in rules:
        done = host.run(["ip", *rule.split()])
        assert done.code == 0, done.err
    return [check.ok for check in checks.closed(mesh, host)]


@pytest.mark.parametrize(
    "rule",
    [
        "-4 rule add priority 5 iif wg7 lookup main",
        "-4 rule add priority 5 lookup main",
        "-6 rule add priority 9 lookup main",
    ],
)
def test_a_rule_before_the_closing_one_is_named(mesh: Mesh, hub_host: Namespace, rule: str) -> None:
    both = [f"-4 rule add priority 10 {OURS}", f"-6 rule add priority 10 {OURS}"]
    assert seen(mesh, hub_host, *both, rule) == ["-4" not in rule, "-6" not in rule]


def test_other_peoples_rules_are_theirs(mesh: Mesh, hub_host: Namespace) -> None:
    both = [f"-4 rule add priority 10 {OURS}", f"-6 rule add priority 10 {OURS}"]
    others = ["-4 rule add priority 5 iif eth9 lookup main", "-4 rule add priority 20 lookup main"]
    assert seen(mesh, hub_host, *both, *others) == [True, True]


NOW = datetime(2026, 11, 23, tzinfo=UTC)
FRIENDS = {"peers": {"ada": {"address": "10.7.0.2"}, "ben": {"address": "10.7.0.3"}, "eve": {"address": "10.7.0.4"}}}


def test_a_hub_without_its_device_fails(mesh: Mesh) -> None:
    (check,) = checks.handshakes(mesh, Facts(NOW), None)
    assert not check.ok
    assert "wg7" in check.observed


def test_a_friend_who_never_came_is_told_and_not_failed(mesh: Mesh) -> None:
    friends = Mesh.model_validate({**mesh.model_dump(by_alias=True, mode="json", exclude_unset=True), **FRIENDS})
    seen = {"hub/peer/ada": {"handshake": int(NOW.timestamp()) - 7}, "hub/peer/ben": {"handshake": 0}}
    found = {check.name.split()[-1]: check for check in checks.handshakes(friends, Facts(NOW), seen)}
    assert all(check.ok for check in found.values())
    assert found["ada"].observed == "7 s ago"
    assert found["ben"].observed == found["eve"].observed == "never; only a report from the device can tell why"
