"""A home gateway that is a Linux router with nftables: one table of ours with the port forward, loaded again at boot.

The table is `ip NAME` (or `ip6 NAME`); nobody else's table is touched. A router whose own forward chain drops must
let forwarded connections pass by itself (`ct status dnat accept`): an accept of ours cannot overrule its drop.
Format: libnftables-json(5).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from meshwright.desired.resource import Resource, Resources
from meshwright.errors import HostError
from meshwright.events import Tell
from meshwright.hubd.firewall import nft
from meshwright.io.host import Host, remote
from meshwright.plan.plan import Change
from meshwright.providers.base import Result

Forward = Mapping[str, Any]


@dataclass(frozen=True)
class NftablesGateway:
    """host: the router. wan: the interface towards the internet. table: the name of our table there."""

    host: Host
    wan: str
    table: str
    name: str
    system: str = "gateway"

    @property
    def _saved(self) -> str:
        return f"/etc/meshwright/{self.table}-gateway.json"

    @property
    def _unit(self) -> str:
        return f"meshwright-{self.table}-gateway.service"

    def read(self, wanted: Resources) -> dict[str, Resource]:
        family = _family(next(iter(_forwards(wanted)), {}))
        asked = json.dumps({"nftables": nft.listing(self.table, family)}).encode()
        live = self.host.run(["nft", "-j", "-f", "-"], stdin=asked, timeout=30)
        saved = self.host.run(["cat", self._saved, f"/etc/systemd/system/{self._unit}"], timeout=30)
        halves = {
            "saved": self._parse(saved.out.partition(b"\n")[0], family) if saved.code == 0 else None,
            "live": self._parse(live.out, family) if live.code == 0 else None,
        }
        if halves["saved"] is None and halves["live"] is None:
            return {}
        id = f"gateway/forward/{self.name}"
        after = wanted[id].after if id in wanted else ()
        return {id: Resource(id, halves, after=after)}

    def apply(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        return [self._apply(change) for change in changes]

    def _apply(self, change: Change) -> Result:
        try:
            if change.wanted is None:
                self._remove(_family(change.before or {}))
            else:
                self._write(change.wanted["live"])
        except HostError as error:
            return Result(change.id, False, why=error.message, hint=error.hint)
        return Result(change.id, True, change.wanted or {})

    def _write(self, forward: Forward) -> None:
        commands = self._create(forward)
        saved = json.dumps({"nftables": commands}).encode() + b"\n"
        self._do(
            ("load", {"commands": commands}),
            ("put", _file(self._saved, saved)),
            ("put", _file(f"/etc/systemd/system/{self._unit}", _unit(self._saved).encode())),
            ("service", {"name": self._unit, "action": "enable"}),
            ("service", {"name": self._unit, "action": "start"}),  # only an active unit follows the firewall's reload
        )

    def _remove(self, family: str) -> None:
        # add before delete: deleting a table that is gone already is no error then
        gone = [{verb: {"table": {"family": family, "name": self.table}}} for verb in ("add", "delete")]
        self._do(
            ("service", {"name": self._unit, "action": "stop"}),
            ("service", {"name": self._unit, "action": "disable"}),
            ("remove", {"path": self._saved}),
            ("remove", {"path": f"/etc/systemd/system/{self._unit}"}),
            ("load", {"commands": gone}),
        )

    def _do(self, *steps: tuple[str, dict[str, Any]]) -> None:
        """All steps in one remote call."""
        remote(self.host, "batch", {"steps": steps})

    def _create(self, forward: Forward) -> list[dict[str, Any]]:
        """The commands that replace our table by one with this forward, in one transaction."""
        family = _family(forward)
        table = {"family": family, "name": self.table}
        chain = {**table, "table": self.table, "name": "forwards"}
        base = {**chain, "type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}
        return [
            {"add": {"table": table}},
            {"delete": {"table": table}},
            {"add": {"table": table}},
            {"add": {"chain": base}},
            {"add": {"rule": {**table, "table": self.table, "chain": "forwards", "expr": self._rule(forward)}}},
        ]

    def _rule(self, forward: Forward) -> list[dict[str, Any]]:
        port = {"payload": {"protocol": forward["protocol"], "field": "dport"}}
        return [
            {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": self.wan}},
            {"match": {"op": "==", "left": port, "right": forward["port"]}},
            {"dnat": {"addr": forward["to"], "port": forward["to_port"]}},
        ]

    def _parse(self, text: bytes, family: str) -> dict[str, Any] | None:
        """The forward that a listing or our saved file holds; what is not exactly ours is named under `strange`."""
        try:
            objects = [next(iter(o.values())) if "add" in o else o for o in json.loads(text)["nftables"]]
        except (ValueError, KeyError, IndexError):
            return {"strange": "not an nftables listing"}
        rules = [o["rule"]["expr"] for o in objects if "rule" in o]
        chains = [o["chain"] for o in objects if "chain" in o]
        try:
            dnat = rules[0][2]["dnat"]
            match = rules[0][1]["match"]
            found = {
                "protocol": match["left"]["payload"]["protocol"],
                "port": match["right"],
                "to": dnat["addr"],
                "to_port": dnat["port"],
            }
        except (KeyError, IndexError, TypeError):
            return {"strange": "no port forward in our table"}
        base = len(chains) == 1 and chains[0].get("hook") == "prerouting" and chains[0].get("prio") == -100
        if not base or rules != [self._rule(found)] or _family(found) != family:
            return {**found, "strange": "our table was edited"}
        return found


def _forwards(wanted: Resources) -> list[Forward]:
    return [r.attrs["live"] for r in wanted.values() if r.id.startswith("gateway/forward/")]


def _family(attrs: Mapping[str, Any]) -> str:
    half = attrs.get("live") or attrs.get("saved") or attrs
    to = half.get("to")
    return "ip6" if to and ip_address(to).version == 6 else "ip"


def _file(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "data": base64.b64encode(data).decode(), "mode": 0o644}


def _unit(saved: str) -> str:
    return (
        "[Unit]\nDescription=meshwright: port forward to the mesh\n"
        "After=nftables.service firewalld.service\nPartOf=nftables.service firewalld.service\n"
        "ReloadPropagatedFrom=nftables.service firewalld.service\n\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart=/usr/sbin/nft -j -f {saved}\nExecReload=/usr/sbin/nft -j -f {saved}\n\n"
        # PartOf= carries a stop but no start: what the host's firewall starts again has to want us
        "[Install]\nWantedBy=multi-user.target nftables.service firewalld.service\n"
    )
