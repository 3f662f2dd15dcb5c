"""A dashboard drawn as one SVG from its JSON and the answers to its queries: enough of Grafana for a picture. Pure.

Knows the kinds of panels, the units and the options that our dashboard has, no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Any

import promql

Labels = Mapping[str, str]
Series = tuple[Labels, Sequence[tuple[float, float]]]
"""Labels, and (epoch seconds, value) in the order of time."""
Answers = Mapping[tuple[int, str], Sequence[Series]]
"""By the panel's number and the letter of its query."""

COLUMN, ROW, GAP, EDGE, HEAD = 58.0, 33.0, 8.0, 24.0, 64.0
COLOURS = {"green": "#3f8f46", "orange": "#d9822b", "red": "#c9303e", "blue": "#2f66b3"}
LINES = ("#2f66b3", "#d9822b", "#3f8f46", "#8a4fb0", "#c9303e", "#2a9d9d", "#b58900", "#6b6b6b", "#d45087", "#665191")
INK, FAINT, RULE, PAPER = "#1f2430", "#6b7280", "#e3e6eb", "#f4f5f7"


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a panel's content may stand, in pixels."""

    x: float
    y: float
    w: float
    h: float


def draw(dashboard: Mapping[str, Any], answers: Answers, span: tuple[float, float], caption: str) -> str:
    """The picture. span: begin and end of the time axis, epoch seconds."""
    panels = list(promql.panels(dashboard))
    bottom = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
    width, height = 24 * COLUMN + 2 * EDGE, HEAD + bottom * ROW + 44
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="{PAPER}"/>',
        text(EDGE, 30, dashboard["title"], size=20, weight="bold"),
        text(EDGE, 50, dashboard["description"], FAINT, size=12),
        text(width - EDGE, 30, f"{moment(span[0])} to {moment(span[1])} UTC", FAINT, anchor="end"),
    ]
    for panel in panels:
        out += _panel(panel, answers, span)
    out += [text(EDGE, height - 16, caption, FAINT, size=11), "</svg>"]
    return "\n".join(out) + "\n"


def _panel(panel: Mapping[str, Any], answers: Answers, span: tuple[float, float]) -> Iterator[str]:
    place = panel["gridPos"]
    x, y = EDGE + place["x"] * COLUMN, HEAD + place["y"] * ROW
    w, h = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="3" fill="#fff" stroke="{RULE}"/>'
    yield text(x + 10, y + 19, panel["title"], weight="bold", size=12.5)
    inside = Frame(x + 10, y + 30, w - 20, h - 38)
    found = [
        (target, labels, points)
        for target in panel["targets"]
        for labels, points in answers.get((panel["id"], target["refId"]), ())
    ]
    if not found:
        empty = panel["fieldConfig"]["defaults"].get("noValue") or "no data"
        yield text(inside.x + inside.w / 2, inside.y + inside.h / 2 + 5, empty, FAINT, anchor="middle", size=15)
        return
    kinds: dict[str, Callable[..., Iterable[str]]] = {
        "stat": _stat, "table": _table, "timeseries": _lines, "state-timeline": _states, "heatmap": _heat,
    }  # fmt: skip
    yield from kinds[panel["type"]](panel, found, inside, span)


Found = Sequence[tuple[Mapping[str, Any], Labels, Sequence[tuple[float, float]]]]


def _stat(panel: Mapping[str, Any], found: Found, inside: Frame, span: tuple[float, float]) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    share = inside.w / len(found)
    for place, (target, labels, points) in enumerate(found):
        value = points[-1][1]
        word, colour = mapped(defaults, value)
        colour = colour or _threshold(defaults, value)
        shown = word or written(value, defaults.get("unit", ""))
        middle = inside.x + share * (place + 0.5)
        size = min(32.0, share / max(len(shown), 3) * 1.7)
        lower = 8 if len(found) > 1 else 14
        yield text(middle, inside.y + inside.h / 2 + lower, shown, colour, anchor="middle", size=size, weight="bold")
        if len(found) > 1:
            yield text(middle, inside.y + inside.h - 6, name(target, labels), FAINT, anchor="middle")


def _threshold(defaults: Mapping[str, Any], value: float) -> str:
    colour = INK
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            colour = COLOURS.get(step["color"], step["color"])
    return colour


def table_of(panel: Mapping[str, Any], found: Found) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """Titles, and rows of (text, colour), as Grafana's transformations merge and organize make them."""
    several = len(panel["targets"]) > 1
    rows: list[dict[str, Any]] = []
    for target, labels, points in found:
        value = f"Value #{target['refId']}" if several else "Value"
        fits = [row for row in rows if all(row.get(k, "") == v for k, v in labels.items() if k in row or _key(k))]
        fits = [row for row in fits if value not in row and all(row[k] == labels.get(k, "") for k in row if _key(k))]
        for row in fits or [{}]:
            row.update(labels, **{value: points[-1][1]})
            if not fits:
                rows.append(row)
    order = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
    columns = sorted(order["indexByName"], key=order["indexByName"].get)
    titles = [order["renameByName"][column] for column in columns]
    first = columns[titles.index(panel["options"]["sortBy"][0]["displayName"])]
    rows.sort(key=lambda row: (str(row.get(first, "")), str(row.get("device", ""))))
    return titles, [
        [_cell(panel, title, row.get(column)) for column, title in zip(columns, titles, strict=True)] for row in rows
    ]


