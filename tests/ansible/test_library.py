"""Ansible whose Python lacks meshwright, or has one that is too old: one sentence, with the command to run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playing import BIN, Ansible, copied

# as if meshwright were not installed, wherever this environment has it
HIDDEN = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "meshwright":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
COMMAND = rf"Next: {re.escape(str(BIN))}/python[0-9.]* -m pip install --upgrade 'meshwright>=0\.1\.0'$"


@pytest.fixture(scope="module")
def ansible(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return copied(tmp_path_factory.mktemp("house"), installed)


def said(ansible: Ansible, folder: Path) -> str:
    done = ansible(env={"PYTHONPATH": str(folder)})
    assert done.code == 2, done.out
    assert not ansible.confs.exists()
    return done.said


def test_missing(ansible: Ansible, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    assert re.match(
        rf"meshwright is not installed in the Python that runs Ansible\. {COMMAND}", said(ansible, tmp_path)
    )


def test_too_old(ansible: Ansible, tmp_path: Path) -> None:
    (tmp_path / "meshwright").mkdir()
    (tmp_path / "meshwright/__init__.py").write_text('__version__ = "0.0.9"\n')
    text = said(ansible, tmp_path)
    assert text.startswith("meshwright 0.0.9 ")
    assert re.search(COMMAND, text)
