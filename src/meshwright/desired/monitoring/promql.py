"""PromQL that rules and dashboard share: how the series of one hub, and of the tenants' targets, are selected. Pure.

Every selector names job and namespace. A friend chooses the names, labels and values of his own series, never the
namespace that his series are given, so nothing of his can pass for the hub's or make up for what the hub does not say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshwright.desired.facts import Facts
from meshwright.desired.monitoring import series
from meshwright.desired.monitoring.tenants import LIMITS, TENANT
from meshwright.desired.tenants import tenants
from meshwright.spec.model import Mesh, MindflavorExporter, Observability

TARGET = "job, namespace"
FACE = series.INTERFACE
"""What tells one interface from another, once a selector has named the target."""
DEVICE = f"{FACE}, {series.PEER}, {series.DEVICE}"
"""What tells one device of a friend from another. His key is not in it: it may change."""
TENANTS = f"{TENANT}, namespace, job"

SILENT = 180
"""Seconds since the last handshake after which a session is dead: WireGuard's Reject-After-Time."""


def quoted(text: str) -> str:
    """A string as PromQL writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def one_of(names: Iterable[str]) -> str:
    """A pattern for exactly these names; DNS labels, so nothing in them means anything to a pattern."""
    return quoted("|".join(sorted(names)))


@dataclass(frozen=True, slots=True)
class Hub:
    """The exporter of one mesh.

    more: further matchers on every selector, as the variables of a dashboard. own: whether it is ours (hubd), which
    says more than the other one.
    """

    job: str
    namespace: str
    own: bool
    more: tuple[str, ...] = ()

    def of(self, name: str, *matchers: str) -> str:
        """The selector of a series of the hub."""
        both = (f"job={quoted(self.job)}", f"namespace={quoted(self.namespace)}")
        return f"{name}{{{','.join((*both, *self.more, *matchers))}}}"

    def handshake(self, by: str = DEVICE, *matchers: str) -> str:
        """By device, epoch seconds of its last handshake. Who never had one is not in it, whichever exporter tells."""
        return f"max by ({by}) ({self.of(series.HANDSHAKE, *matchers)}) > 0"

    def age(self, by: str = DEVICE, *matchers: str) -> str:
        """By device, seconds since its last handshake; who never had one is not in it.

        By the hub's own clock, as the handshakes are, where the exporter tells it; else Prometheus's has to do.
        """
        heard = f"({self.handshake(by, *matchers)})"
        return f"max({self.of(series.TIME)}) - on () group_right () {heard}" if self.own else f"time() - {heard}"

    def ahead(self) -> str:
        """By interface, seconds by which the hub's clock is ahead of Prometheus's; only ours tells it."""
        told = self.of(series.TIME)
        return f"max by ({FACE}) ({told} - timestamp({told}))"

    def behind(self) -> str:
        """By interface, about how far the hub's clock is behind, where its exporter does not tell it.

        A handshake that changed within five minutes is new. One that was never young in those minutes, whoever's it
        is, was told by a clock that is behind. One that went to 0 was forgotten with its interface, and tells nothing.
        Nor is anything known while nobody shakes hands.
        """
        told = self.of(series.HANDSHAKE)
        new = f"max by ({FACE}) (changes({told}[5m]) and {told} > 0) > 0"
        return f"min by ({FACE}) (min_over_time(({self.age()})[5m:30s])) > {SILENT} and on ({FACE}) {new}"

    def expected(self, *matchers: str) -> str:
        """By device, 1 for each that the mesh file admits."""
        return f"group by ({DEVICE}) ({self.of(series.EXPECTED, *matchers)})"

    def count(self) -> str:
        """By interface, how many peers it has. Missing when the interface could not be read just now."""
        return f"max by ({FACE}) ({self.of(series.PEERS)})"


@dataclass(frozen=True, slots=True)
class Friends:
    """The targets in the tenants' namespaces."""

    namespaces: tuple[str, ...]
    more: tuple[str, ...] = ()

    def of(self, name: str) -> str:
        """The selector of what Prometheus itself says of each of their targets."""
        mine = (f"namespace=~{one_of(self.namespaces)}", f'{TENANT}!=""')
        return f"{name}{{{','.join((*mine, *self.more))}}}"

    def failing(self) -> str:
        """The targets that Prometheus gets nothing from, but for those of `cut_off`."""
        return f"({self.of('up')} == 0 unless ({self._many()} or {self._large()}))"

    def cut_off(self) -> str:
        """By tenant and job, those of whom too much came, so that nothing of it is kept; label `limit` says of what.

        The size is known only where Prometheus runs with its feature extra-scrape-metrics.
        """
        samples = f"max by ({TENANTS}) ({self._many()} and {self.of('up')} == 0)"
        size = f"min by ({TENANTS}) ({self._large()})"
        return f'label_replace({samples}, "limit", "samples", "", "") or label_replace({size}, "limit", "size", "", "")'

    def _many(self) -> str:
        """The limit is of what relabeling leaves."""
        return f"{self.of('scrape_samples_post_metric_relabeling')} > {LIMITS['sampleLimit']}"

    def _large(self) -> str:
        return f"{self.of('scrape_body_size_bytes')} < 0"


def hub(mesh: Mesh, watch: Observability, *more: str) -> Hub:
    """The exporter that the mesh file asks for."""
    own = not isinstance(watch.exporter, MindflavorExporter)
    return Hub(series.job(mesh, watch), series.namespace(watch), own, more)


def friends(mesh: Mesh, facts: Facts, *more: str) -> Friends | None:
    """Their targets, or None where nobody has a namespace."""
    found = tuple(sorted(who.namespace for who in tenants(mesh, facts)))
    return Friends(found, more) if found else None
