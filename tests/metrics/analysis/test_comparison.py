"""Differences of two detectors: against an independent bootstrap, and what they must not do."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import detections_from_arrays, ground_truth_from_arrays, read
from upmap.metrics import COCO, VOC2010
from upmap.metrics.analysis import compare
from upmap.metrics.analysis.intervals import normal_p_value, student_p_value
from upmap.metrics.match_table import MatchTable, concatenate, select_images
from upmap.metrics.matching import match
from upmap.metrics.protocols import Protocol
from upmap.metrics.scores import evaluate_matches


def data(seed: int, images: int, quality: float = 0.7) -> tuple[list[Any], list[Any]]:
    """Ground truth of two classes, the same for every quality, and detections of some quality."""
    place, noise = np.random.default_rng(seed), np.random.default_rng(round(1000 * quality))
    truth, found = [], []
    for _ in range(images):
        corner = place.integers(0, 200, (3, 2)).astype(float)
        box = np.concatenate([corner, corner + place.integers(20, 60, (3, 2))], axis=1)
        labels = np.array(["cat", "dog", "cat"])
        truth.append({"boxes": box, "labels": labels})
        is_right = noise.random(3) < quality
        moved = box + np.where(is_right, 0, 300)[:, np.newaxis]
        scores = noise.random(3) * 0.5 + 0.5 * is_right
        found.append({"boxes": moved, "labels": labels, "scores": scores})
    return truth, found


def table(seed: int, images: int, quality: float = 0.7, protocol: Protocol = COCO) -> MatchTable:
    truth, found = data(seed, images, quality)
    return match(ground_truth_from_arrays(truth), detections_from_arrays(found), protocol)


def test_a_detector_differs_from_itself_by_nothing() -> None:
    this = table(1, 30)
    result = compare(this, this)
    for difference in [*result.metrics.values(), *result.per_class.values()]:
        if not math.isnan(difference.delta):
            assert (difference.delta, difference.standard_error, difference.p) == (0, 0, 1)
    assert set(result.image_delta.values()) == {0.0}


def test_exchanging_both_changes_signs_only() -> None:
    a, b = table(1, 60, 0.6), table(1, 60, 0.8)
    there, back = compare(a, b), compare(b, a)
    for name, difference in there.metrics.items():
        other = back.metrics[name]
        np.testing.assert_allclose(other.delta, -difference.delta)
        np.testing.assert_allclose(other.standard_error, difference.standard_error)
        np.testing.assert_allclose(other.p, difference.p)


@pytest.mark.parametrize("protocol", [COCO, VOC2010])
def test_influence_and_bootstrap_agree_on_the_error_of_a_difference(protocol: Protocol) -> None:
    a, b = (table(3, 300, quality, protocol) for quality in (0.6, 0.75))
    name = next(iter(protocol.summary))
    by_influence = compare(a, b).metrics[name]
    by_bootstrap = compare(a, b, method="bootstrap", replicates=800).metrics[name]
    assert by_influence.delta == by_bootstrap.delta > 0.05
    ratio = by_influence.standard_error / by_bootstrap.standard_error
    assert 0.85 < ratio < 1.15
    assert by_influence.p < 1e-6


def test_the_numbers_are_those_of_each_evaluation() -> None:
    a, b = table(1, 40, 0.5), table(1, 40, 0.9)
    result = compare(a, b)
    for name, difference in result.metrics.items():
        expected = [evaluate_matches(one).metrics[name] for one in (a, b)]
        np.testing.assert_equal([difference.a, difference.b], expected)


def test_images_that_only_one_has_are_left_out_and_counted() -> None:
    truth, found = data(1, 20)
    tables = [
        match(
            ground_truth_from_arrays(truth[part], images=range(20)[part]),
            detections_from_arrays(found[part], images=range(20)[part]),
            COCO,
        )
        for part in (slice(0, 15), slice(5, 20))
    ]
    result = compare(*tables)
    assert (result.images, result.left_out) == (10, 10)
    inner = match(ground_truth_from_arrays(truth[5:15]), detections_from_arrays(found[5:15]), COCO)
    assert result.metrics["AP"].a == evaluate_matches(inner).metrics["AP"]
    with pytest.raises(ValueError, match="no image that both"):
        compare(select_images(tables[0], [0, 1], tables[0].classes), tables[1])


def test_other_ground_truths_and_protocols_are_refused() -> None:
    with pytest.raises(ValueError, match="ground truth of the two match tables differs"):
        compare(table(1, 10), other_truth())
    with pytest.raises(ValueError, match="different protocols"):
        compare(table(1, 10), table(1, 10, protocol=VOC2010))
    with pytest.raises(ValueError, match="method must be"):
        compare(table(1, 10), table(1, 10), method="guess")  # type: ignore[arg-type]


def other_truth() -> MatchTable:
    truth, found = data(1, 10)
    truth[3]["labels"] = np.array(["dog", "dog", "cat"])
    return match(ground_truth_from_arrays(truth), detections_from_arrays(found), COCO)


def test_some_images_of_a_match_table_are_evaluated_as_these_alone() -> None:
    truth, found = data(5, 30)
    whole = match(ground_truth_from_arrays(truth), detections_from_arrays(found), COCO)
    part = match(ground_truth_from_arrays(truth[:12]), detections_from_arrays(found[:12]), COCO)
    some = select_images(whole, range(12), whole.classes)
    np.testing.assert_equal(evaluate_matches(some).metrics, evaluate_matches(part).metrics)
    other = select_images(whole, range(12, 30), whole.classes)
    joined = concatenate([some, other])
    np.testing.assert_equal(evaluate_matches(joined).metrics, evaluate_matches(whole).metrics)


def test_classes_with_few_positives_are_tested_by_permutation() -> None:
    result = compare(table(1, 12, 0.2), table(1, 12, 0.9))
    assert {row.test for row in result.per_class.values()} == {"permutation"}
    assert result.per_class["cat"].p < 0.05
    large = compare(table(1, 100, 0.2), table(1, 100, 0.9))
    assert {row.test for row in large.per_class.values()} == {"student"}


def test_permutations_of_equal_detectors_give_p_values_that_are_not_small() -> None:
    p_values = [compare(table(s, 9, 0.5), table(s, 9, 0.501)).per_class["dog"].p for s in range(40)]
    assert np.mean(np.array(p_values) < 0.05) <= 0.1
    assert np.median(p_values) > 0.2


def test_neither_threads_nor_implementation_change_a_difference() -> None:
    a, b = table(1, 25, 0.4), table(1, 25, 0.8)
    expected = compare(a, b, threads=1)
    for settings in ({"threads": 3}, {"impl": "reference"}):
        result = compare(a, b, **settings)  # type: ignore[arg-type]
        for name, difference in expected.metrics.items():
            np.testing.assert_allclose(
                result.metrics[name].standard_error, difference.standard_error
            )
        for name, row in expected.per_class.items():
            assert result.per_class[name].p == pytest.approx(row.p, abs=2e-3)


def test_the_images_that_changed_most_are_those_that_differ() -> None:
    truth, found = data(1, 20, 0.999)
    better = match(ground_truth_from_arrays(truth), detections_from_arrays(found), COCO)
    found[7] = found[7] | {"boxes": found[7]["boxes"] + 500}
    worse = match(ground_truth_from_arrays(truth), detections_from_arrays(found), COCO)
    delta = compare(better, worse).image_delta
    assert min(delta, key=lambda image: delta[image]) == 7


def test_one_image_has_no_standard_error() -> None:
    difference = compare(table(1, 1), table(1, 1, 0.1)).metrics["AP"]
    assert math.isnan(difference.standard_error)
    assert math.isnan(difference.p)


def test_p_values_of_student_are_those_of_an_independent_program() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 3.7, 10, 25, 120.5, 999):
        for t in (0.0, 0.3, 1.96, 3.02, 8.0):
            expected = 2 * stats.t.sf(t, int(degrees))
            assert student_p_value(-t, 1.0, degrees) == pytest.approx(expected, abs=1e-13)
    assert student_p_value(3.0, 1.0, math.inf) == normal_p_value(3.0, 1.0)
    assert student_p_value(3.0, 1.0, math.nan) == normal_p_value(3.0, 1.0)
    assert student_p_value(0.0, 0.0, 5) == 1
    assert math.isnan(student_p_value(1.0, math.nan, 5))
    assert 0 < student_p_value(60.0, 2.0, 120) < 1e-14  # where 1 - P is rounding


@pytest.mark.filterwarnings("ignore::upmap.errors.InputWarning")  # boxes that are inverted
def test_differences_of_two_published_detectors_are_those_of_an_independent_bootstrap(
    real_data: Path,
) -> None:
    expected = json.loads((real_data / "expected_trust" / "paired.json").read_text())["voc2010"]
    tables = [
        match(*read(real_data / "voc2007_test", real_data / f"voc2007_dets_{name}"), VOC2010)
        for name in ("yolov3_darknet", "mobilenet_yolov3_ncnn")
    ]
    result = compare(*tables)
    difference = result.metrics["mAP"]
    assert difference.delta == pytest.approx(expected["mAP"]["delta"], abs=1e-6)
    assert difference.standard_error == pytest.approx(expected["mAP"]["se"], rel=0.05)
    for name, row in expected["per_class"].items():
        ours = result.per_class[name]
        assert ours.delta == pytest.approx(row["delta"], abs=5e-6)  # those are of float32
        assert ours.standard_error == pytest.approx(row["se"], rel=0.12)
        assert (ours.p_holm < 0.05) == (row["p_holm"] < 0.05) or abs(row["p_holm"] - 0.05) < 0.03
