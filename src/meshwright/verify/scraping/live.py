"""What a running Prometheus says of an object: whether it has a target of it, and what came of the last scrape.

Pure but for `ask`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meshwright.io import prometheus
from meshwright.spec.nodes import shown
from meshwright.verify.scraping.hops import Hop, State, Way, some
from meshwright.verify.scraping.monitors import MONITOR

_NONE = "wait a minute after a change; then look at the log of the operator and at Status > Service Discovery"


def ask(url: str, namespace: str, way: Way) -> Way:
    """The way with one hop more."""
    label = way.kind.lower()
    active = prometheus.get(url, "targets", state="active").get("activeTargets") or []
    chosen = f'{{namespace="{namespace}",{label}={json.dumps(way.name)}}}'
    counted = prometheus.get(url, "query", query=f"scrape_samples_scraped{chosen}").get("result") or []
    return replace(way, hops=(*way.hops, judge(namespace, way, active, counted)))


def judge(namespace: str, way: Way, active: list[Mapping[str, Any]], counted: list[Mapping[str, Any]]) -> Hop:
    """active: as /api/v1/targets has them. counted: the instant vector of scrape_samples_scraped."""
    pool = f"{MONITOR[way.kind][0].lower()}{MONITOR[way.kind][1:]}/{namespace}/"
    mine = [each for each in active if str(each.get("scrapePool", "")).startswith(pool) and _is(each, way)]
    if not mine:
        return Hop("target", "failed", "Prometheus has no target of it", _NONE)
    bad = [each for each in mine if each.get("health") != "up"]
    if bad:
        why = _quoted(str(bad[0].get("lastError") or "")) or "it was not scraped yet"
        said = f"{str(bad[0].get('scrapeUrl', ''))[:200]} is {bad[0].get('health', 'unknown')}: {why}"
        state: State = "warned" if len(bad) < len(mine) or not bad[0].get("lastError") else "failed"
        return Hop("target", state, said, "see what answers there; limits and time-outs are errors of this kind too")
    samples = [str(each["value"][1]) for each in counted if len(each.get("value") or ()) == 2]
    return Hop("target", "ok", f"{len(mine)} up, {some(samples) or 'no'} samples in the last scrape")


def _quoted(text: str) -> str:
    """In quotes that it cannot end, for a friend's pod chooses some of the words, as in its HTTP status."""
    return shown(" ".join(text.replace('"', "'").split()), 300) if text else ""


def _is(target: Mapping[str, Any], way: Way) -> bool:
    said, found = target.get("labels") or {}, target.get("discoveredLabels") or {}
    kind = way.kind.lower()
    return way.name in (said.get(kind), found.get(f"__meta_kubernetes_{kind}_name"))
