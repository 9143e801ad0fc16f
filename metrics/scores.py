"""From a match table to the numbers that people report: one `Evaluation` per protocol."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from upmap.detection.arrays import ClassNames, detections_from_arrays, ground_truth_from_arrays
from upmap.detection.formats import read
from upmap.detection.formats.class_names import ClassNamesSource
from upmap.detection.inputs import Named
from upmap.detection.tables import Detections, GroundTruth
from upmap.kernels.accumulation import Accumulated
from upmap.metrics.curves import (
    Curve,
    accumulate,
    final_recall,
    precision_recall_curve,
    precision_samples,
)
from upmap.metrics.matching import Implementation, MatchTable, match
from upmap.metrics.protocol import Metric, Protocol

__all__ = ["ClassScores", "Evaluation", "evaluate_matches", "mean_average_precision"]

Arrays = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class's part of an evaluation; NaN is undefined.

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


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The result of evaluating detections under a protocol.

    Attributes:
        protocol: The protocol.
        metrics: The protocol's summary, name to value; NaN is undefined.
        per_class: Class name to its scores.
        match_table: What every detection turned out to be.
    """

    protocol: Protocol
    metrics: Mapping[str, float]
    per_class: Mapping[str, ClassScores]
    match_table: MatchTable

    @property
    def mAP(self) -> float:
        """The protocol's headline number: mAP for VOC, AP for COCO."""
        return next(iter(self.metrics.values()))

    @property
    def undefined_classes(self) -> tuple[str, ...]:
        """The classes without counted ground truth, which the means leave out."""
        return tuple(name for name, scores in self.per_class.items() if scores.positives == 0)

    def accumulate(self) -> Accumulated:
        """Precision and recall of every class, IoU threshold, area range and cap.

        Recomputed on every call.
        """
        return accumulate(self.match_table)

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
        t = 0 if iou is None else _threshold(protocol, iou)
        if t is None:
            raise ValueError(f"iou must be one of {protocol.iou_thresholds}, not {iou}")
        return precision_recall_curve(
            table,
            _place("class", name, table.classes),
            iou=t,
            area=_place("area", area, ranges),
            cap=-1 if max_dets is None else _place("max_dets", max_dets, protocol.max_dets),
        )


def mean_average_precision(
    ground_truth: Named | GroundTruth | Arrays,
    detections: Named | Detections | Arrays,
    *,
    protocol: Protocol,
    image_set: str | None = None,
    class_names: ClassNamesSource | None = None,
    classes: ClassNames | None = None,
    impl: Implementation | None = None,
) -> Evaluation:
    """Evaluates detections against ground truth.

    Args:
        ground_truth: A path (VOC folder or COCO instances file), a table, or one dict per image
            with `boxes` [n, 4] xyxy, `labels` [n] and optionally `difficult`, `iscrowd`, `area`.
        detections: A path (folder of comp4 files or COCO results file), a table, or one dict per
            image with `boxes`, `scores` and `labels`, in the order of the ground truth's. The
            corners in dicts are read in the protocol's own pixel convention.
        protocol: VOC2007, VOC2010, COCO, or any value derived from them.
        image_set: For paths: the name of an image set, or a file that lists image ids.
        class_names: For paths: which class each category id of a COCO results file is, where the
            ground truth has no such ids; a mapping, or a file (`upmap.read_detections`).
        classes: For dicts: the names of integer labels.
        impl: "native" or "reference"; None for the best that is built.

    Raises:
        InputError: If the input is wrong; names the file and line, or the image and key.
        TypeError: If ground truth and detections are of different kinds.

    >>> from upmap.metrics import VOC2007
    >>> truth = [{"boxes": [[1, 1, 10, 10]], "labels": ["cat"]}]
    >>> found = [{"boxes": [[1, 1, 10, 8]], "labels": ["cat"], "scores": [0.9]}]
    >>> round(mean_average_precision(truth, found, protocol=VOC2007).mAP, 6)
    1.0
    """
    if isinstance(ground_truth, Named) and isinstance(detections, Named):
        truth, found = read(ground_truth, detections, image_set=image_set, class_names=class_names)
    elif class_names is not None:
        raise TypeError("class_names is for paths; classes= names the integer labels of dicts")
    else:
        truth, found = _tables(ground_truth, detections, protocol, classes)
    return evaluate_matches(match(truth, found, protocol, impl=impl), impl=impl)


