"""What every analysis must bear: nothing there, one of everything, scores that are all equal."""

import json
import math
from dataclasses import replace

import pytest

from upmap.detection import detections_from_arrays, ground_truth_from_arrays
from upmap.metrics import PROTOCOLS, match
from upmap.metrics.analysis import (
    evaluate_slices,
    explain_errors_as_tidecv,
    explain_evaluation,
    find_label_candidates,
    find_worst_images,
    pair_detections,
)

BOX, FAR = [0, 0, 20, 20], [60, 60, 80, 80]
NO_OBJECTS = {"boxes": [], "labels": []}
NO_DETECTIONS = NO_OBJECTS | {"scores": []}
AN_OBJECT = {"boxes": [BOX], "labels": ["a"]}
A_DETECTION = AN_OBJECT | {"scores": [0.5]}
EQUAL = {"boxes": [BOX, FAR, BOX], "labels": ["a", "a", "b"], "scores": [0.5] * 3}
EDGES = {
    "no images": ([], []),
    "an empty image": ([NO_OBJECTS], [NO_DETECTIONS]),
    "no detections": ([AN_OBJECT], [NO_DETECTIONS]),
    "no objects": ([NO_OBJECTS], [A_DETECTION]),
    "one of everything": ([AN_OBJECT], [A_DETECTION]),
    "difficult objects alone": ([AN_OBJECT | {"difficult": [True], "iscrowd": [True]}], [EQUAL]),
    "equal scores": ([AN_OBJECT] * 3, [EQUAL] * 3),
    "a class without objects": ([AN_OBJECT], [EQUAL]),
    "a class without detections": ([AN_OBJECT | {"labels": ["c"]}], [EQUAL]),
    "scores of 0": ([AN_OBJECT], [A_DETECTION | {"scores": [0.0]}]),
    "scores below 0": ([AN_OBJECT], [A_DETECTION | {"scores": [-3.0]}]),
    "a box without area": ([AN_OBJECT], [A_DETECTION | {"boxes": [[5, 5, 5, 5]]}]),
}


@pytest.mark.parametrize("impl", ["native", "reference"])
@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("edge", EDGES)
def test_every_analysis_is_defined_or_says_that_it_is_not(edge: str, name: str, impl: str) -> None:
    objects, predictions = EDGES[edge]
    truth, detections = ground_truth_from_arrays(objects), detections_from_arrays(predictions)
    table = match(truth, detections, PROTOCOLS[name], impl=impl)
    pairs = pair_detections(truth, detections, table, impl=impl)
    explanation = explain_evaluation(pairs, table, impl=impl)
    results = [
        explanation,
        evaluate_slices(truth, detections, table, pairs, impl=impl),
        find_worst_images(table, 3, impl=impl),
        find_label_candidates(pairs, table, explanation.operating_points),
        explain_errors_as_tidecv(truth, detections, impl=impl),
    ]
    for result in results:
        json.dumps(result.to_record())  # plain data
    costs = explanation.errors
    if math.isnan(costs.mAP):
        assert all(math.isnan(share) for share in costs.shares.values())
    else:
        assert sum(costs.shares.values()) == pytest.approx(1 - costs.mAP, abs=1e-12)
    positives = explanation.confusion.counts[: len(table.classes)].sum(axis=1)
    assert positives.tolist() == table.positives[:, 0].tolist()


@pytest.mark.parametrize("iou", [1.0, 0.05])
def test_extreme_thresholds_are_borne(iou: float) -> None:
    truth = ground_truth_from_arrays([AN_OBJECT] * 2)
    detections = detections_from_arrays([A_DETECTION, EQUAL])
    for protocol in PROTOCOLS.values():
        table = match(truth, detections, replace(protocol, iou_thresholds=(iou,)))
        pairs = pair_detections(truth, detections, table)
        costs = explain_evaluation(pairs, table).errors
        assert sum(costs.shares.values()) == pytest.approx(1 - costs.mAP, abs=1e-12)
