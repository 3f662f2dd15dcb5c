"""The roll-back: armed before the first write, disarmed by the operator's next call over a new connection.

In /var/lib/meshwright/rollback-TABLE/ (all 0600, no secret in it):
    program.py      hubd as it came in this very call, and the call that rolls back
    snapshot.json   what is to be put back (back.py), the token, the deadline, who wrote; while it is there, it is armed
    outcome.json    what came of the last one
A timer of systemd starts the program; without systemd a process of its own waits. A reboot loses the timer: a unit that
is there only as long as the snapshot does it at boot then.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import back, device, state, system, undo, units
from .state import Attrs, Place, State

FOLDER = "/var/lib/meshwright"
ACTIVE = 180  # seconds since the last handshake after which a peer's session is dead
KNOCK = 5.0  # seconds between two packets to peers that are to be heard
LATEST = 5.0  # seconds before the deadline in which nobody is waited for any more
PROGRAM = """import json
document = json.loads({text!r})
exec(compile(document["boot"], "boot.py", "exec"), {{"document": document}})
"""
AT_BOOT = """# Written by meshwright while a roll-back is armed, for the case that the hub reboots meanwhile.
[Unit]
Description=Roll back the mesh of the table {table}
ConditionPathExists={folder}/snapshot.json
After=wg-quick@{interface}.service meshwright-{table}.service network.target

[Service]
Type=oneshot
ExecStart={python} -I {folder}/program.py
"""


class Armed(NamedTuple):
    """A roll-back that waits. active: public keys of the active peers that the write keeps; hear: whether one of them
    has to be heard, because the change may cut them all. since: monotonic."""

    where: Place
    order: Mapping[str, Any]
    active: tuple[str, ...]
    hear: bool
    since: float


def _folder(table: str) -> str:
    return f"{FOLDER}/rollback-{table}"


def _unit(table: str) -> str:
    return f"meshwright-rollback-{table}"


def _at_boot(table: str) -> str:
    return f"/etc/systemd/system/meshwright-rollback-at-boot-{table}.service"


def _link(table: str) -> str:
    return f"/etc/systemd/system/multi-user.target.wants/{os.path.basename(_at_boot(table))}"


# -- what is armed


def snapshot(table: str) -> dict[str, Any] | None:
    """The snapshot of an armed roll-back; None when there is none."""
    return _load(f"{_folder(table)}/snapshot.json")


def _load(path: str) -> dict[str, Any] | None:
    data = system.read_file(path)
    try:
        found = json.loads(data) if data else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def left(armed: Mapping[str, Any]) -> float:
    """Seconds until it rolls back; 0 when that time is over, or passed with a reboot."""
    return max(0.0, armed["deadline"] - _now()) if armed["boot"] == _boot() else 0.0


def said(armed: Mapping[str, Any]) -> str:
    """The armed roll-back in words."""
    at = time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + left(armed)))
    when = f"the hub rolls it back by itself at {at}" if left(armed) else "the hub did not roll it back in time"
    return f"an apply of {armed['by']} has not been confirmed: {when}"


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    return (system.read_file("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


@contextlib.contextmanager
def turn(where: Place, patience: float, who: str = "") -> Iterator[None]:
    """Hold the hub's lock, once no earlier write waits for its confirmation any more; one in vain is forgotten."""
    end = time.monotonic() + patience
    while True:
        with system.lock(where.lock, patience, who):
            armed = snapshot(where.table)
            if armed is None or not left(armed):
                if armed:
                    disarm(where.table)
                yield
                return
        if time.monotonic() >= end:
            raise system.HubError(said(armed), "wait until then, then plan again")
        time.sleep(0.1)


# -- arming


def arm(where: Place, order: Mapping[str, Any], before: State, there: Mapping[str, Attrs], target: Any) -> Armed | None:
    """Save what is there and start the clock; None where the interface is to go: nothing could be reached by it.

    order: {"seconds", "token", "by"}.
    """
    wanted = target.resources.get(f"hub/interface/{where.interface}") or {}
    if not wanted.get("live"):
        return None
    kept = back.Kept(
        where.interface,
        where.table,
        back.keep(there, target.changed),
        undo.settings(where.sysctl),
        before.live.routes if before.live else (),
    )
    peers = before.live.device.peers if before.live else {}
    kept_peers = [attrs["live"] for id, attrs in target.resources.items() if back.kind(id) == "peer"]
    stays = {half["public_key"] for half in kept_peers if half}
    active = [key for key, peer in peers.items() if time.time() - peer.handshake < ACTIVE and key in stays]
    try:
        _save(where, order, kept, active)
        _start(where.table, order["seconds"])
    except (OSError, system.HubError) as error:
        disarm(where.table)
        raise system.HubError(
            f"no roll-back could be armed, so nothing was written: {error}", "mend that on the hub, then apply again"
        ) from None
    hear = bool(active) and target.touches(*back.HEAR)
    return Armed(where, order, tuple(active), hear, time.monotonic())


