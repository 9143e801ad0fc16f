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
