"""A plan in short: many alike said once, what is left alone and why, who holds a field, what is hostile."""

from meshwright.desired.brief import brief
from meshwright.desired.resource import Blocked, Resource
from meshwright.plan import plan, text

WAITS = Blocked("waits", "waits for the CRD x", "install it")


def quota(space: str, pods: str) -> Resource:
    id = f"kubernetes/resourcequota/{space}/meshwright-quota"
    return Resource(id, {"kind": "ResourceQuota", "spec": {"hard": {"pods": pods, "a": "1"}}})


def shown(wanted: list[Resource], actual: list[Resource], short: bool = True) -> list[str]:
    todo = plan.make({r.id: r for r in wanted}, {r.id: r for r in actual})
    return text.text(todo, brief if short else None).splitlines()[:-1]


def test_what_is_made_alike_in_many_places_is_one_line() -> None:
    wanted = [quota("ham", "3"), quota("jake", "3"), quota("steve", "4")]
    assert shown(wanted, []) == [
        "+ kubernetes/resourcequota/{ham,jake}/meshwright-quota  pods 3, a 1",
        "+ kubernetes/resourcequota/steve/meshwright-quota  pods 4, a 1",
    ]
    assert shown([], wanted)[0] == "- kubernetes/resourcequota/{ham,jake}/meshwright-quota  pods 3, a 1"


def test_names_in_one_place_are_one_line_too() -> None:
    accounts = [
        Resource(f"kubernetes/serviceaccount/access/peer-{peer}", {"automountServiceAccountToken": False})
        for peer in ("bryce", "jake")
    ]
    policies = [
        Resource(
            f"kubernetes/validatingadmissionpolicybinding/{name}",
            {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}},
        )
        for name in ("a", "b")
    ]
    assert shown([*accounts, *policies], []) == [
        "+ kubernetes/serviceaccount/access/{peer-bryce,peer-jake}  no token in pods",
        "+ kubernetes/validatingadmissionpolicybinding/{a,b}  Deny by the policy of its name",
    ]


def test_without_short_forms_every_field_is_there() -> None:
    lines = shown([quota("ham", "3"), quota("jake", "3")], [], short=False)
    assert lines.count("    spec.hard.pods: 3") == 2


def test_an_update_is_never_shortened() -> None:
    lines = shown([quota("ham", "3"), quota("jake", "3")], [quota("ham", "99"), quota("jake", "99")])
    assert lines == [
        "~ kubernetes/resourcequota/ham/meshwright-quota  spec.hard.pods: 99 -> 3",
        "~ kubernetes/resourcequota/jake/meshwright-quota  spec.hard.pods: 99 -> 3",
    ]


def test_what_is_hostile_is_never_shortened() -> None:
    there = Resource("kubernetes/serviceaccount/ham/x", {"a": 1}, alarm="HOSTILE: its label was taken off")
    assert shown([], [there]) == ["- kubernetes/serviceaccount/ham/x  HOSTILE: its label was taken off  a: 1"]


def test_a_thing_of_another_system_is_shown_in_full() -> None:
    assert shown([Resource("hub/peer/alice", {"a": "1", "b": "2"})], []) == ["+ hub/peer/alice", "    a: 1", "    b: 2"]


def test_what_is_left_alone_is_told_with_its_reason_and_counted() -> None:
    foreign = Blocked("conflict", "made by kubectl", "apply --adopt ID", hostile=True)
    wanted = [quota("ham", "3"), *(quota(f"t{n:02}", "3") for n in range(10)), Resource("kubernetes/role/one", {})]
    actual = [
        Resource(wanted[0].id, {"spec": {}}, blocked=foreign),
        *(Resource(r.id, {}, blocked=WAITS) for r in wanted[1:]),
    ]
    actual[-1] = Resource("kubernetes/role/one", {"x": 1}, blocked=Blocked("waits", "waits for y"))
    lines = shown(wanted, actual)
    assert lines[:2] == [
        "! kubernetes/resourcequota/ham/meshwright-quota  HOSTILE  conflict: made by kubectl",
        "    next: apply --adopt ID",
    ]
    rest = lines[2:]
    assert rest[:2] == [". 10 things: waits for the CRD x", "    kubernetes/resourcequota/t00/meshwright-quota"]
    assert rest[9:11] == ["    and 2 more", "    next: install it"]
    assert rest[11:] == [". kubernetes/role/one  waits for y"]
    assert len(shown(wanted, actual, short=False)) == len(lines) + 1, "all ten are named in full"
    todo = plan.make({r.id: r for r in wanted}, {r.id: r for r in actual})
    assert text.summary(todo).startswith("Nothing to do, 1 left alone: somebody else's, 11 waiting. digest ")


def test_what_stands_on_a_conflict_and_is_right_is_not_told() -> None:
    base = Resource("kubernetes/namespace/ham", {}, blocked=Blocked("conflict", "made by kubectl"))
    right, wrong = (Resource(f"kubernetes/role/ham/{name}", {"a": 1}, after=(base.id,)) for name in ("right", "wrong"))
    todo = plan.make(
        {r.id: r for r in (Resource(base.id, {}), right, wrong)},
        {base.id: base, right.id: Resource(right.id, {"a": 1}), wrong.id: Resource(wrong.id, {"a": 2})},
    )
    assert not todo.changes
    assert list(todo.blocked) == [base.id, wrong.id]


def test_who_holds_a_field_is_named_and_lists_of_things_can_be_read() -> None:
    id = "kubernetes/rolebinding/ham/x"
    wanted = Resource(id, {"subjects": [{"kind": "ServiceAccount", "name": "a"}]})
    there = Resource(id, {"subjects": [{"kind": "User", "name": "b", "on": True}]}, held=((("subjects",), "kubectl"),))
    assert shown([wanted], [there]) == [
        f"~ {id}  subjects: {{kind: User, name: b, on: true}} -> {{kind: ServiceAccount, name: a}}  (held by kubectl)"
    ]
