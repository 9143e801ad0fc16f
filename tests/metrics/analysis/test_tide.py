"""TIDE: equal to tidecv 1.0.1, additive, and by brute force on small sets."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.analysis.problems import random_tables, read_expected, read_real
from upmap.detection import detections_from_arrays, ground_truth_from_arrays
from upmap.kernels.matching import FALSE_POSITIVE, TRUE_POSITIVE
from upmap.metrics import COCO, PROTOCOLS, VOC2007, VOC2010, evaluate_matches, match
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.analysis.tide import (
    ERRORS,
    NO_ERROR,
    classify_errors,
    explain_errors,
    explain_errors_as_tidecv,
)

IMPLEMENTATIONS = ("native", "reference")
ROUNDING = 1e-10  # of points: sums of 80 classes in another order


def explain(truth, detections, protocol, **options):
    table = match(truth, detections, protocol)
    return explain_errors(pair_detections(truth, detections, table), table, **options)


def test_the_numbers_of_tidecv_are_met(real_data: Path) -> None:
    expected = read_expected(real_data, "tide_tidecv.json")
    assert len(expected) == 5
    for name, numbers in expected.items():
        data, ignoring, iou, background = name.split("|")
        difficult = "drop" if ignoring.endswith("drop") else "crowd"
        costs = explain_errors_as_tidecv(
            *read_real(real_data, data),
            iou=float(iou),
            background=float(background),
            difficult=difficult,
        )
        assert costs.counts == numbers["counts"], name
        assert 100 * costs.mAP == pytest.approx(numbers["AP"], abs=ROUNDING)
        special = {"FalsePos": costs.false_positives, "FalseNeg": costs.false_negatives}
        for kind, gain in (costs.gains | special).items():
            theirs = (numbers["main"] | numbers["special"])[kind]
            assert 100 * gain == pytest.approx(theirs, abs=ROUNDING), (name, kind)
        for e, kind in enumerate(ERRORS):
            gain = 100 * (costs.subsets[1 << e] - costs.mAP)
            assert gain == pytest.approx(numbers["main_unclipped"][kind], abs=ROUNDING)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_all_subsets_of_fixes_and_their_shapley_values_are_those_of_tidecvs_code(
    real_data: Path, impl: str
) -> None:
    for name, numbers in read_expected(real_data, "tide_subsets_shapley.json").items():
        data, _, iou, background = name.split("|")
        if impl == "reference" and data.startswith("voc"):
            continue  # minutes
        tables = read_real(real_data, data)
        costs = explain_errors_as_tidecv(
            *tables, iou=float(iou), background=float(background), impl=impl
        )
        for subset, value in enumerate(costs.subsets.tolist()):
            kinds = [kind for e, kind in enumerate(ERRORS) if subset >> e & 1]
            theirs = numbers["subset_AP"]["+".join(kinds) or "none"]
            assert 100 * value == pytest.approx(theirs, abs=ROUNDING), kinds
        for kind, share in costs.shares.items():
            assert 100 * share == pytest.approx(numbers["shapley"][kind], abs=ROUNDING), kind


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("seed", range(4))
def test_the_six_shares_add_up_to_what_is_missing_for_each_class_too(
    seed: int, name: str, impl: str
) -> None:
    truth, detections = random_tables(seed)
    protocol = PROTOCOLS[name]
    costs = explain(truth, detections, protocol, impl=impl)
    evaluation = evaluate_matches(match(truth, detections, protocol))
    areas = {
        scores.name: scores.average_precision(protocol.iou_thresholds[0])
        for scores in evaluation.per_class.values()
    }
    assert costs.mAP == pytest.approx(np.mean(list(areas.values())), abs=1e-12)
    assert sum(costs.shares.values()) == pytest.approx(1 - costs.mAP, abs=1e-12)
    for label, part in costs.per_class.items():
        assert abs(part.AP - areas[label]) < 1e-12
        assert sum(part.shares.values()) == pytest.approx(1 - part.AP, abs=1e-12)
    for kind in ERRORS:
        parts = [part.shares[kind] for part in costs.per_class.values()]
        assert costs.shares[kind] == pytest.approx(np.mean(parts), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_every_subset_of_fixes_is_the_evaluation_of_fixed_rows(seed: int) -> None:
    truth, detections = random_tables(seed, images=5)
    table = match(truth, detections, VOC2010)
    pairs = pair_detections(truth, detections, table)
    errors = classify_errors(pairs, table, table.status[0, 0] == FALSE_POSITIVE)
    costs = explain_errors(pairs, table)
    for subset in range(64):
        values = [
            area_by_hand(pairs, table, errors, subset, k)
            for k in range(len(table.classes))
            if table.positives[k, 0]
        ]
        assert costs.subsets[subset] == pytest.approx(np.mean(values), abs=1e-12)


def area_by_hand(pairs, table, errors, subset: int, k: int) -> float:
    """VOC2010's area under the curve of class k after fixing the errors of a subset."""
    rows = []
    for n in range(len(table)):
        kind = int(errors.kind[n])
        status, label = int(table.status[0, 0, n]), int(table.label[n])
        if kind != NO_ERROR and subset >> kind & 1:
            if not errors.is_repairable[n]:
                continue
            status = TRUE_POSITIVE
            label = int(pairs.ground_truth.label[errors.target[n]])
        if label == k and status in (FALSE_POSITIVE, TRUE_POSITIVE):
            rows.append((-table.score[n], int(table.label[n]) != label, n, status))
    is_missed = errors.is_missed & (pairs.ground_truth.label == k)
    positives = int(table.positives[k, 0]) - (int(is_missed.sum()) if subset >> 5 & 1 else 0)
    if not positives:
        return float(not rows)
    statuses = [row[3] for row in sorted(rows)]
    true = list(itertools.accumulate(status == TRUE_POSITIVE for status in statuses))
    precision = [tp / (n + 1) for n, tp in enumerate(true)]
    return sum(
        max(precision[n:]) / positives
        for n, status in enumerate(statuses)
        if status == TRUE_POSITIVE
    )


