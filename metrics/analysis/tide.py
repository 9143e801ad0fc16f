"""What kinds of error cost the points: TIDE, and its additive form.

A false detection has one of five errors, an object that nothing explains is missed. Fixing the
errors of a kind raises mAP; how much, depends on which others are fixed already. The gain of fixing
a kind alone is what TIDE reports, and the gains do not add up. The share of a kind is its gain
averaged over all orders of fixing (Shapley's value): the six shares add up to 1 - mAP.

Source: D. Bolya, S. Foley, J. Hays and J. Hoffman, "TIDE: A General Toolbox for Identifying Object
Detection Errors" (ECCV 2020); tidecv 1.0.1, whose numbers `explain_errors_as_tidecv` has.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import Detections, GroundTruth, row_subset
from upmap.kernels import Implementation
from upmap.kernels.accumulation import accumulate
from upmap.kernels.matching import (
    FALSE_POSITIVE,
    IGNORED,
    MAX_DETECTIONS,
    TRUE_POSITIVE,
    Matches,
)
from upmap.metrics.analysis.assignment import best_of_each
from upmap.metrics.analysis.pairs import NEAR, Pairs, pair_detections
from upmap.metrics.curves import precision_samples
from upmap.metrics.match_table import MatchTable
from upmap.metrics.matching import match
from upmap.metrics.protocols import Protocol

__all__ = [
    "ERRORS",
    "ClassCosts",
    "ErrorCosts",
    "Errors",
    "classify_errors",
    "explain_errors",
    "explain_errors_as_tidecv",
]

# In TIDE's order, with what each means.
ERRORS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, box too loose",
    "Both": "wrong class and box too loose",
    "Dupe": "a second detection of an object",
    "Bkg": "nothing there",
    "Miss": "object not found",
}
CLS, LOC, BOTH, DUPE, BKG, MISS = range(6)
NO_ERROR = 255
SUBSETS = 2 ** len(ERRORS)
REPAIRS = SUBSETS // 2  # subsets of all kinds but Miss, which changes no detection
ALONE = 1 << np.arange(len(ERRORS))  # the subsets of one kind
# Scenarios are the subsets and two more: no false rows; unclaimed objects do not count.
NO_FALSE, NO_UNCLAIMED = SUBSETS, SUBSETS + 1
# For each scenario which statuses it has: those of a subset of repairs, or without false rows.
STATUS_OF = np.array([*range(REPAIRS), *range(REPAIRS), REPAIRS, 0])

TIDECV_CAP = 100  # detections of an image over all classes
TIDECV = Protocol(
    name="tidecv",
    pixels="continuous",
    iou_thresholds=(0.5,),
    assignment="best_unclaimed",
    equal_iou="first",
    difficult="crowd",
    crowd="crowd",
    ties="image",
    recall_points=tuple(i / 100 for i in range(101)),
)

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClassCosts:
    """What the errors of one class cost it.

    Attributes:
        AP: Its average precision at the threshold; NaN without positives.
        counts: Kind of error to the number of detections of the class, or of its missed objects.
        gains: Kind of error to AP with the errors of that kind alone fixed, less AP.
        shares: Kind of error to its share of 1 - AP; they add up to it.
    """

    AP: float
    counts: Mapping[str, int]
    gains: Mapping[str, float]
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ErrorCosts:
    """What each kind of error costs, in fractions of mAP; NaN is undefined.

    Attributes:
        mode: "shares", by the protocol's own matches; or "tidecv", as that tool computes it.
        iou: The IoU threshold.
        background: IoU up to which a detection has nothing to do with an object.
        mAP: At that threshold.
        counts: Kind of error to its number.
        gains: Kind of error to mAP with the errors of that kind alone fixed, less mAP; "tidecv"
            sets negative ones to 0.
        shares: Kind of error to its share of 1 - mAP.
        false_positives: mAP without any false detection, less mAP.
        false_negatives: mAP if all unclaimed objects did not count, less mAP.
        per_class: Class name to the same; empty for "tidecv".
        subsets: float64 [64], mAP after fixing the kinds whose bits are set, in ERRORS' order.
    """

    mode: Literal["shares", "tidecv"]
    iou: float
    background: float
    mAP: float
    counts: Mapping[str, int]
    gains: Mapping[str, float]
    shares: Mapping[str, float]
    false_positives: float
    false_negatives: float
    per_class: Mapping[str, ClassCosts]
    subsets: Floats

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        record = {name: getattr(self, name) for name in ("mode", "iou", "background", "mAP")}
        record |= {name: dict(getattr(self, name)) for name in ("counts", "gains", "shares")}
        record |= {
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
        }
        per_class = [{"name": name, **asdict(costs)} for name, costs in self.per_class.items()]
        return record | {"per_class": per_class}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Errors:
    """The error of each row of a match table, and which objects are missed.

    Attributes:
        kind: uint8 [N], the place in ERRORS, or NO_ERROR.
        target: int64 [N], the object that fixing a Cls or Loc error is about; -1 for none.
        is_repairable: bool [N], fixing the error makes the row a true positive; otherwise it goes.
        is_missed: bool [M], counted objects that no detection claims and none would after a fix.
    """

    kind: NDArray[np.uint8]
    target: Places
    is_repairable: Flags
    is_missed: Flags


def explain_errors(
    pairs: Pairs,
    table: MatchTable,
    *,
    background: float = NEAR,
    threads: int = 0,
    impl: Implementation | None = None,
) -> ErrorCosts:
    """What each kind of error costs at the protocol's first IoU threshold and area range.

    Statuses, positives and average precision are the protocol's own; ignored detections have no
    error. A class whose objects were all missed has AP 1 once its misses are fixed and no false
    detection of it is left, else 0.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        background: IoU up to which a detection has nothing to do with an object.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        ValueError: If pairs below `background` were left out of `pairs`.
    """
    status = table.status[0, 0]
    errors = classify_errors(pairs, table, status == FALSE_POSITIVE, background=background)
    rows = _arrange(pairs, table, status, errors)
    rows = rows.sort(np.lexsort((rows.place, -rows.score, rows.label)))
    positives = _count_positives(pairs, table, errors)
    is_defined = table.positives[:, 0] > 0
    AP = _average_precision(rows, table.protocol, positives, threads, impl)
    AP = np.where(is_defined, AP, np.nan)
    means, counts = _mean(AP, is_defined), _count_kinds(errors, table, positives)
    return ErrorCosts(
        mode="shares",
        iou=table.protocol.iou_thresholds[0],
        background=background,
        mAP=float(means[0]),
        counts=_name(counts.sum(axis=1)),
        gains=_name(means[ALONE] - means[0]),
        shares=_name(_shapley(means[:SUBSETS])),
        false_positives=float(means[NO_FALSE] - means[0]),
        false_negatives=float(means[NO_UNCLAIMED] - means[0]),
        per_class=_class_costs(table.classes, counts, AP),
        subsets=means[:SUBSETS],
    )


def explain_errors_as_tidecv(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    iou: float = 0.5,
    background: float = NEAR,
    difficult: Literal["crowd", "drop"] = "crowd",
    threads: int = 0,
    impl: Implementation | None = None,
) -> ErrorCosts:
    """TIDE's numbers as tidecv 1.0.1 computes them, for comparison with published ones.

    It matches by rules of its own: the best 100 detections of an image over all classes; continuous
    pixels; a detection of which more than `iou` lies in an ignored object of its class is ignored,
    and yet classified and fixed. Classes without objects count as AP 0.

    Args:
        ground_truth: M annotated boxes.
        detections: N detected boxes.
        iou: The IoU threshold.
        background: IoU up to which a detection has nothing to do with an object.
        difficult: Whether difficult objects are ignored regions, or dropped.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        InputError: If detections lie on images that the ground truth does not have.
        ValueError: If a threshold is out of range.
    """
    protocol = replace(TIDECV, iou_thresholds=(iou,), difficult=difficult)
    detections = _keep_best(detections, TIDECV_CAP)
    table = match(ground_truth, detections, protocol, threads=threads, impl=impl)
    pairs = pair_detections(
        ground_truth, detections, table, min_iou=background, threads=threads, impl=impl
    )
    status = _status_of_tidecv(pairs, table, iou)
    errors = classify_errors(pairs, table, status != TRUE_POSITIVE, background=background)
    rows = _arrange(pairs, table, status, errors)
    positives = _count_positives(pairs, table, errors)

    def mean(*ties: NDArray[Any]) -> Floats:
        ordered = rows.sort(np.lexsort((*ties, -rows.score, rows.label)))
        AP = _average_precision(ordered, protocol, positives, threads, impl)
        is_defined = (positives > 0) | (_count_rows(ordered, len(table.classes)) > 0)
        is_defined[NO_FALSE] = is_defined[0]  # there false rows stay, with score 0
        return _mean(np.where(positives > 0, AP, 0.0), is_defined)

    mAP = float(mean(rows.place)[0])
    # Fixed data are listed anew, with the errors before the true positives.
    means = mean(rows.row, rows.image, rows.kind == NO_ERROR)
    return ErrorCosts(
        mode="tidecv",
        iou=iou,
        background=background,
        mAP=mAP,
        counts=_name(_count_kinds(errors, table, positives).sum(axis=1)),
        gains=_name(np.maximum(means[ALONE] - mAP, 0)),
        shares=_name(_shapley(means[:SUBSETS])),
        false_positives=float(means[NO_FALSE]) - mAP,
        false_negatives=float(means[NO_UNCLAIMED]) - mAP,
        per_class={},
        subsets=means[:SUBSETS],
    )


def classify_errors(
    pairs: Pairs, table: MatchTable, is_error: Flags, *, background: float = NEAR
) -> Errors:
    """The kind of error of each row in `is_error`, and which objects are missed.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        is_error: bool [N], the rows to classify.
        background: IoU up to which a detection has nothing to do with an object.

    Raises:
        ValueError: If pairs below `background` were left out of `pairs`.
    """
    if not pairs.min_iou <= background:
        raise ValueError(f"background must be at least {pairs.min_iou}, not {background}")
    iou = min(table.protocol.iou_thresholds[0], table.protocol.iou_ceiling)
    kind = np.full(len(table), BOTH, np.uint8)
    # The first that holds counts, so the last is written first.
    kind[np.maximum(pairs.same_iou, pairs.other_iou) <= background] = BKG
    kind[pairs.same_iou >= iou] = DUPE
    kind[pairs.other_iou >= iou] = CLS
    is_near = (pairs.same >= 0) & (pairs.same_iou >= background)
    kind[is_near & (pairs.same_iou <= iou)] = LOC
    kind[~is_error] = NO_ERROR
    target = np.where(kind == LOC, pairs.same, np.where(kind == CLS, pairs.other, -1))
    is_open = pairs.is_counted & (pairs.claimed_by < 0)
    rows = np.flatnonzero(target >= 0)
    rows = rows[is_open[target[rows]]]
    rows = rows[np.lexsort((table.row[rows], -table.score[rows]))]
    first = best_of_each(target[rows], len(is_open), np.zeros(len(rows)))
    is_repairable = np.zeros(len(table), bool)
    is_repairable[rows[first[first >= 0]]] = True
    return Errors(
        kind=kind,
        target=target,
        is_repairable=is_repairable,
        is_missed=is_open & (first < 0),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of curves before and after any fix; a row repaired under another class is twice."""

    label: NDArray[np.int32]
    score: Floats
    image: NDArray[np.int32]
    row: Places
    place: Places  # in the match table; new rows behind all others
    kind: NDArray[np.uint8]
    before: NDArray[np.uint8]  # status while the kind is not fixed
    after: NDArray[np.uint8]  # status once it is

    def sort(self, order: Places) -> "_Rows":
        return _Rows(*(getattr(self, name)[order] for name in self.__slots__))

    def start(self, K: int) -> Places:
        """The first row of each class, int64 [K + 1], where the rows are in curve order."""
        return np.searchsorted(self.label, np.arange(K + 1)).astype(np.int64)


