"""Small data sets for the tests of analysis: random boxes with every mark, and the real ones."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from upmap.detection import (
    Detections,
    GroundTruth,
    InputWarning,
    detections_from_arrays,
    ground_truth_from_arrays,
    read,
)
from upmap.metrics import COCO, MatchTable, Protocol, match
from upmap.metrics.analysis.pairs import Pairs, pair_detections

__all__ = ["pair_real", "pair_scene", "random_tables", "read_expected", "read_real"]

Tables = tuple[GroundTruth, Detections]
LABELS = ("a", "b", "c")
REAL = {
    "coco_fakebbox100": (
        "coco_fakebbox100/instances_val2014_100.json",
        "coco_fakebbox100/instances_val2014_fakebbox100_results.json",
    ),
    "voc2007_test/yolov3_darknet": ("voc2007_test", "voc2007_dets_yolov3_darknet"),
}


def random_tables(seed: int, *, images: int = 12, levels: int = 20) -> Tables:
    """Three classes; objects that overlap, some difficult or crowds; detections near and far.

    Args:
        seed: Of the generator.
        images: Some have no objects, some no detections.
        levels: Of scores: few make many equal.
    """
    rng = np.random.default_rng(seed)
    targets, predictions = [], []
    for _ in range(images):
        count = int(rng.integers(0, 6))
        low = rng.integers(0, 30, (count, 2))
        boxes = np.concatenate([low, low + rng.integers(4, 40, (count, 2))], axis=1).astype(float)
        labels = rng.choice(LABELS, count)
        marks = {"difficult": rng.random(count) < 0.15, "iscrowd": rng.random(count) < 0.15}
        targets.append({"boxes": boxes, "labels": labels.tolist(), **marks})
        near = np.repeat(boxes, 2, axis=0) + rng.integers(-4, 5, (2 * count, 4))
        far = rng.integers(0, 70, (int(rng.integers(0, 4)), 4)).astype(float)
        both = np.concatenate([near, far])
        both = np.concatenate([both[:, :2], np.maximum(both[:, 2:], both[:, :2] + 1)], axis=1)
        guesses = np.concatenate([np.repeat(labels, 2), rng.choice(LABELS, len(far))])
        is_wrong = rng.random(len(both)) < 0.3
        guesses = np.where(is_wrong, rng.choice(LABELS, len(both)), guesses)
        scores = rng.integers(0, levels + 1, len(both)) / levels
        keep = rng.random(len(both)) < 0.8
        predictions.append(
            {"boxes": both[keep], "labels": guesses[keep].tolist(), "scores": scores[keep]}
        )
    ids = [f"{i:03d}" for i in range(images)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        truth = ground_truth_from_arrays(targets, images=ids)
        return truth, detections_from_arrays(predictions, images=ids)


@cache
def read_real(folder: Path, name: str) -> Tables:
    """One of the real data sets, read once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        truth, detections = REAL[name]
        return read(folder / truth, folder / detections)


def read_expected(folder: Path, name: str) -> dict[str, Any]:
    """The numbers of an independent tool, by data set and settings."""
    expected = json.loads((folder / "expected_trust" / name).read_text("utf-8"))
    del expected["what"]
    return expected


def pair_real(folder: Path, name: str, *, iou: float = 0.5) -> tuple[Pairs, MatchTable]:
    """A real data set matched under COCO at one IoU threshold, and its pairs."""
    tables = read_real(folder, name.split(" as ")[0])
    table = match(*tables, replace(COCO, iou_thresholds=(iou,)))
    return pair_detections(*tables, table), table


def pair_scene(
    objects: Sequence[Mapping[str, Any]],
    predictions: Sequence[Mapping[str, Any]],
    protocol: Protocol = COCO,
) -> tuple[Pairs, MatchTable]:
    """Images in the form of `ground_truth_from_arrays`, matched, and their pairs."""
    tables = ground_truth_from_arrays(objects), detections_from_arrays(predictions)
    table = match(*tables, protocol)
    return pair_detections(*tables, table), table
