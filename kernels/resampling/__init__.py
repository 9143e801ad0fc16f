"""Resampling: average precision and recall of data in which every image stands so many times.

One kernel serves the bootstrap, groups of images, leaving images out and permutation tests; its
derivative with respect to the weights, the influence of each image, serves standard errors without
random numbers.

Sources: COCOeval.accumulate of pycocotools 2.0.11 and VOCap.m of the VOC2012 development kit, on
the resampled data.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upmap.kernels import import_native, select_implementation
from upmap.kernels.columns import (
    Column,
    exact_array,
    validate_columns,
    validate_within,
)
from upmap.kernels.counts import MAX_THRESHOLDS, validate_count, validate_threads
from upmap.kernels.resampling.contract import (
    MAX_AREAS,
    MAX_COPIES,
    Floats,
    Influence,
    InfluenceArrays,
    InfluenceFunction,
    InfluenceSumArrays,
    InfluenceSummer,
    InfluenceSums,
    Outcomes,
    Quantities,
    Resampler,
    Weights,
)

if TYPE_CHECKING:
    from upmap.kernels.resampling import native
else:
    native = import_native("resampling")

__all__ = [
    "IMPLEMENTATIONS",
    "MAX_COPIES",
    "Influence",
    "InfluenceSums",
    "Outcomes",
    "Quantities",
    "influence",
    "regroup",
    "resample",
    "sum_influence",
]

MAX_IMAGES = 2**31 - 1  # indices of images are int32
MAX_WEIGHT = 2**31 - 1  # what the weights of a class's rows may add up to
MAX_NUMBERS = 2**44  # of the result, 128 TB: what no machine has, and no size overflows


def _native_resample(
    outcomes: Outcomes,
    weights: Weights,
    quantities: Quantities,
    recall_points: Floats | None,
    threads: int,
) -> Floats:
    status = _by_detection(outcomes)
    return native.resample(outcomes, status, weights, quantities, recall_points, threads, "")


def _native_influence(outcomes: Outcomes, quantities: Quantities, threads: int) -> InfluenceArrays:
    return native.influence(outcomes, _by_detection(outcomes), quantities, threads)


def _native_sum_influence(
    outcomes: Outcomes, quantities: Quantities, threads: int
) -> InfluenceSumArrays:
    return native.sum_influence(outcomes, _by_detection(outcomes), quantities, threads)


def _reference_resample(
    outcomes: Outcomes,
    weights: Weights,
    quantities: Quantities,
    recall_points: Floats | None,
    threads: int,
) -> Floats:
    from upmap.kernels.resampling import reference

    return reference.resample(outcomes, weights, quantities, recall_points)


def _reference_influence(
    outcomes: Outcomes, quantities: Quantities, threads: int
) -> InfluenceArrays:
    from upmap.kernels.resampling import reference

    return reference.influence(outcomes, quantities)


def _reference_sum_influence(
    outcomes: Outcomes, quantities: Quantities, threads: int
) -> InfluenceSumArrays:
    from upmap.kernels.resampling import reference

    return reference.sum_influence(outcomes, quantities)


def _by_detection(outcomes: Outcomes) -> NDArray[np.uint8]:
    """The status as [N, A, T], as matching makes it: no copy."""
    return np.ascontiguousarray(np.moveaxis(outcomes.status, 2, 0))


class Functions(NamedTuple):
    """What an implementation has."""

    resample: Resampler
    influence: InfluenceFunction
    sum_influence: InfluenceSummer


IMPLEMENTATIONS: Mapping[str, Functions | None] = {
    "native": None
    if native is None
    else Functions(_native_resample, _native_influence, _native_sum_influence),
    "reference": Functions(_reference_resample, _reference_influence, _reference_sum_influence),
}
Implementation = Literal["native", "reference"]


def resample(
    outcomes: Outcomes,
    weights: ArrayLike,
    quantities: Quantities,
    *,
    recall_points: Floats | None,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Floats:
    """The quantities of every class in B replicates of the data.

    In a replicate image i stands weights[b, i] times, with its detections and its positives; the
    copies of a detection stand next to each other in the curve. That is the order of resampled
    data, except within an image that has several detections of one class and equal score.

    Args:
        outcomes: Matched detections and positives.
        weights: uint8 [B, I], how many times each image stands in each replicate.
        quantities: Q numbers to compute of each class.
        recall_points: float64 [R], ascending, where precision is sampled; None for the area under
            all points.
        threads: Maximum number of threads; 0 uses all cores. The result does not depend on it.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Returns:
        float64 [Q, K, B]; NaN where the replicate has no positives of the class. Recall is exact to
        rounding. Average precision is within 1e-6 where precision is sampled and the class has
        fewer than 100,000 positives, and within 1e-12 otherwise.

    Raises:
        TypeError: If a column does not hold numbers.
        ValueError: If shapes disagree, values are not what they may be, or `impl` is unknown or
            not built.
    """
    function = select_implementation(IMPLEMENTATIONS, impl, "resampling").resample
    outcomes = _validate_outcomes(outcomes)
    quantities = _validate_quantities(quantities, outcomes)
    weights = _validate_weights(weights, outcomes)
    points = None if recall_points is None else _validate_points(recall_points)
    if len(quantities.area) * (len(outcomes.start) - 1) * len(weights) > MAX_NUMBERS:
        raise ValueError(f"{len(weights)} replicates are too many")
    return function(outcomes, weights, quantities, points, validate_threads(threads))


def influence(
    outcomes: Outcomes,
    quantities: Quantities,
    *,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Influence:
    """The influence of each image on the quantities of every class.

    Args:
        outcomes: Matched detections and positives.
        quantities: Q numbers of each class.
        threads: Maximum number of threads; 0 uses all cores. The result does not depend on it.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        TypeError: If a column does not hold numbers.
        ValueError: If shapes disagree, values are not what they may be, or `impl` is unknown or
            not built.
    """
    function = select_implementation(IMPLEMENTATIONS, impl, "resampling").influence
    outcomes = _validate_outcomes(outcomes)
    quantities = _validate_quantities(quantities, outcomes)
    return Influence(*function(outcomes, quantities, validate_threads(threads)))


def sum_influence(
    outcomes: Outcomes,
    quantities: Quantities,
    *,
    threads: int = 0,
    impl: Implementation | None = None,
) -> InfluenceSums:
    """What standard errors need of the influence of images, without the influence of each.

    Args:
        outcomes: Matched detections and positives.
        quantities: Q numbers of each class.
        threads: Maximum number of threads; 0 uses all cores. The result does not depend on it.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        TypeError: If a column does not hold numbers.
        ValueError: If shapes disagree, values are not what they may be, or `impl` is unknown or
            not built.
    """
    function = select_implementation(IMPLEMENTATIONS, impl, "resampling").sum_influence
    outcomes = _validate_outcomes(outcomes)
    quantities = _validate_quantities(quantities, outcomes)
    return InfluenceSums(*function(outcomes, quantities, validate_threads(threads)))


def regroup(outcomes: Outcomes, group: ArrayLike, groups: int) -> Outcomes:
    """The outcomes with groups of images (videos, scenes, patients) in place of images.

    Args:
        outcomes: Matched detections and positives.
        group: int32 [I], the group of each image, 0 to groups - 1.
        groups: The number of groups.

    Raises:
        TypeError: If `group` does not hold numbers.
        ValueError: If `group` has another shape or other values.
    """
    index = exact_array("group", group, np.int32)
    if index.shape != (outcomes.images,):
        raise ValueError(f"group must be [{outcomes.images}], not {list(index.shape)}")
    validate_within("group", index, 0, groups - 1)
    return replace(
        outcomes,
        images=groups,
        image=index[outcomes.image],
        positive_image=index[outcomes.positive_image],
    )


OUTCOME_COLUMNS = {
    "rank": Column(np.int32, ("N",)),
    "image": Column(np.int32, ("N",)),
    "start": Column(np.int64, ("K + 1",)),
    "positive_image": Column(np.int32, ("G",)),
    "positive_label": Column(np.int32, ("G",)),
    "positive_areas": Column(np.uint64, ("G",)),
}
QUANTITY_COLUMNS = {
    "is_recall": Column(np.bool_, ("Q",)),
    "area": Column(np.int32, ("Q",)),
    "max_dets": Column(np.int64, ("Q",)),
    "thresholds": Column(np.uint64, ("Q",)),
}


def _validate_outcomes(outcomes: Outcomes) -> Outcomes:
    images = validate_count("outcomes.images", outcomes.images, MAX_IMAGES)
    columns = validate_columns("outcomes", outcomes, OUTCOME_COLUMNS)
    status = np.asarray(outcomes.status)
    N = len(columns["rank"])
    if status.ndim != 3 or status.shape[2] != N:
        raise ValueError(f"outcomes.status must be [A, T, {N}], not {list(status.shape)}")
    A, T, _ = status.shape
    if not (1 <= A <= MAX_AREAS and 1 <= T <= MAX_THRESHOLDS):
        limits = f"1 to {MAX_AREAS} area ranges and 1 to {MAX_THRESHOLDS} IoU thresholds"
        raise ValueError(f"outcomes.status must have {limits}, not {A} and {T}")
    by_detection = exact_array("outcomes.status", np.moveaxis(status, 2, 0), np.uint8)
    validate_within("outcomes.rank", columns["rank"], 0)
    validate_within("outcomes.image", columns["image"], 0, images - 1)
    validate_within("outcomes.positive_image", columns["positive_image"], 0, images - 1)
    start, label = columns["start"], columns["positive_label"]
    if not len(start) or (start[0], start[-1]) != (0, N) or (np.diff(start) < 0).any():
        raise ValueError(f"outcomes.start must ascend from 0 to {N}")
    validate_within("outcomes.positive_label", label, 0, len(start) - 2)
    if (np.diff(label) < 0).any():
        raise ValueError("outcomes.positive_label must ascend")
    if A < MAX_AREAS and (columns["positive_areas"] >> np.uint64(A)).any():
        raise ValueError(f"outcomes.positive_areas must have bits 0 to {A - 1} only")
    return Outcomes(images=images, status=np.moveaxis(by_detection, 0, 2), **columns)


def _validate_quantities(quantities: Quantities, outcomes: Outcomes) -> Quantities:
    columns = validate_columns("quantities", quantities, QUANTITY_COLUMNS)
    A, T, _ = outcomes.status.shape
    validate_within("quantities.area", columns["area"], 0, A - 1)
    thresholds = columns["thresholds"]
    is_beyond = (thresholds >> np.uint64(T)).any() if T < MAX_THRESHOLDS else False
    if is_beyond or (thresholds == 0).any():
        raise ValueError(
            f"quantities.thresholds must have bits 0 to {T - 1} only, and one at least"
        )
    return Quantities(**columns)


def _validate_weights(weights: ArrayLike, outcomes: Outcomes) -> Weights:
    array = np.asarray(weights)
    if array.ndim != 2 or array.shape[1] != outcomes.images:
        raise ValueError(f"weights must be [B, {outcomes.images}], not {list(array.shape)}")
    if array.dtype != np.uint8 and array.dtype.kind in "iuf" and array.size:
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= MAX_COPIES):  # NaN is neither
            raise ValueError(f"weights must lie in 0 .. {MAX_COPIES}, not {low} .. {high}")
    exact: NDArray[Any] = exact_array("weights", array, np.uint8)
    largest = max(int(np.diff(outcomes.start).max(initial=0)), len(outcomes.positive_image))
    if largest * int(exact.max(initial=0)) * outcomes.status.shape[1] > MAX_WEIGHT:
        raise ValueError(f"the weights of {largest} rows may add up to more than {MAX_WEIGHT}")
    return exact


def _validate_points(recall_points: Floats) -> Floats:
    points = exact_array("recall_points", recall_points, np.float64)
    if points.ndim != 1 or not len(points):
        raise ValueError(f"recall_points must be a list of numbers, not {list(points.shape)}")
    if not np.isfinite(points).all() or (np.diff(points) < 0).any():
        raise ValueError("recall_points must ascend and be finite")
    return points
