"""The program as one file, and the unit that runs it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from meshwright import hubd
from meshwright.desired.facts import Facts, Program
from meshwright.desired.hubd import build
from meshwright.desired.resource import Resource
from meshwright.hubd.host import place
from meshwright.hubd.host import units as plain
from meshwright.hubd.resources import state
from meshwright.io import program
from meshwright.spec import load

UNIT = "hub/unit/etc/systemd/system/meshwright-hubd-town_square.service"
MESH = """
version: 1
name: town-square
hub: {node: hub-1, address: 192.0.2.10, interface: wg7, endpoint: "192.0.2.10:51821"}
network: {cidr: [10.100.0.0/16], hub: [10.100.0.1], routes: {mesh: 10.100.0.0/16}}
peers: {ann: {address: 10.100.2.1}}
policy: {allow: []}
"""


def resources(brought: Program | None) -> dict[str, Resource]:
    mesh = load.load_text(MESH).mesh
    return {r.id: r for r in build(mesh, Facts(datetime(2027, 1, 1, tzinfo=UTC), program=brought))}


def lines(key: str) -> list[str]:
    text = resources(Program(1, "0" * 64))[UNIT].attrs["text"]
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(key + "=")]


def fresh() -> bytes:
    """Built once more, in another process with another clock and other hashes of texts."""
    code = "import sys; from meshwright.io import program; sys.stdout.buffer.write(program.build())"
    environment = {"PYTHONPATH": str(Path(hubd.__file__).parents[2]), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout


def test_the_same_modules_give_the_same_bytes() -> None:
    assert fresh() == program.build()
    assert program.facts() == Program(hubd.FORMAT, hashlib.sha256(program.build()).hexdigest())


def test_every_module_of_hubd_is_in_it_and_nothing_else() -> None:
    folder = Path(hubd.__file__).parent
    with zipfile.ZipFile(BytesIO(program.build())) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert held.pop("__main__.py")
    assert held == {
        f"hubd/{f.relative_to(folder)}": f.read_bytes() for f in folder.rglob("*.py") if f != folder / "boot.py"
    }


def test_it_runs_and_says_its_commands(tmp_path: Path) -> None:
    file = tmp_path / "hubd.pyz"
    file.write_bytes(program.build())
    done = subprocess.run([sys.executable, "-I", "-S", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "hubd.pyz serve INTERFACE TABLE" in done.stderr


def test_its_first_lines_tell_the_hub_its_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hubd.pyz"
    monkeypatch.setattr(place.Place, "program", property(lambda _: str(file)))
    where = place.Place("wg7", "town_square")
    assert state._program(where) is None
    file.write_bytes(program.build())
    file.chmod(0o600)
    found = state._program(where)
    assert found == {
        "format": hubd.FORMAT,
        "sha256": program.facts().sha256,
        "mode": "0600",
        "path": str(file),
    }
    file.write_bytes(b"somebody else's")
    assert (state._program(where) or {})["format"] == 0


def test_without_a_program_there_is_no_unit() -> None:
    assert resources(None) == {}


def test_the_wanted_program_is_where_the_hub_looks_for_it() -> None:
    wanted = resources(Program(3, "0" * 64))["hub/program/town_square"].attrs["saved"]
    assert wanted == {
        "format": 3,
        "sha256": "0" * 64,
        "mode": "0644",
        "path": place.Place("wg7", "town_square").program,
    }


def test_the_unit_runs_that_program_and_is_independent_of_the_tunnel() -> None:
    where = place.Place("wg7", "town_square")
    assert lines("ExecStart") == [f"/usr/bin/python3 -I -S {where.program} serve wg7 town_square"]
    assert lines("Before") == ["wg-quick@wg7.service"]
    for key in ("Requires", "Requisite", "BindsTo", "PartOf", "Wants", "After", "ExecStop", "ExecStopPost"):
        assert lines(key) == []
    assert [f"/var/lib/{folder}" for folder in lines("StateDirectory")] == [str(Path(where.memory).parent)]
    assert lines("ExecStartPre") == [f"+/bin/sh -c 'umask 077; : >>{where.lock}'"]
    assert UNIT.endswith(f"/{where.hubd}")


def test_the_unit_may_do_little() -> None:
    assert lines("CapabilityBoundingSet") == ["CAP_NET_ADMIN"]
    for key in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "MemoryDenyWriteExecute", "RestrictNamespaces"):
        assert lines(key) == ["yes"]
    assert lines("ProtectSystem") == ["strict"]


def test_no_line_of_the_unit_holds_what_systemd_or_the_stand_in_would_replace(tmp_path: Path) -> None:
    text = resources(Program(1, "0" * 64))[UNIT].attrs["text"]
    assert not re.search(r"[%$\\]", text)
    values: dict[str, list[str]] = {}
    (tmp_path / "x.service").write_text(text)
    plain._read(str(tmp_path / "x.service"), values)
    unit = plain.Unit("x.service", "", values)
    assert plain._arguments(unit, lines("ExecStart")[0]) == (False, lines("ExecStart")[0].split())
    assert plain._arguments(unit, lines("ExecStartPre")[0])[1][:2] == ["/bin/sh", "-c"]