def _key(label: str) -> bool:
    """Whether it tells one row from another: all labels do but those that say more of it."""
    return label in ("peer", "device", "public_key", "allowed_ips")


def _cell(panel: Mapping[str, Any], title: str, value: Any) -> tuple[str, str]:
    if value is None or isinstance(value, str):
        return value or "", INK
    said = {
        each["id"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == title
        for each in override["properties"]
    }
    word, colour = mapped(said, value)
    return word or written(value, said.get("unit", "")), colour or INK


def _table(panel: Mapping[str, Any], found: Found, inside: Frame, span: tuple[float, float]) -> Iterator[str]:
    titles, rows = table_of(panel, found)
    widest = [max([len(title) * 1.1, *(len(row[i][0]) for row in rows)]) + 2 for i, title in enumerate(titles)]
    places = [inside.x + inside.w * sum(widest[:i]) / sum(widest) for i in range(len(widest))]
    fit = int((inside.h - 18) / 21)
    for x, title in zip(places, titles, strict=True):
        yield text(x, inside.y + 11, title, FAINT, weight="bold")
    for place, row in enumerate(rows[:fit]):
        y = inside.y + 32 + place * 21
        yield f'<path d="M{inside.x:.1f} {y - 15:.1f}h{inside.w:.1f}" stroke="{RULE}"/>'
        for x, (shown, colour) in zip(places, row, strict=True):
            yield text(x, y, shown, colour)
    if len(rows) > fit:
        yield text(inside.x + inside.w, inside.y + 11, f"and {len(rows) - fit} more", FAINT, anchor="end")


def _lines(panel: Mapping[str, Any], found: Found, inside: Frame, span: tuple[float, float]) -> Iterator[str]:
    unit = panel["fieldConfig"]["defaults"].get("unit", "")
    legend = min(190.0, inside.w / 3)
    area = Frame(inside.x + 56, inside.y + 4, inside.w - 56 - legend - 14, inside.h - 24)
    top = ceiling(max((value for _, _, points in found for _, value in points), default=0.0))
    for share in (0.0, 0.5, 1.0):
        y = area.y + area.h * (1 - share)
        yield f'<path d="M{area.x:.1f} {y:.1f}h{area.w:.1f}" stroke="{RULE}"/>'
        yield text(area.x - 6, y + 4, written(top * share, unit), FAINT, anchor="end", size=11)
    yield from _times(area, span)
    ordered = sorted(found, key=lambda each: -max((value for _, value in each[2]), default=0.0))
    for place, (target, labels, points) in enumerate(ordered):
        colour = LINES[place % len(LINES)]
        for piece in pieces(points, span):
            path = " ".join(
                f"{_across(area, span, when):.1f},{area.y + area.h * (1 - value / top):.1f}" for when, value in piece
            )
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        y = inside.y + 10 + place * 17
        if y < inside.y + inside.h and points:
            x = inside.x + inside.w - legend
            yield f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="10" height="3" fill="{colour}"/>'
            yield text(x + 16, y, name(target, labels), size=11)
            yield text(inside.x + inside.w, y, written(points[-1][1], unit), FAINT, anchor="end", size=11)


def _states(panel: Mapping[str, Any], found: Found, inside: Frame, span: tuple[float, float]) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    ordered = sorted(found, key=lambda each: name(each[0], each[1]))
    side = 14 + 6.4 * max(len(name(target, labels)) for target, labels, _ in ordered)
    area = Frame(inside.x + side, inside.y, inside.w - side, inside.h - 42)
    tall = min(26.0, area.h / len(ordered))
    seen: dict[str, str] = {}
    for place, (target, labels, points) in enumerate(ordered):
        y = area.y + place * tall
        yield text(area.x - 8, y + tall / 2 + 4, name(target, labels), anchor="end")
        for piece in pieces(points, span):
            for begin, end, value in runs(piece):
                word, colour = mapped(defaults, value)
                seen.setdefault(word, colour)
                left, right = _across(area, span, begin), _across(area, span, end)
                yield (
                    f'<rect x="{left:.1f}" y="{y + 2:.1f}" width="{max(right - left, 1):.1f}" '
                    f'height="{tall - 4:.1f}" fill="{colour}" fill-opacity="0.75"/>'
                )
    yield from _times(Frame(area.x, area.y, area.w, tall * len(ordered)), span)
    x = area.x
    for word, colour in seen.items():
        y = area.y + tall * len(ordered) + 34
        yield f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" fill="{colour}" fill-opacity="0.75"/>'
        yield text(x + 15, y, word, size=11)
        x += 36 + 6.5 * len(word)


def _heat(panel: Mapping[str, Any], found: Found, inside: Frame, span: tuple[float, float]) -> Iterator[str]:
    area = Frame(inside.x + 56, inside.y + 4, inside.w - 60, inside.h - 24)
    across, cells = 48, {}
    for _, _, points in found:
        best: dict[int, float] = {}
        for when, value in points:
            best[min(int((when - span[0]) / (span[1] - span[0]) * across), across - 1)] = value
        for column, value in best.items():
            key = (column, math.floor(math.log2(max(value, 1.0))))
            cells[key] = cells.get(key, 0) + 1
    low, high = min(row for _, row in cells), max(row for _, row in cells) + 1
    tall, wide, most = area.h / (high - low), area.w / across, max(cells.values())
    for (column, row), count in sorted(cells.items()):
        x, y, dense = area.x + column * wide, area.y + (high - row - 1) * tall, 0.2 + 0.8 * count / most
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide - 1:.1f}" height="{tall - 1:.1f}" fill="#2f66b3" '
            f'fill-opacity="{dense:.2f}"/>'
        )
    unit = panel["options"]["yAxis"]["unit"]
    for row in range(low, high + 1):
        yield text(area.x - 6, area.y + (high - row) * tall + 4, written(2.0**row, unit), FAINT, anchor="end", size=11)
    yield from _times(area, span)


