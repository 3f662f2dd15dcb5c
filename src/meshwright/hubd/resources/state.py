"""The hub as resources: what is there now, put into the words of hub/... resources; and back into confs and tables.

Every attrs is {"saved": X, "live": X}: what a reboot comes back to, and what works now; a missing half is null.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .. import FORMAT
from ..firewall import closed, nft
from ..host import system, units
from ..host.place import Place as Place  # noqa: PLC0414
from ..kernel import device, wg
from ..metrics import exporter

Attrs = typing.Dict[str, Any]  # noqa: UP006  Python 3.8 has no dict[...] when it runs
HALVES = ("saved", "live")


def place(payload: Mapping[str, Any]) -> Place:
    """The place that a payload names."""
    return Place(
        payload["interface"],
        payload["table"],
        payload.get("mark", 0),
        tuple(payload.get("sysctl", ())),
        tuple(payload.get("units", ())),
    )


class State(NamedTuple):
    """Everything read at one moment. Keys: the public halves of the private keys in conf and device. Exposed: others
    than its owner can open the conf, which holds the private key."""

    conf: wg.Conf | None
    live: device.Live | None
    keys: Mapping[str, str]
    enabled: bool
    objects: list[dict[str, Any]]
    tables: Mapping[str, Attrs | None]
    mark: int
    closed: Attrs | None
    units: Mapping[str, Attrs]
    exposed: bool = False
    program: Attrs | None = None
    exporter: Attrs | None = None


def read(where: Place) -> State:
    """Read the hub. A few programs, each once, whatever the number of peers."""
    text = system.read_file(where.conf)
    conf = wg.parse_conf(text.decode(errors="replace")) if text is not None else None
    live = device.read(where.interface)
    objects = listed(where.table)
    tables = {"saved": _saved(where), "live": nft.parse(objects, where.table)}
    # a change that leaves the table alone does not name the mark; then the table's own holds
    mark = where.mark or next((table["mark"] for table in tables.values() if table), 0)
    return State(
        conf,
        live,
        _public(conf.private_key if conf else "", live.device.private_key if live else ""),
        units.enabled(where.service),
        objects,
        tables,
        mark,
        closed.read(where.interface, mark, where.sysctl),
        # what nobody wants any more is not named by the wanted side, and found nevertheless
        {path: unit for path in sorted({*where.units, where.socket}) if (unit := _unit(path))},
        text is not None and (system.loose(where.conf) or bool(os.stat(where.conf).st_mode & 0o077)),
        _program(where),
        exporter.read(where.exporter),
    )


def _public(saved: str, live: str) -> dict[str, str]:
    first = device.public_key(saved)
    return {"saved": first, "live": first if saved == live else device.public_key(live)}


def listed(table: str) -> list[Attrs]:
    """The table's objects as nft lists them, [] when there is no such table."""
    done = system.attempt(["nft", "-j", "-f", "-"], stdin=json.dumps({"nftables": nft.listing(table)}).encode())
    if not done.code:
        found: list[Attrs] = json.loads(done.out)["nftables"] if done.out.strip() else []
        return found
    if "No such file" in done.err:
        return []
    lines = done.err.strip().splitlines() or [f"code {done.code}"]
    raise system.HubError(f"nft: {lines[0][:300]}", "look at what nft says on the hub")


def _saved(where: Place) -> Attrs | None:
    """The table that the saved file would load, None when there is no such file or nft could not load it."""
    data = system.read_file(where.ruleset)
    try:
        found = nft.parse(_objects(json.loads(data)["nftables"]), where.table) if data else None
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
        return None
    said = system.in_others_hands(where.ruleset)
    return {**found, "strange": [*found.get("strange", []), said]} if found and said else found


def neighbours(where: Place) -> list[str]:
    """Names of other tables saved here that guard the same interface."""
    folder = os.path.dirname(where.ruleset)
    files = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    names = [file[:-5] for file in files if file.endswith(".json") and file[:-5] != where.table]
    found = {name: _saved(where._replace(table=name)) for name in names}
    return [name for name, table in found.items() if table and table["interface"] == where.interface]


def _objects(commands: list[Attrs]) -> list[Attrs]:
    """What a list would show after these `add` commands: elements stand inside their sets."""
    out: list[Attrs] = []
    sets: dict[str, list[Any]] = {}
    for command in commands:
        for kind, body in command.get("add", {}).items():
            if kind == "element":
                sets[body["name"]] += body["elem"]
            elif kind in ("set", "map"):
                out.append({kind: {**body, "elem": sets.setdefault(body["name"], [])}})
            else:
                out.append({kind: body})
    return out


