"""Evaluates the same data with pycocotools: for COCO every number, for VOC a walk towards COCO.

The walk starts at the official VOC number and changes one choice at a time, until every choice is
that of pycocotools. From the row on where pycocotools can be configured like the protocol, both
are computed and must agree: VOC's 11 points are recThrs = 0, 0.1 .. 1, and its area under all
points is the mean of the precisions at recThrs = k / positives, k = 1 .. positives.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, convert_pixels
from upmap.detection.inputs import Input
from upmap.detection.tables import Detections, GroundTruth, ImageId, align, row_subset
from upmap.errors import InputError, InputWarning
from upmap.kernels.matching import MAX_DETECTIONS
from upmap.metrics.curves import accumulate
from upmap.metrics.matching import match
from upmap.metrics.means import mean_without_nan
from upmap.metrics.protocols import COCO, Protocol
from upmap.metrics.scores import Evaluation, evaluate_matches
from upmap.progress import track_progress

__all__ = ["TOLERANCE", "Comparison", "compare_with_pycocotools", "largest_difference"]

Floats = NDArray[np.float64]

TOLERANCE = 1e-12  # both add the same terms, at most in another order
MAX_QUOTED = 60  # characters of an error of pycocotools

# From VOC's choices to COCO's: name of the row, changes, and whether the row is a side step, which
# the next does not build on.
WALK: tuple[tuple[str, Mapping[str, Any], bool], ...] = (
    ("difficult: ignored -> crowd", {"difficult": "crowd", "crowd": "crowd"}, False),
    (
        "assignment: best -> best unclaimed",
        {"assignment": "best_unclaimed", "equal_iou": "last", "strict": False},
        False,
    ),
    ("equal scores: file order -> image order", {"ties": "image"}, False),
    ("inverted boxes: false -> ignored", {"area_ranges": COCO.area_ranges[:1]}, False),
    ("pixels: inclusive -> corners, no + 1", {"pixels": "corners"}, True),
    ("pixels: inclusive -> continuous", {"pixels": "continuous"}, False),
    (
        "interpolation: -> 101 points",
        {"recall_points": COCO.recall_points, "epsilon": COCO.epsilon},
        False,
    ),
    ("detections per image: -> 100", {"max_dets": COCO.max_dets[-1:]}, False),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row of a cross-check: a number of upmap and one of pycocotools.

    Attributes:
        name: What is compared.
        ours: The number of upmap.
        pycocotools: That of pycocotools; NaN where it cannot be configured like the protocol.
        difference: The absolute difference; NaN likewise.
        change: In a walk, by how much this step changes `ours`; NaN elsewhere.
    """

    name: str
    ours: float
    pycocotools: float
    difference: float
    change: float = math.nan

    @property
    def agrees(self) -> bool:
        """Whether both numbers agree; true where pycocotools has none."""
        return math.isnan(self.difference) or self.difference <= TOLERANCE


@dataclass(frozen=True, slots=True)
class _Data:
    """The tables to evaluate, aligned, and the COCO files that they were read from."""

    ground_truth: GroundTruth
    detections: Detections
    files: tuple[Input, Input] | None


class _FilesError(Exception):
    """Files that pycocotools cannot read or evaluate."""


@dataclass(frozen=True, slots=True, eq=False)
class _Datasets:
    """The input of COCOeval: two COCO objects, and the ids to evaluate."""

    ground_truth: Any
    detections: Any
    images: Sequence[ImageId]
    categories: Sequence[int]


def compare_with_pycocotools(
    ground_truth: GroundTruth,
    detections: Detections,
    protocol: Protocol,
    *,
    files: tuple[Input, Input] | None = None,
    show_progress: bool,
) -> list[Comparison]:
    """Compares the numbers of upmap with those of pycocotools.

    With `files` pycocotools reads its input itself, so that the reading is compared, too, and
    evaluates the images and categories of the tables. It evaluates the rows of the tables instead
    where there are no files, where it cannot evaluate them (then a warning says so), and where the
    protocol does not treat crowds as pycocotools does.

    Args:
        ground_truth: M annotated boxes.
        detections: N detected boxes.
        protocol: If pycocotools can be configured like it, every number is compared, otherwise
            the numbers of the walk.
        files: The instances file and the results file from which the tables were read, or None.
        show_progress: Whether to draw a progress bar on a terminal.

    Raises:
        InputError: If pycocotools is not installed.
    """
    try:
        import pycocotools  # noqa: F401
    except ImportError:
        raise InputError("--cross-check needs pycocotools: pip install pycocotools") from None
    data = _Data(*align(ground_truth, detections), files)
    try:
        return _compare(data, protocol, show_progress)
    except _FilesError as error:
        warnings.warn(str(error), InputWarning, stacklevel=2)
        return _compare(replace(data, files=None), protocol, show_progress)