def _arrange(pairs: Pairs, table: MatchTable, status: NDArray[np.uint8], errors: Errors) -> _Rows:
    """The rows that count before a fix or after it: those of the table, and those of new class."""
    is_moved = errors.is_repairable & (errors.kind == CLS)
    after = np.where(errors.is_repairable & ~is_moved, TRUE_POSITIVE, IGNORED).astype(np.uint8)
    after[errors.kind == NO_ERROR] = status[errors.kind == NO_ERROR]
    kept = np.flatnonzero((status != IGNORED) | (after != IGNORED))
    moved = np.flatnonzero(is_moved)
    both = np.concatenate([kept, moved])
    moved_label = pairs.ground_truth.label[errors.target[moved]]
    return _Rows(
        np.concatenate([table.label[kept], moved_label]),
        table.score[both],
        table.image[both],
        table.row[both],
        np.concatenate([kept, len(table) + np.arange(len(moved))]),
        errors.kind[both],
        np.concatenate([status[kept], np.full(len(moved), IGNORED, np.uint8)]),
        np.concatenate([after[kept], np.full(len(moved), TRUE_POSITIVE, np.uint8)]),
    )


def _count_positives(pairs: Pairs, table: MatchTable, errors: Errors) -> Places:
    """Counted objects of each class in each scenario, int64 [66, K]."""
    counts = np.repeat(table.positives[np.newaxis, :, 0], NO_UNCLAIMED + 1, axis=0)
    label, K = pairs.ground_truth.label, len(table.classes)
    is_unclaimed = pairs.is_counted & (pairs.claimed_by < 0)
    counts[REPAIRS:SUBSETS] -= np.bincount(label[errors.is_missed], minlength=K)
    counts[NO_UNCLAIMED] -= np.bincount(label[is_unclaimed], minlength=K)
    return counts


