"""Of two who apply one writes; who loses the lock in the middle writes no more, and says what is not written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from specimen import RBAC, Specimen, many, versions

import between
from between import Between, Fault, Handler
from meshwright.desired.manifest import resource
from meshwright.io.cluster import Cluster
from meshwright.plan.plan import Plan
from meshwright.providers import kubernetes
from meshwright.providers.kubernetes.lease import held
from meshwright.providers.kubernetes.waves import AT_ONCE

pytestmark = pytest.mark.cluster
BEFORE = 40


class Thief:
    """Takes the lock over after BEFORE writes, and lets the next go on only when its holder has had to notice."""

    def __init__(self, home: Specimen, way: Between, part: str) -> None:
        self._home, self._part = home, part
        self._seen, self._noticed = 0, threading.Event()
        self._stolen = threading.Lock()
        way.rule = self.rule

    def rule(self, handler: Handler) -> Fault:
        if handler.command == "GET" and "/leases/" in handler.path and self._seen >= BEFORE:
            return self._told
        if handler.command != "GET" and self._part in handler.path:
            self._seen += 1
            if self._seen > BEFORE:
                return self._late
        return between.passes

    def _told(self, handler: Handler) -> None:
        between.passes(handler)
        time.sleep(0.3)  # what is done with the answer
        self._noticed.set()

    def _late(self, handler: Handler) -> None:
        with self._stolen:
            if not self._noticed.is_set():
                self._home.steal()
        assert self._noticed.wait(30)
        between.passes(handler)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is renewed every two seconds, and a busy machine may come late to it: it is lost to a thief alone."""
    monkeypatch.setattr(kubernetes, "held", partial(held, duration=8))


def writes(way: Between, part: str) -> int:
    return sum(method != "GET" and part in path for method, path in way.asked)


def interrupted(home: Specimen, client: Cluster, todo: Plan, way: Between, part: str) -> list[str]:
    """Apply with the lock stolen in the middle: what was not written."""
    Thief(home, way, part)
    results = {r.id: r for r in home.provider(client).apply(todo.changes, lambda event: None)}
    assert list(results) == [change.id for change in todo.changes]
    failed = {id: r for id, r in results.items() if not r.ok}
    assert all("lock" in r.why and "was lost" in r.why and "meshwright plan" in r.hint for r in failed.values())
    assert BEFORE < writes(way, part) <= BEFORE + AT_ONCE, "what was on its way; nothing after"
    assert home.holder() == "eve", "not given back: it is not ours"
    return list(failed)


@pytest.mark.usefixtures("quick")
def test_nothing_is_created_after_the_lock_is_lost(
    home: Specimen, way: Between, through: Callable[..., Cluster]
) -> None:
    home.apply()
    home.more = many(home, 150)
    todo = home.plan()
    failed = interrupted(home, through(20), todo, way, "/roles/")
    there = {f"kubernetes/role/{home.tenant}/{name}" for name in versions(home)}
    assert {change.id for change in todo.changes} - there == set(failed), "each by its name, and no other"
    home.forget_lock()
    home.apply()
    assert home.plan().changes == ()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("what", ["update", "mend", "delete", "finalizer"])
def test_nothing_is_changed_or_deleted_after_the_lock_is_lost(
    what: str, home: Specimen, way: Between, through: Callable[..., Cluster]
) -> None:
    roles = many(home, 80)
    home.more = roles
    home.apply()
    if what == "finalizer":
        _all_roles(home, {"metadata": {"finalizers": ["eve.example.net/stay"]}})
    if what in ("delete", "finalizer"):
        home.more = []
    elif what == "mend":
        _all_roles(home, {"rules": []}, "meshwright")
    else:
        home.more = [resource({**role.attrs, "rules": []}) for role in roles]
    todo = home.plan()
    assert len(todo.changes) == 80
    failed = interrupted(home, through(20), todo, way, "/roles/")
    assert 10 < len(failed) < 80
    left = {change.id for change in home.plan().changes}
    assert left == set(failed), "each by its name, and no other"
    home.forget_lock()
    home.apply()
    assert home.plan().changes == ()


def _all_roles(home: Specimen, patch: dict[str, Any], manager: str = "eve") -> None:
    client = home.control.connect()
    for role in home.more:
        path = f"/apis/{RBAC}/v1/namespaces/{home.tenant}/roles/{role.attrs['metadata']['name']}"
        client.merge(path, patch, manager=manager)
