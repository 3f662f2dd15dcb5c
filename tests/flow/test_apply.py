"""The one loop that writes: batches, order, what a failure stops, and that a second run converges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from meshwright import flow
from meshwright.desired.resource import Resource, Resources, Unknown, collect
from meshwright.errors import ConflictError, GuardError
from meshwright.events import Event, Failed, Tell, silent
from meshwright.plan.plan import Change, make
from meshwright.providers.base import Provider, Result


@dataclass
class Memory:
    """A provider whose world is a dictionary; it invents keys, and breaks where it is told to."""

    system: str
    world: dict[str, Resource] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    batches: list[list[str]] = field(default_factory=list)

    def read(self, wanted: Resources) -> dict[str, Resource]:
        return dict(self.world)

    def apply(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        self.batches.append([change.id for change in changes])
        return [self._apply(change) for change in changes]

    def _apply(self, change: Change) -> Result:
        if change.id in self.broken:
            return Result(change.id, False, why="broken", hint="mend it")
        if change.wanted is None:
            self.world.pop(change.id)
            return Result(change.id, True)
        attrs = {k: f"made-{change.id}" if isinstance(v, Unknown) else v for k, v in change.wanted.items()}
        self.world[change.id] = Resource(change.id, attrs)
        return Result(change.id, True, attrs)


KEY = Unknown("files/key/ada", "public_key")
HUB = Unknown("hub/interface/wg1", "public_key")
WANTED = collect(
    [
        Resource("files/key/ada", {"public_key": KEY}),
        Resource("hub/interface/wg1", {"public_key": HUB}),
        Resource("hub/peer/ada", {"public_key": KEY}, after=("hub/interface/wg1",)),
        Resource("files/client/ada", {"hub_key": HUB}, after=("hub/interface/wg1",)),
    ]
)


@pytest.fixture
def providers() -> dict[str, Memory]:
    return {"files": Memory("files"), "hub": Memory("hub")}


def run(providers: dict[str, Memory], tell: Tell = silent) -> tuple[Result, ...]:
    seam: dict[str, Provider] = dict(providers)
    actual = {id: r for p in providers.values() for id, r in p.world.items()}
    return flow.apply(make(WANTED, actual), seam, tell)


def test_each_system_gets_all_that_is_ready_in_one_batch(providers: dict[str, Memory]) -> None:
    assert all(result.ok for result in run(providers))
    assert providers["files"].batches == [["files/key/ada"], ["files/client/ada"]]
    assert providers["hub"].batches == [["hub/interface/wg1", "hub/peer/ada"]]


def test_what_was_unknown_is_handed_on(providers: dict[str, Memory]) -> None:
    run(providers)
    assert providers["hub"].world["hub/peer/ada"].attrs == {"public_key": "made-files/key/ada"}
    assert providers["files"].world["files/client/ada"].attrs == {"hub_key": "made-hub/interface/wg1"}


def test_a_failure_stops_only_what_stands_on_it(providers: dict[str, Memory]) -> None:
    providers["files"].broken = {"files/key/ada"}
    heard: list[Event] = []
    results = {result.id: result for result in run(providers, heard.append)}
    assert results["hub/interface/wg1"].ok
    assert results["files/client/ada"].ok
    assert not results["hub/peer/ada"].ok
    assert "files/key/ada" in results["hub/peer/ada"].why
    assert {event.id for event in heard if isinstance(event, Failed)} == {"files/key/ada", "hub/peer/ada"}


def test_the_next_run_converges(providers: dict[str, Memory]) -> None:
    providers["hub"].broken = {"hub/peer/ada"}
    run(providers)
    providers["hub"].broken = set()
    run(providers)
    assert set(providers["hub"].world) == {"hub/interface/wg1", "hub/peer/ada"}


def test_only_one_system(providers: dict[str, Memory]) -> None:
    whole = make(WANTED, {})
    part = flow.only(whole, ["files"])
    assert {change.system for change in part.changes} == {"files"}
    assert part.digest != whole.digest
    results = {r.id: r for r in flow.apply(part, dict(providers), silent)}
    assert results["files/key/ada"].ok
    assert "hub/interface/wg1" in results["files/client/ada"].why


def test_a_digest_that_was_not_reviewed_is_refused() -> None:
    todo = make(WANTED, {})
    flow.allow(todo, todo.digest, None)
    with pytest.raises(ConflictError, match="changed since it was reviewed"):
        flow.allow(todo, "000000000000", None)


def test_a_guarded_plan_needs_a_reason() -> None:
    todo = make({}, collect([Resource("hub/interface/wg1", {})]))
    with pytest.raises(GuardError, match="deletes hub/interface/wg1"):
        flow.allow(todo, None, None)
    flow.allow(todo, None, "the hub moves")
