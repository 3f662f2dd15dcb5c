"""The roll-back while it is armed: what waits, how it is confirmed, and what the clock runs when nobody does.

In /var/lib/meshwright/rollback-TABLE/ (all 0600, no secret in it):
    program.py      hubd as it came with the write, and the call that rolls back
    snapshot.json   what is to be put back (back.py), the token, the deadline, who wrote; after the last step also
                    "hear": of which peers one must be heard again, and what was seen of them. There = armed
    outcome.json    what came of the last one
A timer of systemd starts the program; without systemd a process of its own waits. A reboot loses the timer: a unit that
is there only as long as the snapshot rolls back at boot then. Arming is arming.py; this file imports little, for the
call that confirms is one more round trip for every change.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..host import system, units
from ..host.place import HOME, Place

SPARE = 0.1  # the share of the time, at its end, in which nobody is waited for any more
LATE = 15.0  # seconds after the deadline by which it has rolled back, if it ever does
BOOTING = 120.0  # the same after a reboot
TRIES = 3
OVER = "the time to confirm it was over"


def operate(operation: str, payload: dict[str, Any]) -> dict[str, Any]:
    """As agent.operate, for the operations of this file: `confirm`, and `now`, which is what the clock runs."""
    return OPERATIONS[operation](payload)


def folder(table: str) -> str:
    return f"{HOME}/rollback-{table}"


def unit(table: str) -> str:
    """The name of the timer and its service."""
    return f"meshwright-rollback-{table}"


def at_boot(table: str) -> tuple[str, str]:
    """The unit for the case of a reboot, and the link that enables it."""
    name = f"meshwright-rollback-at-boot-{table}.service"
    return f"/etc/systemd/system/{name}", f"/etc/systemd/system/multi-user.target.wants/{name}"


# -- what is armed


def snapshot(table: str) -> dict[str, Any] | None:
    """The snapshot of an armed roll-back; None when there is none."""
    return _load(f"{folder(table)}/snapshot.json")


def save(table: str, content: Mapping[str, Any]) -> None:
    system.write_file(f"{folder(table)}/snapshot.json", json.dumps(content).encode(), 0o600)


def _load(path: str) -> dict[str, Any] | None:
    data = system.read_file(path)
    try:
        found = json.loads(data) if data else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def left(armed: Mapping[str, Any]) -> float:
    """Seconds until it rolls back; 0 when that time is over, or passed with a reboot."""
    return max(0.0, armed["deadline"] - now()) if armed["boot"] == boot() else 0.0


def _waits(armed: Mapping[str, Any]) -> bool:
    """Whether it will still do something by itself."""
    return now() < (armed["deadline"] + LATE if armed["boot"] == boot() else BOOTING)


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """Which boot of the machine this is."""
    return (system.read_file("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


@contextlib.contextmanager
def turn(where: Place, patience: float, who: str = "") -> Iterator[None]:
    """Hold the hub's lock, once no earlier write waits for its confirmation any more; one in vain is forgotten."""
    end = time.monotonic() + patience
    while True:
        with system.lock(where.lock, patience, who):
            armed = snapshot(where.table)
            if armed is None or not _waits(armed):
                if armed:
                    disarm(where.table)
                yield
                return
        if time.monotonic() >= end:
            raise _unconfirmed(armed)
        time.sleep(0.1)


def settled(table: str, patience: float) -> None:
    """Wait until no write waits for its confirmation: what is there now may not be there for long."""
    end = time.monotonic() + patience
    while (armed := snapshot(table)) and _waits(armed):
        if time.monotonic() >= end:
            raise _unconfirmed(armed)
        time.sleep(0.1)


def _unconfirmed(armed: Mapping[str, Any]) -> system.HubError:
    at = time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + left(armed)))
    return system.HubError(
        f"an apply of {armed['by']} has not been confirmed yet: the hub rolls it back by itself at {at}",
        "wait until then, then plan again",
    )


def disarm(table: str) -> None:
    """No roll-back is waiting any more. The snapshot goes first: a clock that runs out now finds nothing to do."""
    home = folder(table)
    system.remove_file(f"{home}/snapshot.json")
    for path in reversed(at_boot(table)):
        system.remove_file(path)
    halt(table)
    for name in ("program.py", "pid", "log"):
        system.remove_file(f"{home}/{name}")
    with contextlib.suppress(OSError):
        os.rmdir(home)


# -- the clock


