"""Monitors of the tenants' own services and pods. Pure.

A friend turns scraping on himself: the label prometheus.io/scrape: "true" on a Service or a Pod with a port named
`metrics`. What he answers is his own, so it is limited, keeps no time stamps or labels that would pass for another's,
and never sends the scraper elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshwright.desired.facts import Facts
from meshwright.desired.manifest import Manifest, make, resource
from meshwright.desired.monitoring.objects import OPERATOR, found, replace, scrape
from meshwright.desired.resource import Resource
from meshwright.desired.tenants import Tenant, tenants
from meshwright.spec.duration import milliseconds
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


_CENTRAL = "(wireguard|meshwright|scrape)_.*|up|.*:.*|ALERTS|ALERTS_FOR_STATE"
"""Series that only the hub, a rule, or Prometheus itself has, which makes `up` and `scrape_...` of a target after this
rule: a friend's of such a name are dropped, so that a query which does not ask for the namespace is not misled either.
"""


def build(mesh: Mesh, watch: Observability, facts: Facts) -> Iterator[Resource]:
    """The monitors of every tenant."""
    for who in tenants(mesh, facts):
        for kind, name, ends in (
            ("ServiceMonitor", f"{who.namespace}-autodiscover", "endpoints"),
            ("PodMonitor", f"{who.namespace}-pods", "podMetricsEndpoints"),
        ):
            spec = {
                ends: [_endpoint(watch, who)],
                "namespaceSelector": {"matchNames": [who.namespace]},
                "selector": {"matchLabels": SCRAPE},
                **LIMITS,
            }
            yield resource(found(make(mesh.name, f"{OPERATOR}/{kind}", name, who.namespace, spec=spec), watch))


def _endpoint(watch: Observability, who: Tenant) -> Manifest:
    """Where a friend's series come from is said by labels of the target, which win over his own: those he would have
    of the same name are called exported_. His Service's name is no job yet: it could be that of another's.
    """
    target = [
        replace(TENANT, who.peer),
        replace("job", "$1/$2", ["namespace", "job"], "([^;]*);(?:.*/)?([^;]*)"),
    ]
    series = [{"action": "drop", "sourceLabels": ["__name__"], "regex": _CENTRAL}]
    patience = min(10_000, milliseconds(watch.interval) // 2)
    return scrape(watch, PORT, patience, relabelings=target, metricRelabelings=series)
