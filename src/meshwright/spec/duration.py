"""Durations as the file and Prometheus write them: 30s, 1m30s. Pure."""

from __future__ import annotations

import re

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_part = re.compile(r"([0-9]+)(ms|[smhd])").findall


def milliseconds(text: str) -> int:
    """How long a duration of the file is."""
    return sum(int(number) * _UNITS[unit] for number, unit in _part(text))


def written(left: int) -> str:
    """The same as Prometheus takes it: each unit once, the largest first."""
    out = ""
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        out += f"{count}{unit}" if count else ""
    return out or "0s"