def _times(area: Frame, span: tuple[float, float]) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0) if area.w > 500 else (0.0, 0.5, 1.0):
        when = span[0] + (span[1] - span[0]) * share
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        yield text(area.x + area.w * share, area.y + area.h + 15, moment(when)[11:], FAINT, anchor=anchor, size=11)


def _across(area: Frame, span: tuple[float, float], when: float) -> float:
    return area.x + area.w * (when - span[0]) / (span[1] - span[0])


def pieces(points: Sequence[tuple[float, float]], span: tuple[float, float]) -> Iterator[list[tuple[float, float]]]:
    """The points, parted where one or more are missing: what is not known is not drawn."""
    gaps = [after[0] - before[0] for before, after in pairwise(points)]
    usual = min(gaps, default=span[1] - span[0])
    piece: list[tuple[float, float]] = []
    for point in points:
        if piece and point[0] - piece[-1][0] > usual * 1.5:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def runs(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float, float]]:
    """(begin, end, value) of each time that the value stays the same."""
    begin = points[0]
    for after in points[1:]:
        if after[1] != begin[1]:
            yield begin[0], after[0], begin[1]
            begin = after
    yield begin[0], points[-1][0], begin[1]


def mapped(said: Mapping[str, Any], value: float) -> tuple[str, str]:
    """The word and the colour that a value stands for, "" where it stands for itself."""
    for each in said.get("mappings", []):
        found = each["options"].get(f"{value:.0f}") if value == round(value) else None
        if found:
            return found["text"], COLOURS.get(found["color"], found["color"])
    return "", ""


def name(target: Mapping[str, Any], labels: Labels) -> str:
    """What a series is called: its legend with the labels filled in."""
    legend = str(target.get("legendFormat", ""))
    for label in ("peer", "device", "tenant", "job"):
        legend = legend.replace("{{" + label + "}}", labels.get(label, ""))
    return legend.strip()


def written(value: float, unit: str) -> str:
    """A value as Grafana writes its unit, near enough."""
    if unit == "s":
        for size, word in ((86400, "day"), (3600, "hour"), (60, "min"), (1, "s")):
            if value >= size or size == 1:
                return f"{_short(value / size)} {word}{'s' if word in ('day', 'hour') and value / size >= 1.05 else ''}"
    if unit in ("bytes", "Bps", "pps"):
        base = 1024.0 if unit == "bytes" else 1000.0
        words = {
            "bytes": ("B", "KiB", "MiB", "GiB"), "Bps": ("B/s", "kB/s", "MB/s", "GB/s"),
            "pps": ("p/s", "kp/s", "Mp/s", "Gp/s"),
        }[unit]  # fmt: skip
        power = 0
        while value >= base and power < 3:
            value, power = value / base, power + 1
        return f"{_short(value)} {words[power]}"
    return _short(value)


def _short(value: float) -> str:
    if value >= 9.95 or value == round(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def ceiling(value: float) -> float:
    """A round number that is not below the value; never 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= power * step * 1.000001)


def moment(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S")


def text(
    x: float, y: float, words: str, colour: str = INK, anchor: str = "start", size: float = 12, weight: str = "normal"
) -> str:
    extra = f' text-anchor="{anchor}"' if anchor != "start" else ""
    extra += f' font-weight="{weight}"' if weight != "normal" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size:g}"{extra}>{escape(words)}</text>'
