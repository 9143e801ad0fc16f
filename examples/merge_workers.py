"""Evaluates in several processes, each its own images, and merges the parts.

A match table is what workers send. The merged table is that of all images, so the scores are those
of one evaluation of everything, to the last bit.
"""

from multiprocessing import get_context
from typing import Any

import numpy as np

from upmap import (
    COCO,
    MatchTable,
    concatenate,
    detections_from_arrays,
    evaluate_matches,
    ground_truth_from_arrays,
    match,
    mean_average_precision,
)

WORKERS, IMAGES = 2, 30
CLASSES = {1: "cat", 2: "dog"}


def load_image(image: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ground truth and the detections of one image."""
    generator = np.random.default_rng(image)
    corners = generator.uniform(0, 200, (3, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(20, 100, (3, 2))], axis=1)
    labels = generator.integers(1, 3, 3)
    shifted = boxes + generator.normal(0, 5, (3, 4))
    scores = generator.uniform(0, 1, 3)
    return {"boxes": boxes, "labels": labels}, {
        "boxes": shifted,
        "labels": labels,
        "scores": scores,
    }


def match_part(worker: int) -> MatchTable:
    """The match table of a worker's images; ids must be different in all parts."""
    images = range(worker, IMAGES, WORKERS)
    targets, predictions = zip(*map(load_image, images), strict=True)
    return match(
        ground_truth_from_arrays(targets, classes=CLASSES, images=images),
        detections_from_arrays(predictions, classes=CLASSES, images=images),
        COCO,
    )


def main() -> None:
    with get_context("spawn").Pool(WORKERS) as pool:
        parts = pool.map(match_part, range(WORKERS))
    merged = evaluate_matches(concatenate(parts))

    targets, predictions = zip(*map(load_image, range(IMAGES)), strict=True)
    whole = mean_average_precision(targets, predictions, protocol=COCO, classes=CLASSES)
    for name in ("AP", "AP50", "AP75"):
        print(f"{name:<5} merged {merged.metrics[name]:.6f}  whole {whole.metrics[name]:.6f}")
    if dict(merged.metrics) != dict(whole.metrics):
        raise SystemExit("the merged scores differ from those of the whole")


if __name__ == "__main__":
    main()
