"""Operating points: the thresholds of an independent count, by brute force, and by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.analysis.problems import pair_real, pair_scene, random_tables, read_expected
from upmap.metrics import COCO, match
from upmap.metrics.analysis.operating_points import find_operating_points


def test_the_best_F1_of_each_class_is_that_of_an_independent_count(real_data: Path) -> None:
    expected = read_expected(real_data, "f1_thresholds.json")
    assert len(expected) == 3
    for name, classes in expected.items():
        data, iou = name.split("|")
        _, table = pair_real(real_data, data, iou=float(iou.split()[1]))
        points = find_operating_points(table)
        for label, numbers in classes.items():
            point = points.best_F1[label]
            if numbers["threshold"] is None:
                assert math.isnan(point.threshold)
                continue
            counts = (point.true_positives, point.false_positives)
            assert (point.threshold, point.F1) == (numbers["threshold"], numbers["F1"])
            assert counts == (numbers["tp"], numbers["fp"])
            assert (point.precision, point.recall) == (numbers["precision"], numbers["recall"])


@pytest.mark.parametrize("seed", range(8))
def test_thresholds_are_those_of_trying_every_score(seed: int) -> None:
    truth, detections = random_tables(seed, levels=[3, 30][seed % 2])
    table = match(truth, detections, COCO)
    points = find_operating_points(table)
    scores = sorted(set(table.score.tolist()), reverse=True)

    def count(k: int, t: float) -> tuple[int, int, int]:
        is_in = (table.label == k) & (table.score >= t)
        status = table.status[0, 0, is_in]
        return int((status == 1).sum()), int((status == 0).sum()), int(table.positives[k, 0])

    def F1(k: int, t: float) -> float:
        true, false, positives = count(k, t)
        return 2 * true / (true + false + positives)

    K = len(table.classes)
    means = [np.mean([F1(k, t) for k in range(K)]) for t in scores]
    best = next(t for t, mean in zip(scores, means, strict=True) if mean > max(means) - 1e-9)
    assert points.threshold == best
    assert points.mean_F1 == pytest.approx(max(means), abs=1e-12)
    for k, name in enumerate(table.classes):
        own = [t for t in scores if count(k, t)[:2] != count(k, t + 1e-9)[:2]]
        assert max(F1(k, t) for t in own) == points.best_F1[name].F1
        common = points.common[name]
        assert (common.true_positives, common.false_positives) == count(k, best)[:2]
        precise = [t for t in own if (c := count(k, t))[0] >= 0.9 * (c[0] + c[1])]
        thorough = [t for t in own if (c := count(k, t))[0] >= 0.9 * c[2]]
        for kind, expected in (("precision_90", precise[-1:]), ("recall_90", thorough[:1])):
            threshold = getattr(points, kind)[name].threshold
            assert expected == [] if math.isnan(threshold) else [threshold] == expected


def test_equal_scores_are_never_divided() -> None:
    boxes = [[0, 0, 9, 9], [50, 50, 60, 60]]
    objects = [{"boxes": boxes[:1], "labels": ["a"]}]
    predictions = [{"boxes": boxes, "labels": ["a", "a"], "scores": [0.5, 0.5]}]
    _, table = pair_scene(objects, predictions)
    point = find_operating_points(table).best_F1["a"]
    assert (point.true_positives, point.false_positives, point.threshold) == (1, 1, 0.5)
    assert math.isnan(find_operating_points(table).precision_90["a"].threshold)


def test_without_detections_or_objects_nothing_is_reported() -> None:
    a_box = {"boxes": [[0, 0, 9, 9]], "labels": ["a"]}
    nothing = {"boxes": [], "labels": [], "scores": []}
    _, table = pair_scene([a_box], [nothing])
    points = find_operating_points(table)
    assert math.isnan(points.threshold)
    assert (points.mean_F1, points.best_F1["a"].F1, points.best_F1["a"].recall) == (0, 0, 0)
    _, table = pair_scene([{"boxes": [], "labels": []}], [a_box | {"scores": [0.5]}])
    points = find_operating_points(table)
    assert math.isnan(points.mean_F1)
    assert math.isnan(points.best_F1["a"].F1)
    _, table = pair_scene([], [])
    assert find_operating_points(table).best_F1 == {}


def test_other_thresholds_of_the_protocol_are_chosen_by_place() -> None:
    truth, detections = random_tables(2)
    table = match(truth, detections, COCO)
    strict = match(truth, detections, replace(COCO, iou_thresholds=(0.75,)))
    expected = find_operating_points(strict)
    assert find_operating_points(table, iou=5).to_record() == expected.to_record() | {
        "iou": COCO.iou_thresholds[5]
    }
