"""What a roll-back puts back: reachability, and nothing that was taken from anybody. Pure.

Put back are the interface (never its key), the table's own attributes, kernel settings and unit files. Peers, preshared
keys, sources and rights stay as they are now, with two exceptions that give nobody more than he had and keeps:
    - a prefix that the write routed into the tunnel is taken out of its peer: it may be the operator's own network;
    - a right that was there before and that the write keeps is there again, to the hub itself at its old address.
A table that was not there before stays if it was written to the end, and with it what keeps the mesh closed; if it was
not, the hub is what it was before. A new interface goes down and stays down over a reboot; its conf and key are kept.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..firewall import rights
from ..host.place import Place
from ..resources.state import HALVES, Attrs

KINDS = ("interface", "table", "closed", "unit")
OWN = ("mark", "hub", "masquerade")
FIELDS = ("listen", "addresses", "mtu")
Found = typing.Mapping[str, Attrs]


class Kept(NamedTuple):
    """What has to be known of a write. before: id -> attrs of what it touches, None where there was nothing. rights:
    id -> halves with the rights that were there before and that the write keeps. moved: the hub's new address -> its
    old one. sysctl: live values by key. routes: prefixes that were routed into the tunnel."""

    interface: str
    table: str
    before: Mapping[str, Attrs | None]
    rights: Found
    moved: Mapping[str, str]
    sysctl: Mapping[str, str]
    routes: tuple[str, ...] = ()


def kind(id: str) -> str:
    return id.split("/")[1]


def keep(
    where: Place,
    there: Found,
    wanted: Found,
    changed: Iterable[str],
    *,
    sysctl: Mapping[str, str],
    routes: tuple[str, ...],
) -> Kept:
    """Of what a write is to change, what its roll-back has to know. No peer and no secret is among it."""
    touched = sorted(changed)
    before = {id: there.get(id) for id in touched if kind(id) in KINDS}
    elsewhere = moved(f"hub/table/{where.table}", there, wanted)
    rights = {
        id: _common(there[id], wanted[id], elsewhere)
        for id in touched
        if _is_right(id) and id in there and id in wanted
    }
    return Kept(where.interface, where.table, before, rights, elsewhere, sysctl, routes)


def _is_right(id: str) -> bool:
    return kind(id) in ("rights", "inbound")


def _common(before: Attrs, wanted: Attrs, moved: Mapping[str, str]) -> Attrs:
    return {half: _common_half(before.get(half), wanted.get(half), moved) for half in HALVES}


def _common_half(before: Attrs | None, wanted: Attrs | None, moved: Mapping[str, str]) -> Attrs | None:
    if not before or not wanted or before.get("peer") != wanted.get("peer"):
        return None
    stays = {*wanted["allow"], *(_old(text, moved) for text in wanted["allow"])}
    return {**before, "allow": [text for text in before["allow"] if text in stays]}


def _old(text: str, moved: Mapping[str, str]) -> str:
    """The right with the hub's old address."""
    first, rest = text.split(" ", 1)
    return f"{moved.get(first, first)} {rest}"


def back(kept: Kept, now: Found) -> dict[str, Attrs | None]:
    """id -> attrs to write, None for what shall go; only what is to be different from now."""
    wanted: dict[str, Attrs | None] = {}
    if _unfinished(kept, now):
        wanted.update({id: None for id in now if kind(id) in ("table", "rights", "inbound", "closed")})
    else:
        wanted.update(_table(kept, now))
        wanted.update(_closed(kept, now))
    wanted.update(_units(kept, now))
    wanted.update(_interface(kept, now))
    wanted.update(_peers(kept, now))
    return {id: attrs for id, attrs in wanted.items() if attrs != now.get(id)}


def _new(kept: Kept, id: str) -> bool:
    """Whether the write began to make this."""
    return id in kept.before and kept.before[id] is None


def _unfinished(kept: Kept, now: Found) -> bool:
    """Whether our firewall was to be made for the first time, and the last of it is missing: what is saved."""
    id = f"hub/table/{kept.table}"
    return _new(kept, id) and not (now.get(id) or {}).get("saved")


# -- the interface


def _interface(kept: Kept, now: Found) -> Found:
    id = f"hub/interface/{kept.interface}"
    there = now.get(id)
    if id not in kept.before or not there:
        return {}
    before: Attrs = kept.before[id] or {"saved": None, "live": None}
    saved, live = before["saved"], before["live"]
    out: Attrs = {"saved": None, "live": None}
    if there["saved"]:
        model = saved or live
        out["saved"] = {**_as_before(there["saved"], model), "enabled": bool(saved and saved["enabled"])}
        out["saved"].pop("strange", None)
    if live and (there["live"] or there["saved"]):
        key = (there["live"] or there["saved"])["public_key"]
        out["live"] = {**_as_before(live, live), "public_key": key}
    return {id: out}


