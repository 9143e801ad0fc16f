"""Annotations that may be wrong: where a detector that is usually right disagrees with them.

Four lists: objects that may be missing from the annotation, that may have the wrong class, whose
box may be loose, and that may not be there. Each is a suggestion to look at, not a verdict.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import ImageId
from upmap.kernels.matching import FALSE_POSITIVE
from upmap.metrics.analysis.assignment import best_of_each
from upmap.metrics.analysis.operating_points import OperatingPoints
from upmap.metrics.analysis.pairs import NEAR, Pairs
from upmap.metrics.match_table import MatchTable

__all__ = ["Candidate", "LabelCandidates", "find_label_candidates"]

LIMIT = 100  # of each list
SAME_PLACE = 0.5  # IoU of two boxes around one object
SEEN = 0.05  # score of a detection that speaks for an object at all

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A detection, an annotation, or both, that disagree. Boxes are xyxy px, as in the source.

    Attributes:
        image: The image's id.
        label: The class of the detection; None without one.
        score: Of the detection; NaN without one.
        box: Of the detection; None without one.
        annotation: The annotation's id; None without one.
        annotated_label: Its class; None without one.
        annotated_box: Its box; None without one.
        iou: Of the two; 0 without both.
    """

    image: ImageId
    label: str | None
    score: float
    box: tuple[float, ...] | None
    annotation: int | None
    annotated_label: str | None
    annotated_box: tuple[float, ...] | None
    iou: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelCandidates:
    """Annotations to look at, the best scored detections first.

    Attributes:
        missing: Detections that touch no annotation of any class.
        wrong_class: Detections on an object of another class that no detection of it claims.
        loose_box: Detections whose box is not that of the unclaimed object of their class.
        doubtful: Objects that no detection of any class is near to; in order of the annotations.
        counts: The length of each list before it was cut.
    """

    missing: tuple[Candidate, ...]
    wrong_class: tuple[Candidate, ...]
    loose_box: tuple[Candidate, ...]
    doubtful: tuple[Candidate, ...]
    counts: dict[str, int]

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        lists = [field.name for field in fields(self) if field.name != "counts"]
        return {"counts": self.counts} | {
            name: [asdict(candidate) for candidate in getattr(self, name)] for name in lists
        }


def find_label_candidates(
    pairs: Pairs, table: MatchTable, points: OperatingPoints, *, limit: int = LIMIT
) -> LabelCandidates:
    """Finds annotations that may be wrong.

    A detection is trusted from the score on that gives its class a precision of 90 %, or if there
    is none, its best F1. Only those that count as false at the first IoU threshold are looked at.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        points: The operating points of the match table.
        limit: Of each list, at least 0.

    Raises:
        ValueError: If `limit` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit must be at least 0, not {limit}")
    trusted = _find_trust(table, points)[table.label]
    is_trusted = (table.status[0, 0] == FALSE_POSITIVE) & (table.score >= trusted)
    is_free = pairs.is_counted & (pairs.claimed_by < 0)
    other, other_iou = _best_free(pairs, table, is_free, is_same=False)
    same, same_iou = _best_free(pairs, table, is_free, is_same=True)
    is_wrong = is_trusted & (other_iou >= SAME_PLACE)
    is_loose = is_trusted & (same_iou >= NEAR) & (same_iou < SAME_PLACE)
    nothing = np.full(len(table), -1, np.int64)
    lists = {
        "missing": _sort(table, is_trusted & (pairs.any_iou < NEAR), nothing),
        "wrong_class": _sort(table, is_wrong, other),
        "loose_box": _sort(table, is_loose, same),
        "doubtful": _doubtful(pairs, table),
    }
    return LabelCandidates(
        counts={name: len(rows) for name, (rows, _) in lists.items()},
        **{
            name: tuple(
                _describe(pairs, table, row, truth)
                for row, truth in zip(rows[:limit].tolist(), truths[:limit].tolist(), strict=True)
            )
            for name, (rows, truths) in lists.items()
        },
    )


def _find_trust(table: MatchTable, points: OperatingPoints) -> NDArray[np.float64]:
    """The score of each class from which its detections are trusted; NaN for none."""
    scores = []
    for name in table.classes:
        precise = points.precision_90[name].threshold
        scores.append(points.best_F1[name].threshold if math.isnan(precise) else precise)
    return np.array(scores, np.float64)


def _best_free(
    pairs: Pairs, table: MatchTable, is_free: NDArray[np.bool_], *, is_same: bool
) -> tuple[Places, NDArray[np.float64]]:
    """The unclaimed object of largest IoU of each row, of its class or of others; -1 and 0."""
    overlap = pairs.overlap
    row = np.repeat(np.arange(len(table)), np.diff(overlap.start))
    has_class = pairs.ground_truth.label[overlap.truth] == table.label[row]
    candidates = np.flatnonzero(is_free[overlap.truth] & (has_class == is_same))
    best = best_of_each(row[candidates], len(table), overlap.iou[candidates])
    truth, iou = np.full(len(table), -1, np.int64), np.zeros(len(table))
    places = candidates[best[best >= 0]]
    truth[best >= 0], iou[best >= 0] = overlap.truth[places], overlap.iou[places]
    return truth, iou


def _sort(table: MatchTable, is_listed: NDArray[np.bool_], truth: Places) -> tuple[Places, Places]:
    """The rows that are listed, best score first, and their objects."""
    rows = np.flatnonzero(is_listed)
    rows = rows[np.argsort(-table.score[rows], kind="stable")]
    return rows, truth[rows]


def _doubtful(pairs: Pairs, table: MatchTable) -> tuple[Places, Places]:
    """Counted objects that nothing of a score of SEEN or more is near to: rows are -1."""
    overlap = pairs.overlap
    row = np.repeat(np.arange(len(table)), np.diff(overlap.start))
    is_seen = np.zeros(len(pairs.is_counted), bool)
    is_seen[overlap.truth[(overlap.iou >= NEAR) & (table.score[row] >= SEEN)]] = True
    # What is claimed at a higher threshold alone has a detection near to it, of a small score.
    objects = np.flatnonzero(pairs.is_counted & (pairs.claimed_by < 0) & ~is_seen)
    return np.full(len(objects), -1, np.int64), objects


def _describe(pairs: Pairs, table: MatchTable, row: int, truth: int) -> Candidate:
    """The candidate of a row of the match table, an object, or both; -1 is none."""
    catalog = pairs.catalog
    detected = pairs.detection[row] if row >= 0 else -1
    image = table.image[row] if row >= 0 else pairs.ground_truth.image[truth]
    return Candidate(
        image=catalog.images[image],
        label=table.classes[table.label[row]] if row >= 0 else None,
        score=float(table.score[row]) if row >= 0 else math.nan,
        box=tuple(pairs.detections.box[detected].tolist()) if row >= 0 else None,
        annotation=int(pairs.ground_truth.annotation_id[truth]) if truth >= 0 else None,
        annotated_label=table.classes[pairs.ground_truth.label[truth]] if truth >= 0 else None,
        annotated_box=tuple(pairs.ground_truth.box[truth].tolist()) if truth >= 0 else None,
        iou=_iou(pairs, row, truth) if row >= 0 and truth >= 0 else 0.0,
    )


def _iou(pairs: Pairs, row: int, truth: int) -> float:
    part = slice(*pairs.overlap.start[row : row + 2])
    return float(pairs.overlap.iou[part][pairs.overlap.truth[part] == truth][0])
