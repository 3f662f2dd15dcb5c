"""YAML text out of plain JSON: one text for one value, read alike by YAML 1.1 and 1.2. Pure.

Block style, no anchors, no tags, no line ever folded. A text is written bare only where no reader can take it for
something else; the rest is quoted, and texts of several lines are written as a block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import yaml
from yaml.cyaml import CSafeDumper
from yaml.events import (
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

_FIRST: Final = {key: rank for rank, key in enumerate(("apiVersion", "kind", "metadata", "name", "namespace"))}
# a letter first: no number, date, alias or tag begins so; a colon only where it cannot end a key
_bare: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./@=+*-]|:(?=[A-Za-z0-9])| (?=[A-Za-z0-9]))*(?<=[A-Za-z0-9_/*])")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
# lines of plain ASCII, none with a space at its end, the first with none at its beginning
_lines: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?(?:\n+ *[!-~](?:[ -~]*[!-~])?)+\n?")
_one_line: Final = re.compile(r"[ -~]*")


def text(documents: Iterable[Mapping[str, Any]]) -> str:
    """The documents, each begun by `---`, keys in a fixed order whatever order they come in."""
    out = yaml.emit(_stream(documents), Dumper=CSafeDumper, width=1 << 30, allow_unicode=True)
    assert isinstance(out, str)
    return out


def word(value: str) -> str:
    """One text of one line, as it stands in YAML that is written by hand."""
    return value if _style(value) is None else json.dumps(value, ensure_ascii=False)


def _stream(documents: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    yield StreamStartEvent()
    for document in documents:
        yield DocumentStartEvent(explicit=True)
        yield from _events(document)
        yield DocumentEndEvent(explicit=False)
    yield StreamEndEvent()


def _events(value: Any) -> Iterator[Event]:
    if isinstance(value, str):
        yield ScalarEvent(None, None, (True, True), value, style=_style(value))
    elif isinstance(value, Mapping):
        yield MappingStartEvent(None, None, True, flow_style=False)
        for key in sorted(value, key=_rank):
            yield from _events(key)
            yield from _events(value[key])
        yield MappingEndEvent()
    elif isinstance(value, list | tuple):
        yield SequenceStartEvent(None, None, True, flow_style=False)
        for item in value:
            yield from _events(item)
        yield SequenceEndEvent()
    else:
        yield ScalarEvent(None, None, (True, True), _word(value), style=None)


def _rank(key: str) -> tuple[int, str]:
    return _FIRST.get(key, len(_FIRST)), key


def _word(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise TypeError(f"not plain JSON: {type(value).__name__}")


def _style(value: str) -> str | None:
    if _bare.fullmatch(value) and value.lower() not in _WORDS:
        return None
    if _lines.fullmatch(value):
        return "|"
    return "'" if ('"' in value or "\\" in value) and _one_line.fullmatch(value) else '"'
