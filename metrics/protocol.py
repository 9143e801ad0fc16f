"""Evaluation protocols as data: VOC07, VOC2010+, COCO and their variants differ in these choices.

Sources: the VOC2007 and VOC2012 development kits; pycocotools 2.0.11; py-faster-rcnn's voc_eval.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from upmap.detection.tables import Pixels
from upmap.kernels.matching import MAX_DETECTIONS, MAX_THRESHOLDS

__all__ = [
    "CHOICES",
    "COCO",
    "PROTOCOLS",
    "VOC2007",
    "VOC2010",
    "AreaRange",
    "Metric",
    "Protocol",
    "cap_text",
]

Treatment = Literal["count", "ignore", "crowd", "drop"]
CHOICES: dict[str, tuple[str, ...]] = {
    "pixels": (*get_args(Pixels), "corners"),
    "assignment": ("best", "best_unclaimed"),
    "equal_iou": ("first", "last"),
    "difficult": get_args(Treatment),
    "crowd": get_args(Treatment),
    "ties": ("file", "image"),
}

SMALL_AREA, MEDIUM_AREA, LARGEST_AREA = 32**2, 96**2, 1e5**2  # px^2, COCO
VOC07_RECALL_POINTS = tuple(i * 0.1 for i in range(11))  # 0.30000000000000004 and all, as the kit


class AreaRange(NamedTuple):
    """Objects of an area from `low` to `high`, px^2, both included."""

    name: str
    low: float
    high: float

    @property
    def is_limited(self) -> bool:
        """Whether it leaves out objects; 1e10 px^2 is what COCO calls all."""
        return self.low > 0 or self.high < 1e10


class Metric(NamedTuple):
    """One number of a protocol's summary.

    Attributes:
        name: Its name; {max_dets} stands for the cap.
        quantity: Mean over classes (and thresholds) of the average precision, or of the recall.
        iou: One IoU threshold; None for the mean over all of the protocol's.
        area: The name of an area range.
        cap: The place of the cap in max_dets; -1 is the last.
    """

    name: str
    quantity: Literal["AP", "AR"]
    iou: float | None = None
    area: str = "all"
    cap: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The choices in which evaluation tools differ; derive others with `dataclasses.replace`.

    Attributes:
        name: How reports call it.
        pixels: "inclusive" (VOC: sides get + 1) or "continuous" (COCO). Tables in the other
            convention are converted, so both measure the same regions. "corners" takes corners as
            they stand and adds nothing: VOC boxes in tools that leave out the + 1.
        iou_thresholds: Each in (0, 1]; at most MAX_THRESHOLDS.
        iou_ceiling: In (0, 1]; thresholds above it are lowered to it (pycocotools: 1 - 1e-10).
        strict: IoU must exceed the threshold (py-faster-rcnn); otherwise it may equal it.
        assignment: "best": a detection is judged by the ground truth that it overlaps most, so a
            second one on a claimed object is false (VOC). "best_unclaimed": by the best that is
            still free, counted ones first (COCO).
        equal_iou: Which of several ground truths of equal IoU is taken, "first" or "last".
        difficult: What VOC's difficult objects are: "count" (like any), "ignore" (finding one is
            neither right nor wrong, however often), "crowd" (that, and the IoU divides by the
            detection's area), or "drop" (as if not annotated).
        crowd: The same for COCO's iscrowd.
        ties: Detections of equal score keep "file" order, or "image" order (within it the file's).
            For detections from memory the two are the same.
        recall_points: Where precision is sampled; None for the area under all points.
        epsilon: Added to tp + fp in the precision's denominator (pycocotools: 2.2e-16).
        area_ranges: The first is the one that per-class numbers speak of.
        max_dets: Best detections per image and class that count, ascending, at most 2^31 - 1; the
            last is used for matching. math.inf for all.
        metrics: The summary; what speaks of a cap that is not there is left out.
    """

    name: str
    pixels: Pixels | Literal["corners"]
    iou_thresholds: tuple[float, ...]
    iou_ceiling: float = 1.0
    strict: bool = False
    assignment: Literal["best", "best_unclaimed"]
    equal_iou: Literal["first", "last"]
    difficult: Treatment
    crowd: Treatment
    ties: Literal["file", "image"]
    recall_points: tuple[float, ...] | None
    epsilon: float = 0.0
    area_ranges: tuple[AreaRange, ...] = (AreaRange("all", -math.inf, math.inf),)
    max_dets: tuple[int | float, ...] = (math.inf,)
    metrics: tuple[Metric, ...] = (Metric("mAP", "AP"),)

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        for name, holds, expectation in _expectations(self):
            if not holds:
                value = str(getattr(self, name))
                quoted = value if len(value) <= 60 else f"{value[:60]}..."
                raise ValueError(f"{name} must {expectation}, not {quoted}")

    @property
    def summary(self) -> dict[str, Metric]:
        """The metrics by name, caps put in.

        >>> list(COCO.with_max_dets(300).summary)[6:9]
        ['AR1', 'AR10', 'AR300']
        """
        caps = self.max_dets
        return {
            metric.name.format(max_dets=cap_text(caps[metric.cap])): metric
            for metric in self.metrics
            if -len(caps) <= metric.cap < len(caps)
        }

    def with_max_dets(self, most: int) -> "Protocol":
        """The protocol with `most` as its last cap; smaller caps stay.

        >>> COCO.with_max_dets(300).max_dets, COCO.with_max_dets(5).max_dets
        ((1, 10, 300), (1, 5))
        """
        smaller = tuple(cap for cap in self.max_dets[:-1] if cap < most)
        return replace(self, max_dets=(*smaller, most))


