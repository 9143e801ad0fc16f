"""Assignment of detections to objects in order: each takes the best that those before it left.

It is what evaluation tools do one detection after another. Here all propose at once, an object
keeps the first in order, and who is turned down proposes to its next best: the result is the same
(D. Gale and L. S. Shapley, 1962, with the same priorities at every object).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign_in_order", "best_of_each"]

Places = NDArray[np.int64]


def assign_in_order(
    detection: NDArray[np.integer],
    truth: NDArray[np.integer],
    iou: NDArray[np.float64],
    *,
    is_last_preferred: bool = False,
) -> NDArray[np.bool_]:
    """Gives each detection, in order, its object of largest IoU that is still free.

    Args:
        detection: [E], from 0; the smaller chooses first.
        truth: [E], from 0: an object that the detection may take.
        iou: float64 [E].
        is_last_preferred: Of objects of equal IoU the last is preferred, otherwise the first.

    Returns:
        bool [E]: the pairs that are assigned, at most one of a detection and one of an object.

    >>> detection, truth, iou = np.array([0, 1, 1]), np.array([7, 7, 3]), np.array([0.6, 0.9, 0.5])
    >>> assign_in_order(detection, truth, iou).tolist()
    [True, False, True]
    """
    is_assigned = np.zeros(len(detection), bool)
    if not len(detection):
        return is_assigned
    tie = -truth.astype(np.int64) if is_last_preferred else truth
    order = np.lexsort((tie, -iou, detection))
    _, start, counts = np.unique(detection[order], return_index=True, return_counts=True)
    end = start + counts
    chosen = _propose(truth[order].astype(np.int64), start, end)
    is_assigned[order[chosen[chosen < end]]] = True
    return is_assigned


def _propose(truth: Places, start: Places, end: Places) -> Places:
    """The pair that each detection ends with, a place in `truth`; its `end` where it has none.

    Args:
        truth: int64 [E], by detection, the most preferred first.
        start: int64 [D], the first pair of each detection.
        end: int64 [D], behind its last.
    """
    D, place = len(start), start.copy()
    holder = np.full(int(truth.max()) + 1, D)
    active = np.arange(D)
    while len(active):
        proposals = truth[place[active]]
        before = holder[proposals]
        np.minimum.at(holder, proposals, active)
        is_refused = holder[proposals] != active
        displaced = before[(before < D) & (holder[proposals] != before)]
        refused = np.unique(np.concatenate([active[is_refused], displaced]))
        place[refused] += 1
        active = refused[place[refused] < end[refused]]
    return place


def best_of_each(
    owner: Places, count: int, value: NDArray[np.float64], *, is_last_preferred: bool = False
) -> Places:
    """The place of the largest value of each owner, int64 [count]; -1 where it has none.

    Args:
        owner: int64 [E], 0 to count - 1.
        count: The number of owners.
        value: float64 [E].
        is_last_preferred: Of equal values the last is taken, otherwise the first.

    >>> best_of_each(np.array([0, 0, 2]), 3, np.array([0.1, 0.4, 0.2])).tolist()
    [1, -1, 2]
    """
    largest = np.full(count, -np.inf)
    np.maximum.at(largest, owner, value)
    places = np.flatnonzero(value == largest[owner])
    best = np.full(count, -1, np.int64)
    # Of several values written to a place the last one stays.
    places = places if is_last_preferred else places[::-1]
    best[owner[places]] = places
    return best
