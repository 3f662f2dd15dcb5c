"""Which things of a list a plan shows: all that differs, and nothing that does not."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from meshwright.plan.parts import entries, moved

WORDS = st.lists(st.sampled_from("abcdefg"), unique=True)
THINGS = st.lists(st.fixed_dictionaries({"host": st.sampled_from("abc")}), max_size=6)


def in_order(old, new, without):
    """Whether both, of what both have, say the same without these."""
    both = (set(old) & set(new)) - set(without)
    return [x for x in old if x in both] == [x for x in new if x in both]


@given(WORDS, WORDS)
def test_the_fewest_are_said_to_stand_elsewhere(old, new):
    found = moved(old, new)
    assert in_order(old, new, found)
    fewer = combinations(set(old) & set(new), len(found) - 1) if found else ()
    assert not any(in_order(old, new, some) for some in fewer)


@given(THINGS, THINGS)
def test_who_takes_what_goes_and_puts_what_comes_has_the_new_list(old, new):
    gone, come = entries(old, new)
    left = [value for at, value in enumerate(old) if at not in dict(gone)]
    for at, value in come:
        left.insert(at, value)
    assert left == new
    assert all(old[at] == value for at, value in gone)