def cap_text(cap: float) -> str:
    """A cap of max_dets as reports print it.

    >>> cap_text(100), cap_text(math.inf)
    ('100', 'all')
    """
    return "all" if cap == math.inf else str(int(cap))


def _expectations(protocol: Protocol) -> Iterator[tuple[str, bool, str]]:
    """For each field of numbers: its name, whether it holds what it must, and what that is."""
    thresholds, points, caps = protocol.iou_thresholds, protocol.recall_points, protocol.max_dets
    yield "iou_thresholds", _within(thresholds, 0, 1) and min(thresholds) > 0, "lie in (0, 1]"
    yield "iou_thresholds", len(thresholds) <= MAX_THRESHOLDS, f"be {MAX_THRESHOLDS} or fewer"
    yield "iou_ceiling", 0 < protocol.iou_ceiling <= 1, "lie in (0, 1]"
    yield "max_dets", _ascends(caps), "ascend"
    counts = [cap for cap in caps if cap != math.inf]
    whole = all(1 <= cap <= MAX_DETECTIONS and cap // 1 == cap for cap in counts)
    yield "max_dets", whole, f"be whole numbers from 1 to {MAX_DETECTIONS}, or inf"
    yield "recall_points", points is None or _ascends(points), "ascend"
    yield "recall_points", points is None or _within(points, 0, 1), "lie in [0, 1]"
    yield "epsilon", 0 <= protocol.epsilon < math.inf, "be finite and at least 0"
    ranges = protocol.area_ranges
    ordered = bool(ranges) and all(low <= high for _, low, high in ranges)
    yield "area_ranges", ordered, "be (name, low, high) with low <= high"


def _ascends(values: Sequence[float]) -> bool:
    return bool(values) and list(values) == sorted(set(values))


def _within(values: Sequence[float], low: float, high: float) -> bool:
    return bool(values) and all(low <= value <= high for value in values)


VOC2007 = Protocol(
    name="voc2007",
    pixels="inclusive",
    iou_thresholds=(0.5,),
    assignment="best",
    equal_iou="first",
    difficult="ignore",
    crowd="ignore",
    ties="file",
    recall_points=VOC07_RECALL_POINTS,
)

VOC2010 = replace(VOC2007, name="voc2010", recall_points=None)

COCO = Protocol(
    name="coco",
    pixels="continuous",
    iou_thresholds=tuple(np.linspace(0.5, 0.95, 10).tolist()),
    iou_ceiling=1 - 1e-10,
    assignment="best_unclaimed",
    equal_iou="last",
    difficult="crowd",
    crowd="crowd",
    ties="image",
    recall_points=tuple(np.linspace(0, 1, 101).tolist()),
    epsilon=float(np.spacing(1)),
    area_ranges=(
        AreaRange("all", 0, LARGEST_AREA),
        AreaRange("small", 0, SMALL_AREA),
        AreaRange("medium", SMALL_AREA, MEDIUM_AREA),
        AreaRange("large", MEDIUM_AREA, LARGEST_AREA),
    ),
    max_dets=(1, 10, 100),
    metrics=(
        Metric("AP", "AP"),
        Metric("AP50", "AP", iou=0.5),
        Metric("AP75", "AP", iou=0.75),
        Metric("APs", "AP", area="small"),
        Metric("APm", "AP", area="medium"),
        Metric("APl", "AP", area="large"),
        Metric("AR{max_dets}", "AR", cap=0),
        Metric("AR{max_dets}", "AR", cap=1),
        Metric("AR{max_dets}", "AR"),
        Metric("ARs", "AR", area="small"),
        Metric("ARm", "AR", area="medium"),
        Metric("ARl", "AR", area="large"),
    ),
)

PROTOCOLS = {
    "voc2007": VOC2007,
    "voc2010": VOC2010,
    "coco": COCO,
    "voc2007_py_faster_rcnn": replace(VOC2007, name="voc2007_py_faster_rcnn", strict=True),
    "voc2010_py_faster_rcnn": replace(VOC2010, name="voc2010_py_faster_rcnn", strict=True),
}
