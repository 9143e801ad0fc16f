"""What uncertainty, comparison and tie ranges must bear: nothing there, one of everything, ties."""

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from tests.metrics.analysis.problems import random_tables
from upmap.detection import detections_from_arrays, ground_truth_from_arrays
from upmap.kernels.resampling import MAX_COPIES, resample
from upmap.metrics import (
    COCO,
    PROTOCOLS,
    VOC2010,
    MatchTable,
    concatenate,
    evaluate_matches,
    match,
)
from upmap.metrics.analysis import (
    compare,
    estimate_uncertainty,
    find_tie_ranges,
    pair_detections,
)
from upmap.metrics.analysis.uncertainty import collect_outcomes, plan_quantities
from upmap.metrics.match_table import select_images

BOX, FAR = [0, 0, 20, 20], [60, 60, 80, 80]
NO_OBJECTS: dict[str, Any] = {"boxes": [], "labels": []}
NO_DETECTIONS = NO_OBJECTS | {"scores": []}
AN_OBJECT: dict[str, Any] = {"boxes": [BOX], "labels": ["a"]}
A_DETECTION = AN_OBJECT | {"scores": [0.5]}
A_MISS = {"boxes": [FAR], "labels": ["a"], "scores": [0.5]}
METHODS = ("influence", "bootstrap")


def table(
    objects: list[dict[str, Any]], detections: list[dict[str, Any]], name: str = "coco"
) -> MatchTable:
    truth, results = ground_truth_from_arrays(objects), detections_from_arrays(detections)
    return match(truth, results, PROTOCOLS[name])


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("method", METHODS)
def test_no_images_have_no_numbers_no_errors_and_no_ranges(method: Any, name: str) -> None:
    nothing = table([], [], name)
    result = estimate_uncertainty(nothing, method=method, replicates=5)
    for estimate in result.metrics.values():
        assert all(math.isnan(value) for value in asdict(estimate).values())
    assert dict(result.per_class) == {}
    assert not result.all_perfect
    for ends in find_tie_ranges(nothing).metrics.values():
        assert math.isnan(ends.low)
        assert math.isnan(ends.high)
    with pytest.raises(ValueError, match="no image that both were evaluated on"):
        compare(nothing, nothing, method=method)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("method", METHODS)
def test_the_difference_on_one_image_has_no_error_and_no_p(method: Any, name: str) -> None:
    a, b = table([AN_OBJECT], [A_DETECTION], name), table([AN_OBJECT], [A_MISS], name)
    result = compare(a, b, method=method, replicates=20)
    first = next(iter(result.metrics.values()))
    assert first.delta == pytest.approx(-1)
    for each in (first, result.per_class["a"]):
        assert all(math.isnan(x) for x in (each.standard_error, each.low, each.high))
    assert math.isnan(first.p)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_one_class_has_the_mean_of_itself(name: str) -> None:
    objects = [AN_OBJECT] * 40
    hits = [A_DETECTION if i % 3 else A_MISS for i in range(40)]
    matches = table(objects, hits, name)
    result = estimate_uncertainty(matches)
    metric = next(iter(result.metrics.values()))
    assert metric.value == result.per_class["a"].value
    assert metric.standard_error == pytest.approx(result.per_class["a"].standard_error)
    ends = find_tie_ranges(matches)
    headline = next(iter(ends.metrics.values()))
    assert (headline.low, headline.high) == (ends.per_class["a"].low, ends.per_class["a"].high)
    against = compare(matches, table(objects, [A_DETECTION] * 40, name))
    difference = next(iter(against.metrics.values()))
    assert difference.delta == against.per_class["a"].delta


@pytest.mark.parametrize("method", METHODS)
def test_a_class_with_one_positive_has_a_wide_interval_and_no_significant_difference(
    method: Any,
) -> None:
    objects = [{"boxes": [BOX], "labels": ["b"]}, *[AN_OBJECT] * 20]
    right = [{"boxes": [BOX], "labels": ["b"], "scores": [0.5]}, *[A_DETECTION] * 20]
    wrong = [NO_DETECTIONS, *[A_DETECTION] * 20]
    a, b = table(objects, right), table(objects, wrong)
    rare = estimate_uncertainty(a, method=method, replicates=100).per_class["b"]
    assert (rare.value, rare.high) == pytest.approx((1, 1))
    assert rare.low < 0.3
    difference = compare(a, b, method=method, replicates=100).per_class["b"]
    assert difference.delta == pytest.approx(-1)
    assert difference.test == "permutation"
    assert difference.p > 0.3  # exchanged or not: there are two cases
    assert difference.p_holm >= difference.p


