"""A write that is rolled back unless it is confirmed: armed before it, undone by a clock that needs no connection."""

from __future__ import annotations

from typing import Any


def operate(operation: str, payload: dict[str, Any]) -> dict[str, Any]:
    """`rollback.confirm` and `rollback.now`: see pending.operate."""
    from . import pending

    return pending.operate(operation, payload)
