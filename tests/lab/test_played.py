"""What the lab plays of a mesh file, and what it says that it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshwright.lab import play
from meshwright.spec import load
from meshwright.spec.model import BuiltinExporter, Mesh

EVERY_KEY = (Path(__file__).parents[1] / "cases/every-key/mesh.yaml").read_text()


def watched(exporter: str) -> Mesh:
    before, section, after = EVERY_KEY.partition("\nobservability:\n")
    rest = after[after.index("\nfiles:") :]
    new = f"{section}  exporter: {exporter}\n" if exporter else ""
    return load.load_text(f"{before}{new}{rest}").mesh


@pytest.mark.parametrize(
    ("exporter", "left_out"),
    [
        ("{kind: builtin, port: 9000, token: {file: t}}", ("token",)),
        ("{kind: builtin, port: 9000, token: {file: t}, tls: {certificate: c, key: {file: k}}}", ("token", "tls")),
        ("{kind: builtin, port: 9000}", ()),
        ("{kind: mindflavor, port: 9000}", ()),
        ("", ()),
    ],
)
def test_the_exporter_is_played_but_for_its_secrets_and_these_are_named(exporter: str, left_out: tuple[str]) -> None:
    mesh = watched(exporter)
    assert play.unplayed(mesh) == left_out
    played = play.played(mesh)
    assert play.unplayed(played) == ()
    if not left_out:
        assert played.observability == mesh.observability
    else:
        assert played.observability
        assert played.observability.exporter == BuiltinExporter(kind="builtin", port=9000)
