"""A key's place is where it stands in the catalog, however the keys are looked up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upmap.detection import ids
from upmap.detection.ids import MAX_TABLE_SPAN, find_places, find_unknown

INT64 = (-(2**63), 2**63 - 1)
LOW = st.integers(-100, 100)
WIDE = LOW | st.integers(*INT64) | st.sampled_from([*INT64, MAX_TABLE_SPAN, -MAX_TABLE_SPAN])


def expected_places(keys: list[int] | list[str], among: list[int] | list[str]) -> list[int]:
    place = {key: i for i, key in enumerate(among)}
    return [place.get(key, -1) for key in keys]


@pytest.mark.parametrize("numbers", [LOW, WIDE])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_integers_dense_or_sparse_have_the_places_that_a_dict_says(
    numbers: st.SearchStrategy[int], data: st.DataObject
) -> None:
    among = sorted(data.draw(st.sets(numbers)))
    keys = data.draw(st.lists(numbers | st.sampled_from(among or [0])))
    places = find_places(np.array(keys, np.int64), among)
    assert places.dtype == np.int32
    assert places.tolist() == expected_places(keys, among)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(among=st.sets(st.text(max_size=3)), more=st.lists(st.text(max_size=3)))
def test_strings_have_the_places_that_a_dict_says(among: set[str], more: list[str]) -> None:
    keys = [*more, *among]
    assert find_places(keys, sorted(among)).tolist() == expected_places(keys, sorted(among))


@pytest.mark.parametrize("span", [MAX_TABLE_SPAN - 1, MAX_TABLE_SPAN, MAX_TABLE_SPAN + 1])
@pytest.mark.parametrize("low", [INT64[0], -5, 0, INT64[1] - MAX_TABLE_SPAN - 1])
def test_both_ways_of_looking_up_agree_where_they_meet(span: int, low: int) -> None:
    among = [low, low + 1, low + span]
    near = {key + step for key in among for step in (-2, -1, 0, 1, 2)} | set(INT64)
    keys = sorted(key for key in near if INT64[0] <= key <= INT64[1])
    places = find_places(np.array(keys), among)
    assert places.tolist() == expected_places(keys, among)


def test_blocks_are_looked_up_as_a_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, among = np.arange(-50, 150), list(range(0, 100, 3))
    expected = find_places(keys, among)
    for block in (1, 7, 199, 200, 201):
        monkeypatch.setattr(ids, "BLOCK", block)
        assert np.array_equal(find_places(keys, among), expected)


def test_integers_and_strings_never_equal_each_other() -> None:
    assert find_places(np.array([1, 2]), ("1", "2")).tolist() == [-1, -1]
    assert find_places(["1", "2"], (1, 2)).tolist() == [-1, -1]


@pytest.mark.parametrize("among", [(), (1,), ("a",)])
def test_no_keys_have_no_places(among: tuple[int | str, ...]) -> None:
    for keys in (np.zeros(0, np.int64), []):
        places = find_places(keys, among)
        assert places.shape == (0,)
        assert find_unknown(keys, places) is None


@pytest.mark.parametrize(
    ("keys", "among", "rows", "names"),
    [
        (np.array([7, 1, 9, 7]), (1,), [0, 2, 3], ["7", "9"]),
        (["x", "a", "'", "x"], ("a",), [0, 2, 3], ["'x'", '"\'"']),
    ],
)
def test_unknown_keys_are_named_once_in_the_order_of_rows(
    keys: ids.Keys, among: tuple[int | str, ...], rows: list[int], names: list[str]
) -> None:
    unknown = find_unknown(keys, find_places(keys, among))
    assert unknown is not None
    assert unknown.rows.tolist() == rows
    assert unknown.names == names
