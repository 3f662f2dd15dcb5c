"""What is left to do, or left alone as somebody else's, is no proof that the mesh is as the file says."""

from __future__ import annotations

from meshwright.desired.resource import Blocked, Resource
from meshwright.plan import plan
from meshwright.verify import checks

ID = "kubernetes/networkpolicy/jake/meshwright-default-deny"


def found(blocked: Blocked | None) -> list[bool]:
    wanted = {ID: Resource(ID, {"spec": {}})}
    there = {ID: Resource(ID, {"spec": {} if blocked is None else {"ingress": []}}, blocked=blocked)}
    return [check.ok for check in checks.converged(["kubernetes", "hub"], plan.make(wanted, there))]


def test_somebody_elses_object_of_our_name_fails_its_system_alone() -> None:
    assert found(Blocked("conflict", "it exists and is jake's", hostile=True)) == [False, True]


def test_what_only_waits_for_its_kind_does_not() -> None:
    assert found(Blocked("waits", "the CRD is not installed")) == [True, True]


def test_the_same_object_as_ours_does_not() -> None:
    assert found(None) == [True, True]


def hostile(*things: Resource) -> str:
    wanted = {there.id: Resource(there.id, {"spec": {}}) for there in things}
    (check,) = checks.converged(["kubernetes"], plan.make(wanted, {there.id: there for there in things}))
    assert not check.ok
    return check.observed


def test_what_a_friend_did_to_a_wall_is_named_first_and_loudly() -> None:
    plain = [Resource(f"kubernetes/role/a/{n}", {"spec": {"n": n}}) for n in range(9)]
    held = ((("metadata", "labels"), "kubectl-label\x1b[2J"),)
    bad = Resource(ID, {"spec": {"ingress": [{}]}}, held=held, alarm="HOSTILE: its label was taken off")
    said = hostile(*plain, bad)
    assert said.startswith(f"differs: {ID} (HOSTILE: its label was taken off; fields of it are held by kubectl-label")
    assert said.endswith(" and 7 more")
    assert "\x1b" not in said


def test_a_conflict_in_a_tenants_namespace_is_named_with_whose_it_is() -> None:
    blocked = Blocked("conflict", "it is there and not of this mesh: written by jake", hostile=True)
    assert f"{ID} (HOSTILE: it is there and not of this mesh: written by jake)" in hostile(
        Resource(ID, {"spec": {"ingress": [{}]}}, blocked=blocked)
    )
