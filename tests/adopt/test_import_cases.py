"""Golden cases of import: a directory is a hub as something else left it, and what comes of it. To add one, add a
directory and run with --update.

source, or source.conf, source.json, source/   what is imported
options.txt    the options, if others than the usual ones are needed
mesh.yaml      the file that is written
said.txt       what the command says
keys.txt       the keys that it stores, by their public halves
"""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from meshwright import keys
from meshwright.cli import app
from meshwright.keys import Secret
from meshwright.spec import load

HERE = Path(__file__).parent / "cases"
USUAL = "--endpoint vpn.example.net:51820 --address 192.168.20.20"
CASES = sorted(path.name for path in HERE.iterdir())


def source(case: Path) -> Path:
    return next(
        path
        for path in sorted(case.iterdir())
        if path.name.partition(".")[0] not in {"mesh", "said", "keys", "options"}
    )


def options(case: Path) -> list[str]:
    place = case / "options.txt"
    return shlex.split(place.read_text() if place.exists() else USUAL)


def stored(folder: Path) -> str:
    """One line per stored key; each must be nobody else's to read."""
    lines = []
    for path in sorted((folder / ".meshwright").glob("*/*.key")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        shown = keys.public(Secret(text.strip())) if path.parent.name == "keys" else text.strip()
        lines.append(f"{path.parent.name} {path.stem} {shown}\n")
    return "".join(lines)


@pytest.mark.parametrize("name", CASES)
def test_case(name, tmp_path, monkeypatch, capsys, update):
    case = HERE / name
    monkeypatch.chdir(tmp_path)
    assert app.run(["import", str(source(case)), *options(case)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    found = {"mesh.yaml": (tmp_path / "mesh.yaml").read_text(), "said.txt": said, "keys.txt": stored(tmp_path)}
    for file, text in found.items():
        if update:
            (case / file).write_text(text)
        assert text == (case / file).read_text()
    assert load.load(tmp_path / "mesh.yaml").mesh.name == "home"
    private = {line.split("=", 1)[1].strip() for line in _lines(case) if line.lower().startswith("privatekey")}
    assert not any(key in text for key in private for text in (found["mesh.yaml"], said))


def _lines(case: Path):
    place = source(case)
    for path in [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]:
        yield from path.read_text().splitlines()


@pytest.mark.parametrize("name", CASES)
def test_every_key_of_the_source_is_kept_once(name, tmp_path, monkeypatch, capsys):
    """Public keys stand in the file or come of a stored private key: none is lost, none is new."""
    case = HERE / name
    monkeypatch.chdir(tmp_path)
    assert app.run(["import", str(source(case)), *options(case)]) == 0
    mesh = load.load(tmp_path / "mesh.yaml").mesh
    own = [keys.public(Secret(p.read_text().strip())) for p in (tmp_path / ".meshwright/keys").glob("*.key")]
    told = [device.public_key for device in mesh.devices if device.public_key]
    text = "\n".join(_lines(case))
    wanted = {word for word in _keys(text)} - {mesh.hub.public_key}
    assert sorted([*own, *told]) == sorted(wanted)


def _keys(text: str):
    for line in text.splitlines():
        bare = line.removeprefix("#[disabled] ").strip().strip('",')
        name, _, value = bare.replace('": "', " = ").partition(" = ")
        if name.lower() == "publickey":
            yield value.partition(" ")[0]
