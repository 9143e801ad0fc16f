"""COCO evaluation against pycocotools, bit for bit: the printed numbers and every array."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.metrics.random_coco import ALIKE_EVERY_TIME, data_sets, write_files
from upmap.metrics import COCO, Evaluation, mean_average_precision
from upmap.metrics.curves import accumulate

IMPLEMENTATIONS = ["native", "reference"]


def evaluate_with_pycocotools(truth_path: Path, results_path: Path) -> Any:
    """COCOeval after evaluate, accumulate and summarize."""
    from pycocotools.coco import COCO as Dataset
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = Dataset(str(truth_path))
        is_empty = results_path.read_text() == "[]"  # loadRes fails on these
        detections = truth.loadRes(str(results_path)) if not is_empty else Dataset()
        evaluator = COCOeval(truth, detections, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def assert_equal_to_pycocotools(ours: Evaluation, theirs: Any, impl: str | None) -> None:
    expected = [np.nan if value == -1 else value for value in theirs.stats]
    np.testing.assert_array_equal(list(ours.metrics.values()), expected)
    arrays = accumulate(ours.match_table, with_scores=True, impl=impl)
    for name in ("precision", "recall", "scores"):
        expected = np.where(theirs.eval[name] == -1, np.nan, theirs.eval[name])
        np.testing.assert_array_equal(getattr(arrays, name), expected, err_msg=name)


@pytest.mark.filterwarnings("ignore::detection.InputWarning")  # inverted boxes are part of it
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_every_number_and_array_of_random_data_equals_pycocotools(impl: str) -> None:
    @settings(ALIKE_EVERY_TIME, max_examples=200)
    @given(data_sets())
    def check(data: tuple[dict[str, Any], list[Any]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_files(Path(folder), *data)
            ours = mean_average_precision(*paths, protocol=COCO, impl=impl)
            assert_equal_to_pycocotools(ours, evaluate_with_pycocotools(*paths), impl)

    check()


@pytest.mark.filterwarnings("ignore::detection.InputWarning")  # says that boxes are of masks
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_results_with_masks_only_give_the_numbers_of_pycocotools(impl: str, tmp_path: Path) -> None:
    mask = pytest.importorskip("pycocotools.mask", reason="compares with pycocotools")
    rng = np.random.default_rng(7)
    truth, results = random_masks(rng, mask)
    paths = write_files(tmp_path, truth, results)
    ours = mean_average_precision(*paths, protocol=COCO, impl=impl)
    assert_equal_to_pycocotools(ours, evaluate_with_pycocotools(*paths), impl)
    sizes = [ours.metrics[name] for name in ("APs", "APm", "APl")]
    by_boxes = [row | {"bbox": mask.toBbox(row["segmentation"]).tolist()} for row in results]
    others = mean_average_precision(*write_files(tmp_path, truth, by_boxes), protocol=COCO)
    assert sizes != [others.metrics[name] for name in ("APs", "APm", "APl")]


def random_masks(rng: np.random.Generator, mask: Any) -> tuple[dict[str, Any], list[Any]]:
    """Ground truth, and results with sparse masks whose boxes are near the ground truth's."""
    side, annotations, results = 160, [], []
    for i in range(60):
        width, height = rng.integers(20, 130, 2).tolist()
        x, y = rng.integers(0, side - max(width, height), 2).tolist()
        place = {"image_id": i // 3 + 1, "category_id": 1}
        box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
        annotations.append({"id": i + 1, **place, **box})
        for _ in range(2):
            left, top = np.maximum(np.array([x, y]) + rng.integers(-9, 9, 2), 0)
            pixels = np.zeros((side, side), np.uint8, order="F")
            is_set = rng.random((height, width)) < rng.choice([0.05, 0.6, 1])
            part = pixels[top : top + height, left : left + width]
            part[:] = is_set[: part.shape[0], : part.shape[1]]
            encoded = mask.encode(pixels)
            encoded["counts"] = encoded["counts"].decode()
            results.append({**place, "segmentation": encoded, "score": float(rng.random())})
    images = [{"id": i + 1, "width": side, "height": side} for i in range(20)]
    categories = [{"id": 1, "name": "a"}]
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_every_number_and_array_of_the_published_fake_results_equals_pycocotools(
    impl: str, real_data: Path
) -> None:
    folder = real_data / "coco_fakebbox100"
    paths = (
        folder / "instances_val2014_100.json",
        folder / "instances_val2014_fakebbox100_results.json",
    )
    ours = mean_average_precision(*paths, protocol=COCO, impl=impl)
    assert_equal_to_pycocotools(ours, evaluate_with_pycocotools(*paths), impl)
    assert round(ours.mAP, 9) == 0.504580699
