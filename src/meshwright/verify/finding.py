"""What a look around the hub found: one thing, how bad it is, and the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["refuse", "warn", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """name: what was looked at. refuse: apply does not set a hub up over it, unless it is forced. broken: the mesh does
    not work with it, so verify fails.
    """

    name: str
    level: Level
    what: str
    where: str = ""
    next: str = ""
    broken: bool = False

    @property
    def text(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.name}: {self.what}{place}{f'; next: {self.next}' if self.next else ''}"
