"""Every fault of a mesh file, with the exact text that a user gets: tests/bad/FAULT.yaml and FAULT.txt.

To add one, add the yaml and run with --update; then read what came out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshwright.errors import Problem, SpecError
from meshwright.spec.load import load

BAD = Path(__file__).parent.parent / "bad"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def said(problems: tuple[Problem, ...]) -> str:
    return "\n".join(problem.render() for problem in problems) + "\n"


def compare(path: Path, got: str, update: bool) -> None:
    expected = path.with_suffix(".txt")
    if update:
        expected.write_text(got)
    assert expected.exists(), "no expected text: run with --update, then read it"
    assert got == expected.read_text()


@pytest.mark.parametrize("path", sorted(BAD.glob("*.yaml")), ids=lambda p: p.stem)
def test_fault_is_told_and_refused(path: Path, update: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(SpecError) as caught:
        load(path.name, NOW)
    assert all(problem.severity == "error" or problem.line for problem in caught.value.problems)
    compare(path, said(caught.value.problems), update)


@pytest.mark.parametrize("path", sorted((BAD / "warnings").glob("*.yaml")), ids=lambda p: p.stem)
def test_doubt_is_told_and_the_file_loads(path: Path, update: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD / "warnings")
    loaded = load(path.name, NOW)
    assert loaded.warnings
    assert {problem.severity for problem in loaded.warnings} == {"warning"}
    compare(path, said(loaded.warnings), update)
