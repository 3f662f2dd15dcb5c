"""The house that all tests of this folder look at."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import square
from lookout import Lookout, obstacle


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lookout]:
    """Friends, apps, exporters, Prometheus: everything runs and has been scraped."""
    if reason := obstacle():
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail(f"these tests must run in CI: {reason}")
        pytest.skip(f"THE TESTS OF WHAT WATCHES DID NOT RUN: {reason}")
    found = Lookout(tmp_path_factory.mktemp("observed"), square.MESH)
    try:
        found.up()
        square.settle(found)
        yield found
    finally:
        found.down()
