"""The scores of a match table: the summary of its protocol, and the scores of each class.

Source: COCOeval.summarize of pycocotools.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import Implementation
from upmap.kernels.accumulation import Accumulated, TieOrder
from upmap.metrics.curves import Curve, accumulate, precision_recall_curve, precision_samples
from upmap.metrics.match_table import MatchTable
from upmap.metrics.means import mean_without_nan
from upmap.metrics.protocols import Metric, Protocol
from upmap.metrics.protocols.protocol import find_threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from upmap.metrics.analysis.uncertainty import Uncertainty

__all__ = ["ClassScores", "Evaluation", "evaluate_matches"]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """The scores of a class; NaN is undefined.

    Attributes:
        name: The class.
        AP: Average precision, mean over the protocol's IoU thresholds.
        AP_at: Average precision at each IoU threshold.
        recall: The final recall, mean over the IoU thresholds.
        positives: Counted ground truths.
        detections: All detections of the class.
    """

    name: str
    AP: float
    AP_at: Mapping[float, float]
    recall: float
    positives: int
    detections: int

    def average_precision(self, iou: float | None = None) -> float:
        """The average precision at an IoU threshold, NaN where the protocol does not have it.

        Args:
            iou: The threshold; None for the mean over all of them.
        """
        if iou is None:
            return self.AP
        t = find_threshold(self.AP_at, iou)
        return math.nan if t is None else [*self.AP_at.values()][t]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The result of evaluating detections under a protocol.

    Attributes:
        protocol: The protocol.
        metrics: The protocol's summary, name to value; NaN is undefined.
        per_class: Class name to its scores.
        match_table: The status of every detection.
    """

    protocol: Protocol
    metrics: Mapping[str, float]
    per_class: Mapping[str, ClassScores]
    match_table: MatchTable

    @property
    def mAP(self) -> float:
        """The first number of the summary: mAP for VOC, AP for COCO."""
        return next(iter(self.metrics.values()))

    @property
    def undefined_classes(self) -> tuple[str, ...]:
        """The classes without counted ground truth, which the means leave out."""
        return tuple(name for name, scores in self.per_class.items() if scores.positives == 0)

    def uncertainty(self, **options: Any) -> "Uncertainty":
        """Standard errors and confidence intervals of these numbers.

        Args:
            **options: Of `estimate_uncertainty`: method, replicates, seed, groups, level ...
        """
        from upmap.metrics.analysis.uncertainty import estimate_uncertainty

        return estimate_uncertainty(self.match_table, evaluation=self, **options)

    def accumulate(self, *, threads: int = 0) -> Accumulated:
        """Precision and recall of every class, IoU threshold, area range and cap.

        Recomputed on every call.

        Args:
            threads: Maximum number of threads; 0 uses all cores.
        """
        return accumulate(self.match_table, threads=threads)

    def curve(
        self,
        name: str,
        *,
        iou: float | None = None,
        area: str = "all",
        max_dets: float | None = None,
    ) -> Curve:
        """The precision-recall curve of a class.

        Args:
            name: The class.
            iou: One of the protocol's IoU thresholds; None for its first.
            area: The name of one of its area ranges.
            max_dets: One of its caps; None for its last.

        Raises:
            ValueError: If the protocol has no such class, threshold, area range or cap.
        """
        protocol, table = self.protocol, self.match_table
        if not table.has_areas and _is_limited(protocol, area):
            raise ValueError(f"area {area!r} is not defined: the sizes of the images are not known")
        ranges = tuple(limits.name for limits in protocol.area_ranges)
        t = 0 if iou is None else find_threshold(protocol.iou_thresholds, iou)
        if t is None:
            raise ValueError(f"iou must be one of {protocol.iou_thresholds}, not {iou}")
        return precision_recall_curve(
            table,
            _place("class", name, table.classes),
            iou=t,
            area=_place("area", area, ranges),
            cap=-1 if max_dets is None else _place("max_dets", max_dets, protocol.max_dets),
        )

    def plot(
        self,
        *,
        classes: Sequence[str] | None = None,
        iou: float | None = None,
        level: float = 0.95,
    ) -> "tuple[Axes, Axes]":
        """Draws precision-recall curves, and the AP of classes with intervals.

        Needs matplotlib: `pip install "upmap[plots]"`. See `metrics.plots.plot_evaluation`.
        """
        from upmap.metrics.plots import plot_evaluation

        return plot_evaluation(self, classes=classes, iou=iou, level=level)

    def _repr_html_(self) -> str:
        from upmap.metrics.reports.notebook import evaluation_html

        return evaluation_html(self)


