"""^C while `lab up --kubernetes` is at work, at its most delicate moments; and two of them at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, give_up, inhabitants, obstacle

from meshwright.lab import cgroups, state
from meshwright.lab.cluster import control, node

pytestmark = [pytest.mark.lab, pytest.mark.cluster]
PROGRAMS = {*control.PROGRAMS, *node.RUNNING}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    give_up(obstacle())
    house = House(tmp_path_factory.mktemp("again"))
    try:
        yield house
    finally:
        house("lab", "down")


def begin(house: House) -> subprocess.Popen[bytes]:
    """`lab up --kubernetes` with a session of its own, as on a terminal."""
    with (house.folder / "said").open("wb") as said:
        return subprocess.Popen(
            house.command("lab", "up", "--kubernetes"),
            env=house.env, cwd=house.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip


def interrupted(house: House, at: str, later: float) -> None:
    """Press ^C `later` seconds after it says `at`."""
    process = begin(house)
    try:
        end = time.monotonic() + 90
        while at not in (house.folder / "said").read_text():
            assert process.poll() is None, (house.folder / "said").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(later)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) in (130, -signal.SIGINT, 0), (house.folder / "said").read_text()
    finally:
        process.kill()
        process.wait()


def programs(house: House) -> Counter[str]:
    """How often each program of the cluster runs in the lab."""
    found: Counter[str] = Counter()
    for pid in inhabitants(house.lab.state.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        found.update({Path(word).name for word in words[:2]} & PROGRAMS)
    return found


@pytest.mark.parametrize(
    ("at", "later"),
    [
        ("starting the Kubernetes control plane", 0.3),
        ("making the hub a Kubernetes node", 0.1),
        ("making the hub a Kubernetes node", 0.9),
    ],
)
def test_the_next_up_goes_on_and_nothing_runs_twice(fresh: House, at: str, later: float) -> None:
    interrupted(fresh, at, later)
    fresh.up()
    if fresh.said["no_node"]:
        pytest.skip(fresh.said["no_node"])
    assert programs(fresh) == dict.fromkeys(PROGRAMS, 1)
    assert fresh.json("lab", "status")["kubernetes"]["node_state"] == "Ready"
    assert fresh.changes() == {}
    # what the next case interrupts shall have something to start
    for name in ("kube-scheduler", "containerd", "kubelet", "kube-proxy", "kube-controller-manager", "kube-apiserver"):
        os.kill(fresh.pids()[name], signal.SIGKILL)


def test_two_at_once(fresh: House) -> None:
    one, other = begin(fresh), fresh("lab", "up", "--kubernetes", "--output", "json")
    assert one.wait(120) in (0, 1), (fresh.folder / "said").read_text()
    if other.returncode:
        assert "another command is working on the lab" in other.stdout
    else:
        assert json.loads(other.stdout)["kubernetes"] is True
    assert 0 in (one.returncode, other.returncode)
    fresh.up()
    assert programs(fresh) == dict.fromkeys(PROGRAMS, 1)


def test_what_was_started_and_not_written_down_is_known_all_the_same(fresh: House) -> None:
    before = fresh.pids()
    (fresh.state / "kubernetes/programs.json").unlink()
    fresh.up()
    assert fresh.pids() == before
    assert programs(fresh) == dict.fromkeys(PROGRAMS, 1)


def test_down_after_all_that_leaves_nothing(fresh: House) -> None:
    interrupted(fresh, "looking around", 0.0)
    ours = inhabitants(fresh.lab.state.pid)
    assert fresh("lab", "down").returncode == 0
    assert [pid for pid in ours if state.started(pid)] == []
    part = cgroups.name(fresh.state)
    assert [p for p in Path("/sys/fs/cgroup").glob(f"*/{part}")] == []
    assert str(fresh.folder) not in Path("/proc/self/mountinfo").read_text()
