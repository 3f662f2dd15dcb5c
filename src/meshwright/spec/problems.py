"""What pydantic found, in our words: one fault for each cause, with the key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from meshwright.spec.nodes import Fault, Path, shown
from meshwright.spec.schema import json_schema

_SOURCES = "write {env: NAME}, {file: PATH} or {command: [PROGRAM, ARGUMENT]}"
_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "tuple_type": "a list",
}
_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or nothing when nothing is near."""
    near = difflib.get_close_matches(word[:80], list(known)[:5000], 1)
    return f"did you mean {shown(near[0])}?" if near else ""


def faults(errors: Iterable[Mapping[str, Any]], data: Any) -> Iterator[Fault]:
    """Errors of pydantic (`ValidationError.errors()`) over the plain data that they are about."""
    for error in errors:
        path = place(error["loc"], data)
        yield _fault(path, error, data)


def place(loc: Sequence[str | int], data: Any) -> Path:
    """A pydantic location without what is not in the data: names of union members, index 0 of a lone scalar."""
    path: list[str | int] = []
    at = data
    for number, part in enumerate(loc):
        if isinstance(at, dict) and isinstance(part, str) and (part in at or number == len(loc) - 1):
            at = at.get(part)
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at = at[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _value(path: Path, data: Any) -> Any:
    for part in path:
        data = _inner(data, part)
    return data


def _inner(data: Any, part: str | int) -> Any:
    if isinstance(data, list):
        return data[part] if isinstance(part, int) else None
    return data.get(part) if isinstance(data, dict) else None


def _fault(path: Path, error: Mapping[str, Any], data: Any) -> Fault:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _keys(path[:-1], data))
        return Fault(path, "unknown key", hint or _choices(_keys(path[:-1], data)), on_key=True)
    if kind == "missing":
        return Fault(path, "this key is missing", on_key=True)
    if kind == "said":
        return Fault(path, context["text"], context["hint"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _union(path, context, data)
    return _shape(path, kind, context, data)


def _shape(path: Path, kind: str, context: Mapping[str, Any], data: Any) -> Fault:
    value = _value(path, data)
    if kind == "secret_source":
        return Fault(path, "a secret is never in the file itself", _SOURCES)
    if kind == "literal_error":
        allowed = [word.strip(" '") for word in context["expected"].replace(" or ", ", ").split(", ")]
        return Fault(path, f"must be {_or(allowed)}", did_you_mean(str(value), allowed))
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return Fault(path, f"must be {words} {context[name]}")
    if kind in ("too_short", "string_too_short"):
        return Fault(path, "must not be empty")
    if kind == "string_type" and isinstance(value, bool | int | float):
        hint = f"write {value}/tcp" if {"port", "ports"} & set(path) else 'write it in quotes, as in "1.36"'
        return Fault(path, "a text is needed, this is a number or a truth value", hint)
    wanted = _WANTED.get(kind)
    return Fault(path, f"{wanted} is needed here" if wanted else "this value does not fit here", _instead(kind, value))


def _instead(kind: str, value: Any) -> str:
    if kind == "bool_type" and str(value).lower() in ("yes", "no", "on", "off", "y", "n"):
        return f"write {'true' if str(value).lower() in ('yes', 'on', 'y') else 'false'}"
    if kind == "int_type" and isinstance(value, str) and value.isascii() and value.isdigit():
        return "write it without quotes"
    return "it is empty" if value is None else ""


def _union(path: Path, context: Mapping[str, Any], data: Any) -> Fault:
    value = _value(path, data)
    if "expected_tags" not in context:
        return Fault((*path, "kind"), "this key is missing", "kind says which system it is", on_key=True)
    kinds = [word.strip(" '") for word in context["expected_tags"].split(",")]
    said = value.get("kind") if isinstance(value, dict) else value
    return Fault((*path, "kind"), f"must be {_or(kinds)}", did_you_mean(str(said), kinds))


def _or(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _choices(keys: Sequence[str]) -> str:
    return f"known here: {', '.join(keys[:12])}{', ...' if len(keys) > 12 else ''}" if keys else ""


def _keys(path: Path, data: Any) -> list[str]:
    """The keys that may stand at `path`, by the JSON Schema."""
    root = json_schema()
    nodes: list[Mapping[str, Any]] = [root]
    at = data
    for part in path:
        nodes = [inner for node in _flat(nodes, at, root) for inner in _below(node, part)]
        at = _inner(at, part)
    return list(dict.fromkeys(key for node in _flat(nodes, at, root) for key in node.get("properties", {})))


def _flat(nodes: Iterable[Mapping[str, Any]], at: Any, root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas without references and alternatives; of alternatives by kind only the one that the data names."""
    for node in nodes:
        if "$ref" in node:
            yield from _flat([root["$defs"][node["$ref"].rpartition("/")[2]]], at, root)
        elif "anyOf" in node or "oneOf" in node:
            yield from _flat(node.get("anyOf") or node["oneOf"], at, root)
        else:
            kind = node.get("properties", {}).get("kind", {}).get("const")
            if kind is None or not isinstance(at, dict) or at.get("kind") in (kind, None):
                yield node


def _below(node: Mapping[str, Any], part: str | int) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, int):
        inner = node.get("items")
    else:
        inner = node.get("properties", {}).get(part) or node.get("additionalProperties")
    if isinstance(inner, dict):
        yield inner
