"""A mesh file that is not there or no good: what `meshwright check` says, with one next step."""

from __future__ import annotations

from pathlib import Path

import pytest
from playing import Ansible, copied


@pytest.fixture(scope="module")
def ansible(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return copied(tmp_path_factory.mktemp("house"), installed)


def said(ansible: Ansible, text: str | None) -> str:
    before = ansible.mesh.read_text()
    ansible.mesh.unlink() if text is None else ansible.mesh.write_text(text)
    try:
        done = ansible()
    finally:
        ansible.mesh.write_text(before)
    assert done.code == 2, done.out
    return done.said


def test_none_is_there(ansible: Ansible) -> None:
    text = said(ansible, None)
    assert text == f"{ansible.mesh} there is no such file. Next: give the path of a mesh file"


def test_one_fault_is_shown_with_its_place_and_what_to_do(ansible: Ansible) -> None:
    text = said(ansible, ansible.mesh.read_text().replace("version: 1\n", "version: 1\nconnection: x\n"))
    assert "mesh.yaml:" in text
    assert "^" in text
    assert text.count("Next: ") + text.count("hint: ") == 1


def test_of_many_faults_each_keeps_its_hint(ansible: Ansible) -> None:
    text = said(ansible, ansible.mesh.read_text().replace("version: 1\n", "version: 1\nnetwrk: x\npeer: x\n"))
    assert text.count("^") == 2
    assert text.endswith("Next: correct the mesh file, then run meshwright check")