def evaluate_matches(table: MatchTable, *, impl: Implementation | None = None) -> Evaluation:
    """The numbers of a match table.

    Args:
        table: The match table, possibly joined from several.
        impl: "native" or "reference"; None for the best that is built.
    """
    protocol = table.protocol
    caps, classes = _curve_caps(protocol), _classes_to_average(table)
    precision = precision_samples(accumulate(table, caps=caps, classes=classes, impl=impl))
    recall = final_recall(table, classes=classes, impl=impl)[:, np.newaxis]
    metrics = {}
    for name, metric in protocol.summary.items():
        cap = metric.cap % len(protocol.max_dets)
        samples = recall[..., cap] if metric.quantity == "AR" else precision[..., caps.index(cap)]
        metrics[name] = math.nan
        if table.has_areas or not _is_limited(protocol, metric.area):
            metrics[name] = _summary(metric, protocol, samples)
    per_class = _per_class(table, classes, precision[:, :, :, 0, -1], recall[:, 0, :, 0, -1])
    return Evaluation(protocol, metrics, per_class, table)


def _tables(
    ground_truth: Named | GroundTruth | Arrays,
    detections: Named | Detections | Arrays,
    protocol: Protocol,
    classes: ClassNames | None,
) -> tuple[GroundTruth, Detections]:
    if isinstance(ground_truth, GroundTruth) and isinstance(detections, Detections):
        return ground_truth, detections
    if _is_list(ground_truth) and _is_list(detections):
        if len(ground_truth) != len(detections):
            raise ValueError(
                f"expected detections of {len(ground_truth)} images, got {len(detections)}"
            )
        pixels: Literal["inclusive", "continuous"] = (
            "inclusive" if protocol.pixels == "inclusive" else "continuous"
        )
        truth = ground_truth_from_arrays(ground_truth, classes=classes, pixels=pixels)
        return truth, detections_from_arrays(detections, classes=classes, pixels=pixels)
    kinds = f"{type(ground_truth).__name__} and {type(detections).__name__}"
    raise TypeError(f"expected two paths, two tables or two lists of dicts, got {kinds}")


def _is_list(value: object) -> TypeGuard[Arrays]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _curve_caps(protocol: Protocol) -> list[int]:
    """The places of the caps under which precision is wanted; the last is among them."""
    most = len(protocol.max_dets)
    wanted = {metric.cap % most for metric in protocol.summary.values() if metric.quantity == "AP"}
    return sorted({*wanted, most - 1})


def _classes_to_average(table: MatchTable) -> NDArray[np.int64]:
    """The places of the classes with positives; the numbers of all others are NaN.

    At least two, if there are: numpy sums the samples of one class in another order than those of
    several, and a class without positives must not change the last bit of a number.
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
    """Each class's scores, from precision [T, R, K] and recall [T, K] of `classes`."""
    T, R, K = precision.shape
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
    """The mean over thresholds, recall points and classes that are defined, as COCOeval has it.

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
        t = _threshold(protocol, metric.iou)
        if t is None:
            return math.nan
        samples = samples[t : t + 1]
    return _mean(samples)


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else math.nan


def _threshold(protocol: Protocol, iou: float) -> int | None:
    """The place of an IoU threshold, 0.6 being 0.6000000000000001 too."""
    near = [t for t, value in enumerate(protocol.iou_thresholds) if abs(value - iou) < 1e-9]
    return near[0] if near else None


def _place(what: str, value: Any, among: tuple[Any, ...]) -> int:
    if value not in among:
        raise ValueError(f"{what} must be one of {', '.join(map(str, among))}, not {value!r}")
    return among.index(value)
