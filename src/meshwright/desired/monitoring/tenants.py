"""Monitors of the tenants' own services and pods. Pure.

A friend turns scraping on himself: the label prometheus.io/scrape: "true" on a Service or a Pod with a port named
`metrics`. What he answers is his own, so it is limited, keeps no time stamps or labels that would pass for another's,
and never sends the scraper elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshwright.desired.facts import Facts
from meshwright.desired.manifest import Manifest, resource
from meshwright.desired.names import labels
from meshwright.desired.resource import Resource
from meshwright.desired.tenants import Tenant, tenants
from meshwright.spec.duration import milliseconds, written
from meshwright.spec.model import Mesh, Observability

SCRAPE = {"prometheus.io/scrape": "true"}
PORT = "metrics"
TENANT = "tenant"
"""Label of every series that comes from a friend's namespace: the peer's name."""

LIMITS = {
    "bodySizeLimit": "10MB",
    "keepDroppedTargets": 10,
    "labelLimit": 50,
    "labelNameLengthLimit": 200,
    "labelValueLengthLimit": 1000,
    "sampleLimit": 10_000,
    "targetLimit": 50,
}
"""Of each monitor, or of each of its targets: enough for a friend's services, too little to drown Prometheus."""


def build(mesh: Mesh, watch: Observability, facts: Facts) -> Iterator[Resource]:
    """The monitors of every tenant."""
    for who in tenants(mesh, facts):
        spec = _spec(watch, who)
        endpoint = spec.pop("endpoint")
        yield resource(
            _monitor(
                mesh, watch, "ServiceMonitor", f"{who.namespace}-autodiscover", who, spec | {"endpoints": [endpoint]}
            )
        )
        yield resource(
            _monitor(
                mesh, watch, "PodMonitor", f"{who.namespace}-pods", who, spec | {"podMetricsEndpoints": [endpoint]}
            )
        )


def _monitor(mesh: Mesh, watch: Observability, kind: str, name: str, who: Tenant, spec: dict[str, Any]) -> Manifest:
    metadata = {"name": name, "namespace": who.namespace, "labels": labels(mesh.name) | {"release": watch.release}}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _spec(watch: Observability, who: Tenant) -> dict[str, Any]:
    interval = milliseconds(watch.interval)
    endpoint = {
        "port": PORT,
        "interval": written(interval),
        "scrapeTimeout": written(min(10_000, interval // 2)),
        "followRedirects": False,
        "honorLabels": False,
        "honorTimestamps": False,
        "relabelings": [{"action": "replace", "replacement": who.peer, "targetLabel": TENANT}],
    }
    return {
        "endpoint": endpoint,
        "namespaceSelector": {"matchNames": [who.namespace]},
        "selector": {"matchLabels": SCRAPE},
        **LIMITS,
    }
