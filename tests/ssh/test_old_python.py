"""Everything that manages a hub runs on Python 3.8; what is older is refused in one sentence. The service wants 3.9."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import meshwright.hubd
from meshwright.errors import HostError
from meshwright.io.host import BOOT, Host, Local, NoPython, remote
from meshwright.io.process import Done

FOLDER = Path(meshwright.hubd.__path__[0])
SERVICE = {"__main__.py", "service/serve.py", "service/memory.py", "service/tunnel.py"}
"""What only the service loads."""
GENERIC = {
    "dict",
    "list",
    "tuple",
    "set",
    "frozenset",
    "type",
    "Callable",
    "Mapping",
    "Sequence",
    "Iterable",
    "Iterator",
}
MODULES = sorted({str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.py")} - SERVICE)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_needs_more_than_3_8(module: str) -> None:
    """Its syntax, and what is evaluated when it is loaded: annotations are not, aliases are."""
    tree = ast.parse((FOLDER / module).read_text(), feature_version=(3, 8))
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        for part in ast.walk(value) if value else ():
            if isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name):
                assert part.value.id not in GENERIC, f"{module}:{part.lineno}: use typing's"


@dataclass(frozen=True)
class Old:
    """A machine whose python3 is another."""

    python: str
    name: str = "hub-1"
    done: Done | None = None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
        if self.done:
            return self.done
        done = subprocess.run(list(argv), input=stdin, capture_output=True, timeout=timeout)
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        raise NotImplementedError

    def fresh(self) -> Host | None:
        return None


def test_an_older_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The line that is run first, told that it is 3.7."""
    told = BOOT.replace("sys.version_info>=", "(3,7)>=").replace("%sys.version_info[:2]", "%(3,7)")
    done = subprocess.run([sys.executable, "-I", "-c", told], input=b"{}", capture_output=True, timeout=20)
    answer = Done(done.returncode, done.stdout, done.stderr.decode())
    with pytest.raises(HostError, match=r"^hub-1: its Python is 3\.7, and meshwright needs 3\.8 there$") as caught:
        remote(Old("python3", done=answer), "read", {})
    assert not isinstance(caught.value, NoPython)


def real() -> str:
    """A Python 3.8 that starts, "" where there is none; pyenv's own name for one may lead nowhere."""
    found = [shutil.which("python3.8") or "", *map(str, Path.home().glob(".pyenv/versions/3.8*/bin/python3.8"))]
    ask = ["-c", "import sys; print(sys.executable)"]
    done = (subprocess.run([python, *ask], capture_output=True, text=True) for python in found if python)
    return next((each.stdout.strip() for each in done if each.returncode == 0), "")


def test_a_real_3_8_answers(tmp_path: Path) -> None:
    python = real()
    if not python:
        pytest.skip("there is no python3.8")
    place = tmp_path / "file"
    assert remote(Old(python), "put", {"path": str(place), "data": "AAEC", "mode": 0o640}) == {}
    assert place.read_bytes() == b"\0\1\2"
    assert os.listdir(tmp_path) == ["file"]


def test_a_long_answer_comes_packed_over_a_network(tmp_path: Path) -> None:
    """As whoever has many peers gets it; on this machine it would be nothing but work."""
    seen: list[int] = []

    class Counted(Old):
        def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Done:
            done = super().run(argv, stdin=stdin, timeout=timeout)
            seen.append(len(done.out))
            return done

    steps = [["remove", {"path": str(tmp_path / "none")}]] * 20_000
    assert remote(Counted(sys.executable), "batch", {"steps": steps}) == {"results": [{}] * 20_000}
    assert seen[0] < 10_000
    assert remote(Local(), "batch", {"steps": steps[:2]}) == {"results": [{}] * 2}
