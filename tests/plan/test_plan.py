"""Properties that the plan keeps forever, over generated worlds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwright.desired.resource import Blocked, Resource, Unknown, collect, fill
from meshwright.errors import MeshwrightError
from meshwright.plan.diff import ABSENT, fields, same
from meshwright.plan.plan import make

leaf = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a", "b"])
tree = st.recursive(
    leaf, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.sampled_from("abc"), t, max_size=3), max_leaves=8
)
attrs = st.dictionaries(st.sampled_from("xyz"), tree, max_size=3)
ids = st.sampled_from([f"{system}/thing/{n}" for system in ("one", "two") for n in range(4)])


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Resource]:
    chosen = sorted(draw(st.sets(ids)))
    return {
        id: Resource(id, draw(attrs), after=tuple(sorted(draw(st.sets(st.sampled_from(chosen[:n] or ["none"]))))))
        for n, id in enumerate(chosen)
    }


def applied(actual: dict[str, Resource], wanted: dict[str, Resource]) -> dict[str, Resource]:
    world = dict(actual)
    for change in make(wanted, actual).changes:
        if change.wanted is None:
            del world[change.id]
        else:
            world[change.id] = Resource(change.id, change.wanted)
    return world


@given(worlds(), worlds())
def test_after_applying_the_plan_is_empty(wanted: dict[str, Resource], actual: dict[str, Resource]) -> None:
    assert not make(wanted, applied(actual, wanted))


@given(worlds())
def test_a_world_as_wanted_needs_nothing(world: dict[str, Resource]) -> None:
    assert not make(world, dict(world))


@given(worlds(), worlds(), st.randoms())
def test_input_order_does_not_matter(wanted: dict[str, Resource], actual: dict[str, Resource], random: Any) -> None:
    def shuffled(world: dict[str, Resource]) -> dict[str, Resource]:
        items = list(world.items())
        random.shuffle(items)
        return dict(items)

    assert make(wanted, actual) == make(shuffled(wanted), shuffled(actual))


@given(worlds(), worlds())
def test_every_update_names_a_field(wanted: dict[str, Resource], actual: dict[str, Resource]) -> None:
    for change in make(wanted, actual).changes:
        if change.verb == "update":
            assert change.fields


@given(worlds(), worlds())
def test_order_respects_what_things_stand_on(wanted: dict[str, Resource], actual: dict[str, Resource]) -> None:
    changes = make(wanted, actual).changes
    place = {change.id: n for n, change in enumerate(changes)}
    for change in changes:
        world = wanted if change.wanted is not None else actual
        for base in world[change.id].after:
            both_made = base in place and change.wanted is not None and base in wanted
            both_deleted = base in place and change.wanted is None and base not in wanted
            if both_made:
                assert place[base] < place[change.id]
            if both_deleted:
                assert place[base] > place[change.id]


@given(tree, tree)
def test_fields_and_same_agree(a: Any, b: Any) -> None:
    assert same(a, b) == (not list(fields(a, b)))


def test_types_count() -> None:
    assert not same(True, 1)
    assert not same([True], [1])
    assert not same({}, {"a": None})
    assert [f.old for f in fields({}, {"a": None})] == [ABSENT]


def test_a_circle_is_our_bug_not_a_traceback() -> None:
    world = {i: Resource(i, {}, after=(o,)) for i, o in (("a/b/1", "a/b/2"), ("a/b/2", "a/b/1"))}
    with pytest.raises(MeshwrightError, match="wait for each other"):
        make(world, {})


def test_two_resources_with_one_id_are_refused() -> None:
    with pytest.raises(MeshwrightError, match="two resources"):
        collect([Resource("a/b/c", {}), Resource("a/b/c", {"x": 1})])


def test_an_unknown_orders_and_enters_the_digest() -> None:
    base = Resource("hub/interface/wg1", {"public_key": Unknown("hub/interface/wg1", "public_key")})
    client = Resource("files/client/a", {"hub_key": Unknown("hub/interface/wg1", "public_key")})
    todo = make(collect([base, client]), {})
    assert [c.id for c in todo.changes] == ["hub/interface/wg1", "files/client/a"]
    known = Resource("files/client/a", {"hub_key": "K"})
    assert make(collect([base, known]), {}).digest != todo.digest


def test_fill_takes_the_saved_half_first() -> None:
    unknown = {"deep": {"key": Unknown("x/y/z", "key")}}
    assert fill(unknown, {"x/y/z": {"saved": {"key": "S"}, "live": {"key": "L"}}}) == {"deep": {"key": "S"}}
    assert fill(unknown, {"x/y/z": {"saved": None, "live": {"key": "L"}}}) == {"deep": {"key": "L"}}
    assert fill(unknown, {}) is unknown


def things(system: str, kind: str, count: int, after: tuple[str, ...] = ()) -> list[Resource]:
    return [Resource(f"{system}/{kind}/{n}", {"n": n}, after=after) for n in range(count)]


def homes(count: int) -> list[Resource]:
    """Namespaces with twenty things in each."""
    spaces = things("a", "namespace", count)
    return spaces + [Resource(f"a/thing/{s.id[12:]}/{n}", {}, after=(s.id,)) for s in spaces for n in range(20)]


def shut(count: int, of: int) -> list[Resource]:
    """The same, when `count` of them are shut: the namespaces stay, what was in them is not wanted."""
    marks = [Resource(f"a/quarantine/{n}", {}, after=(f"a/namespace/{n}",)) for n in range(count)]
    return marks + [r for r in homes(of) if not any(r.id.startswith(f"a/thing/{n}/") for n in range(count))]


@pytest.mark.parametrize(
    ("wanted", "actual", "reason"),
    [
        (shut(2, 4), homes(4), "shuts 2 of 4 things that are a/namespace"),
        (
            [*shut(1, 4), *things("a", "other", 1)],
            [*homes(4), *things("a", "other", 60)],
            "deletes 59 of 124 things of a",
        ),
        (things("hub", "peer", 2), things("hub", "peer", 5), "deletes 3 of 5 things of hub"),
        ([], things("hub", "interface", 1), "deletes hub/interface/0"),
        (
            [*things("hub", "table", 1, ("files/key/0",)), *things("files", "key", 1)],
            things("hub", "table", 1),
            "files reads empty while hub shows that this mesh was applied",
        ),
    ],
)
def test_the_guard_speaks(wanted: list[Resource], actual: list[Resource], reason: str) -> None:
    assert reason in make(collect(wanted), collect(actual)).guard


@pytest.mark.parametrize(
    ("wanted", "actual"),
    [
        (shut(1, 1), homes(1)),
        (shut(1, 4), homes(4)),
        (shut(1, 4), [*homes(4), *(Resource(f"a/own/0/{n}", {}, after=("a/quarantine/0",)) for n in range(500))]),
        (shut(2, 4), [*homes(4), *things("a", "quarantine", 2)]),
        (things("hub", "peer", 4), things("hub", "peer", 5)),
        (things("hub", "peer", 5), []),
        ([*things("hub", "table", 1), *things("files", "key", 1)], []),
        ([*things("hub", "table", 1, ("files/key/0",)), *things("files", "key", 1)], things("files", "key", 1)),
    ],
)
def test_the_guard_is_silent(wanted: list[Resource], actual: list[Resource]) -> None:
    assert make(collect(wanted), collect(actual)).guard == ()


@settings(max_examples=30)
@given(worlds(), worlds())
def test_a_digest_stands_for_one_plan(wanted: dict[str, Resource], actual: dict[str, Resource]) -> None:
    one, other = make(wanted, actual), make(actual, wanted)
    if one.changes != other.changes:
        assert one.digest != other.digest


def test_what_is_left_alone_and_not_wanted_is_neither_taken_over_nor_waited_for() -> None:
    there = Resource("kubernetes/namespace/x", {}, blocked=Blocked("conflict", "why"))
    inside = Resource("kubernetes/serviceaccount/x/a", {"a": 1}, after=(there.id,))
    todo = make(collect([inside]), collect([there]), adopt=[there.id])
    assert [change.id for change in todo.changes] == [inside.id]
    assert list(todo.blocked) == [there.id]
