"""Reading: scalars, places, included files, and that nothing but Loaded or SpecError comes out."""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshwright.errors import SpecError
from meshwright.spec.load import load, load_text
from meshwright.spec.nodes import Places, parse, scalar

TESTS = Path(__file__).parent.parent
REFERENCE = TESTS.parent / "examples/homelab/mesh.yaml"
FULL = TESTS / "data/mesh-full.yaml"
MINIMAL = TESTS.parent / "examples/minimal/mesh.yaml"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize("path", [REFERENCE, FULL, MINIMAL], ids=["reference", "full", "minimal"])
def test_good_file_loads_without_a_word(path: Path) -> None:
    assert load(path, NOW).warnings == ()


def test_full_file_keeps_every_value() -> None:
    mesh = load(FULL, NOW).mesh
    assert mesh.hub.mark == 0x100000
    assert mesh.kubernetes is not None
    assert mesh.kubernetes.version == "1.36"
    assert [d.reference for d in mesh.devices] == ["astrid", "carl", "bjorn/router", "bjorn/phone"]
    assert {str(n) for n in mesh.network.routes["pods"]} == {"10.244.0.0/16", "fd00:244::/56"}
    assert mesh.peers["astrid"].expires == "2027-06-30"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("no", "no"),
        ("22:22", "22:22"),
        ("190:20:30", "190:20:30"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-7", -7),
        ("007", 7),
        ("0o17", 15),
        ("0x100000", 0x100000),
        ("1_000", "1_000"),
        ("1.36", 1.36),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("10.100.2.1", "10.100.2.1"),
        ("2027-06-30", "2027-06-30"),
        ("-", "-"),
        ("+", "+"),
        ("0b1", "0b1"),
        ("\u0663", "\u0663"),
    ],
)
def test_scalars_are_those_of_the_core_schema(text: str, value: Any) -> None:
    found = scalar(text)
    assert (type(found), found) == (type(value), value)


def test_quoted_scalar_stays_text() -> None:
    assert parse("a: '12'\nb: \"true\"\nc: |\n  1\n")[0] == {"a": "12", "b": "true", "c": "1\n"}


def test_places_are_those_of_the_first_character() -> None:
    places = Places()
    parse("a:\n  - b: {c: d}\n  - [e, 'f']\n", places)
    assert {".".join(map(str, k)): tuple(v)[:2] for k, v in places.values.items() if k} == {
        "a": (2, 3),
        "a.0": (2, 5),
        "a.0.b": (2, 8),
        "a.0.b.c": (2, 12),
        "a.1": (3, 5),
        "a.1.0": (3, 6),
        "a.1.1": (3, 9),
    }


def test_collection_is_switched_on_again() -> None:
    for text in ("version: 1", MINIMAL.read_text()):
        try:
            load_text(text)
        except SpecError:
            assert text == "version: 1"
        assert gc.isenabled()


def test_included_peers_join_in(tmp_path: Path) -> None:
    text = MINIMAL.read_text().replace("name: friends", "name: friends\ninclude: [sub/a.yaml]")
    (tmp_path / "mesh.yaml").write_text(text)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.yaml").write_text("include: [b.yaml]\npeers:\n  ann: {address: 10.100.3.1}\n")
    (tmp_path / "sub/b.yaml").write_text("peers:\n  ben: {address: 10.100.3.2}\n")
    loaded = load(tmp_path / "mesh.yaml")
    assert list(loaded.mesh.peers) == ["alice", "bob", "ann", "ben"]
    assert loaded.holders == {"ann": str(tmp_path / "sub/a.yaml"), "ben": str(tmp_path / "sub/b.yaml")}


def test_fault_of_an_included_peer_is_told_at_its_place(tmp_path: Path) -> None:
    text = MINIMAL.read_text().replace("name: friends", "name: friends\ninclude: [a.yaml]")
    (tmp_path / "mesh.yaml").write_text(text)
    (tmp_path / "a.yaml").write_text("peers:\n  ann: {address: 10.100.1.1}\n")
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "mesh.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == (str(tmp_path / "a.yaml"), 2, 18)


