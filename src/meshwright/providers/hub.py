"""The hub as a system: one remote call reads it, one writes it. What happens there is hubd's."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Literal

from meshwright.desired.resource import Blocked, Resource, Resources, Unknown, fill
from meshwright.errors import HostError
from meshwright.events import Tell
from meshwright.io import program
from meshwright.io.host import Host, Lost, NoPython, remote
from meshwright.io.process import Overdue
from meshwright.plan.diff import same
from meshwright.plan.plan import Change
from meshwright.providers import bootstrap
from meshwright.providers.base import Result

Survey = Literal["always", "new", "never"]
WRITE = 300  # seconds
OLDEST = (3, 9)
FIRST = frozenset({"table", "closed", "unit", "program", "packages"})  # what stands on nothing
SECRET = frozenset({("saved", "preshared_key"), ("live", "preshared_key")})
SECRETS = {"peer": SECRET, "exporter": frozenset({("saved", "key"), ("saved", "token_sha256")})}


@dataclass(frozen=True, slots=True)
class Hub:
    """One WireGuard interface and one nft table on a host. Where a network lies between: patience: seconds after which
    it rolls an unconfirmed write back by itself; insist: one of the active peers must be heard after what may cut them.
    """

    host: Host
    interface: str
    table: str
    system: str = "hub"
    patience: float = 60
    insist: bool = True

    def read(self, wanted: Resources) -> dict[str, Resource]:
        """What is there and ours: the interface with all its peers, the table, the rule, the wanted unit files."""
        return self.look(wanted)[0]

    def look(self, wanted: Resources, survey: Survey = "never") -> tuple[dict[str, Resource], dict[str, Any] | None]:
        """As read, and in the same call what else lives on the hub: always, never, or while it is new to us."""
        packages = bootstrap.packages(wanted)
        asked = {"labels": _labels(wanted), **_asked(wanted, survey), "packages": packages}
        try:
            answer = remote(self.host, "read", {**self._place(wanted), **asked})
        except NoPython:
            traces = [f"/etc/wireguard/{self.interface}.conf", f"/etc/meshwright/{self.table}.json"]
            answer = bootstrap.look(self.host, packages, traces)
        if answer.get("lacking"):
            return bootstrap.blind(answer, wanted), answer.get("survey")
        found = {id: self._resource(id, attrs) for id, attrs in answer["resources"].items()}
        if bootstrap.shared(self.host):
            found.update({id: Resource(id, attrs) for id, attrs in packages.items()})
        found.update(self._without_python(wanted, found, answer.get("service_python", OLDEST)))
        return found, answer.get("survey")

    def sample(self, mark: int, settings: Mapping[str, Any], exporter: Mapping[str, Any] | None) -> dict[str, Any]:
        """One moment of the live mesh, as hubd/status.py says it. settings: who is expected; exporter: where it is."""
        place = {"interface": self.interface, "table": self.table, "mark": mark}
        return remote(self.host, "status.look", {**place, "settings": settings, "exporter": exporter})

    def around(
        self, wanted: Resources, back: dict[str, Any] | None = None
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
        """What the live device has seen, by id: endpoint, handshake (epoch seconds), received, sent (bytes); and in the
        same call what else lives on the hub. back: what to ask of the way back (hubd/survey/wayback.py).
        """
        asked = {"labels": _labels(wanted), **_asked(wanted, "always"), "back": back}
        answer = remote(self.host, "read", {**self._place(wanted), **asked})
        return answer["peers"], answer.get("survey")

    def apply(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        """Write all changes in one call. The hub refuses them all when one of them is not what the plan saw.

        Over a network it rolls them back by itself, unless a second call over a new connection confirms them. What has
        to be installed for them is installed before.
        """
        results = {change.id: bootstrap.install(self.host, change) for change in changes if bootstrap.handles(change)}
        rest = [change for change in changes if change.id not in results]
        if failed := next((result for result in results.values() if not result.ok), None):
            late = [
                Result(c.id, False, why="not written: what it needs is not installed", hint=failed.hint) for c in rest
            ]
            return [*results.values(), *late]
        return [*results.values(), *(self._write(rest, tell) if rest else [])]

    def _write(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        stuck = {change.id: _unresolved(change.wanted) for change in changes if change.id != self._interface}
        if any(stuck.values()):
            return [_unready(change.id, stuck.get(change.id, [])) for change in changes]
        batch = [
            {"id": change.id, "before": change.before, "after": _without_unknown(change.wanted)} for change in changes
        ]
        payload = {**self._place(_sides(changes)), "changes": batch, **_program(changes)}
        if new := self.host.fresh():
            return self._confirmed(changes, payload, new, tell)
        try:
            answer = remote(self.host, "write", payload, timeout=WRITE)
        except HostError as error:
            return [Result(change.id, False, why=error.message, hint=error.hint) for change in changes]
        return _results(answer)

    def _confirmed(self, changes: Sequence[Change], payload: dict[str, Any], new: Host, tell: Tell) -> list[Result]:
        from meshwright.providers import confirm

        order = confirm.order(self.patience, self.insist)
        place = {"interface": self.interface, "table": self.table}
        answer: dict[str, Any] = {}
        armed: dict[str, Any] = {}
        failed: HostError = Lost("")
        with confirm.interruptible(order, armed):
            try:
                answer = remote(self.host, "write", {**payload, "rollback": order}, timeout=WRITE)
                if "rollback" not in answer:
                    return _results(answer)
                armed.update(answer["rollback"])
            except (Lost, Overdue) as error:
                failed = error
            except HostError as error:
                return [Result(change.id, False, why=error.message, hint=error.hint) for change in changes]
            verdict = confirm.settle(self.host, new, place, order, armed, tell)
        if verdict.state == "none":
            return [Result(change.id, False, why=failed.message, hint=failed.hint) for change in changes]
        if verdict.state == "kept" and not answer:
            return self._found(changes, failed)
        results = _results(answer) if answer else [Result(change.id, False) for change in changes]
        return [confirm.judged(result, verdict, self.host.name, known=bool(answer)) for result in results]

    def _found(self, changes: Sequence[Change], failed: HostError) -> list[Result]:
        """After the answer to a write was lost, but the hub can be reached: what is there now."""
        try:
            there = self.read(_sides(changes))
        except HostError as error:
            return [Result(change.id, False, why=error.message, hint=error.hint) for change in changes]
        out = []
        for change in changes:
            attrs = there[change.id].attrs if change.id in there else None
            ok = same(fill(change.wanted, {change.id: attrs or {}}), attrs)
            out.append(Result(change.id, ok, attrs or {}, *(() if ok else (failed.message, failed.hint))))
        return out

    def _without_python(
        self, wanted: Resources, found: Resources, version: Sequence[int]
    ) -> Iterator[tuple[str, Resource]]:
        """The service's program as a thing that has to wait, where nothing on the hub could run it."""
        id = f"hub/program/{self.table}"
        if id in wanted and tuple(version) < OLDEST:
            has = f"/usr/bin/python3 is {'.'.join(map(str, version)) if version else 'missing'}"
            why = f"the hub's {has}, and its service needs {'.'.join(map(str, OLDEST))} or newer"
            blocked = Blocked("waits", why, "the mesh works without it; endpoints are not remembered over a restart")
            yield id, Resource(id, found[id].attrs if id in found else {}, blocked=blocked)

    @property
    def _interface(self) -> str:
        return f"hub/interface/{self.interface}"

    def _place(self, wanted: Resources) -> dict[str, Any]:
        """What hubd has to know beside the names: the mark, kernel settings and unit files that are wanted."""
        table = wanted.get(f"hub/table/{self.table}")
        closed = wanted.get(f"hub/closed/{self.interface}")
        return {
            "interface": self.interface,
            "table": self.table,
            "who": _operator(),
            "mark": (table.attrs.get("live") or {}).get("mark", 0) if table else 0,
            "sysctl": sorted((closed.attrs.get("live") or {}).get("sysctl", {})) if closed else [],
            "units": sorted(id.removeprefix("hub/unit") for id in wanted if id.startswith("hub/unit/")),
        }

    def _resource(self, id: str, attrs: Mapping[str, Any]) -> Resource:
        kind = id.split("/")[1]
        after: tuple[str, ...] = () if kind in FIRST else (f"hub/table/{self.table}",)
        if kind == "peer":
            # the key pair goes last: until the hub has forgotten the peer, its key is worth keeping
            label = id.removeprefix("hub/peer/")
            after = (self._interface, f"files/key/{label}", f"files/preshared/{label}")
        return Resource(id, attrs, SECRETS.get(kind, frozenset()), after)