def _as_before(now: Attrs, before: Attrs | None) -> Attrs:
    return {**now, **{field: before[field] for field in FIELDS}} if before else dict(now)


def _peers(kept: Kept, now: Found) -> Found:
    """Take out what the write routed into the tunnel, if the tunnel was there before."""
    if _new(kept, f"hub/interface/{kept.interface}"):
        return {}
    out = {}
    for id, attrs in now.items():
        routed = set((attrs.get("live") or {}).get("routes", ())) - set(kept.routes) if kind(id) == "peer" else set()
        if routed:
            out[id] = {half: _without(attrs[half], routed) for half in HALVES}
    return out


def _without(half: Attrs | None, prefixes: set[str]) -> Attrs | None:
    if half is None:
        return None
    lists = [key for key in ("allowed_ips", "routes") if key in half]
    return {**half, **{key: [prefix for prefix in half[key] if prefix not in prefixes] for key in lists}}


# -- the firewall


def _table(kept: Kept, now: Found) -> Found:
    id = f"hub/table/{kept.table}"
    before, there = kept.before.get(id), now.get(id)
    if not there:
        return {}
    if not before:
        return _rights(kept, now)
    out: Attrs = {}
    for half in HALVES:
        own = {key: before[half][key] for key in OWN} if before.get(half) else {}
        out[half] = {**there[half], **own, "strange": []} if there.get(half) else None
    return {id: out, **_rights(kept, now)}


def moved(id: str, before: Found, now: Found) -> dict[str, str]:
    """The hub's new address -> its old one, where it has one of the kind on both sides. id: the table's."""
    olds, news = (((found.get(id) or {}).get("live") or {"hub": []})["hub"] for found in (before, now))
    out = {}
    for inet6 in (False, True):
        old = [prefix for prefix in olds if (":" in prefix) == inet6]
        new = [prefix for prefix in news if (":" in prefix) == inet6]
        if len(old) == len(new) == 1 and old != new:
            out[new[0]] = old[0]
    return out


def _rights(kept: Kept, now: Found) -> Found:
    """What the write keeps is there again, where killed steps had taken it, and at the hub's old address."""
    own = now[f"hub/table/{kept.table}"]
    return {
        id: {
            half: _right(kept, stays[half], (now.get(id) or {}).get(half)) if own.get(half) else None for half in HALVES
        }
        for id, stays in kept.rights.items()
    }


def _right(kept: Kept, stays: Attrs | None, now: Attrs | None) -> Attrs | None:
    if stays is None or (now and now.get("peer") != stays.get("peer")):
        return now
    had = set(stays["allow"])
    has = [text for text in (now or {"allow": []})["allow"] if _old(text, kept.moved) not in had]
    allow = _ordered([*has, *had])
    return now if now and set(allow) == set(now["allow"]) else {**stays, "allow": allow}


def _ordered(allow: list[str]) -> list[str]:
    return sorted(set(allow)) if any(" -> " in text for text in allow) else rights.texts(map(rights.parse, allow))


def _closed(kept: Kept, now: Found) -> Found:
    """The rules stay: taking one away opens the mesh."""
    id = f"hub/closed/{kept.interface}"
    there = now.get(id)
    if id not in kept.before or not there:
        return {}
    values = {key: kept.sysctl.get(key) or value for key, value in there["live"]["sysctl"].items()}
    return {id: {"live": {**there["live"], "sysctl": values}}}


def _units(kept: Kept, now: Found) -> dict[str, Attrs | None]:
    out: dict[str, Attrs | None] = {}
    for id, before in kept.before.items():
        if kind(id) != "unit" or not (before or now.get(id)):
            continue
        if before:
            out[id] = {"text": before["text"], "mode": before["mode"]}
        elif _unfinished(kept, now) or not id.startswith("hub/unit/etc/systemd/"):
            out[id] = None
        else:  # it keeps the mesh closed after a reboot, so it stays, with the kernel settings of before
            out[id] = {"text": _settings(now[id]["text"], kept.sysctl), "mode": now[id]["mode"]}
    return out


def _settings(text: str, sysctl: Mapping[str, str]) -> str:
    """The unit with each kernel setting that it makes as it was; desired/firewall_units.py writes them like this."""
    for key, value in sysctl.items():
        place = f">/proc/sys/{key.replace('.', '/')}"
        for other in ("0", "1"):
            text = text.replace(f"echo {other} {place}", f"echo {value} {place}") if value else text
    return text
