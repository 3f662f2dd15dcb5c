"""Facts: what must be known of the world before anything can be wanted. Reads, never writes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from meshwright.desired.facts import Facts
from meshwright.spec.model import Address


def read(services: Mapping[str, tuple[Address, ...]], now: datetime | None = None) -> Facts:
    """The facts of this moment. `services`: addresses of the file's `kubernetes:` services, as far as known."""
    return Facts(now=now or datetime.now(UTC), services=services)
