"""What dashboard-linter asks of a dashboard, in our own words; the names are its rules' (grafana/dashboard-linter).

It looks at the panels of some kinds only; here every panel is asked. `faults(dashboard)` is empty for a good one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import promql

Dashboard = dict[str, Any]
KINDS = {"stat", "table", "timeseries", "state-timeline", "heatmap"}
"""Of panels that Grafana has not given up; `graph`, `singlestat` and `table-old` are gone."""
UNITS = {"none", "short", "s", "bytes", "Bps", "pps"}
SOURCE = {"$datasource", "${datasource}"}
AMOUNTS = {"wireguard_peers_total"}
"""Called _total for the sake of the homelab (R10), and no counters."""


def faults(dashboard: Dashboard) -> list[str]:
    """`rule: what is wrong`, of all rules."""
    return [f"{name}: {fault}" for name, rule in RULES.items() for fault in rule(dashboard)]


def _variables(dashboard: Dashboard, kind: str) -> list[dict[str, Any]]:
    return [each for each in dashboard["templating"]["list"] if each["type"] == kind]


def _targets(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    for panel in promql.panels(dashboard):
        for target in panel.get("targets") or []:
            yield f"{panel['title']}/{target['refId']}", target["expr"]


def _template_datasource(dashboard: Dashboard) -> Iterator[str]:
    found = _variables(dashboard, "datasource")
    if [(each["name"], each["label"], each["query"]) for each in found] != [
        ("datasource", "Data source", "prometheus")
    ]:
        yield "there must be one, called datasource"


def _template(name: str) -> Callable[[Dashboard], Iterator[str]]:
    def rule(dashboard: Dashboard) -> Iterator[str]:
        found = [each for each in _variables(dashboard, "query") if each["name"] == name]
        if not found:
            yield "there is none"
            return
        asked = found[0]
        for wrong, what in (
            (asked["datasource"]["uid"] not in SOURCE, "another data source"),
            (asked["label"] != name.capitalize(), f"called {asked['label']}"),
            (not asked["multi"], "one value only"),
            (asked["allValue"] != ".+", f"all is {asked['allValue']}"),
            (not asked["includeAll"], "all cannot be chosen"),
        ):
            if wrong:
                yield what

    return rule


def _template_label_promql(dashboard: Dashboard) -> Iterator[str]:
    for each in _variables(dashboard, "query"):
        function = each["query"].partition("(")[0]
        if function not in ("label_names", "label_values", "metrics", "query_result"):
            yield f"{each['name']} asks by {function}"
        elif not promql.selectors(promql.filled(promql.asked(each["query"]))):
            yield f"{each['name']} asks for nothing"


def _template_reload(dashboard: Dashboard) -> Iterator[str]:
    yield from (each["name"] for each in _variables(dashboard, "query") if each["refresh"] != 2)


def _panel_datasource(dashboard: Dashboard) -> Iterator[str]:
    for panel in promql.panels(dashboard):
        for one in (panel, *(panel.get("targets") or [])):
            if one["datasource"]["uid"] not in SOURCE:
                yield panel["title"]


def _panel_title_description(dashboard: Dashboard) -> Iterator[str]:
    for panel in promql.panels(dashboard):
        if not panel.get("title") or not panel.get("description"):
            yield f"panel {panel['id']}"


def _panel_units(dashboard: Dashboard) -> Iterator[str]:
    for panel in promql.panels(dashboard):
        config = panel["fieldConfig"]
        units = [config["defaults"].get("unit", "")]
        said = [each for override in config["overrides"] for each in override["properties"]]
        units += [each["value"] for each in said if each["id"] == "unit"]
        if not set(units) <= UNITS:
            yield f"{panel['title']}: {units}"


def _panel_no_targets(dashboard: Dashboard) -> Iterator[str]:
    yield from (panel["title"] for panel in promql.panels(dashboard) if not panel.get("targets"))


def _target_promql(dashboard: Dashboard) -> Iterator[str]:
    """Whether it is PromQL at all, promtool says: test_dashboard asks it."""
    for where, expr in _targets(dashboard):
        if not promql.selectors(promql.filled(expr)):
            yield f"{where} asks for nothing"


def _target_rate_interval(dashboard: Dashboard) -> Iterator[str]:
    for where, expr in _targets(dashboard):
        for selector in promql.selectors(expr):
            if selector.within[-1:] in (("rate",), ("irate",)) and selector.range != "$__rate_interval":
                yield f"{where}: {selector.range}"


def _target(label: str) -> Callable[[Dashboard], Iterator[str]]:
    def rule(dashboard: Dashboard) -> Iterator[str]:
        for where, expr in _targets(dashboard):
            for selector in promql.selectors(expr):
                if (label, "=~", f"${label}") not in selector.matchers:
                    yield f"{where}: {selector.name}"

    return rule


def _target_counter_agg(dashboard: Dashboard) -> Iterator[str]:
    """A counter's value means nothing. That it is there does: in group, count, or beside and, unless."""
    for where, expr in _targets(dashboard):
        for selector in promql.selectors(expr):
            counter = selector.name.endswith("_total") and selector.name not in AMOUNTS
            if not counter or selector.within[-1:] in (("rate",), ("irate",), ("increase",), ("group",)):
                continue
            before = expr.partition(f"{selector.name}{{")[0].rstrip()
            if not before.endswith(")") or before.rsplit("(", 1)[0].split()[-2:][0] not in ("and", "unless"):
                yield f"{where}: {selector.name}"


def _uneditable(dashboard: Dashboard) -> Iterator[str]:
    if dashboard["editable"]:
        yield "it can be edited"


def _kinds(dashboard: Dashboard) -> Iterator[str]:
    yield from (panel["type"] for panel in promql.panels(dashboard) if panel["type"] not in KINDS)


RULES: dict[str, Callable[[Dashboard], Iterator[str]]] = {
    "template-datasource": _template_datasource,
    "template-job": _template("job"),
    "template-instance": _template("instance"),
    "template-label-promql": _template_label_promql,
    "template-on-time-change-reload": _template_reload,
    "panel-datasource": _panel_datasource,
    "panel-title-description": _panel_title_description,
    "panel-units": _panel_units,
    "panel-no-targets": _panel_no_targets,
    "target-promql": _target_promql,
    "target-rate-interval": _target_rate_interval,
    "target-job": _target("job"),
    "target-instance": _target("instance"),
    "target-counter-agg": _target_counter_agg,
    "uneditable-dashboard": _uneditable,
    "no-deprecated-panels": _kinds,
}
