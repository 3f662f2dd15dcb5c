"""The fixture of the front door."""

import pytest

from door import Door


@pytest.fixture
def door(tmp_path):
    return Door(tmp_path)
