"""What verify looks at on any mesh: is the world as the file says, does the table do what the tests say, who is there.

Each check is a Checked: what was expected, what was observed, and the next step where they differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshwright.desired.facts import Facts
from meshwright.errors import HostError
from meshwright.events import Checked
from meshwright.hubd.firewall import nft
from meshwright.io.host import Host
from meshwright.plan.plan import Change, Plan
from meshwright.plan.text import printable
from meshwright.spec.model import Mesh

SHOWN = 3


def converged(systems: Sequence[str], todo: Plan) -> Iterator[Checked]:
    """One check per system: reading it again must leave nothing to do, and nobody else may hold what should be ours."""
    for system in systems:
        left, hint = _left(system, todo)
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        yield Checked(
            f"{system} is as the file says",
            not left,
            "nothing to do",
            printable(f"differs: {', '.join(left[:SHOWN])}{more}") if left else "nothing to do",
            hint,
        )


def _left(system: str, todo: Plan) -> tuple[list[str], str]:
    """What differs in one system, HOSTILE things first, each with who is behind it; and the next step."""
    changes = [change for change in todo.changes if change.system == system]
    conflicts = {id: why for id, why in todo.conflicts.items() if id.partition("/")[0] == system}
    loud = [f"{change.id} ({change.alarm}{_holders(change)})" for change in changes if change.alarm]
    loud += [f"{id} (HOSTILE: {why.why})" for id, why in conflicts.items() if why.hostile]
    left = [change.id for change in changes if not change.alarm]
    left += [f"{id} ({why.why})" for id, why in conflicts.items() if not why.hostile]
    if changes:
        return [*loud, *left], "look at `meshwright plan`, then `meshwright apply`"
    return [*loud, *left], next((why.hint for why in conflicts.values()), "")


def _holders(change: Change) -> str:
    names = sorted({who for _, who in change.held})
    return f"; fields of it are held by {', '.join(names)}" if names else ""


def resolved(mesh: Mesh, facts: Facts) -> Iterator[Checked]:
    """Every `kubernetes:` service of the file must be there: one that is not stands for nothing."""
    for name, service in mesh.services.items():
        if service.kubernetes:
            why = facts.missing.get(name, "")
            there = ", ".join(map(str, facts.services.get(name, ())))
            hint = f"make it, or correct services.{name} in the file; until then nobody reaches it" if why else ""
            yield Checked(f"service {name}", not why, service.kubernetes, why or there, hint)


def table(host: Host, name: str) -> list[dict[str, Any]]:
    """The nft table `inet NAME` as the host's own nft lists it; [] when there is none."""
    done = host.run(["nft", "-j", "-f", "-"], stdin=json.dumps({"nftables": nft.listing(name)}).encode(), timeout=60)
    if done.code:
        if "No such file" in done.err:
            return []
        raise HostError(f"{host.name}: nft cannot list the table {name}", done.err.strip().splitlines()[0])
    found: list[dict[str, Any]] = json.loads(done.out)["nftables"]
    return found


def closed(mesh: Mesh, host: Host) -> Iterator[Checked]:
    """Nobody's routing rule may stand before the one that keeps the mesh shut: it would be asked first (ip-rule(8))."""
    for flag in ("-4", "-6"):
        done = host.run(["ip", "-j", flag, "rule", "show"], timeout=60)
        rules: list[dict[str, Any]] = json.loads(done.out or b"[]") if done.code == 0 else []
        ours = [r["priority"] for r in rules if r.get("iif") == mesh.hub.interface and r.get("action") == "prohibit"]
        ahead = [r for r in rules if _may_precede(r, mesh.hub.interface, min(ours, default=0))]
        text = ", ".join(f"{r['priority']}: {r.get('table') or r.get('action', '?')}" for r in ahead)
        yield Checked(
            f"no routing rule stands before the closing one ({'IPv4' if flag == '-4' else 'IPv6'})",
            not ahead,
            "none",
            text or "none",
            f"packets of {mesh.hub.interface} meet it first: move that rule behind ours (ip {flag} rule)"
            if ahead
            else "",
        )


def _may_precede(rule: dict[str, Any], interface: str, ours: int) -> bool:
    """Whether a rule between the table `local` and ours could be met by a packet from the tunnel."""
    elsewhere = rule.get("iif", interface) != interface and "not" not in rule
    return 0 < rule["priority"] < ours and not elsewhere


def handshakes(mesh: Mesh, facts: Facts, seen: Mapping[str, Mapping[str, Any]] | None) -> Iterator[Checked]:
    """Who was there. A friend who never was is no fault of the mesh, and only he can say why: told, not failed.

    seen: what the hub's device saw of each peer, by resource id; None when there is no device.
    """
    if seen is None:
        yield Checked("the tunnel", False, "up", f"{mesh.hub.interface} is not there", "run `meshwright apply`")
        return
    now = int(facts.now.timestamp())
    for device in mesh.devices:
        if device.active(facts.now):
            at = seen.get(f"hub/peer/{device.label}", {}).get("handshake", 0)
            observed = f"{max(0, now - at)} s ago" if at else "never; only a report from the device can tell why"
            yield Checked(f"last handshake of {device.label}", True, "any", observed)
