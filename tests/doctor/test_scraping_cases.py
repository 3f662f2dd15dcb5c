"""Golden cases of `doctor scrape`: a directory is a cluster and what is said of it. To add a case, add a directory.

case.json   "ask": the name, web where it is left out; "change": what differs from cases/world.json and from what apply
            writes of cases/mesh.yaml, by the kind's plural and the object's name; null takes a thing away
mesh.yaml   optional: another mesh file than cases/mesh.yaml
said.txt    every hop of every way
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scrapeworld import HERE, quiet, seen, world

from meshwright.verify.scraping import Seen, Way, judge

CASES = sorted(path.parent.name for path in HERE.glob("*/case.json"))
FINE = ("-not", "fine")


def ways(case: str) -> tuple[Way, ...]:
    name, found = seen(case)
    return judge("bryce", name, found, world(case))


def text(found: tuple[Way, ...]) -> str:
    lines = []
    for way in found:
        lines.append(f"{way.kind or 'nothing'} {way.name}: {way.broken.name if way.broken else 'scraped'}")
        lines += [f"  {h.state} {h.name}: {h.what}{f' -> {h.next}' if h.next else ''}" for h in way.hops]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_a_cluster_is_judged_as_the_case_says(case: str, update: bool) -> None:
    expected = HERE / case / "said.txt"
    if update:
        expected.write_text(text(ways(case)))
    assert text(ways(case)) == expected.read_text()


def test_every_case_has_a_twin_that_is_scraped() -> None:
    fine = {case for case in CASES if case.endswith(FINE)}
    assert all(ways(case)[0].broken is None for case in fine)
    for case in set(CASES) - fine:
        hops = [hop for way in ways(case) for hop in way.hops]
        assert any(hop.state != "ok" for hop in hops), case


def test_what_is_wrong_always_has_a_next_step() -> None:
    for case in CASES:
        for hop in (hop for way in ways(case) for hop in way.hops):
            assert hop.next or hop.state != "failed", (case, hop)


def test_every_kind_may_be_hidden_or_missing() -> None:
    """What could not be looked at is said, and nothing else is made up of it."""
    for kind in quiet():
        for why in ("forbidden", "missing"):
            parts: dict[str, Any] = {k: v if isinstance(v, str) else list(v.values()) for k, v in quiet().items()}
            found = judge("bryce", "web", Seen({**parts, kind: why}), world("fine"))
            broken = [way.broken.name for way in found if way.broken]
            assert broken == (["CRD"] if (kind, why) == ("servicemonitors", "missing") else []), (kind, why, broken)


scalars = st.none() | st.booleans() | st.integers(0, 70000) | st.text(max_size=4)
SPOTS = ("services", "pods", "endpointslices", "prometheuses", "networkpolicies")


@settings(max_examples=60)
@given(
    st.sampled_from(SPOTS), st.dictionaries(st.sampled_from(["app", "prometheus.io/scrape", "x"]), st.text(max_size=4))
)
def test_whatever_labels_there_are_it_is_judged(kind: str, said: dict[str, str]) -> None:
    parts: dict[str, Any] = json.loads(
        json.dumps({k: list(v.values()) for k, v in quiet().items() if not isinstance(v, str)})
    )
    for each in parts[kind]:
        each["metadata"]["labels"] = said
    for way in judge("bryce", "web", Seen(parts), world("fine")):
        assert all(hop.state in ("ok", "failed", "unknown", "warned") for hop in way.hops)
