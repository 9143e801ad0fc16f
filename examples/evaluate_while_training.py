"""Evaluates a detector after each epoch, from the dicts that a data loader and a model give.

Boxes are xyxy, px, as torchvision's detectors return them; tensors may stand in for the arrays.
"""

from typing import Any

import numpy as np
from numpy.random import Generator

from upmap import COCO, mean_average_precision

CLASSES = {1: "cat", 2: "dog"}
IMAGES, OBJECTS, EPOCHS = 20, 4, 5


def load_targets(generator: Generator) -> list[dict[str, Any]]:
    """The ground truth of every image: boxes float [n, 4], labels int [n]."""
    corners = generator.uniform(0, 200, (IMAGES, OBJECTS, 2))
    sizes = generator.uniform(20, 100, (IMAGES, OBJECTS, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=2)
    labels = generator.integers(1, 3, (IMAGES, OBJECTS))
    return [{"boxes": boxes[i], "labels": labels[i]} for i in range(IMAGES)]


def predict(
    targets: list[dict[str, Any]], error: float, generator: Generator
) -> list[dict[str, Any]]:
    """Stands in for a model: the true boxes, off by `error` px."""
    return [
        {
            "boxes": target["boxes"] + generator.normal(0, error, (OBJECTS, 4)),
            "labels": target["labels"],
            "scores": generator.uniform(0, 1, OBJECTS),
        }
        for target in targets
    ]


def main() -> None:
    generator = np.random.default_rng(0)
    targets = load_targets(generator)
    for epoch in range(1, EPOCHS + 1):
        predictions = predict(targets, 10 / epoch, generator)
        result = mean_average_precision(targets, predictions, protocol=COCO, classes=CLASSES)
        print(f"epoch {epoch}: AP {result.mAP:.4f}  AP50 {result.metrics['AP50']:.4f}")


if __name__ == "__main__":
    main()