def _average_precision(
    rows: _Rows, protocol: Protocol, positives: Places, threads: int, impl: Implementation | None
) -> Floats:
    """AP of each class in each scenario, float64 [66, K], of rows in curve order.

    A class without anything to find is perfect if nothing is reported, and worthless otherwise.
    """
    status = _status_by_repair(rows)
    S, N = status.shape
    scenarios, counts = np.unique(positives, axis=0, return_inverse=True)
    accumulated = accumulate(
        Matches(
            image=rows.image,
            label=rows.label,
            score=rows.score,
            row=rows.row,
            rank=np.zeros(N, np.int32),
            status=np.broadcast_to(status, (len(scenarios), S, N)),
            start=rows.start(positives.shape[1]),
            positives=scenarios.T,
        ),
        recall_points=np.array(protocol.recall_points or (), np.float64),
        max_dets=np.array([MAX_DETECTIONS]),
        epsilon=protocol.epsilon,
        with_areas=protocol.recall_points is None,
        threads=threads,
        impl=impl,
    )
    AP = precision_samples(accumulated)[..., 0].mean(axis=1)[STATUS_OF, :, counts.reshape(-1)]
    is_reported = _count_rows(rows, positives.shape[1]) > 0
    result: Floats = np.where(positives > 0, AP, np.where(is_reported, 0.0, 1.0))
    return result


