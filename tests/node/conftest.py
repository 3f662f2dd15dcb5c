"""A lab whose hub is a real Kubernetes node, with two friends connected. One for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from house import House, give_up, look, obstacle


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, machine_before: dict[str, str]) -> Iterator[House]:
    give_up(obstacle())
    found = House(tmp_path_factory.mktemp("node"))
    try:
        found.up()
        give_up(found.said["no_node"])
        yield found
    finally:
        found("lab", "down")


@pytest.fixture(scope="session")
def machine_before() -> dict[str, str]:
    """What a node could leave on this machine, before there was one."""
    return look()
