"""The worst images, and labels that may be wrong."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.analysis.problems import pair_scene, random_tables, read_real
from upmap.detection.tables import with_images
from upmap.metrics import PROTOCOLS, VOC2010, evaluate_matches, match
from upmap.metrics.analysis.label_candidates import find_label_candidates
from upmap.metrics.analysis.operating_points import find_operating_points
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.analysis.worst import cost_of_images, find_worst_images

BOX, FAR, FARTHER = [0, 0, 20, 20], [60, 60, 80, 80], [120, 120, 140, 140]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_costs_of_all_images_add_up_to_nothing(name: str) -> None:
    truth, detections = random_tables(1, images=30)
    cost = cost_of_images(match(truth, detections, PROTOCOLS[name]))
    assert cost.sum() == pytest.approx(0, abs=1e-12)
    assert cost.max() > 0


def test_costs_rank_images_as_leaving_each_out_does() -> None:
    truth, detections = random_tables(2, images=120, levels=1000)
    table = match(truth, detections, VOC2010)
    cost, whole = cost_of_images(table), evaluate_matches(table).mAP
    gains = []
    for image in table.images:
        others = tuple(other for other in table.images if other != image)
        part = match(with_images(truth, others), with_images(detections, others), VOC2010)
        gains.append(evaluate_matches(part).mAP - whole)
    assert np.corrcoef(cost, gains)[0, 1] > 0.99  # first order against one image in 120


def test_the_worst_images_of_real_data_cost_what_is_known(real_data: Path) -> None:
    table = match(*read_real(real_data, "voc2007_test/yolov3_darknet"), VOC2010)
    worst = find_worst_images(table, 5)
    assert 100 * worst.images[0].cost == pytest.approx(0.11, abs=0.005)
    assert 100 * worst.worst_percent_cost == pytest.approx(2.3, abs=0.05)
    costs = [image.cost for image in worst.images]
    assert costs == sorted(costs, reverse=True)
    assert len(costs) == 5


def test_an_image_that_is_missed_costs_more_than_one_that_is_found() -> None:
    objects = [{"boxes": [BOX], "labels": ["a"]}] * 3
    hit = {"boxes": [BOX], "labels": ["a"], "scores": [0.9]}
    nothing = {"boxes": [], "labels": [], "scores": []}
    _, table = pair_scene(objects, [hit, nothing, hit], VOC2010)
    first, *others = find_worst_images(table, 10).images
    assert (first.image, first.objects, first.true_positives) == (table.images[1], 1, 0)
    assert first.cost == pytest.approx(2 / 9)
    assert [image.image for image in others] == [table.images[0], table.images[2]]


def test_where_the_number_is_undefined_no_image_costs_anything() -> None:
    for scene in (pair_scene([], []), pair_scene([{"boxes": [], "labels": []}], [EMPTY])):
        worst = find_worst_images(scene[1], 3)
        assert worst.images == ()
        assert math.isnan(worst.worst_percent_cost)
    with pytest.raises(ValueError, match="limit must be at least 0, not -1"):
        find_worst_images(scene[1], -1)


EMPTY = {"boxes": [], "labels": [], "scores": []}


def candidates(objects, predictions, *, right: int = 40, **options):
    """Of an image with `objects` and `predictions` of (box, label[, score]), and others all right.

    So many others are right that each class has a precision of 90 % at a score of 0.1.
    """
    good = [(BOX, "a"), (FAR, "b")]
    truths = [
        {"boxes": [box for box, _ in rows], "labels": [label for _, label in rows]}
        for rows in (objects, *[good] * right)
    ]
    detections = [
        {
            "boxes": [box for box, _, _ in rows],
            "labels": [label for _, label, _ in rows],
            "scores": [score for _, _, score in rows],
        }
        for rows in (predictions, *[[(*row, 0.1) for row in good]] * right)
    ]
    pairs, table = pair_scene(truths, detections)
    return find_label_candidates(pairs, table, find_operating_points(table), **options)


def test_each_kind_of_wrong_label_is_in_its_list() -> None:
    objects = [(BOX, "a"), (FAR, "a"), (FARTHER, "b"), ([300, 0, 320, 20], "a")]
    predictions = [
        (BOX, "a", 0.99),
        ([200, 200, 220, 220], "a", 0.9),
        *[([200, 200, 220, 220], "a", 0.02)] * 10,  # so many that this score is not trusted
        (FAR, "b", 0.8),
        ([120, 120, 140, 128], "b", 0.7),
    ]
    lists = candidates(objects, predictions)
    assert lists.counts == {"missing": 1, "wrong_class": 1, "loose_box": 1, "doubtful": 1}
    (missing,), (wrong,), (loose,), (doubtful,) = (
        getattr(lists, name) for name in ("missing", "wrong_class", "loose_box", "doubtful")
    )
    assert (missing.label, missing.score, missing.annotation) == ("a", 0.9, None)
    assert missing.box == (200, 200, 220, 220)
    assert (wrong.label, wrong.annotated_label, wrong.iou) == ("b", "a", 1)
    assert (loose.label, loose.annotated_box, loose.iou) == ("b", (120, 120, 140, 140), 0.4)
    assert (doubtful.annotated_label, doubtful.annotated_box) == ("a", (300, 0, 320, 20))
    assert (doubtful.label, doubtful.box, doubtful.iou) == (None, None, 0)


def test_what_is_claimed_or_near_to_anything_is_in_no_list() -> None:
    twice = [(BOX, "a", 0.9), ([0, 0, 20, 18], "a", 0.8), ([0, 0, 20, 16], "b", 0.7)]
    assert set(candidates([(BOX, "a")], twice).counts.values()) == {0}
    # An object is not doubtful where a detection of any class is near, unless its score is tiny.
    assert candidates([(FAR, "a")], [([60, 60, 80, 66], "b", 0.06)]).counts["doubtful"] == 0
    assert candidates([(FAR, "a")], [([60, 60, 80, 66], "b", 0.04)]).counts["doubtful"] == 1


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("seed", range(4))
def test_lists_are_those_of_looking_at_each_detection(seed: int, name: str) -> None:
    truth, detections = random_tables(seed, images=30)
    table = match(truth, detections, PROTOCOLS[name])
    pairs = pair_detections(truth, detections, table)
    points = find_operating_points(table)
    lists = find_label_candidates(pairs, table, points)
    expected = {"missing": 0, "wrong_class": 0, "loose_box": 0}
    for n in range(len(table)):
        label = table.classes[table.label[n]]
        precise, best = points.precision_90[label].threshold, points.best_F1[label].threshold
        trusted = best if math.isnan(precise) else precise
        if table.status[0, 0, n] != 0 or not table.score[n] >= trusted:
            continue
        part = slice(*pairs.overlap.start[n : n + 2])
        overlaps = list(zip(pairs.overlap.truth[part], pairs.overlap.iou[part], strict=True))
        free = [
            (pairs.ground_truth.label[g] == table.label[n], iou)
            for g, iou in overlaps
            if pairs.is_counted[g] and pairs.claimed_by[g] < 0
        ]
        same = max((iou for is_same, iou in free if is_same), default=0)
        other = max((iou for is_same, iou in free if not is_same), default=0)
        expected["missing"] += all(iou < 0.1 for _, iou in overlaps)
        expected["wrong_class"] += other >= 0.5
        expected["loose_box"] += 0.1 <= same < 0.5
    assert {kind: lists.counts[kind] for kind in expected} == expected
    for kind in expected:
        scores = [candidate.score for candidate in getattr(lists, kind)]
        assert scores == sorted(scores, reverse=True)


def test_a_limit_cuts_lists_and_not_their_counts() -> None:
    lists = candidates([(BOX, "a"), (FAR, "a"), (FARTHER, "b")], [], limit=1)
    assert (len(lists.doubtful), lists.counts["doubtful"]) == (1, 3)
    with pytest.raises(ValueError, match="limit must be at least 0, not -1"):
        candidates([], [], limit=-1)