def _status_by_repair(rows: _Rows) -> NDArray[np.uint8]:
    """Status in each subset of repairs, and without false rows; uint8 [33, N]."""
    return STATUSES[_combine(rows)].T


def _count_rows(rows: _Rows, K: int) -> Places:
    """How many rows of each class are not ignored in each scenario, int64 [66, K]."""
    C = len(STATUSES)
    counts = np.bincount(rows.label * C + _combine(rows), minlength=K * C).reshape(K, C)
    is_counted = (STATUSES != IGNORED).T[STATUS_OF].astype(np.int64)
    result: Places = np.matmul(is_counted, counts.T)
    return result


def _combine(rows: _Rows) -> Places:
    """The place in STATUSES of the kind of error of each row and its statuses before and after."""
    kind = np.where(rows.kind == NO_ERROR, MISS, rows.kind)  # MISS is in no subset of repairs
    return (kind * 9 + rows.before * 3 + rows.after).astype(np.int64)


def _tabulate_statuses() -> NDArray[np.uint8]:
    """Status of each combination in each subset of repairs, and without false rows; [54, 33]."""
    is_repaired = (np.arange(REPAIRS)[:, np.newaxis] >> np.arange(MISS + 1)) & 1 == 1
    table = np.empty(((MISS + 1) * 9, REPAIRS + 1), np.uint8)
    for value, statuses in enumerate(table):
        kind, before, after = value // 9, value // 3 % 3, value % 3
        statuses[:REPAIRS] = np.where(is_repaired[:, kind], after, before)
        statuses[REPAIRS] = IGNORED if before == FALSE_POSITIVE else before
    return table


