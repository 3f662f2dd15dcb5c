"""What Prometheus does to labels with a list of relabelings: written from its documentation, not from our code.

A regular expression matches the whole of a text; it must be one that RE2 takes as well as Python, which is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Labels = dict[str, str]
# neither has the other look ahead, remember, or take possession
_ONLY_PYTHON = re.compile(r"\(\?[=!<#P(]|\\[1-9]|\(\?>|[*+?}]\+")


def relabeled(labels: Mapping[str, str], rules: Iterable[Mapping[str, Any]]) -> Labels | None:
    """The labels after all rules; None where a rule drops them. A label without a value is none."""
    out = {name: value for name, value in labels.items() if value}
    for rule in rules:
        regex = rule.get("regex", "(.*)")
        plain = re.sub(r"\\[^1-9]", "a", regex)  # a letter for what stands for itself
        assert not _ONLY_PYTHON.search(plain), f"not for RE2: {regex}"
        match = re.compile(regex, re.ASCII | re.DOTALL).fullmatch
        action = rule["action"]
        if action == "labeldrop":
            out = {name: value for name, value in out.items() if not match(name)}
            continue
        found = match(rule.get("separator", ";").join(out.get(name, "") for name in rule.get("sourceLabels", ())))
        if action == "drop" and found:
            return None
        if action == "replace" and found:
            new = _expanded(rule.get("replacement", "$1"), found)
            out = {name: value for name, value in {**out, rule["targetLabel"]: new}.items() if value}
        assert action in ("drop", "replace"), action
    return out


def scraped(target: Mapping[str, str], metric: Mapping[str, str]) -> Labels:
    """The labels of a series as it is scraped: what the target has too becomes exported_NAME, or one more exported_."""
    out = {**{name: value for name, value in metric.items() if name not in target}, **target}
    for name in sorted(metric.keys() & target.keys()):
        free = f"exported_{name}"
        while free in out:
            free = f"exported_{free}"
        out[free] = metric[name]
    return out


def _expanded(template: str, found: re.Match[str]) -> str:
    """$1, ${1} and $$, as Go's regexp.Expand reads them."""

    def one(part: re.Match[str]) -> str:
        if part[0] == "$$":
            return "$"
        name = part[1] or part[2]
        return (found[int(name)] or "") if name.isdigit() and int(name) <= (found.re.groups) else ""

    return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", one, template)