def largest_difference(rows: Sequence[Comparison]) -> float:
    """The largest difference of the rows where both were computed."""
    return max((row.difference for row in rows if not math.isnan(row.difference)), default=0.0)


def _compare(data: _Data, protocol: Protocol, show_progress: bool) -> list[Comparison]:
    has_summary = protocol.recall_points is not None and protocol.metrics == COCO.metrics
    if has_summary and _is_expressible(protocol):
        return _compare_all(data, protocol, show_progress)
    return list(_walk(data, protocol, show_progress))


def _is_expressible(protocol: Protocol) -> bool:
    """Whether pycocotools can be configured like the protocol."""
    return (
        protocol.assignment == "best_unclaimed"
        and protocol.equal_iou == "last"
        and protocol.ties == "image"
        and not protocol.strict
        and "ignore" not in (protocol.difficult, protocol.crowd)
        and protocol.pixels != "inclusive"
        and protocol.epsilon <= COCO.epsilon
        and protocol.iou_ceiling == COCO.iou_ceiling
    )


def _compare_all(data: _Data, protocol: Protocol, show_progress: bool) -> list[Comparison]:
    """Compares the summary that pycocotools prints, and every entry of its arrays."""
    ours = _evaluate(data, protocol)
    classes = _evaluate_classes(data, _matching_part(protocol), show_progress)
    theirs = _join_classes(classes, protocol)
    rows = []
    # summarize() reads three caps, of which one is 100.
    if protocol.max_dets == COCO.max_dets:
        with _silence():
            theirs.summarize()
        stats = [math.nan if value == -1 else float(value) for value in theirs.stats]
        pairs = zip(ours.metrics.items(), stats, strict=True)
        rows = [_comparison(name, value, stat) for (name, value), stat in pairs]
    arrays = accumulate(ours.match_table, with_scores=True)
    for name in ("precision", "recall", "scores"):
        rows.append(_array_comparison(name, getattr(arrays, name), theirs.eval[name]))
    return rows


def _walk(data: _Data, protocol: Protocol, show_progress: bool) -> Iterator[Comparison]:
    """The walk from `protocol` to the AP of pycocotools at the same IoU threshold."""
    previous = _walk_row(protocol.name, data, protocol, show_progress)
    protocol = replace(protocol, iou_ceiling=COCO.iou_ceiling)
    yield previous
    for name, changes, is_side_step in WALK:
        changed = replace(protocol, **changes)
        label = f"  (or {name})" if is_side_step else f"+ {name}"
        row = _walk_row(label, data, changed, show_progress)
        yield replace(row, change=row.ours - previous.ours)
        if not is_side_step:
            previous, protocol = row, changed


def _walk_row(name: str, data: _Data, protocol: Protocol, show_progress: bool) -> Comparison:
    ours = _evaluate(data, protocol).mAP
    if not _is_expressible(protocol):
        return Comparison(name, ours, math.nan, math.nan)
    classes = _evaluate_classes(data, _matching_part(protocol), show_progress)
    precisions = [_class_precision(evaluator, protocol) for evaluator in classes]
    return _comparison(name, ours, mean_without_nan(np.array(precisions)))


def _evaluate(data: _Data, protocol: Protocol) -> Evaluation:
    return evaluate_matches(match(data.ground_truth, data.detections, protocol))


def _comparison(name: str, ours: float, theirs: float) -> Comparison:
    if math.isnan(ours) and math.isnan(theirs):
        return Comparison(name, ours, theirs, 0.0)
    difference = abs(ours - theirs)
    return Comparison(name, ours, theirs, math.inf if math.isnan(difference) else difference)


