"""The call after a write, over a new connection: it tells the hub that its owner still gets in. Without it, the hub
rolls back by itself."""

from __future__ import annotations

import getpass
import platform
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from meshwright.errors import HostError
from meshwright.events import Started, Tell
from meshwright.io.host import Host, remote
from meshwright.providers.base import Result

HEAR = 30
"""How long one of the active peers may take to be heard: their keepalive is 25 s."""
LATE = 15
"""Seconds after which the hub must have rolled back for certain."""
CALL = 20
"""How long such a call may take beside that."""
PAUSE = 1.0
OVER = "the time to confirm it was over"
NEXT = (
    "find out what the change cuts off (a host firewall, the router's port forward, peers that need a new conf), then"
    " apply again"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a write ended. kept: it stands. back: the hub rolled it back, `at` its own time of day; `restored` are the
    ids that are as before. none: the hub never began. lost: nobody knows; it rolls back, or has done so."""

    state: Literal["kept", "back", "none", "lost"]
    why: str = ""
    at: str = ""
    restored: frozenset[str] = frozenset()


def order(seconds: float) -> dict[str, Any]:
    """What a write has to say to arm a roll-back."""
    return {"seconds": seconds, "token": secrets.token_hex(16), "by": f"{_user()} on {platform.node() or 'a machine'}"}


def _user() -> str:
    with suppress(KeyError, OSError, ImportError):
        return getpass.getuser()
    return "somebody"


def settle(
    host: Host, new: Host, place: Mapping[str, Any], order: Mapping[str, Any], armed: Mapping[str, Any], tell: Tell
) -> Verdict:
    """Confirm a write over new connections, until the hub has said how it ended or its time is over.

    new: the host over the first of them. place: {"interface", "table"}. armed: what the hub's answer said of it; {}
    when the answer was lost: then no peer is waited for.
    """
    hear = armed.get("hear") or {}
    until = clock(armed.get("until") or time.time() + order["seconds"])
    if hear:
        tell(Started(f"waiting to hear one of {_peers(hear)}; else {host.name} rolls back at {until}"))
    call = {**place, "token": order["token"], "hear": hear, "wait": HEAR}
    end = time.monotonic() + order["seconds"] + LATE
    why = ""
    while True:
        state, said = _ask(new, call)
        if state in ("kept", "none", "back"):
            return _verdict(said, why or OVER)
        if not why:
            why = said["why"]
            tell(Started(f"{why}; {host.name} rolls back {'now' if state == 'going' else f'by itself at {until}'}"))
        if time.monotonic() > end:
            return Verdict("lost", why, until)
        time.sleep(PAUSE)
        new = host.fresh() or host


def _ask(host: Host, call: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """One call -> (state, the hub's answer or {"why"})."""
    hear = call["hear"]
    try:
        said = remote(host, "confirm", dict(call), timeout=(HEAR if hear else 0) + CALL)
    except HostError as error:
        return "lost", {"why": f"no new connection was possible: {error.message}"}
    why = f"none of {_peers(hear)} was heard after the change" if hear else OVER
    return said["state"], {"why": why, **said}


def _peers(hear: Mapping[str, Any]) -> str:
    return f"{len(hear)} active peer{'' if len(hear) == 1 else 's'}"


def _verdict(said: Mapping[str, Any], why: str) -> Verdict:
    if said["state"] != "back":
        return Verdict(said["state"])
    failed = f" (not all of it: {said['error']})" if said["error"] else ""
    return Verdict("back", f"{why}{failed}", clock(said["at"]), frozenset(said["restored"]))


def judged(result: Result, verdict: Verdict, name: str, *, known: bool) -> Result:
    """What became of one change. known: whether the hub's answer to the write arrived."""
    if verdict.state == "kept" or (verdict.state == "back" and known and result.id not in verdict.restored):
        return result
    if verdict.state == "back" and result.id in verdict.restored:
        return Result(result.id, False, why=f"rolled back by {name} at {verdict.at}: {verdict.why}", hint=NEXT)
    if verdict.state == "back":
        why = f"unknown: the answer was lost, and {name} rolled back at {verdict.at} what could have cut it off"
        return Result(result.id, False, why=why, hint="run `meshwright plan`: it shows what is left to do")
    why = f"unknown: {verdict.why}; {name} rolls back by itself at {verdict.at}, or has done so"
    return Result(result.id, False, why=why, hint=f"when {name} can be reached again, run `meshwright plan`")


def clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(seconds))


@contextmanager
def interruptible(order: Mapping[str, Any]) -> Iterator[None]:
    """An interrupt says what becomes of what was begun."""
    try:
        yield
    except KeyboardInterrupt:
        at = clock(time.time() + order["seconds"])
        raise KeyboardInterrupt(f"nobody confirmed what was written on the hub: it rolls it back by {at}") from None
