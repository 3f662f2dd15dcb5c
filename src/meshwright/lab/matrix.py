"""Real packets from every peer to every kind of destination and to every other peer, beside what the policy says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from meshwright.errors import LabError
from meshwright.events import Checked, Progress, Started, Tell, silent
from meshwright.lab import entry
from meshwright.lab.parts import Target
from meshwright.lab.probes import Probe, Rules, Source, choose, controls, greets, networks, whole
from meshwright.lab.targets import of_services
from meshwright.lab.world import Lab
from meshwright.spec.model import Address, Mesh
from meshwright.spec.policy import grants

TIMEOUT = 1.0
PARALLEL = 8  # hosts that probe at once: they mostly wait
KUBE_DNS = "kube-dns.kube-system.svc.cluster.local"
Result = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """One source and one target. expected, observed: what may pass and what did, as in "443/tcp"; probes: how many."""

    expected: tuple[str, ...]
    observed: tuple[str, ...]
    probes: int
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.faults


@dataclass(frozen=True, slots=True)
class Row:
    """One destination: a name and the address that was aimed at. kind as in parts.Target."""

    name: str
    kind: str
    address: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Matrix:
    """columns: sources. A missing cell was not probed (the peer does not route it into the tunnel, or a sample).

    sampled: a sentence when not everything was probed, else "". unproved: denials whose control did not answer.
    unanswered: ports of the cluster's Services behind which nothing answers, so that nobody was sent there.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    probes: int
    sampled: str
    unproved: tuple[str, ...]
    unanswered: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.unproved and all(c.ok for row in self.rows for c in row.cells.values())


def run(
    lab: Lab,
    mesh: Mesh,
    tell: Tell = silent,
    now: datetime | None = None,
    services: Mapping[str, tuple[Address, ...]] | None = None,
) -> Matrix:
    """Probe the lab, and tell a Checked event per source and target. The tunnels of all peers must be up.

    services: what the lab's cluster says; left out: the lab's stand-ins.
    """
    known = lab.services if services is None else services
    rules = Rules(grants(mesh, known, now or datetime.now(UTC)))
    found = sources(lab, mesh)
    targets, unanswered = aims(lab, mesh, known)
    probes = choose(found, targets, rules, [KUBE_DNS] if mesh.network.dns else [])
    tell(Started("sending probes", len(probes)))
    results = send(lab, probes, tell)
    lost = [p for p, r in zip(probes, results, strict=True) if p.allowed and r[0] != "open"]
    if lost:  # a packet may be lost on a busy machine; a missing right stays missing
        again = dict(zip(lost, send(lab, lost, silent, TIMEOUT * 3), strict=True))
        results = [again.get(p, r) for p, r in zip(probes, results, strict=True)]
    proofs = controls(probes, lab.peers)
    answers = send(lab, proofs, silent)
    unproved = tuple(
        f"{p.target.name} ({p.target.address}) {p.words}: nothing answers there, so a denial proves nothing ({r[0]})"
        for p, r in zip(proofs, answers, strict=True)
        if r[0] != "open"
    )
    matrix = build(probes, results, unproved, _sampling(len(probes), found, targets), unanswered)
    _report(matrix, tell)
    return matrix


def aims(
    lab: Lab, mesh: Mesh, services: Mapping[str, tuple[Address, ...]]
) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """What probes aim at; and in words, which ports of the cluster's Services nothing answers on, seen from the hub."""
    if not lab.kubernetes:
        return lab.targets, ()
    real = list(of_services(mesh, services))
    asked = [Probe("control", "hub", t, kind, port, True) for t in real for kind, port in t.ports]
    answers = send(lab, asked, silent)
    dead = {(p.target, p.protocol, p.port) for p, r in zip(asked, answers, strict=True) if r[0] != "open"}
    alive = [replace(t, ports=tuple(p for p in t.ports if (t, *p) not in dead)) for t in real]
    words = tuple(f"{t.name} ({t.address}) {port}/{kind}: nothing answers there" for t, kind, port in sorted(dead))
    return (*lab.targets, *(t for t in alive if t.ports)), words


def _sampling(sent: int, found: Sequence[Source], targets: Sequence[Target]) -> str:
    if whole(found, targets):
        return ""
    return f"a sample: {sent} probes from {len(found)} sources, a few per destination and a few other peers for each"


def sources(lab: Lab, mesh: Mesh) -> list[Source]:
    """Every peer, with what its live tunnel routes; the hub and a pod, which aim at the peers."""
    devices = {d.label: d for d in mesh.devices}
    with ThreadPoolExecutor(PARALLEL) as pool:
        routed = list(pool.map(lambda label: _routed(lab, label), lab.peers))
    out = [
        Source(label, host, tuple(str(a) for a in devices[label].addresses), networks_)
        for (label, host), networks_ in zip(lab.peers.items(), routed, strict=True)
        if label in devices
    ]
    pod = next((tuple(h["addresses"]) for h in lab.state.topology["hosts"] if h["name"] == "pod1"), ())
    out.append(Source("hub", "hub", tuple(str(a) for a in mesh.network.hub), None, peer=False))
    if mesh.network.routes.get("pods"):
        out.append(Source("pod1", "pod1", pod, None, peer=False))
    return out


