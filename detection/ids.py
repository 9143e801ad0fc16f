"""From the keys of images and classes in a file to their places in a catalog."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import ImageId

__all__ = ["Keys", "UnknownKeys", "find_places", "find_unknown", "keys_as_list"]

Keys = NDArray[np.int64] | list[str]  # all integers, or all text
MAX_TABLE_SPAN = 2**22  # keys from the lowest to the highest, up to which a table is made of them
BLOCK = 2**14  # keys looked up at a time: their intermediate arrays stay in the cache


@dataclass(frozen=True, slots=True)
class UnknownKeys:
    """The keys that lead nowhere.

    Attributes:
        rows: int64 [U], the rows with such keys, ascending; at least one.
        names: The different keys, as `repr` shows them, in the order of the rows.
    """

    rows: NDArray[np.int64]
    names: list[str]


def find_places(keys: Keys, among: Sequence[ImageId]) -> NDArray[np.int32]:
    """The place of each key in `among`, int32 [N]; -1 where it is not there.

    Args:
        keys: int64 [N], or N strings. Integers and strings never equal each other.
        among: Different keys of one kind; integers must ascend.

    >>> find_places(np.array([7, 9, 8]), (7, 8)).tolist()
    [0, -1, 1]
    >>> find_places(["b", "c"], ("b", "a")).tolist()
    [0, -1]
    """
    is_text = isinstance(keys, list)
    if not among or is_text != isinstance(among[0], str):
        return np.full(len(keys), -1, np.int32)
    if isinstance(keys, list):
        place = {value: i for i, value in enumerate(among)}
        return np.array([place.get(key, -1) for key in keys], np.int32)
    known = np.array(among, np.int64)
    if int(known[-1]) - int(known[0]) < MAX_TABLE_SPAN:
        return _places_by_table(keys, known)
    at = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.where(known[at] == keys, at, -1).astype(np.int32)


def find_unknown(keys: Keys, places: NDArray[np.int32]) -> UnknownKeys | None:
    """The keys that `find_places` gave the place -1; None if it found all."""
    rows = np.flatnonzero(places < 0)
    if not len(rows):
        return None
    unknown = [keys[row] for row in rows.tolist()] if isinstance(keys, list) else keys[rows]
    names = [repr(key) for key in keys_as_list(unknown)]
    return UnknownKeys(rows, list(dict.fromkeys(names)))


def keys_as_list(keys: Keys) -> list[int] | list[str]:
    """The keys as Python's integers or strings."""
    return keys if isinstance(keys, list) else keys.tolist()


def _places_by_table(keys: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int32]:
    """`find_places` of integers that lie close together, by a table of all from low to high."""
    low, high = int(known[0]), int(known[-1])
    place_of = np.full(high - low + 2, -1, np.int32)  # the last for what lies outside
    place_of[known - low] = np.arange(len(known))
    places = np.empty(len(keys), np.int32)
    for block in (slice(i, i + BLOCK) for i in range(0, len(keys), BLOCK)):
        # As unsigned numbers, keys below `low` wrap around to numbers beyond `high - low`.
        steps = (keys[block] - low).view(np.uint64)
        places[block] = place_of[np.minimum(steps, high - low + 1, out=steps).view(np.int64)]
    return places
