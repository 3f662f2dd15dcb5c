"""What each expression of the rules and of the dashboard says of the house as `square.settle` leaves it.

Everybody is connected but dora, who should always be, and those of `many`: they are on the hub, and never came. One
key on the hub is a stranger's. carl's pods say too much, and lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from square import HIS, JOBS, MANY, OURS, STRANGER

CONNECTED = ("anna", "bert/phone", "bert/laptop", "carl", "emil")
ABSENT = ("dora", *(f"p{n:03}" for n in range(MANY)))
EVERYBODY = (*CONNECTED, *ABSENT)
ALWAYS = ("anna", "carl", "dora")
FACE = "wg1"
Rows = list[tuple[dict[str, str], float]]
Check = Callable[[Rows], bool]


@dataclass(frozen=True)
class Is:
    """Just these rows: values of the labels -> value, or what the value must be. No other label may be there."""

    labels: tuple[str, ...]
    rows: Mapping[Any, Any]

    def wrong(self, found: Rows) -> str:
        """What is not as it should be, "" when all is."""
        seen = {}
        for metric, value in found:
            strange = metric.keys() - {*self.labels, "__name__"}
            if strange:
                return f"has labels {sorted(strange)}"
            seen[tuple(metric.get(label, "") for label in self.labels)] = value
        rows = {key if isinstance(key, tuple) else (key,): value for key, value in self.rows.items()}
        if seen.keys() != rows.keys() or len(seen) != len(found):
            return (
                f"has too much {sorted(seen.keys() - rows.keys())[:5]}, lacks {sorted(rows.keys() - seen.keys())[:5]}"
            )
        bad = {key: value for key, value in seen.items() if not _is(rows[key], value)}
        return f"has {dict(list(bad.items())[:5])}" if bad else ""


def _is(wanted: Any, value: float) -> bool:
    return bool(wanted(value)) if callable(wanted) else math.isclose(wanted, value)


def one(value: Any) -> Is:
    return Is((), {(): value})


NOTHING = Is((), {})


def people(names: tuple[str, ...], value: Any = 1) -> dict[tuple[str, str], Any]:
    """(peer, device) -> value."""
    return {(n.partition("/")[0], n.partition("/")[2]): value for n in names}


def faced(names: tuple[str, ...], value: Any = 1) -> Is:
    return Is(("interface", "peer", "device"), {(FACE, *who): value for who, value in people(names, value).items()})


def positive(value: float) -> bool:
    return value > 0


def least(value: float) -> bool:
    return value >= 0


def age(value: float) -> bool:
    """Of a session that lives."""
    return -5 < value <= 180


def whose(*groups: dict[tuple[str, str], Any]) -> Is:
    return Is(("peer", "device"), {who: value for group in groups for who, value in group.items()})


@dataclass(frozen=True)
class Some:
    """At most `most` rows, all with a peer, and none that is not ours; those of `must` among them."""

    most: int
    must: tuple[str, ...] = ()

    def wrong(self, found: Rows) -> str:
        seen = {(m.get("peer", ""), m.get("device", "")): value for m, value in found}
        strangers = seen.keys() - people(EVERYBODY).keys() - {("unknown", "")}
        lacking = [who for who in people(self.must) if not seen.get(who, 0) > 0]
        if strangers or lacking or len(found) > self.most:
            return f"has {len(found)} rows, too much {sorted(strangers)[:5]}, lacks {lacking}"
        return ""


LIMIT = ("tenant", "namespace", "job", "limit")
CUT = {("carl", "carl", "carl/carl-pods", "samples"): 20_000, ("carl", "carl", "carl/carl-pods", "size"): -1}
STATES = whose(people(CONNECTED, 3), people(ABSENT, 1))
HAVE = len(EVERYBODY) + 1


def expected(mesh: str) -> dict[str, Is | Some]:
    """Where an expression stands (tests/promql.py) -> what it says."""
    own = mesh == OURS
    job, namespace = JOBS[mesh]
    target = (job, namespace, "k3s-server-1")
    both = {
        # alerts. What looks back over a week finds no week here: RULES' promtool tests have one
        "MeshExporterDown": NOTHING,
        "MeshExporterBlind": NOTHING,
        "MeshPeerUnknown": Is(("interface", "public_key", "allowed_ips"), {(FACE, STRANGER, HIS): 1}),
        "MeshPeerMissing": NOTHING,
        "MeshPeerSilent": faced(("dora",)),
        "MeshPeersDiffer": Is(("interface",), {FACE: HAVE}),
        "MeshHandshakeInFuture": NOTHING,
        "MeshClockDiffers": NOTHING,
        "MeshTenantScrapeFails": NOTHING,  # what fails is told by the next one
        "MeshTenantScrapeCutOff": Is(LIMIT, CUT),
        "MeshPeerNeverConnected": NOTHING,
        "MeshCountersReset": NOTHING,
        "MeshKeyNotTakenUp": NOTHING,
        # dashboard
        "Hub/A": one(3),
        "Connected/A": one(len(CONNECTED)),
        "Connected/B": one(len(EVERYBODY)),
        "Always on, but silent/A": one(1),
        "Not as the file says/A": one(0),
        "Not as the file says/B": one(1),
        "Friends' targets failing/A": one(2),  # what the third lies of itself is not heard
        "Friends/A": STATES,
        "Friends/B": whose(people(CONNECTED, age), people(ABSENT, -1)),
        "Friends/C": whose(people(CONNECTED, least), people(ABSENT, 0)),
        "Friends/D": whose(people(CONNECTED, least), people(ABSENT, 0)),
        "Friends/E": Is(
            ("peer", "device", "always_on"),
            {(*who, "true" if who[0] in ALWAYS else "false"): 1 for who in people(EVERYBODY)},
        ),
        "Who was connected/A": STATES,
        "From friends/A": Some(25, ("anna",)),
        "To friends/A": Some(25, ("anna",)),
        "Age of the last handshake/A": whose(people(CONNECTED, age)),
        "Strangers/A": Is(("public_key", "allowed_ips"), {(STRANGER, HIS): 0}),
        "Friends' targets/A": Is(
            ("tenant", "job"),
            {("bert", "bert/bert-pods"): 1, ("bert", "bert/by-service"): 1, ("carl", "carl/carl-pods"): 0},
        ),
        "Friends' series/A": Is(("tenant",), {"bert": 2, "carl": positive}),
        "$job": Is(("job",), {job: 1, "bert/bert-pods": 1, "bert/by-service": 1, "carl/carl-pods": positive}),
    }
    if own:
        return both | {
            "MeshInterfaceDown": NOTHING,
            "MeshPeerDenied": NOTHING,
            "Dropped, 24 h/A": one(least),
            "Dropped by the firewall/A": Some(25),
        }
    recorded = ("job", "namespace", "instance")
    return both | {
        "wireguard_peers_total": Is((*recorded, "interface"), {(*target, FACE): HAVE}),
        "wireguard_peer_expected": Is(recorded, {target: 1}),
        "Traffic, 24 h/A": one(positive),
        "Traffic, 24 h/B": one(positive),
    }