PROGRAM = re.compile(rb"#!.*\n# meshwright hubd, format ([0-9]{1,6})\n")


def _program(where: Place) -> Attrs | None:
    """The program that stays here, as one file; format 0 for one that does not say it."""
    data = system.read_file(where.program)
    if data is None:
        return None
    said = PROGRAM.match(data)
    return {
        "format": int(said[1]) if said else 0,
        "sha256": hashlib.sha256(data).hexdigest(),
        "mode": f"{stat.S_IMODE(os.stat(where.program).st_mode):04o}",
        "path": where.program,
        **_strange(where.program),
    }


def _strange(path: str) -> Attrs:
    """What is no attribute that anybody wants, so it is drift: the file, or our folder that it is in, can be written by
    others than root."""
    said = system.in_others_hands(path)
    return {"strange": said} if said else {}


def check_formats(state: State) -> None:
    """Refuse what a newer meshwright wrote: this one would take for damage what it does not know."""
    tables = [table["format"] for table in state.tables.values() if table]
    found = {
        "table": (max(tables, default=0), nft.FORMAT),
        "hubd": ((state.program or {}).get("format", 0), FORMAT),
        "exporter": ((state.exporter or {}).get("format", 0), exporter.FORMAT),
    }
    for name, (there, ours) in found.items():
        if there > ours:
            raise system.HubError(
                f"a newer meshwright wrote this hub: its {name} has format {there}, this one knows up to {ours}",
                "upgrade meshwright where you run it, then try again",
            )


def _unit(path: str) -> Attrs | None:
    data = system.read_file(path)
    if data is None:
        return None
    mode = f"{stat.S_IMODE(os.stat(path).st_mode):04o}"
    attrs = {"text": data.decode(errors="replace"), "mode": mode, **_strange(path)}
    name = os.path.basename(path)
    if name.endswith(units.KINDS) and not (units.enabled(name) and units.active(name)):
        attrs["state"] = "not in force"  # nobody wants this key, so a unit that was stopped or disabled is drift
    return attrs


def names(
    keys: Iterable[str], known: Mapping[str, str], labels: Mapping[str, str], comments: Mapping[str, str]
) -> dict[str, str]:
    """Public key -> resource id, for the peers of one half. Every id is used once.

    `known` (key -> id) is what an earlier reading said; then the mesh's labels, then the comments in the conf decide;
    a peer that nobody knows is called by its key.
    """
    keys = list(keys)
    found = {key: known[key] for key in keys if key in known}
    taken = set(found.values())
    for source in (labels, comments):
        for key in keys:
            id = f"hub/peer/{source[key]}" if source.get(key) else ""
            if id and key not in found and id not in taken:
                found[key] = id
                taken.add(id)
    return {key: found.get(key, f"hub/peer/{key}") for key in keys}


def resources(state: State, where: Place, labels: Mapping[str, str], known: Mapping[str, Mapping[str, str]]) -> Attrs:
    """id -> attrs of everything that is there and ours. `known`: half -> names() of an earlier reading."""
    out: Attrs = {}
    _both(out, f"hub/interface/{where.interface}", _interface(state))
    for half, peers in _peers(state, labels, known).items():
        for id, attrs in peers.items():
            out.setdefault(id, {"saved": None, "live": None})[half] = attrs
    for half, table in state.tables.items():
        for id, attrs in _table(where, table).items():
            out.setdefault(id, {"saved": None, "live": None})[half] = attrs
    if state.closed:
        out[f"hub/closed/{where.interface}"] = {"live": state.closed}
    out.update({f"hub/unit{path}": unit for path, unit in state.units.items()})
    if state.program:
        out[f"hub/program/{where.table}"] = {"saved": state.program}
    if state.exporter:
        out[f"hub/exporter/{where.table}"] = {"saved": state.exporter}
    return out


def _both(out: Attrs, id: str, halves: Attrs) -> None:
    if any(halves.values()):
        out[id] = halves


def _interface(state: State) -> Attrs:
    saved = live = None
    if state.conf is not None:
        saved = {
            "public_key": state.keys["saved"],
            "listen": state.conf.listen,
            "addresses": list(state.conf.addresses),
            "mtu": state.conf.mtu,
            "enabled": state.enabled,
        }
        strange = [*state.conf.strange, *(["others can open the file"] if state.exposed else [])]
        if strange:
            saved["strange"] = "; ".join(strange)  # nobody wants this key, so it is drift
    if state.live is not None and state.live.up:
        live = {
            "public_key": state.keys["live"],
            "listen": state.live.device.listen,
            "addresses": list(state.live.addresses),
            "mtu": state.live.mtu,
        }
    return {"saved": saved, "live": live}


