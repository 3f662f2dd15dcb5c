"""Writing the hub: a list of named steps from what is there to what is wanted, in the one safe order.

Whoever is killed between any two of them leaves less access than before or after, never more, and the next run goes on
from there:
    hubd off    the service stops if its program or unit changes: a killed run leaves it stopped, which is seen
    units       unit files and kernel settings, before anything could need them after a reboot
    closed      the rule that keeps the mesh shut without the table
    reduce      one nft transaction: rights that went away, addresses that change hands; never a new source
    end flows   conntrack entries of what was taken
    save less   the saved table too, if an address changes hands: a reboot must not join old rights with a new owner
    interface   the interface itself, its conf first
    peers       the live peers: removals, then changes, in one write
    end moved   conntrack entries of addresses that had another peer until the step before
    conf        the conf file
    grant       one nft transaction: the rest
    save        the saved table; its old content was the proof that `end flows` may not have been done
    metrics     what the exporter serves by: everybody whom it expects can be there now
    hubd on     the service, with the tunnel as it shall be
    remove      what shall not exist at all: interface, table, units, last of all the rule
    heard       nothing is written: an exporter that nobody can read is told as a change that failed
"""

from __future__ import annotations

import contextlib
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..firewall import closed, judge, nft
from ..host import system, units
from ..kernel import conntrack, device, wg
from . import packed, state
from .state import Attrs, Place, State


class Step(NamedTuple):
    name: str
    do: Callable[[], None]


class Target(NamedTuple):
    """What shall be there, as resources and as the things they describe."""

    resources: Mapping[str, Attrs]
    changed: frozenset[str]
    tables: Mapping[str, Attrs | None]
    private: Mapping[str, str]

    def touches(self, *kinds: str) -> bool:
        return any(id.split("/")[1] in kinds for id in self.changed)


Ready = typing.Callable[[State, typing.Mapping[str, Attrs], Target], None]


def write(payload: Mapping[str, Any], ready: Ready = lambda *_: None) -> list[dict[str, Any]]:
    """Write the payload's changes -> one {"id", "ok", "why", "hint", "attrs"} per change.

    ready: called once with what is there and what shall be, right before the first step; its HubError stops all.
    """
    where = state.place(payload)
    before = state.read(where)
    state.check_formats(before)
    changes = {change["id"]: change for change in payload["changes"]}
    labels, known = _names(changes)
    there = state.resources(before, where, labels, known)
    moved_on = [id for id, change in changes.items() if there.get(id) != change["before"]]
    if moved_on:
        return [_refused(id, moved_on) for id in changes]
    try:
        _check_alone(before, where)
        target = aim(there, changes, before, where)
        ready(before, there, target)
        for step in steps(before, there, target, where, payload.get("program", "")):
            step.do()
    except system.HubError as error:
        return _partly(changes, where, labels, error)
    return [_result(id, target.resources.get(id) or {}) for id in changes]


def check_new(before: State, where: Place) -> None:
    """HubError for a table that is not in force on this interface yet, where a write would be refused."""
    table = before.tables["saved"] or before.tables["live"]
    if not table or table["interface"] != where.interface:
        _check_alone(before, where)


def _check_alone(before: State, where: Place) -> None:
    """One table guards one interface. Turned to another, it would pass all that the first one still takes in; and a
    second table on the same interface would go on dropping what only it does not know."""
    table = before.tables["saved"] or before.tables["live"]
    old = table["interface"] if table else ""
    service = f"wg-quick@{old}.service"
    if old not in ("", where.interface) and (device.read(old) or units.enabled(service)):
        raise system.HubError(
            f"the table {where.table} guards {old}, which is still in use: without it {old} would be open to all",
            f"on the hub: systemctl disable --now {service}; to keep the hub's key: "
            f"mv /etc/wireguard/{old}.conf {where.conf}; then plan again",
        )
    for other in state.neighbours(where):
        raise system.HubError(
            f"{where.interface} is guarded already, by the table {other} of another mesh, or of this one's old name",
            f"keep that name; or on the hub: systemctl disable --now meshwright-{other}.service; "
            f"rm /etc/meshwright/{other}.json; nft delete table inet {other}; then plan again",
        )