def _array_comparison(name: str, ours: Floats, theirs: Floats) -> Comparison:
    """The means of the defined entries, and the largest difference of any entry."""
    theirs = np.where(theirs == -1, np.nan, theirs)  # pycocotools' -1 is undefined
    is_defined = ~np.isnan(theirs)
    difference = 0.0
    if not np.array_equal(is_defined, ~np.isnan(ours)):
        difference = math.inf
    elif is_defined.any():
        difference = float(np.abs(ours - theirs)[is_defined].max())
    label = f"{name}: {ours.size:,} entries, their mean"
    return Comparison(label, mean_without_nan(ours), mean_without_nan(theirs), difference)


def _matching_part(protocol: Protocol) -> Protocol:
    """The protocol without what only accumulation reads: the same for rows of equal matching."""
    caps = protocol.max_dets
    # Matching under the largest cap serves every smaller one: accumulation cuts by rank.
    if len(caps) == 1:
        caps = tuple(sorted({*caps, *COCO.max_dets, math.inf}))
    return replace(protocol, name="", recall_points=None, epsilon=0.0, max_dets=caps, metrics=())


# Matching by pycocotools takes most of the time, and neighboring rows of the walk often share it.
@lru_cache(maxsize=2)
def _evaluate_classes(data: _Data, protocol: Protocol, show_progress: bool) -> list[Any]:
    """A COCOeval for each class, after matching."""
    if data.files is None or not protocol.difficult == protocol.crowd == "crowd":
        return _match_categories(_build_datasets(data, protocol), protocol, show_progress)
    try:
        return _match_categories(_read_datasets(data, data.files), protocol, show_progress)
    except Exception as error:  # pycocotools validates nothing: any error may come of a file
        raise _FilesError(
            f"{data.files[0]}, {data.files[1]}: pycocotools cannot evaluate these files, "
            f"{repr(error)[:MAX_QUOTED]}; it evaluates the tables that upmap read instead, so the "
            "reading is not compared"
        ) from None


def _match_categories(datasets: _Datasets, protocol: Protocol, show_progress: bool) -> list[Any]:
    """A COCOeval for each category, after matching."""
    from pycocotools.cocoeval import COCOeval

    categories = datasets.categories
    evaluators = []
    with _silence():
        for category in track_progress(
            categories, "pycocotools", total=len(categories), show=show_progress
        ):
            evaluator = COCOeval(datasets.ground_truth, datasets.detections, "bbox")
            evaluator.params.imgIds = list(datasets.images)
            evaluator.params.catIds = [category]
            evaluator.params.iouThrs = np.array(protocol.iou_thresholds)
            evaluator.params.maxDets = _caps(protocol)
            evaluator.params.areaRng = [[low, high] for _, low, high in protocol.area_ranges]
            evaluator.params.areaRngLbl = [name for name, _, _ in protocol.area_ranges]
            evaluator.evaluate()
            evaluators.append(evaluator)
    return evaluators


def _silence() -> contextlib.AbstractContextManager[object]:
    """Swallows what pycocotools prints."""
    return contextlib.redirect_stdout(io.StringIO())


def _caps(protocol: Protocol) -> list[int]:
    return [MAX_DETECTIONS if cap == math.inf else int(cap) for cap in protocol.max_dets]


def _accumulate_class(
    evaluator: Any, recall_points: Floats, protocol: Protocol
) -> dict[str, Floats]:
    """Precision [T, R, 1, A, M], recall [T, 1, A, M] and scores of a class, by pycocotools."""
    evaluator.params.recThrs = recall_points
    evaluator.params.maxDets = _caps(protocol)
    with _silence():
        evaluator.accumulate()
    arrays: dict[str, Floats] = evaluator.eval
    return arrays


def _join_classes(evaluators: list[Any], protocol: Protocol) -> Any:
    """The first COCOeval, with the arrays of all."""
    points = np.array(protocol.recall_points or ())
    parts = [_accumulate_class(evaluator, points, protocol) for evaluator in evaluators]
    first = evaluators[0]
    first.eval = {
        "precision": np.concatenate([part["precision"] for part in parts], axis=2),
        "scores": np.concatenate([part["scores"] for part in parts], axis=2),
        "recall": np.concatenate([part["recall"] for part in parts], axis=1),
    }
    return first


def _class_precision(evaluator: Any, protocol: Protocol) -> float:
    """The AP of a class by pycocotools, mean over the IoU thresholds; NaN if undefined."""
    positives = _positives(evaluator)
    points = protocol.recall_points
    if points is None:
        points = tuple(k / positives for k in range(1, positives + 1))
    if positives == 0:
        return math.nan
    precision = _accumulate_class(evaluator, np.array(points), protocol)["precision"]
    return float(precision[:, :, 0, 0, -1].mean())


