"""The operations that a remote call may ask for."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from . import system


def operate(operation: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Run one operation by name. What goes in and comes out is plain JSON."""
    if operation not in OPERATIONS:
        raise system.HubError(f"unknown operation {operation}", "this is a bug of meshwright; report it")
    return OPERATIONS[operation](payload)


def put(payload: dict[str, Any]) -> dict[str, Any]:
    """{"path", "data": base64, "mode": int} -> {}"""
    system.write_file(payload["path"], base64.b64decode(payload["data"]), payload["mode"])
    return {}


def ping(payload: dict[str, Any]) -> dict[str, Any]:
    """Whatever came -> the same: shows that the way there works."""
    return {"echo": payload}


OPERATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"put": put, "ping": ping}
