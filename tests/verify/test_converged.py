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
