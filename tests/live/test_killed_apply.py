"""`meshwright apply` killed at any moment, and two of them at once: never an open door, and the next apply mends it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from scene import BASE, Document, End, Flows, Stage, command, document, rule, silent, staged, wait

pytestmark = pytest.mark.lab

NAME, NODE, POD, CARL = "live-killed", "192.168.20.21", "10.42.0.10", "10.90.1.3"
FIRST, SECOND = "10.90.1.1", "10.90.1.2"
ROUNDS = 12
# anna may never do what bert may, nor he what she may, whichever of the two addresses each of them has
RULES = (
    rule("anna", "nodes", "7101-7109/udp"),
    rule("bert", "pods", "7102-7109/udp"),
    rule("carl", "nodes", "7120-7122/udp"),
)
PEERS = BASE["peers"]
ONE = document(NAME, *RULES)
OTHER = document(
    NAME,
    *RULES,
    rule("dora", "nodes", "22/tcp"),
    rule("anna", "services", "53/udp"),
    peers={
        "anna": {"address": [SECOND, "fd90::1:2"]},
        "bert": {"address": [FIRST, "fd90::1:1"]},
        "carl": PEERS["carl"],
        "dora": {"address": ["10.90.1.4"], "lan": ["198.51.100.0/24"]},
    },
)
ANNA = [[to, port, source] for source in (FIRST, SECOND) for to, port in ((POD, 7105), (CARL, 7104), (NODE, 7111))]
BERT = [[to, port, source] for source in (FIRST, SECOND) for to, port in ((NODE, 7105), (CARL, 7104), (POD, 7112))]
ENDS = (("node2", 7105), ("node2", 7111), ("pod1", 7105), ("pod1", 7112), ("carl", 7104))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("killed"), ONE) as it:
        for host in ("anna", "bert"):
            for address in (FIRST, SECOND):
                it.sh(host, f"ip address replace {address}/32 dev {host}")
        yield it


@pytest.fixture
def ends(stage: Stage) -> Iterator[list[End]]:
    """Where nothing may arrive, while anna and bert send there all the time; carl's own flow goes on."""
    flows = Flows(stage)
    found = [flows.end(host, protocol="udp", port=port, speak="never", hears="forbidden") for host, port in ENDS]
    flows.end("node2", protocol="udp", port=7121)
    found.append(flows.end("carl", protocol="udp", to=[NODE, 7121], rate=50))
    flows.begin()
    stage.start("anna", "flood", to=ANNA, rate=300).ready()
    stage.start("bert", "flood", to=BERT, rate=300).ready()
    assert silent(found[-1]) == []
    yield found[:-1]
    stage.quiet()


def test_the_ends_would_have_heard(stage: Stage, ends: list[End]) -> None:
    """The twin that must fail: with rights to everything all of them hear."""
    stage.apply(document(NAME, *RULES, rule("peers", "any", "7100-7119/udp")))
    try:
        assert wait(lambda: all(end.heard for end in ends)), [end.name for end in ends if not end.heard]
    finally:
        stage.apply(ONE)