@pytest.mark.parametrize("method", METHODS)
def test_two_perfect_detectors_do_not_differ_at_all(method: Any) -> None:
    a = table([AN_OBJECT] * 5, [A_DETECTION] * 5)
    b = table([AN_OBJECT] * 5, [A_DETECTION | {"scores": [0.9]}] * 5)
    result = compare(a, b, method=method, replicates=20)
    assert result.metrics["AP"].delta == 0
    assert result.metrics["AP"].p == 1
    assert result.per_class["a"].p == 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_scores_that_are_all_equal_range_from_false_first_to_true_first(name: str) -> None:
    hits = [A_DETECTION] * 6 + [A_MISS] * 4
    matches = table([AN_OBJECT] * 10, hits, name)
    ends = next(iter(find_tie_ranges(matches).metrics.values()))
    assert ends.exact
    true_first = [AN_OBJECT | {"scores": [0.9]}] * 6 + [A_MISS] * 4
    false_first = [A_DETECTION] * 6 + [A_MISS | {"scores": [0.9]}] * 4
    values = [
        evaluate_matches(table([AN_OBJECT] * 10, results, name)).mAP
        for results in (false_first, true_first)
    ]
    assert [ends.low, ends.high] == values
    assert values[0] < values[1]


@pytest.mark.parametrize("method", METHODS)
def test_undefined_numbers_stay_undefined(method: Any) -> None:
    small = table([AN_OBJECT] * 12, [A_DETECTION] * 12)  # no object is large
    other = table([AN_OBJECT] * 12, [A_MISS] * 12)
    estimate = estimate_uncertainty(small, method=method, replicates=10).metrics["APl"]
    assert all(math.isnan(value) for value in asdict(estimate).values())
    difference = compare(small, other, method=method, replicates=10).metrics["APl"]
    assert all(math.isnan(value) for value in asdict(difference).values())
    ends = find_tie_ranges(small).metrics["APl"]
    assert math.isnan(ends.low)
    assert math.isnan(ends.high)


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_a_replicate_without_images_has_no_numbers_and_one_of_many_copies_the_same(
    impl: Any,
) -> None:
    matches = table([AN_OBJECT] * 6, [A_DETECTION] * 4 + [A_MISS] * 2, "voc2010")
    outcomes, quantities = collect_outcomes(matches), plan_quantities(VOC2010)[1]
    weights = np.array([[0] * 6, [1] * 6, [MAX_COPIES] * 6])
    numbers = resample(outcomes, weights, quantities, recall_points=None, impl=impl)
    assert np.isnan(numbers[..., 0]).all()
    np.testing.assert_allclose(numbers[..., 2], numbers[..., 1], atol=1e-12)
    with pytest.raises(ValueError, match=r"weights must lie in 0 \.\. 255, not 0 \.\. 256"):
        resample(outcomes, [[256, 0, 0, 0, 0, 0]], quantities, recall_points=None, impl=impl)


def test_joined_parts_have_the_tie_ranges_and_the_comparison_of_the_whole() -> None:
    truth, detections = random_tables(3, levels=4)
    whole = match(truth, detections, COCO)
    parts = [select_images(whole, whole.images[i::2], whole.classes) for i in (0, 1)]
    joined = concatenate(parts)
    ranges = [json.dumps(find_tie_ranges(each).to_record()) for each in (whole, joined)]
    assert ranges[0] == ranges[1]
    other = match(truth, random_tables(3, levels=9)[1], COCO)
    records = [str(compare(other, each)) for each in (whole, joined)]
    assert records[0] == records[1]


def test_the_number_of_threads_changes_no_bit_of_a_tie_range() -> None:
    tables = random_tables(4, levels=4)
    whole = match(*tables, COCO)
    pairs = pair_detections(*tables, whole)
    records = {json.dumps(find_tie_ranges(whole, pairs, threads=n).to_record()) for n in (1, 2, 4)}
    assert len(records) == 1
