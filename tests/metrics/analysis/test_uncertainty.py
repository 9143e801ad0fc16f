"""Uncertainty: against the bootstrap of independent tools, and what must hold of any estimate."""

import json
import math
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import (
    Detections,
    GroundTruth,
    InputWarning,
    detections_from_arrays,
    ground_truth_from_arrays,
    read,
)
from upmap.metrics import (
    COCO,
    PROTOCOLS,
    VOC2007,
    VOC2010,
    MatchTable,
    concatenate,
    evaluate_matches,
    match,
)
from upmap.metrics.analysis import estimate_uncertainty
from upmap.metrics.analysis.intervals import two_sided_quantile, wilson_interval
from upmap.metrics.analysis.uncertainty import (
    bootstrap_numbers,
    class_standard_errors,
    collect_outcomes,
    compute_influence,
    mean_standard_error,
    plan_quantities,
)

Tables = tuple[GroundTruth, Detections]


def random_problem(
    seed: int, protocol=COCO, images: int = 40
) -> tuple[MatchTable, list[MatchTable]]:
    """A table of random boxes of three classes, and the tables of its halves."""
    rng = np.random.default_rng(seed)
    targets, predictions = [], []
    for _ in range(images):
        low = rng.integers(0, 12, (4, 2))
        boxes = np.concatenate([low, low + rng.integers(4, 60, (4, 2))], axis=1)
        labels = rng.choice(["a", "b", "c"], 4)
        marks = {"difficult": rng.random(4) < 0.2, "iscrowd": rng.random(4) < 0.1}
        targets.append({"boxes": boxes, "labels": labels.tolist(), **marks})
        near = boxes + rng.integers(-2, 3, (4, 4)) * [0, 0, 1, 1]
        predictions.append({"boxes": near, "labels": labels.tolist(), "scores": rng.random(4)})
    ids = [f"{i:03d}" for i in range(images)]

    def tables(places: range):
        names = [ids[i] for i in places]
        truth = ground_truth_from_arrays([targets[i] for i in places], images=names)
        return truth, detections_from_arrays([predictions[i] for i in places], images=names)

    whole = tables(range(images))
    table = match(*whole, protocol)
    halves = [match(*tables(range(part, images, 2)), protocol) for part in (0, 1)]
    return table, halves


@pytest.mark.parametrize("name", PROTOCOLS)
def test_positives_by_image_are_those_that_the_table_counts(name: str) -> None:
    table, halves = random_problem(0, PROTOCOLS[name])
    for a in range(len(table.protocol.area_ranges)):
        is_inside = (table.positive_areas >> np.uint64(a)) & np.uint64(1) == 1
        counts = np.bincount(table.positive_label[is_inside], minlength=3)
        assert counts.tolist() == table.positives[:, a].tolist()
    place = table.positive_label.astype(np.int64) * len(table.images) + table.positive_image
    assert (np.diff(place) >= 0).all()
    assert (table.positive_areas > 0).all()
    both = concatenate(halves)
    for column in ("positive_image", "positive_label", "positive_areas"):
        first, second = getattr(table, column), getattr(both, column)
        assert (first.dtype, first.tolist()) == (second.dtype, second.tolist())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_weights_of_one_give_the_plain_numbers(name: str) -> None:
    table, _ = random_problem(1, PROTOCOLS[name])
    ones = np.ones((1, len(table.images)), np.uint8)
    samples, _ = bootstrap_numbers(table.protocol, collect_outcomes(table), [ones])
    estimate = estimate_uncertainty(table)
    values = [metric.value for metric in estimate.metrics.values()]
    np.testing.assert_allclose(samples[0], values, rtol=0, atol=1e-6)  # float32 where sampled


def test_joined_parts_give_equal_bits_by_influence_and_by_hashed_weights() -> None:
    table, halves = random_problem(2)
    both = concatenate(halves)
    for options in ({}, {"method": "bootstrap", "weights": "poisson", "replicates": 70}):
        first, second = (estimate_uncertainty(t, **options) for t in (table, both))
        assert str(first.metrics) == str(second.metrics)
        assert first.replicates.tobytes() == second.replicates.tobytes()


