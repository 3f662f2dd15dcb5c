"""One mesh for all faults: each of them ends with everything as it should be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import booted
from stage import Stage, stage


@pytest.fixture(scope="package")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with booted.site() as site, booted.hub(site) as hub, stage(hub, tmp_path_factory.mktemp("house")) as made:
        yield made
