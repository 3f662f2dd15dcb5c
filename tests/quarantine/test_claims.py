"""Whose a namespace is, decided without a cluster: by its labels, by what is left of them, by what is inside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright.desired.names import ADMISSION, MESH, PEER, QUARANTINE, labels
from meshwright.providers.kubernetes import claims

OURS = [{"manager": "meshwright", "operation": "Apply", "fieldsV1": {"f:metadata": {}}}]
HIS = [{"manager": "meshwright", "operation": "Update", "fieldsV1": {"f:metadata": {}}}]
M, OTHER = frozenset({"m"}), frozenset({"other"})
PARTS = {key: value for key, value in labels("m").items() if key != MESH}
OTHERS = {key: value for key, value in labels("other").items() if key != MESH}


def space(**meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", **meta}}


@pytest.mark.parametrize(
    ("meta", "within", "filed", "sure"),
    [
        ({"labels": {MESH: "m"}}, (), False, True),
        ({"labels": PARTS}, (), False, True),
        ({"labels": PARTS}, OTHER, False, True),
        ({"labels": {PEER: "ann"}}, M, False, True),
        ({"labels": {PEER: "ann"}}, (), True, True),
        ({"managedFields": OURS}, M, False, True),
        ({"annotations": {"meshwright.io/bindings": "[]"}}, M, False, True),
        # what does not say enough
        ({"labels": {PEER: "ann"}}, (), False, False),
        ({"labels": {PEER: "ann"}}, M | OTHER, False, False),
        ({"labels": {PEER: "ann"}}, M | OTHER, True, True),
        ({"managedFields": OURS}, (), False, False),
        # another mesh's
        ({"labels": {MESH: "other", PEER: "ann"}, "managedFields": OURS}, M, True, False),
        ({"labels": {**OTHERS, PEER: "ann"}}, M, True, False),
        ({"labels": {PEER: "ann"}}, OTHER, True, False),
        # nobody's: a friend may have put anything inside
        ({}, M, True, False),
        ({"managedFields": HIS}, M, True, False),
        ({"labels": {"app.kubernetes.io/part-of": "m"}}, M, True, False),
    ],
)
def test_what_makes_a_namespace_surely_ours(meta: dict[str, Any], within: Any, filed: bool, sure: bool) -> None:
    assert claims.surely(space(**meta), "m", within, filed) is sure


@pytest.mark.parametrize(
    ("meta", "within", "missing"),
    [
        ({"labels": {MESH: "m", PEER: "ann"}}, M, ()),
        ({"labels": {PEER: "ann"}}, (), (MESH,)),
        ({"labels": {MESH: "m", QUARANTINE: "true"}}, (), (PEER,)),
        ({"labels": {MESH: "m", ADMISSION: "enforced", PEER: ""}}, (), (PEER,)),
        ({"labels": {MESH: "m"}}, M, (PEER,)),
        ({"managedFields": OURS}, (), (MESH, PEER)),
        ({"labels": {MESH: "m"}, "managedFields": OURS}, (), ()),  # that of the accounts
        ({"managedFields": OURS}, OTHER, ()),
        ({"labels": OTHERS, "managedFields": OURS}, M, ()),
        ({}, M, ()),
    ],
)
def test_what_is_missed_on_a_namespace(meta: dict[str, Any], within: Any, missing: tuple[str, ...]) -> None:
    assert claims.lost(space(**meta), "m", within) == missing


def test_walls_and_the_tenants_binding_tell_of_a_namespace_and_accounts_do_not() -> None:
    def thing(kind: str, name: str, namespace: str, mesh: str = "m") -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": {MESH: mesh}}}

    found = [
        thing("ResourceQuota", "meshwright-quota", "a"),
        thing("NetworkPolicy", "x", "a", "other"),
        thing("RoleBinding", "meshwright-admin", "b"),
        thing("RoleBinding", "else", "c"),
        thing("ServiceAccount", "peer-ann", "c"),
        {"kind": "Secret", "metadata": {"name": "s", "namespace": "c"}},
    ]
    assert claims.meshes(found) == {"a": M | OTHER, "b": M}


def bound(*subjects: dict[str, str], name: str = "meshwright-admin", mesh: str = "m") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "x", "labels": {MESH: mesh}}, "subjects": list(subjects)}


def account(name: str, namespace: str = "access") -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


USER = {"kind": "User", "name": "oidc:ann", "apiGroup": "rbac.authorization.k8s.io"}


@pytest.mark.parametrize(
    ("binding", "prefix", "peer"),
    [
        (bound(account("peer-ann")), None, "ann"),
        (bound(account("robot", "x"), account("peer-ann")), None, "ann"),
        (bound(USER), "oidc:", "ann"),
        (bound(USER), None, ""),
        (bound(account("peer-ann", "x")), None, ""),
        (bound(account("peer-ann"), name="mine"), None, ""),
        (bound(account("peer-ann"), mesh="other"), None, ""),
        (bound({**USER, "kind": "Group"}), "oidc:", ""),
        (bound(), None, ""),
    ],
)
def test_the_tenants_binding_names_the_peer(binding: dict[str, Any], prefix: str | None, peer: str) -> None:
    assert claims.peer(binding, "m", "access", prefix) == peer


@given(st.text(max_size=80))
def test_no_name_in_a_binding_makes_a_label_that_the_server_refuses(name: str) -> None:
    """A friend may have written it: it must not keep his namespace from being shut."""
    peer = claims.peer(bound(account(f"peer-{name}")), "m", "access", None)
    assert peer in ("", name)
    assert len(peer) <= 63
    assert peer.isascii()
    assert not peer or (peer[0].isalnum() and peer[-1].isalnum() and not set(peer) & set(" /:@\n"))