def test_the_number_of_threads_changes_no_bit() -> None:
    table, _ = random_problem(3)
    for method in ("influence", "bootstrap"):
        results = [
            estimate_uncertainty(table, method=method, replicates=70, threads=n) for n in (1, 2, 4)
        ]
        assert len({str(result.metrics) + str(result.per_class) for result in results}) == 1


def test_groups_of_one_image_are_images_and_one_group_has_no_error() -> None:
    table, _ = random_problem(4)
    alone = {image: image for image in table.images}
    plain = estimate_uncertainty(table)
    assert str(estimate_uncertainty(table, groups=alone).metrics) == str(plain.metrics)
    together = estimate_uncertainty(table, groups=dict.fromkeys(table.images, "x"))
    assert together.groups == 1
    assert math.isnan(together.metrics["AP"].standard_error)
    assert math.isnan(together.metrics["AP"].low)
    with pytest.raises(ValueError, match="image '000' has no group"):
        estimate_uncertainty(table, groups={})


def test_perfect_detections_have_no_error_but_classes_an_open_interval() -> None:
    boxes = [{"boxes": [[1, 1, 9, 9]], "labels": ["a"], "scores": [0.5]} for _ in range(5)]
    truth, detections = ground_truth_from_arrays(boxes), detections_from_arrays(boxes)
    table = match(truth, detections, VOC2010)
    result = estimate_uncertainty(table)
    assert result.metrics["mAP"].standard_error == pytest.approx(0, abs=1e-15)  # rounding
    assert result.all_perfect
    assert result.rare_classes == ("a",)
    assert result.per_class["a"].low < 0.6
    assert result.per_class["a"].high == 1


def test_a_number_that_rests_on_one_image_has_no_error() -> None:
    boxes = [{"boxes": [[1, 1, 9, 9]], "labels": ["a"], "scores": [0.5]}]
    empty = {"boxes": np.zeros((0, 4)), "labels": [], "scores": []}
    for images in (boxes, [*boxes, empty], [empty, *boxes, empty]):
        table = match(ground_truth_from_arrays(images), detections_from_arrays(images), COCO)
        for method in ("influence", "bootstrap"):
            result = estimate_uncertainty(table, method=method, replicates=50)
            assert result.metrics["AP"].value == pytest.approx(1)  # an epsilon below, as COCO
            for estimate in result.metrics.values():
                assert np.isnan(astuple(estimate)[1:]).all()
            assert math.isnan(result.half_width(result.metrics["AP"]))
    nothing = match(ground_truth_from_arrays([]), detections_from_arrays([]), COCO)
    result = estimate_uncertainty(nothing)
    assert np.isnan([astuple(estimate) for estimate in result.metrics.values()]).all()


def test_the_order_of_images_changes_nothing() -> None:
    table, _ = random_problem(6, images=30)
    order = np.random.default_rng(0).permutation(30)
    place = np.argsort(order)
    # The names of the images change places, and the positives of a class their order.
    positives = np.lexsort((place[table.positive_image], table.positive_label))
    other = replace(
        table,
        image=place[table.image].astype(np.int32),
        positive_image=place[table.positive_image][positives].astype(np.int32),
        positive_areas=table.positive_areas[positives],
        images=tuple(table.images[i] for i in order),
    )
    first, second = (estimate_uncertainty(each) for each in (table, other))
    for name, estimate in first.metrics.items():
        numbers = astuple(estimate), astuple(second.metrics[name])
        np.testing.assert_allclose(*numbers, rtol=0, atol=1e-14)
    hashed = [
        estimate_uncertainty(each, method="bootstrap", weights="poisson", replicates=64)
        for each in (table, other)
    ]
    np.testing.assert_array_equal(hashed[0].replicates, hashed[1].replicates)


