"""Pairs: claims and overlaps against matching one detection at a time."""

import numpy as np
import pytest

from tests.metrics.analysis.problems import random_tables
from upmap.detection.tables import row_subset
from upmap.kernels.matching import CLAIMABLE, TRUE_POSITIVE
from upmap.metrics import COCO, PROTOCOLS, VOC2007, match
from upmap.metrics.analysis.assignment import assign_in_order
from upmap.metrics.analysis.pairs import pair_detections
from upmap.metrics.matching import prepare_inputs

IMPLEMENTATIONS = ("native", "reference")


@pytest.mark.parametrize("seed", range(20))
def test_assignment_is_that_of_one_detection_after_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(0, 15, (60, 2)), axis=0)
    rng.shuffle(pairs)
    iou = rng.integers(1, 5, len(pairs)) / 4
    for is_last in (False, True):
        claims, free = set(), set(range(15))
        for d in range(15):
            options = [(i, t) for (x, t), i in zip(pairs.tolist(), iou, strict=True) if x == d]
            options = [(i, t if is_last else -t) for i, t in options if t in free]
            if options:
                truth = abs(max(options)[1])
                claims.add((d, truth))
                free.remove(truth)
        is_assigned = assign_in_order(*pairs.T, iou, is_last_preferred=is_last)
        assert {tuple(pair) for pair in pairs[is_assigned].tolist()} == claims


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("seed", range(4))
def test_claims_and_best_objects_are_those_found_one_by_one(
    seed: int, name: str, impl: str
) -> None:
    protocol = PROTOCOLS[name]
    truth, detections = random_tables(seed, levels=4)
    table = match(truth, detections, protocol)
    pairs = pair_detections(truth, detections, table, impl=impl)
    inputs = prepare_inputs(truth, detections, protocol)
    truths = inputs.truth_boxes
    low, high = inputs.rules.area_ranges[0]
    is_counted = (truths.kind == CLAIMABLE) & (truths.area >= low) & (truths.area <= high)
    assert pairs.is_counted.tolist() == is_counted.tolist()
    claimed: set[int] = set()
    for n in range(len(table)):
        overlaps = slice(*pairs.overlap.start[n : n + 2])
        iou = dict(
            zip(
                pairs.overlap.truth[overlaps].tolist(),
                pairs.overlap.iou[overlaps].tolist(),
                strict=True,
            )
        )
        same = [g for g in iou if is_counted[g] and truths.label[g] == table.label[n]]
        other = [g for g in iou if is_counted[g] and truths.label[g] != table.label[n]]
        assert pairs.same[n] == max(same, key=iou.__getitem__, default=-1)
        assert pairs.other[n] == max(other, key=iou.__getitem__, default=-1)
        assert pairs.any_iou[n] == max(iou.values(), default=0)
        if table.status[0, 0, n] == TRUE_POSITIVE:
            order = reversed(same) if protocol.equal_iou == "last" else same
            best = max((g for g in order if g not in claimed), key=iou.__getitem__)
            claimed.add(best)
            assert pairs.truth[n] == best
            assert pairs.iou[n] == iou[best] >= protocol.iou_thresholds[0]
            assert pairs.claimed_by[best] == n
        else:
            assert (pairs.truth[n], pairs.iou[n]) == (-1, 0)
    assert (pairs.claimed_by >= 0).sum() == len(claimed)


def test_another_match_table_is_refused() -> None:
    truth, detections = random_tables(0)
    table = match(truth, detections, COCO)
    fewer = row_subset(detections, np.arange(len(detections)) > 0)
    with pytest.raises(ValueError, match="not that of this ground truth"):
        pair_detections(truth, fewer, table)
    with pytest.raises(ValueError, match="not that of this ground truth"):
        pair_detections(row_subset(truth, np.arange(len(truth)) > 4), detections, table)


def test_tables_whose_rows_are_not_in_order_give_the_same_pairs() -> None:
    truth, detections = random_tables(3, levels=3)
    is_even = np.arange(len(detections)) % 2 == 0
    half = row_subset(detections, is_even)
    for protocol in (COCO, VOC2007):
        pairs = pair_detections(truth, half, match(truth, half, protocol))
        table = match(truth, half, protocol)
        assert (half.score[pairs.detection] == table.score).all()
        assert (half.row[pairs.detection] == table.row).all()
