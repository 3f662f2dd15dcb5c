"""A running Prometheus, asked over its HTTP API (prometheus.io, "HTTP API"). Reads only; TLS is verified as always."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from meshwright.errors import MeshwrightError

WAIT = 20  # seconds
MOST = 64 << 20  # bytes


def get(url: str, path: str, **query: str) -> Any:
    """What `data` of the answer holds. MeshwrightError where there is no such answer."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise MeshwrightError(f"{_shown(url)} is no URL of a Prometheus", "write it as https://prometheus.example.net")
    place = f"{url.rstrip('/')}/api/v1/{path}?{urlencode(query)}"
    try:
        with urlopen(place, timeout=WAIT) as answer:  # noqa: S310  the scheme was looked at
            data = answer.read(MOST + 1)
    except HTTPError as error:
        raise MeshwrightError(
            f"{_shown(url)} answers {error.code} to {path}", "see that it is the URL of Prometheus"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        hint = "see that it runs and that this machine reaches it (kubectl port-forward helps)"
        raise MeshwrightError(f"{_shown(url)} cannot be asked: {why}", hint) from None
    try:
        found = json.loads(data) if len(data) <= MOST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("status") != "success" or not isinstance(found.get("data"), dict):
        raise MeshwrightError(f"{_shown(url)} answers no JSON of Prometheus to {path}", "see that it is its URL")
    return found["data"]


def _shown(url: str) -> str:
    """The URL without a password."""
    return url.rpartition("@")[2][:200]
