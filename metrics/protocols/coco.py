"""The protocol of COCO.

Source: Params and COCOeval of pycocotools 2.0.11, cocoeval.py.
"""

import numpy as np

from upmap.metrics.protocols.protocol import AreaRange, Metric, Protocol

__all__ = ["COCO"]

SMALL_AREA, MEDIUM_AREA, LARGEST_AREA = 32**2, 96**2, 1e5**2  # px^2

COCO = Protocol(
    name="coco",
    pixels="continuous",
    iou_thresholds=tuple(np.linspace(0.5, 0.95, 10).tolist()),
    iou_ceiling=1 - 1e-10,
    assignment="best_unclaimed",
    equal_iou="last",
    difficult="crowd",
    crowd="crowd",
    ties="image",
    recall_points=tuple(np.linspace(0, 1, 101).tolist()),
    epsilon=float(np.spacing(1)),
    area_ranges=(
        AreaRange("all", 0, LARGEST_AREA),
        AreaRange("small", 0, SMALL_AREA),
        AreaRange("medium", SMALL_AREA, MEDIUM_AREA),
        AreaRange("large", MEDIUM_AREA, LARGEST_AREA),
    ),
    max_dets=(1, 10, 100),
    metrics=(
        Metric("AP", "AP"),
        Metric("AP50", "AP", iou=0.5),
        Metric("AP75", "AP", iou=0.75),
        Metric("APs", "AP", area="small"),
        Metric("APm", "AP", area="medium"),
        Metric("APl", "AP", area="large"),
        Metric("AR{max_dets}", "AR", cap=0),
        Metric("AR{max_dets}", "AR", cap=1),
        Metric("AR{max_dets}", "AR"),
        Metric("ARs", "AR", area="small"),
        Metric("ARm", "AR", area="medium"),
        Metric("ARl", "AR", area="large"),
    ),
)
