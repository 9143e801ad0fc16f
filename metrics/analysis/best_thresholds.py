"""How sure the best F1 is, where each replicate of the data has its own best threshold.

The best F1 is a maximum over the data, and its threshold is chosen on the same data. To hold the
threshold would be to pretend that it is known; so each replicate chooses it again.

Source: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.resampling import Outcomes
from upmap.metrics.analysis.counted_rows import CountedRows, select_rows
from upmap.metrics.analysis.intervals import two_sided_quantile
from upmap.metrics.analysis.operating_points import OperatingPoints
from upmap.metrics.analysis.uncertainty import (
    Estimate,
    Groups,
    count_positive_images,
    deviation,
    draw_weights,
    estimate_around,
    group_outcomes,
)
from upmap.metrics.match_table import MatchTable
from upmap.progress import open_bar

__all__ = ["BestF1", "estimate_best_F1", "resample_best_F1"]

Floats = NDArray[np.float64]
Weights = NDArray[np.uint8]
BATCH = 2**22  # values of a number for each row and replicate at a time


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BestF1:
    """The largest F1 with its uncertainty; NaN is undefined.

    Attributes:
        mean: The largest mean over classes, at one threshold for all.
        per_class: Class name to the largest F1 of the class.
        replicates: How many there were.
    """

    mean: Estimate
    per_class: Mapping[str, Estimate]
    replicates: int

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        return {
            "mean": asdict(self.mean),
            "per_class": {name: asdict(estimate) for name, estimate in self.per_class.items()},
            "replicates": self.replicates,
        }


def estimate_best_F1(
    table: MatchTable,
    points: OperatingPoints,
    *,
    replicates: int = 1000,
    seed: int = 0,
    groups: Groups | None = None,
    level: float = 0.95,
    show_progress: bool = False,
) -> BestF1:
    """The best F1 of each class, and of all at one threshold, with intervals of the bootstrap.

    Args:
        table: The match table.
        points: Its operating points, at the protocol's first IoU threshold.
        replicates: At least 2.
        seed: Of the random replicates.
        groups: See `estimate_uncertainty`.
        level: The probability that an interval covers, in (0, 1).
        show_progress: Whether to draw a progress bar on stderr.

    Raises:
        ValueError: If an option has a value that it may not have, or an image has no group.
    """
    names, outcomes = group_outcomes(table, groups)
    quantile = two_sided_quantile(level, None if groups is None else len(names))
    samples = []
    count = max(1, BATCH // max(1, len(table)))  # replicates at a time
    with open_bar("best F1", total=math.ceil(replicates / count), show=show_progress) as step:
        for part in draw_weights(names, "multinomial", replicates, seed):
            for first in range(0, len(part), count):
                samples.append(resample_best_F1(table, outcomes, part[first : first + count]))
                step()
    errors = deviation(np.concatenate(samples))
    images = count_positive_images(outcomes, 0)
    # Nothing says how sure a number is that rests on one image.
    errors[1:][images < 2] = np.nan
    errors[0] = errors[0] if images.sum() > 1 else np.nan
    values = [points.mean_F1, *(point.F1 for point in points.best_F1.values())]
    mean, *of_classes = (
        estimate_around(value, error, quantile)
        for value, error in zip(values, errors.tolist(), strict=True)
    )
    per_class = dict(zip(points.best_F1, of_classes, strict=True))
    return BestF1(mean=mean, per_class=per_class, replicates=replicates)


def resample_best_F1(table: MatchTable, outcomes: Outcomes, weights: Weights) -> Floats:
    """The largest F1 in replicates of the data, each at the threshold that is best there.

    Args:
        table: The match table.
        outcomes: Its outcomes, of images or of groups.
        weights: uint8 [B, I], how many times each image stands in each replicate.

    Returns:
        float64 [B, 1 + K]: the largest mean over the classes that have objects in the replicate, at
        one threshold for all, and that of each class. NaN without objects.
    """
    rows = select_rows(table)
    K = len(table.classes)
    positives = _count_positives(outcomes, weights, K)
    best = np.full((len(weights), 1 + K), np.nan)
    scores, changes = [np.zeros(0)], [np.zeros((len(weights), 0))]
    for k in range(K):
        score, F1 = _class_curve(rows, outcomes, weights, k, positives[:, k])
        best[:, 1 + k] = np.where(positives[:, k] > 0, F1.max(axis=1, initial=0.0), np.nan)
        scores.append(score)
        changes.append(np.diff(F1, axis=1, prepend=0.0))
    # F1 of a class changes at its own scores alone, so its mean is one walk over all scores.
    score = np.concatenate(scores)
    order = np.argsort(-score, kind="stable")
    total = np.cumsum(np.concatenate(changes, axis=1)[:, order], axis=1)
    is_end = np.append(np.diff(score[order]) != 0, True)[: len(score)]
    defined = np.count_nonzero(positives, axis=1)
    largest = total[:, is_end].max(axis=1, initial=0.0)
    best[:, 0] = np.where(defined > 0, largest / np.maximum(defined, 1), np.nan)
    return best


def _count_positives(outcomes: Outcomes, weights: Weights, K: int) -> Floats:
    """The positives of each class in the first area range, by weight, float64 [B, K]."""
    is_inside = outcomes.positive_areas & np.uint64(1) == 1
    image, label = outcomes.positive_image[is_inside], outcomes.positive_label[is_inside]
    counts = np.zeros((len(weights), K))
    for row, weight in zip(counts, weights, strict=True):
        row[:] = np.bincount(label, weights=weight[image], minlength=K)
    return counts


def _class_curve(
    rows: CountedRows, outcomes: Outcomes, weights: Weights, k: int, positives: Floats
) -> tuple[Floats, Floats]:
    """The scores of a class at ends of equal ones, [n], and F1 there, [B, n]; 0 if undefined."""
    part = rows.of_class(k)
    ends = np.flatnonzero(rows.is_last_of_ties[part])
    weight = weights[:, outcomes.image[rows.row[part]]]
    reported = np.cumsum(weight, axis=1, dtype=np.float64)[:, ends]
    true = np.cumsum(weight * rows.is_true[part], axis=1, dtype=np.float64)[:, ends]
    objects = positives[:, np.newaxis]
    F1 = np.where(objects > 0, 2 * true / np.maximum(reported + objects, 1), 0.0)
    return rows.score[part][ends], F1
