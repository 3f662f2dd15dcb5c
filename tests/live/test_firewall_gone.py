"""Without the table the mesh is closed, not open: a flush, a stop, a restart and a reload of the hub's own firewall."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from scene import Stage, counted, document, rule, staged, wait

from meshwright.io.host import service

pytestmark = pytest.mark.lab

NAME, HUB, NODE, POD, POD6, CARL, CARL6 = (
    "live-gone", "10.90.0.1", "192.168.20.21", "10.42.0.10", "fd42::a", "10.90.1.3", "fd90::1:3",
)  # fmt: skip
FORBIDDEN, ALLOWED, SHUT = 7777, 7060, 8080
RULES = (rule("peers", "nodes", f"{ALLOWED}/udp"), rule("peers", "hub", "icmp"))
OPEN = rule("anna", "any", f"{FORBIDDEN}/udp")
PLACES = {"node2": NODE, "pod1": POD, "carl": CARL}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gone"), document(NAME, *RULES)) as it:
        service(it.hub, "nftables", "start")
        it.apply(it.mesh)  # Debian's own rules came with a flush
        yield it


@pytest.fixture(params=[0, 1, 2], ids=lambda value: f"rp_filter {value}")
def filtering(stage: Stage, request: pytest.FixtureRequest) -> Iterator[int]:
    stage.sh("hub", f"for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {request.param} > $f; done")
    stage.apply(stage.mesh)
    yield request.param
    stage.quiet()


def handshakes(stage: Stage) -> dict[str, tuple[str, int]]:
    """public key -> endpoint and time of the last handshake, as the hub's device has them."""
    interface = stage.mesh.hub.interface
    ends = [line.split() for line in stage.sh("hub", f"wg show {interface} endpoints").splitlines()]
    times = [line.split() for line in stage.sh("hub", f"wg show {interface} latest-handshakes").splitlines()]
    last = {key: int(when) for key, when in times}
    return {key: (end, last[key]) for key, end in ends}


def flush(stage: Stage) -> None:
    stage.sh("hub", "nft flush ruleset")


def act(*actions: str) -> Callable[[Stage], None]:
    def go(stage: Stage) -> None:
        for action in actions:
            service(stage.hub, "nftables", action)  # type: ignore[arg-type]

    return go


WAYS = {"flush": flush, "reload": act("reload"), "restart": act("restart"), "stop and start": act("stop", "start")}
TARGETS = [
    [NODE, FORBIDDEN, ""],
    [POD, FORBIDDEN, ""],
    [POD6, FORBIDDEN, ""],
    [CARL, FORBIDDEN, ""],
    [CARL6, FORBIDDEN, ""],
]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_forbidden_gets_in_while_the_table_is_gone(stage: Stage, filtering: int, way: str) -> None:
    came = counted(stage, list(PLACES), [FORBIDDEN])
    before = handshakes(stage)
    own = stage.start("anna", "flood", to=[[HUB, SHUT, ""]], rate=200).ready()
    flood = stage.start("anna", "flood", to=TARGETS, rate=1000).ready()
    good = stage.start("bert", "flood", to=[[NODE, ALLOWED, ""]], rate=50).ready()
    assert wait(lambda: good.heard > 5)
    assert own.heard == 0, "the hub's own port was open before"
    begun, sent = time.monotonic(), flood.now["sent"]
    WAYS[way](stage)
    assert wait(lambda: flood.now["sent"] > sent + 1000)
    if way == "flush":
        assert gone(stage) == {f"hub/table/{stage.mesh.table}", f"hub/inbound/{stage.mesh.table}"} | {
            f"hub/rights/{prefix}" for prefix in prefixes(stage)
        }
        stage.apply(stage.mesh)
    assert stage.left() == []
    again = good.heard
    assert wait(lambda: good.heard > again + 10), "what is allowed did not come back"
    opened, last = own.heard, own.now["last"]
    time.sleep(0.5)
    assert own.heard == opened, "the hub's own port stayed open"
    assert came() == dict.fromkeys(PLACES, 0), "a forbidden packet was passed on"
    after = handshakes(stage)
    assert {key: end for key, (end, _) in after.items()} == {key: end for key, (end, _) in before.items()}
    assert all(after[key][1] >= when for key, (_, when) in before.items())
    answers = f"{last - begun:.2f} s, {opened} answers" if opened else "never open"
    print(f"\n{way}, rp_filter {filtering}: the hub's own ports until closed again: {answers}")


def prefixes(stage: Stage) -> set[str]:
    return {f"{a}/{a.max_prefixlen}" for device in stage.mesh.devices for a in device.addresses}


def gone(stage: Stage) -> set[str]:
    """What the plan wants; every change of it must be the live half alone."""
    changes = stage.look(stage.mesh).todo.changes
    for change in changes:
        assert change.before["live"] is None, change.id
        assert change.before["saved"] == change.wanted["saved"], change.id
    return {change.id for change in changes}


def test_the_counters_would_have_seen_it(stage: Stage) -> None:
    """The twin that must fail: with the right, the same packets arrive everywhere; without the rule, after a flush."""
    came = counted(stage, list(PLACES), [FORBIDDEN])
    stage.apply(document(NAME, *RULES, OPEN))
    stage.start("anna", "flood", to=TARGETS, rate=200).ready()
    assert wait(lambda: all(came().values())), came()
    stage.apply(document(NAME, *RULES))
    interface = stage.mesh.hub.interface
    stage.sh(
        "hub", f"for f in -4 -6; do ip $f rule del iif {interface} fwmark 0/{stage.mesh.hub.mark:#x} prohibit; done"
    )
    stage.sh("hub", "nft flush ruleset")
    came = counted(stage, list(PLACES), [FORBIDDEN])
    assert wait(lambda: all(came()[host] for host in ("pod1", "carl"))), came()
    stage.quiet()
    stage.apply(stage.mesh)
    assert stage.left() == []
