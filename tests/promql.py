"""Every PromQL expression of a mesh's rules and dashboard, with the dashboard's variables filled in as Grafana does.

    for where, expr in promql.expressions(resources): ...

Also a small reader of PromQL, enough to ask of an expression which selectors it has and what stands around each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshwright.desired.resource import Resource

VARIABLES = {
    "__rate_interval": "1m",
    "__interval": "30s",
    "__range": "1h",
    "job": ".+",
    "instance": ".+",
    "datasource": "prometheus",
}
"""Each variable of the dashboard with what it stands for where nothing is chosen."""


def expressions(resources: Iterable[Resource], variables: Mapping[str, str] = VARIABLES) -> list[tuple[str, str]]:
    """(where, expression): of each rule "NAME", of each target of a panel "PANEL TITLE/A", of a variable "$NAME"."""
    out: list[tuple[str, str]] = []
    for resource in resources:
        if resource.attrs.get("kind") == "PrometheusRule":
            out += of_rules(resource.attrs)
        elif resource.attrs.get("kind") == "ConfigMap":
            for text in resource.attrs.get("data", {}).values():
                if text.startswith("{") and '"panels"' in text:
                    out += of_dashboard(json.loads(text), variables)
    return out


def of_rules(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Those of a PrometheusRule."""
    rules = [rule for group in manifest["spec"]["groups"] for rule in group["rules"]]
    return [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules]


def of_dashboard(dashboard: Mapping[str, Any], variables: Mapping[str, str] = VARIABLES) -> list[tuple[str, str]]:
    """Those of a dashboard's panels, and what its variables are asked by."""
    out = []
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            out.append((f"{panel['title']}/{target['refId']}", filled(target["expr"], variables)))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            out.append((f"${variable['name']}", filled(asked(variable["query"]), variables)))
    return out


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every panel, those inside of rows too, rows not."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def asked(query: str) -> str:
    """The expression inside of `query_result(...)`, or the selector inside of `label_values(..., label)`."""
    function, _, inside = query.rstrip(")").partition("(")
    return inside.rpartition(",")[0] if function == "label_values" else inside + query[len(query.rstrip(")")) + 1 :]


def filled(expr: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """The expression with its variables filled in; one that nobody has is an error."""
    return re.sub(r"\$\{?([A-Za-z_]+)\}?", lambda found: variables[found[1]], expr)


@dataclass(frozen=True, slots=True)
class Selector:
    """name{matchers}[range] within calls, the innermost last. matchers: (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    range: str
    within: tuple[str, ...]


_TOKEN = re.compile(
    r'\s+|(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)'
    r"|(?P<number>[0-9.]+[A-Za-z]*)|(?P<sign>=~|!~|!=|==|>=|<=|.)"
)
_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}


def selectors(expr: str) -> list[Selector]:
    """Every selector of an expression that Prometheus takes."""
    tokens = [(found.lastgroup, found[0]) for found in _TOKEN.finditer(expr) if found.lastgroup]
    out: list[Selector] = []
    calls: list[str] = []
    place = 0
    while place < len(tokens):
        kind, text = tokens[place]
        after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if text in _LISTS and after == "(":
            place = _past(tokens, place + 1, ")")
            continue
        if text == "(":
            calls.append(_called(tokens, place))
        elif text == ")":
            calls.pop()
            if after == "[":  # of a subquery
                place = _past(tokens, place + 1, "]")
                continue
        elif kind == "word" and text not in _WORDS and not _called_here(tokens, place):
            found, place = _selector(tokens, place, tuple(call for call in calls if call))
            out.append(found)
            continue
        place += 1
    return out


def _past(tokens: list[tuple[str | None, str]], place: int, end: str) -> int:
    while tokens[place][1] != end:
        place += 1
    return place + 1


def _called(tokens: list[tuple[str | None, str]], place: int) -> str:
    """What the bracket at `place` belongs to: `sum by (x) (`, `rate(`, or nothing."""
    before = place - 1
    if before >= 0 and tokens[before][1] == ")":  # the end of a list of labels
        while tokens[before][1] != "(":
            before -= 1
        before -= 1
        if before >= 0 and tokens[before][1] not in ("by", "without"):
            return ""
        before -= 1
    word = tokens[before] if before >= 0 else (None, "")
    return word[1] if word[0] == "word" and word[1] not in _WORDS | _LISTS else ""


def _called_here(tokens: list[tuple[str | None, str]], place: int) -> bool:
    after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
    return after in ("(", "by", "without")


def _selector(tokens: list[tuple[str | None, str]], place: int, within: tuple[str, ...]) -> tuple[Selector, int]:
    name, place = tokens[place][1], place + 1
    matchers, window = [], ""
    if place < len(tokens) and tokens[place][1] == "{":
        end = _past(tokens, place, "}")
        inner = [token[1] for token in tokens[place + 1 : end - 1] if token[1] != ","]
        for label, sign, value in zip(inner[::3], inner[1::3], inner[2::3], strict=True):
            matchers.append((label, sign, json.loads(value)))
        place = end
    if place < len(tokens) and tokens[place][1] == "[":
        end = _past(tokens, place, "]")
        window = "".join(token[1] for token in tokens[place + 1 : end - 1])
        place = end
    return Selector(name, tuple(matchers), window, within), place
