"""What is armed rolls back: killed between any two steps, given up, or forgotten. On a hub of namespaces, where a
process of its own is the clock."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from homes import INTERFACE, TABLE, Wish, key, look, settle, write

from meshwright.desired.resource import Resource
from meshwright.errors import HostError
from meshwright.events import Event, silent
from meshwright.hubd.rollback.back import FIELDS
from meshwright.io.host import Host, Lost, remote
from meshwright.io.process import Done
from meshwright.providers.hub import Hub

pytestmark = pytest.mark.lab

WISH = Wish({"ham": ("10.100.2.1", key("ham")), "jake": ("10.100.2.2", key("jake"))})
STEVE = ("steve", key("steve"))
STEPS = 14
ID = f"hub/interface/{INTERFACE}"
FOLDER = f"/var/lib/meshwright/rollback-{TABLE}"
CALL = {"interface": INTERFACE, "table": TABLE, "token": "token"}
# Appended to hubd's own module on its way: the write dies before a step, the roll-back that it armed does not.
DYING = """
import os, sys
_steps = steps
def steps(*a):
    found = _steps(*a) + [Step("end", lambda: None)]
    if not sys.argv[0].endswith("program.py"):
        found[{number}] = Step("die", lambda: os._exit(9))
    return found
"""


@dataclass(frozen=True)
class Far:
    """The hub as if a network lay between. gone: no new connection is possible. kill: the step a write dies before."""

    inner: Host
    gone: bool = False
    kill: int = -1
    calls: list[str] = field(default_factory=list)
    new: bool = False

    @property
    def name(self) -> str:
        return "hub-1"

    @property
    def python(self) -> str:
        return self.inner.python

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        if self.new and self.gone:
            raise HostError("hub-1: no route to host", "wait")
        document = json.loads(zlib.decompress(stdin))
        self.calls.append(document["operation"])
        if self.kill >= 0 and document["operation"] == "write":
            document["modules"]["resources/writing.py"] += DYING.replace("{number}", str(self.kill))
        return self.inner.run(argv, stdin=json.dumps(document).encode(), timeout=timeout)

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError

    def fresh(self) -> Far:
        return replace(self, new=True)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here is far away."""
    monkeypatch.setattr("meshwright.providers.confirm.LATE", 1)
    monkeypatch.setattr("meshwright.providers.confirm.PAUSE", 0.2)


