"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshwright.io.host import Namespace
from support import machine


@pytest.fixture
def hub_host() -> Iterator[Namespace]:
    """A fresh machine in namespaces: nothing in /etc/wireguard, /etc/meshwright, /etc/systemd/system or /run."""
    with machine() as host:
        yield host


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="rewrite expected texts; then read the diff")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))