def _results(answer: Mapping[str, Any]) -> list[Result]:
    return [Result(r["id"], r["ok"], r["attrs"], r["why"], r["hint"]) for r in answer["results"]]


def _program(changes: Sequence[Change]) -> dict[str, str]:
    """The service's program itself, where it is to be written."""
    wanted = any(c.id.startswith("hub/program/") and c.wanted is not None for c in changes)
    return {"program": program.packed()} if wanted else {}


@cache
def _operator() -> str:
    """Who does this, for whoever finds the hub locked."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _labels(wanted: Resources) -> dict[str, str]:
    """Public key -> label of the wanted peers whose key is known."""
    out = {}
    for id, resource in wanted.items():
        if id.startswith("hub/peer/"):
            key = (resource.attrs.get("live") or {}).get("public_key")
            if isinstance(key, str):
                out[key] = id.removeprefix("hub/peer/")
    return out


def _asked(wanted: Resources, survey: Survey) -> dict[str, Any]:
    """What a survey has to know: the UDP ports that shall be ours, some of the networks that rights lead to."""
    if survey == "never":
        return {}
    halves = {id: resource.attrs.get("live") or {} for id, resource in wanted.items()}
    ports = {half["listen"] for id, half in halves.items() if id.startswith("hub/interface/")}
    rights = (half["allow"] for id, half in halves.items() if id.startswith("hub/rights/"))
    words = (text.split()[0] for allow in islice(rights, 50) for text in allow)
    targets = dict.fromkeys(word for word in words if "/" in word)
    return {"survey": survey, "ports": sorted(ports), "targets": list(islice(targets, 6))}


def _sides(changes: Sequence[Change]) -> dict[str, Resource]:
    """The changes as resources, wanted where there is something wanted, for what `_place` reads off them."""
    return {c.id: Resource(c.id, c.wanted if c.wanted is not None else c.before or {}) for c in changes}


def _unresolved(tree: Any) -> list[str]:
    if isinstance(tree, Unknown):
        return [tree.id]
    if isinstance(tree, Mapping):
        return [id for value in tree.values() for id in _unresolved(value)]
    return []


def _without_unknown(tree: Any) -> Any:
    """Plain JSON: the interface's own key, which the hub settles, is null."""
    if isinstance(tree, Unknown):
        return None
    if isinstance(tree, Mapping):
        return {key: _without_unknown(value) for key, value in tree.items()}
    return tree


def _unready(id: str, missing: list[str]) -> Result:
    why = f"{missing[0]} has no value yet" if missing else "not written: another change of the same batch was not ready"
    return Result(id, False, why=why, hint="see why that one failed, then apply again")