def _routed(lab: Lab, label: str) -> tuple:  # type: ignore[type-arg]
    done = lab.peer(label).run(["wg", "show", lab.interface(label), "allowed-ips"])
    if done.code:
        raise LabError(f"{label}: its tunnel is not up", "run `meshwright lab up`")
    return networks(done.out.decode())


def send(lab: Lab, probes: Sequence[Probe], tell: Tell = silent, timeout: float = TIMEOUT) -> list[Result]:
    """What became of each probe: verdict and detail as inside/probe.py says. One process per host, a few at a time."""
    by_host: dict[str, list[int]] = {}
    for number, probe in enumerate(probes):
        by_host.setdefault(probe.host, []).append(number)

    def one(host: str) -> list[Result]:
        return _send(lab, host, [probes[n] for n in by_host[host]], timeout)

    results: list[Result] = [("error", "not sent")] * len(probes)
    done = 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        for host, answers in zip(by_host, pool.map(one, by_host), strict=True):
            for number, answer in zip(by_host[host], answers, strict=True):
                results[number] = answer
            done += len(answers)
            tell(Progress(host, done))
    return results


def _send(lab: Lab, host: str, probes: Sequence[Probe], timeout: float) -> list[Result]:
    plain = [
        {
            "kind": f"dns-{p.protocol}" if p.name else p.protocol,
            "address": p.target.address,
            "port": p.port,
            "name": p.name,
            "source": "",
            "greet": greets(p.target.host, p.port, lab.kubernetes),
        }
        for p in probes
    ]
    document = json.dumps({"timeout": timeout, "probes": plain}).encode()
    done = lab.host(host).run(entry.command("probe"), stdin=document, timeout=120)
    try:
        return [(verdict, detail) for verdict, detail in json.loads(done.out)["results"]]
    except (ValueError, KeyError):
        raise LabError(f"{host}: the probe failed: {done.err.strip()[-300:]}", "report this as a bug") from None


def build(
    probes: Sequence[Probe],
    results: Sequence[Result],
    unproved: Iterable[str] = (),
    sampled: str = "",
    unanswered: Iterable[str] = (),
) -> Matrix:
    """The matrix of what was seen. Pure."""
    cells: dict[tuple[str, str, str], dict[str, list[tuple[Probe, Result]]]] = {}
    columns: dict[str, None] = {}
    for probe, result in zip(probes, results, strict=True):
        key = (probe.target.name, probe.target.kind, probe.target.address)
        cells.setdefault(key, {}).setdefault(probe.source, []).append((probe, result))
        columns.setdefault(probe.source)
    rows = tuple(Row(*key, {source: _cell(seen) for source, seen in by.items()}) for key, by in cells.items())
    return Matrix(tuple(columns), rows, len(probes), sampled, tuple(unproved), tuple(unanswered))


def _cell(seen: Sequence[tuple[Probe, Result]]) -> Cell:
    return Cell(
        tuple(p.words for p, _ in seen if p.allowed),
        tuple(p.words for p, r in seen if r[0] == "open"),
        len(seen),
        tuple(fault for p, r in seen if (fault := judge(p, r))),
    )


def judge(probe: Probe, result: Result) -> str:
    """What is wrong with a result, "" when nothing is."""
    verdict, detail = result
    if probe.allowed and verdict != "open":
        return f"{probe.words} is allowed but got {verdict}{f' ({detail})' if detail else ''}"
    if not probe.allowed and verdict == "open":
        return f"{probe.words} is denied but was answered ({detail})"
    if not probe.allowed and verdict == "error":
        return f"{probe.words} could not be sent ({detail}), which proves nothing"
    if verdict == "open" and " saw " in detail:
        name, _, address = detail.partition(" saw ")
        if name != probe.target.host:
            return f"{probe.words} was answered by {name} instead of {probe.target.host}"
        if probe.sees and address != probe.sees:
            return f"{probe.words} arrived as {address} instead of {probe.sees}"
    return ""


def _report(matrix: Matrix, tell: Tell) -> None:
    for row in matrix.rows:
        for source, cell in row.cells.items():
            name = f"{source} -> {row.name} ({row.address})"
            hint = "; ".join(cell.faults)
            tell(Checked(name, cell.ok, _words(cell.expected), _words(cell.observed), hint))
    for text in matrix.unproved:
        tell(Checked(text.partition(":")[0], False, "an answer at the control", "none", text))


def _words(found: tuple[str, ...]) -> str:
    return " ".join(found) or "nothing"
