"""Small pure parts: names, columns, QR codes, event lines."""

import itertools

import click
import pytest
import segno

from meshwright.cli import columns, names, qr
from meshwright.cli.lines import event_line
from meshwright.cli.output import Output, Settings
from meshwright.events import Changed, Checked, Failed, Progress, Started


def matrix(drawing):
    """The modules of a drawing without colours on a dark terminal: a letter is light."""
    above = {" ": 1, "\u2580": 0, "\u2584": 1, "\u2588": 0}
    below = {" ": 1, "\u2580": 1, "\u2584": 0, "\u2588": 0}
    rows = [([above[c] for c in line], [below[c] for c in line]) for line in drawing.split("\n")]
    return list(itertools.chain.from_iterable(rows))


def test_a_qr_code_is_drawn_module_by_module():
    text = "[Interface]\nPrivateKey = x\n"
    expected = [list(row) for row in segno.make(text, error="l", micro=False).matrix_iter(border=qr.QUIET)]
    drawn = matrix(qr.drawing(text, colour=False))
    assert drawn[: len(expected)] == expected
    assert all(cell == 0 for row in drawn[len(expected) :] for cell in row)


def test_inverted_and_coloured_codes_are_the_same_code_the_other_way_round():
    plain = qr.drawing("x", colour=False)
    swapped = str.maketrans({" ": "\u2588", "\u2588": " ", "\u2580": "\u2584", "\u2584": "\u2580"})
    assert qr.drawing("x", colour=False, invert=True) == plain.translate(swapped)
    bare = qr.drawing("x", colour=True).replace(qr.BLACK_ON_WHITE, "").replace(qr.PLAIN, "")
    assert bare == plain.translate(swapped)


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [(100, 0, "never"), (100, 99, "1 s ago"), (1000, 880, "2 min ago"), (9000, 0o1, "2 h ago"), (100, 200, "0 s ago")],
)
def test_ages(now, then, said):
    assert columns.age(now, then) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 50, "3072.0 TiB")]
)
def test_sizes(count, said):
    assert columns.size(count) == said


def test_columns_end_without_spaces():
    assert columns.columns([("A", "B"), ("aaa", "b"), ("a", "")]) == "A    B\naaa  b\na"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name: home\n", "home"),
        ("# name: not\nname: 'home-2' # mine\nhub: {}\n", "home-2"),
        ("hub:\n  name: inner\n", ""),
        ("name: [home]\n", ""),
        ("", ""),
    ],
)
def test_the_name_of_a_mesh_is_found_in_a_broken_file_too(tmp_path, text, found):
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    assert names.mesh_name(path) == found


def test_no_file_has_no_name(tmp_path):
    assert names.mesh_name(tmp_path / "missing") == ""


def test_peers_are_completed_by_name(tmp_path):
    path = tmp_path / "mesh.yaml"
    path.write_text(
        "version: 1\npeers:   # friends\n  # a comment\n  bjorn:\n    devices:\n      phone: {address: 10.0.0.1}\n\n"
        "  bryce: {address: 10.0.0.2}\n  jake: {address: 10.0.0.3}\npolicy:\n  between: {}\n"
    )
    ctx = click.Context(click.Command("x"), obj=Output(Settings(file=path), json=False))
    param = click.Argument(["label"])
    assert names.complete_peer(ctx, param, "b") == ["bjorn", "bryce"]
    assert names.complete_peer(ctx, param, "") == ["bjorn", "bryce", "jake"]
    assert names.complete_peer(ctx, param, "x") == []


MESHES = {
    "lines": """
peers:   # all
  "alice": {address: 10.0.0.1}
  # nobody: here
  bob  : {address: 10.0.0.2, devices: {"a": {address: "fd00::1"}, b: {lan: [10.9.0.0/24]}}, groups: [x]}
  carl:
    devices:
      # neither: this
      phone: {address: 10.0.0.3}
      lap-top:
        expires: 2027-06-30
    tenant:
      quota: {cpu: 1}
  dora:
    address: 10.0.0.4
services:
  git: {address: 10.0.0.5}
""",
    "braces": """
peers: {alice: {address: 10.0.0.1}, 'bob': {devices: {a: {keepalive: 1}, b: {mtu: 1280}}},  # carol: {}
  carl: {devices: {phone: {address: 10.0.0.3}, lap-top: {}}}, dora: {lan: [10.9.0.0/24]}}
services: {git: {address: 10.0.0.5}}
""",
}


@pytest.mark.parametrize("text", MESHES.values(), ids=MESHES)
def test_devices_are_completed_however_the_file_is_written(tmp_path, text):
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    ctx, param = click.Context(click.Command("peer"), obj=Output(Settings(path), False)), click.Argument(["label"])
    devices = ["alice", "bob/a", "bob/b", "carl/phone", "carl/lap-top", "dora"]
    assert names.complete_peer(ctx, param, "") == ["alice", "bob", "carl", "dora"]
    assert names.complete_device(ctx, param, "") == devices
    assert names.complete_device(ctx, param, "carl/p") == ["carl/phone"]
    assert names.complete_either(ctx, param, "b") == ["bob", "bob/a", "bob/b"]


@pytest.mark.parametrize(
    "text", ["", "peers:", "peers: {", "peers: {a: {", "peers:\n  a:\n    devices:", "peers: [a]", "}{"]
)
def test_completion_of_half_a_file_is_no_error(tmp_path, text):
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    ctx, param = click.Context(click.Command("peer"), obj=Output(Settings(path), False)), click.Argument(["label"])
    assert set(names.complete_either(ctx, param, "")) <= {"a"}


@pytest.mark.parametrize(
    ("event", "quiet", "verbose"),
    [
        (Started("reading hub"), "reading hub", "reading hub"),
        (Started("applying", 3), "applying (3)", "applying (3)"),
        (Progress("one", 1), "", "  one"),
        (Changed("hub/peer/a", "create"), "", "  created hub/peer/a"),
        (Changed("hub/peer/a", "delete"), "", "  deleted hub/peer/a"),
        (
            Failed("a/b/c", "update", "no", "do"),
            "! could not update a/b/c: no (do)",
            "! could not update a/b/c: no (do)",
        ),
        (Checked("ping", True, "yes", "yes"), "", "  ok ping"),
        (Checked("ping", False, "yes", "no"), "! ping: expected yes, saw no", "! ping: expected yes, saw no"),
    ],
)
def test_event_lines(event, quiet, verbose):
    assert event_line(event, False) == quiet
    assert event_line(event, True) == verbose