def _until(true: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def _interface(there: Mapping[str, Resource]) -> dict[str, object]:
    attrs = there[ID].attrs
    return {f"{half} {name}": attrs[half][name] for half in ("saved", "live") for name in FIELDS}


def _gives(there: Mapping[str, Resource]) -> set[tuple[str, str, str]]:
    """(half, id, what) of all that peers have."""
    return {
        (half, id, json.dumps(resource.attrs[half], sort_keys=True))
        for id, resource in there.items()
        if id.split("/")[1] in ("peer", "rights")
        for half in ("saved", "live")
        if resource.attrs[half]
    }


def test_killed_before_each_step_and_nobody_comes_back(hub_host: Host) -> None:
    near = Hub(hub_host, INTERFACE, TABLE)
    after = replace(WISH, port=51999, hub="10.100.0.9").without("jake").also("steve", "10.100.2.4").resources()
    for number in (1, 2, 4, 7, 9, 10, 11, STEPS):
        settle(near, WISH.resources())
        before = near.read(WISH.resources())
        todo = look(near, after)
        results = Hub(Far(hub_host, gone=True, kill=number), INTERFACE, TABLE, patience=0.5).apply(todo.changes, silent)
        assert not any(result.ok for result in results)
        _until(lambda: hub_host.run(["test", "-e", f"{FOLDER}/snapshot.json"]).code != 0)
        there = near.read(WISH.resources())
        assert _interface(there) == _interface(before), number
        more = {
            entry
            for entry in _gives(there) - _gives(before)
            if not set(STEVE) & {str(value) for value in json.loads(entry[2]).values()}
        }
        assert not more, number
        assert {entry for entry in _gives(before) if '"ham"' in entry[2]} <= _gives(there), number
        assert not hub_host.run(["ip", "link", "show", INTERFACE]).code
        settle(near, after)


def test_killed_but_the_operator_comes_back(hub_host: Host) -> None:
    """The write was not finished, so it does not stand although the hub can be reached."""
    near = Hub(hub_host, INTERFACE, TABLE)
    settle(near, WISH.resources())
    before = near.read(WISH.resources())
    todo = look(near, replace(WISH, port=51999).resources())
    results = Hub(Far(hub_host, kill=9), INTERFACE, TABLE, patience=30).apply(todo.changes, silent)
    assert any("the write was not finished" in result.why for result in results), results
    assert hub_host.run(["ls", FOLDER]).out == b"outcome.json\n"
    assert _interface(near.read(WISH.resources())) == _interface(before)


@pytest.mark.parametrize("number", [0, 2, 7, 9, 12, STEPS])
def test_the_first_apply_is_rolled_back(hub_host: Host, number: int) -> None:
    near = Hub(hub_host, INTERFACE, TABLE)
    todo = look(near, WISH.resources())
    far = Hub(Far(hub_host, gone=True, kill=number), INTERFACE, TABLE, patience=0.5)
    assert not any(result.ok for result in far.apply(todo.changes, silent))
    _until(lambda: hub_host.run(["test", "-e", f"{FOLDER}/snapshot.json"]).code != 0)
    there = near.read(WISH.resources())
    assert not (there[ID].attrs["live"] if ID in there else None)
    assert hub_host.run(["ip", "link", "show", INTERFACE]).code
    assert not hub_host.run(["sh", "-c", "ls /etc/systemd/system/*.wants | grep wg-quick"]).out
    if number == STEPS:
        conf = f"/etc/wireguard/{INTERFACE}.conf"
        assert hub_host.run(["stat", "-c", "%a", conf]).out == b"600\n"
        assert b"PrivateKey" in hub_host.run(["cat", conf]).out
        assert hub_host.run(["sh", "-c", f"ip rule | grep {INTERFACE}"]).out
    settle(near, WISH.resources())


def test_a_change_that_stands_leaves_nothing(hub_host: Host) -> None:
    far = Far(hub_host)
    settle(Hub(far, INTERFACE, TABLE, patience=1), WISH.resources())
    assert far.calls.count("rollback.confirm") == 1
    assert hub_host.run(["ls", FOLDER]).code
    time.sleep(1.5)
    assert not look(Hub(hub_host, INTERFACE, TABLE), WISH.resources()).changes


def test_the_next_apply_waits_and_says_whom_it_waits_for(hub_host: Host) -> None:
    settle(Hub(hub_host, INTERFACE, TABLE), WISH.resources())
    todo = look(Hub(hub_host, INTERFACE, TABLE), replace(WISH, port=51999).resources())
    lost = Hub(Torn(hub_host), INTERFACE, TABLE, patience=600)
    with pytest.raises(KeyboardInterrupt, match=r"nobody knows whether .* rolls back 600 s later"):
        lost.apply(todo.changes, _stop)
    payload = {"interface": INTERFACE, "table": TABLE, "changes": [], "patience": 0.3}
    with pytest.raises(HostError, match=r"an apply of \S+@\S+ has not been confirmed yet: .* at \d\d:\d\d:\d\d UTC"):
        remote(hub_host, "write", payload)
    assert hub_host.run(["wg", "show", INTERFACE, "listen-port"]).out == b"51999\n"
    # nor is what stands there for the moment taken for what is there
    with pytest.raises(HostError, match="has not been confirmed yet"):
        Hub(hub_host, INTERFACE, TABLE).read(WISH.resources())
    # the clock is what it waits for: once it ran, what it left is as before
    hub_host.run(["sh", "-c", f"kill $(cat {FOLDER}/pid); {hub_host.python} -I {FOLDER}/program.py"])
    assert not look(Hub(hub_host, INTERFACE, TABLE), WISH.resources()).changes


@dataclass(frozen=True)
class Torn(Far):
    """The answer to the write is lost, and nobody gets in any more."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        if self.new:
            raise HostError("hub-1: no route to host", "wait")
        super().run(argv, stdin=stdin, timeout=timeout)
        raise Lost("hub-1: the connection broke", "look")


def _stop(_: Event) -> None:
    raise KeyboardInterrupt


def test_not_armed_nothing_is_written(hub_host: Host) -> None:
    near = Hub(hub_host, INTERFACE, TABLE)
    settle(near, WISH.resources())
    hub_host.run(["sh", "-c", "mkdir -p /var/lib/meshwright && echo in the way >" + FOLDER])
    results = write(Hub(Far(hub_host), INTERFACE, TABLE), replace(WISH, port=51999).resources())
    assert {result.why.partition(":")[0] for result in results} == {
        "no roll-back could be armed, so nothing was written"
    }
    assert not look(near, WISH.resources()).changes


def test_lost_but_all_was_written(hub_host: Host) -> None:
    """The connection broke after the last step, and a new one works: what was written stands, and is read again."""
    far = OnceTorn(hub_host)
    results = write(Hub(far, INTERFACE, TABLE), WISH.resources())
    assert results
    assert all(result.ok for result in results), results
    assert any(result.attrs for result in results)


@dataclass(frozen=True)
class OnceTorn(Far):
    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        done = super().run(argv, stdin=stdin, timeout=timeout)
        if self.calls[-1] == "write":
            raise Lost("hub-1: the connection broke", "look")
        return done
