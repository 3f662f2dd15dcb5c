"""The alerts: when something must be looked at, and what to do then. Pure.

One alert for each thing that somebody can act on: a device, a key, an interface, a friend's job. All carry the mesh's
name, so Alertmanager sends what comes together as one message. What cannot be known just now fires nothing of its own:
an exporter that is down is one alert, not one for each friend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshwright.desired.facts import Facts
from meshwright.desired.monitoring import series
from meshwright.desired.monitoring.promql import DEVICE, FACE, SILENT, TARGET, TENANTS, Friends, Hub
from meshwright.spec.model import Mesh

WHO = "{{ $labels.peer }}{{ with $labels.device }}/{{ . }}{{ end }}"
"""The device as the mesh file names it."""


@dataclass(frozen=True, slots=True)
class Alert:
    """`wait`: for how long the expression must hold, as Prometheus writes it. `slow`: it looks back over days."""

    name: str
    severity: str
    wait: str
    expr: str
    summary: str
    description: str
    slow: bool = False


def build(mesh: Mesh, facts: Facts, hub: Hub, friends: Friends | None) -> Iterator[Alert]:
    """Every alert that this mesh can have."""
    yield _down(mesh, hub)
    if hub.own:
        yield from _blind(mesh, hub)
    elif any(device.active(facts.now) for device in mesh.devices):  # with nobody to see it cannot tell
        yield _blind_other(mesh, hub)
    yield from _peers(mesh, hub)
    yield from _silence(mesh, hub)
    yield from _interface(mesh, hub)
    yield from _clock(mesh, hub)
    yield _staged(hub)
    if hub.own:
        yield _denied(hub)
    if friends:
        yield from _friends(friends)


def _down(mesh: Mesh, hub: Hub) -> Alert:
    up = hub.of("up")
    own = f"on it: systemctl status meshwright-hubd-{mesh.table}.service"
    look = own if hub.own else f"kubectl --namespace {hub.namespace} get pods"
    return Alert(
        "MeshExporterDown",
        "critical",
        "5m",
        f"max by ({TARGET}) ({up}) == 0 or absent({up})",
        f"Nothing is known of the mesh {mesh.name}",
        f"Prometheus gets no metrics from the hub, so no alert about a friend can fire. Next: look whether "
        f"{mesh.hub.node} runs; then {look}; then the target {hub.job} in Prometheus.",
    )


def _blind(mesh: Mesh, hub: Hub) -> Iterator[Alert]:
    up = hub.of("up")
    seen = f"max by ({TARGET}) ({hub.of(series.SUCCESS)}) == 1"
    down = f"max by ({TARGET}) ({hub.of(series.UP)}) == 0"
    yield Alert(
        "MeshExporterBlind",
        "critical",
        "5m",
        f"max by ({TARGET}) ({up}) == 1 unless on ({TARGET}) ({seen} or {down})",
        f"The exporter of the mesh {mesh.name} answers, but cannot see",
        f"It could not read all of {mesh.hub.interface} and its firewall, so other alerts may stay away. Next: "
        f"meshwright plan; then on {mesh.hub.node}: journalctl -u meshwright-hubd-{mesh.table}.service.",
    )
    yield Alert(
        "MeshInterfaceDown",
        "critical",
        "2m",
        f"max by ({FACE}) ({hub.of(series.UP)}) == 0",
        "The hub's interface {{ $labels.interface }} is down",
        f"No friend can reach anything. Next: on {mesh.hub.node}: systemctl status "
        f"wg-quick@{mesh.hub.interface}.service; then meshwright plan, and apply.",
    )


def _blind_other(mesh: Mesh, hub: Hub) -> Alert:
    return Alert(
        "MeshExporterBlind",
        "critical",
        "5m",
        f"max by ({TARGET}) ({hub.of('up')}) == 1 unless on ({TARGET}) {hub.of(series.RECEIVED)}",
        f"The exporter of the mesh {mesh.name} answers, but shows no peer",
        f"Either {mesh.hub.interface} is gone or has no peers, or the exporter may not read it. Next: on "
        f"{mesh.hub.node}: wg show {mesh.hub.interface}; then look whether its pod runs as root with NET_ADMIN.",
    )


def _peers(mesh: Mesh, hub: Hub) -> Iterator[Alert]:
    # a series without a name has not been through our relabelings: nobody of ours either
    strangers = hub.of(series.RECEIVED, f'{series.PEER}=~"({series.UNKNOWN})?"')
    yield Alert(
        "MeshPeerUnknown",
        "critical",
        "5m",
        f"group by ({FACE}, {series.KEY}, allowed_ips) ({strangers})",
        "A key that is not in the mesh file is on the hub's {{ $labels.interface }}",
        "{{ $labels.public_key }} may use {{ $labels.allowed_ips }}. Somebody with root on "
        f"{mesh.hub.node} put it there, or an apply has not finished. Next: meshwright plan shows it, and apply "
        "takes it away.",
    )
    yield Alert(
        "MeshPeerMissing",
        "warning",
        "10m",
        f"{hub.expected()} unless on ({DEVICE}) {hub.of(series.RECEIVED)} and on ({FACE}) {hub.of(series.PEERS)}",
        f"{WHO} is in the mesh file, but not on the hub",
        "He cannot connect: the hub does not know his key. Next: meshwright plan, and apply.",
    )


def _silence(mesh: Mesh, hub: Hub) -> Iterator[Alert]:
    always, others = (hub.expected(f'always_on="{word}"') for word in ("true", "false"))
    there = hub.of(series.RECEIVED)
    heard = f"{hub.age()} <= {SILENT}"
    clock = "."
    if not hub.own:  # whoever was heard at all may be there: when, only a clock that is right could tell
        heard = f"{heard} or {hub.age()} and on ({FACE}) ({hub.behind()})"
        clock = f", and its clock: timedatectl on {mesh.hub.node}."
    yield Alert(
        "MeshPeerSilent",
        "warning",
        "5m",
        f"{always} and on ({DEVICE}) {there} unless on ({DEVICE}) ({heard})",
        f"{WHO} should always be connected, and is not",
        f"No handshake for {SILENT} s, or none since the hub started. If all are silent, look at the hub's line, "
        f"its port forward and its name in DNS{clock} Next: meshwright status; then ask him whether his end has power "
        "and network.",
    )
    before = f"max_over_time({hub.of(series.EXPECTED)}[1h] offset 7d)"
    ever = f"max by ({DEVICE}) (max_over_time({hub.of(series.HANDSHAKE)}[7d])) > 0"
    yield Alert(
        "MeshPeerNeverConnected",
        "info",
        "15m",
        f"{others} and on ({DEVICE}) {there} and on ({DEVICE}) {before} unless on ({DEVICE}) ({ever})",
        f"{WHO} was admitted a week ago or more, and no handshake of the last 7 days is known",
        "Nor does the hub know an older one; it forgets them when its interface is made anew. Next: ask whether the "
        ".conf reached him and works; meshwright peer conf shows it. If nobody needs it: meshwright peer remove.",
        slow=True,
    )


def _interface(mesh: Mesh, hub: Hub) -> Iterator[Alert]:
    have, staged = hub.count(), f"count by ({FACE}) (group by ({DEVICE}) ({hub.of(series.STAGED)}))"
    least = f"(count by ({FACE}) ({hub.expected()}) or {have} * 0)"
    yield Alert(
        "MeshPeersDiffer",
        "warning",
        "10m",
        f"{have} < {least} or {have} > ({least} + {staged} or {least})",
        "The hub's {{ $labels.interface }} has {{ $value }} peers; the mesh file says another number",
        "Next: meshwright plan names who is missing or too many, and apply mends it.",
    )
    yield Alert(
        "MeshCountersReset",
        "warning",
        "10m",
        f"max by ({FACE}) (resets({hub.of(series.RECEIVED)}[1h])) >= 3",
        "Peers of {{ $labels.interface }} are made anew again and again",
        "Byte counters went back {{ $value }} times within an hour, and each time connections broke. Next: on "
        f"{mesh.hub.node}: journalctl -u wg-quick@{mesh.hub.interface}.service; look for another tool that writes to "
        "the interface.",
        slow=True,
    )


def _clock(mesh: Mesh, hub: Hub) -> Iterator[Alert]:
    """Ours tells its time. Of the other one only what its handshakes give away is known."""
    future = f"-min by ({FACE}) ({hub.age()}) > 60"
    look = f"Next: timedatectl on {mesh.hub.node}"
    if hub.own:
        yield Alert(
            "MeshClockDiffers",
            "warning",
            "10m",
            f"{hub.ahead()} > 60 or {hub.ahead()} < -60",
            f"The clock of {mesh.hub.node} is {{{{ if gt $value 0.0 }}}}ahead{{{{ else }}}}behind{{{{ end }}}} by "
            '{{ $value | humanizeDuration | reReplaceAll "-" "" }}',
            "Compared with that of Prometheus; which of them is right is not known here. Alerts and dashboard reckon "
            f"with the hub's. {look}, and where Prometheus runs.",
        )
        yield Alert(
            "MeshHandshakeInFuture",
            "warning",
            "10m",
            future,
            f"The clock of {mesh.hub.node} was set back by {{{{ $value | humanizeDuration }}}} or more",
            "It says that it shook hands at a time that is yet to come, so no silence of that peer can be seen until "
            f"then. {look}, and whether it is kept in time.",
        )
        return
    yield Alert(
        "MeshClockDiffers",
        "warning",
        "10m",
        hub.behind(),
        f"The clock of {mesh.hub.node} seems to be behind by {{{{ $value | humanizeDuration }}}}",
        "Peers shake hands, and it says that this was long ago. So nobody who ever shook hands is told to be silent, "
        f"and the dashboard shows them as away. {look}, and where Prometheus runs.",
    )
    yield Alert(
        "MeshHandshakeInFuture",
        "warning",
        "10m",
        future,
        f"The clock of {mesh.hub.node} is ahead by {{{{ $value | humanizeDuration }}}}",
        f"It says that it shook hands in the future, so no silence can be seen until then. {look}, and where "
        "Prometheus runs.",
    )


def _staged(hub: Hub) -> Alert:
    key, staged = f"{DEVICE}, {series.KEY}", hub.of(series.STAGED)
    return Alert(
        "MeshKeyNotTakenUp",
        "info",
        "15m",
        f"group by ({key}) ({staged}) and on ({key}) max_over_time({staged}[1h] offset 7d)",
        f"{WHO} was given a new key a week ago or more, and does not use it",
        "The old key works until he connects with the new one. Next: send him his .conf again, or take "
        "next_public_key out of the mesh file.",
        slow=True,
    )


def _denied(hub: Hub) -> Alert:
    return Alert(
        "MeshPeerDenied",
        "info",
        "15m",
        f"sum by ({DEVICE}) (rate({hub.of(series.DENIED)}[15m])) > 1",
        f"The firewall drops much of what {WHO} sends",
        "{{ $value | humanize }} packets a second that he has no right to send: a program that is not set up right, "
        "a scan, or a rule that is missing. Next: meshwright status --denied.",
    )


def _friends(friends: Friends) -> Iterator[Alert]:
    yield Alert(
        "MeshTenantScrapeFails",
        "info",
        "15m",
        f"count by ({TENANTS}) {friends.failing()}",
        "Prometheus gets no metrics from {{ $labels.job }} of {{ $labels.tenant }}",
        "{{ $value }} of his targets in {{ $labels.namespace }} fail: not reachable, no metrics there, or more than "
        "the limits of his monitor. Next: meshwright doctor scrape {{ $labels.namespace }}/NAME.",
    )
    yield Alert(
        "MeshTenantScrapeCutOff",
        "info",
        "15m",
        friends.cut_off(),
        "Metrics of {{ $labels.job }} of {{ $labels.tenant }} are left out: above the limit of {{ $labels.limit }}",
        "An answer was larger than the limits of his monitor, so nothing of it is kept. Next: he should drop labels "
        "with many values; his namespace is {{ $labels.namespace }}.",
    )
