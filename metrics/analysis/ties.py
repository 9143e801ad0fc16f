"""How much the order of equal scores matters: the least and the largest value of each number.

Tools order detections of equal score as they come; another order is as right and gives another
number. Where several are equal, the n-th true one has at best the false ones before the first of
its equals before it, and at worst all down to the last of its equals. Both ends are reached by one
order each (true ones first, false ones first) at all recalls at once, and average precision rises
with every one of these precisions, so the ends are exact for a class at one IoU threshold. Means
are taken of the ends; one order need not reach all of them, but none leaves the range.

Within an image the order also decides who claims what (see `tie_orders`), and of two detections of
one object the first is the true one, so that false ones first may be no order at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import Implementation
from upmap.kernels.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.analysis.tie_orders import (
    Contests,
    Ends,
    Ties,
    find_contests,
    find_ties,
    try_orders,
)
from upmap.metrics.match_table import MatchTable
from upmap.metrics.scores import Evaluation, evaluate_matches

__all__ = ["TieRange", "TieRanges", "arrange_ties", "find_tie_ranges"]

Statuses = NDArray[np.uint8]
# "exact": no order leaves the range, and orders reach its ends. "bound": none leaves it, but equal
# scores of one image overlap the same object, so the ends need not be reached. "partial": an order
# may leave it, since an image has too many to try all of them, or none was tried.
Basis = Literal["exact", "bound", "partial"]
BASES: tuple[Basis, ...] = ("exact", "bound", "partial")  # from sure to unsure


@dataclass(frozen=True, slots=True)
class TieRange:
    """A number over all orders of equal scores; NaN is undefined.

    Attributes:
        low: The smallest value.
        high: The largest.
        basis: "exact", "bound" or "partial", see `Basis`; ends that are reached are those of a
            class at one IoU threshold, of which others are means.
    """

    low: float
    high: float
    basis: Basis

    @property
    def exact(self) -> bool:
        """Whether no order leaves the range and its ends are reached."""
        return self.basis == "exact"

    def to_record(self) -> dict[str, Any]:
        """The range as plain data, for JSON."""
        return {"low": self.low, "high": self.high, "exact": self.exact, "basis": self.basis}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TieRanges:
    """The numbers of an evaluation over all orders of equal scores.

    Attributes:
        metrics: The protocol's summary: name to range.
        per_class: Class name to the range of its AP.
        tied: Detections that share class and score with another one.
        contested: Pairs of an image and a class in which the order decides who claims what.
        sampled: Those of them with too many orders to try all.
    """

    metrics: Mapping[str, TieRange]
    per_class: Mapping[str, TieRange]
    tied: int
    contested: int
    sampled: int

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        return {
            "metrics": {name: ends.to_record() for name, ends in self.metrics.items()},
            "per_class": [
                {"name": name, **ends.to_record()} for name, ends in self.per_class.items()
            ],
            "tied": self.tied,
            "contested": self.contested,
            "sampled": self.sampled,
        }


def find_tie_ranges(
    table: MatchTable,
    pairs: Pairs | None = None,
    *,
    evaluation: Evaluation | None = None,
    show_progress: bool = False,
    threads: int = 0,
    impl: Implementation | None = None,
) -> TieRanges:
    """The least and the largest value of each number over all orders of equal scores.

    Args:
        table: The match table.
        pairs: Its pairs, by which images are matched in other orders. Without them detections keep
            the objects that they claim, and ranges are not exact where a class has equal scores
            within an image.
        evaluation: The evaluation of the table, if it is known already.
        show_progress: Whether to draw a progress bar while orders are tried.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.
    """
    settings: dict[str, Any] = {"threads": threads, "impl": impl}
    evaluation = evaluation or evaluate_matches(table, **settings)
    ties = find_ties(table)
    caps = table.protocol.max_dets
    places = sorted({m.cap % len(caps) for m in table.protocol.summary.values()} | {len(caps) - 1})
    by_cap = {
        place: _evaluate_ends(
            evaluation, ties, pairs, place, settings | {"show_progress": show_progress}
        )
        for place in places
    }
    last = by_cap[places[-1]]
    metrics = {
        name: by_cap[metric.cap % len(caps)].metric(name)
        for name, metric in table.protocol.summary.items()
    }
    return TieRanges(
        metrics=metrics,
        per_class={name: last.of_class(name) for name in table.classes},
        tied=_count_equal_scores(table),
        contested=max(ends.contested for ends in by_cap.values()),
        sampled=max(ends.sampled for ends in by_cap.values()),
    )


def arrange_ties(table: MatchTable, status: Statuses, *, is_best: bool) -> Statuses:
    """The statuses with true detections before false ones of equal score, or after them.

    Each threshold and area range has an order of its own.

    Args:
        table: The match table, which says what is equal.
        status: uint8 [N, A * T].
        is_best: Whether true ones stand first.
    """
    arranged = status.copy()
    for begin, end in zip(table.start[:-1].tolist(), table.start[1:].tolist(), strict=True):
        score = table.score[begin:end]
        first = np.flatnonzero(np.append(True, np.diff(score) != 0)[: len(score)])
        if len(first) < len(score):
            arranged[begin:end] = _arrange_class(status[begin:end], first, is_best=is_best)
    return arranged


def _arrange_class(status: Statuses, first: NDArray[np.int64], *, is_best: bool) -> Statuses:
    """The statuses of one class; `first` are the first rows of equal scores."""
    before, after = (TRUE_POSITIVE, FALSE_POSITIVE) if is_best else (FALSE_POSITIVE, TRUE_POSITIVE)
    counts = [
        np.add.reduceat(status == state, first, axis=0, dtype=np.int32) for state in (before, after)
    ]
    is_mixed: NDArray[np.bool_] = np.any((counts[0] > 0) & (counts[1] > 0), axis=1)
    size = np.diff(first, append=len(status))
    group = np.repeat(np.arange(len(first)), size)
    row = np.flatnonzero(is_mixed[group])
    group = group[row]
    place = (row - first[group])[:, np.newaxis]
    arranged = status.copy()
    is_after = place < counts[0][group] + counts[1][group]
    arranged[row] = np.where(is_after, after, IGNORED)
    arranged[row] = np.where(place < counts[0][group], before, arranged[row])
    return arranged


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _EndsOfCap:
    """The evaluation under one cap at both ends, and what is exact.

    Attributes:
        plain: The evaluation as it stands.
        low: That of the worst order; `plain` where no order changes anything.
        high: That of the best.
        bases: For classes that are not exact, what they are.
        contested: Pairs of an image and a class.
        sampled: Those that were tried in a sample of orders.
    """

    plain: Evaluation
    low: Evaluation
    high: Evaluation
    bases: Mapping[str, Basis]
    contested: int
    sampled: int

    def metric(self, name: str) -> TieRange:
        ends = (self.low.metrics[name], self.plain.metrics[name], self.high.metrics[name])
        basis = max(self.bases.values(), key=BASES.index, default=BASES[0])
        return TieRange(min(ends), max(ends), basis)

    def of_class(self, name: str) -> TieRange:
        ends = [part.per_class[name].AP for part in (self.low, self.plain, self.high)]
        return TieRange(min(ends), max(ends), self.bases.get(name, BASES[0]))


def _evaluate_ends(
    evaluation: Evaluation, ties: Ties, pairs: Pairs | None, place: int, settings: dict[str, Any]
) -> _EndsOfCap:
    """The evaluations of the worst and the best order under the cap at a place of max_dets."""
    table = evaluation.match_table
    cap = table.protocol.max_dets[place]
    has_precision = place == len(table.protocol.max_dets) - 1 or any(
        metric.quantity == "AP" and metric.cap % len(table.protocol.max_dets) == place
        for metric in table.protocol.summary.values()
    )
    contests = None
    if pairs is not None:
        contests = find_contests(table, ties, pairs, cap, counts_false=has_precision)
    tables = table, table
    if has_precision or contests:
        tables = _tables_of_ends(table, contests, pairs, cap, settings)
    ends = [evaluation if part is table else _evaluate(part, settings) for part in tables]
    return _EndsOfCap(
        plain=evaluation,
        low=ends[0],
        high=ends[1],
        bases=_find_bases(table, ties, contests, cap),
        contested=len(contests) if contests else 0,
        sampled=int(contests.is_sampled.sum()) if contests else 0,
    )


def _evaluate(table: MatchTable, settings: dict[str, Any]) -> Evaluation:
    return evaluate_matches(table, threads=settings["threads"], impl=settings["impl"])


def _tables_of_ends(
    table: MatchTable,
    contests: Contests | None,
    pairs: Pairs | None,
    cap: float,
    settings: dict[str, Any],
) -> tuple[MatchTable, MatchTable]:
    """The match tables of the worst and of the best order; `table` where they are the same.

    What the cap leaves out is ignored in them, and their ranks do not matter any more.
    """
    A, T, N = table.status.shape
    status = np.ascontiguousarray(np.moveaxis(table.status, 2, 0)).reshape(N, A * T)
    if (is_beyond := table.rank >= cap).any():
        status = np.where(is_beyond[:, np.newaxis], np.uint8(IGNORED), status)
    worst = best = status
    if contests and pairs is not None:
        ends = try_orders(contests, table, pairs, cap, **settings)
        worst, best = _replace_rows(status, contests, ends)
    worst, best = (
        arrange_ties(table, part, is_best=is_best)
        for part, is_best in ((worst, False), (best, True))
    )
    if np.array_equal(worst, best):
        return table, table
    rank = np.zeros_like(table.rank)
    return (
        replace(table, rank=rank, status=np.moveaxis(worst.reshape(N, A, T), 0, 2)),
        replace(table, rank=rank, status=np.moveaxis(best.reshape(N, A, T), 0, 2)),
    )


def _replace_rows(status: Statuses, contests: Contests, ends: Ends) -> tuple[Statuses, Statuses]:
    worst, best = status.copy(), status.copy()
    worst[contests.row], best[contests.row] = ends.worst, ends.best
    return worst, best


def _find_bases(
    table: MatchTable, ties: Ties, contests: Contests | None, cap: float
) -> dict[str, Basis]:
    """The classes that are not exact, and what they are.

    Where a detection is judged by its best object alone, the order does not change how many of
    several equal ones are true, unless a cap leaves out some of them.
    """
    rows = ties.row if contests is None else contests.row
    is_tried = np.zeros(len(rows), bool)
    if contests is not None:
        is_tried = ~contests.is_sampled[contests.unit]
    if table.protocol.assignment == "best" and (table.rank < cap).all():
        is_tried[:] = True
    bases: dict[str, Basis] = {}
    parts: tuple[tuple[Basis, NDArray[np.bool_]], ...] = ("bound", is_tried), ("partial", ~is_tried)
    for basis, is_here in parts:
        labels = np.unique(table.label[rows[is_here]]).tolist()
        bases |= {table.classes[k]: basis for k in labels}
    return bases


def _count_equal_scores(table: MatchTable) -> int:
    is_equal = (np.diff(table.label) == 0) & (np.diff(table.score) == 0)
    return int((np.append(is_equal, False) | np.append(False, is_equal)).sum())