SCENE = {"boxes": [[0, 0, 20, 20], [50, 0, 70, 20], [0, 50, 20, 70]], "labels": ["a", "b", "a"]}
CASES = {
    "Cls": ([50, 0, 70, 20], "a"),
    "Loc": ([0, 0, 20, 8], "a"),
    "Both": ([50, 0, 70, 8], "a"),
    "Dupe": ([0, 0, 20, 19], "a"),
    "Bkg": ([200, 200, 220, 220], "a"),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_of_error_is_told_apart(kind: str) -> None:
    box, label = CASES[kind]
    truth = ground_truth_from_arrays([SCENE])
    image = {"boxes": [[0, 0, 20, 20], box], "labels": ["a", label], "scores": [0.9, 0.5]}
    costs = explain(truth, detections_from_arrays([image]), COCO)
    assert {name: count for name, count in costs.counts.items() if count and name != "Miss"} == {
        kind: 1
    }
    assert costs.counts["Miss"] == (1 if kind == "Cls" else 2)


def test_of_several_errors_on_an_object_the_best_scored_is_repaired_and_the_others_go() -> None:
    truth = ground_truth_from_arrays([{"boxes": [[0, 0, 20, 20]], "labels": ["a"]}])
    predictions = {
        "boxes": [[0, 0, 20, 8], [0, 0, 20, 20], [0, 0, 20, 7]],
        "labels": ["a", "b", "a"],
        "scores": [0.5, 0.9, 0.4],
    }
    detections = detections_from_arrays([predictions])
    table = match(truth, detections, COCO)
    pairs = pair_detections(truth, detections, table)
    errors = classify_errors(pairs, table, table.status[0, 0] == FALSE_POSITIVE)
    assert dict(zip(table.score.tolist(), errors.is_repairable.tolist(), strict=True)) == {
        0.5: False,
        0.9: True,
        0.4: False,
    }
    costs = explain_errors(pairs, table)
    assert costs.gains["Cls"] == pytest.approx(1)
    assert (costs.gains["Loc"], costs.counts["Miss"]) == (0, 0)
    assert costs.shares["Cls"] == pytest.approx(1)


def test_a_class_whose_objects_were_all_missed_costs_misses_alone() -> None:
    truth = ground_truth_from_arrays([{"boxes": [[0, 0, 9, 9]], "labels": ["a"]}])
    empty = detections_from_arrays([{"boxes": [], "labels": [], "scores": []}])
    costs = explain(truth, empty, VOC2007)
    assert costs.mAP == 0
    assert costs.shares["Miss"] == pytest.approx(1, abs=1e-12)
    assert costs.counts == dict.fromkeys(ERRORS, 0) | {"Miss": 1}


def test_without_positives_everything_is_undefined() -> None:
    no_objects = [{"boxes": [], "labels": []}]
    no_detections = [{"boxes": [], "labels": [], "scores": []}]
    a_box = [{"boxes": [[0, 0, 9, 9]], "labels": ["a"], "scores": [0.5]}]
    for predictions in (no_detections, a_box):
        truth = ground_truth_from_arrays(no_objects)
        costs = explain(truth, detections_from_arrays(predictions), COCO)
        assert math.isnan(costs.mAP)
        assert all(math.isnan(value) for value in (*costs.gains.values(), *costs.shares.values()))
    no_images = explain(ground_truth_from_arrays([]), detections_from_arrays([]), COCO)
    assert math.isnan(no_images.mAP)


def test_perfect_detections_have_no_errors() -> None:
    scene = SCENE | {"scores": [0.5, 0.5, 0.5]}
    costs = explain(ground_truth_from_arrays([scene]), detections_from_arrays([scene]), COCO)
    assert costs.mAP == pytest.approx(1, abs=1e-12)
    assert set(costs.counts.values()) == {0}
    assert list(costs.shares.values()) == pytest.approx([0] * 6, abs=1e-12)


def test_a_background_below_what_the_pairs_hold_is_refused() -> None:
    truth, detections = random_tables(0)
    with pytest.raises(ValueError, match=r"background must be at least 0.1, not 0.05"):
        explain(truth, detections, COCO, background=0.05)
