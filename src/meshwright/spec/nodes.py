"""Text to plain data with places: libyaml's events, our own strict YAML 1.2 core scalars, nothing of YAML beyond that.

Refused, each with its place: duplicate keys, tags, anchors, aliases, merge keys, several documents, keys that are not
text, characters that an editor does not show. Knows nothing of what the keys mean.
Places are found by reading a second time, because only a file with something to report needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from yaml import YAMLError
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

Path = tuple[str | int, ...]

DEPTH = 32
NODES = 220_000
ENTRIES = 60_000
FAULTS = 200
DIGITS = 18
WIDTH = 200

# YAML 1.2.2, section 10.3.2 (core schema)
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {word: None for word in ("", "~", "null", "Null", "NULL")}
_WORDS |= {word: True for word in ("true", "True", "TRUE")} | {word: False for word in ("false", "False", "FALSE")}
_NUMERIC = frozenset("0123456789+-.")
# Control characters, and those that break lines or turn the direction of text without being seen.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]|\r(?!\n)")


class Fault(NamedTuple):
    """Something to report about the value at `path`, or about its key when `on_key`; load gives it its place."""

    path: Path
    text: str
    hint: str = ""
    severity: str = "error"
    on_key: bool = False


class Place(NamedTuple):
    """Line and column, from 1, and the offset of the character in the text, from 0."""

    line: int
    column: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Spot:
    """A fault of the text itself, which knows where it is. When it `spoils`, what stands at `path` is not meant."""

    place: Place
    path: Path
    text: str
    hint: str = ""
    spoils: bool = False


@dataclass(slots=True)
class Places:
    """Where each path stands: its key (an item has none) and its value; `raw` is a plain scalar as it was written."""

    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    raw: dict[Path, str] = field(default_factory=dict)

    def find(self, path: Path, on_key: bool) -> Place:
        """The place of a path; of the nearest one above it when it is not in the file."""
        while path:
            value, key = self.values.get(path), self.keys.get(path)
            if value or key:
                found = (key if on_key or path not in self.raw else value) or value
                return found or Place(1, 1)
            path, on_key = path[:-1], True
        return Place(1, 1)


class Stop(Exception):
    """Reading ends here: nothing after this place can be understood."""

    def __init__(self, spot: Spot) -> None:
        super().__init__(spot.text)
        self.spot = spot


def scalar(text: str) -> Any:
    """What a plain scalar means in the core schema of YAML 1.2. ValueError for a number with too many digits."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC:
        return text
    if _INT.fullmatch(text):
        if len(text) > DIGITS:
            raise ValueError("this number has too many digits")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if len(text) <= 40 and _FLOAT.fullmatch(text) else text


class _Frame:
    """One mapping or list that is still open."""

    __slots__ = ("data", "key", "path")

    def __init__(self, data: dict[str, Any] | list[Any], path: Path) -> None:
        self.data = data
        self.path = path
        self.key: str | None = None