def test_sums_of_the_kernel_give_the_errors_of_the_list_of_influences() -> None:
    for name in PROTOCOLS:
        table, _ = random_problem(7, PROTOCOLS[name])
        outcomes = collect_outcomes(table)
        places, quantities = plan_quantities(table.protocol)
        by_quantity = compute_influence(outcomes, quantities)
        result = estimate_uncertainty(table)
        for metric, q in places.items():
            expected = math.nan if q is None else mean_standard_error(by_quantity[q])
            error = result.metrics[metric].standard_error
            assert error == pytest.approx(expected, rel=1e-12, nan_ok=True)
        errors = [estimate.standard_error for estimate in result.per_class.values()]
        expected = class_standard_errors(by_quantity[-1])
        np.testing.assert_allclose(errors, expected, rtol=1e-12)


def test_an_evaluation_has_its_uncertainty_on_demand() -> None:
    table, _ = random_problem(8)
    evaluation = evaluate_matches(table)
    for options in ({}, {"method": "bootstrap", "replicates": 70, "seed": 3, "level": 0.8}):
        result = evaluation.uncertainty(**options)
        expected = estimate_uncertainty(table, **options)
        assert str(result.to_record()) == str(expected.to_record())
        for name, estimate in result.metrics.items():
            half = result.half_width(estimate)
            numbers = (evaluation.metrics[name], evaluation.metrics[name] + half)
            np.testing.assert_array_equal([estimate.value, estimate.high], np.minimum(numbers, 1))


def test_bad_options_are_refused() -> None:
    table, _ = random_problem(5)
    for options, message in (
        ({"method": "jackknife"}, "method must be"),
        ({"level": 1.0}, "level must lie"),
        ({"method": "bootstrap", "replicates": 1}, "replicates must be at least 2"),
        ({"method": "bootstrap", "weights": "x"}, "weights must be"),
    ):
        with pytest.raises(ValueError, match=message):
            estimate_uncertainty(table, **options)


def test_quantiles_are_those_of_the_tables() -> None:
    for groups, expected in ((2, 12.7062), (3, 4.3027), (6, 2.5706), (11, 2.2281), (20, 1.96)):
        assert two_sided_quantile(0.95, groups) == pytest.approx(expected, abs=5e-5)


def test_wilson_interval_of_a_share_is_the_textbook_one() -> None:
    error = np.array([math.sqrt(0.8 * 0.2 / 10)])
    low, high = wilson_interval(np.array([0.8]), error, np.array([10.0]), 1.96)
    assert (low[0], high[0]) == pytest.approx((0.4902, 0.9433), abs=5e-5)


# The share of the bootstrap's standard error that influence may differ by: it is a linearization,
# and the fewer the images the cruder.
DATA = {
    "coco_fakebbox100|coco": (COCO, 0.25),
    "voc2007_test/yolov3_darknet|voc2007": (VOC2007, 0.10),
    "voc2007_test/yolov3_darknet|voc2010": (VOC2010, 0.03),
}


def read_data(real_data: Path, key: str) -> Tables:
    if key.startswith("coco"):
        folder = real_data / "coco_fakebbox100"
        results = folder / "instances_val2014_fakebbox100_results.json"
        return read(folder / "instances_val2014_100.json", results)
    with pytest.warns(InputWarning):
        return read(real_data / "voc2007_test", real_data / "voc2007_dets_yolov3_darknet")


@pytest.mark.parametrize("key", DATA)
def test_standard_errors_agree_with_a_bootstrap_of_another_program(
    real_data: Path, key: str
) -> None:
    expected = json.loads((real_data / "expected_trust/standard_errors.json").read_text())[key]
    protocol, tolerance = DATA[key]
    table = match(*read_data(real_data, key), protocol)
    bootstrap = estimate_uncertainty(table, method="bootstrap")
    influence = estimate_uncertainty(table)
    # Four Monte Carlo errors of both sides.
    error = 4 * math.hypot(1 / math.sqrt(2000), expected["relative_monte_carlo_error_of_se"])
    for name, estimate in bootstrap.metrics.items():
        known = expected["metrics"][name]["bootstrap_se"]
        assert estimate.standard_error == pytest.approx(known, rel=error), name
        assert influence.metrics[name].standard_error == pytest.approx(known, rel=tolerance), name
    for name, numbers in expected["metrics"].get("per_class", {}).items():
        estimate = bootstrap.per_class[name]
        assert estimate.standard_error == pytest.approx(numbers["bootstrap_se"], rel=error), name


