"""A lab whose hub is a real Kubernetes node, with two friends connected. One for all tests of this folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, build

from meshwright import lab
from meshwright.errors import LabError
from meshwright.lab.cluster import programs


def _obstacle() -> str:
    if os.geteuid():
        return "only root can run containers; run the tests as root"
    try:
        programs.find([*programs.CONTROL_PLANE, *programs.NODE])
    except LabError as error:
        return f"{error.message}; {error.hint}"
    return ""


def _give_up(reason: str) -> None:
    """An ordinary user has the other tests; in CI, root must be able to run these."""
    if reason and os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"the node's tests must run in CI: {reason}")
    if reason:
        pytest.skip(f"THE NODE'S TESTS DID NOT RUN: {reason}")


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, machine_before: dict[str, str]) -> Iterator[House]:
    _give_up(_obstacle())
    folder = tmp_path_factory.mktemp("node")
    state = folder / "state"
    try:
        found = build(folder, state)
        _give_up(found.said)
        yield found
    finally:
        lab.down(state)


@pytest.fixture(scope="session")
def machine_before() -> dict[str, str]:
    """What a node could leave on this machine, before there was one."""
    return look()


def look() -> dict[str, str]:
    settings = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys")
    out = {name: Path("/proc/sys", name).read_text() for name in settings}
    for folder in ("/var/lib", "/var/log", "/run", "/opt", "/etc"):
        out[folder] = "\n".join(sorted(os.listdir(folder)))
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", "meshwright-lab-*"], capture_output=True, timeout=60)
    return {**out, "cgroups": found.stdout.decode(), "mounts": Path("/proc/self/mountinfo").read_text()}