def evaluate_matches(
    table: MatchTable,
    *,
    ties: TieOrder = "kept",
    threads: int = 0,
    impl: Implementation | None = None,
) -> Evaluation:
    """Computes the scores of a match table.

    Args:
        table: The match table, possibly that of several tables (`concatenate`).
        ties: How detections of one class and equal score stand: "kept" as the table has them;
            "true_first" and "false_first" among their equals give the largest and the smallest AP.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.
    """
    protocol = table.protocol
    caps, classes = _curve_caps(protocol), _classes_to_average(table)
    accumulated = accumulate(
        table, caps=caps, classes=classes, ties=ties, threads=threads, impl=impl
    )
    precision, recall = precision_samples(accumulated), accumulated.recall[:, np.newaxis]
    metrics = {}
    # Under a cap, precision is [T, R, K, A]; recall is the same with R = 1.
    for name, metric in protocol.summary.items():
        cap = metric.cap % len(protocol.max_dets)
        samples = recall[..., cap] if metric.quantity == "AR" else precision[..., caps.index(cap)]
        metrics[name] = math.nan
        if table.has_areas or not _is_limited(protocol, metric.area):
            metrics[name] = _summary(metric, protocol, samples)
    per_class = _per_class(table, classes, precision[:, :, :, 0, -1], recall[:, 0, :, 0, -1])
    return Evaluation(protocol, metrics, per_class, table)


def _curve_caps(protocol: Protocol) -> list[int]:
    """The places of the caps of which the summary has precisions; always with the last."""
    count = len(protocol.max_dets)
    caps = {metric.cap % count for metric in protocol.summary.values() if metric.quantity == "AP"}
    return sorted({*caps, count - 1})


def _classes_to_average(table: MatchTable) -> NDArray[np.int64]:
    """The places of the classes with positives; the scores of all others are NaN.

    At least two where the table has two classes: numpy adds the samples of a single class in
    another order than those of several, and a class without positives must not change the last bit
    of a score.
    """
    has_positives = np.asarray(table.positives.any(axis=1))
    others = np.flatnonzero(~has_positives)[: max(0, 2 - int(has_positives.sum()))]
    has_positives[others] = True
    return np.flatnonzero(has_positives)


def _per_class(
    table: MatchTable,
    classes: NDArray[np.int64],
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
) -> dict[str, ClassScores]:
    """Class name to scores, from precision [T, R, K] and recall [T, K] of `classes`."""
    T, R, K = precision.shape
    # A row for each class: the order in which numpy adds, so the last bit, follows from the layout.
    samples = np.ascontiguousarray(precision.reshape(T * R, K).T)
    thresholds = table.protocol.iou_thresholds
    columns = zip(
        classes.tolist(),
        samples.mean(axis=1).tolist(),
        precision.mean(axis=1).T.tolist(),
        np.ascontiguousarray(recall.T).mean(axis=1).tolist(),
        strict=True,
    )
    scores = {
        k: (AP, dict(zip(thresholds, AP_at, strict=True)), recall)
        for k, AP, AP_at, recall in columns
    }
    # The scores of classes that are not in `classes`.
    undefined = (math.nan, dict.fromkeys(thresholds, math.nan), math.nan)
    counts = zip(table.positives[:, 0].tolist(), np.diff(table.start).tolist(), strict=True)
    return {
        name: ClassScores(name, *scores.get(k, undefined), *count)
        for k, (name, count) in enumerate(zip(table.classes, counts, strict=True))
    }


def _is_limited(protocol: Protocol, area: str) -> bool:
    """Whether an area range leaves out objects by their area."""
    return any(limits.name == area and limits.is_limited for limits in protocol.area_ranges)


def _summary(metric: Metric, protocol: Protocol, samples: NDArray[np.float64]) -> float:
    """The mean of the samples that are defined, as in COCOeval.summarize.

    Args:
        metric: Which thresholds and area range.
        protocol: The protocol.
        samples: float64 [T, R, K, A], under the metric's cap.
    """
    names = [limits.name for limits in protocol.area_ranges]
    if metric.area not in names:
        return math.nan
    samples = samples[..., names.index(metric.area)]
    if metric.iou is not None:
        t = find_threshold(protocol.iou_thresholds, metric.iou)
        if t is None:
            return math.nan
        samples = samples[t : t + 1]
    return mean_without_nan(samples)


def _place(name: str, value: Any, values: tuple[Any, ...]) -> int:
    if value not in values:
        raise ValueError(f"{name} must be one of {', '.join(map(str, values))}, not {value!r}")
    return values.index(value)
