"""The picture of the dashboard: what is in the answers is in it, and nothing that is not."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import drawing
import pytest
from test_dashboard import board, mesh_of, panel

SPAN = (1_700_000_000.0, 1_700_000_600.0)
NOW = SPAN[1]


def at(*values: float | None, step: float = 60) -> list[tuple[float, float]]:
    return [(SPAN[0] + n * step, value) for n, value in enumerate(values) if value is not None]


def now(value: float) -> list[tuple[float, float]]:
    return [(NOW, value)]


ANNA, PHONE, ROUTER = {"peer": "anna"}, {"peer": "ben", "device": "phone"}, {"peer": "ben", "device": "router"}


def answers() -> dict[tuple[int, str], list[drawing.Series]]:
    return {
        (1, "A"): [({}, now(3))],
        (2, "A"): [({}, now(1))],
        (2, "B"): [({}, now(3))],
        (3, "A"): [({}, now(2))],
        (10, "A"): [(ANNA, now(3)), (PHONE, now(1)), (ROUTER, now(0))],
        (10, "B"): [(ANNA, now(95)), (PHONE, now(-1))],
        (10, "C"): [(ANNA, now(3 * 1024**2)), (PHONE, now(0))],
        (10, "D"): [(ANNA, now(1536)), (PHONE, now(0))],
        (10, "E"): [({**ANNA, "always_on": "true"}, now(1)), ({**PHONE, "always_on": "false"}, now(1))],
        (11, "A"): [(ANNA, at(3, 3, 2, 2, None, None, None, 3)), (PHONE, at(1, 1, 1, 1))],
        (12, "A"): [(ANNA, at(0, 1500, 800)), (PHONE, at(0, 0, 0))],
        (14, "A"): [(ANNA, at(10, 70, 130)), (PHONE, at(4000, 4060, 4120))],
        (16, "A"): [({"public_key": "X<&>", "allowed_ips": "10.77.9.9/32"}, now(12))],
    }


def drawn(given: dict[tuple[int, str], list[drawing.Series]]) -> str:
    return drawing.draw(board(mesh_of("ours")), given, SPAN, "A caption.")


def words(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_picture_is_well_formed_and_says_what_the_answers_say() -> None:
    svg = drawn(answers())
    said = words(svg)
    for title in (each["title"] for each in board(mesh_of("ours"))["panels"]):
        assert title in said
    for word in (
        "up",
        "connected",
        "never",
        "not on the hub",
        "1.6 min",
        "3 MiB",
        "1.5 KiB",
        "X<&>",
        "10.77.9.9/32",
        "12 B",
    ):
        assert word in said, word
    assert "ben phone" in said
    assert "A caption." in said
    assert svg == drawn(answers())


def test_without_answers_every_panel_says_so() -> None:
    said = words(drawn({}))
    assert said.count("no data") + said.count("?") + said.count("none yet") + said.count("none") >= 14
    assert "not scraped" in said
    assert "up" not in said


@pytest.mark.parametrize(("number", "word"), [(0, "no answer"), (1, "interface down"), (2, "cannot see"), (3, "up")])
def test_what_the_hub_is(number: int, word: str) -> None:
    assert word in words(drawn({(1, "A"): [({}, now(number))]}))


def test_the_table_is_what_grafana_makes_of_it() -> None:
    table = panel(board(mesh_of("ours")), "Friends")
    found = [
        (target, labels, points) for target in table["targets"] for labels, points in answers()[(10, target["refId"])]
    ]
    titles, rows = drawing.table_of(table, found)
    assert titles == ["Friend", "Device", "State", "Last handshake", "Received, 24 h", "Sent, 24 h", "Always on"]
    assert [[text for text, _ in row] for row in rows] == [
        ["anna", "", "connected", "1.6 min", "3 MiB", "1.5 KiB", "true"],
        ["ben", "phone", "never", "never", "0 B", "0 B", "false"],
        ["ben", "router", "not on the hub", "", "", "", ""],
    ]


def test_what_is_not_known_is_a_gap() -> None:
    points = at(3, 3, 2, 2, None, None, None, 3)
    assert [len(piece) for piece in drawing.pieces(points, SPAN)] == [4, 1]
    first = next(iter(drawing.pieces(points, SPAN)))
    assert [(end - begin, value) for begin, end, value in drawing.runs(first)] == [(120, 3), (60, 2)]


def test_lines_stay_inside_of_their_panel() -> None:
    svg = drawn({(12, "A"): [(ANNA, at(0, 1e9, 5)), (PHONE, at(1, 2, 3))]})
    place = panel(board(mesh_of("ours")), "From friends")["gridPos"]
    top, bottom = drawing.HEAD + place["y"] * drawing.ROW, drawing.HEAD + (place["y"] + place["h"]) * drawing.ROW
    lines = re.findall(r'<polyline points="([^"]+)"', svg)
    assert len(lines) == 2
    for line in lines:
        assert all(top <= float(pair.split(",")[1]) <= bottom for pair in line.split())


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "bytes", "0 B"), (1024, "bytes", "1 KiB"), (1500, "Bps", "1.5 kB/s"), (90, "s", "1.5 min"),
        (86400 * 3, "s", "3 days"), (0.25, "pps", "0.25 p/s"), (12345, "short", "12345"), (5e12, "bytes", "4657 GiB"),
    ],
)  # fmt: skip
def test_units(value: float, unit: str, text: str) -> None:
    assert drawing.written(value, unit) == text


def test_the_scale_is_above_all_values() -> None:
    for value in (0.0, 0.3, 1.0, 7.0, 99.0, 1e6 + 1):
        assert value <= drawing.ceiling(value) <= max(value * 2.1, 1.0)


def spoilt(title: str, **changes: Any) -> dict[str, Any]:
    found = board(mesh_of("ours"))
    panel(found, title).update(changes)
    return found


def test_a_kind_of_panel_that_it_cannot_draw_is_an_error() -> None:
    with pytest.raises(KeyError):
        drawing.draw(spoilt("Hub", type="gauge"), answers(), SPAN, "")
