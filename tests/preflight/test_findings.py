"""Golden cases of the judgement: a directory is a hub and what is said of it. To add a case, add a directory.

survey.json    what differs on this hub from the quiet one in cases/survey.json: parts that are put over it
mesh.yaml      optional; without it cases/mesh.yaml
findings.txt   what is found, one a line; empty for a case that must not fire
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.spec import load
from meshwright.spec.model import Mesh
from meshwright.verify import preflight

HERE = Path(__file__).parent / "cases"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
CASES = sorted(path.parent.name for path in HERE.glob("*/survey.json"))
QUIET: dict[str, Any] = json.loads((HERE / "survey.json").read_text())


@cache
def mesh(case: str = "") -> Mesh:
    own = HERE / case / "mesh.yaml"
    return load.load(own if case and own.exists() else HERE / "mesh.yaml", NOW).mesh


def over(base: Any, more: Any) -> Any:
    """Mappings are merged, lists that begin with "..." go on after the base's, everything else takes its place."""
    if isinstance(base, Mapping) and isinstance(more, Mapping):
        return {**base, **{key: over(base.get(key), value) for key, value in more.items()}}
    if isinstance(more, list) and more[:1] == ["..."]:
        return [*base, *more[1:]]
    return more


def survey(case: str) -> Any:
    return over(QUIET, json.loads((HERE / case / "survey.json").read_text()))


def said(case: str) -> str:
    found = preflight.judge(mesh(case), survey(case))
    return "".join(f"{f.level}{' broken' if f.broken else ''}: {f.text}\n" for f in found)


@pytest.mark.parametrize("case", CASES)
def test_a_hub_is_judged_as_the_case_says(case: str, update: bool) -> None:
    expected = HERE / case / "findings.txt"
    if update:
        expected.write_text(said(case))
    assert said(case) == expected.read_text()


def test_nothing_is_said_of_a_quiet_hub() -> None:
    assert preflight.judge(mesh(), QUIET) == ()


def test_every_case_has_a_twin_that_must_not_fire() -> None:
    twins = {case for case in CASES if case.endswith("-not")}
    assert {f"{case}-not" for case in CASES if not case.endswith("-not")} == twins
    assert all("refuse" not in said(case) and "broken" not in said(case) for case in twins)
    assert all(said(case) for case in CASES if not case.endswith("-not"))


def test_a_part_that_could_not_be_read_is_said_to_be_unknown() -> None:
    for part in QUIET:
        found = preflight.judge(mesh(), {key: value for key, value in QUIET.items() if key != part})
        assert all(finding.level == "info" and "cannot be judged" in finding.what for finding in found), part
    assert {f.name for f in preflight.judge(mesh(), {})} >= {"UDP port", "address overlap", "firewall", "flowtable"}


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["10.100.0.1", "drop", "wg1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a tree."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    return [at, *(place for key in keys for place in places(tree[key], (*at, key)))]


def spoiled(tree: Any, at: tuple[Any, ...], value: Any, gone: bool) -> Any:
    if not at:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if gone and len(at) == 1:
        del copy[at[0]]
    else:
        copy[at[0]] = spoiled(copy[at[0]], at[1:], value, gone)
    return copy


@settings(max_examples=150)
@given(st.data())
def test_whatever_a_hub_answers_it_is_judged(data: st.DataObject) -> None:
    """Of any case: up to three values missing, or of another type, as another version of a program would say them."""
    tree = survey(data.draw(st.sampled_from(CASES)))
    for _ in range(data.draw(st.integers(1, 3))):
        if not isinstance(tree, dict | list):
            break
        at = data.draw(st.sampled_from(places(tree)))
        tree = spoiled(tree, at, data.draw(odd), data.draw(st.booleans()))
    for finding in preflight.judge(mesh(), tree):
        assert finding.level in ("refuse", "warn", "info")
        assert finding.text.isprintable()


@given(odd)
def test_a_survey_that_is_none_is_judged_too(tree: Any) -> None:
    preflight.judge(mesh(), tree)
