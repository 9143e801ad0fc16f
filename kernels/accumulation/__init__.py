"""Accumulation: from matches to precision, recall and average precision.

Sources: COCOeval.accumulate of pycocotools 2.0.11; VOCap.m of the VOC2012 development kit.
`reference.py` defines the numbers; `native.cpp` computes the same to the last bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from upmap.kernels import Implementation, import_native, select_implementation
from upmap.kernels.accumulation.contract import (
    MAX_ENTRIES,
    TIE_ORDERS,
    Accumulated,
    Caps,
    Floats,
    Settings,
    TieOrder,
)
from upmap.kernels.columns import (
    Column,
    exact_array,
    validate_columns,
    validate_within,
)
from upmap.kernels.counts import validate_threads
from upmap.kernels.matching.contract import Matches

if TYPE_CHECKING:
    from upmap.kernels.accumulation import native
else:
    native = import_native("accumulation")

__all__ = ["IMPLEMENTATIONS", "Accumulated", "TieOrder", "accumulate"]

MATCH_COLUMNS = {
    "rank": Column(np.int32, ("N",)),
    "score": Column(np.float64, ("N",)),
    "positives": Column(np.int64, ("K", "A")),
    "start": Column(np.int64, ("K + 1",)),
}

Accumulator = Callable[[Matches, Settings, int], Accumulated]


def accumulate(
    matches: Matches,
    *,
    recall_points: Floats,
    max_dets: Caps,
    epsilon: float,
    curve_caps: Caps | None = None,
    with_areas: bool = True,
    with_scores: bool = False,
    ties: TieOrder = "kept",
    threads: SupportsIndex = 0,
    impl: Implementation | None = None,
) -> Accumulated:
    """Accumulates matches into precision and recall.

    Args:
        matches: N detections of K classes; image, label and row are not read.
        recall_points: float64 [R], ascending; R may be 0 where only all_points is needed.
        max_dets: int64 [M]; detections of this rank or beyond are left out.
        epsilon: Added to the denominator of the precision, as pycocotools does; 0 otherwise.
            Finite and not negative.
        curve_caps: int64 [C], places in max_dets, ascending: the caps under which precision, areas
            and scores are computed. None for all, C = M. Recall alone takes a fraction of the time.
        with_areas: Whether to return all_points too.
        with_scores: Whether to return the scores too.
        ties: How detections of one class and equal score stand: "kept" as they are; "true_first" or
            "false_first" among their equals, for each area range and threshold on its own, which
            gives the largest and the smallest precision that any order of them has at each recall.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        TypeError: If a column does not hold numbers.
        ValueError: If shapes disagree, a value is out of range, or `impl` is unknown or not built.
    """
    accumulator = select_implementation(IMPLEMENTATIONS, impl, "accumulation")
    matches = _validate_matches(matches)
    caps = _validate_list("max_dets", max_dets, np.int64)
    settings = Settings(
        recall_points=_validate_list("recall_points", recall_points, np.float64),
        max_dets=caps,
        curve_caps=_validate_places(curve_caps, len(caps)),
        epsilon=float(epsilon),
        with_areas=bool(with_areas),
        with_scores=bool(with_scores),
        ties=ties,
    )
    _validate_settings(settings, matches)
    return accumulator(matches, settings, validate_threads(threads))


def _validate_matches(matches: Matches) -> Matches:
    columns = validate_columns("matches", matches, MATCH_COLUMNS)
    status = np.asarray(matches.status)
    N, (K, A) = len(columns["rank"]), columns["positives"].shape
    if status.ndim != 3 or status.shape[0] != A or status.shape[2] != N:
        raise ValueError(f"matches.status must be [{A}, T, {N}], not {list(status.shape)}")
    # The native matching kernel stores [N, A, T], which needs no copy then.
    by_detection = exact_array("matches.status", np.moveaxis(status, 2, 0), np.uint8)
    validate_within("matches.rank", columns["rank"], 0)
    validate_within("matches.positives", columns["positives"], 0)
    start = columns["start"]
    if len(start) != K + 1 or (start[0], start[-1]) != (0, N) or (np.diff(start) < 0).any():
        raise ValueError(f"matches.start must be [{K + 1}] and ascend from 0 to {N}")
    return replace(matches, status=np.moveaxis(by_detection, 0, 2), **columns)


def _validate_list(name: str, values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    array = exact_array(name, values, dtype)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a list of numbers, not {list(array.shape)}")
    return array


def _validate_places(curve_caps: Caps | None, caps: int) -> Caps:
    """The places of the caps in max_dets."""
    if curve_caps is None:
        return np.arange(caps)
    places = _validate_list("curve_caps", curve_caps, np.int64)
    validate_within("curve_caps", places, 0, caps - 1)
    if (np.diff(places) <= 0).any():
        raise ValueError("curve_caps must ascend")
    return places


def _validate_settings(settings: Settings, matches: Matches) -> None:
    """Checks the numbers, and that the arrays of the result can exist."""
    points = settings.recall_points
    if np.isnan(points).any() or (np.diff(points) < 0).any():
        raise ValueError("recall_points must ascend")
    if not 0 <= settings.epsilon < math.inf:
        raise ValueError(f"epsilon must be finite and at least 0, not {settings.epsilon}")
    if settings.ties not in TIE_ORDERS:
        raise ValueError(f"ties must be one of {', '.join(TIE_ORDERS)}, not {settings.ties!r}")
    curves = matches.status.shape[1] * matches.positives.size * len(settings.max_dets)
    entries = curves * (len(points) + 1)
    if entries > MAX_ENTRIES:
        raise ValueError(f"{entries} points of curves are too many")


def _accumulate_natively(matches: Matches, settings: Settings, threads: int) -> Accumulated:
    # Back to [N, A, T], in which _validate_matches left it.
    status = np.ascontiguousarray(np.moveaxis(matches.status, 2, 0))
    precision, recall, all_points, scores = native.accumulate(
        matches,
        status,
        settings.recall_points,
        settings.max_dets[settings.curve_caps],
        settings.epsilon,
        settings.with_areas,
        settings.with_scores,
        TIE_ORDERS.index(settings.ties),
        threads,
    )
    if len(settings.curve_caps) < len(settings.max_dets):
        # A walk that only counts is several times as fast as one that draws curves.
        recall = native.recalls(matches, status, settings.max_dets, threads)
    return Accumulated(precision=precision, recall=recall, all_points=all_points, scores=scores)


def _accumulate_by_reference(matches: Matches, settings: Settings, threads: int) -> Accumulated:
    from upmap.kernels.accumulation import reference

    return reference.accumulate(matches, settings)


IMPLEMENTATIONS: Mapping[str, Accumulator | None] = {
    "native": None if native is None else _accumulate_natively,
    "reference": _accumulate_by_reference,
}
