"""Which programs are installed here, and what can be said of a hub on which some are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from . import system
from .place import Place

NEEDED = ("ip", "nft", "wg")
"""Without these the hub cannot be read."""


def there(packages: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Any]:
    """{id: {package: its programs}} -> the same with those packages only whose programs are all here."""
    found = {
        id: {name: programs for name, programs in wanted.items() if all(_path(program) for program in programs)}
        for id, wanted in packages.items()
    }
    return {id: attrs for id, attrs in found.items() if attrs}


def lacking() -> list[str]:
    return [program for program in NEEDED if not _path(program)]


def used(where: Place) -> bool:
    """Whether a mesh was set up here before, as far as files and links tell."""
    return any(os.path.exists(path) for path in (where.conf, where.ruleset, f"/sys/class/net/{where.interface}"))


def _path(program: str) -> str | None:
    return shutil.which(program, path=system.PATH)
