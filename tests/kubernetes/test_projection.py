"""What of a live object is compared, and who is named for it: pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane import ControlPlane
from meshwright.plan.diff import fields, same
from meshwright.providers.kubernetes import managed, project
from meshwright.providers.kubernetes.kinds import TABLE, of, place

CASES = sorted((Path(__file__).parent / "projections").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_projection(path: Path, update: bool) -> None:
    """Each case: a declared and a live object as a server gave it; what is compared, has to go, and who holds it."""
    case = json.loads(path.read_text())
    view = project.view(case["live"], case["declared"])
    held = project.held(case["live"], view.attrs, case["declared"]) if case["declared"] else ()
    found = {
        "differs": [".".join(field.path) for field in fields(view.attrs, case["declared"] or {})]
        if case["declared"]
        else view.attrs,
        "strays": sorted(".".join(stray) for stray in view.strays),
        "held": sorted(f"{'.'.join(where)}: {who}" for where, who in held),
    }
    if update:
        path.write_text(json.dumps({**case, "expect": found}, indent=1) + "\n")
    assert found == case["expect"]


name = st.sampled_from("abcd")
leaf = st.sampled_from(["1", "2", 3, True])
tree = st.recursive(leaf, lambda t: st.dictionaries(name, t, max_size=3) | st.lists(leaf, max_size=2), max_leaves=8)
body = st.dictionaries(st.sampled_from(["spec", "rules"]), st.dictionaries(name, tree, max_size=3), max_size=2)


def held(value: Any) -> dict[str, Any]:
    """FieldsV1 of everything in a tree, as an apply of it would leave it."""
    if not isinstance(value, dict):
        return {}
    return {f"f:{key}": held(inner) for key, inner in value.items()}


def live(content: dict[str, Any], *holders: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    entries = [{"manager": m, "operation": o, "fieldsV1": held(fields)} for m, o, fields in holders]
    meta = {"name": "n", "namespace": "s", "managedFields": entries}
    return {"apiVersion": "v1", "kind": "Role", "metadata": meta, **content}


def declared(content: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Role", "metadata": {"name": "n", "namespace": "s"}, **content}


def merged(a: Any, b: Any) -> Any:
    """b with what only a has: what is declared, with what the server put in beside it."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        return b
    return {**a, **b, **{key: merged(a[key], b[key]) for key in a.keys() & b.keys()}}


def empties(value: Any) -> Any:
    """Without empty maps, which the API takes for nothing."""
    if not isinstance(value, dict):
        return value
    found = {key: empties(inner) for key, inner in value.items()}
    return {key: inner for key, inner in found.items() if inner not in ({}, [])}


@given(body, body)
def test_what_nobody_holds_beside_what_we_applied_is_no_difference(more: dict[str, Any], want: dict[str, Any]) -> None:
    more, want = empties(more), empties(want)
    view = project.view(live(merged(more, want), ("meshwright", "Apply", want)), declared(want))
    if want:
        assert same(view.attrs, declared(want))
        assert view.strays == ()


@given(body, body)
def test_what_somebody_holds_and_we_do_not_declare_is_a_difference(
    theirs: dict[str, Any], want: dict[str, Any]
) -> None:
    theirs, want = empties(theirs), empties(want)
    there = live(merged(theirs, want), ("meshwright", "Apply", want), ("eve", "Update", theirs))
    view = project.view(there, declared(want))
    shown = {key: value for key, value in view.attrs.items() if key in ("spec", "rules")}
    assert same(shown, merged(theirs, want))
    assert bool(view.strays) == (not same(view.attrs, declared(want)))
    found = project.held(there, view.attrs, declared(want))
    assert {who for _, who in found} <= {"eve"}
    assert bool(found) == bool(view.strays)


@given(body, body)
def test_what_has_to_go_is_gone_without_it(theirs: dict[str, Any], want: dict[str, Any]) -> None:
    theirs, want = empties(theirs), empties(want)
    there = live(merged(theirs, want), ("meshwright", "Apply", want), ("eve", "Update", theirs))
    view = project.view(there, declared(want))
    for path in view.strays:
        inner: Any = there
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
    there["metadata"]["managedFields"] = managed.without(there["metadata"]["managedFields"], view.strays)
    if want:
        assert same(project.view(there, declared(want)).attrs, declared(want))


