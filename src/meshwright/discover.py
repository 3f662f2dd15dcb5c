"""Facts: what must be known of the world before anything can be wanted. Reads, never writes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from meshwright.desired.facts import Facts
from meshwright.io.cluster import Cluster
from meshwright.spec.model import Address, Mesh


def read(
    mesh: Mesh,
    services: Mapping[str, tuple[Address, ...]],
    cluster: Cluster | None = None,
    now: datetime | None = None,
) -> Facts:
    """The facts of this moment.

    services: addresses of the file's `kubernetes:` services, as far as they are known without a cluster.
    """
    moment = now or datetime.now(UTC)
    return Facts(now=moment, services=services)
