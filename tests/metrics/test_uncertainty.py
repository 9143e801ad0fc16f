"""Uncertainty: against the bootstrap of independent tools, and what must hold of any estimate."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from upmap.detection import InputWarning, detections_from_arrays, ground_truth_from_arrays, read
from upmap.metrics import COCO, PROTOCOLS, VOC2010, MatchTable, concatenate, match
from upmap.metrics.analysis import estimate_uncertainty
from upmap.metrics.analysis.intervals import two_sided_quantile, wilson_interval
from upmap.metrics.analysis.uncertainty import bootstrap_numbers, collect_outcomes


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


def test_standard_errors_agree_with_the_bootstrap_of_the_spec(real_data: Path) -> None:
    expected = json.loads((real_data / "expected_trust/standard_errors.json").read_text())
    with pytest.warns(InputWarning):
        tables = read(real_data / "voc2007_test", real_data / "voc2007_dets_yolov3_darknet")
    entry = expected["voc2007_test/yolov3_darknet|voc2010"]
    table = match(*tables, VOC2010)
    known = entry["metrics"]["mAP"]["bootstrap_se"]
    bootstrap = estimate_uncertainty(table, method="bootstrap")
    error = 4 * math.hypot(1 / math.sqrt(2000), entry["relative_monte_carlo_error_of_se"])
    assert bootstrap.metrics["mAP"].standard_error == pytest.approx(known, rel=error)
    # Influence is a linearization: within 3 % of the bootstrap on this set.
    influence = estimate_uncertainty(table)
    assert influence.metrics["mAP"].standard_error == pytest.approx(known, rel=0.03)


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
