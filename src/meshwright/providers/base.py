"""What every provider is: a reader and a writer of one system's Resources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from meshwright.desired.resource import Resource, Resources
from meshwright.events import Tell
from meshwright.plan.plan import Change


@dataclass(frozen=True, slots=True)
class Result:
    """How one change ended. `attrs` are the resource's attributes as written, so that an Unknown can be resolved."""

    id: str
    ok: bool
    attrs: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    hint: str = ""


class Provider(Protocol):
    """One system. A provider keeps nothing between calls: what it knows stands in the world it reads."""

    @property
    def system(self) -> str: ...

    def read(self, wanted: Resources) -> dict[str, Resource]:
        """What is there and ours, wanted or not. Raises HostError and the like when the system cannot be asked."""
        ...

    def apply(self, changes: Sequence[Change], tell: Tell) -> list[Result]:
        """Write these changes, which wait for nothing but each other; one Result each, whatever happens."""
        ...
