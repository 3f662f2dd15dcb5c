"""An API server that is busy, goes away, or is not one: what is sent again, what is not, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import between
from between import Between, Fault
from controlplane import ControlPlane
from meshwright.errors import ClusterError, ConflictError, MeshwrightError
from meshwright.io.cluster import Cluster
from meshwright.lab.cluster import kubeconfig

pytestmark = pytest.mark.cluster


def config_map(name: str, home: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": home}, "data": data}


def folder(home: str) -> str:
    return f"/api/v1/namespaces/{home}/configmaps"


PASSING = {
    "too many requests": between.refuses(429, Retry_After="0"),
    "unavailable": between.refuses(503, Retry_After="0"),
    "bad gateway": between.page(502),
    "cut before": between.cut_before,
    "cut after": between.cut_after,
    "cut within": between.cut_within,
    "garbled": between.garbled,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_may_be_sent_twice_is_sent_again(fault: Fault, way: Between, through: Cluster, home: str) -> None:
    path = f"{folder(home)}/again"
    way.faults = [fault]
    made = through.apply(path, config_map("again", home, a="1"), manager="meshwright", force=True)
    assert made["data"] == {"a": "1"}
    way.faults = [fault]
    assert through.get(path)["data"] == {"a": "1"}
    way.faults = [fault]
    assert through.merge(path, {"data": {"a": None}}, manager="meshwright").get("data", {}) == {}
    way.faults = [fault]
    through.delete(path, uid=made["metadata"]["uid"])
    assert [method for method, _ in way.asked] == ["PATCH"] * 2 + ["GET"] * 2 + ["PATCH"] * 2 + ["DELETE"] * 2


@pytest.mark.parametrize("name", ["unavailable", "cut before", "cut after", "cut within", "garbled"])
def test_what_may_not_be_sent_twice_is_sent_once(name: str, way: Between, through: Cluster, home: str) -> None:
    way.faults = [PASSING[name]]
    with pytest.raises(ClusterError) as raised:
        through.create(f"{folder(home)[: -len('configmaps')]}serviceaccounts/boss/token", {"spec": {}}, manager="m")
    assert len(way.asked) == 1
    if name.startswith("cut"):
        assert "may or may not" in raised.value.hint


@pytest.mark.parametrize("name", ["unavailable", "cut before", "cut after", "cut within", "garbled"])
def test_compare_and_set_is_sent_again_and_never_done_twice(
    name: str, way: Between, through: Cluster, home: str
) -> None:
    """Where the first attempt was done, the second one is a conflict: look at the object."""
    path, done = f"{folder(home)}/once-{len(name)}", name in ("cut after", "cut within", "garbled")
    found = through.create(folder(home), config_map(f"once-{len(name)}", home), manager="m")
    condition = {"resourceVersion": found["metadata"]["resourceVersion"]}
    for write in (
        lambda: through.replace(path, {**found, "data": {"a": "1"}}, manager="m"),
        lambda: through.merge(path, {"metadata": condition, "data": {"a": "2"}}, manager="m"),
    ):
        way.faults = [PASSING[name]]
        if done:
            with pytest.raises(ClusterError) as raised:
                write()
            assert raised.value.status == 409
        else:
            write()
        condition["resourceVersion"] = through.get(path)["metadata"]["resourceVersion"]
    assert through.get(path)["data"] == {"a": "2"}
    assert [method for method, _ in way.asked if method != "GET"] == ["POST", *["PUT"] * 2, *["PATCH"] * 2]
    through.delete(path)


def test_a_create_that_was_turned_away_unread_is_sent_again(way: Between, through: Cluster, home: str) -> None:
    way.faults = [between.refuses(429, Retry_After="0")]
    through.create(folder(home), config_map("turned", home), manager="m")
    through.delete(f"{folder(home)}/turned")
    assert [method for method, _ in way.asked] == ["POST", "POST", "DELETE"]


def test_trouble_that_stays_is_told_in_the_end(way: Between, through: Cluster) -> None:
    way.faults = [between.refuses(503)] * 100
    with pytest.raises(ClusterError, match="not now") as raised:
        through.get("/version")
    assert raised.value.status == 503
    assert 2 < len(way.asked) < 30


def test_a_wait_longer_than_our_patience_is_not_begun(way: Between, through: Cluster) -> None:
    way.faults = [between.refuses(429, Retry_After="3600")]
    with pytest.raises(ClusterError) as raised:
        through.get("/version")
    assert raised.value.status == 429
    assert len(way.asked) == 1


def test_a_server_that_hangs_gets_one_more_chance(
    way: Between, cluster: ControlPlane, boss: str, tmp_path: Path
) -> None:
    path = tmp_path / "hanging"
    kubeconfig.write(path, way.url, cluster.ca, {"token": boss})
    client = Cluster(None, path, patience=0.5)
    client.get("/version")
    way.asked.clear()
    way.faults = [between.hangs(1), between.hangs(1)]
    with pytest.raises(ClusterError, match="nobody answers"):
        client.get("/version")
    assert len(way.asked) == 2
    way.faults = []
    assert client.get("/version")["major"] == "1"


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_is_no_answer_of_an_api_server(status: int, way: Between, through: Cluster) -> None:
    way.faults = [between.page(status)]
    with pytest.raises(ClusterError, match="text/html") as raised:
        through.delete("/api/v1/namespaces/nobody") if status == 404 else through.get("/version")
    assert "<html>" not in str(raised.value)
    assert way.url in str(raised.value)


def test_pages_that_grow_too_old_are_asked_for_anew(
    way: Between, through: Cluster, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshwright.io.cluster.PAGE", 3)
    for number in range(7):
        through.create(folder(home), config_map(f"page-{number}", home), manager="m")
    names = [f"page-{number}" for number in range(7)]
    way.asked.clear()
    listed = through.list(folder(home), field="metadata.namespace=" + home)
    assert [o["metadata"]["name"] for o in listed if o["metadata"]["name"].startswith("page-")] == names
    assert all((o["apiVersion"], o["kind"]) == ("v1", "ConfigMap") for o in listed)
    assert len(way.asked) >= 3
    way.asked.clear()
    way.faults = [between.passes, between.refuses(410)]
    listed = through.list(folder(home), metadata=True)
    assert [o["metadata"]["name"] for o in listed if o["metadata"]["name"].startswith("page-")] == names
    assert not any("data" in o for o in listed)
    assert len(way.asked) == 3
    for name in names:
        through.delete(f"{folder(home)}/{name}")


def test_nobody_there(tmp_path: Path, cluster: ControlPlane) -> None:
    path = tmp_path / "nobody"
    kubeconfig.write(path, "https://127.0.0.1:1", cluster.ca, {"token": "t"})
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1: the connection is refused"):
        Cluster(None, path, patience=0.3).get("/version")
    kubeconfig.write(path, "https://no-such-host.invalid:1", cluster.ca, {"token": "t"})
    with pytest.raises(ClusterError, match=r"not known to DNS|no connection"):
        Cluster(None, path, patience=0.3).get("/version")
    with pytest.raises(ClusterError, match="no-socket"):
        Cluster(None, path, socket=tmp_path / "no-socket", patience=0.3).get("/version")


def test_a_server_that_comes_back_is_waited_for(way: Between, through: Cluster) -> None:
    """Five refusals in a row, then it is there: no word about it."""
    through.get("/version")
    way.faults = [between.cut_before] * 4
    assert through.get("/version")["major"] == "1"
    assert len(way.asked) == 6


def test_what_was_sent_is_in_no_message(way: Between, through: Cluster, home: str, boss: str) -> None:
    hidden = "c2VjcmV0LWtleS1vZi1hLWZyaWVuZC0xMjM0NTY3ODk="
    for fault in [between.cut_after, between.garbled, between.page(500), between.refuses(403), between.refuses(401)]:
        way.faults = [fault, fault]
        with pytest.raises(ClusterError) as raised:
            through.create(folder(home), config_map("hidden", home, key=hidden), manager="m")
        shown = f"{raised.value!r} {raised.value} {raised.value.hint} {vars(through)}"
        assert hidden not in shown
        assert boss not in shown
        way.faults = []
        through.delete(f"{folder(home)}/hidden")


def test_leave_is_asked_before_every_write_and_each_second_attempt(way: Between, through: Cluster, home: str) -> None:
    """As for the lock of a mesh: what is lost meanwhile stops even what was begun."""
    asked: list[int] = []
    client = through.asking(lambda: asked.append(len(way.asked)))
    path, body = f"{folder(home)}/leave", config_map("leave", home)
    client.create(folder(home), body)
    way.faults = [between.refuses(503, Retry_After="0"), between.cut_before]
    client.apply(path, body, manager="meshwright", force=True)
    client.merge(path, {"data": {"a": "1"}}, manager="meshwright")
    client.replace(path, body, manager="meshwright")
    client.get(path)
    client.list(folder(home))
    client.delete(path)
    assert asked == [0, 1, 2, 3, 4, 5, 8], "before each, and not for what only reads"


def test_without_leave_nothing_is_sent(way: Between, through: Cluster, home: str) -> None:
    def no() -> None:
        raise ConflictError("the lock was lost", "try again")

    client = through.asking(no)
    path, body = f"{folder(home)}/leave", config_map("leave", home)
    for write in (
        lambda: client.create(folder(home), body),
        lambda: client.apply(path, body, manager="meshwright"),
        lambda: client.merge(path, body, manager="meshwright"),
        lambda: client.replace(path, body, manager="meshwright"),
        lambda: client.delete(path),
    ):
        with pytest.raises(ConflictError, match="the lock was lost"):
            write()
    assert way.asked == []


@pytest.mark.parametrize(
    ("fault", "said"), [(between.refuses(429, Retry_After="0"), "the lock was lost"), (between.cut_after, "broke")]
)
def test_leave_lost_on_the_way_hides_no_attempt_that_may_have_been_done(
    fault: Fault, said: str, way: Between, through: Cluster, home: str
) -> None:
    def lost_after_one() -> None:
        if way.asked:
            raise ConflictError("the lock was lost", "try again")

    way.faults = [fault]
    with pytest.raises(MeshwrightError, match=said) as raised:
        through.asking(lost_after_one).apply(f"{folder(home)}/lost", config_map("lost", home), manager="meshwright")
    assert len(way.asked) == 1
    assert ("may or may not" in str(raised.value.hint)) == (said == "broke")
