"""Goes on with what is sound: data without the parts that were at fault, so that rules can still look at the rest.

What is dropped from a list moves what stands behind it; `original` gives paths back as they are in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshwright.spec.nodes import Path

# What the rules go on with where one of the few keys that they all need is itself at fault.
STAND_INS: dict[Path, Any] = {
    ("version",): 1,
    ("name",): "mesh",
    ("hub", "node"): "hub",
    ("hub", "interface"): "wg0",
    ("hub", "endpoint"): "hub.invalid:51820",
}
NEEDED = {(), ("hub",), ("hub", "address"), ("network",), ("network", "cidr"), ("network", "hub")}


class Sieve:
    """Plain data from which parts are dropped; the data given at first is never changed."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self._own = False
        self._kept: dict[int, list[int]] = {}

    def original(self, path: Path) -> Path:
        """A path into `data` as a path into the data of the beginning."""
        out: list[str | int] = []
        at: Any = self.data
        for part in path:
            kept = self._kept.get(id(at))
            out.append(kept[part] if kept and isinstance(part, int) and part < len(kept) else part)
            at = _inner(at, part)
        return tuple(out)

    def drop(self, paths: Iterable[Path]) -> bool:
        """Take out what stands at the paths; where nothing does, what lacks it. False when too little would be left."""
        self._copy()
        # from the back, so that an index still means what it meant when the faults were found
        for path in sorted(set(paths), key=lambda p: [(isinstance(x, str), x) for x in p], reverse=True):
            if not self._drop(path):
                return False
        return True

    def shorten(self, most: int) -> None:
        """Keep the first `most` entries of everything: enough of a file that is nothing but faults."""
        self._own, self.data = True, _shortened(self.data, most)

    def _copy(self) -> None:
        if not self._own:
            self._own, self.data = True, _shortened(self.data, None)

    def _drop(self, path: Path) -> bool:
        holder: Any = self.data
        for part in path[:-1]:
            holder = _inner(holder, part)
        if path in STAND_INS and isinstance(holder, dict):
            holder[str(path[-1])] = STAND_INS[path]
            return True
        if path in NEEDED:
            return False
        if isinstance(holder, list):
            return self._drop_item(holder, path)
        if isinstance(holder, dict) and path[-1] in holder:
            del holder[str(path[-1])]
            return True
        return self._drop(path[:-1])

    def _drop_item(self, holder: list[Any], path: Path) -> bool:
        index = path[-1]
        if not isinstance(index, int) or index >= len(holder):
            return self._drop(path[:-1])
        self._kept.setdefault(id(holder), list(range(len(holder)))).pop(index)
        del holder[index]
        return True


def _inner(at: Any, part: str | int) -> Any:
    if isinstance(at, list):
        return at[part] if isinstance(part, int) and part < len(at) else None
    return at.get(part) if isinstance(at, dict) else None


def _shortened(data: Any, most: int | None) -> Any:
    if isinstance(data, dict):
        return {key: _shortened(value, most) for key, value in list(data.items())[:most]}
    return [_shortened(value, most) for value in data[:most]] if isinstance(data, list) else data
