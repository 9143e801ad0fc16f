"""From tables to the match table: what every detection turned out to be, under one protocol.

The match table is all that is needed from here on: two of them, joined, are the evaluation of the
union of their images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, convert_pixels, scale_to_pixels
from upmap.detection.tables import (
    Detections,
    GroundTruth,
    ImageId,
    align,
    class_order,
    row_subset,
    sort_ids,
)
from upmap.kernels import matching
from upmap.kernels.matching import CLAIMABLE, CROWD, NEVER_CLAIMED, Boxes, Rules
from upmap.metrics.protocol import Protocol

__all__ = ["Implementation", "MatchTable", "concatenate", "match"]

Implementation = Literal["native", "reference"]
KINDS = {"count": CLAIMABLE, "drop": CLAIMABLE, "ignore": NEVER_CLAIMED, "crowd": CROWD}
UNKNOWN_ORDER = (
    "detections of equal score stand in several match tables whose rows were numbered apart, so "
    "their order in the file, by which the protocol goes, is not known: make the tables of the "
    "parts with detections_from_arrays, cut them out of one table, or use ties='image'"
)
ALL_DETECTIONS = 2**31 - 1  # a cap that no image reaches


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MatchTable:
    """Detections in curve order (by class, then descending score) and what they matched.

    Attributes:
        protocol: The protocol that it was made under.
        images: The images evaluated, ascending.
        classes: The class names.
        image: int32 [N], index into images.
        label: int32 [N], index into classes.
        score: float64 [N].
        row: int64 [N], the place in the source: in the tables that are joined, each in its own.
        rank: int32 [N], by score within image and class, from 0.
        status: uint8 [A, T, N], FALSE_POSITIVE, TRUE_POSITIVE or IGNORED (see kernels.matching).
        positives: int64 [K, A], counted ground truths.
        rows_by_image: Whether detections of equal score stand by image, then `row`, whatever the
            protocol's `ties`: those from memory do (see `Detections.rows_by_image`).
        has_numbers: Whether the classes are integer labels that nothing names.
        has_areas: Whether areas in px^2 are known, and scores of area ranges are defined.
    """

    protocol: Protocol
    images: tuple[ImageId, ...]
    classes: tuple[str, ...]
    image: NDArray[np.int32]
    label: NDArray[np.int32]
    score: NDArray[np.float64]
    row: NDArray[np.int64]
    rank: NDArray[np.int32]
    status: NDArray[np.uint8]
    positives: NDArray[np.int64]
    rows_by_image: bool = False
    has_numbers: bool = False
    has_areas: bool = True

    def __len__(self) -> int:
        return len(self.label)

    @property
    def start(self) -> NDArray[np.int64]:
        """Where each class begins, int64 [K + 1]."""
        return np.searchsorted(self.label, np.arange(len(self.classes) + 1)).astype(np.int64)


def match(
    ground_truth: GroundTruth,
    detections: Detections,
    protocol: Protocol,
    *,
    impl: Implementation | None = None,
    threads: int = 0,
) -> MatchTable:
    """Matches detections to ground truth as a protocol says.

    Args:
        ground_truth: M annotated boxes.
        detections: N detected boxes.
        protocol: The choices.
        impl: "native" or "reference"; None for the best that is built.
        threads: At most so many; 0 for as many as the machine has.

    Raises:
        InputError: If detections lie on images that the ground truth does not have, or boxes are
            in units of the image's sides and the protocol, or the other table, needs pixels.
    """
    ground_truth, detections = align(ground_truth, detections)
    ground_truth = _drop_marked(ground_truth, protocol)
    truth, found = _convert_boxes(ground_truth, detections, protocol)
    catalog = detections.catalog
    matches = matching.match(
        _detection_boxes(found),
        _truth_boxes(truth, protocol),
        rules(protocol),
        len(catalog.classes),
        threads=threads,
        impl=impl,
    )
    return MatchTable(
        protocol=protocol,
        images=catalog.images,
        classes=catalog.classes,
        image=matches.image,
        label=matches.label,
        score=matches.score,
        row=matches.row,
        rank=matches.rank,
        status=matches.status,
        positives=matches.positives,
        rows_by_image=detections.rows_by_image,
        has_numbers=catalog.has_numbers,
        has_areas=truth.pixels != "relative",
    )


def _convert_boxes(
    ground_truth: GroundTruth, detections: Detections, protocol: Protocol
) -> tuple[GroundTruth, Detections]:
    """Both tables in the protocol's convention; as they stand if both are in units of the image.

    An IoU does not change with the unit of an axis, but for VOC's + 1.
    """
    truth, results = scale_to_pixels(ground_truth), scale_to_pixels(detections)
    are_relative = truth.pixels == results.pixels == "relative"
    needs_pixels = protocol.pixels == "inclusive" or protocol.area_ranges[0].is_limited
    if are_relative and not needs_pixels:
        return truth, results
    return convert_pixels(truth, protocol.pixels), convert_pixels(results, protocol.pixels)


def concatenate(tables: Sequence[MatchTable]) -> MatchTable:
    """The match table of the union of several tables' images: exactly that of evaluating them all.

    Detections of equal score stand by image, then by their place in it, where the protocol says so
    (COCO) or all of them come from memory (`detections_from_arrays`): then it does not matter how
    the images were divided. Otherwise (VOC, from files) they stand in the order of the file, which
    parts cut out of one table (`with_images`, `row_subset`) still know; parts that
    were read from files of their own do not, and are refused if a score stands in two of them.

    Args:
        tables: At least one, all under the same protocol, no image in two of them.

    Raises:
        ValueError: If there is none, protocols differ, an image stands in two tables, the labels of
            some are integers and those of others are names, or the order of equal scores is not
            known.
    """
    if not tables:
        raise ValueError("expected at least one match table")
    first = tables[0]
    if any(table.protocol != first.protocol for table in tables):
        raise ValueError("match tables of different protocols cannot be joined")
    if len({table.has_numbers for table in tables if table.classes}) > 1:
        raise ValueError(
            "the labels of some match tables are integers and those of others are class names; "
            "classes= says which name an integer has"
        )
    images = tuple(sort_ids(image for table in tables for image in table.images))
    if len(set(images)) < len(images):
        raise ValueError(
            "an image stands in two of the match tables (in tables from arrays, images= gives the "
            "ids)"
        )
    classes = first.classes
    if any(table.classes != classes for table in tables):
        classes = class_order({name for table in tables for name in table.classes})
    return _in_curve_order([_reindex(table, images, classes) for table in tables])


def rules(protocol: Protocol) -> Rules:
    """The choices of a protocol that the matching kernel takes."""
    most = protocol.max_dets[-1]
    return Rules(
        iou_thresholds=np.minimum(protocol.iou_thresholds, protocol.iou_ceiling),
        area_ranges=np.array([(low, high) for _, low, high in protocol.area_ranges], np.float64),
        side_offset=1.0 if protocol.pixels == "inclusive" else 0.0,
        strict=protocol.strict,
        best_only=protocol.assignment == "best",
        last_of_equals=protocol.equal_iou == "last",
        ties_by_image=protocol.ties == "image",
        max_dets=ALL_DETECTIONS if most == math.inf else int(most),
    )


def _drop_marked(table: GroundTruth, protocol: Protocol) -> GroundTruth:
    dropped = np.zeros(len(table), bool)
    for treatment, mark in ((protocol.difficult, table.difficult), (protocol.crowd, table.crowd)):
        if treatment == "drop":
            dropped |= mark
    return row_subset(table, ~dropped) if dropped.any() else table


def _detection_boxes(table: Detections) -> Boxes:
    return Boxes(
        image=table.image,
        label=table.label,
        box=table.box,
        box_area=box_area(table.size),
        area=np.zeros(0),
        score=table.score,
        row=table.row,
        kind=np.zeros(0, np.uint8),
    )


def _truth_boxes(table: GroundTruth, protocol: Protocol) -> Boxes:
    kind = np.full(len(table), CLAIMABLE, np.uint8)
    kind[table.difficult] = KINDS[protocol.difficult]
    kind[table.crowd] = KINDS[protocol.crowd]
    return Boxes(
        image=table.image,
        label=table.label,
        box=table.box,
        box_area=box_area(table.size),
        area=table.area,
        score=np.zeros(0),
        row=np.zeros(0, np.int64),
        kind=kind,
    )


def _reindex(
    table: MatchTable, images: tuple[ImageId, ...], classes: tuple[str, ...]
) -> MatchTable:
    """`table` with its columns counted in longer lists of images and classes."""
    image_place = {image: i for i, image in enumerate(images)}
    class_place = {name: k for k, name in enumerate(classes)}
    image = np.array([image_place[image] for image in table.images], np.int32)[table.image]
    moved = np.array([class_place[name] for name in table.classes], np.int32)
    positives = np.zeros((len(classes), table.positives.shape[1]), np.int64)
    positives[moved] = table.positives
    return replace(
        table,
        images=images,
        classes=classes,
        image=image,
        label=moved[table.label],
        positives=positives,
    )


def _in_curve_order(tables: list[MatchTable]) -> MatchTable:
    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(table, name) for table in tables])

    image, label, score, row = (column(name) for name in ("image", "label", "score", "row"))
    rows_by_image = all(table.rows_by_image for table in tables if len(table))
    if rows_by_image or tables[0].protocol.ties == "image":
        order = np.lexsort((row, image, -score, label))
    else:
        order = np.lexsort((row, -score, label))
        part = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        is_tie = (np.diff(label[order]) == 0) & (np.diff(score[order]) == 0)
        are_parts_tied = (is_tie & (np.diff(part[order]) != 0)).any()
        if are_parts_tied and not _share_a_source(tables, row):
            raise ValueError(UNKNOWN_ORDER)
    return replace(
        tables[0],
        image=image[order],
        label=label[order],
        score=score[order],
        row=row[order],
        rank=column("rank")[order],
        status=np.concatenate([table.status for table in tables], axis=2)[:, :, order],
        positives=np.sum([table.positives for table in tables], axis=0),
        rows_by_image=rows_by_image,
        has_numbers=any(table.has_numbers for table in tables),
        has_areas=all(table.has_areas for table in tables),
    )


def _share_a_source(tables: Sequence[MatchTable], row: NDArray[np.int64]) -> bool:
    """Whether the rows of all tables, which `row` holds, can be places in one file."""
    is_any_by_image = any(table.rows_by_image for table in tables if len(table))
    return not is_any_by_image and len(np.unique(row)) == len(row)