def _names(changes: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """(labels by public key as wanted, and the ids by public key that the plan was made with, per half)."""
    labels: dict[str, str] = {}
    known: dict[str, dict[str, str]] = {half: {} for half in state.HALVES}
    for id, change in changes.items():
        if id.startswith("hub/peer/"):
            for half in state.HALVES:
                seen = (change["before"] or {}).get(half)
                wanted = (change["after"] or {}).get(half)
                if seen:
                    known[half][seen["public_key"]] = id
                if wanted:
                    labels[wanted["public_key"]] = id[len("hub/peer/") :]
    return labels, known


def _refused(id: str, moved_on: list[str]) -> dict[str, Any]:
    why = "changed since the plan" if id in moved_on else f"not written: {moved_on[0]} changed since the plan"
    return {"id": id, "ok": False, "why": why, "hint": "plan again and look at what changed", "attrs": {}}


def _result(id: str, attrs: Attrs) -> dict[str, Any]:
    return {"id": id, "ok": True, "why": "", "hint": "", "attrs": attrs}


def _partly(
    changes: Mapping[str, Any], where: Place, labels: Mapping[str, str], error: system.HubError
) -> list[dict[str, Any]]:
    """After a step failed: look which changes are there nevertheless."""
    try:
        now = state.resources(state.read(where), where, labels, {})
    except system.HubError:
        now = {}
    out = []
    for id, change in changes.items():
        done = now.get(id) == change["after"]
        out.append(
            _result(id, now.get(id) or {})
            if done and now
            else {"id": id, "ok": False, "why": str(error), "hint": error.hint, "attrs": {}}
        )
    return out


def aim(there: Mapping[str, Attrs], changes: Mapping[str, Any], before: State, where: Place) -> Target:
    """What is there with the changes made to it. The interface's unknown key is settled here: kept, or born."""
    wanted = {**there, **{id: change["after"] for id, change in changes.items()}}
    found = {id: attrs for id, attrs in wanted.items() if attrs is not None}
    id = f"hub/interface/{where.interface}"
    private: dict[str, str] = {}
    if id in found:
        found[id], private = _with_key(found[id], before)
    tables = {half: state.table(found, where, half) for half in state.HALVES}
    return Target(found, frozenset(changes), tables, private)


def _with_key(attrs: Attrs, before: State) -> tuple[Attrs, dict[str, str]]:
    """The interface's attrs with their public keys filled in, and the private key of each half.

    A wanted key must be on the hub already, saved or live: nobody else has it. When none is named, the saved one
    is kept (a reboot would bring it back), then the live one; only when there is neither a new one is made.
    """
    have = {
        before.keys["live"]: before.live.device.private_key if before.live else "",
        before.keys["saved"]: before.conf.private_key if before.conf else "",
    }
    default = before.keys["saved"] or before.keys["live"]
    if not default and any(half and not half["public_key"] for half in attrs.values()):
        fresh = device.new_key()
        default = device.public_key(fresh)
        have[default] = fresh
    out: Attrs = {}
    private: dict[str, str] = {}
    for half, values in attrs.items():
        key = values and (values["public_key"] or default)
        if key and not have.get(key):
            raise system.HubError(
                f"the private key that belongs to {key} is not on the hub",
                "put it back from a backup, or take hub.public_key out of the mesh file to keep the hub's own",
            )
        out[half] = {**values, "public_key": key} if values else values
        private[half] = have[key] if key else ""
    return out, private


def steps(before: State, there: Mapping[str, Attrs], target: Target, where: Place, program: str = "") -> list[Step]:
    """Everything to do, in order. Each step is harmless when done again. program: as it came, packed."""
    job = _Job(before, there, target, where)
    service = packed.Service(target.changed, target.resources, where, program)
    return [
        Step("hubd off", service.off),
        Step("units", job.units),
        Step("closed", job.closed),
        Step("reduce", job.reduce),
        Step("end flows", job.end_flows),
        Step("save less", job.save_less),
        Step("interface", job.interface),
        Step("peers", job.peers),
        Step("end moved", job.end_moved),
        Step("conf", job.conf),
        Step("grant", job.grant),
        Step("save", job.save),
        Step("metrics", service.metrics),
        Step("hubd on", service.on),
        Step("remove", job.remove),
        Step("heard", service.heard),
    ]


class _Job:
    """One write: what was there, what shall be, and the live table and interface as the steps leave them."""

    def __init__(self, before: State, there: Mapping[str, Attrs], target: Target, where: Place) -> None:
        self.before, self.target, self.where = before, target, where
        self.there = there
        self.written = before.conf
        self.live = before.live
        self.objects: list[Attrs] | None = before.objects  # None: to be listed again
        self.less: Attrs | None = None

    # -- closed and units

    def units(self) -> None:
        where = self.where
        wanted = {id: attrs for id, attrs in self.target.resources.items() if id in self.target.changed and _unit(id)}
        for id, attrs in wanted.items():
            system.write_file(_unit(id), attrs["text"].encode(), int(attrs["mode"], 8))
        services = [_unit(id).rpartition("/")[2] for id in wanted if id.endswith(units.KINDS)]
        if any(_unit(id).startswith("/etc/systemd/") for id in wanted):
            units.act(where.service, "daemon-reload")
        for name in services:
            units.act(name, "enable")

    @property
    def _open(self) -> bool:
        """Whether the interface runs without anything of ours: then everybody may do everything, and the whole table
        at once only takes away. Nobody who keeps a right loses a packet."""
        live = self.before.live
        return live is not None and live.up and not self.before.closed and not self.before.tables["live"]

    def closed(self) -> None:
        if not self._open:
            self._close()

    def _close(self) -> None:
        attrs = self.target.resources.get(f"hub/closed/{self.where.interface}")
        if attrs and self.target.touches("closed"):
            closed.write(self.where.interface, self.where.mark or self.before.mark, attrs["live"])

    # -- the table

    @property
    def _table_changes(self) -> bool:
        return self.target.touches("table", "rights", "inbound")

    def _moved(self) -> set[str]:
        """Prefixes whose rights pass from one peer to another, as seen from either half."""
        table = self.target.tables["live"] or {"sources": {}}
        return {
            prefix
            for half in self.before.tables.values()
            for prefix, right in (half or {"sources": {}})["sources"].items()
            if prefix in table["sources"] and table["sources"][prefix]["peer"] != right["peer"]
        }

    def reduce(self) -> None:
        table = self.target.tables["live"]
        if self._open:
            if table is not None:
                self._load(table)
            self._close()
            return
        if table is None or not self._table_changes:
            return
        before = self.before.tables["live"] or {**table, "sources": {}, "inbound": []}
        self.less = nft.between(before, table, self._moved())
        self._load(self.less)

    def _load(self, table: Attrs) -> None:
        if self.objects is None:
            self.objects = state.listed(self.where.table)
        commands = nft.transaction(self.objects, table)
        if commands:
            system.run(["nft", "-j", "-f", "-"], stdin=json.dumps({"nftables": commands}).encode())
            self.objects = None

    def end_flows(self) -> None:
        """Judge by what may go on at the end. Either half may name what was lost: so a killed run is made up for."""
        after = self.target.tables["live"]
        befores = [table for table in self.before.tables.values() if table]
        if not self._table_changes or not any(judge.loses(table, after) for table in befores):
            return
        sources: Mapping[str, Any] = after["sources"] if after else {}
        gone = {prefix for table in befores for prefix in table["sources"] if prefix not in sources}
        unwanted = [judge.touching(gone | self._moved()), *(judge.refused(table, after) for table in befores)]
        conntrack.end(lambda flow: any(each(flow) for each in unwanted))

    def save_less(self) -> None:
        if self.less is not None and self.target.tables["saved"] is not None and self._moved():
            self._save(self.less)

    def grant(self) -> None:
        table = self.target.tables["live"]
        if table is not None and self._table_changes:
            self._load(table)

    def save(self) -> None:
        table = self.target.tables["saved"]
        if table is not None and self._table_changes:
            self._save(table)
        for id in self.target.changed - {f"hub/unit/etc/systemd/system/{self.where.hubd}"}:
            if _unit(id).endswith(".service") and id in self.target.resources:
                units.act(_unit(id).rpartition("/")[2], "start")

    def _save(self, table: Attrs) -> None:
        text = json.dumps({"nftables": nft.create(table)})  # one line: only so is it the fast encoder that writes it
        system.write_file(self.where.ruleset, text.encode() + b"\n", 0o600)

    # -- the interface

    @property
    def _interface(self) -> Attrs:
        return self.target.resources.get(f"hub/interface/{self.where.interface}") or {"saved": None, "live": None}

    def interface(self) -> None:
        """Bring the interface up, or change it in place; a restart only when there is none."""
        wanted = self._interface["live"]
        if not wanted or not self.target.touches("interface"):
            return
        live = self.live or self._start()
        own = live.device._replace(private_key=self.target.private["live"], listen=wanted["listen"])
        device.change(self.where.interface, live.device, own)
        device.address(self.where.interface, live.addresses, wanted["addresses"])
        if live.mtu != wanted["mtu"]:
            device.mtu(self.where.interface, wanted["mtu"])
        if not live.up:
            device.up(self.where.interface)

    def _start(self) -> device.Live:
        """The first start: a conf without peers, so that nobody gets in before the rest is written."""
        if device.exists(self.where.interface):
            raise system.HubError(
                f"{self.where.interface} exists and is no WireGuard interface",
                "remove that link, or choose another hub.interface",
            )
        conf = self._conf()
        if conf is None:
            raise system.HubError(f"{self.where.interface} is wanted live but not saved", "this is a bug; report it")
        self._write_conf(conf._replace(peers={}))
        device.wait_for_old(self.where.interface)
        units.act(self.where.service, "restart")
        self.objects = None  # the service may have loaded the saved table on its way
        self.live = device.read(self.where.interface)
        if self.live is None:
            raise system.HubError(f"{self.where.interface} did not come up", f"look at the log of {self.where.service}")
        return self.live

    def peers(self) -> None:
        if self._interface["live"] is None or not self.target.touches("peer", "interface"):
            return
        live = self.live
        if live is None:
            return
        wanted = state.device_wanted(self.target.resources, live.device)
        routes = self._routes()
        device.routes(self.where.interface, remove=self._routes_gone(live, routes))
        device.change(self.where.interface, live.device, wanted)
        device.routes(self.where.interface, add=[prefix for prefix in routes if prefix not in live.routes])

    def _routes(self) -> list[str]:
        halves = [a["live"] for id, a in self.target.resources.items() if id.startswith("hub/peer/") and a.get("live")]
        return [prefix for half in halves for prefix in half["routes"]]

    def _routes_gone(self, live: device.Live, wanted: list[str]) -> list[str]:
        """Routes that belong to a peer's allowed IPs as they were, and to none as they shall be."""
        had = {prefix for peer in live.device.peers.values() for prefix in peer.allowed_ips}
        return [prefix for prefix in live.routes if prefix in had and prefix not in set(wanted)]

    def end_moved(self) -> None:
        """What a prefix's old owner had running ends when the device gave the prefix to another, or took it away."""
        if self.before.live is None or not self.target.touches("peer"):
            return
        wanted = state.device_wanted(self.target.resources, self.before.live.device)
        owner = {prefix: key for key, peer in wanted.peers.items() for prefix in peer.allowed_ips}
        gone = {
            prefix
            for key, peer in self.before.live.device.peers.items()
            for prefix in peer.allowed_ips
            if owner.get(prefix) != key
        }
        if gone:
            conntrack.end(judge.touching(gone))

    def conf(self) -> None:
        conf = self._conf()
        if conf is not None and self.target.touches("interface", "peer"):
            self._write_conf(conf)
            if self._interface["saved"].get("enabled") and not units.enabled(self.where.service):
                units.act(self.where.service, "enable")

    def _conf(self) -> wg.Conf | None:
        saved = self._interface["saved"]
        if saved is None:
            return None
        conf = state.conf_wanted(self.target.resources, self.before.conf or wg.Conf())
        return conf._replace(
            private_key=self.target.private["saved"],
            listen=saved["listen"],
            addresses=tuple(saved["addresses"]),
            mtu=saved["mtu"],
            strange=(),
        )

    def _write_conf(self, conf: wg.Conf) -> None:
        if conf != self.written or self.before.exposed:
            system.write_file(self.where.conf, wg.render_conf(conf).encode(), 0o600)
            self.written = conf

    # -- the end of things

    def remove(self) -> None:
        where, gone = self.where, self.target.changed - self.target.resources.keys()
        if f"hub/interface/{where.interface}" in gone:
            units.act(where.service, "disable")
            if units.active(where.service):  # also without an interface: started again, it would do nothing
                with contextlib.suppress(system.HubError):  # without its conf wg-quick cannot take it down
                    units.act(where.service, "stop")
            if device.exists(where.interface):
                device.delete(where.interface)
            system.remove_file(where.conf)
        if f"hub/table/{where.table}" in gone:
            self._delete_table()
            system.remove_file(where.ruleset)
        for id in gone:
            if _unit(id):
                self._remove_unit(_unit(id))
        if f"hub/program/{where.table}" in gone:
            packed.remove(where)
        if f"hub/closed/{where.interface}" in gone:
            closed.remove(where.interface)

    def _delete_table(self) -> None:
        # as JSON: a table may be called like a word of nft's language; added first, so that it is there to be deleted
        table = {"table": {"family": "inet", "name": self.where.table}}
        commands = [{"add": table}, {"delete": table}]
        system.run(["nft", "-j", "-f", "-"], stdin=json.dumps({"nftables": commands}).encode())

    def _remove_unit(self, path: str) -> None:
        name = path.rpartition("/")[2]
        if name.endswith(units.KINDS):
            units.act(name, "stop")
            units.act(name, "disable")
        system.remove_file(path)
        units.act(self.where.service, "daemon-reload")


def _unit(id: str) -> str:
    """The path of a hub/unit resource, "" for any other."""
    return id[len("hub/unit") :] if id.startswith("hub/unit/") else ""
