"""The boxes of the images that cost most: what is found, reported wrongly and missed there."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import ImageId, Table
from upmap.kernels.matching import FALSE_POSITIVE, TRUE_POSITIVE
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.analysis.tide import ERRORS, classify_errors
from upmap.metrics.match_table import MatchTable

__all__ = ["KINDS", "describe_boxes"]

KINDS = ("true", "false", "missed")
TRUE, FALSE, MISSED = range(3)
MAX_BOXES = 120  # of an image, the first of: missed, false, true; each by score
NO_ERROR = -1
UNKNOWN_SIDE = (400, 300)  # of an image whose size no one says: boxes in units of sides

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def describe_boxes(
    pairs: Pairs, table: MatchTable, images: Sequence[ImageId], *, threshold: float
) -> list[dict[str, Any]]:
    """The size and the boxes of each image, as plain data.

    A box is [kind, error, class, score, x, y, width, height]: places in KINDS, ERRORS (-1 for none)
    and the classes, and px from the corner of the image; a missed object has the score None.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        images: Ids of some of its images.
        threshold: Detections of a smaller score are left out; NaN leaves out all.
    """
    columns = _collect(pairs, table, threshold)
    place_of = {image: i for i, image in enumerate(table.images)}
    places = np.array([place_of[image] for image in images], np.int64)
    sizes = _find_sizes(pairs, places)
    columns = columns.of_images(places)
    starts = np.searchsorted(columns.image, np.arange(len(table.images) + 1))
    return [
        {
            "size": size,
            "boxes": columns.records(slice(starts[i], starts[i + 1])),
            "count": int(starts[i + 1] - starts[i]),
        }
        for i, size in zip(places.tolist(), sizes.tolist(), strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """Boxes of detections and of missed objects.

    Attributes:
        image: int64 [n], ascending once `of_images` has ordered them.
        kind: int64 [n], the place in KINDS.
        error: int64 [n], the place in ERRORS, or NO_ERROR.
        label: int64 [n].
        score: float64 [n]; NaN for missed objects.
        box: float64 [n, 4], x, y, width and height.
    """

    image: Places
    kind: Places
    error: Places
    label: Places
    score: Floats
    box: Floats

    def of_images(self, images: Places) -> "_Boxes":
        """Those of some images, by image, missed ones first and true ones last, then by score."""
        rows = np.flatnonzero(np.isin(self.image, images))
        score = np.nan_to_num(self.score[rows], nan=0.0)
        rows = rows[np.lexsort((-score, -self.kind[rows], self.image[rows]))]
        return _Boxes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def records(self, part: slice) -> list[list[Any]]:
        """The boxes of a part as rows, at most MAX_BOXES."""
        part = slice(part.start, min(part.stop, part.start + MAX_BOXES))
        columns = (self.kind, self.error, self.label, self.score)
        lists = [column[part].tolist() for column in columns]
        boxes = np.round(self.box[part], 1).tolist()
        return [[*values, *box] for *values, box in zip(*lists, boxes, strict=True)]


def _collect(pairs: Pairs, table: MatchTable, threshold: float) -> _Boxes:
    """All detections from the threshold on, and the counted objects that none of them claims."""
    status = table.status[0, 0]
    errors = classify_errors(pairs, table, status == FALSE_POSITIVE)
    is_shown = (table.score >= threshold) & ((status == TRUE_POSITIVE) | (status == FALSE_POSITIVE))
    rows = np.flatnonzero(is_shown)
    is_true = status[rows] == TRUE_POSITIVE
    claimed = pairs.truth[rows[is_true]]
    is_missed = pairs.is_counted.copy()
    is_missed[claimed] = False
    objects = np.flatnonzero(is_missed)
    miss = list(ERRORS).index("Miss")
    error = np.where(is_true, NO_ERROR, errors.kind[rows].astype(np.int64))
    object_error = np.where(errors.is_missed[objects], miss, NO_ERROR)
    return _Boxes(
        image=np.append(table.image[rows], pairs.ground_truth.image[objects]).astype(np.int64),
        kind=np.append(np.where(is_true, TRUE, FALSE), np.full(len(objects), MISSED)),
        error=np.append(error, object_error),
        label=np.append(table.label[rows], pairs.ground_truth.label[objects]).astype(np.int64),
        score=np.append(table.score[rows], np.full(len(objects), np.nan)),
        box=np.concatenate(
            [
                _place_boxes(pairs.detections, pairs.detection[rows]),
                _place_boxes(pairs.ground_truth, objects),
            ]
        ),
    )


def _place_boxes(table: Table, rows: Places) -> Floats:
    """x, y, width and height from the corner of the image, px, float64 [n, 4]."""
    box = table.box[rows]
    extra = 1.0 if table.pixels == "inclusive" else 0.0
    corner, size = box[:, :2] - extra, box[:, 2:] - box[:, :2] + extra
    scale = np.array(UNKNOWN_SIDE * 2 if table.pixels == "relative" else (1,) * 4, np.float64)
    placed: Floats = np.concatenate([corner, size], axis=1) * scale
    return placed


def _find_sizes(pairs: Pairs, images: Places) -> Places:
    """Width and height of images; where they are not known, what their boxes reach."""
    truth = pairs.ground_truth
    if truth.pixels == "relative":
        return np.tile(np.array(UNKNOWN_SIDE, np.int64), (len(images), 1))
    sizes = pairs.catalog.sizes
    known = sizes[images] if len(sizes) else np.zeros((len(images), 2), np.int64)
    reach = np.ones((len(pairs.catalog.images), 2))
    for table in (truth, pairs.detections):
        np.maximum.at(reach, table.image, np.ceil(table.box[:, 2:]))
    return np.where(known > 0, known, reach[images].astype(np.int64))
