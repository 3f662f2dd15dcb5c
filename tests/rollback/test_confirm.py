"""The second call after a write: when it is made, what is said meanwhile, and what becomes of each change."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import click
import pytest

from meshwright import flow
from meshwright.cli import app
from meshwright.errors import HostError
from meshwright.events import Event, Started, silent
from meshwright.io.host import Lost
from meshwright.io.process import Done
from meshwright.plan.plan import Change, Plan
from meshwright.providers.base import Result
from meshwright.providers.hub import Hub

CHANGES = [
    Change("hub/interface/wg1", {"live": {"listen": 1}}, {"live": {"listen": 2}}),
    Change("hub/peer/ham", {"live": {"public_key": "K"}}, None),
]
WRITTEN = [{"id": change.id, "ok": True, "why": "", "hint": "", "attrs": {}} for change in CHANGES]
ARMED = {"results": WRITTEN, "rollback": {"until": 1_000_000_000.0, "hear": 2}}
BACK = {"state": "back", "at": 1_000_000_000.0, "restored": ["hub/interface/wg1"], "error": ""}
GOING = {"state": "going", "why": "none of 2 active peers was heard after the change"}
Answer = dict[str, Any] | HostError


@dataclass(frozen=True)
class Script:
    """A host that answers by the book: one answer per call; `asked` is (operation, payload, how new the connection)."""

    answers: Iterator[Answer]
    asked: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    age: int = 0
    near: bool = False
    name: str = "hub-1"
    python: str = "python3"

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        document = json.loads(zlib.decompress(stdin))
        self.asked.append((document["operation"], document["payload"], self.age))
        answer = next(self.answers)
        if isinstance(answer, HostError):
            raise answer
        return Done(0, f"{document['mark']}{json.dumps(answer)}{document['mark']}".encode(), "")

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError

    def fresh(self) -> Script | None:
        return None if self.near else replace(self, age=len(self.asked) + 1)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshwright.providers.confirm.PAUSE", 0.0)
    monkeypatch.setattr("meshwright.providers.confirm.LATE", 0.0)


def applied(
    *answers: dict[str, Any] | HostError, near: bool = False, patience: float = 0.2
) -> tuple[list[Result], Script, list[str]]:
    """The results, the host with what it was asked, and what was said. The last answer repeats."""

    def play() -> Iterator[Answer]:
        yield from answers
        while True:
            yield answers[-1]

    host = Script(play(), near=near)
    told: list[Event] = []
    results = Hub(host, "wg1", "t", patience=patience).apply(CHANGES, told.append)
    return results, host, [event.what for event in told if isinstance(event, Started)]


def result(**answer: Any) -> dict[str, Any]:
    return {"result": answer}


def test_near_nothing_is_armed() -> None:
    results, host, _ = applied(result(results=WRITTEN), near=True)
    assert all(result.ok for result in results)
    ((operation, payload, _),) = host.asked
    assert operation == "write"
    assert "rollback" not in payload


def test_over_a_network_one_more_call_over_a_new_connection() -> None:
    results, host, told = applied(result(**ARMED), result(state="kept"))
    assert all(result.ok for result in results)
    (_, write, old), (operation, confirm, new) = host.asked
    assert (operation, old) == ("rollback.confirm", 0)
    assert new
    assert confirm["token"] == write["rollback"]["token"]
    assert told == ["waiting to hear one of 2 active peers again; else hub-1 rolls back at 01:46:40 UTC"]


def test_a_reason_spares_the_peers() -> None:
    todo = Plan(tuple(CHANGES), "digest")
    for force in (None, "all peers get a new conf"):
        host = Script(iter([result(**ARMED), result(state="kept")]))
        flow.apply(todo, {"hub": Hub(host, "wg1", "t")}, silent, force)
        assert host.asked[0][1]["rollback"]["insist"] is not bool(force)


def test_each_write_has_a_token_of_its_own() -> None:
    tokens = {applied(result(**ARMED), result(state="kept"))[1].asked[0][1]["rollback"]["token"] for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) == 32 for token in tokens)


def test_nobody_is_heard() -> None:
    results, host, told = applied(result(**ARMED), result(**GOING), result(**GOING), result(**BACK), patience=60)
    interface, peer = results
    assert not interface.ok
    assert interface.why == f"rolled back by hub-1 at 01:46:40 UTC: {GOING['why']}"
    assert interface.hint
    assert peer.ok  # who was removed stays so
    assert told[-1] == f"{GOING['why']}; hub-1 rolls back now"
    ages = [age for _, _, age in host.asked]
    assert len(set(ages)) == len(ages)  # each try over a connection of its own


def test_what_could_not_be_put_back_is_said() -> None:
    results, _, _ = applied(result(**ARMED), result(**{**BACK, "error": "nft: no"}))
    assert "(not all of it: nft: no)" in results[0].why


def test_the_hub_cannot_be_reached_any_more() -> None:
    results, _, told = applied(result(**ARMED), HostError("hub-1: no route to host"))
    assert {result.ok for result in results} == {False}
    assert all(
        "no route to host" in result.why and "rolls back by itself at 01:46:40 UTC" in result.why for result in results
    )
    assert "hub-1 rolls back by itself at 01:46:40 UTC" in told[-1]


def test_reached_again_in_time_it_stands() -> None:
    results, _, _ = applied(result(**ARMED), HostError("hub-1: timeout"), result(state="kept"), patience=60)
    assert all(result.ok for result in results)


def test_reached_again_too_late_it_was_rolled_back() -> None:
    results, _, _ = applied(result(**ARMED), HostError("hub-1: timeout"), result(**BACK), patience=60)
    assert [result.ok for result in results] == [False, True]
    assert "timeout" in results[0].why


def test_refused_there_is_nothing_to_confirm() -> None:
    refused = [{**WRITTEN[0], "ok": False, "why": "changed since the plan"}, WRITTEN[1]]
    for answer in (
        result(results=refused),
        {"error": "an apply of ann@desk has not been confirmed yet", "hint": "wait"},
    ):
        results, host, _ = applied(answer)
        assert not results[0].ok
        assert len(host.asked) == 1


def test_the_answer_was_lost_and_nothing_had_begun() -> None:
    results, host, _ = applied(Lost("hub-1: the connection broke"), result(state="none"))
    assert all(not result.ok and result.why.startswith("hub-1: the connection broke") for result in results)
    assert len(host.asked) == 2


def test_the_answer_was_lost_and_it_was_rolled_back() -> None:
    results, _, _ = applied(Lost("hub-1: the connection broke"), result(**BACK))
    assert [result.why.split(" ")[0] for result in results] == ["rolled", "unknown:"]


def test_the_answer_was_lost_and_it_stands() -> None:
    there = {"resources": {"hub/interface/wg1": {"live": {"listen": 2}}}, "peers": {}}
    results, host, _ = applied(Lost("hub-1: the connection broke"), result(state="kept"), result(**there))
    assert all(result.ok for result in results)
    assert results[0].attrs == {"live": {"listen": 2}}
    assert [operation for operation, _, _ in host.asked] == ["write", "rollback.confirm", "read"]


def test_interrupted_it_says_what_the_hub_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", interrupt)
    host = Script(iter([result(**ARMED), HostError("hub-1: timeout")]))
    with pytest.raises(KeyboardInterrupt, match=r"it rolls that back by \d\d:\d\d:\d\d UTC; then run"):
        Hub(host, "wg1", "t").apply(CHANGES, silent)


def test_interrupted_before_the_hub_answered_nobody_says_that_something_was_written() -> None:
    """It may be waiting for somebody else's apply all the time."""

    def play() -> Iterator[Answer]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt, match=r"^nobody knows whether .* rolls back 45 s later; then run") as caught:
        Hub(Script(play()), "wg1", "t", patience=45).apply(CHANGES, silent)
    assert "was written on the hub: it rolls" not in str(caught.value)


def interrupt(_: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("words", "said"), [("it rolls back", "it rolls back"), ("", "whatever was done is done")])
def test_the_command_line_repeats_it(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise click.Abort from KeyboardInterrupt(words) if words else None

    monkeypatch.setattr(app.cli, "main", stop)
    assert app.run(["plan"]) == app.INTERRUPTED
    assert f"interrupted; {said}" in capsys.readouterr().err
