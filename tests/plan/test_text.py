"""Golden plans: each directory of `text/` has what is wanted and what is there, and how the plan reads.

Rewrite the expected files with --update, then read the difference.
"""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright.desired.resource import Resource, Unknown
from meshwright.plan import plan, text

CASES = Path(__file__).parent / "text"


def revive(value):
    if isinstance(value, dict):
        if value.keys() == {"unknown"}:
            return Unknown(*value["unknown"])
        return {key: revive(inner) for key, inner in value.items()}
    return [revive(inner) for inner in value] if isinstance(value, list) else value


def resources(tree):
    return {
        id: Resource(id, revive(r["attrs"]), frozenset(map(tuple, r.get("secret", []))), tuple(r.get("after", [])))
        for id, r in tree.items()
    }


@pytest.mark.parametrize("case", sorted(p.name for p in CASES.iterdir()))
def test_golden(case, update):
    given_ = json.loads((CASES / case / "case.json").read_text())
    todo = plan.make(resources(given_["wanted"]), resources(given_["actual"]))
    got = {
        "plan.txt": text.text(todo) + "\n",
        "plan.json": json.dumps(text.as_json(todo), indent=1, ensure_ascii=False) + "\n",
    }
    for name, content in got.items():
        expected = CASES / case / name
        if update:
            expected.write_text(content)
        assert content == expected.read_text(), f"{case}/{name}"


KEY = st.sampled_from(["saved", "live", "preshared_key", "a"])
LEAF = st.none() | st.sampled_from(["", "x"])
HUSH = st.just("hush-hush") | st.lists(st.just("hush-hush"), min_size=1, max_size=2)


def trees(leaf):
    return st.recursive(leaf, lambda inner: st.dictionaries(KEY, inner, max_size=3), max_leaves=6)


def put(tree, path, value):
    """The tree with `value` at `path`, whatever stood there."""
    if not path:
        return value
    inner = tree if isinstance(tree, dict) else {}
    return {**inner, path[0]: put(inner.get(path[0]), path[1:], value)}


@given(
    plain=st.tuples(trees(LEAF), trees(LEAF)),
    path=st.lists(KEY, min_size=1, max_size=2),
    hushed=st.tuples(trees(HUSH) | trees(LEAF), trees(HUSH) | trees(LEAF)),
)
def test_a_secret_is_in_no_rendering(plain, path, hushed):
    """Whatever the trees look like: what stands at or below a secret path is never shown."""
    secret = frozenset({tuple(path)})
    wanted, actual = (put(tree, path, hush) for tree, hush in zip(plain, hushed, strict=True))
    for todo in (
        plan.make({"s/k/n": Resource("s/k/n", wanted, secret)}, {"s/k/n": Resource("s/k/n", actual, secret)}),
        plan.make({"s/k/n": Resource("s/k/n", wanted, secret)}, {}),
        plan.make({}, {"s/k/n": Resource("s/k/n", actual, secret)}),
    ):
        assert "hush-hush" not in text.text(todo)
        assert "hush-hush" not in json.dumps(text.as_json(todo))
    assert "hush-hush" not in json.dumps(text.masked(wanted, secret))


def test_escape_sequences_of_a_host_do_not_reach_the_terminal():
    todo = plan.make({}, {"hub/peer/\x1b[2J": Resource("hub/peer/\x1b[2J", {"a": "\x1b]0;title\x07", "\u202eb": "1"})})
    assert all(c.isprintable() or c == "\n" for c in text.text(todo))
