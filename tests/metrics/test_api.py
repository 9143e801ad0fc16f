"""`mean_average_precision` of paths, of tables and of dicts of arrays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import Detections, GroundTruth
from upmap.metrics import VOC2007, VOC2010, mean_average_precision

Tables = tuple[GroundTruth, Detections]


def as_dicts(tables: Tables) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    truth, detections = tables
    images = range(len(truth.catalog.images))
    names = np.array(truth.catalog.classes)
    return [
        {
            "boxes": truth.box[truth.image == i],
            "labels": names[truth.label[truth.image == i]],
            "difficult": truth.difficult[truth.image == i],
        }
        for i in images
    ], [
        {
            "boxes": detections.box[detections.image == i],
            "labels": names[detections.label[detections.image == i]],
            "scores": detections.score[detections.image == i],
        }
        for i in images
    ]


def test_paths_tables_and_dicts_give_the_same_number(sample: Path, sample_tables: Tables) -> None:
    by_paths = mean_average_precision(sample / "voc", sample / "voc/results", protocol=VOC2010)
    by_tables = mean_average_precision(*sample_tables, protocol=VOC2010)
    by_dicts = mean_average_precision(*as_dicts(sample_tables), protocol=VOC2010)
    assert by_paths.mAP == by_tables.mAP
    assert by_dicts.mAP == pytest.approx(by_tables.mAP, abs=1e-6)  # ties: per image, not per class
    assert 0.3 < by_paths.mAP < 1


def test_arrays_are_read_in_the_protocols_own_pixel_convention() -> None:
    # 10 x 20 inclusive pixels in 10 x 10: IoU is 0.5 with the + 1 and 81 / 171 without.
    truth = [{"boxes": [[1, 1, 10, 10]], "labels": [0]}]
    detections = [{"boxes": [[1, 1, 10, 20]], "labels": [0], "scores": [1]}]
    assert mean_average_precision(truth, detections, protocol=VOC2007).mAP == pytest.approx(1)
    corners = replace(VOC2007, pixels="corners")
    assert mean_average_precision(truth, detections, protocol=corners).mAP == 0


def test_mixed_kinds_of_input_are_refused(sample: Path, sample_tables: Tables) -> None:
    with pytest.raises(TypeError, match="two paths, two tables or two lists"):
        mean_average_precision(sample / "voc", sample_tables[1], protocol=VOC2007)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="detections of 1 images, got 0"):
        mean_average_precision([{"boxes": [], "labels": []}], [], protocol=VOC2007)
