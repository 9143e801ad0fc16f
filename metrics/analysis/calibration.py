"""Whether scores are probabilities: detections of score 0.8 should be right in 80 of 100 cases.

Sources: F. Kueppers, J. Kronenberger, A. Shantia and A. Haselhoff, "Multivariate Confidence
Calibration for Object Detection" (CVPR Workshops 2020), D-ECE; K. Oksuz, T. Joy and P. K. Dokania,
"Towards Building Self-Aware Object Detectors" (CVPR 2023), LaECE.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.metrics.analysis.counted_rows import select_rows
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.match_table import MatchTable
from upmap.metrics.means import mean_without_nan

__all__ = ["Bin", "Calibration", "measure_calibration"]

BINS, CLASS_BINS = 10, 25  # as in the two papers

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """The detections of a range of scores.

    Attributes:
        low: They have scores above it; in the first bin 0 is included.
        high: And up to it.
        count: How many.
        score: Their mean score; NaN if there is none.
        precision: The part that is true; NaN if there is none.
    """

    low: float
    high: float
    count: int
    score: float
    precision: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Calibration:
    """How far scores are from probabilities; NaN is undefined.

    Attributes:
        iou: The IoU threshold.
        threshold: Detections of a smaller score are left out of D_ECE_above.
        D_ECE: The mean of |precision - mean score| over bins, weighted by count. Nearly all
            detections have scores near 0, and rule it.
        D_ECE_above: The same over detections of a score of at least the threshold.
        LaECE: The mean over classes of the same with the sum of IoU in place of the true positives.
        per_class: Class name to its LaECE.
        bins: The bins of D_ECE.
    """

    iou: float
    threshold: float
    D_ECE: float
    D_ECE_above: float
    LaECE: float
    per_class: Mapping[str, float]
    bins: tuple[Bin, ...]

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        names = ("iou", "threshold", "D_ECE", "D_ECE_above", "LaECE")
        return {name: getattr(self, name) for name in names} | {
            "per_class": [{"name": k, "LaECE": value} for k, value in self.per_class.items()],
            "bins": [asdict(part) for part in self.bins],
        }


def measure_calibration(
    pairs: Pairs,
    table: MatchTable,
    *,
    threshold: float = math.nan,
    bins: int = BINS,
    class_bins: int = CLASS_BINS,
) -> Calibration:
    """Measures calibration over the detections that count at the first IoU threshold.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        threshold: The score that is used in practice, for D_ECE_above.
        bins: Of D_ECE.
        class_bins: Of LaECE.

    Raises:
        ValueError: If a score is below 0 or above 1: it is no probability, and clipping it would
            make it one; or if there is no bin.
    """
    if bins < 1 or class_bins < 1:
        raise ValueError(f"bins and class_bins must be at least 1, not {bins} and {class_bins}")
    rows = select_rows(table)
    if len(rows.score) and not 0 <= rows.score.min() <= rows.score.max() <= 1:
        low, high = rows.score.min(), rows.score.max()
        raise ValueError(
            f"scores must lie in [0, 1] to be compared with precision; they reach from {low:g} "
            f"to {high:g} (logits? take their sigmoid)"
        )
    has_objects = rows.positives[rows.label] > 0
    score, is_true = rows.score[has_objects], rows.is_true[has_objects]
    table_of_bins = _fill_bins(score, is_true.astype(np.float64), bins)
    is_above = score >= threshold
    per_class = {}
    for k, name in enumerate(table.classes):
        part = rows.of_class(k)
        quality = pairs.iou[rows.row[part]]
        error = _error(_fill_bins(rows.score[part], quality, class_bins))
        per_class[name] = error if rows.positives[k] else math.nan
    return Calibration(
        iou=table.protocol.iou_thresholds[0],
        threshold=threshold,
        D_ECE=_error(table_of_bins),
        D_ECE_above=_error(_fill_bins(score[is_above], is_true[is_above].astype(float), bins)),
        LaECE=mean_without_nan(np.array(list(per_class.values()))),
        per_class=per_class,
        bins=table_of_bins,
    )


def _fill_bins(score: Floats, quality: Floats, count: int) -> tuple[Bin, ...]:
    """Bins (low, high] of equal width; precision is the mean of `quality`."""
    edges = np.linspace(0, 1, count + 1)
    place = np.maximum(np.searchsorted(edges, score, side="left") - 1, 0)
    counts = np.bincount(place, minlength=count)
    sums = (np.bincount(place, weights=values, minlength=count) for values in (score, quality))
    means = [np.where(counts, total / np.maximum(counts, 1), np.nan).tolist() for total in sums]
    columns = edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), *means
    return tuple(Bin(*values) for values in zip(*columns, strict=True))


def _error(bins: tuple[Bin, ...]) -> float:
    """The mean of |precision - mean score|, weighted by count; NaN without detections."""
    total = sum(part.count for part in bins)
    if not total:
        return math.nan
    parts = (part.count * abs(part.precision - part.score) for part in bins if part.count)
    return math.fsum(parts) / total
