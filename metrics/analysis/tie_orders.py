"""Detections of one image, class and score, whose order decides which objects are claimed.

Where such detections compete for an object, or a cap on detections leaves out some of them, the
statuses in the match table are those of one order. Here the image is matched anew in the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial, prod

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import Implementation, matching
from upmap.kernels.matching import (
    CLAIMABLE,
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    DetectionBoxes,
    TruthBoxes,
)
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.match_table import MatchTable
from upmap.metrics.matching import MatchInputs, prepare_inputs
from upmap.progress import track_progress

__all__ = ["Contests", "Ends", "find_contests", "find_ties", "try_orders"]

ALL_ORDERS = 120  # of an image and class, as many as five equal scores have; beyond, a sample
SAMPLED_ORDERS = 102  # as they are, reversed, and 100 at random
SEED = 0  # of the random orders

Places = NDArray[np.int64]
Flags = NDArray[np.bool_]
Statuses = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ties:
    """Detections of equal score within an image and class, n of them, group by group.

    Attributes:
        row: int64 [n], in the match table; within a group by rank.
        group: int64 [n], ascending from 0.
        first: int64 [G], the place of each group's first detection among the n.
    """

    row: Places
    group: Places
    first: Places

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Contests:
    """U pairs of an image and a class whose statuses depend on the order of equal scores.

    Units with more orders stand first, so that those still tried are always at the beginning.

    Attributes:
        row: int64 [n], all their detections in the match table, unit by unit, by rank.
        unit: int64 [n], ascending.
        block: int64 [n], equal for detections of a unit and score, ascending.
        is_movable: bool [n], whether the place of the detection among its equals matters.
        orders: int64 [U], how many orders are tried.
        is_sampled: bool [U], whether there are more than those.
    """

    row: Places
    unit: Places
    block: Places
    is_movable: Flags
    orders: Places
    is_sampled: Flags

    def __len__(self) -> int:
        return len(self.orders)


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Statuses of the detections of contests, uint8 [n, A * T], that no order that was tried beats.

    Down to every score there are as many true and as few false ones as in any order, not all of
    them in the same order; for the worst, the other way round.
    """

    worst: Statuses
    best: Statuses


def find_ties(table: MatchTable) -> Ties:
    """The detections that share image, class and score with another one."""
    is_equal = (np.diff(table.label) == 0) & (np.diff(table.score) == 0)
    row = np.flatnonzero(np.append(is_equal, False) | np.append(False, is_equal))
    row = row[np.lexsort((table.rank[row], table.image[row], table.label[row]))]
    is_new = np.ones(len(row), bool)
    is_new[1:] = np.any(
        [np.diff(column[row]) != 0 for column in (table.label, table.image, table.score)], axis=0
    )
    group = np.cumsum(is_new) - 1
    is_shared = np.bincount(group, minlength=1)[group] > 1
    row, group = row[is_shared], np.unique(group[is_shared], return_inverse=True)[1]
    groups = int(group.max(initial=-1)) + 1
    return Ties(row=row, group=group, first=np.searchsorted(group, np.arange(groups)))


def find_contests(
    table: MatchTable, ties: Ties, pairs: Pairs, cap: float, *, counts_false: bool
) -> Contests:
    """The images and classes in which the order of equal scores decides who claims what.

    Args:
        table: The match table.
        ties: See `find_ties`.
        pairs: The pairs of the match table.
        cap: Detections of this rank or beyond are left out.
        counts_false: Whether it matters which of several detections without an object it leaves
            out: of those that are false, some may lie outside an area range.
    """
    is_near = _overlaps_object(table, ties, pairs)
    is_movable = _is_divided(table, ties, is_near, cap, counts_false=counts_false)
    is_movable |= _competes(table, ties, pairs, cap)
    return _collect(table, ties.row[is_movable])