def _peers(state: State, labels: Mapping[str, str], known: Mapping[str, Mapping[str, str]]) -> dict[str, Attrs]:
    blocks = state.conf.peers if state.conf else {}
    comments = {key: block.label for key, block in blocks.items()}
    out: dict[str, Attrs] = {"saved": {}, "live": {}}
    for key, id in names(blocks, known.get("saved", {}), labels, comments).items():
        block = blocks[key]
        out["saved"][id] = _peer(key, block.allowed_ips, block.preshared_key)
        if not id.endswith((key, f"/{block.label}")):
            out["saved"][id]["strange"] = "the conf does not say its name"  # nobody wants this key, so it is drift
    if state.live is None:
        return out
    peers = state.live.device.peers
    routed = set(state.live.routes)
    for key, id in names(peers, known.get("live", {}), labels, comments).items():
        peer = peers[key]
        out["live"][id] = _peer(key, peer.allowed_ips, peer.preshared_key)
        out["live"][id]["routes"] = [prefix for prefix in peer.allowed_ips if prefix in routed]
    return out


def _peer(key: str, allowed: Iterable[str], shared: str) -> Attrs:
    return {"public_key": key, "allowed_ips": list(allowed), "preshared_key": shared}


def _table(where: Place, table: Mapping[str, Any] | None) -> Attrs:
    if table is None:
        return {}
    own = {key: table[key] for key in ("interface", "mark", "format", "hub", "masquerade")}
    out: Attrs = {
        f"hub/table/{where.table}": {**own, "strange": table.get("strange", [])},
        f"hub/inbound/{where.table}": {"allow": table["inbound"]},
    }
    for prefix, right in table["sources"].items():
        out[f"hub/rights/{prefix}"] = {"peer": right["peer"], "allow": right["allow"]}
    return out


def table(found: Mapping[str, Attrs], where: Place, half: str) -> Attrs | None:
    """The table that the resources describe in one half: the way back."""
    own = (found.get(f"hub/table/{where.table}") or {}).get(half)
    if own is None:
        return None
    inbound = (found.get(f"hub/inbound/{where.table}") or {}).get(half) or {"allow": []}
    rights = {id[len("hub/rights/") :]: attrs.get(half) for id, attrs in found.items() if id.startswith("hub/rights/")}
    out: Attrs = {key: value for key, value in own.items() if key != "strange"}
    return {
        **out,
        "name": where.table,
        "sources": {prefix: right for prefix, right in rights.items() if right},
        "inbound": inbound["allow"],
    }


def observed(state: State, labels: Mapping[str, str]) -> dict[str, Attrs]:
    """id -> what the live device has seen of the peer: endpoint, handshake (epoch seconds, 0 never), bytes."""
    peers = state.live.device.peers if state.live else {}
    blocks = state.conf.peers if state.conf else {}
    found = names(peers, {}, labels, {key: block.label for key, block in blocks.items()})
    fields = ("endpoint", "handshake", "received", "sent")
    return {found[key]: {field: getattr(peer, field) for field in fields} for key, peer in peers.items()}


def device_wanted(found: Mapping[str, Attrs], before: wg.Device) -> wg.Device:
    """The device's peers as the resources want them; what is only observed is left as it was."""
    peers = {}
    for _, half in _halves(found, "live"):
        old = before.peers.get(half["public_key"], wg.Peer())
        peers[half["public_key"]] = old._replace(
            allowed_ips=tuple(half["allowed_ips"]), preshared_key=half["preshared_key"]
        )
    return before._replace(peers=peers)


def conf_wanted(found: Mapping[str, Attrs], before: wg.Conf) -> wg.Conf:
    """The conf's peers as the resources want them; lines that are not ours stay, in the blocks that stay."""
    peers = {}
    for id, half in _halves(found, "saved"):
        key = half["public_key"]
        label = "" if id.endswith(key) else id.rpartition("/")[2]
        extra = before.peers[key].extra if key in before.peers else ()
        peers[key] = wg.Block(label, tuple(half["allowed_ips"]), half["preshared_key"], extra)
    return before._replace(peers=peers)


def _halves(found: Mapping[str, Attrs], half: str) -> list[tuple[str, Attrs]]:
    ids = sorted(id for id in found if id.startswith("hub/peer/"))
    return [(id, found[id][half]) for id in ids if found[id].get(half)]
