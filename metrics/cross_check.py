"""The same data evaluated by pycocotools: for COCO all its numbers, for VOC a walk towards it.

The walk starts at the official VOC number and changes one choice at a time, until every choice is
pycocotools' own. From the row on where the two can be set alike, both are computed and must agree:
VOC's 11 points are recThrs = 0, 0.1 .. 1, its area under all points is the mean of the precisions
at recThrs = k / positives, k = 1 .. positives.
"""

import contextlib
import io
import json
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
from upmap.metrics.comparison import Comparison
from upmap.metrics.curves import accumulate
from upmap.metrics.matching import ALL_DETECTIONS, match
from upmap.metrics.protocols.protocol import COCO, Protocol
from upmap.metrics.scores import evaluate_matches, mean_average_precision
from upmap.progress import track_progress

__all__ = ["compare_with_pycocotools"]

Floats = NDArray[np.float64]

# One choice at a time, from VOC's to COCO's; `instead` marks a row that the next does not build on.
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
class _Data:
    """What is evaluated: the tables, aligned, and the COCO files that they were read from."""

    ground_truth: GroundTruth
    detections: Detections
    files: tuple[Input, Input] | None


class _FilesError(Exception):
    """Files that pycocotools cannot read or evaluate."""


@dataclass(frozen=True, slots=True, eq=False)
class _Datasets:
    """What pycocotools evaluates: two of its COCO objects, and the ids that it is to look at."""

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
    """Our numbers beside pycocotools'.

    With `files` pycocotools reads its input itself, so that the reading is compared too, and
    evaluates the images and categories that the tables have. Without them, where it cannot read
    them (which is warned about), or where the protocol does not treat crowds as it does, it is
    handed the tables' rows.

    Args:
        ground_truth: M annotated boxes.
        detections: N detected boxes.
        protocol: What to compare; one that pycocotools can be set to is compared number by
            number, any other by the walk.
        files: The instances file and the results file of which the tables were made, if they were.
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
        return _rows(data, protocol, show_progress)
    except _FilesError as error:
        warnings.warn(str(error), InputWarning, stacklevel=2)
        return _rows(replace(data, files=None), protocol, show_progress)


def _rows(data: _Data, protocol: Protocol, show_progress: bool) -> list[Comparison]:
    samples = protocol.recall_points is not None and protocol.metrics == COCO.metrics
    if samples and _is_set_alike(protocol):
        return _coco_rows(data, protocol, show_progress)
    return list(_walk_rows(data, protocol, show_progress))


def _is_set_alike(protocol: Protocol) -> bool:
    """Whether pycocotools has the protocol's choices."""
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


def _coco_rows(data: _Data, protocol: Protocol, show_progress: bool) -> list[Comparison]:
    """The summary as pycocotools prints it (for its own caps), and every entry of its arrays."""
    ours = mean_average_precision(data.ground_truth, data.detections, protocol=protocol)
    classes = _evaluate_classes(data, _matching_part(protocol), show_progress)
    theirs = _all_classes(classes, protocol)
    rows = []
    if protocol.max_dets == COCO.max_dets:
        with contextlib.redirect_stdout(io.StringIO()):
            theirs.summarize()
        stats = [math.nan if value == -1 else float(value) for value in theirs.stats]
        pairs = zip(ours.metrics.items(), stats, strict=True)
        rows = [_comparison(name, mine, value) for (name, mine), value in pairs]
    found = accumulate(ours.match_table, with_scores=True)
    for name in ("precision", "recall", "scores"):
        rows.append(_array_comparison(name, getattr(found, name), theirs.eval[name]))
    return rows


def _walk_rows(data: _Data, protocol: Protocol, show_progress: bool) -> Iterator[Comparison]:
    """The walk from `protocol` to pycocotools' AP at the same IoU threshold."""

    def row(name: str, protocol: Protocol) -> Comparison:
        return _walk_row(name, data, protocol, show_progress)

    here, protocol = row(protocol.name, protocol), replace(protocol, iou_ceiling=COCO.iou_ceiling)
    yield here
    for name, changes, instead in WALK:
        changed = replace(protocol, **changes)
        there = row(f"  (or {name})" if instead else f"+ {name}", changed)
        yield replace(there, change=there.ours - here.ours)
        if not instead:
            here, protocol = there, changed


def _walk_row(name: str, data: _Data, protocol: Protocol, show_progress: bool) -> Comparison:
    ours = evaluate_matches(match(data.ground_truth, data.detections, protocol))
    if not _is_set_alike(protocol):
        return Comparison(name, ours.mAP, math.nan, math.nan)
    classes = _evaluate_classes(data, _matching_part(protocol), show_progress)
    precisions = [_class_precision(one, protocol) for one in classes]
    defined = [value for value in precisions if not math.isnan(value)]
    return _comparison(name, ours.mAP, float(np.mean(defined)) if defined else math.nan)


def _comparison(name: str, ours: float, theirs: float) -> Comparison:
    if math.isnan(ours) and math.isnan(theirs):
        return Comparison(name, ours, theirs, 0.0)
    difference = abs(ours - theirs)
    return Comparison(name, ours, theirs, math.inf if math.isnan(difference) else difference)


def _array_comparison(name: str, ours: Floats, theirs: Floats) -> Comparison:
    """Means over the defined entries, and the largest difference of any entry."""
    theirs = np.where(theirs == -1, np.nan, theirs)
    defined = ~np.isnan(theirs)
    difference = 0.0
    if not np.array_equal(defined, ~np.isnan(ours)):
        difference = math.inf
    elif defined.any():
        difference = float(np.abs(ours - theirs)[defined].max())
    mean = [float(a[defined].mean()) if defined.any() else math.nan for a in (ours, theirs)]
    label = f"{name}: {ours.size:,} entries, their mean"
    return Comparison(label, mean[0], mean[1], difference)


