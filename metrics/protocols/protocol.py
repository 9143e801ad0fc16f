"""A protocol: the choices in which evaluation tools differ, as data.

The choices were read off the VOC2007 and VOC2012 development kits, pycocotools 2.0.11 and
py-faster-rcnn's voc_eval.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from upmap.detection.tables import Pixels
from upmap.kernels.matching import MAX_DETECTIONS, MAX_THRESHOLDS

__all__ = ["CHOICES", "AreaRange", "Metric", "Protocol", "cap_text", "find_threshold"]

Treatment = Literal["count", "ignore", "crowd", "drop"]
CHOICES: dict[str, tuple[str, ...]] = {
    "pixels": (*get_args(Pixels), "corners"),
    "assignment": ("best", "best_unclaimed"),
    "equal_iou": ("first", "last"),
    "difficult": get_args(Treatment),
    "crowd": get_args(Treatment),
    "ties": ("file", "image"),
}
THRESHOLD_TOLERANCE = 1e-9  # far above rounding, far below the distance of two thresholds


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
        quantity: "AP": the mean over classes of the average precision; "AR": of the recall.
        iou: One IoU threshold; None for the mean over all thresholds of the protocol.
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
        name: Its name in reports.
        pixels: "inclusive" (VOC: sides get + 1) or "continuous" (COCO). Tables in the other
            convention are converted, so both measure the same regions. "corners" takes corners as
            they stand and adds nothing: VOC boxes in tools that leave out the + 1.
        iou_thresholds: Each in (0, 1]; at most MAX_THRESHOLDS.
        iou_ceiling: In (0, 1]; thresholds above it are lowered to it (pycocotools: 1 - 1e-10).
        strict: IoU must exceed the threshold (py-faster-rcnn); otherwise it may equal it.
        assignment: Which ground truth a detection is compared with. "best": the one of largest IoU,
            so that a second detection of a claimed object is false (VOC). "best_unclaimed": the
            one of largest IoU that is unclaimed, counted ones before ignored ones (COCO).
        equal_iou: Which of several ground truths of equal IoU is taken, "first" or "last".
        difficult: How VOC's difficult objects are treated: "count" (like any), "ignore" (detections
            of one are neither true nor false), "crowd" (as "ignore", and the IoU divides by the
            detection's area), or "drop" (as if not annotated).
        crowd: The same for COCO's iscrowd.
        ties: Detections of equal score keep "file" order, or "image" order (within it the file's).
            For detections from memory the two are the same.
        recall_points: Where precision is sampled; None for the area under all points.
        epsilon: Added to tp + fp in the precision's denominator (pycocotools: 2.2e-16).
        area_ranges: Per-class scores are those of the first.
        max_dets: Best detections per image and class that count, ascending, at most 2^31 - 1; the
            last is used for matching. math.inf for all.
        metrics: The rows of the summary; those of a cap that does not exist are left out.
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

    # Here and not where options are parsed: `replace` and msgspec build protocols, too.
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
        """Name to metric, each name with its cap; without metrics of caps that do not exist.

        >>> from upmap.metrics import COCO
        >>> list(COCO.with_max_dets(300).summary)[6:9]
        ['AR1', 'AR10', 'AR300']
        """
        caps = self.max_dets
        return {
            metric.name.format(max_dets=cap_text(caps[metric.cap])): metric
            for metric in self.metrics
            if -len(caps) <= metric.cap < len(caps)
        }

    def with_max_dets(self, max_dets: int) -> "Protocol":
        """The protocol with `max_dets` as its last cap; smaller caps stay.

        >>> from upmap.metrics import COCO
        >>> COCO.with_max_dets(300).max_dets, COCO.with_max_dets(5).max_dets
        ((1, 10, 300), (1, 5))
        """
        smaller = tuple(cap for cap in self.max_dets[:-1] if cap < max_dets)
        return replace(self, max_dets=(*smaller, max_dets))


def cap_text(cap: float) -> str:
    """A cap of max_dets as reports print it.

    >>> cap_text(100), cap_text(math.inf)
    ('100', 'all')
    """
    return "all" if cap == math.inf else str(int(cap))


def find_threshold(thresholds: Iterable[float], iou: float) -> int | None:
    """The place of an IoU threshold, None if it is not there.

    Thresholds that were computed may differ from those that are written in the last digit.

    >>> find_threshold([0.5, 0.6000000000000001], 0.6)
    1
    """
    close = (t for t, value in enumerate(thresholds) if abs(value - iou) < THRESHOLD_TOLERANCE)
    return next(close, None)


def _expectations(protocol: Protocol) -> Iterator[tuple[str, bool, str]]:
    """For each rule on a field of numbers: the field, whether it holds, and what it says."""
    thresholds, points, caps = protocol.iou_thresholds, protocol.recall_points, protocol.max_dets
    yield "iou_thresholds", _lies_within(thresholds, 0, 1) and min(thresholds) > 0, "lie in (0, 1]"
    yield "iou_thresholds", len(thresholds) <= MAX_THRESHOLDS, f"be {MAX_THRESHOLDS} or fewer"
    yield "iou_ceiling", 0 < protocol.iou_ceiling <= 1, "lie in (0, 1]"
    yield "max_dets", _is_ascending(caps), "ascend"
    # MAX_DETECTIONS, the largest int32, stands for inf in the kernels, whose ranks are int32.
    counts = [cap for cap in caps if cap != math.inf]
    are_whole = all(1 <= cap <= MAX_DETECTIONS and cap // 1 == cap for cap in counts)
    yield "max_dets", are_whole, f"be whole numbers from 1 to {MAX_DETECTIONS}, or inf"
    yield "recall_points", points is None or _is_ascending(points), "ascend"
    yield "recall_points", points is None or _lies_within(points, 0, 1), "lie in [0, 1]"
    yield "epsilon", 0 <= protocol.epsilon < math.inf, "be finite and at least 0"
    ranges = protocol.area_ranges
    are_ordered = bool(ranges) and all(low <= high for _, low, high in ranges)
    yield "area_ranges", are_ordered, "be (name, low, high) with low <= high"


def _is_ascending(values: Sequence[float]) -> bool:
    return bool(values) and list(values) == sorted(set(values))


def _lies_within(values: Sequence[float], low: float, high: float) -> bool:
    return bool(values) and all(low <= value <= high for value in values)
