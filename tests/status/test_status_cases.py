"""Golden cases of `status`: a directory is what a hub said and what is printed of it. To add a case, add a directory.

said.json    what differs from the quiet hub in cases/said.json: "peers" by name, null takes one away
table.txt    what is printed in a pipe, with the exit code's error; then with --denied
narrow.txt   the same on a terminal of 60 characters, where it differs
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from meshwright.cli import connected
from meshwright.desired.resource import Resource
from meshwright.spec import load
from meshwright.spec.model import Mesh
from meshwright.verify import status

HERE = Path(__file__).parent / "cases"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
CASES = sorted(path.parent.name for path in HERE.glob("*/said.json"))
QUIET: dict[str, Any] = json.loads((HERE / "said.json").read_text())


def mesh() -> Mesh:
    return load.load(HERE / "mesh.yaml", NOW).mesh


def said(case: str) -> dict[str, Any]:
    """The answer of the case's hub. Times are written as seconds ago."""
    changes = json.loads((HERE / case / "said.json").read_text())
    peers = QUIET["peers"] | {
        name: change and {**QUIET["peers"].get(name, {}), **change} for name, change in changes.get("peers", {}).items()
    }
    found = []
    for peer in filter(None, peers.values()):
        found.append({**peer, "handshake": None if peer["ago"] is None else EPOCH - peer["ago"]})
    return {**QUIET, **changes, "now": EPOCH, "peers": found}


def judged(answer: dict[str, Any], lab: bool = False) -> status.Status:
    return status.judge(mesh(), answer, status.keys(mesh(), {}), NOW, lab)


def printed(found: status.Status, width: int = 0) -> str:
    parts = [connected.text(found, False, width), connected.text(found, True, width)]
    hints = [f"next: {each.next}" for each in found.wrong] or ["fine"]
    return "\n\n=====\n".join([*parts, "\n".join(hints)]) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_a_hub_is_shown_as_the_case_says(case: str, update: bool) -> None:
    found = judged(said(case))
    for name, text in (("table.txt", printed(found)), ("narrow.txt", printed(found, 60))):
        if update:
            (HERE / case / name).write_text(text)
        assert (HERE / case / name).read_text() == text


def test_only_what_is_wrong_is_called_so() -> None:
    fine = {case for case in CASES if case.endswith("-not")} | {"quiet", "denied"}
    assert not [case for case in fine if judged(said(case)).wrong]
    assert not [case for case in CASES if case not in fine and not judged(said(case)).wrong]


def test_the_same_for_a_machine_is_not_rounded_and_not_shortened() -> None:
    found = connected.data(judged(said("stranger")), denied=False)
    first = json.loads(json.dumps(found))["peers"][0]
    assert (first["peer"], first["state"]) == ("unknown", "unknown key")
    assert first["public_key"] == "c3RyYW5nZXJzdHJhbmdlcnN0cmFuZ2Vyc3RyYW5nZXI="
    anna = next(row for row in found["peers"] if row["peer"] == "anna")
    assert (anna["age"], anna["received"], anna["denied"]) == (12, 123456789, 0)
    assert found["wrong"]


def test_never_is_neither_now_nor_the_year_1970() -> None:
    rows = {row.name: row for row in judged(said("always-on-silent")).rows}
    assert rows["bjorn/phone"].age is None
    assert "never" in printed(judged(said("always-on-silent")))
    assert json.loads(json.dumps(connected.data(judged(said("always-on-silent")), False)))["peers"][-2]["age"] is None


@pytest.mark.parametrize(
    ("age", "state"), [(0, "online"), (180, "online"), (181, "silent"), (-5, "online"), (-6, "ahead")]
)
def test_a_device_is_online_as_long_as_its_keys_hold(age: int, state: str) -> None:
    answer = said("quiet")
    answer["peers"][0]["handshake"] = EPOCH - age
    assert next(row for row in judged(answer).rows if row.name == "anna").state == state


def test_a_stranger_does_not_pass_for_a_friend_who_is_called_unknown() -> None:
    text = (HERE / "mesh.yaml").read_text().partition("observability:")[0].replace("anna", "unknown")
    friends = load.load_text(text, now=NOW).mesh
    answer = said("stranger")
    for peer in answer["peers"]:
        peer["peer"] = peer["peer"].replace("anna", "unknown")
    found = status.judge(friends, answer, status.keys(friends, {}), NOW)
    stranger = next(peer["public_key"] for peer in answer["peers"] if peer["allowed_ips"] == "10.77.9.9/32")
    states = {row.public_key == stranger: row.state for row in found.rows if row.peer == "unknown"}
    assert states == {True: "unknown key", False: "online"}


def test_a_thousand_friends_fit_on_a_screen_and_in_a_pipe() -> None:
    answer = said("quiet")
    stranger = {**answer["peers"][0], "peer": "unknown", "device": ""}
    answer["peers"] += [{**stranger, "public_key": f"{number:043d}="} for number in range(1000)]
    found = judged(answer)
    assert len(connected.text(found, False).split("\n")) > 1000
    screen = connected.text(found, False, 70, height=24).split("\n")
    assert len(screen) <= 24
    assert max(map(len, screen)) <= 70
    assert "and 9" in "\n".join(screen)


def test_an_endless_name_widens_no_terminal() -> None:
    answer = said("stranger")
    answer["peers"][-1]["endpoint"] = "[2001:db8:1111:2222:3333:4444:5555:6666%interface]:51820"
    assert max(map(len, connected.text(judged(answer), False, 200).split("\n")[:-2])) <= 200
    assert "6666%interface]:51820" in connected.text(judged(answer), False)


def test_colours_come_after_the_columns_are_aligned() -> None:
    import click

    found = judged(said("stranger"))
    plain = connected.text(found, False, 100)
    coloured = connected.text(found, False, 100, colour=True)
    assert coloured != plain
    assert click.unstyle(coloured) == plain


def changed(old: str, new: str) -> Mesh:
    text = (HERE / "mesh.yaml").read_text()
    assert old in text
    return load.load_text(text.replace(old, new), now=NOW).mesh


def test_the_key_of_a_pair_that_was_generated_is_known() -> None:
    other = changed(", public_key: 0iJJL/j3i8HXAgkaeQIJmvXJf+tRXbQVIgLlIbA3S2I=", "")
    stored = {"files/key/carl": Resource("files/key/carl", {"public_key": "of carl"})}
    assert status.keys(other, stored)["carl"] == "of carl"
    assert "carl" not in status.keys(other, {})
    assert status.keys(other, stored)["dora"].startswith("gN65"), "who is out has one too"


def test_what_the_hub_is_asked_names_whom_the_file_expects() -> None:
    asked = status.settings(mesh(), status.keys(mesh(), {}), NOW)["peers"]
    assert sorted(asked) == ["anna", "bjorn/phone", "bjorn/router", "carl"], "dora is disabled"
    assert asked["anna"]["next_public_key"].startswith("pl0h")
    assert [asked[name]["always_on"] for name in sorted(asked)] == [False, True, True, False]


def test_in_the_lab_no_pod_can_be_the_exporter() -> None:
    answer = said("exporter-dead")
    other = changed("kind: builtin", "kind: mindflavor")
    assert judged(answer, lab=True).wrong, "ours runs on the hub of the lab too"
    assert status.judge(other, answer, status.keys(other, {}), NOW).wrong
    assert not status.judge(other, answer, status.keys(other, {}), NOW, lab=True).wrong
