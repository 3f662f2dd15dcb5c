"""verify's own looks at a hub, against a real one: sabotage that no plan could mend must not pass."""

from __future__ import annotations

import pytest

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