@given(body)
def test_forgotten_holders_hide_nothing(theirs: dict[str, Any]) -> None:
    view = project.view(live(merged(theirs, {"spec": {"x": "1"}})), declared({"spec": {"x": "1"}}))
    assert [p for p in view.strays if p != ("spec",)] == [
        *(("rules",) for key in theirs if key == "rules"),
        *(("spec", key) for key in theirs.get("spec", {})),
    ] or set(view.strays) == {
        *(("rules",) for key in theirs if key == "rules"),
        *(("spec", key) for key in theirs.get("spec", {})),
    }


def test_fields_of_lists_and_of_subresources() -> None:
    fields_v1 = {
        "f:spec": {
            "f:list": {'k:{"name":"a"}': {".": {}, "f:name": {}}},
            "f:set": {'v:"Deny"': {}},
            "f:map": {".": {}, "f:x": {}},
        }
    }
    assert managed.tree(fields_v1) == {"spec": {"list": {}, "set": {}, "map": {"x": {}}}}
    entry = {"manager": "c", "operation": "Update", "fieldsV1": {"f:status": {}}, "subresource": "status"}
    assert managed.holders({"metadata": {"managedFields": [entry]}}) == ()


def test_holding_a_field_is_holding_what_is_in_it_and_around_it() -> None:
    fields_held = {"spec": {"a": {}, "b": {"c": {}}}}
    for path, answer in {
        ("spec",): True, ("spec", "a"): True, ("spec", "a", "x"): True, ("spec", "b"): True, ("spec", "b", "c"): True,
        ("spec", "b", "d"): False, ("spec", "x"): False, ("rules",): False,
    }.items():  # fmt: skip
        assert managed.holds(fields_held, path) is answer, path
    assert not managed.holds({}, ("spec",))


def test_letting_go_of_a_path_takes_our_own_entry_for_sacred() -> None:
    fields_v1 = {"f:metadata": {"f:labels": {"f:x": {}}}, "f:spec": {".": {}, "f:a": {}}}
    ours = {"manager": "meshwright", "operation": "Apply", "fieldsV1": fields_v1}
    theirs = {"manager": "eve", "operation": "Update", "fieldsV1": fields_v1}
    status = {**theirs, "subresource": "status"}
    left = managed.without([ours, theirs, status], [("spec", "a"), ("rules",)])
    assert left == [ours, {**theirs, "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}}}}}, status]


@pytest.mark.parametrize(
    ("id", "path"),
    [
        ("kubernetes/namespace/ham", "/api/v1/namespaces/ham"),
        ("kubernetes/secret/ham/wireguard-a", "/api/v1/namespaces/ham/secrets/wireguard-a"),
        ("kubernetes/role/h/a b?c", "/apis/rbac.authorization.k8s.io/v1/namespaces/h/roles/a%20b%3Fc"),
        ("kubernetes/clusterrole/x:y", "/apis/rbac.authorization.k8s.io/v1/clusterroles/x%3Ay"),
        ("kubernetes/servicemonitor/ham/m", "/apis/monitoring.coreos.com/v1/namespaces/ham/servicemonitors/m"),
    ],
)  # fmt: skip
def test_where_an_object_stands(id: str, path: str) -> None:
    assert place(id).path == path
    assert place(id).id == id
    assert [kind.key for kind in of([id])] == [id.split("/")[1]]


AMOUNT = st.builds(
    "{}{}{}".format,
    st.integers(0, 10**6),
    st.sampled_from(["", ".5", ".250", ".0"]),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E2"]),
)


@pytest.mark.cluster
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(AMOUNT, min_size=6, max_size=6))
def test_amounts_are_compared_as_the_server_reads_them(cluster: ControlPlane, amounts: list[str]) -> None:
    """Any spelling of an amount is the same as what the server makes of it, and another amount is not."""
    keys = [f"{what}.{of}" for what in ("limits", "requests") for of in ("cpu", "memory", "ephemeral-storage")]
    hard = dict(zip(keys, amounts, strict=True))
    meta = {"name": "amounts", "namespace": "default"}
    want = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
    path = f"{TABLE['resourcequota'].collection('default')}/amounts"
    got = cluster.connect().apply(path, want, manager="meshwright", dry_run=True)
    assert same(project.view(got, want).attrs, want)
    for key in hard:
        other = {**want, "spec": {"hard": {**hard, key: "1999999M"}}}
        assert not same(project.view(got, other).attrs, other)
