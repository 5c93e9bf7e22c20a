"""NumberSet against sets."""

from hypothesis import given
from hypothesis import strategies as st

from oneglance_index.number_set import NumberSet

NUMBERS = st.frozensets(st.integers(1, 5000), max_size=40)


@given(NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5))
def test_it_changes_as_a_set_does(first: frozenset[int], changes: list[tuple[frozenset[int], frozenset[int]]]) -> None:
    made, held = NumberSet(first), set(first)
    for come, gone in changes:
        before, former = made, set(held)
        held = (held | come) - (gone & former)
        made = made.changed(come, gone)
        assert (made is before) == (not come - former and not gone & former)
        for each, numbers in ((made, held), (before, former)):
            assert len(each) == len(numbers)
            assert {one for one in range(5001) if one in each} == numbers


def test_a_change_shares_what_did_not_change() -> None:
    before = NumberSet(range(100_000))
    after = before.changed([], [70_000])
    same = [part for part, those in after._parts.items() if before._parts[part] is those]
    assert len(same) == len(before._parts) - 1
