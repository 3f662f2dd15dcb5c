"""Who is asked about what, and what is made of the answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshwright.desired.facts import ClusterFacts, Facts, TenantNamespace
from meshwright.desired.kubernetes.roles import READER, RESTRICTED
from meshwright.spec.model import Mesh
from meshwright.verify import rights, tables
from meshwright.verify.rights import Answer, Identity
from meshwright.verify.tables import Right

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def mesh(peers: dict[str, Any], **kubernetes: Any) -> Mesh:
    named = {
        name: {"address": f"10.100.{n // 200}.{n % 200 + 1}", "namespace": name} | more
        for n, (name, more) in enumerate(peers.items())
    }
    return Mesh.model_validate(
        {
            "version": 1,
            "name": "home",
            "hub": {"node": "n", "address": "192.0.2.9", "interface": "wg0", "endpoint": "vpn.example.net:51820"},
            "network": {"cidr": "10.100.0.0/16", "hub": "10.100.255.1"},
            "peers": named,
            "kubernetes": kubernetes,
        }
    )


def facts(*spaces: tuple[str, str]) -> Facts:
    there = {name: TenantNamespace(name, {"meshwright.io/peer": peer}, {}) for name, peer in spaces}
    return Facts(NOW, cluster=ClusterFacts("1.36", there))


def everybody(of: Mesh, known: Facts | None = None) -> dict[str, Identity]:
    found = rights.identities(of, known or facts())
    assert len({each.who for each in found}) == len(found)
    assert all(not set(each.may) & set(each.must_not) for each in found), "nothing is asked for and refused at once"
    return {each.who: each for each in found}


def test_an_admin_may_what_a_restricted_friend_must_not() -> None:
    found = everybody(mesh({"ann": {}, "ben": {"tenant": {"role": "restricted"}}}))
    more = Right("create", "networkpolicies", "networking.k8s.io", namespace="ann")
    assert more in found["ann"].may
    assert Right("create", "networkpolicies", "networking.k8s.io", namespace="ben") in found["ben"].must_not
    for who in ("ann", "ben"):
        other = "ben" if who == "ann" else "ann"
        assert Right("get", "secrets", namespace=who) in found[who].may
        assert Right("list", "pods") in found[who].may
        for right in (
            Right("get", "secrets", namespace=other),
            Right("get", "secrets", namespace="kube-system"),
            Right("create", "serviceaccounts", subresource="token", namespace="collective-access"),
            Right("patch", "namespaces", namespace=who, name=who),
            Right("create", "resourcequotas", namespace=who),
            Right("get", "nodes", subresource="proxy"),
            Right("impersonate", "users"),
            Right("*", "*", "*"),
            Right("*", path="/*"),
        ):
            assert right in found[who].must_not
    assert found["ann"].user == "system:serviceaccount:collective-access:peer-ann"
    groups = ("system:serviceaccounts", "system:serviceaccounts:collective-access", "system:authenticated")
    assert found["ann"].groups == groups


def test_who_is_out_or_has_no_namespace_has_nothing() -> None:
    of = mesh({"ann": {}, "off": {"disabled": True}, "old": {"expires": "2026-01-01"}, "net": {"namespace": None}})
    found = everybody(of, facts(("ann", "ann"), ("off", "off"), ("left", "left"), ("former", "ann")))
    out = {who.partition(",")[0]: each for who, each in found.items() if not each.may}
    assert out.keys() == {"off", "old", "net", "left"}
    for who in ("off", "old", "left"):
        assert Right("get", "secrets", namespace=who) in out[who].must_not
        assert Right("create", "pods", namespace=who) in out[who].must_not
    for each in out.values():
        assert Right("list", "pods") in each.must_not, "not even the reader"
        assert Right("get", "secrets", namespace="kube-system") not in each.must_not
        assert Right("list", "secrets") in each.must_not
    assert Right("get", "secrets", namespace="former") in found["ann"].must_not, "a namespace that was his"
    assert Right("get", "secrets", namespace="ann") in found["ann"].may


def test_the_deployer_patches_the_secrets_of_active_devices_and_nothing_else() -> None:
    devices = {"phone": {"address": "10.100.9.1"}, "old": {"address": "10.100.9.2", "disabled": True}}
    of = mesh({"ann": {}, "ben": {"address": None, "devices": devices}})
    deployer = everybody(of)["the deployer"]
    names = [("ann", "wireguard-ann"), ("ben", "wireguard-ben-phone")]
    assert list(deployer.may) == [Right("patch", "secrets", namespace=space, name=name) for space, name in names]
    for verb in ("patch", "get", "update", "delete"):
        assert Right(verb, "secrets", namespace="ben", name="wireguard-ben-old") in deployer.must_not
    assert Right("patch", "secrets", namespace="ann") in deployer.must_not, "not without a name"
    assert Right("list", "pods") in deployer.must_not


def test_oidc_asks_about_users() -> None:
    oidc = {"issuer_url": "https://id.example.net", "client_id": "k", "username_prefix": "oidc:"}
    found = everybody(mesh({"ann": {}, "net": {"namespace": None}}, access={"issuer": "oidc", "oidc": oidc}))
    assert (found["ann"].user, found["ann"].groups) == ("oidc:ann", ("system:authenticated",))
    assert found["net, who has none"].user == "oidc:net"


def test_the_cost_grows_with_the_friends_and_what_is_left_out_is_said() -> None:
    few, many, more = (everybody(mesh({f"p{n}": {} for n in range(size)})) for size in (5, 40, 80))
    assert few["p0"].note == ""
    assert {right.namespace for right in few["p0"].must_not} >= {"p1", "p2", "p3", "p4"}
    assert many["p38"].note == "of 39 other tenants' namespaces these were asked about: p39, p0, p1"
    assert many["p38"].note in rights.judged(many["p38"], _as_expected(many["p38"])).observed
    assert len(many["p0"].rights) == len(more["p0"].rights)


def _as_expected(who: Identity) -> dict[Right, Answer]:
    return {right: Answer(right in who.may) for right in who.rights}


@pytest.fixture
def ann() -> Identity:
    return everybody(mesh({"ann": {}}))["ann"]


def test_answers_as_expected_pass(ann: Identity) -> None:
    found = rights.judged(ann, _as_expected(ann))
    assert (found.ok, found.hint) == (True, "")
    assert found.observed == found.expected == f"{len(ann.may)} rights and {len(ann.must_not)} refusals"


def test_one_wrong_answer_in_either_direction_fails_and_is_named(ann: Identity) -> None:
    for right in ann.rights:
        wrong = Answer(right not in ann.may, why='RBAC: allowed by RoleBinding "{x}/kube-system"')
        found = rights.judged(ann, {**_as_expected(ann), right: wrong})
        assert not found.ok
        word = "may not {}, has to" if right in ann.may else "may {}, must not"
        assert found.observed == f'{word.format(right)} (RBAC: allowed by RoleBinding "(x)/kube-system")'
        assert found.hint


def test_an_error_of_the_server_decides_nothing_but_a_yes_is_a_yes(ann: Identity) -> None:
    one, other = ann.may[0], ann.must_not[0]
    for right in (one, other):
        said = {**_as_expected(ann), right: Answer(False, error="webhook: down")}
        found = rights.judged(ann, said)
        assert found.observed == f"the server cannot say whether he may {right}: webhook: down"
    assert rights.judged(ann, {**_as_expected(ann), one: Answer(True, error="webhook: down")}).ok
    assert not rights.judged(ann, {**_as_expected(ann), other: Answer(True, error="webhook: down")}).ok


def test_many_wrong_answers_are_told_once_per_cause(ann: Identity) -> None:
    said = _as_expected(ann) | {right: Answer(True, why="by all") for right in ann.must_not}
    observed = rights.judged(ann, said).observed
    assert observed.count("by all") == 1
    assert f"and {len(ann.must_not) - rights.SHOWN} more, must not" in observed


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({}, Answer(False)),
        ({"status": {"allowed": "true"}}, Answer(False)),
        ({"status": {"allowed": True, "reason": "by\x1b[1m a\nb"}}, Answer(True, "by [1m a b")),
        (
            {"status": {"allowed": False, "evaluationError": "role x not found"}},
            Answer(False, error="role x not found"),
        ),
    ],
)
def test_reading_an_answer(said: dict[str, Any], answer: Answer) -> None:
    assert rights.answer(said) == answer


def test_a_right_is_asked_for_in_the_words_of_the_api() -> None:
    (one,) = tables.rights(("update certificatesigningrequests/approval.certificates.k8s.io",))
    assert one.attributes() == {
        "resourceAttributes": {
            "verb": "update",
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "subresource": "approval",
        }
    }
    assert str(one) == "update certificatesigningrequests/approval.certificates.k8s.io in the whole cluster"
    (path,) = tables.rights(("get /metrics",))
    assert path.attributes() == {"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}
    (space,) = tables.rights(("patch namespaces",), "ann")
    assert space.attributes()["resourceAttributes"]["name"] == "ann"


def given(rules: list[dict[str, Any]], right: Right) -> bool:
    resource = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
    return any(
        right.verb in rule["verbs"] and right.group in rule["apiGroups"] and resource in rule["resources"]
        for rule in rules
    )


def test_the_lists_agree_with_the_roles_that_are_written() -> None:
    """They are two witnesses: neither is made of the other."""
    assert all(given(READER, right) for right in tables.rights(tables.READ))
    assert all(given(RESTRICTED, right) for right in tables.rights(tables.USE, "x"))
    refused = (*tables.rights(tables.NEVER, "x"), *tables.rights(tables.ADMIN, "x"))
    assert not any(given(RESTRICTED, right) for right in refused)
    assert not any(given(READER, right) for right in tables.rights(tables.NEVER_ANYWHERE))
