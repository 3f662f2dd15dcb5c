"""Seconds without traffic: the service killed, the interface killed or restarted, the hub rebooted; with it, without.

    python bench/outage.py [ROUNDS]        as root (systemd-nspawn), some minutes

A friend pings the hub 50 times a second; the figure is the longest time without an answer. A reboot counts from the
moment when sshd answers again, also for a friend who sends nothing but his keepalive every 25 s, whom the hub pings.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable

from harness import ROOT, record

sys.path.insert(0, str(ROOT / "tests/hubd"))

from town import MEMORY, SERVICE, TUNNEL, Town, pinging, town

import booted

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
WHILE = 30.0
DELETE = "ip link delete wg1"
KILL = "kill -9 $(pidof wireguard-go)"
FORGETFUL = f"systemctl stop {SERVICE}; rm -f {MEMORY}; {KILL}; systemctl start {SERVICE}"
Measure = Callable[[Town], dict[str, float]]


def kill(script: str, *, on: bool) -> Measure:
    def measure(here: Town) -> dict[str, float]:
        prepare(here, on=on)
        return {"": here.kill(script, 60)}

    return measure


def lost(script: str) -> Measure:
    """What nobody mends: that no answer comes for a while."""

    def measure(here: Town) -> dict[str, float]:
        prepare(here, on=False)
        with pinging(here.homes["ann"]) as pings:
            here.sh(script)
            since = time.time() + 0.2
            time.sleep(WHILE)
            came = pings.answered(since)
        here.sh(f"systemctl restart {TUNNEL}")
        return {"": came if came is not None else math.inf}

    return measure


def reboot(*, crash: bool, on: bool) -> Measure:
    def measure(here: Town) -> dict[str, float]:
        prepare(here, on=on)
        found = here.off_and_on(crash=crash)
        return {", pinging friend": found["ann"], ", idle friend": found["bob"], ", with the boot": found["whole"]}

    return measure


def prepare(here: Town, *, on: bool) -> None:
    here.serve(on)
    here.met()
    time.sleep(1)


RESTART = f"systemctl restart {TUNNEL}"
CASES: dict[str, tuple[Measure | None, ...]] = {
    "the service killed": (kill(f"kill -9 $(systemctl show -P MainPID {SERVICE}); sleep 2", on=True), None),
    "wireguard-go killed": (kill(KILL, on=True), lost(KILL)),
    "ip link delete": (kill(DELETE, on=True), lost(DELETE)),
    "wireguard-go killed, the memory lost": (kill(FORGETFUL, on=True), None),
    "wg-quick restarted by hand": (kill(RESTART, on=True), kill(RESTART, on=False)),
    "the hub rebooted": (reboot(crash=False, on=True), reboot(crash=False, on=False)),
    "the hub's power cut": (reboot(crash=True, on=True), reboot(crash=True, on=False)),
}


def cell(values: list[float]) -> str:
    if not values:
        return "-"
    return " / ".join(
        "not back" if f(values) == math.inf else f"{f(values):.2f}" for f in (min, statistics.median, max)
    )


def main() -> None:
    rows: dict[str, tuple[list[float], list[float]]] = {}
    with booted.site() as site, booted.hub(site) as hub, town(hub) as here:
        for _ in range(ROUNDS):
            for name, both in CASES.items():
                for number, measure in enumerate(both):
                    for part, seconds in measure(here).items() if measure else ():
                        rows.setdefault(name + part, ([], []))[number].append(seconds)
                        print(f"{name}{part} ({('with', 'without')[number]}): {seconds:.2f} s", file=sys.stderr)
    lines = [
        f"Seconds without traffic, min / median / max of {ROUNDS}; not back: nor within {WHILE:.0f} s.",
        "",
        "| what | with the service | without |",
        "|---|---|---|",
        *(f"| {name} | {cell(w)} | {cell(o)} |" for name, (w, o) in rows.items()),
    ]
    record("Outages", lines)


main()