def _positives(evaluator: Any) -> int:
    """The number of ground truths that pycocotools counts in the first area range."""
    images = evaluator.evalImgs[: len(evaluator.params.imgIds)]  # [A, I], flat
    return sum(int((image["gtIgnore"] == 0).sum()) for image in images if image is not None)


def _read_datasets(data: _Data, files: tuple[Input, Input]) -> _Datasets:
    """Both files as pycocotools reads them, and the ids of the images and classes of the tables."""
    from pycocotools.coco import COCO as Dataset

    catalog = data.ground_truth.catalog
    with _silence():
        truth = Dataset()
        truth.dataset = _parse_json(files[0])
        truth.createIndex()
        detections = truth.loadRes(_select_results(_parse_json(files[1]), truth, data))
    return _Datasets(truth, detections, catalog.images, catalog.class_ids)


def _select_results(results: Any, truth: Any, data: _Data) -> list[Any]:
    """The results on images of the ground truth; on others pycocotools refuses the file.

    Raises:
        ValueError: If the file does not go by the ids of the ground truth.
    """
    catalog = data.ground_truth.catalog
    rows = results["annotations"] if isinstance(results, dict) else results
    known = [row for row in rows if row["image_id"] in truth.imgs]
    are_ids = set(catalog.images) <= set(truth.imgs) and set(catalog.class_ids) <= set(truth.cats)
    count = sum(row["category_id"] in truth.cats for row in known)
    if not are_ids or count < len(data.detections):
        raise ValueError("ids are of other types")
    return known


def _parse_json(file: Input) -> Any:
    """The content of a file, parsed as in pycocotools: by the json module, from the file itself."""
    import json

    if file.data is not None:
        return json.loads(file.data)
    with file.path.open() as text:
        return json.load(text)


def _build_datasets(data: _Data, protocol: Protocol) -> _Datasets:
    """Both tables as COCO objects of pycocotools, with ids from 1."""
    ground_truth, catalog = data.ground_truth, data.detections.catalog
    is_dropped = np.zeros(len(ground_truth), bool)
    is_crowd = np.zeros(len(ground_truth), bool)
    for treatment, mark in (
        (protocol.difficult, ground_truth.difficult),
        (protocol.crowd, ground_truth.crowd),
    ):
        is_dropped |= mark & (treatment == "drop")
        is_crowd |= mark & (treatment == "crowd")
    truth = convert_pixels(row_subset(ground_truth, ~is_dropped), protocol.pixels)
    detections = convert_pixels(data.detections, protocol.pixels)
    truth_columns = {"area": truth.area, "iscrowd": is_crowd[~is_dropped].astype(int)}
    area = box_area(detections.size) if detections.area is None else detections.area
    detection_columns = {"area": area, "score": detections.score}
    return _Datasets(
        _build_dataset(truth, truth_columns),
        _build_dataset(detections, detection_columns),
        range(1, len(catalog.images) + 1),
        range(1, len(catalog.classes) + 1),
    )


def _build_dataset(table: GroundTruth | Detections, columns: Mapping[str, NDArray[Any]]) -> Any:
    from pycocotools.coco import COCO as Dataset

    # pycocotools keeps the order of the file among equal scores.
    order = np.argsort(table.row, kind="stable") if isinstance(table, Detections) else slice(None)
    boxes = np.concatenate([table.box[:, :2], table.size], axis=1)[order].tolist()
    names = ("image_id", "category_id", "bbox", "iscrowd", *columns)
    values = [(table.image[order] + 1).tolist(), (table.label[order] + 1).tolist(), boxes]
    rows = zip(
        *values, [0] * len(boxes), *(c[order].tolist() for c in columns.values()), strict=True
    )
    dataset = Dataset()
    dataset.dataset = {
        "images": [{"id": i + 1} for i in range(len(table.catalog.images))],
        "categories": [{"id": k + 1} for k in range(len(table.catalog.classes))],
        "annotations": [
            {"id": i, **dict(zip(names, row, strict=True))} for i, row in enumerate(rows, start=1)
        ],
    }
    with _silence():
        dataset.createIndex()
    return dataset
