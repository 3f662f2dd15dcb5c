"""What the world must tell before anything can be wanted: the only input beside the mesh file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from meshwright.spec.model import Address


@dataclass(frozen=True, slots=True)
class Facts:
    """Read once per command by discover. Keys are no facts: they are Unknown until the world answers (decision 002).

    now: aware, UTC; decides what has expired.
    services: addresses of the `kubernetes:` services of the file, by their name in the file.
    """

    now: datetime
    services: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
