"""Panels as Grafana reads them: the only home of its SDK, whose types are those of Grafana 11.6. Pure.

Every panel has a number of its own that never changes: links to a panel hold it. Importing this costs time, so it is
imported where a dashboard is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, statetimeline, table
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"
Colour = str
Words = Mapping[int, tuple[str, Colour]]
"""What a number means, and its colour."""


@dataclass(frozen=True, slots=True)
class Query:
    """An expression. legend: what its series are called, or the one number it gives; {{label}} is filled in."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """Of each panel. number: its own for ever. width, height: in Grafana's grid of 24 columns. unit: Grafana's name."""

    number: int
    title: str
    description: str
    width: int
    height: int
    unit: str = "short"
    words: Words = field(default_factory=dict)
    empty: str = ""


Builder = table.Panel | stat.Panel | statetimeline.Panel | heatmap.Panel | series.Panel
OfKind = TypeVar("OfKind", table.Panel, stat.Panel, statetimeline.Panel, heatmap.Panel, series.Panel)


def numbers(about: About, queries: Sequence[Query], bad_from: int | None = None) -> Builder:
    """One number for each query, red from `bad_from` on."""
    steps = [model.Threshold(None, GREEN if bad_from is not None else BLUE)]
    steps += [model.Threshold(float(bad_from), RED)] if bad_from is not None else []
    panel = stat.Panel().graph_mode(looks.BigValueGraphMode.NONE).color_mode(looks.BigValueColorMode.VALUE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    panel = panel.text_mode(looks.BigValueTextMode.VALUE_AND_NAME if len(queries) > 1 else looks.BigValueTextMode.VALUE)
    panel = panel.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
    return _begun(panel, about, queries, now=True)


def lines(about: About, queries: Sequence[Query]) -> Builder:
    """Values over time."""
    panel = series.Panel().fill_opacity(10).line_width(1).show_points(looks.VisibilityMode.NEVER).min(0)
    legend = common.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.RIGHT)
    panel = panel.legend(legend.display_mode(looks.LegendDisplayMode.TABLE).calcs(["lastNotNull", "max"]))
    shown = common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING)
    return _begun(panel.tooltip(shown), about, queries)


def states(about: About, queries: Sequence[Query]) -> Builder:
    """What each was, over time, as coloured bars."""
    panel = statetimeline.Panel().merge_values(True).show_value(looks.VisibilityMode.NEVER).fill_opacity(80)
    legend = common.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.BOTTOM)
    return _begun(panel.row_height(0.8).legend(legend.display_mode(looks.LegendDisplayMode.LIST)), about, queries)


def heat(about: About, queries: Sequence[Query]) -> Builder:
    """How many series have which value, over time; the scale of values doubles from step to step."""
    scale = common.ScaleDistributionConfig().type(looks.ScaleDistribution.LOG).log(2)
    bucket = common.HeatmapCalculationBucketConfig().scale(scale)
    panel = heatmap.Panel().calculate(True).calculation(common.HeatmapCalculationOptions().y_buckets(bucket))
    panel = panel.y_axis(heatmap.YAxisConfig().unit(about.unit)).hide_legend().cell_gap(1)
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    return _begun(panel.color(colours), about, queries)


@dataclass(frozen=True, slots=True)
class Column:
    """A label, or the query that its values come from, with what it is called.

    A query's values are called "Value #A" and so on by Grafana, but "Value" where there is only one query.
    """

    source: str
    title: str
    unit: str = ""
    words: Words = field(default_factory=dict)


def rows(about: About, queries: Sequence[Query], columns: Sequence[Column], first: str) -> Builder:
    """A row for each set of labels, sorted by the column `first`."""
    panel = table.Panel().show_header(True).cell_height(looks.TableCellHeight.SM)
    panel = panel.sort_by([common.TableSortByFieldState().display_name(first).desc(False)])
    panel = panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    kept = {column.source: place for place, column in enumerate(columns)}
    hidden = {
        f"Value #{_letter(place)}": True for place in range(len(queries)) if f"Value #{_letter(place)}" not in kept
    }
    order = {
        "excludeByName": {"Time": True, **hidden},
        "indexByName": kept,
        "renameByName": {column.source: column.title for column in columns},
    }
    panel = panel.with_transformation(model.DataTransformerConfig("organize", options=order))
    for column in columns:
        said = [model.DynamicConfigValue("unit", column.unit)] if column.unit else []
        if column.words:
            said.append(model.DynamicConfigValue("mappings", _mapped(column.words)))
            said.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        if said:
            panel = panel.override_by_name(column.title, said)
    return _begun(panel, about, queries, now=True, as_table=True)


def _begun(panel: OfKind, about: About, queries: Sequence[Query], now: bool = False, as_table: bool = False) -> OfKind:
    """What every kind of panel has."""
    panel = panel.id(about.number).title(about.title).description(about.description).datasource(SOURCE)
    panel = panel.height(about.height).span(about.width).unit(about.unit)
    if about.words:
        panel = panel.mappings(_mapped(about.words))
    if about.empty:
        panel = panel.no_value(about.empty)
    for place, query in enumerate(queries):
        target = prometheus.Dataquery().ref_id(_letter(place)).expr(query.expr).datasource(SOURCE)
        target = target.legend_format(query.legend) if query.legend else target
        target = target.instant() if now else target.range()
        panel = panel.with_target(target.format(PromQueryFormat.TABLE) if as_table else target)
    return panel


def _letter(place: int) -> str:
    return "ABCDEFGH"[place]


def _mapped(words: Words) -> list[model.ValueMapping]:
    said = {str(number): model.ValueMappingResult(*word) for number, word in words.items()}
    return [model.ValueMap(said)]


def variable(name: str, query: str) -> dashboard.QueryVariable:
    """Values of the label of this name that `query` gives; all of them where nothing is chosen."""
    whole = model.VariableOption(True, "All", "$__all")
    found = dashboard.QueryVariable(name).label(name.capitalize()).datasource(SOURCE).current(whole)
    found = found.query(f"query_result({query})").regex(f'/{name}="([^"]+)"/').multi(True).include_all(True)
    return found.all_value(".+").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)


def written(
    uid: str, title: str, description: str, variables: Iterable[dashboard.QueryVariable], panels: Iterable[Builder]
) -> str:
    """The dashboard as JSON text: the same for the same panels, a line for each value."""
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    board = dashboard.Dashboard(title).uid(uid).description(description).tags(["meshwright", "wireguard"]).readonly()
    board = board.time("now-24h", "now").refresh("1m").timezone("browser").with_variable(source)
    board = board.tooltip(model.DashboardCursorSync.CROSSHAIR)
    for each in variables:
        board = board.with_variable(each)
    for panel in panels:
        board = board.with_panel(panel)
    return json.dumps(board.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
