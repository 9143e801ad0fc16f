"""Matches detections to ground truth under a protocol: from tables to the match table.

The choices of the protocol become `upmap.kernels.matching.Rules`, which say where VOCevaldet.m and
COCOeval differ.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, convert_pixels, scale_to_pixels
from upmap.detection.tables import Detections, GroundTruth, align, row_subset
from upmap.kernels import Implementation, matching
from upmap.kernels.matching import (
    CLAIMABLE,
    CROWD,
    MAX_DETECTIONS,
    NEVER_CLAIMED,
    DetectionBoxes,
    Matches,
    Rules,
    TruthBoxes,
)
from upmap.metrics.match_table import MatchTable
from upmap.metrics.protocols import Protocol

__all__ = ["MatchInputs", "match", "prepare_inputs"]

KINDS = {"count": CLAIMABLE, "drop": CLAIMABLE, "ignore": NEVER_CLAIMED, "crowd": CROWD}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MatchInputs:
    """Both tables under one catalog, without objects that are dropped, and what kernels take.

    Attributes:
        ground_truth: M objects, those without that the protocol treats as not annotated.
        detections: N detections.
        truth_boxes: The objects in the pixels of the protocol, row for row.
        detection_boxes: The detections, likewise.
        rules: The choices of the protocol.
    """

    ground_truth: GroundTruth
    detections: Detections
    truth_boxes: TruthBoxes
    detection_boxes: DetectionBoxes
    rules: Rules


def match(
    ground_truth: GroundTruth,
    detections: Detections,
    protocol: Protocol,
    *,
    threads: int = 0,
    impl: Implementation | None = None,
) -> MatchTable:
    """Matches detections to ground truth under a protocol.

    Args:
        ground_truth: M annotated boxes.
        detections: N detected boxes.
        protocol: The choices.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        InputError: If detections lie on images that the ground truth does not have, or boxes are
            in units of the image's sides and the protocol, or the other table, needs pixels.
    """
    inputs = prepare_inputs(ground_truth, detections, protocol)
    catalog = inputs.detections.catalog
    matches = matching.match(
        inputs.detection_boxes,
        inputs.truth_boxes,
        inputs.rules,
        len(catalog.classes),
        threads=threads,
        impl=impl,
    )
    return MatchTable(
        **{column.name: getattr(matches, column.name) for column in fields(Matches)},
        **_positives_by_image(inputs.truth_boxes, protocol),
        protocol=protocol,
        images=catalog.images,
        classes=catalog.classes,
        rows_by_image=inputs.detections.rows_by_image,
        has_numbers=catalog.has_numbers,
        has_areas=inputs.ground_truth.pixels != "relative",
    )


def prepare_inputs(
    ground_truth: GroundTruth, detections: Detections, protocol: Protocol
) -> MatchInputs:
    """What the matching kernel takes of both tables under a protocol.

    Args:
        ground_truth: M annotated boxes.
        detections: N detected boxes.
        protocol: The choices.

    Raises:
        InputError: See `match`.
    """
    ground_truth, detections = align(ground_truth, detections)
    ground_truth = _drop_marked(ground_truth, protocol)
    ground_truth, detections = _convert_boxes(ground_truth, detections, protocol)
    return MatchInputs(
        ground_truth=ground_truth,
        detections=detections,
        truth_boxes=_truth_boxes(ground_truth, protocol),
        detection_boxes=_detection_boxes(detections),
        rules=_rules(protocol),
    )


def _convert_boxes(
    ground_truth: GroundTruth, detections: Detections, protocol: Protocol
) -> tuple[GroundTruth, Detections]:
    """Both tables in the protocol's convention; unchanged if both are in units of the image.

    An IoU does not change with the unit of an axis, but for VOC's + 1.
    """
    truth, results = scale_to_pixels(ground_truth), scale_to_pixels(detections)
    are_relative = truth.pixels == results.pixels == "relative"
    needs_pixels = protocol.pixels == "inclusive" or protocol.area_ranges[0].is_limited
    if are_relative and not needs_pixels:
        return truth, results
    return convert_pixels(truth, protocol.pixels), convert_pixels(results, protocol.pixels)


def _rules(protocol: Protocol) -> Rules:
    """The choices of a protocol that the matching kernel takes."""
    cap = protocol.max_dets[-1]
    return Rules(
        iou_thresholds=np.minimum(protocol.iou_thresholds, protocol.iou_ceiling),
        area_ranges=np.array([(low, high) for _, low, high in protocol.area_ranges], np.float64),
        side_offset=1.0 if protocol.pixels == "inclusive" else 0.0,
        strict=protocol.strict,
        best_only=protocol.assignment == "best",
        last_of_equals=protocol.equal_iou == "last",
        ties_by_image=protocol.ties == "image",
        max_dets=MAX_DETECTIONS if cap == math.inf else int(cap),
    )


def _drop_marked(table: GroundTruth, protocol: Protocol) -> GroundTruth:
    """The ground truth without the objects that the protocol treats as not annotated."""
    is_dropped = np.zeros(len(table), bool)
    for treatment, mark in ((protocol.difficult, table.difficult), (protocol.crowd, table.crowd)):
        if treatment == "drop":
            is_dropped |= mark
    return row_subset(table, ~is_dropped) if is_dropped.any() else table


def _positives_by_image(truth: TruthBoxes, protocol: Protocol) -> dict[str, Any]:
    """The columns of the match table that say where the ground truths lie that it counts."""
    areas = np.zeros(len(truth.label), np.uint64)
    is_counted = truth.kind == CLAIMABLE
    for a, (_, low, high) in enumerate(protocol.area_ranges):
        is_inside = is_counted & (truth.area >= low) & (truth.area <= high)
        areas |= is_inside.astype(np.uint64) << np.uint64(a)
    order = np.lexsort((_narrow(truth.image), _narrow(truth.label)))
    order = order[areas[order] > 0]
    return {
        "positive_image": truth.image[order],
        "positive_label": truth.label[order],
        "positive_areas": areas[order],
    }


def _narrow(indices: NDArray[np.int32]) -> NDArray[Any]:
    """Indices as uint16 where they fit: numpy sorts those several times as fast."""
    return indices.astype(np.uint16) if indices.max(initial=0) < 2**16 else indices


def _detection_boxes(table: Detections) -> DetectionBoxes:
    return DetectionBoxes(
        image=table.image,
        label=table.label,
        box=table.box,
        box_area=box_area(table.size),
        score=table.score,
        row=table.row,
        area=table.area,
    )


def _truth_boxes(table: GroundTruth, protocol: Protocol) -> TruthBoxes:
    kind = np.full(len(table), CLAIMABLE, np.uint8)
    kind[table.difficult] = KINDS[protocol.difficult]
    kind[table.crowd] = KINDS[protocol.crowd]  # also of what is difficult too
    return TruthBoxes(
        image=table.image,
        label=table.label,
        box=table.box,
        box_area=box_area(table.size),
        area=table.area,
        kind=kind,
    )
