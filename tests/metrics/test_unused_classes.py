"""Classes without ground truth: they cost almost no memory, and change no bit of any number."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from upmap.detection import Catalog, Detections, GroundTruth
from upmap.metrics import COCO, VOC2007, VOC2010, Evaluation, mean_average_precision
from upmap.metrics.curves import precision_samples

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = (COCO, VOC2007, VOC2010, replace(COCO, recall_points=None))
IMAGES = 3


@pytest.mark.parametrize("seed", range(200))
def test_numbers_are_those_of_the_whole_arrays_to_the_last_bit(seed: int) -> None:
    truth, detections = random_tables(np.random.default_rng(seed))
    impl: Any = "reference" if seed % 20 == 0 else None
    result = mean_average_precision(truth, detections, protocol=PROTOCOLS[seed % 4], impl=impl)
    samples, recall = precision_samples(result.accumulate()), result.accumulate().recall
    expected = [mean_of_summary(result, name, samples, recall) for name in result.metrics]
    np.testing.assert_array_equal(list(result.metrics.values()), expected)
    scores = list(result.per_class.values())
    T, R, K = samples.shape[:3]
    flat = np.ascontiguousarray(samples[:, :, :, 0, -1].reshape(T * R, K).T)
    np.testing.assert_array_equal([s.AP for s in scores], flat.mean(axis=1))
    at = [list(s.AP_at.values()) for s in scores]
    np.testing.assert_array_equal(at, samples[:, :, :, 0, -1].mean(axis=1).T)
    final = np.ascontiguousarray(recall[:, :, 0, -1].T)
    np.testing.assert_array_equal([s.recall for s in scores], final.mean(axis=1))
    assert [s.positives for s in scores] == result.match_table.positives[:, 0].tolist()
    counts = np.bincount(detections.label, minlength=K).tolist()
    assert [s.detections for s in scores] == counts


def mean_of_summary(
    result: Evaluation, name: str, samples: NDArray[np.float64], recall: NDArray[np.float64]
) -> float:
    protocol = result.protocol
    metric = protocol.summary[name]
    area = [limits.name for limits in protocol.area_ranges].index(metric.area)
    entries = samples if metric.quantity == "AP" else recall[:, np.newaxis]
    if metric.iou is not None:
        is_close = np.isclose(protocol.iou_thresholds, metric.iou)
        entries = entries[is_close]
    entries = entries[..., area, metric.cap]
    defined = entries[~np.isnan(entries)]
    return float(np.mean(defined)) if defined.size else math.nan


def random_tables(random: np.random.Generator) -> tuple[GroundTruth, Detections]:
    """Tables of 1 to 8 classes, of which some have no ground truth, some no detections."""
    K = int(random.integers(1, 9))
    catalog = Catalog(tuple(range(IMAGES)), tuple(f"class {k}" for k in range(K)))
    truth = random_columns(random, catalog)
    detections = random_columns(random, catalog)
    common = min(len(truth["image"]), len(detections["image"])) // 2
    for name in ("image", "label", "box"):
        detections[name][:common] = truth[name][:common]
    detections["box"][:common] += random.integers(0, 3, (common, 4))
    for columns in (truth, detections):
        columns["size"] = np.abs(columns["box"][:, 2:] - columns["box"][:, :2])
    M, N = len(truth["image"]), len(detections["image"])
    marks = {"difficult": random.random(M) < 0.2, "crowd": random.random(M) < 0.2}
    area = truth["size"].prod(axis=1)
    return (
        GroundTruth(**truth, **marks, area=area, annotation_id=np.arange(M)),
        Detections(**detections, score=random.integers(0, 20, N) / 20, row=np.arange(N)),
    )


def random_columns(random: np.random.Generator, catalog: Catalog) -> dict[str, Any]:
    share = random.choice([0.1, 0.3, 0.6, 1.0])
    used = np.flatnonzero(random.random(len(catalog.classes)) < share)
    N = int(random.integers(0, 60)) if len(used) else 0
    box = np.sort(random.integers(0, 150, (N, 2, 2)), axis=1).reshape(N, 4).astype(np.float64)
    return {
        "image": random.integers(0, IMAGES, N),
        "label": used[random.integers(0, len(used), N)] if N else np.zeros(0, np.int64),
        "box": box,
        "catalog": catalog,
        "pixels": "continuous",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
@pytest.mark.parametrize("detections_of_unused", [False, True])
def test_a_hundred_thousand_unused_classes_need_no_memory_of_their_own(
    detections_of_unused: bool,
) -> None:
    code = f"""
import resource
import numpy as np
from upmap.detection import Catalog, Detections, GroundTruth
from upmap.metrics import COCO, mean_average_precision

K = 100_000
shared = {{"catalog": Catalog((0,), tuple(map(str, range(K)))), "pixels": "continuous"}}
def columns(label):
    N = len(label)
    box, size = np.tile([0.0, 0, 10, 10], (N, 1)), np.full((N, 2), 10.0)
    return {{"image": np.zeros(N), "label": label, "box": box, "size": size}} | shared
labels = np.arange(K) if {detections_of_unused} else np.arange(80)
truth = GroundTruth(**columns(np.arange(80)), area=np.full(80, 100.0), annotation_id=np.arange(80),
                    difficult=np.zeros(80), crowd=np.zeros(80))
detections = Detections(**columns(labels), score=np.ones(len(labels)), row=np.arange(len(labels)))
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 2**29, now + 2**29))  # all samples: 4 GB
result = mean_average_precision(truth, detections, protocol=COCO)
print(result.mAP, len(result.undefined_classes))
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    mAP, undefined = process.stdout.split()
    assert float(mAP) == pytest.approx(1, abs=1e-12)  # pycocotools' epsilon in every precision
    assert undefined == str(100_000 - 80)
