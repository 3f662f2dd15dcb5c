"""A cluster as the API server would list it: one tenant, our objects as apply writes them, and what a case changes."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from meshwright.desired.facts import ClusterFacts, Facts
from meshwright.desired.state import state
from meshwright.spec import load
from meshwright.spec.model import Mesh
from meshwright.verify.scraping import Seen, World, reading

HERE = Path(__file__).parent / "cases"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
OURS = {"servicemonitor": "servicemonitors", "podmonitor": "podmonitors", "networkpolicy": "networkpolicies"}
Parts = dict[str, dict[str, Any] | str]


@cache
def mesh(case: str = "") -> Mesh:
    own = HERE / case / "mesh.yaml"
    return load.load(own if case and own.exists() else HERE / "mesh.yaml", NOW).mesh


def facts() -> Facts:
    return Facts(NOW, cluster=ClusterFacts("1.36"))


def quiet() -> Parts:
    """Everything is right: by plural and name."""
    return copy.deepcopy(_quiet())


@cache
def _quiet() -> Parts:
    parts: Parts = json.loads((HERE / "world.json").read_text())
    for id, resource in state(mesh(), facts()).items():
        kind = id.split("/")[1] if id.startswith("kubernetes/") else ""
        if kind in OURS and resource.attrs["metadata"]["namespace"] == "bryce":
            found = parts.setdefault(OURS[kind], {})
            assert isinstance(found, dict)
            found[resource.attrs["metadata"]["name"]] = copy.deepcopy(dict(resource.attrs))
    return parts


def over(base: Any, more: Any) -> Any:
    """Mappings are merged, null takes a key away, everything else takes the base's place."""
    if isinstance(base, Mapping) and isinstance(more, Mapping):
        merged = {**base, **{key: over(base.get(key), value) for key, value in more.items()}}
        return {key: value for key, value in merged.items() if value is not None}
    return more


def seen(case: str) -> tuple[str, Seen]:
    """The name that is asked for, and the cluster of the case."""
    told = json.loads((HERE / case / "case.json").read_text())
    parts = over(quiet(), told.get("change", {}))
    return told.get("ask", "web"), Seen({k: v if isinstance(v, str) else list(v.values()) for k, v in parts.items()})


@cache
def world(case: str) -> World:
    return reading.world(mesh(case), facts(), "bryce")
