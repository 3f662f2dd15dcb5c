"""Changes to a text of YAML that leave every other character as it is: comments, alignment, quotes, ends of lines.

Finds places by libyaml's nodes and cuts or inserts there. Works on texts that `load` has accepted: no aliases, no tags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from meshwright.spec.nodes import Path, scalar

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+=-]*")
Entry = tuple[yaml.ScalarNode | None, yaml.Node]


class Text:
    """One version of a text and its nodes. Every change gives a new Text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
        self.newline = "\r\n" if "\r\n" in text else "\n"

    # finding

    def entry(self, path: Path) -> Entry | None:
        """Key and value at a path; an item of a list has no key. A lone scalar is item 0 of itself."""
        found: Entry | None = (None, self.root) if self.root is not None else None
        for part in path:
            if found is None:
                return None
            if part == 0 and isinstance(found[1], yaml.ScalarNode):
                continue
            found = dict(self._entries(found[1])).get(part)
        return found

    def _entries(self, node: yaml.Node) -> Iterator[tuple[str | int, Entry]]:
        if isinstance(node, yaml.MappingNode):
            yield from ((key.value, (key, value)) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            yield from ((index, (None, value)) for index, value in enumerate(node.value))

    def _span(self, entry: Entry) -> tuple[int, int]:
        key, value = entry
        start = key.start_mark.index if key is not None else value.start_mark.index
        return start, max(self._end(value), key.end_mark.index if key is not None else 0)

    def _end(self, node: yaml.Node) -> int:
        """Where the last character of a node stands; libyaml counts what follows a block collection to it."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            if isinstance(last, tuple):
                return max(self._end(last[1]), int(last[0].end_mark.index))
            return self._end(last)
        end = int(node.end_mark.index)
        return len(self.text[:end].rstrip()) if end > node.start_mark.index else end

    def _line_end(self, index: int) -> int:
        end = self.text.find("\n", index)
        end = len(self.text) if end < 0 else end
        return end - 1 if end > 0 and self.text[end - 1] == "\r" else end

    def _before_line(self, index: int) -> int:
        """The end of the line before the one that holds `index`."""
        start = self.text.rfind("\n", 0, index)
        return self._line_end(self.text.rfind("\n", 0, start) + 1) if start >= 0 else 0

    def _cut(self, start: int, end: int, new: str = "") -> Text:
        return Text(self.text[:start] + new + self.text[end:])

    # changing

    def replaced(self, places: Mapping[int, tuple[int, str]]) -> Text:
        """Several places at once: start -> (end, new text). They do not overlap."""
        text = self.text
        for start in sorted(places, reverse=True):
            end, new = places[start]
            text = text[:start] + new + text[end:]
        return Text(text)

    def without(self, path: Path) -> Text:
        """The text without one entry of a mapping or list. The last one leaves {} or []."""
        holder = self.entry(path[:-1])
        entry = self.entry(path)
        if holder is None or entry is None or not isinstance(holder[1], yaml.CollectionNode):
            return self
        entries = dict(self._entries(holder[1]))
        if holder[1].flow_style:
            spans = [self._span(e) for e in entries.values()]
            return self._cut(*self._flow_cut(spans, list(entries).index(path[-1])))
        start, end = self._span(entry)
        if entry[0] is None:
            start = self.text.rindex("-", 0, start)
        cut = self._cut(self._before_line(start), self._line_end(end))
        if len(entries) > 1 or holder[0] is None:
            return cut
        colon = self.text.index(":", int(holder[0].end_mark.index)) + 1
        return cut._cut(colon, colon, " {}" if isinstance(holder[1], yaml.MappingNode) else " []")

    def _flow_cut(self, spans: Sequence[tuple[int, int]], index: int) -> tuple[int, int]:
        start, end = spans[index]
        comma = re.compile(r"\s*,").match(self.text, end)
        if index > 0 and "#" not in self.text[spans[index - 1][1] : start]:
            return spans[index - 1][1], end
        if index + 1 < len(spans) and "#" not in self.text[end : spans[index + 1][0]]:
            return start, spans[index + 1][0]
        return start, comma.end() if comma else end

    def with_entry(self, path: Path, value: Any) -> Text:
        """The text with one more key at the end of the mapping that holds it, in that mapping's own style."""
        holder = self.entry(path[:-1])
        key = str(path[-1])
        if holder is None or not isinstance(holder[1], yaml.MappingNode):
            return self._with_section(path, value)
        node = holder[1]
        if node.flow_style or not node.value:
            new = f"{plain(key)}: {flow(value)}"
            at = self._span(node.value[-1])[1] if node.value else node.start_mark.index + 1
            return self._cut(at, at, f", {new}" if node.value else new)
        return self._with_line(node, key, value)

    def _with_line(self, node: yaml.MappingNode, key: str, value: Any) -> Text:
        last_key, last = node.value[-1]
        indent = " " * node.value[0][0].start_mark.column
        at = self._line_end(self._span((last_key, last))[1])
        if isinstance(value, dict) and isinstance(last, yaml.MappingNode) and not last.flow_style:
            step = " " * last.value[0][0].start_mark.column
            lines = [f"{indent}{plain(key)}:", *(f"{step}{plain(k)}: {flow(v)}" for k, v in value.items())]
        else:
            gap = max(1, self._column(node) - len(indent) - len(plain(key)) - 1)
            lines = [f"{indent}{plain(key)}:{' ' * gap}{flow(value)}"]
        return self._cut(at, at, "".join(self.newline + line for line in lines))

    def _column(self, node: yaml.MappingNode) -> int:
        """The column in which the values of a mapping are aligned, 0 when they are not."""
        columns = {value.start_mark.column for key, value in node.value if key.start_mark.line == value.start_mark.line}
        wide = any(value.start_mark.index - key.end_mark.index > 2 for key, value in node.value)
        return columns.pop() if len(columns) == 1 and wide else 0

    def _with_section(self, path: Path, value: Any) -> Text:
        """The mapping itself is not there yet, or has no value."""
        holder = self.entry(path[:-1])
        if holder is not None and holder[0] is not None:
            colon = self.text.index(":", int(holder[0].end_mark.index)) + 1
            end = max(colon, self._end(holder[1]))
            return self._cut(colon, end, f" {flow({str(path[-1]): value})}")
        lead = "" if self.text.endswith("\n") or not self.text else self.newline
        head = f"{path[0]}:{self.newline}  {plain(str(path[-1]))}: {flow(value)}{self.newline}"
        return Text(self.text + lead + head)

    def renamed(self, path: Path, new: str) -> dict[int, tuple[int, str]]:
        """The place of a key with its new name; values that stand in one column stay there."""
        entry, holder = self.entry(path), self.entry(path[:-1])
        if entry is None or entry[0] is None or holder is None or not isinstance(holder[1], yaml.MappingNode):
            return {}
        key, value = entry[0], entry[1]
        start, end = int(key.start_mark.index), int(key.end_mark.index)
        word = plain(new)
        if self._column(holder[1]) and key.start_mark.line == value.start_mark.line:
            gap = int(value.start_mark.index) - end - 1
            # the colon goes with the key: what lies between it and the value is spaces
            return {start: (end + 1 + gap, word + ":" + " " * max(1, gap + (end - start) - len(word)))}
        return {start: (end, word)}

    def scalar_at(self, path: Path) -> tuple[int, int] | None:
        """Start and end of a scalar as it is written, quotes and all."""
        entry = self.entry(path)
        if entry is None or not isinstance(entry[1], yaml.ScalarNode):
            return None
        return int(entry[1].start_mark.index), int(entry[1].end_mark.index)


def plain(text: str) -> str:
    """A text as YAML writes it: bare where that means the same, else in quotes."""
    bare = _PLAIN.fullmatch(text) and scalar(text) == text
    return text if bare else json.dumps(text, ensure_ascii=False)


def flow(value: Any) -> str:
    """Plain data in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{plain(str(k))}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else plain(str(value))
