"""How a detector does on parts of the data: small objects, crowded ones, images taken at night.

A slice is a set of images, evaluated as if there were no others; or a set of objects, where, as for
the area ranges of COCO, a detection of an object outside is ignored, and so is a false detection
that has not itself what the objects of the slice have in common. Each slice is compared with
everything that is not in it. The smaller a slice, the higher its mAP, other things being equal:
read differences beside the number of objects and the standard error.

Sources: COCOeval for area ranges; tidecv 1.0.1 for the limits of aspect ratios; S. Holm, "A Simple
Sequentially Rejective Multiple Test Procedure" (1979).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import Detections, GroundTruth
from upmap.kernels import Implementation, matching
from upmap.kernels.matching import FALSE_POSITIVE, IGNORED, DetectionBoxes
from upmap.kernels.pairs import find_pairs
from upmap.metrics.analysis.intervals import adjust_holm, normal_p_value
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.analysis.uncertainty import (
    collect_outcomes,
    compute_influence,
    mean_standard_error,
    plan_quantities,
)
from upmap.metrics.match_table import MatchTable
from upmap.metrics.matching import MatchInputs, prepare_inputs
from upmap.metrics.protocols import AreaRange, Protocol
from upmap.metrics.protocols.coco import LARGEST_AREA, MEDIUM_AREA, SMALL_AREA
from upmap.metrics.scores import evaluate_matches
from upmap.progress import track_progress

__all__ = ["DIMENSIONS", "Slice", "SliceScores", "Slices", "evaluate_slices"]

FEW = 30  # positives, below which a slice says little
BORDER = 1.0  # px from the border that count as touching it
CROWDED = 0.3  # IoU with the nearest object of the class

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A part of the data: a set of images, or of objects with the detections that are like them.

    Attributes:
        dimension: What divides the data.
        name: Of the part.
        images: bool [I]; None for a slice of objects.
        objects: bool [M], rows of the ground truth without dropped objects; None for images.
        detections: bool [N], rows of the match table: false ones count there; None for images.
    """

    dimension: str
    name: str
    images: Flags | None = None
    objects: Flags | None = None
    detections: Flags | None = None


@dataclass(frozen=True, slots=True)
class SliceScores:
    """The headline number on a slice, and how it differs from the rest; NaN is undefined.

    Attributes:
        dimension: What divides the data.
        name: Of the part.
        value: The number.
        standard_error: Its standard error.
        images: In the slice; for a slice of objects, those with such objects.
        positives: Counted objects.
        difference: The number less that of everything else.
        difference_error: The standard error of the difference.
        p: Of no difference, two-sided, by the normal distribution, which needs many: NaN where
            the slice or the rest has few positives.
        p_holm: The same, corrected for all slices that were looked at.
        has_few_positives: Whether there are fewer than FEW.
    """

    dimension: str
    name: str
    value: float
    standard_error: float
    images: int
    positives: int
    difference: float
    difference_error: float
    p: float
    p_holm: float
    has_few_positives: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Slices:
    """The scores of all slices.

    Attributes:
        metric: The number, the first of the protocol's summary.
        value: On all data.
        slices: In order of dimensions.
    """

    metric: str
    value: float
    slices: tuple[SliceScores, ...]

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        return {
            "metric": self.metric,
            "value": self.value,
            "slices": [asdict(part) for part in self.slices],
        }


