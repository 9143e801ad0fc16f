"""Confusion: an independent count on real data, and what other tools got wrong."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.analysis.problems import pair_real, pair_scene, random_tables, read_expected
from upmap.metrics import COCO, PROTOCOLS, VOC2007, match
from upmap.metrics.analysis.confusion import count_confusions
from upmap.metrics.analysis.pairs import pair_detections

BOX, FAR = [0, 0, 20, 20], [60, 60, 80, 80]


def cells(objects, predictions, *, threshold: float = 0.25, protocol=COCO) -> dict:
    """(true, predicted) to count, "" for background, for one image of (box, label[, score])."""
    matrix = confuse([objects], [predictions], threshold=threshold, protocol=protocol)
    names = (*matrix.classes, "")
    true, predicted = np.nonzero(matrix.counts)
    return {
        (names[i], names[j]): int(matrix.counts[i, j])
        for i, j in zip(true.tolist(), predicted.tolist(), strict=True)
    }


def confuse(images, predictions, *, threshold: float = 0.25, protocol=COCO):
    objects = [
        {
            "boxes": [box for box, *_ in rows],
            "labels": [label for _, label, *_ in rows],
            "difficult": [bool(mark) for _, _, *mark in rows],
        }
        for rows in images
    ]
    boxes = [
        {
            "boxes": [box for box, _, _ in rows],
            "labels": [label for _, label, _ in rows],
            "scores": [score for _, _, score in rows],
        }
        for rows in predictions
    ]
    return count_confusions(*pair_scene(objects, boxes, protocol), threshold=threshold)


def test_the_matrix_is_that_of_an_independent_count(real_data: Path) -> None:
    expected = read_expected(real_data, "confusion.json")
    assert len(expected) == 3
    for name, numbers in expected.items():
        data, score, _ = name.split("|")
        pairs, table = pair_real(real_data, data)
        matrix = count_confusions(pairs, table, threshold=float(score.split()[2]))
        K = len(table.classes)
        places = [*(table.classes.index(label) for label in numbers["classes"]), K]
        theirs = np.zeros((K + 1, K + 1), np.int64)
        for true, predicted, count in numbers["proposed"]:
            theirs[places[true], places[predicted]] = count
        assert (matrix.counts == theirs).all(), name


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("seed", range(4))
def test_rows_sum_to_objects_columns_to_detections_and_the_diagonal_is_what_is_true(
    seed: int, name: str
) -> None:
    truth, detections = random_tables(seed)
    table = match(truth, detections, PROTOCOLS[name])
    pairs = pair_detections(truth, detections, table)
    for threshold in (0.0, 0.3, 0.7):
        matrix = count_confusions(pairs, table, threshold=threshold)
        K = len(table.classes)
        assert matrix.counts[:K].sum(axis=1).tolist() == table.positives[:, 0].tolist()
        status, is_in = table.status[0, 0], table.score >= threshold
        for k in range(K):
            of_class = status[is_in & (table.label == k)]
            assert matrix.counts[:, k].sum() == (of_class != 2).sum()
            assert matrix.counts[k, k] == (of_class == 1).sum()
        assert matrix.counts[K, K] == 0


def test_a_wrong_class_of_larger_overlap_does_not_steal_the_object() -> None:
    predictions = [([0, 0, 20, 16], "a", 0.5), (BOX, "b", 0.9)]
    assert cells([(BOX, "a")], predictions) == {("a", "a"): 1, ("", "b"): 1}


def test_false_detections_count_on_images_without_objects_or_without_a_match() -> None:
    matrix = confuse(
        [[(BOX, "a")], [], [(BOX, "a")]],
        [[(FAR, "a", 0.9)], [(BOX, "a", 0.9)], [(BOX, "a", 0.9)]],
    )
    assert matrix.counts.tolist() == [[1, 1], [2, 0]]


def test_a_missed_object_is_in_its_row_and_a_false_detection_in_its_column() -> None:
    assert cells([(BOX, "a")], [(FAR, "b", 0.9)]) == {("a", ""): 1, ("", "b"): 1}


def test_an_object_of_another_class_is_taken_once_by_the_best_scored() -> None:
    predictions = [(BOX, "b", 0.5), (BOX, "c", 0.9)]
    assert cells([(BOX, "a")], predictions) == {("a", "c"): 1, ("", "b"): 1}


def test_finds_of_difficult_objects_are_in_no_cell() -> None:
    predictions = [(BOX, "a", 0.9), (FAR, "a", 0.8)]
    counts = cells([(BOX, "a", True), (FAR, "a")], predictions, protocol=VOC2007)
    assert counts == {("a", "a"): 1}


def test_a_detection_below_the_threshold_neither_counts_nor_claims() -> None:
    predictions = [(BOX, "a", 0.2), (BOX, "b", 0.3)]
    assert cells([(BOX, "a")], predictions) == {("a", "b"): 1}
    assert cells([(BOX, "a")], predictions, threshold=0.1) == {("a", "a"): 1, ("", "b"): 1}


def test_nothing_is_reported_at_a_threshold_that_is_undefined() -> None:
    assert cells([(BOX, "a")], [(BOX, "a", 0.9)], threshold=float("nan")) == {("a", ""): 1}


def test_normalized_by_true_class_the_diagonal_is_recall_and_by_predicted_precision() -> None:
    objects = [(BOX, "a"), (FAR, "a"), ([100, 0, 120, 20], "b")]
    predictions = [(BOX, "a", 0.9), (FAR, "b", 0.8), ([200, 0, 220, 20], "a", 0.7)]
    matrix = confuse([objects], [predictions])
    assert matrix.normalize().tolist()[:2] == [[0.5, 0.5, 0], [0, 0, 1]]
    assert matrix.normalize("predicted")[:, 0].tolist() == [0.5, 0, 0.5]
    assert [astuple(pair) for pair in matrix.top_pairs()] == [("a", "b", 1, 0.5)]
    with pytest.raises(ValueError, match="by must be 'true' or 'predicted'"):
        matrix.normalize("rows")


def test_without_images_the_matrix_is_empty() -> None:
    matrix = confuse([], [])
    assert matrix.counts.tolist() == [[0]]
    assert np.isnan(matrix.normalize()).all()
    assert matrix.top_pairs() == []
