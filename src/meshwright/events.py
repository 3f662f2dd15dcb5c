"""What happens, told while it happens. The terminal, the log and the tests listen to the same values.

Every event is frozen and plain; `as_json` is what a machine gets. No event holds a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """A step begins that may take over a second. `total` is the number of things to come, 0 when unknown."""

    what: str
    total: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of the `Started.total` things are finished; `what` names the last one."""

    what: str
    done: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """One change of the plan was written."""

    id: str
    verb: str


@dataclass(frozen=True, slots=True)
class Failed:
    """One change of the plan was not written."""

    id: str
    verb: str
    why: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing was looked at: what the file wants, what was seen."""

    name: str
    ok: bool
    expected: str
    observed: str
    hint: str = ""


Event = Started | Progress | Changed | Failed | Checked
Tell = Callable[[Event], None]


def silent(_: Event) -> None:
    """A listener for those who want none."""


def as_json(event: Event) -> dict[str, object]:
    """The event as plain data, with its kind under `event`."""
    return {"event": type(event).__name__.lower(), **asdict(event)}
