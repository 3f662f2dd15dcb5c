"""A user of whom nobody knows a home, as in many containers: where the lab would lie is asked of him."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meshwright.errors import LabError
from meshwright.lab import state
from meshwright.lab.cluster import programs


@pytest.mark.parametrize("place", [lambda: state.directory("friends"), programs.base])
def test_he_is_told_what_to_set(place: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(LabError, match="home folder") as caught:
        place()
    assert "XDG_STATE_HOME" in caught.value.hint
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
    monkeypatch.setenv("XDG_CACHE_HOME", "/srv/cache")
    assert place().is_relative_to("/srv")
