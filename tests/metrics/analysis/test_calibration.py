"""Calibration: equal to the authors' code, and by hand."""

import math
from pathlib import Path

import pytest

from tests.metrics.analysis.problems import pair_real, pair_scene, read_expected
from upmap.metrics.analysis.calibration import measure_calibration

ROUNDING = 1e-12  # sums in another order


def test_the_numbers_of_the_official_code_are_met(real_data: Path) -> None:
    expected = read_expected(real_data, "calibration_official.json")
    assert len(expected) == 9
    for name, numbers in expected.items():
        data, kind, tau, count = name.split("|")
        bins = int(count.split()[0])
        pairs, table = pair_real(real_data, data, iou=float(tau.split()[1]))
        calibration = measure_calibration(pairs, table, bins=bins, class_bins=bins)
        if kind == "LaECE":
            assert calibration.LaECE == pytest.approx(numbers["value"], abs=ROUNDING)
            for label, value in numbers["per_class"].items():
                assert calibration.per_class[label] == pytest.approx(value, abs=ROUNDING)
            continue
        assert pytest.approx(numbers["value"], abs=ROUNDING) == calibration.D_ECE
        total = sum(part.count for part in calibration.bins)
        for part, theirs in zip(calibration.bins, numbers["bins"], strict=True):
            gap = abs(part.precision - part.score)
            ours = [part.precision, gap, part.count / total]
            assert ours == pytest.approx(theirs, abs=ROUNDING)


def scene(scores: list[float]):
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60]]
    objects = [{"boxes": boxes[:1], "labels": ["a"]}]
    return pair_scene(objects, [{"boxes": boxes, "labels": ["a", "a"], "scores": scores}])


def test_the_error_is_the_distance_of_precision_from_score_by_bin() -> None:
    calibration = measure_calibration(*scene([0.75, 0.05]), threshold=0.5)
    assert pytest.approx((0.25 + 0.05) / 2) == calibration.D_ECE
    assert calibration.D_ECE_above == pytest.approx(0.25)
    assert calibration.LaECE == pytest.approx((0.25 + 0.05) / 2)


def test_bins_include_their_upper_end_and_the_first_0() -> None:
    calibration = measure_calibration(*scene([0.5, 0.0]), bins=2)
    assert [part.count for part in calibration.bins] == [2, 0]
    assert math.isnan(calibration.bins[1].precision)


@pytest.mark.parametrize("score", [1.5, -0.25])
def test_scores_that_are_no_probabilities_are_refused_with_a_reason(score: float) -> None:
    with pytest.raises(ValueError, match=r"scores must lie in \[0, 1\].*sigmoid"):
        measure_calibration(*scene([score, 0.5]))


def test_without_detections_everything_is_undefined() -> None:
    nothing = {"boxes": [], "labels": [], "scores": []}
    objects = {"boxes": [[0, 0, 9, 9]], "labels": ["a"]}
    for pairs, table in (pair_scene([objects], [nothing]), pair_scene([], [])):
        calibration = measure_calibration(pairs, table)
        assert math.isnan(calibration.D_ECE)
        assert math.isnan(calibration.LaECE)


def test_a_number_of_bins_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0 and 25"):
        measure_calibration(*scene([0.5, 0.5]), bins=0)