def test_replicates_equal_pycocotools_on_resampled_data(real_data: Path) -> None:
    expected = json.loads((real_data / "expected_trust/replicates_coco.json").read_text())
    truth, detections = read_data(real_data, "coco_fakebbox100")
    rank = np.empty(len(detections))
    rank[np.lexsort((-detections.row, detections.score))] = np.arange(1, len(detections) + 1)
    unequal = replace(detections, score=rank / (len(detections) + 1))
    outcomes = collect_outcomes(match(truth, unequal, COCO))
    weights = np.array([entry["counts"] for entry in expected["replicates"]], np.uint8)
    samples, _ = bootstrap_numbers(COCO, outcomes, [weights])
    for entry, numbers in zip(expected["replicates"], samples, strict=True):
        np.testing.assert_allclose(
            numbers, [entry["metrics"][name] for name in COCO.summary], rtol=0, atol=1e-6
        )


def test_classes_on_few_images_are_named_and_those_on_none_have_no_estimate() -> None:
    rng = np.random.default_rng(8)
    boxes = [random_image(rng, ["a", "b"] if i < 9 else ["a"]) for i in range(10)]
    detected = [{**image, "scores": rng.random(len(image["labels"]))} for image in boxes]
    detected[0] = {"boxes": [[1, 1, 9, 9]], "labels": ["c"], "scores": [0.5]}
    table = match(ground_truth_from_arrays(boxes), detections_from_arrays(detected), VOC2010)
    for method in ("influence", "bootstrap"):
        result = estimate_uncertainty(table, method=method, replicates=100)
        assert result.rare_classes == ("b",)
        assert np.isnan(astuple(result.per_class["c"])).all()
        assert result.metrics["mAP"].standard_error > 0


def random_image(rng: np.random.Generator, labels: list[str]) -> dict[str, Any]:
    low = rng.integers(0, 200, (len(labels), 2))
    return {"boxes": np.concatenate([low, low + 20], axis=1), "labels": labels}


def test_intervals_cover_the_number_of_a_large_set_about_as_often_as_they_say() -> None:
    def draw_table(rng: np.random.Generator, images: int) -> MatchTable:
        truth = [random_image(rng, ["a", "a", "b"]) for _ in range(images)]
        detected = []
        for image in truth:
            is_hit = rng.random(3) < 0.75
            moved = image["boxes"] + np.where(is_hit, 0, 500)[:, np.newaxis]
            scores = rng.normal(is_hit.astype(float), 0.8)
            detected.append({"boxes": moved, "labels": image["labels"], "scores": scores})
        tables = ground_truth_from_arrays(truth), detections_from_arrays(detected)
        return match(*tables, VOC2010)

    rng = np.random.default_rng(12)
    true_value = evaluate_matches(draw_table(rng, 10_000)).mAP
    repetitions, covered = 200, 0
    for _ in range(repetitions):
        estimate = estimate_uncertainty(draw_table(rng, 60)).metrics["mAP"]
        covered += estimate.low <= true_value <= estimate.high
    # Four standard errors of a share of 200; the small sample's own bias is below one of them.
    assert covered / repetitions == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 200))


def test_replicates_equal_data_resampled_for_real(real_data: Path) -> None:
    expected = json.loads((real_data / "expected_trust/replicates_voc.json").read_text())
    for entry in expected["replicates"]:
        folder = real_data / f"voc2007_dets_{entry['detector']}"
        with pytest.warns(InputWarning):
            tables = read(real_data / "voc2007_test", folder)
        draws = np.random.default_rng(entry["seed"]).integers(0, 4952, 4952)
        counts = np.bincount(draws, minlength=4952).astype(np.uint8)
        for name in ("voc2007", "voc2010"):
            table = match(*tables, PROTOCOLS[name])
            outcomes = collect_outcomes(table)
            samples, _ = bootstrap_numbers(table.protocol, outcomes, [counts[np.newaxis]])
            assert samples[0, 0] == pytest.approx(entry[name]["mAP"], abs=1e-6)