def _save(where: Place, order: Mapping[str, Any], kept: back.Kept, active: Sequence[str]) -> None:
    folder = _folder(where.table)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    system.remove_file(f"{folder}/outcome.json")
    call = {"interface": where.interface, "table": where.table, "token": order["token"]}
    document = {**_source(), "mark": "", "operation": "rollback", "payload": call}
    system.write_file(f"{folder}/program.py", PROGRAM.format(text=json.dumps(document)).encode(), 0o600)
    _save_snapshot(
        where.table,
        {
            "token": order["token"],
            "by": order["by"],
            "seconds": order["seconds"],
            "boot": _boot(),
            "deadline": _now() + order["seconds"],
            "place": where._asdict(),
            "kept": kept._asdict(),
            "routers": undo.routers(),
        },
    )
    if units.booted():
        words = {"table": where.table, "interface": where.interface, "folder": folder, "python": sys.executable}
        system.write_file(_at_boot(where.table), AT_BOOT.format(**words).encode(), 0o644)
        os.makedirs(os.path.dirname(_link(where.table)), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(_at_boot(where.table), _link(where.table))


def _save_snapshot(table: str, content: Mapping[str, Any]) -> None:
    system.write_file(f"{_folder(table)}/snapshot.json", json.dumps(content).encode(), 0o600)


def _source() -> dict[str, Any]:
    """hubd as this process runs it, in the words of boot.py."""
    loader: Any = getattr(importlib.import_module(__name__).__spec__, "loader", None)
    if not hasattr(loader, "document"):
        raise system.HubError("hubd does not know its own source", "this is a bug of meshwright; report it")
    return {key: value for key, value in loader.document().items() if key in ("boot", "modules", "code")}


def _start(table: str, seconds: float) -> None:
    """Start the clock, in place of one that is left from before."""
    argv = [sys.executable, "-I", f"{_folder(table)}/program.py"]
    if not units.booted():
        _start_process(table, [*argv, str(seconds)])
        return
    words = ["systemd-run", "--quiet", "--collect", f"--unit={_unit(table)}", f"--on-active={seconds}"]
    timer = [*words, "--timer-property=AccuracySec=100ms", "--property=Type=oneshot", "--", *argv]
    if system.attempt(timer).code:
        system.attempt(["systemctl", "stop", f"{_unit(table)}.timer", f"{_unit(table)}.service"])
        system.attempt(["systemctl", "reset-failed", f"{_unit(table)}.timer", f"{_unit(table)}.service"])
        system.run(timer)


def _start_process(table: str, argv: Sequence[str]) -> None:
    with open(f"{_folder(table)}/log", "ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    system.write_file(f"{_folder(table)}/pid", str(process.pid).encode(), 0o600)


def _process(table: str) -> int:
    """The waiting process, 0 when it is gone."""
    number = (system.read_file(f"{_folder(table)}/pid") or b"").decode()
    words = (system.read_file(f"/proc/{number}/cmdline") or b"") if number.isdigit() else b""
    return int(number) if f"{_folder(table)}/program.py".encode() in words.split(b"\0") else 0


def disarm(table: str) -> None:
    """No roll-back is waiting any more. The snapshot goes first: a clock that runs out now finds nothing to do."""
    folder = _folder(table)
    system.remove_file(f"{folder}/snapshot.json")
    system.remove_file(_link(table))
    system.remove_file(_at_boot(table))
    if units.booted():
        system.attempt(["systemctl", "stop", "--no-block", f"{_unit(table)}.timer"])
    elif process := _process(table):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    for name in ("program.py", "pid", "log"):
        system.remove_file(f"{folder}/{name}")
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def forget(table: str) -> None:
    """Leave no trace."""
    disarm(table)
    shutil.rmtree(_folder(table), ignore_errors=True)


def asked(armed: Armed) -> dict[str, Any]:
    """What the answer to a write says of its roll-back, after the last step: {"until", "hear": {key: seen}}.

    A write that took long has the whole time once more.
    """
    seconds = armed.order["seconds"]
    found = snapshot(armed.where.table)
    if found and time.monotonic() - armed.since > seconds / 4:
        _save_snapshot(armed.where.table, {**found, "deadline": _now() + seconds})
        _halt(armed.where.table)
        _start(armed.where.table, seconds)
        found = snapshot(armed.where.table)
    hear = seen(armed.where.interface, armed.active) if armed.hear else {}
    undo.speak(armed.where.interface, list(hear))
    return {"until": time.time() + (left(found) if found else 0), "hear": hear}


def _halt(table: str) -> None:
    if units.booted():
        system.attempt(["systemctl", "stop", f"{_unit(table)}.timer"])
    elif process := _process(table):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)


# -- confirming


def seen(interface: str, keys: Sequence[str]) -> dict[str, list[int]]:
    """public key -> [bytes received, last handshake] as the device counts them now."""
    found = device.wireguard(interface)
    live = found.peers if found else {}
    none = [0, 0]
    return {key: [live[key].received, live[key].handshake] if key in live else none for key in keys}


def heard(before: Mapping[str, Sequence[int]], now: Mapping[str, Sequence[int]]) -> bool:
    """Whether any of the peers was received again. Counters begin anew with a new device."""
    return any(
        (received != before[key][0] and received > 0) or handshake > before[key][1]
        for key, (received, handshake) in now.items()
    )


def confirm(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"interface", "table", "token", "hear": {key: [received, handshake]}, "wait": seconds} -> {"state", ...}.

    state: "kept" (disarmed for good), "going" (nobody was heard, or its time is over: it rolls back now), "back" (it
    has been rolled back: "at", "restored", "error") or "none" (nothing with this token was ever armed).
    """
    table, token, hear = payload["table"], payload["token"], payload.get("hear") or {}
    armed = snapshot(table)
    if not armed or armed["token"] != token:
        return _outcome(table, token)
    if armed.get("given up"):
        return {"state": "going"}
    end = min(time.monotonic() + payload.get("wait", 0), time.monotonic() + left(armed) - LATEST)
    ok = not hear or _heard(payload["interface"], hear, end)
    with system.lock(state.place(payload).lock, 600):
        armed = snapshot(table)
        if not armed or armed["token"] != token:
            return _outcome(table, token)
        if ok and left(armed):
            disarm(table)
            return {"state": "kept"}
        give_up(table)
    return {"state": "going"}


def _heard(interface: str, hear: Mapping[str, Sequence[int]], end: float) -> bool:
    """Wait until one of the peers is heard again, up to `end` (monotonic)."""
    knock = 0.0
    while not heard(hear, seen(interface, list(hear))):
        now = time.monotonic()
        if now >= end:
            return False
        if now >= knock:
            undo.knock(interface, list(hear))
            knock = now + KNOCK
        time.sleep(0.1)
    return True


def _outcome(table: str, token: str) -> dict[str, Any]:
    found = _load(f"{_folder(table)}/outcome.json")
    return {**found, "state": "back"} if found and found["token"] == token else {"state": "none"}


def give_up(table: str) -> None:
    """What is armed rolls back as soon as the lock is free, and can no longer be confirmed. The lock is held."""
    armed = snapshot(table)
    if not armed:
        return
    _save_snapshot(table, {**armed, "given up": True})
    if units.booted():
        system.attempt(["systemctl", "start", "--no-block", f"{_unit(table)}.service"])
    elif process := _process(table):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGUSR1)


# -- rolling back


def roll_back(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{"interface", "table", "token"} -> {"restored": [id], "error": sentence}; what the clock runs.

    The program's argument, if there is one, is how long to wait first: SIGUSR1 cuts that short.
    """
    if len(sys.argv) > 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.sigtimedwait([signal.SIGUSR1], float(sys.argv[1]))
    table, token = payload["table"], payload["token"]
    with system.lock(state.place(payload).lock, 600):
        armed = snapshot(table)
        if not armed or armed["token"] != token:
            return {"restored": [], "error": ""}
        done = undo.undo(state.place(armed["place"]), back.Kept(**armed["kept"]), armed["routers"])
        outcome = {"token": token, "at": time.time(), **done}
        system.write_file(f"{_folder(table)}/outcome.json", json.dumps(outcome).encode(), 0o600)
        disarm(table)
        return done
