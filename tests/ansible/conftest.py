"""The collection, built and installed, and a house whose hub is a real machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playing import BIN, QUIET, SOURCE, Ansible, copied

import booted


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of collections with ours in it, from the tarball that `ansible-galaxy collection build` makes."""
    folder = tmp_path_factory.mktemp("collections")
    galaxy = [str(BIN / "ansible-galaxy"), "collection"]
    env = {**os.environ, **QUIET, "HOME": str(folder)}
    for words in (
        ["build", str(SOURCE), "--output-path", str(folder)],
        ["install", "--offline", str(folder / "meshwright-mesh-0.1.0.tar.gz"), "-p", str(folder / "installed")],
    ):
        done = subprocess.run([*galaxy, *words], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "installed"


@pytest.fixture(scope="module")
def ansible(booted_hub: booted.Hub, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    """The example with a real hub. In the end everything that was printed is searched for every secret there is."""
    here = copied(tmp_path_factory.mktemp("house"), installed, booted_hub.config)
    try:
        yield here
    finally:
        for socket in [*(here.folder.parent / ".ansible/cp").glob("*"), *here.folder.parent.rglob("*.sock")]:
            booted.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "hub"], check=False, timeout=20)
