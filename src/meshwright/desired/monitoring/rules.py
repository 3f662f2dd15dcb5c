"""The PrometheusRule: alerts, and for exporter 3.6.6 the series that it does not have. Pure.

What is recorded is called as ours calls it, so that alerts and dashboard are written once. It has the job, namespace
and instance of the exporter's target, which no friend's series can have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshwright.desired.facts import Facts
from meshwright.desired.manifest import Manifest, make, resource
from meshwright.desired.monitoring import alerts, promql, series
from meshwright.desired.monitoring.alerts import Alert
from meshwright.desired.monitoring.objects import OPERATOR, found
from meshwright.desired.monitoring.promql import Hub
from meshwright.desired.resource import Resource
from meshwright.spec.model import Device, Mesh, Observability

MOST = 500
"""Recorded series in one object. The operator takes no PrometheusRule of more than 512 KiB."""

Rule = dict[str, Any]


def build(mesh: Mesh, watch: Observability, facts: Facts) -> Iterator[Resource]:
    """One object, and more where the recorded series of a large mesh do not fit into it."""
    hub = promql.hub(mesh, watch)
    records = [] if hub.own else [*_records(mesh, hub, facts)]
    every = [*alerts.build(mesh, facts, hub, promql.friends(mesh, facts))]
    now = [_alert(mesh, alert) for alert in every if not alert.slow]
    slow = [_alert(mesh, alert) for alert in every if alert.slow]
    groups = [_group(mesh.name, "1m", [*records[:MOST], *now]), _group(f"{mesh.name}-days", "4m", slow)]
    yield resource(_object(mesh, watch, mesh.name, groups))
    for start in range(MOST, len(records), MOST):
        name = f"{mesh.name}-records-{start // MOST + 1}"
        yield resource(_object(mesh, watch, name, [_group(name, "1m", records[start : start + MOST])]))


def _object(mesh: Mesh, watch: Observability, name: str, groups: list[Rule]) -> Manifest:
    return found(make(mesh.name, f"{OPERATOR}/PrometheusRule", name, watch.namespace, spec={"groups": groups}), watch)


def _group(name: str, interval: str, rules: list[Rule]) -> Rule:
    return {"name": name, "interval": interval, "rules": rules}


def _alert(mesh: Mesh, alert: Alert) -> Rule:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.wait,
        "labels": {"mesh": mesh.name, "severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description},
    }


def _records(mesh: Mesh, hub: Hub, facts: Facts) -> Iterator[Rule]:
    """What exporter 3.6.6 does not say. They come and go with its target, whose `instance` they have."""
    target = f"{promql.TARGET}, instance"
    peers = f"count by ({target}, {series.INTERFACE}) ({hub.of(series.RECEIVED)})"
    yield {"record": series.PEERS, "expr": peers}
    one = f"group by ({target}) ({hub.of('up')})"
    for device in mesh.devices:
        if device.active(facts.now):
            always = "true" if mesh.peers[device.peer].always_on else "false"
            named = _named(mesh, device, device.public_key) | {"always_on": always}
            yield {"record": series.EXPECTED, "expr": one, "labels": named}
            if device.next_public_key:
                yield {"record": series.STAGED, "expr": one, "labels": _named(mesh, device, device.next_public_key)}


def _named(mesh: Mesh, device: Device, key: str | None) -> dict[str, str]:
    """An empty label is no label; promtool does not take one."""
    named = {"interface": mesh.hub.interface, "peer": device.peer, "device": device.name, "public_key": key}
    return {label: value for label, value in named.items() if value}
