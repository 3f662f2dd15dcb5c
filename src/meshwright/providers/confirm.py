"""The call after a write, over a new connection: it tells the hub that its owner still gets in. Without it, the hub
rolls back by itself."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
NEXT = (
    "find out what the change cuts off (a host firewall, the router's port forward), then apply again; if it is meant"
    " to, because peers need a new conf, with --force and the reason"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a write ended. kept: it stands. back: the hub rolled it back, `at` its own time of day; `restored` are the
    ids that are as before. none: the hub never began. lost: nobody knows; it rolls back, or has done so."""

    state: Literal["kept", "back", "none", "lost"]
    why: str = ""
    at: str = ""
    restored: frozenset[str] = frozenset()


def order(seconds: float, insist: bool) -> dict[str, Any]:
    """What a write has to say to arm a roll-back."""
    return {"seconds": seconds, "token": secrets.token_hex(16), "insist": insist}


def settle(
    host: Host, new: Host, place: Mapping[str, Any], order: Mapping[str, Any], armed: Mapping[str, Any], tell: Tell
) -> Verdict:
    """Confirm a write over new connections, until the hub has said how it ended or its time is over.

    new: the host over the first of them. place: {"interface", "table"}. armed: what the hub's answer said of it, {}
    when that was lost.
    """
    until = clock(armed.get("until") or time.time() + order["seconds"])
    if armed.get("hear"):
        peers = f"{armed['hear']} active peer{'' if armed['hear'] == 1 else 's'}"
        tell(Started(f"waiting to hear one of {peers} again; else {host.name} rolls back at {until}"))
    end = time.monotonic() + order["seconds"] + LATE
    call = {**place, "token": order["token"], "wait": HEAR}
    why = ""
    while True:
        said = _ask(new, call)
        if said["state"] in ("kept", "none", "back"):
            return _verdict(said, why)
        if not why:
            why = said["why"]
            tell(
                Started(
                    f"{why}; {host.name} rolls back {'now' if said['state'] == 'going' else f'by itself at {until}'}"
                )
            )
        if time.monotonic() > end:
            return Verdict("lost", why, until)
        time.sleep(PAUSE)
        new = host.fresh() or host


def _ask(host: Host, call: dict[str, Any]) -> dict[str, Any]:
    try:
        return remote(host, "rollback.confirm", call, timeout=HEAR + CALL)
    except HostError as error:
        return {"state": "lost", "why": f"no new connection was possible: {error.message}"}


def _verdict(said: Mapping[str, Any], why: str) -> Verdict:
    if said["state"] != "back":
        return Verdict(said["state"])
    failed = f" (not all of it: {said['error']})" if said["error"] else ""
    return Verdict(
        "back", f"{why or 'the time to confirm it was over'}{failed}", clock(said["at"]), frozenset(said["restored"])
    )


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
def interruptible(order: Mapping[str, Any], armed: Mapping[str, Any]) -> Iterator[None]:
    """An interrupt says what becomes of what was begun. armed: as for settle; it may be filled meanwhile."""
    try:
        yield
    except KeyboardInterrupt:
        if armed:
            said = f"nobody confirmed what was written on the hub: it rolls that back by {clock(armed['until'])}"
        else:
            said = (
                "nobody knows whether anything was written on the hub; what was, or is once somebody else's apply is "
                f"over there, it rolls back {order['seconds']:g} s later"
            )
        raise KeyboardInterrupt(f"{said}; then run the command again") from None
