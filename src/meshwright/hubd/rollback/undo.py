"""Rolling back, done: what back.py wants is written by the same steps as any other write, and the kernel settings."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..firewall import closed
from ..host import system, units
from ..kernel import device
from ..resources import state, writing
from ..resources.state import Attrs, Place, State
from . import back, hearing
from .back import Kept

FAMILIES = {"net.ipv4.ip_forward": "ipv4", "net.ipv6.conf.all.forwarding": "ipv6"}
ALL = ("all", "default")


def settings(keys: Iterable[str]) -> dict[str, str]:
    """The kernel settings as they are now, with those of single interfaces that change along: key -> value."""
    out = {key: closed.sysctl(key) for key in keys}
    for key in [key for key in out if key in FAMILIES]:
        folder = f"/proc/sys/net/{FAMILIES[key]}/conf"
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name not in ALL:
                one = f"net.{FAMILIES[key]}.conf.{name.replace('.', '/')}.forwarding"
                out[one] = closed.sysctl(one)
    return {key: value for key, value in out.items() if value}


def routers() -> list[dict[str, Any]]:
    """Default routes that router advertisements gave: a host that begins to forward IPv6 drops them."""
    done = system.attempt(["ip", "-6", "-j", "route", "show", "default", "proto", "ra"])
    found: list[dict[str, Any]] = json.loads(done.out or b"[]") if not done.code else []
    return [route for route in found if route.get("gateway") and route.get("dev")]


def undo(armed: Mapping[str, Any], tries: int) -> dict[str, Any]:
    """Put back what a snapshot says -> {"restored": [id], "error": what could not}. One failure stops nothing else."""
    where, kept = state.place(armed["place"]), Kept(**armed["kept"])
    done: set[str] = set()
    errors: list[str] = []
    for left in reversed(range(tries)):
        errors.clear()
        with _noted(errors):
            done |= set(_write(where, kept, errors))
        with _noted(errors):
            _routes(armed["routers"])
            hearing.speak(where.interface, armed["endpoints"])
        if not errors or not left:
            break
        time.sleep(1)
    return {"restored": sorted(done), "error": "; ".join(dict.fromkeys(errors))}


@contextlib.contextmanager
def _noted(errors: list[str]) -> Iterator[None]:
    try:
        yield
    except (system.HubError, OSError) as error:
        errors.append(str(error))


def _write(where: Place, kept: Kept, errors: list[str]) -> list[str]:
    """Do the steps -> the ids that are different now."""
    with _noted(errors):
        closed.settle({key: value for key, value in kept.sysctl.items() if closed.sysctl(key)})
    now = state.read(where)
    found = state.resources(now, where, {}, {})
    wanted = back.back(kept, found)
    for step in _steps(now, found, wanted, where):
        with _noted(errors):
            step()
    settled = f"hub/closed/{kept.interface}"
    return [*wanted, *([settled] if settled in kept.before else [])]


def _steps(
    now: State, found: Mapping[str, Attrs], wanted: Mapping[str, Attrs | None], where: Place
) -> list[Callable[[], None]]:
    changes = {id: {"before": found.get(id), "after": after} for id, after in wanted.items()}
    target = writing.aim(found, changes, now, where)
    interface = target.resources.get(f"hub/interface/{where.interface}") or {}
    mark = next((table["mark"] for table in target.tables.values() if table), where.mark)
    steps = writing.steps(now, found, target, where._replace(mark=mark))
    return [lambda: _down(now, interface, where), *(step.do for step in steps), lambda: _disable(interface, where)]


def _down(now: State, interface: Mapping[str, Attrs | None], where: Place) -> None:
    """An interface that was not there goes first: with it goes everybody who came in by it."""
    if now.live and not interface.get("live"):
        if units.active(where.service):
            units.act(where.service, "stop")
        if device.exists(where.interface):
            device.delete(where.interface)


def _disable(interface: Mapping[str, Attrs | None], where: Place) -> None:
    saved = interface.get("saved")
    if saved and not saved["enabled"] and units.enabled(where.service):
        units.act(where.service, "disable")


def _routes(gone: Sequence[Mapping[str, Any]]) -> None:
    there = {(route["gateway"], route["dev"]) for route in routers()}
    for route in gone:
        if (route["gateway"], route["dev"]) not in there and device.exists(route["dev"]):
            words = ["default", "via", route["gateway"], "dev", route["dev"], "proto", "ra"]
            words += [word for key in ("metric", "expires") if key in route for word in (key, str(route[key]))]
            system.run(["ip", "-6", "route", "replace", *words])
