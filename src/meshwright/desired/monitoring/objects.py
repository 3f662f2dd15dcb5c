"""How a scrape is asked for, and what is done to labels. Pure.

Formats: the Prometheus operator's API reference (monitoring.coreos.com/v1).
"""

from __future__ import annotations

from typing import Any

from meshwright.desired.manifest import Manifest, annotated
from meshwright.desired.resource import Unknown
from meshwright.spec.duration import milliseconds, written
from meshwright.spec.model import Observability

OPERATOR = "monitoring.coreos.com/v1"


def found(manifest: Manifest, watch: Observability) -> Manifest:
    """The object with the label by which the Prometheus operator finds what belongs to its release (R19)."""
    return annotated(manifest, {"release": watch.release}, {})


def scrape(watch: Observability, port: str, patience: int, **more: Any) -> Manifest:
    """One endpoint of a monitor. What answers says nothing of where it stands, of the time, or where to ask instead.

    patience: milliseconds that an answer may take, as far as the interval allows.
    """
    return {
        "port": port,
        "interval": written(milliseconds(watch.interval)),
        "scrapeTimeout": written(min(patience, milliseconds(watch.interval))),
        "followRedirects": False,
        "honorLabels": False,
        "honorTimestamps": False,
        **more,
    }


def replace(target: str, replacement: str, source: list[str] | None = None, regex: str | Unknown = "") -> Manifest:
    """A relabeling that sets one label. Without `source` it always does; regex: of the sources, joined by `;`."""
    rule: Manifest = {"action": "replace", "targetLabel": target, "replacement": replacement}
    return rule | ({"sourceLabels": source} if source else {}) | ({"regex": regex} if regex else {})


def drop_labels(regex: str) -> Manifest:
    """A relabeling that takes labels away."""
    return {"action": "labeldrop", "regex": regex}