def evaluate_slices(
    ground_truth: GroundTruth,
    detections: Detections,
    table: MatchTable,
    pairs: Pairs,
    *,
    attributes: Mapping[str, Sequence[str | None]] | None = None,
    show_progress: bool = False,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Slices:
    """Evaluates the built-in slices and those of image attributes.

    Args:
        ground_truth: The objects that were matched.
        detections: The detections that were matched.
        table: Their match table.
        pairs: The pairs of the match table.
        attributes: Name to the value of each image of the match table; None where it is unknown.
        show_progress: Whether to draw a progress bar on stderr.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        ValueError: If an attribute has not as many values as there are images.
    """
    inputs = prepare_inputs(ground_truth, detections, table.protocol)
    source = _Source(inputs, table, pairs)
    parts = [part for build in DIMENSIONS.values() for part in build(source)]
    for name, values in (attributes or {}).items():
        parts += _attribute_slices(name, values, table)
    scores = [
        _compare(source, part, threads=threads, impl=impl)
        for part in track_progress(parts, "slices", total=len(parts), show=show_progress)
    ]
    adjusted = adjust_holm(np.array([score.p for score in scores], np.float64)).tolist()
    return Slices(
        metric=next(iter(table.protocol.summary), ""),
        value=_headline_value(table, threads, impl),
        slices=tuple(replace(score, p_holm=p) for score, p in zip(scores, adjusted, strict=True)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """What slices are cut out of."""

    inputs: MatchInputs
    table: MatchTable
    pairs: Pairs


def _slice_by_area(source: _Source) -> Iterator[Slice]:
    """By area, px^2: COCO's ranges, both ends included."""
    boxes = source.inputs.detection_boxes.box_area[source.pairs.detection]
    area = source.inputs.truth_boxes.area
    limits = (0, SMALL_AREA), (SMALL_AREA, MEDIUM_AREA), (MEDIUM_AREA, LARGEST_AREA)
    for name, (low, high) in zip(("small", "medium", "large"), limits, strict=True):
        objects, detections = (
            np.logical_and(low <= values, values <= high) for values in (area, boxes)
        )
        yield Slice("area", name, objects=objects, detections=detections)


def _slice_by_aspect(source: _Source) -> Iterator[Slice]:
    """By width over height: tall, about square, wide."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [size[:, 0] / size[:, 1] for size in _sizes(source)]
    bounds = {"tall": (-np.inf, 0.75), "square": (0.75, 1.33), "wide": (1.33, np.inf)}
    for name, (low, high) in bounds.items():
        objects, detections = (np.logical_and(low < ratio, ratio <= high) for ratio in ratios)
        yield Slice("aspect", name, objects=objects, detections=detections)


def _sizes(source: _Source) -> tuple[Floats, Floats]:
    """Width and height of objects and of detections, px."""
    detections = source.inputs.detections
    return source.inputs.ground_truth.size, detections.size[source.pairs.detection]


def _slice_by_count(source: _Source) -> Iterator[Slice]:
    """By the number of counted objects on the image."""
    image = source.pairs.ground_truth.image[source.pairs.is_counted]
    counts = np.bincount(image, minlength=len(source.table.images))
    for name, low, high in (("1", 1, 1), ("2-4", 2, 4), ("5-9", 5, 9), ("10+", 10, np.inf)):
        yield Slice("objects per image", name, images=(low <= counts) & (counts <= high))


def _slice_by_crowding(source: _Source) -> Iterator[Slice]:
    """By the IoU with the nearest counted object of the class.

    A false detection is where the object of its class is that it overlaps most, and in every slice
    if it overlaps none.
    """
    nearest = _nearest_overlap(source)
    same = source.pairs.same
    parts: dict[str, Flags] = {
        "alone": nearest == 0,
        f"< {CROWDED}": (nearest > 0) & (nearest < CROWDED),
        "more": nearest >= CROWDED,
    }
    for name, is_in in parts.items():
        # Without an object of its class, -1, a detection is in every slice.
        yield Slice("crowding", name, objects=is_in, detections=np.append(is_in, True)[same])


def _nearest_overlap(source: _Source) -> Floats:
    """The IoU of each object with the nearest other counted one of its class, float64 [M]."""
    truths, count = source.inputs.truth_boxes, len(source.pairs.is_counted)
    boxes = DetectionBoxes(
        image=truths.image,
        label=truths.label,
        box=truths.box,
        box_area=truths.box_area,
        score=np.zeros(count),
        row=np.arange(count),
    )
    offset = source.inputs.rules.side_offset
    overlap = find_pairs(boxes, truths, side_offset=offset, min_iou=0.0)
    row = np.repeat(np.arange(count), np.diff(overlap.start))
    is_other = (
        (overlap.truth != row)
        & source.pairs.is_counted[overlap.truth]
        & (truths.label[overlap.truth] == truths.label[row])
    )
    nearest = np.zeros(count)
    np.maximum.at(nearest, row[is_other], overlap.iou[is_other])
    return nearest


def _slice_by_border(source: _Source) -> Iterator[Slice]:
    """By whether the box touches the border of its image, where the sizes of all are known."""
    sizes = source.pairs.catalog.sizes
    if not len(sizes) or not (sizes > 0).all():
        return
    objects = _touches_border(source.inputs.ground_truth, sizes)
    detections = _touches_border(source.inputs.detections, sizes)[source.pairs.detection]
    yield Slice("border", "touching", objects=objects, detections=detections)
    yield Slice("border", "inside", objects=~objects, detections=~detections)


def _touches_border(table: GroundTruth | Detections, sizes: NDArray[np.int64]) -> Flags:
    """Whether each box comes within BORDER of an edge of its image, bool [N]."""
    first = 1.0 if table.pixels == "inclusive" else 0.0
    before = (table.box[:, :2] - first <= BORDER).any(axis=1)
    behind = (table.box[:, 2:] >= sizes[table.image] - BORDER).any(axis=1)
    return np.logical_or(before, behind)


# A new built-in dimension is a row here and its function.
DIMENSIONS: Mapping[str, Callable[[_Source], Iterator[Slice]]] = {
    "area": _slice_by_area,
    "aspect": _slice_by_aspect,
    "objects per image": _slice_by_count,
    "crowding": _slice_by_crowding,
    "border": _slice_by_border,
}


def _attribute_slices(
    name: str, values: Sequence[str | None], table: MatchTable
) -> Iterator[Slice]:
    """A slice for each value of an image attribute, in order of the values."""
    if len(values) != len(table.images):
        raise ValueError(
            f"attribute {name!r} must have {len(table.images)} values, not {len(values)}"
        )
    for value in sorted({value for value in values if value is not None}):
        yield Slice(name, value, images=np.array([each == value for each in values], bool))


@dataclass(frozen=True, slots=True, eq=False)
class _Headline:
    """The headline number of a part of the data.

    Attributes:
        value: The number.
        variance: The square of its standard error.
        by_image: float64 [I], the influence of each image.
    """

    value: float
    variance: float
    by_image: Floats

    @classmethod
    def of(
        cls, table: MatchTable, images: Flags, *, threads: int, impl: Implementation | None
    ) -> "_Headline":
        """Of a match table that has rows on `images`, bool [I], alone."""
        by_image: Floats = np.zeros(len(images))
        place = next(iter(plan_quantities(table.protocol)[0].values()), None)
        value = _headline_value(table, threads, impl)
        # The spread over images cannot be seen on one.
        positive_images = np.unique(table.positive_image)
        if math.isnan(value) or place is None or len(positive_images) < 2:
            return cls(value, math.nan, by_image)
        _, quantities = plan_quantities(table.protocol)
        outcomes = collect_outcomes(table)
        classes = compute_influence(outcomes, quantities, threads=threads, impl=impl)[place]
        defined = int((~np.isnan(classes.number)).sum())
        sums = np.bincount(classes.image, weights=classes.value, minlength=len(images))
        by_image = sums.astype(np.float64) / max(1, defined)
        return cls(value, mean_standard_error(classes) ** 2, by_image)


def _headline_value(table: MatchTable, threads: int, impl: Implementation | None) -> float:
    metrics = evaluate_matches(table, threads=threads, impl=impl).metrics
    return next(iter(metrics.values()), math.nan)


def _compare(
    source: _Source, part: Slice, *, threads: int, impl: Implementation | None
) -> SliceScores:
    """The scores of a slice, and its difference to what is not in it."""
    tables, images = _divide(source, part, threads=threads, impl=impl)
    inside, outside = (
        _Headline.of(table, chosen, threads=threads, impl=impl)
        for table, chosen in zip(tables, images, strict=True)
    )
    # What both numbers have in common cancels; the terms for rare classes add.
    common = 2 * float((inside.by_image * outside.by_image).sum())
    error = _root(inside.variance + outside.variance - common)
    positives, others = (int(table.positives[:, 0].sum()) for table in tables)
    is_of_objects = part.images is None
    count = len(np.unique(tables[0].positive_image)) if is_of_objects else int(images[0].sum())
    difference = inside.value - outside.value
    return SliceScores(
        dimension=part.dimension,
        name=part.name,
        value=inside.value,
        standard_error=_root(inside.variance),
        images=count,
        positives=positives,
        difference=difference,
        difference_error=error,
        p=normal_p_value(difference, error) if min(positives, others) >= FEW else math.nan,
        p_holm=math.nan,
        has_few_positives=positives < FEW,
    )


def _root(variance: float) -> float:
    """The square root; of a rounding error below 0 it is 0, and of NaN it is NaN."""
    return math.nan if math.isnan(variance) else math.sqrt(max(0.0, variance))


def _divide(
    source: _Source, part: Slice, *, threads: int, impl: Implementation | None
) -> tuple[list[MatchTable], list[Flags]]:
    """The match tables of a slice and of what is not in it, and the images that each is about."""
    if part.images is not None:
        images = [part.images, ~part.images]
        return [_restrict_images(source.table, chosen) for chosen in images], images
    tables = [
        _match_objects(source, part, is_inside=is_inside, threads=threads, impl=impl)
        for is_inside in (True, False)
    ]
    return tables, [np.ones(len(source.table.images), bool)] * 2


def _restrict_images(table: MatchTable, images: Flags) -> MatchTable:
    """The match table of some images, under the list of all: what evaluating them alone gives."""
    rows, objects = images[table.image], images[table.positive_image]
    columns: dict[str, Any] = {
        name: getattr(table, name)[rows] for name in ("image", "label", "score", "row", "rank")
    }
    label, areas = table.positive_label[objects], table.positive_areas[objects]
    K, A = table.positives.shape
    counts = [
        np.bincount(label[(areas >> np.uint64(a)) & np.uint64(1) == 1], minlength=K)
        for a in range(A)
    ]
    return replace(
        table,
        **columns,
        status=table.status[:, :, rows],
        start=np.searchsorted(columns["label"], np.arange(K + 1)).astype(np.int64),
        positives=np.stack(counts, axis=1) if A else table.positives,
        positive_image=table.positive_image[objects],
        positive_label=label,
        positive_areas=areas,
    )


def _match_objects(
    source: _Source,
    part: Slice,
    *,
    is_inside: bool,
    threads: int,
    impl: Implementation | None,
) -> MatchTable:
    """The match table of the objects of a slice, or of the others; see the module for the rules.

    Objects outside have an area beyond the only area range, and all detections one within it.
    """
    table, pairs, inputs = source.table, source.pairs, source.inputs
    if part.objects is None or part.detections is None:
        raise ValueError("a slice must have images, or objects and detections")
    is_counted = pairs.is_counted & (part.objects == is_inside)
    truths = replace(inputs.truth_boxes, area=np.where(is_counted, 0.0, np.inf))
    protocol = _one_range(table.protocol)
    rules = replace(inputs.rules, area_ranges=np.array([[-1.0, np.finfo(np.float64).max]]))
    matches = matching.match(
        inputs.detection_boxes,
        truths,
        rules,
        len(table.classes),
        threads=threads,
        impl=impl,
    )
    status = np.array(matches.status)
    is_unlike = (status == FALSE_POSITIVE) & (part.detections != is_inside)
    status[is_unlike] = IGNORED
    order = np.flatnonzero(is_counted)
    order = order[np.lexsort((truths.image[order], truths.label[order]))]
    return replace(
        table,
        protocol=protocol,
        status=status,
        positives=matches.positives,
        positive_image=truths.image[order],
        positive_label=truths.label[order],
        positive_areas=np.ones(len(order), np.uint64),
    )


def _one_range(protocol: Protocol) -> Protocol:
    """The protocol with its first area range and metric alone."""
    first = protocol.area_ranges[0]
    return replace(
        protocol,
        area_ranges=(AreaRange(first.name, -math.inf, math.inf),),
        metrics=protocol.metrics[:1],
    )
