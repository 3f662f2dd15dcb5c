"""Rolling back, done: what back.py wants is written by the same steps as any other write, and the kernel settings."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import back, closed, device, state, system, units, writing
from .back import Kept
from .state import Attrs, Place, State

FAMILIES = {"net.ipv4.ip_forward": "ipv4", "net.ipv6.conf.all.forwarding": "ipv6"}
ALL = ("all", "default")
DISCARD = 9


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


def undo(where: Place, kept: Kept, gone: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put back what can be put back -> {"restored": [id], "error": what could not}. One failure stops nothing else."""
    errors: list[str] = []
    now = state.read(where)
    found = state.resources(now, where, {}, {})
    wanted = back.back(kept, found)
    for step in _steps(now, found, wanted, where, kept):
        with _noted(errors):
            step()
    with _noted(errors):
        _routes(gone)
    return {"restored": sorted({*wanted, *_settled(kept)}), "error": "; ".join(dict.fromkeys(errors))}


def _settled(kept: Kept) -> list[str]:
    """What the settings stand for, where they were all that changed."""
    id = f"hub/closed/{kept.interface}"
    return [id] if id in kept.before else []


@contextlib.contextmanager
def _noted(errors: list[str]) -> Any:
    try:
        yield
    except (system.HubError, OSError) as error:
        errors.append(str(error))


def _steps(
    now: State, found: Mapping[str, Attrs], wanted: Mapping[str, Attrs | None], where: Place, kept: Kept
) -> list[Callable[[], None]]:
    changes = {id: {"before": found.get(id), "after": after} for id, after in wanted.items()}
    target = writing.aim(found, changes, now, where)
    interface = target.resources.get(f"hub/interface/{where.interface}") or {}
    mark = next((table["mark"] for table in target.tables.values() if table), where.mark)
    steps = writing.steps(now, found, target, where._replace(mark=mark))
    return [
        lambda: _down(now, interface, where),
        lambda: closed.settle({key: value for key, value in kept.sysctl.items() if closed.sysctl(key)}),
        *(step.do for step in steps),
        lambda: _at_boot(interface, where),
    ]


def _down(now: State, interface: Mapping[str, Attrs | None], where: Place) -> None:
    """An interface that was not there goes first: with it goes everybody who came in by it."""
    if now.live and not interface.get("live"):
        if units.active(where.service):
            units.act(where.service, "stop")
        if device.exists(where.interface):
            device.delete(where.interface)


def _at_boot(interface: Mapping[str, Attrs | None], where: Place) -> None:
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


def speak(interface: str, keys: Sequence[str]) -> None:
    """Send each peer an empty packet at once, whatever the table says: so he learns of a new port of the hub's."""
    found = device.wireguard(interface)
    peers = {key: found.peers[key] for key in keys if key in found.peers} if found else {}
    known = {key: (peer.endpoint, peer.keepalive) for key, peer in peers.items() if peer.endpoint}
    if known:
        device.speak(interface, known)


def knock(interface: str, keys: Sequence[str]) -> None:
    """Send each peer a datagram to nobody (the port `discard`): WireGuard answers data within ten seconds, even where
    the friend's own system does not. Where the table forbids it, his own next packet has to be waited for.
    """
    found = device.wireguard(interface)
    peers = [found.peers[key] for key in keys if key in found.peers] if found else []
    for address in [prefix.partition("/") for peer in peers for prefix in peer.allowed_ips]:
        family = socket.AF_INET6 if address[2] == "128" else socket.AF_INET
        if address[2] in ("32", "128"):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as link:
                link.sendto(b"", (address[0], DISCARD))
