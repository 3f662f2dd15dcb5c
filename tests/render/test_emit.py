"""YAML as we write it is read alike by a YAML 1.1 reader (PyYAML), by kubectl, and by eye."""

import json
import shutil
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.spec import emit

# what one reader or another takes for something else than a text
WORDS = r"""
on off yes no y n Y N true True FALSE null Null ~ nan .nan .inf -.inf inf 1 -1 +1 0 007 0o7 0x10 0b1 09 1e3 1.36 1_000
1. .5 1:30 22:22:22 2026-11-23 2026-11-23T10:00:00Z = << ! & * ? - --- ... | > % @ ` # a#b a: :a a:b [a] {a} "a" 'a'
\ \n , a,b 500m 1Gi v1.36 system:serviceaccounts:ham 10.0.0.0/8 ::/0 fd00::1
"""
TRAPS = [
    *WORDS.split(), "", " ", " a", "a ", "a: b", "a #b", "a\nb", "a\nb\n", "a\n\nb\n\n", "\na", "  a\nb", "a \nb",
    "a\r\nb", "\t", "a\tb", "\x07", "\x85", "\u2028", "\ufeff", "\u00e9", "\U0001f600", "a" * 300, "word " * 60 + "end",
    "- a\n- b", "a:\n  b: c\n",
]  # fmt: skip
TEXT = st.sampled_from(TRAPS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TREE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(documents=st.lists(st.dictionaries(TEXT, TREE, max_size=5), max_size=3))
def test_what_is_written_is_read_back(documents):
    assert list(yaml.safe_load_all(emit.text(documents))) == documents


@pytest.mark.parametrize("text", TRAPS)
def test_every_trap_is_read_back_as_key_and_value(text):
    assert yaml.safe_load(emit.text([{text: [text, {"a": text}]}])) == {text: [text, {"a": text}]}


def test_what_only_other_readers_take_for_numbers_or_words_is_quoted():
    """PyYAML would write these bare, or read them back right from any form: it cannot tell this."""
    for text in ("y", "N", "1e3", "09", "0o7", "1_000", "v", "500m", "nan"):
        bare = emit.text([{"a": text}]) == f"---\na: {text}\n"
        assert bare == (text == "v"), text


def test_the_text_is_plain_and_in_a_fixed_order():
    document = {
        "metadata": {"labels": {"b": "true", "a": "on"}, "namespace": "ham", "name": "x"},
        "kind": "Role",
        "apiVersion": "v1",
        "b": ["10m", {"z": 1, "name": "n"}],
        "a": {"empty": {}, "none": [], "null": None, "no": False, "text": "two\nlines\n", "cel": 'a == "b" && c'},
    }
    expected = """\
---
apiVersion: v1
kind: Role
metadata:
  name: x
  namespace: ham
  labels:
    a: "on"
    b: "true"
a:
  cel: 'a == "b" && c'
  empty: {}
  "no": false
  none: []
  "null": null
  text: |
    two
    lines
b:
- "10m"
- name: "n"
  z: 1
"""
    assert emit.text([document]) == expected
    again = {key: document[key] for key in reversed(document)}
    assert emit.text([again]) == expected


def test_no_anchors_however_often_a_value_stands_there():
    same = {"a": ["x"]}
    assert emit.text([{"one": same, "two": same}]).count("- x") == 2


@pytest.mark.parametrize("value", [1.5, object(), b"x"])
def test_what_is_no_plain_json_is_refused(value):
    with pytest.raises(TypeError):
        emit.text([{"a": value}])


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine")
@settings(max_examples=5)
@given(texts=st.lists(TEXT, min_size=20, max_size=60))
def test_kubectl_reads_the_same(texts):
    data = {f"k{number}": text for number, text in enumerate([*TRAPS, *texts])} | {text: "key" for text in TRAPS}
    written = emit.text([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}])
    done = subprocess.run(
        ["kubectl", "annotate", "--local", "-f", "-", "a=b", "-o", "json"],
        input=written.encode(), capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"] == data
