"""The positives by image: which image each counted ground truth lies on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import convert_pixels
from upmap.detection.tables import GroundTruth, with_classes, with_images
from upmap.metrics import MatchTable, Protocol

__all__ = ["Positives", "find_positives"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Positives:
    """Ground truths that count in at least one area range, by label, then image.

    Attributes:
        image: int32 [G], index into the match table's images.
        label: int32 [G], index into its classes.
        areas: uint64 [G], bit a is set where it counts in area range a.
    """

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    areas: NDArray[np.uint64]


def find_positives(ground_truth: GroundTruth, table: MatchTable) -> Positives:
    """The positives of a match table, from the ground truth that it was made with.

    Args:
        ground_truth: M annotated boxes.
        table: The match table; its images, classes and protocol are used.

    Raises:
        ValueError: If the table counts other positives: it was made with another ground truth.
    """
    protocol = table.protocol
    truth = with_classes(with_images(ground_truth, table.images), table.classes)
    truth = convert_pixels(truth, protocol.pixels)
    is_counted = _counts(truth, protocol)
    areas = np.zeros(len(truth), np.uint64)
    for a, (_, low, high) in enumerate(protocol.area_ranges):
        is_inside = is_counted & (truth.area >= low) & (truth.area <= high)
        areas |= is_inside.astype(np.uint64) << np.uint64(a)
    order = np.lexsort((truth.image, truth.label))
    order = order[areas[order] > 0]
    positives = Positives(image=truth.image[order], label=truth.label[order], areas=areas[order])
    _validate_counts(positives, table)
    return positives


def _counts(truth: GroundTruth, protocol: Protocol) -> NDArray[np.bool_]:
    """Where an object is neither ignored nor dropped; crowd decides before difficult does."""
    is_counted = np.ones(len(truth), bool)
    is_counted[truth.difficult] = protocol.difficult == "count"
    is_counted[truth.crowd] = protocol.crowd == "count"
    if protocol.difficult == "drop":
        is_counted[truth.difficult] = False
    return is_counted


def _validate_counts(positives: Positives, table: MatchTable) -> None:
    K, A = table.positives.shape
    for a in range(A):
        is_inside = (positives.areas >> np.uint64(a)) & np.uint64(1) == 1
        counts = np.bincount(positives.label[is_inside], minlength=K)
        if not np.array_equal(counts, table.positives[:, a]):
            name = table.protocol.area_ranges[a].name
            raise ValueError(
                f"the ground truth has {int(counts.sum())} positives of area {name!r}, the match "
                f"table {int(table.positives[:, a].sum())}: it was made with another ground truth"
            )
