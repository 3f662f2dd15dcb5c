"""Ask a Prometheus what a dashboard asks, and draw the answers: script/draw-dashboard."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
import drawing

import promql

CAPTION = "Drawn by script/draw-dashboard from the dashboard's own queries, not by Grafana, with data of a lab: "
STEPS = 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", required=True, help="its address, http://HOST:PORT")
    parser.add_argument("--dashboard", required=True, type=Path, help="JSON, or the manifest of its ConfigMap")
    parser.add_argument("--output", required=True, type=Path, help="the SVG")
    parser.add_argument("--minutes", type=float, default=30, help="how far back (30)")
    parser.add_argument("--rate", default="1m", help="$__rate_interval (1m)")
    parser.add_argument("--note", default="real WireGuard in network namespaces.", help="last words of the caption")
    said = parser.parse_args()
    dashboard, end = read(said.dashboard), time.time()
    span = (end - said.minutes * 60, end)
    answers = dict(
        asked(said.prometheus.rstrip("/"), dashboard, span, {**promql.VARIABLES, "__rate_interval": said.rate})
    )
    said.output.write_text(drawing.draw(dashboard, answers, span, CAPTION + said.note))


def read(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    if found.get("kind") == "ConfigMap":
        [text] = found["data"].values()
        found = json.loads(text)
    return dict(found)


def asked(
    url: str, dashboard: Mapping[str, Any], span: tuple[float, float], variables: Mapping[str, str]
) -> Iterator[tuple[tuple[int, str], list[drawing.Series]]]:
    """The answer to each query of each panel, now or over time as it asks."""
    for panel in promql.panels(dashboard):
        for target in panel["targets"]:
            query = promql.filled(target["expr"], variables)
            if target.get("instant"):
                found = ask(f"{url}/api/v1/query", query=query, time=span[1])
                yield (panel["id"], target["refId"]), [(s["metric"], [_point(s["value"])]) for s in found]
            else:
                step = (span[1] - span[0]) / STEPS
                found = ask(f"{url}/api/v1/query_range", query=query, start=span[0], end=span[1], step=step)
                yield (panel["id"], target["refId"]), [(s["metric"], [_point(p) for p in s["values"]]) for s in found]


def ask(url: str, **parameters: Any) -> list[dict[str, Any]]:
    with urlopen(f"{url}?{urlencode(parameters)}", timeout=30) as answer:
        return list(json.load(answer)["data"]["result"])


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


if __name__ == "__main__":
    main()