def test_expired_depends_on_the_moment_given() -> None:
    text = MINIMAL.read_text().replace("10.100.1.1}", "10.100.1.1, expires: 2026-10-31}")
    assert load_text(text, now=datetime(2026, 10, 31, 23, 59, tzinfo=UTC)).warnings == ()
    assert [w.text for w in load_text(text, now=NOW).warnings] == ["expired: treated as disabled"]


def test_the_last_of_all_days_is_a_date() -> None:
    text = MINIMAL.read_text().replace("10.100.1.1}", "10.100.1.1, expires: 9999-12-31}")
    loaded = load_text(text, now=NOW)
    assert loaded.warnings == ()
    assert loaded.mesh.devices[0].active(NOW)


def loaded_or_told(text: str) -> None:
    lines = text.split("\n")
    try:
        problems = load_text(text, now=NOW).warnings
    except SpecError as error:
        problems = error.problems or pytest.fail("an error without a problem")
    for problem in problems:
        assert 1 <= problem.line <= len(lines), problem
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem
        assert problem.render().replace("\n", "").isprintable(), problem


@settings(max_examples=300)
@given(st.text())
@example("a: b\n\n   ")
@example("{")
@example("? a")
@example("\ufeff")
@example("'")
@example("- &a\n- *a")
def test_any_text_is_loaded_or_refused_with_places_inside_it(text: str) -> None:
    loaded_or_told(text)


KEYS = st.sampled_from(
    ["version", "hub", "network", "peers", "kind", "from", "to", "address", "devices", "policy", "allow"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["10.100.0.1", "unifi", "peers"])
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
PATHS = st.sampled_from([p for p in [*yaml.safe_load(FULL.read_text())]])


@settings(max_examples=300)
@given(section=PATHS, value=VALUES, data=st.data())
def test_any_value_anywhere_is_loaded_or_refused(section: str, value: Any, data: st.DataObject) -> None:
    mesh = yaml.load(FULL.read_text(), Loader=yaml.BaseLoader)
    at, key = mesh, section
    while isinstance(at[key], dict) and at[key] and data.draw(st.booleans()):
        at, key = at[key], data.draw(st.sampled_from(sorted(at[key])))
    at[key] = value
    loaded_or_told(yaml.safe_dump(mesh, allow_unicode=True))


@settings(max_examples=200)
@given(st.data())
def test_reference_with_a_piece_cut_out_is_loaded_or_refused(data: st.DataObject) -> None:
    text = FULL.read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 200)))
    loaded_or_told(text[:start] + text[end:])


@pytest.mark.parametrize(("limit", "most", "said"), [("LIMIT", 1 << 20, "1 MB"), ("NODES", 500, "500 values")])
def test_included_files_have_one_limit_together(
    limit: str, most: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n}.yaml" for n in range(9)]
    (tmp_path / "mesh.yaml").write_text(f"include: [{', '.join(names)}]\n{MINIMAL.read_text()}")
    for n, name in enumerate(names):
        comment = "#" * 200_000 + "\n"
        peers = "".join(f"  p{n}-{m}: {{address: 10.100.{n + 10}.{m + 1}}}\n" for m in range(40))
        (tmp_path / name).write_text(f"{comment}peers:\n{peers}")
    assert len(load(tmp_path / "mesh.yaml", NOW).holders) == 9 * 40
    monkeypatch.setattr(f"meshwright.spec.load.{limit}", most)
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "mesh.yaml", NOW)
    assert [problem.text for problem in caught.value.problems] == [f"more than {said} in all included files"]


def test_reading_ends_after_many_faults_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("version: 1\n" * 5000)
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "mesh.yaml", NOW)
    assert caught.value.problems[-1].text == "more than 200 faults like these: reading ends here"
