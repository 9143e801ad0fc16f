"""Derives protocols: a protocol is a value, and a variant of it differs in a few choices."""

import math
from dataclasses import replace
from pathlib import Path

import upmap
from upmap import COCO, VOC2007, AreaRange, Metric, evaluate_matches, match, read

SAMPLE = Path(upmap.__file__).parent / "data" / "sample" / "voc"

# py-faster-rcnn: the IoU must exceed the threshold.
STRICT = replace(VOC2007, name="voc2007, strict", strict=True)

# Objects of VOC by size, at IoU 0.5 and 0.75.
SIZES = replace(
    VOC2007,
    name="by size",
    iou_thresholds=(0.5, 0.75),
    area_ranges=(
        AreaRange("all", -math.inf, math.inf),
        AreaRange("small", 0, 32**2),
        AreaRange("large", 32**2, math.inf),
    ),
    metrics=(
        Metric("mAP", "AP"),
        Metric("mAP75", "AP", iou=0.75),
        Metric("mAP small", "AP", area="small"),
        Metric("mAP large", "AP", area="large"),
    ),
)

# COCO for crowded scenes: up to 300 detections of an image and class.
CROWDED = COCO.with_max_dets(300)


def main() -> None:
    ground_truth, detections = read(SAMPLE, SAMPLE / "results")
    for protocol in (VOC2007, STRICT, SIZES, CROWDED):
        result = evaluate_matches(match(ground_truth, detections, protocol))
        for name, value in result.metrics.items():
            print(f"{protocol.name:<16} {name:<10} {value:.4f}")


if __name__ == "__main__":
    main()
