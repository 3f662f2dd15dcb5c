"""From a path to a Mesh, or to every problem at once.

A good file is read once and fast; places are worked out in a second reading, only when there is something to report.
"""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any, Literal

from pydantic import ValidationError

from meshwright.errors import Problem, SpecError
from meshwright.spec import problems, rules
from meshwright.spec.files import LIMIT, read, secrets_directory
from meshwright.spec.model import Mesh
from meshwright.spec.nodes import NODES, WIDTH, Fault, Path, Place, Places, hidden, parse, printable, shown
from meshwright.spec.sieve import Sieve

FILES = 200
KEPT = 200
MOST = 1000
MANY = 150_000
ROUNDS = 8
INCLUDED = ("version", "include", "peers")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A mesh without errors, and what there is to say about it all the same.

    holders: the included file of each peer that does not stand in the mesh file itself. files: the mesh file and all
    that it includes.
    """

    mesh: Mesh
    warnings: tuple[Problem, ...] = ()
    holders: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


@dataclass(slots=True)
class _Source:
    """One file: its text and plain data, and the names of peers that come from it."""

    name: str
    text: str
    data: Any = None
    peers: set[str] = field(default_factory=set)
    _places: Places | None = None

    @property
    def places(self) -> Places:
        if self._places is None:
            self._places = Places()
            parse(self.text, self._places)
        return self._places

    def problem(self, fault: Fault) -> Problem:
        if fault.path and isinstance(fault.path[-1], int) and fault.path[:-1] in self.places.raw:
            # a lone scalar stands for a list of one
            fault = fault._replace(path=fault.path[:-1])
        return self.at(self.places.find(fault.path, fault.on_key), fault)

    def at(self, place: Place, fault: Fault) -> Problem:
        start = self.text.rfind("\n", 0, place.offset) + 1
        line = self.text[start : start + WIDTH].split("\n", 1)[0].rstrip("\r")
        source = printable(line.replace("\t", " ")) if place.column <= WIDTH else ""
        severity: Literal["error", "warning"] = "warning" if fault.severity == "warning" else "error"
        return Problem(
            self.name, place.line, place.column, dotted(fault.path), fault.text, fault.hint, severity, source
        )


def dotted(path: Path) -> str:
    """`policy.allow[2].to[0]`"""
    out = ""
    for part in path:
        word = part if isinstance(part, int) else part if _plain(part) else shown(part)
        out += f"[{word}]" if isinstance(word, int) else f".{word}" if out else word
    return out


def _plain(word: str) -> bool:
    return 0 < len(word) <= 63 and all(c.isalnum() or c in "-_" for c in word)


def load(path: str | os.PathLike[str], now: datetime | None = None) -> Loaded:
    """Read a mesh file. `now` (with offset) decides what has expired. SpecError holds every problem."""
    return load_edited(os.fspath(path), {}, now)


def load_edited(path: str, texts: Mapping[str, str], now: datetime | None = None) -> Loaded:
    """As `load`, with some of the files as they are going to be: name -> text."""
    with _no_collection():
        main = _Source(path, texts[path] if path in texts else read(path))
        return _Loading([main], now or datetime.now(UTC), FilePath(path).parent, texts).run()


def load_text(text: str, name: str = "mesh.yaml", now: datetime | None = None) -> Loaded:
    """As `load`, for a text; it cannot include files and no directory is looked at."""
    with _no_collection():
        return _Loading([_Source(name, text)], now or datetime.now(UTC), None).run()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Reading makes many small objects and no cycles; looking for cycles among them takes as long as reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Loading:
    """One run of `load`: the sources, and what was found so far."""

    def __init__(
        self, sources: list[_Source], now: datetime, folder: FilePath | None, texts: Mapping[str, str] | None = None
    ) -> None:
        self.texts = texts or {}
        self.sources = sources
        self.now = now
        self.folder = folder
        self.found: list[Problem] = []
        self.spoiled: set[Path] = set()
        self.sieve = Sieve({})
        self.more = False
        # what included files may still hold: characters, values
        self.room = LIMIT
        self.values = 0
        self.full = False

    def run(self) -> Loaded:
        main = self.sources[0]
        self._parse(main)
        if not isinstance(main.data, dict):
            raise self._failed() if self.found else _nothing(main)
        data = dict(main.data)
        self._include(main, data)
        mesh = self._validate(data)
        if mesh is None:
            raise self._failed()
        lost = frozenset(_names(data)) if self.spoiled else frozenset()
        scene = rules.Scene(mesh, self.now, lost, sound=not self.spoiled)
        # not as a list: of a file that is nothing but faults only the first are worked out
        faults = itertools.chain(rules.faults(scene), secrets_directory(mesh, self.folder))
        moved = (fault._replace(path=self.sieve.original(fault.path)) for fault in faults)
        self._add(fault for fault in moved if not self._spoils(fault.path))
        if any(problem.severity == "error" for problem in self.found):
            raise self._failed()
        holders = {name: source.name for source in self.sources[1:] for name in source.peers}
        names = tuple(source.name for source in self.sources)
        return Loaded(mesh, tuple(sorted(self.found, key=_order)), holders, names)

    def _failed(self) -> SpecError:
        hint = f"there are more; these are the first {len(self.found)} found" if self.more else ""
        return SpecError(tuple(sorted(dict.fromkeys(self.found), key=_order)), hint)

    def _parse(self, source: _Source) -> None:
        spots = list(hidden(source.text))
        if not spots:
            source.data, spots = parse(source.text)
        if spots and source.data is not None:
            source._places = Places()
            source.data, spots = parse(source.text, source._places)
        for spot in spots:
            if spot.spoils:
                self.spoiled.add(spot.path)
            self.found.append(source.at(spot.place, Fault(spot.path, spot.text, spot.hint)))

    def _add(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            if len(self.found) >= MOST:
                self.more = True
                return
            self.found.append(self._source(fault.path).problem(fault))

    def _source(self, path: Path) -> _Source:
        if len(path) > 1 and path[0] == "peers":
            for source in self.sources[1:]:
                if path[1] in source.peers:
                    return source
        return self.sources[0]

    def _spoils(self, path: Path) -> bool:
        """Whether something at, above or below the path was already reported: what follows from a fault is none."""
        return any(path[: len(bad)] == bad or bad[: len(path)] == path for bad in self.spoiled)

    # files of peers

    def _include(self, source: _Source, data: dict[str, Any]) -> None:
        wanted = source.data.get("include")
        if not wanted:
            return
        if self.folder is None:
            self._add([Fault(("include",), "a text cannot include files")])
            return
        peers = data.get("peers")
        data["peers"] = {} if peers is None else dict(peers) if isinstance(peers, dict) else peers
        self._follow(source, data, (os.path.realpath(source.name),))

    def _follow(self, source: _Source, data: dict[str, Any], chain: tuple[str, ...]) -> None:
        listed = source.data.get("include")
        for index, word in enumerate(listed if isinstance(listed, list) else []):
            if not isinstance(word, str) or not word:
                continue
            if self.full:
                return
            name = str(FilePath(source.name).parent / word)
            if os.path.realpath(name) in chain:
                fault = Fault(("include", index), "this file includes itself", "take it out of the list")
                self.found.append(source.problem(fault))
                continue
            self._take(_Source(name, ""), source, index, data, chain)

    def _take(self, new: _Source, by: _Source, index: int, data: dict[str, Any], chain: tuple[str, ...]) -> None:
        place = by.places.find(("include", index), False) if len(self.sources) >= FILES else None
        if place:
            self.found.append(by.at(place, Fault(("include", index), f"more than {FILES} files")))
            return
        try:
            new.text = self.texts[new.name] if new.name in self.texts else read(new.name)
        except SpecError as error:
            fault = Fault(("include", index), error.problems[0].text, error.problems[0].hint)
            self.found.append(by.problem(fault))
            return
        self.room -= len(new.text)
        before = len(self.found)
        if self.room >= 0:
            self._parse(new)
            self.values += _size(new.data, NODES) if isinstance(new.data, dict) else 0
        if self.room < 0 or self.values > NODES:
            place = by.places.find(("include", index), False)
            limit = f"{LIMIT >> 20} MB" if self.room < 0 else f"{NODES} values"
            self.found.append(by.at(place, Fault(("include", index), f"more than {limit} in all included files")))
            self.full = True
            return
        if not isinstance(new.data, dict):
            if len(self.found) == before:
                self.found += _nothing(new, "write peers: {} where there are none").problems
            return
        self._included_keys(new)
        self._merge(new, data)
        self.sources.append(new)
        self._follow(new, data, (*chain, os.path.realpath(new.name)))

    def _included_keys(self, new: _Source) -> None:
        """What stands beside the peers of an included file: the classes never see it, so it is judged here."""
        for key in new.data:
            if key not in INCLUDED:
                self.found.append(new.problem(Fault((key,), "an included file holds peers only", on_key=True)))
        version = new.data.get("version", 1)
        if type(version) is not int or version != 1:
            text = "this tool reads version 1 of the file format"
            self.found.append(new.problem(Fault(("version",), text, "write version: 1")))
        listed = new.data.get("include", [])
        if not isinstance(listed, list):
            self.found.append(new.problem(Fault(("include",), "a list is needed here", "write [FILE]")))
            return
        for index, word in enumerate(listed):
            if not isinstance(word, str) or not word:
                self.found.append(new.problem(Fault(("include", index), "the path of a file is needed here")))

    def _merge(self, new: _Source, data: dict[str, Any]) -> None:
        peers = new.data.get("peers")
        if peers is None:
            return
        if not isinstance(peers, dict):
            self.found.append(new.problem(Fault(("peers",), "keys with values is needed here")))
            return
        if not isinstance(data["peers"], dict):
            # told by the classes, at the place of the mesh file that is at fault
            return
        for name, peer in peers.items():
            if name in data["peers"]:
                first = self._source(("peers", name))
                place = first.places.find(("peers", name), True)
                text = f"{shown(name)} is here twice: first in {first.name}:{place.line}:{place.column}"
                self.found.append(new.problem(Fault(("peers", name), text, "keep one of them", on_key=True)))
            else:
                data["peers"][name] = peer
                new.peers.add(name)

    # values

    def _validate(self, data: dict[str, Any]) -> Mesh | None:
        """The mesh; with faults reported, a mesh of what is sound, or None when too little is."""
        self.sieve = sieve = Sieve(data)
        self._sample(sieve)
        for _ in range(ROUNDS):
            try:
                return Mesh.model_validate(sieve.data, by_alias=True, by_name=False)
            except ValidationError as error:
                failed = error
            if failed.error_count() > 50 * KEPT:
                self.more = True
                sieve.shorten(KEPT)
                continue
            faults = list(problems.faults(failed.errors(include_url=False, include_input=False), sieve.data))
            moved = [fault._replace(path=sieve.original(fault.path)) for fault in faults]
            fresh = [fault for fault in moved if not self._spoils(fault.path)]
            self._add(fresh)
            self.spoiled |= {fault.path for fault in fresh}
            if not sieve.drop(fault.path for fault in faults):
                return None
        return None

    def _sample(self, sieve: Sieve) -> None:
        """A huge file is tried by a part of it first: to list the faults of one that is all faults takes long."""
        if _size(sieve.data, MANY) < MANY:
            return
        part = Sieve(sieve.data)
        part.shorten(KEPT)
        try:
            Mesh.model_validate(part.data, by_alias=True, by_name=False)
        except ValidationError:
            self.more = True
            sieve.shorten(KEPT)


def _size(data: Any, most: int) -> int:
    """How many values there are; it stops counting at `most`."""
    todo, count = [data], 0
    while todo and count < most:
        at = todo.pop()
        count += len(at)
        todo += [inner for inner in (at.values() if isinstance(at, dict) else at) if isinstance(inner, dict | list)]
    return count


def _order(problem: Problem) -> tuple[Any, ...]:
    return (problem.file, problem.line, problem.column, problem.path, problem.text)


def _nothing(source: _Source, hint: str = "begin with the line version: 1") -> SpecError:
    what = "the file is empty" if source.data is None else "the file must hold keys with values"
    return SpecError((source.at(Place(1, 1), Fault((), what, hint)),))


def _names(data: dict[str, Any]) -> Iterator[str]:
    """Every name that the file as written gives to something, sound or not."""
    network, peers = data.get("network"), data.get("peers")
    for section in (peers, data.get("services"), network.get("routes") if isinstance(network, dict) else None):
        yield from section if isinstance(section, dict) else ()
    for name, peer in peers.items() if isinstance(peers, dict) else ():
        yield f"{name}.lan"
        if isinstance(peer, dict):
            devices, groups = peer.get("devices"), peer.get("groups")
            yield from (f"{name}/{device}" for device in devices) if isinstance(devices, dict) else ()
            yield from (str(g) for g in groups) if isinstance(groups, list) else (str(groups),)