def _matching_part(protocol: Protocol) -> Protocol:
    """The protocol without what only accumulation reads, so that one matching serves many rows."""
    caps = protocol.max_dets
    if len(caps) == 1:
        caps = tuple(sorted({*caps, *COCO.max_dets, math.inf}))
    return replace(protocol, name="", recall_points=None, epsilon=0.0, max_dets=caps, metrics=())


@lru_cache(maxsize=2)
def _evaluate_classes(data: _Data, protocol: Protocol, show_progress: bool) -> list[Any]:
    """A COCOeval for each class, matched."""
    if data.files is None or not protocol.difficult == protocol.crowd == "crowd":
        return _match_categories(_datasets(data, protocol), protocol, show_progress)
    try:
        return _match_categories(_read_datasets(data, data.files), protocol, show_progress)
    except Exception as error:  # a file that it does not expect makes it raise anything
        raise _FilesError(
            f"{data.files[0]}, {data.files[1]}: pycocotools cannot evaluate these files, "
            f"{repr(error)[:60]}; it is handed what upmap read, so the reading is not compared"
        ) from None


def _match_categories(datasets: _Datasets, protocol: Protocol, show_progress: bool) -> list[Any]:
    """A COCOeval for each category, matched."""
    from pycocotools.cocoeval import COCOeval

    categories = datasets.categories
    evaluators = []
    with contextlib.redirect_stdout(io.StringIO()):
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


def _caps(protocol: Protocol) -> list[int]:
    return [ALL_DETECTIONS if cap == math.inf else int(cap) for cap in protocol.max_dets]


def _accumulate_class(
    evaluator: Any, recall_points: Floats, protocol: Protocol
) -> dict[str, Floats]:
    """Pycocotools' precision [T, R, 1, A, M], recall [T, 1, A, M] and scores of one class."""
    evaluator.params.recThrs = recall_points
    evaluator.params.maxDets = _caps(protocol)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.accumulate()
    found: dict[str, Floats] = evaluator.eval
    return found


def _all_classes(evaluators: list[Any], protocol: Protocol) -> Any:
    """One COCOeval with the accumulated arrays of all classes."""
    points = np.array(protocol.recall_points or ())
    parts = [_accumulate_class(one, points, protocol) for one in evaluators]
    whole = evaluators[0]
    whole.eval = {
        "precision": np.concatenate([part["precision"] for part in parts], axis=2),
        "scores": np.concatenate([part["scores"] for part in parts], axis=2),
        "recall": np.concatenate([part["recall"] for part in parts], axis=1),
    }
    return whole


def _class_precision(evaluator: Any, protocol: Protocol) -> float:
    """Pycocotools' average precision of one class, over all IoU thresholds; NaN if undefined."""
    positives = _positives(evaluator)
    points = protocol.recall_points
    if points is None:
        points = tuple(k / positives for k in range(1, positives + 1))
    if positives == 0:
        return math.nan
    precision = _accumulate_class(evaluator, np.array(points), protocol)["precision"]
    return float(precision[:, :, 0, 0, -1].mean())


def _positives(evaluator: Any) -> int:
    """The ground truths of a matched class that pycocotools counts in the first area range."""
    first = evaluator.evalImgs[: len(evaluator.params.imgIds)]  # it goes by area, then by image
    return sum(int((image["gtIgnore"] == 0).sum()) for image in first if image is not None)


def _read_datasets(data: _Data, files: tuple[Input, Input]) -> _Datasets:
    """Both files as pycocotools reads them, and the ids of the tables' images and classes."""
    from pycocotools.coco import COCO as Dataset

    catalog = data.ground_truth.catalog
    with contextlib.redirect_stdout(io.StringIO()):
        truth = Dataset()
        truth.dataset = _parse(files[0])
        truth.createIndex()
        found = truth.loadRes(_parse(files[1]))
    return _Datasets(truth, found, catalog.images, catalog.class_ids)


def _parse(file: Input) -> Any:
    """The JSON of a file as pycocotools parses it: by Python's json, from the file itself."""
    if file.data is not None:
        return json.loads(file.data)
    with file.path.open() as text:
        return json.load(text)


def _datasets(data: _Data, protocol: Protocol) -> _Datasets:
    """Both tables as pycocotools' COCO objects, with ids from 1."""
    ground_truth, detections, catalog = data.ground_truth, data.detections, data.detections.catalog
    dropped = np.zeros(len(ground_truth), bool)
    crowd = np.zeros(len(ground_truth), bool)
    for treatment, mark in (
        (protocol.difficult, ground_truth.difficult),
        (protocol.crowd, ground_truth.crowd),
    ):
        dropped |= mark & (treatment == "drop")
        crowd |= mark & (treatment == "crowd")
    truth = convert_pixels(row_subset(ground_truth, ~dropped), protocol.pixels)
    found = convert_pixels(detections, protocol.pixels)
    truth_columns = {"area": truth.area, "iscrowd": crowd[~dropped].astype(int)}
    found_columns = {"area": box_area(found.size), "score": found.score}
    return _Datasets(
        _dataset(truth, truth_columns),
        _dataset(found, found_columns),
        range(1, len(catalog.images) + 1),
        range(1, len(catalog.classes) + 1),
    )


def _dataset(table: GroundTruth | Detections, columns: Mapping[str, NDArray[Any]]) -> Any:
    from pycocotools.coco import COCO as Dataset

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
    with contextlib.redirect_stdout(io.StringIO()):
        dataset.createIndex()
    return dataset