STATUSES = _tabulate_statuses()


def _mean(AP: Floats, is_defined: Flags) -> Floats:
    """The mean over classes that are defined, float64 [S]; NaN if none is."""
    is_defined = np.broadcast_to(is_defined, AP.shape)
    counts = is_defined.sum(axis=1)
    sums = np.where(is_defined, AP, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _shapley(values: Floats) -> Floats:
    """The Shapley value of each kind, float64 [6, ...], of the values [64, ...] of all subsets."""
    n = len(ERRORS)
    subsets = np.arange(SUBSETS)
    sizes = np.array([bin(subset).count("1") for subset in subsets])
    shares = []
    for kind in range(n):
        without = subsets[subsets >> kind & 1 == 0]
        weights = np.array(
            [math.factorial(s) * math.factorial(n - 1 - s) for s in sizes[without]]
        ) / math.factorial(n)
        gains = values[without | 1 << kind] - values[without]
        shares.append(np.tensordot(weights, gains, axes=1))
    return np.array(shares)


def _class_costs(
    classes: tuple[str, ...], kinds: NDArray[np.int64], grid: Floats
) -> dict[str, ClassCosts]:
    gains, shares = grid[ALONE] - grid[0], _shapley(grid[:SUBSETS])
    return {
        name: ClassCosts(
            AP=float(grid[0, k]),
            counts=_name(kinds[:, k]),
            gains=_name(gains[:, k]),
            shares=_name(shares[:, k]),
        )
        for k, name in enumerate(classes)
    }


def _count_kinds(errors: Errors, table: MatchTable, positives: Places) -> NDArray[np.int64]:
    """The number of errors of each kind and class, int64 [6, K]."""
    K = len(table.classes)
    is_error = errors.kind != NO_ERROR
    kind = errors.kind[is_error].astype(np.int64)
    counts = np.bincount(kind * K + table.label[is_error], minlength=6 * K).reshape(6, K)
    counts[MISS] = positives[0] - positives[REPAIRS]
    return counts


def _name(values: NDArray[Any]) -> dict[str, Any]:
    """Kind of error to its value, as Python's number."""
    return dict(zip(ERRORS, values.tolist(), strict=True))


def _keep_best(detections: Detections, cap: int) -> Detections:
    """The `cap` best detections of each image, over all classes; of equal scores the first."""
    order = np.lexsort((detections.row, -detections.score, detections.image))
    image = detections.image[order]
    rank = np.arange(len(order)) - np.searchsorted(image, image)
    keep = np.zeros(len(order), bool)
    keep[order] = rank < cap
    return row_subset(detections, keep)


def _status_of_tidecv(pairs: Pairs, table: MatchTable, iou: float) -> NDArray[np.uint8]:
    """Statuses with tidecv's own rule for what is ignored: more than `iou` of it, not as much."""
    overlap = pairs.overlap
    row = np.repeat(np.arange(len(table)), np.diff(overlap.start))
    is_inside = (
        ~pairs.is_counted[overlap.truth]
        & (pairs.ground_truth.label[overlap.truth] == table.label[row])
        & (overlap.iou > iou)
    )
    status: NDArray[np.uint8] = table.status[0, 0].copy()
    is_true = status == TRUE_POSITIVE
    status[~is_true] = FALSE_POSITIVE
    ignored = row[is_inside]
    status[ignored[~is_true[ignored]]] = IGNORED
    return status