class _Reader:
    """Builds plain data from events. With `places` it notes where everything stands."""

    def __init__(self, text: str, places: Places | None) -> None:
        self.parser = CParser(text)
        self.places = places
        self.spots: list[Spot] = []
        self.open: list[_Frame] = []
        self.root: Any = None
        self.nodes = 0

    def run(self) -> Any:
        get = self.parser.get_event
        documents = 0
        while True:
            event = get()
            kind = type(event)
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent:
                self._begin(event, {})
            elif kind is SequenceStartEvent:
                self._begin(event, [])
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self.open.pop()
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                documents += 1
                self._document(event, documents)
            elif kind is StreamEndEvent:
                return self.root

    def _document(self, event: Any, number: int) -> None:
        if number > 1:
            raise Stop(Spot(_place(event), (), "a second document begins here", "a mesh file is one document"))
        if event.tags or event.version:
            self._report(event, (), "YAML directives are not used here", "delete the line that begins with %")

    def _scalar(self, event: Any) -> None:
        frame = self.open[-1] if self.open else None
        text = event.value
        if event.anchor or event.tag is not None:
            self._decorated(event)
        if frame is not None and frame.key is None and type(frame.data) is dict:
            self._key(event, frame, text)
            return
        value = text
        if event.implicit[0] and not event.style:
            try:
                value = scalar(text)
            except ValueError as error:
                self._report(event, self._here(), str(error), spoils=True)
        self._put(event, value)
        if self.places is not None:
            self.places.raw[self._last] = text

    def _key(self, event: Any, frame: _Frame, text: str) -> None:
        data = frame.data
        assert isinstance(data, dict)
        path = (*frame.path, text) if self.places is not None or text in data or text == "<<" else ()
        if text == "<<" and not event.style:
            self._report(event, path, "merge keys are not used here", "write the keys out")
        elif text in data:
            first = f", first in line {self.places.keys[path].line}" if self.places and path in self.places.keys else ""
            self._report(event, path, f"{shown(text)} is here twice{first}", "keep one of them")
        elif not text and not event.style:
            self._report(event, path, "a key is missing before the colon")
        frame.key = text
        if self.places is not None and path not in self.places.keys:
            self.places.keys[path] = _place(event)

    def _begin(self, event: Any, data: dict[str, Any] | list[Any]) -> None:
        if event.anchor or event.tag is not None:
            self._decorated(event)
        frame = self.open[-1] if self.open else None
        if frame is not None and frame.key is None and type(frame.data) is dict:
            raise Stop(
                Spot(_place(event), frame.path, "a key must be text", 'a text with braces in it needs quotes: "..."')
            )
        if len(self.open) >= DEPTH:
            raise Stop(Spot(_place(event), (), f"nested deeper than {DEPTH} levels"))
        path = self._here() if self.places is not None else ()
        self._put(event, data)
        self.open.append(_Frame(data, path))

    def _alias(self, event: Any) -> None:
        path = self._here()
        self._report(event, path, f"aliases (*{event.anchor}) are not used here", "write the value out", spoils=True)
        frame = self.open[-1] if self.open else None
        if frame is not None and frame.key is None and type(frame.data) is dict:
            frame.key = f"*{event.anchor}"
        else:
            self._put(event, None)

    def _decorated(self, event: Any) -> None:
        what = f"tags ({event.tag})" if event.tag is not None else f"anchors (&{event.anchor})"
        self._report(event, self._here(), f"{what} are not used here", "delete it")

    def _here(self) -> Path:
        """The path of the value that comes next."""
        if not self.open:
            return ()
        if self.places is None:
            return ()
        frame = self.open[-1]
        if isinstance(frame.data, list):
            return (*frame.path, len(frame.data))
        return (*frame.path, frame.key) if frame.key is not None else frame.path

    def _put(self, event: Any, value: Any) -> None:
        self.nodes += 1
        if self.nodes > NODES:
            raise Stop(Spot(_place(event), (), f"more than {NODES} values: this is no mesh file"))
        if self.places is not None:
            self._last = self._here()
            self.places.values.setdefault(self._last, _place(event))
        if not self.open:
            self.root = value
            return
        frame = self.open[-1]
        if len(frame.data) >= ENTRIES:
            raise Stop(Spot(_place(event), frame.path, f"more than {ENTRIES} entries: this is no mesh file"))
        if isinstance(frame.data, list):
            frame.data.append(value)
            return
        assert frame.key is not None
        frame.data.setdefault(frame.key, value)
        frame.key = None

    def _report(self, event: Any, path: Path, text: str, hint: str = "", spoils: bool = False) -> None:
        if len(self.spots) >= FAULTS:
            raise Stop(Spot(_place(event), path, f"more than {FAULTS} faults like these: reading ends here"))
        self.spots.append(Spot(_place(event), path, text, hint, spoils))


def _place(event: Any) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1, mark.index)


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shown(text: object, width: int = 60) -> str:
    """A text of the file as a message may show it: in quotes, cut, nothing in it that a terminal would obey."""
    cut = str(text)[: width + 1]
    return f'"{printable(cut[:width])}{"..." if len(cut) > width else ""}"'


def hidden(text: str) -> Iterator[Spot]:
    """Characters of the text that an editor does not show and that would move or hide what follows."""
    for count, match in enumerate(_HIDDEN.finditer(text)):
        if count == 20:
            return
        start = match.start()
        line = text.count("\n", 0, start) + 1
        column = start - (text.rfind("\n", 0, start) + 1) + 1
        name = "a NUL byte" if match[0] == "\0" else f"the invisible character U+{ord(match[0]):04X}"
        yield Spot(
            Place(line, column, start),
            (),
            f"{name} is in the file",
            "delete it, or write the file anew in a text editor",
        )


def parse(text: str, places: Places | None = None) -> tuple[Any, list[Spot]]:
    """The data of a text, and the faults of the text itself. The data is None when it ends early.

    With `places` the paths of the faults and of everything else are known.
    """
    reader = _Reader(text, places)
    try:
        return reader.run(), reader.spots
    except Stop as stop:
        return None, [*reader.spots, stop.spot]
    except YAMLError as error:
        return None, [*reader.spots, _syntax(error, text)]


def _syntax(error: YAMLError, text: str) -> Spot:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or "not YAML"
    # what is missing at the end is told at the last character that there is
    last = len(text.rstrip())
    index = min(mark.index, max(last - 1, 0)) if mark and mark.index >= last else mark.index if mark else 0
    start = text.rfind("\n", 0, index) + 1
    place = Place(text.count("\n", 0, index) + 1, index - start + 1, index)
    line = text[start : start + WIDTH].split("\n", 1)[0]
    if "\t" in text[start : min(index + 1, start + WIDTH)]:
        return Spot(place, (), "a tab where only spaces may stand", "indent with spaces")
    return Spot(place, (), f"this is not YAML: {said}", _syntax_hint(said, line))


def _syntax_hint(said: str, line: str) -> str:
    if "cannot start any token" in said:
        return "a text that begins with @, ` or % needs quotes"
    if "mapping values are not allowed" in said:
        return "a text with a colon in it needs quotes; a list of keys is indented below its key"
    if "expected ',' or" in said or "flow" in said:
        return "look for a missing comma, bracket or brace"
    return "look at the indentation here and in the line above" if line.strip() else ""