def apply(stage: Stage, file: Path) -> subprocess.Popen[bytes]:
    return command(stage.folder, "-f", str(file), "--lab", "apply", "--yes", "--force", "a test")


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def kill(process: subprocess.Popen[bytes], whole: bool) -> bool:
    """Kill the command, and whether it was still at work; `whole`: also what runs on the hub, or that lives on."""
    working = process.poll() is None
    for pid in family(process.pid) if whole else [process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(10)
    return working


def writing(stage: Stage) -> int:
    """When the hub's lock was last taken, in nanoseconds: the moment at which a write begins."""
    lock = Path(f"/proc/{stage.hub.pid}/root/run/meshwright-{stage.mesh.hub.interface}.lock")
    return lock.stat().st_mtime_ns


def begins(stage: Stage, before: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the command writes to the hub."""
    return wait(lambda: writing(stage) != before or process.poll() is not None, 60) and writing(stage) != before


def test_killed_at_any_moment(stage: Stage, ends: list[End]) -> None:
    files = {True: stage.file(ONE), False: stage.file(OTHER)}
    before, process = writing(stage), apply(stage, files[False])
    assert begins(stage, before, process)
    begun = time.monotonic()
    assert process.wait(60) == 0
    whole = time.monotonic() - begun
    hit, left = 0, []
    for number in range(ROUNDS):
        wanted = ONE if number % 2 == 0 else OTHER
        before, process = writing(stage), apply(stage, files[wanted is ONE])
        assert begins(stage, before, process)
        time.sleep(0.35 * whole * number / ROUNDS)  # what follows is the gateway and the report
        hit += kill(process, whole=number % 3 < 2)
        left.append(mended(stage, wanted))
        assert [end.name for end in ends if end.heard] == [], number
    print(f"{hit} of {ROUNDS} were killed at work; changes left over: {left}")
    assert hit > ROUNDS / 2


def mended(stage: Stage, wanted: Document) -> int:
    """Apply as somebody would whose last apply died, once more if what was left of it still wrote -> changes left."""
    mesh = stage.load(wanted)
    view = first = stage.look(mesh)
    for _ in range(3):
        failed = stage.write(view)
        if not failed:
            break
        assert all("changed since the plan" in why or "not tried" in why for why in failed), failed
        view = stage.look(mesh)
    stage.mesh = mesh
    assert stage.left() == []
    return len(first.todo.changes)


def test_two_at_once(stage: Stage, ends: list[End]) -> None:
    """Each is written whole or refused; the hub is never a mixture of two files."""
    stage.apply(
        document(NAME, *RULES, rule("dora", "nodes", "23/tcp"), peers={**PEERS, "dora": {"address": "10.90.1.5"}})
    )
    meshes = [stage.load(ONE), stage.load(OTHER)]
    runs = [apply(stage, stage.file(wanted)) for wanted in (ONE, OTHER)]
    codes = [run.wait(90) for run in runs]
    assert 0 in codes
    left = [[c.id for c in stage.look(mesh).todo.changes if c.system == "hub"] for mesh in meshes]
    assert [] in [rest for rest, code in zip(left, codes, strict=True) if code == 0], (codes, left)
    assert [end.name for end in ends if end.heard] == []
    for mesh in reversed(meshes):
        stage.apply(mesh)
        assert stage.left() == []


EDITS = {
    "allowed IPs": "wg set wg4 peer $(wg show wg4 allowed-ips | grep 10.90.1.1/ | cut -f1) allowed-ips 10.90.1.77/32",
    "a right": "nft add element inet live_killed $(nft list table inet live_killed | grep -B3 7101-7109 | "
    "sed -n 's/.*set \\(role[^ ]*\\) .*/\\1/p') '{ 10.42.0.0/16 . udp . 7105 }'",
    "a source": "nft delete element inet live_killed hosts4 '{ 10.90.1.2 }'",
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_foreign_edit_between_plan_and_apply(stage: Stage, edit: str) -> None:
    stage.apply(ONE)
    view = stage.look(stage.load(OTHER))
    stage.sh("hub", EDITS[edit])
    before = stage.sh("hub", "nft -s list ruleset; wg show wg4 allowed-ips | sort")
    failed = stage.write(view)
    assert any("changed since the plan" in why for why in failed), failed
    assert stage.sh("hub", "nft -s list ruleset; wg show wg4 allowed-ips | sort") == before, "a refused plan wrote"
    refused = command(stage.folder, "-f", str(stage.file(OTHER)), "--lab", "apply", view.todo.digest)
    assert refused.wait(60) != 0
    mended(stage, OTHER)


def test_an_interrupted_lab_up(stage: Stage) -> None:
    """Killed or interrupted while it builds, `lab up` begins anew; `lab down` leaves nothing."""
    peer = {"anna": PEERS["anna"]}
    wanted = document("live-broken", rule("anna", "nodes", "icmp"), peers=peer)
    file = str(stage.file(wanted))
    for number, moment in enumerate((0.8, 1.6, 2.4)):
        up = command(stage.folder, "-f", file, "lab", "up")
        time.sleep(moment)
        if number == 1:
            os.killpg(up.pid, signal.SIGINT)
            up.wait(60)
        else:
            kill(up, whole=True)
    assert command(stage.folder, "-f", file, "lab", "up").wait(120) == 0
    ping = ("lab", "exec", "anna", "ping", "-c", "3", "-W", "5", NODE)
    assert command(stage.folder, "-f", file, *ping).wait(60) == 0
    assert command(stage.folder, "-f", file, "lab", "down").wait(60) == 0
    assert not (stage.folder / "state/meshwright/lab/live-broken").exists()
    words = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in words if str(stage.folder).encode() in line and b"live-broken" in line]