def start(table: str, seconds: float) -> None:
    """Start the clock, in place of one that is left from before."""
    argv = [sys.executable, "-I", f"{folder(table)}/program.py"]
    if not units.booted():
        _start_process(table, [*argv, str(seconds)])
        return
    words = ["systemd-run", "--quiet", "--collect", f"--unit={unit(table)}", f"--on-active={seconds}"]
    timer = [*words, "--timer-property=AccuracySec=100ms", "--property=Type=oneshot", "--", *argv]
    if system.attempt(timer).code:
        for verb in ("stop", "reset-failed"):
            system.attempt(["systemctl", verb, f"{unit(table)}.timer", f"{unit(table)}.service"])
        system.run(timer)


def _start_process(table: str, argv: Sequence[str]) -> None:
    with open(f"{folder(table)}/log", "ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    system.write_file(f"{folder(table)}/pid", str(process.pid).encode(), 0o600)


def restart(table: str, seconds: float) -> None:
    """Let the clock run anew."""
    if units.booted():
        system.attempt(["systemctl", "stop", f"{unit(table)}.timer"])
    else:
        halt(table)
    start(table, seconds)


def halt(table: str) -> None:
    """Stop the clock; what it has started goes on."""
    if units.booted():
        system.attempt(["systemctl", "stop", "--no-block", f"{unit(table)}.timer"])
        return
    number = (system.read_file(f"{folder(table)}/pid") or b"").decode()
    words = (system.read_file(f"/proc/{number}/cmdline") or b"") if number.isdigit() else b""
    if f"{folder(table)}/program.py".encode() in words.split(b"\0") and int(number) != os.getpid():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(number), signal.SIGTERM)


def give_up(table: str) -> None:
    """What is armed rolls back as soon as the lock, which is held, is free; it can no longer be confirmed."""
    armed = snapshot(table)
    if not armed:
        return
    save(table, {**armed, "given up": True})
    if units.booted():
        system.attempt(["systemctl", "start", "--no-block", f"{unit(table)}.service"])
    else:
        halt(table)
        start(table, 0)


# -- confirmed, or not


def confirm(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"interface", "table", "token", "wait": seconds for which a peer may be waited for} -> {"state", ...}.

    state: "kept" (disarmed for good), "going" (it rolls back now: no peer was heard, the write was not finished, or its
    time is over: "why"), "back" (it has been rolled back: "at", "restored", "error") or "none" (nothing with this token
    was ever armed). Whatever is still being written is waited for.
    """
    where, token = Place(payload["interface"], payload["table"]), payload["token"]
    armed = _mine(where, token)
    if not armed:
        return _outcome(where.table, token)
    why = _doubt(where.interface, armed, min(payload.get("wait", 0), left(armed) - SPARE * armed["seconds"]))
    with system.lock(where.lock, 600):
        armed = snapshot(where.table)
        if not armed or armed["token"] != token:
            return _outcome(where.table, token)
        if not why and left(armed):
            disarm(where.table)
            return {"state": "kept"}
        if not armed.get("given up"):
            give_up(where.table)
    return {"state": "going", "why": why or OVER}


def _mine(where: Place, token: str) -> dict[str, Any] | None:
    """The snapshot with this token, once nobody is writing."""
    with system.lock(where.lock, 600):
        armed = snapshot(where.table)
    return armed if armed and armed["token"] == token else None


def _doubt(interface: str, armed: Mapping[str, Any], seconds: float) -> str:
    """Why the write must not stand, "" when it may."""
    if armed.get("given up"):
        return OVER
    if "hear" not in armed:
        return "the write was not finished"
    hear = armed["hear"]
    if hear:
        from . import hearing

        if not hearing.wait(interface, hear, time.monotonic() + seconds):
            return f"none of {len(hear)} active peers was heard after the change"
    return ""


def _outcome(table: str, token: str) -> dict[str, Any]:
    found = _load(f"{folder(table)}/outcome.json")
    return {**found, "state": "back"} if found and found["token"] == token else {"state": "none"}


def roll_back(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"interface", "table", "token"} -> {"restored": [id], "error": sentence}; the argument says how long to wait."""
    from . import undo

    if len(sys.argv) > 1:
        time.sleep(float(sys.argv[1]))
    table, token = payload["table"], payload["token"]
    with system.lock(Place(payload["interface"], table).lock, 600):
        armed = snapshot(table)
        if not armed or armed["token"] != token:
            return {"restored": [], "error": ""}
        done = undo.undo(armed, TRIES)
        outcome = {"token": token, "at": time.time(), **done}
        system.write_file(f"{folder(table)}/outcome.json", json.dumps(outcome).encode(), 0o600)
        disarm(table)
        return done


OPERATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"confirm": confirm, "now": roll_back}
