"""One apply at a time, seen from a real API server: taken, renewed, given back, lost, taken over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import between
from between import Between
from controlplane import ControlPlane
from meshwright.errors import ClusterError, ConflictError
from meshwright.events import Event, Started, silent
from meshwright.io.cluster import Cluster
from meshwright.providers.kubernetes.lease import NoNamespace, held, lease_name, me

pytestmark = pytest.mark.cluster

NAME = lease_name("io")


@pytest.fixture
def client(cluster: ControlPlane, home: str) -> Iterator[Cluster]:
    client = cluster.connect()
    client.delete(path(home))
    yield client
    client.delete(path(home))
    client.close()


def path(home: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases/{NAME}"


def until(what: object, seconds: float = 15) -> bool:
    """Wait until what() is true."""
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_it_is_held_and_given_back(client: Cluster, home: str) -> None:
    with held(client, home, NAME, "ada@desk", silent) as lock:
        spec = client.get(path(home))["spec"]
        assert spec["holderIdentity"].startswith("ada@desk ")
        assert spec["leaseDurationSeconds"] == 60
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", spec["renewTime"])
        assert not lock.lost
        lock.require()
    assert client.get(path(home))["spec"]["holderIdentity"] == ""
    with held(client, home, NAME, "ben@desk", silent):
        assert client.get(path(home))["spec"]["leaseTransitions"] == 1


def test_it_is_given_back_when_the_work_fails(client: Cluster, home: str) -> None:
    with pytest.raises(KeyboardInterrupt), held(client, home, NAME, "ada@desk", silent):
        raise KeyboardInterrupt
    assert client.get(path(home))["spec"]["holderIdentity"] == ""


def test_the_second_is_told_who_since_when_and_how_long(client: Cluster, home: str) -> None:
    with held(client, home, NAME, me(), silent):
        with pytest.raises(ConflictError) as raised, held(client, home, NAME, me(), silent):
            pytest.fail("two at once")
        assert re.match(
            rf"{re.escape(me())} is applying this mesh to the cluster since [-\d]+ [:\d]+ UTC$", raised.value.message
        )
        assert re.search(r"ends by itself in (5\d|60) s", raised.value.hint)
        assert str(os.getpid()) in raised.value.message
        assert client.get(path(home))["spec"]["leaseTransitions"] == 0


@pytest.mark.parametrize("before", ["no lease", "a free lease"])
def test_of_many_at_once_one_wins(before: str, cluster: ControlPlane, client: Cluster, home: str) -> None:
    if before == "a free lease":
        with held(client, home, NAME, "ada@desk", silent):
            pass
    inside, most, refused = [0], [0], []
    start, count, all_tried = threading.Barrier(8), threading.Lock(), threading.Event()

    def work(who: str) -> None:
        own = cluster.connect()
        own.get("/version")
        start.wait()
        try:
            with held(own, home, NAME, who, silent):
                with count:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                all_tried.wait(20)
                with count:
                    inside[0] -= 1
        except ConflictError:
            refused.append(who)
        if len(refused) == 7:
            all_tried.set()

    threads = [threading.Thread(target=work, args=(f"u{number}@h",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert most == [1]
    assert len(refused) == 7


def test_it_is_renewed_for_as_long_as_the_work_takes(client: Cluster, home: str) -> None:
    with held(client, home, NAME, "ada@desk", silent, duration=2) as lock:
        taken = client.get(path(home))["spec"]
        time.sleep(3.5)
        assert not lock.lost
        now = client.get(path(home))["spec"]
        assert now["renewTime"] > taken["renewTime"]
        assert now["acquireTime"] == taken["acquireTime"]
        with pytest.raises(ConflictError), held(client, home, NAME, "ben@desk", silent):
            pytest.fail("two at once")


def test_an_edit_by_others_that_leaves_the_holder_is_no_loss(client: Cluster, home: str) -> None:
    with held(client, home, NAME, "ada@desk", silent, duration=2) as lock:
        client.merge(path(home), {"metadata": {"labels": {"a": "b"}}}, manager="x")
        time.sleep(3)
        assert not lock.lost
    found = client.get(path(home))
    assert found["spec"]["holderIdentity"] == ""
    assert found["metadata"]["labels"] == {"a": "b"}


def test_the_holder_learns_that_it_was_taken_over(client: Cluster, home: str) -> None:
    with held(client, home, NAME, "ada@desk", silent, duration=8) as lock:
        client.merge(path(home), {"spec": {"holderIdentity": "ben@desk 1"}}, manager="x")
        assert until(lambda: lock.lost, 5)
        with pytest.raises(ConflictError, match="was lost"):
            lock.require()
    assert client.get(path(home))["spec"]["holderIdentity"] == "ben@desk 1"


def test_the_holder_learns_that_it_was_removed(client: Cluster, home: str) -> None:
    with held(client, home, NAME, "ada@desk", silent, duration=8) as lock:
        client.delete(path(home))
        assert until(lambda: lock.lost, 5)
    with pytest.raises(ClusterError) as raised:
        client.get(path(home))
    assert raised.value.status == 404


def test_a_server_that_is_away_too_long_is_a_loss(way: Between, through: Cluster, client: Cluster, home: str) -> None:
    with held(through, home, NAME, "ada@desk", silent, duration=2) as lock:
        way.faults = [between.cut_before] * 1000
        time.sleep(0.5)
        assert not lock.lost
        assert until(lambda: lock.lost, 4)
        way.faults = []


def test_a_server_that_is_away_for_a_moment_is_none(way: Between, through: Cluster, client: Cluster, home: str) -> None:
    """Also where the renewal was written and nobody heard of it."""
    with held(through, home, NAME, "ada@desk", silent, duration=4) as lock:
        way.faults = [between.cut_after, between.cut_before, between.refuses(503)]
        assert until(lambda: not way.faults, 8)
        time.sleep(3)
        assert not lock.lost
    assert client.get(path(home))["spec"]["holderIdentity"] == ""


@pytest.mark.parametrize("fault", [between.cut_after, between.cut_before, between.garbled])
def test_taking_it_is_not_lost_on_the_way(
    fault: between.Fault, way: Between, through: Cluster, client: Cluster, home: str
) -> None:
    through.now()
    way.faults = [between.passes, fault]
    with held(through, home, NAME, "ada@desk", silent) as lock:
        assert client.get(path(home))["spec"]["holderIdentity"].startswith("ada@desk ")
        assert not lock.lost
    assert client.get(path(home))["spec"]["holderIdentity"] == ""


def test_who_was_killed_is_followed_after_his_time(
    cluster: ControlPlane, client: Cluster, home: str, tmp_path: Path
) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom meshwright.io.cluster import connect\n"
        "from meshwright.providers.kubernetes.lease import held\n"
        f"with held(connect(kubeconfig=Path({str(cluster.kubeconfig)!r})), {home!r}, {NAME!r}, 'ada@desk', print, 4):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=out, env={"PYTHONPATH": "src"})
    try:
        assert until(lambda: b"held" in (tmp_path / "out").read_bytes(), 30), (tmp_path / "out").read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with pytest.raises(ConflictError, match="ada@desk is applying"), held(client, home, NAME, "ben@desk", silent):
        pytest.fail("the killed one's time is not over")
    told: list[Event] = []

    def taken() -> bool:
        try:
            with held(client, home, NAME, "ben@desk", told.append):
                return client.get(path(home))["spec"]["holderIdentity"].startswith("ben@desk ")
        except ConflictError:
            return False

    assert until(taken)
    assert [event.what for event in told if isinstance(event, Started)] == [
        "Taking over the lock of this mesh on the cluster: ada@desk ended without giving it back"
    ]


def test_our_own_clock_does_not_matter(client: Cluster, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is an hour ahead takes nothing over, and writes the server's time."""
    with held(client, home, NAME, "ada@desk", silent):
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600)
        with pytest.raises(ConflictError), held(client, home, NAME, "ben@desk", silent):
            pytest.fail("two at once")


def test_without_its_namespace_it_is_a_different_error(client: Cluster) -> None:
    with pytest.raises(NoNamespace, match="no namespace io-nowhere"), held(client, "io-nowhere", NAME, "a", silent):
        pytest.fail("held in no namespace")


def test_who_may_not_write_it_is_told(cluster: ControlPlane, client: Cluster, home: str) -> None:
    client_of = cluster.as_(cluster.token("default", "default"))
    with pytest.raises(ClusterError, match="leases") as raised, held(client_of, home, NAME, "a", silent):
        pytest.fail("held without the right to")
    assert raised.value.status == 403
