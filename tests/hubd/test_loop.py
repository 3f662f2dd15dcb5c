"""The loop of the service, and how a hub that cannot run it is planned."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from town import TABLE, friend, wanted

from meshwright.hubd.host import system
from meshwright.hubd.kernel import netlink
from meshwright.hubd.resources import state
from meshwright.hubd.service import serve
from meshwright.io.host import Local
from meshwright.plan import plan
from meshwright.providers.hub import Hub


@pytest.fixture
def wires() -> Iterator[tuple[socket.socket, ...]]:
    """What the loop reads of links, the kernel's end of it; what tells it to end, and who tells."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    ends = tuple(end for pair in pairs for end in pair)
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def news(name: bytes) -> bytes:
    value = name + b"\0"
    attribute = struct.pack("=HH", 4 + len(value), netlink.NAME) + value + b"\0" * (-len(value) % 4)
    body = struct.pack("=BxHiII", 0, 1, 7, 1, 0) + attribute
    return struct.pack("=IHHII", 16 + len(body), netlink.NEW_LINK, 0, 0, 0) + body


def loop(wires: tuple[socket.socket, ...], *jobs: Callable[[], float]) -> None:
    links, _, end, _ = wires
    serve.loop(jobs, "wg1", links, end)


def test_a_link_of_that_name_wakes_every_job_and_others_do_not(wires: tuple[socket.socket, ...]) -> None:
    _, kernel, _, boss = wires
    called = []

    def job() -> float:
        called.append("job")
        if len(called) == 2:
            kernel.send(news(b"veth0"))
        if len(called) < 3:
            kernel.send(news(b"wg1"))
        else:
            boss.send(b"x")
        return 3600.0

    loop(wires, job)
    assert len(called) == 3


def test_a_job_is_called_again_when_it_wants(wires: tuple[socket.socket, ...]) -> None:
    often, seldom = [], []

    def first() -> float:
        often.append(1)
        if len(often) == 5:
            wires[3].send(b"x")
        return 0.01

    loop(wires, first, lambda: seldom.append(1) or 3600.0)  # type: ignore[func-returns-value]
    assert (len(often), len(seldom)) == (5, 1)


def test_a_failing_job_is_told_once_and_spoils_no_other(
    wires: tuple[socket.socket, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "AGAIN", 0.01)
    calls: list[int] = []

    def broken() -> float:
        calls.append(1)
        if len(calls) == 4:
            wires[3].send(b"x")
        raise system.HubError("the device does not answer") if len(calls) < 4 else OSError(28, "No space left")

    other: list[int] = []
    loop(wires, broken, lambda: other.append(1) or 3600.0)  # type: ignore[func-returns-value]
    assert capsys.readouterr().out.splitlines() == [
        "failed, will try again: the device does not answer",
        "failed, will try again: [Errno 28] No space left",
    ]
    assert other == [1]


def test_many_links_are_taken_off_at_once(wires: tuple[socket.socket, ...]) -> None:
    links, kernel, _, _ = wires
    for _ in range(5):
        kernel.send(news(b"veth1"))
    assert not serve.concerns(links, "wg1")
    with pytest.raises(BlockingIOError):
        links.recv(10)


@pytest.mark.parametrize(
    ("version", "words"), [([3, 8], "/usr/bin/python3 is 3.8"), ([], "is missing"), ([2, 7], "2.7")]
)
def test_a_hub_that_cannot_run_it_waits_with_it_and_says_so(version: list[int], words: str) -> None:
    wants = wanted({"ann": friend(1)})
    hub = Hub(Local(), "wg1", TABLE)
    found = dict(hub._without_python(wants, {}, version))
    made = plan.make(wants, found)
    assert words in made.blocked[f"hub/program/{TABLE}"].why
    unit = f"hub/unit/etc/systemd/system/meshwright-hubd-{TABLE}.service"
    assert made.blocked[unit].kind == "waits"
    assert not made.conflicts
    assert {change.id for change in made.changes} == wants.keys() - {unit, f"hub/program/{TABLE}"}


@pytest.mark.parametrize("version", [[3, 9], [3, 13], [4, 0]])
def test_a_hub_that_can_run_it_gets_it(version: list[int]) -> None:
    assert dict(Hub(Local(), "wg1", TABLE)._without_python(wanted({"ann": friend(1)}), {}, version)) == {}


def found(table: int, program: int) -> state.State:
    tables = {"saved": {"format": 1}, "live": {"format": table}}
    return state.State(None, None, {}, False, [], tables, 0, None, {}, program={"format": program})


def test_the_same_or_an_older_format_is_no_reason_to_refuse() -> None:
    for table, program in ((2, 1), (1, 1), (1, 0)):
        state.check_formats(found(table, program))


@pytest.mark.parametrize(("table", "program", "word"), [(3, 1, "table has format 3"), (2, 2, "hubd has format 2")])
def test_a_newer_format_is(table: int, program: int, word: str) -> None:
    with pytest.raises(system.HubError, match=word):
        state.check_formats(found(table, program))