def try_orders(
    contests: Contests,
    table: MatchTable,
    pairs: Pairs,
    cap: float,
    *,
    show_progress: bool = False,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Ends:
    """Matches the images of contests in every order, or a sample of the orders.

    Args:
        contests: At least one.
        table: The match table.
        pairs: The pairs of the match table.
        cap: Detections of this rank or beyond are left out.
        show_progress: Whether to draw a progress bar.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.
    """
    inputs = prepare_inputs(pairs.ground_truth, pairs.detections, table.protocol)
    truths = _truths_of_units(contests, table, inputs)
    is_counted = table.rank[contests.row] < cap
    extremes = _Extremes(contests, is_counted, table.status.shape[0] * table.status.shape[1])
    trials = track_progress(
        _list_orders(contests),
        "orders of equal scores",
        total=int(contests.orders.max()),
        show=show_progress,
    )
    for source in trials:
        boxes = _detections_of_units(contests, source, pairs, inputs)
        matches = matching.match(boxes, truths, inputs.rules, 1, threads=threads, impl=impl)
        status = np.ascontiguousarray(np.moveaxis(matches.status, 2, 0))
        extremes.include(status.reshape(len(source), -1))
    return extremes.ends()


class _Extremes:
    """The largest and smallest counts, down to each score of each unit, over orders."""

    def __init__(self, contests: Contests, is_counted: Flags, curves: int) -> None:
        self.is_counted = is_counted
        self.block = contests.block
        self.first = np.flatnonzero(np.diff(contests.block, prepend=-1))  # row of each block
        self.unit = contests.unit[self.first]
        blocks = len(self.first)
        self.most = np.zeros((2, blocks, curves), np.int32)  # true, false
        self.fewest = np.full((2, blocks, curves), np.iinfo(np.int32).max, np.int32)

    def include(self, status: Statuses) -> None:
        """Takes the statuses of the first rows in one order, uint8 [n', curves]."""
        rows = len(status)
        blocks = np.searchsorted(self.first, rows)
        for i, state in enumerate((TRUE_POSITIVE, FALSE_POSITIVE)):
            is_state = (status == state) & self.is_counted[:rows, np.newaxis]
            counts = np.add.reduceat(is_state, self.first[:blocks], axis=0, dtype=np.int32)
            counts = self._accumulate(counts)
            np.maximum(self.most[i, :blocks], counts, out=self.most[i, :blocks])
            np.minimum(self.fewest[i, :blocks], counts, out=self.fewest[i, :blocks])

    def ends(self) -> Ends:
        """The statuses of which no order has better or worse counts at any score."""
        size = np.add.reduceat(self.is_counted, self.first, dtype=np.int32)[:, np.newaxis]
        true_most, false_most = (self._differences(counts) for counts in self.most)
        true_fewest, false_fewest = (self._differences(counts) for counts in self.fewest)
        # Counts of different orders may add up to more than there are detections.
        best = true_most, np.minimum(false_fewest, size - true_most)
        worst = np.minimum(true_fewest, size - false_most), false_most
        return Ends(worst=self._fill(*worst), best=self._fill(*best))

    def _accumulate(self, counts: NDArray[np.int32]) -> NDArray[np.int32]:
        """Sums from the first block of each unit on."""
        sums = np.cumsum(counts, axis=0, dtype=np.int32)
        begin = np.searchsorted(self.unit, self.unit[: len(counts)])
        before = np.where((begin > 0)[:, np.newaxis], sums[begin - 1], 0)
        return (sums - before).astype(np.int32)

    def _differences(self, sums: NDArray[np.int32]) -> NDArray[np.int32]:
        """What each block adds; undoes `_accumulate`."""
        is_first = np.diff(self.unit, prepend=-1) != 0
        before = np.concatenate([np.zeros_like(sums[:1]), sums[:-1]])
        return sums - np.where(is_first[:, np.newaxis], np.int32(0), before)

    def _fill(self, true: NDArray[np.int32], false: NDArray[np.int32]) -> Statuses:
        """The statuses of the rows with so many true and false ones in each block."""
        number = np.searchsorted(self.first, np.arange(len(self.block)), side="right") - 1
        place = (np.arange(len(number)) - self.first[number])[:, np.newaxis]
        status = np.where(place < true[number] + false[number], FALSE_POSITIVE, IGNORED)
        return np.where(place < true[number], TRUE_POSITIVE, status).astype(np.uint8)


def _overlaps_object(table: MatchTable, ties: Ties, pairs: Pairs) -> Flags:
    """Whether each tied detection may be other than false: it overlaps an object of its class."""
    entry, place = _overlaps(table, ties, pairs)
    is_near = np.zeros(len(ties), bool)
    is_near[place[entry >= 0]] = True
    return is_near


def _overlaps(table: MatchTable, ties: Ties, pairs: Pairs) -> tuple[Places, Places]:
    """The pairs that reach the lowest threshold: place in the list, and tied detection."""
    counts = np.diff(pairs.overlap.start)[ties.row]
    place = np.repeat(np.arange(len(ties)), counts)
    within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    entry = pairs.overlap.start[ties.row][place] + within
    truth = pairs.overlap.truth[entry]
    lowest = min(*table.protocol.iou_thresholds, table.protocol.iou_ceiling)
    is_same = pairs.ground_truth.label[truth] == table.label[ties.row[place]]
    is_listed = is_same & (pairs.overlap.iou[entry] >= lowest)
    return entry[is_listed], place[is_listed]


def _is_divided(
    table: MatchTable, ties: Ties, is_near: Flags, cap: float, *, counts_false: bool
) -> Flags:
    """Whether a cap leaves out some of the detection's equals, and it matters which."""
    if not len(ties):
        return np.zeros(0, bool)
    rank = table.rank[ties.row]
    last = np.append(ties.first[1:], len(ties)) - 1
    is_divided = (rank[ties.first] < cap) & (rank[last] >= cap)
    matters = np.logical_or.reduceat(is_near, ties.first)
    if counts_false:
        matters |= table.status.shape[0] > 1
    divided: Flags = (is_divided & matters)[ties.group]
    return divided


def _competes(table: MatchTable, ties: Ties, pairs: Pairs, cap: float) -> Flags:
    """Whether the detection and an equal one overlap the same object, which one alone can claim."""
    entry, place = _overlaps(table, ties, pairs)
    inputs = prepare_inputs(pairs.ground_truth, pairs.detections, table.protocol)
    truth = pairs.overlap.truth[entry]
    is_counted = table.rank[ties.row[ties.first]][ties.group[place]] < cap
    is_open = (inputs.truth_boxes.kind[truth] == CLAIMABLE) & is_counted
    place, truth = place[is_open], truth[is_open]
    # An object is of one image and class, so one key has detections of one group.
    key = truth.astype(np.int64) * max(1, len(ties.first)) + ties.group[place]
    _, number, counts = np.unique(key, return_inverse=True, return_counts=True)
    competes = np.zeros(len(ties), bool)
    competes[place[counts[number] > 1]] = True
    return competes


def _collect(table: MatchTable, movable: Places) -> Contests:
    """The contests of the images and classes of some detections."""
    images = max(1, len(table.images))
    key = table.label.astype(np.int64) * images + table.image
    units = np.unique(key[movable])
    row = np.flatnonzero(np.isin(key, units)) if len(units) else np.zeros(0, np.int64)
    is_movable = np.isin(row, movable)
    number = np.searchsorted(units, key[row])
    possible = _count_orders(number[is_movable], table.score[row[is_movable]], len(units))
    is_sampled = possible > ALL_ORDERS
    orders = np.where(is_sampled, SAMPLED_ORDERS, possible)
    by_orders = np.argsort(-orders, kind="stable")
    place_of_unit = np.empty_like(by_orders)
    place_of_unit[by_orders] = np.arange(len(units))
    order = np.lexsort((table.rank[row], place_of_unit[number]))
    row, unit, is_movable = row[order], place_of_unit[number][order], is_movable[order]
    is_new = np.append(True, (np.diff(unit) != 0) | (np.diff(table.score[row]) != 0))
    return Contests(
        row=row,
        unit=unit,
        block=np.cumsum(is_new[: len(row)]) - 1,
        is_movable=is_movable,
        orders=orders[by_orders],
        is_sampled=is_sampled[by_orders],
    )


def _count_orders(unit: Places, score: NDArray[np.float64], units: int) -> Places:
    """The number of orders of each unit, cut just above ALL_ORDERS."""
    orders = np.ones(units, np.int64)
    pairs = np.stack([unit.astype(np.float64), score])
    for (number, _), size in zip(*_unique_columns(pairs), strict=True):
        count = factorial(min(int(size), 10))
        orders[int(number)] = min(orders[int(number)] * count, ALL_ORDERS + 1)
    return orders


def _unique_columns(pairs: NDArray[np.float64]) -> tuple[list[list[float]], list[int]]:
    columns, counts = np.unique(pairs, axis=1, return_counts=True)
    return columns.T.tolist(), counts.tolist()


def _list_orders(contests: Contests) -> Iterator[Places]:
    """One order after another: for each row of the units that have it the row that stands there."""
    movable = np.flatnonzero(contests.is_movable)
    end = np.searchsorted(contests.unit, np.arange(len(contests)), side="right")
    tables = _permutation_tables(contests, movable)
    generator = np.random.default_rng(SEED)
    for trial in range(int(contests.orders.max())):
        units = int(np.searchsorted(-contests.orders, -trial, side="left"))
        keys = _draw_keys(len(movable), trial, generator)
        for places, ranks in tables:
            keys[places] = ranks[min(trial, len(ranks) - 1)]
        source = np.arange(len(contests.row))
        source[movable] = movable[np.lexsort((keys, contests.block[movable]))]
        yield source[: end[units - 1]]


def _draw_keys(count: int, trial: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """By what movable rows are sorted: as they stand, reversed, then at random."""
    if trial > 1:
        return generator.random(count)
    return np.arange(count, dtype=np.float64) * (-1 if trial else 1)


def _permutation_tables(
    contests: Contests, movable: Places
) -> list[tuple[Places, NDArray[np.float64]]]:
    """For units that are tried in all orders: places among `movable` [units, m], orders [O, m].

    Units whose blocks have the same sizes are one entry.
    """
    unit, block = contests.unit[movable], contests.block[movable]
    begin = np.searchsorted(unit, np.arange(len(contests) + 1)).tolist()
    places: dict[tuple[int, ...], list[Places]] = {}
    for number in np.flatnonzero(~contests.is_sampled).tolist():
        part = np.arange(begin[number], begin[number + 1])
        sizes = np.unique(block[part], return_counts=True)[1].tolist()
        places.setdefault(tuple(sizes), []).append(part)
    return [(np.stack(parts), _all_orders(sizes)) for sizes, parts in places.items()]


def _all_orders(sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """All orders of blocks of these sizes, each as the place of every member in its block.

    >>> _all_orders((2, 1)).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    blocks = product(*(permutations(range(size)) for size in sizes))
    count = prod(factorial(size) for size in sizes)
    flat = [place for order in blocks for block in order for place in block]
    return np.array(flat, np.float64).reshape(count, sum(sizes))


def _truths_of_units(contests: Contests, table: MatchTable, inputs: MatchInputs) -> TruthBoxes:
    """The objects of the units; the image of each is its unit, and all are of one class."""
    truths, images = inputs.truth_boxes, max(1, len(table.images))
    first = contests.row[np.searchsorted(contests.unit, np.arange(len(contests)))]
    key = table.label[first].astype(np.int64) * images + table.image[first]
    order = np.argsort(key)
    wanted_key = truths.label.astype(np.int64) * images + truths.image
    place = np.minimum(np.searchsorted(key[order], wanted_key), len(key) - 1)
    is_here = key[order][place] == wanted_key
    return TruthBoxes(
        image=order[place[is_here]].astype(np.int32),
        label=np.zeros(int(is_here.sum()), np.int32),
        box=truths.box[is_here],
        box_area=truths.box_area[is_here],
        area=truths.area[is_here],
        kind=truths.kind[is_here],
    )


def _detections_of_units(
    contests: Contests, source: Places, pairs: Pairs, inputs: MatchInputs
) -> DetectionBoxes:
    """The detections in an order, which their scores are made to say."""
    boxes, detection = inputs.detection_boxes, pairs.detection[contests.row[source]]
    place = np.arange(len(source))
    return DetectionBoxes(
        image=contests.unit[: len(source)].astype(np.int32),
        label=np.zeros(len(source), np.int32),
        box=boxes.box[detection],
        box_area=boxes.box_area[detection],
        score=-place.astype(np.float64),
        row=place,
        area=None if boxes.area is None else boxes.area[detection],
    )
