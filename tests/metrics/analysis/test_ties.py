"""Tie ranges: against all orders by brute force, and numbers of an independent tool."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.analysis.problems import pair_scene, random_tables, read_expected, read_real
from upmap.detection import Detections
from upmap.metrics import (
    COCO,
    PROTOCOLS,
    VOC2010,
    MatchTable,
    Protocol,
    evaluate_matches,
    match,
)
from upmap.metrics.analysis import TieRange, find_tie_ranges, pair_detections
from upmap.metrics.analysis.ties import arrange_ties

SMALL_COCO = replace(COCO, iou_thresholds=(0.5,), max_dets=(1, 2, 100))
GRIDS = {
    "all": None,
    "11": tuple(i * 0.1 for i in range(11)),
    "101": tuple(np.linspace(0, 1, 101).tolist()),
}
MANY = 1000  # orders, beyond which brute force takes too long
BOX, BESIDE = [0, 0, 20, 20], [4, 0, 24, 20]


def one_curve(
    status: list[int], group: list[int], positives: int, points: tuple[float, ...] | None
) -> MatchTable:
    """A class, each detection on an image of its own."""
    N = len(status)
    return MatchTable(
        image=np.arange(N, dtype=np.int32),
        label=np.zeros(N, np.int32),
        score=-np.array(group, np.float64),
        row=np.arange(N),
        rank=np.zeros(N, np.int32),
        status=np.array(status, np.uint8).reshape(1, 1, N),
        start=np.array([0, N]),
        positives=np.array([[positives]]),
        positive_image=np.zeros(positives, np.int32),
        positive_label=np.zeros(positives, np.int32),
        positive_areas=np.ones(positives, np.uint64),
        protocol=replace(VOC2010, recall_points=points),
        images=tuple(range(N)),
        classes=("a",),
    )


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("impl", ["native", "reference"])
def test_ends_are_those_of_all_orders_with_exact_fractions(
    grid: str, impl: str, real_data: Path
) -> None:
    cases = json.loads((real_data / "expected_trust" / "ties_small.json").read_text())["cases"]
    assert len(cases) >= 40
    for case in cases:
        table = one_curve(case["status"], case["group"], case["positives"], GRIDS[grid])
        ends = find_tie_ranges(table, impl=impl).metrics["mAP"]
        low, _, high = case[grid]
        assert ends.low == pytest.approx(low, abs=1e-12)
        assert ends.high == pytest.approx(high, abs=1e-12)
        assert ends.exact


def ordered(detections: Detections) -> Iterator[Detections]:
    """The detections in every order of those of equal class and score; none if they are many."""
    keys = np.stack([detections.label.astype(float), -detections.score])
    number = np.unique(keys, axis=1, return_inverse=True)[1].ravel()
    groups = [np.flatnonzero(number == g) for g in range(number.max(initial=-1) + 1)]
    if math.prod(math.factorial(len(group)) for group in groups) > MANY:
        return
    for orders in product(*(permutations(group.tolist()) for group in groups)):
        row = np.empty(len(number), np.int64)
        for group, order in zip(groups, orders, strict=True):
            row[list(order)] = group  # the members of a group share out its places
        yield replace(detections, row=row)


def gather(seed: int, protocol: Protocol) -> Iterator[tuple[TieRange, list[float]]]:
    """Each number of a small problem: its range, and its values in all orders."""
    truth, detections = random_tables(seed, images=2, levels=6)
    table = match(truth, detections, protocol)
    ranges = find_tie_ranges(table, pair_detections(truth, detections, table))
    by_place = replace(protocol, ties="file")
    orders = [evaluate_matches(match(truth, each, by_place)) for each in ordered(detections)]
    for name, ends in ranges.metrics.items() if orders else ():
        yield ends, [order.metrics[name] for order in orders]
    for name, ends in ranges.per_class.items() if orders else ():
        yield ends, [order.per_class[name].AP for order in orders]


@pytest.mark.parametrize("protocol", [SMALL_COCO, VOC2010], ids=["coco", "voc2010"])
def test_no_order_leaves_the_range_and_orders_reach_its_ends_where_it_is_exact(
    protocol: Protocol,
) -> None:
    moved = bounds = 0
    for seed in range(80):
        for ends, values in gather(seed, protocol):
            if math.isnan(values[0]):
                assert math.isnan(ends.low)
                assert math.isnan(ends.high)
                continue
            low, high = min(values), max(values)
            assert ends.basis != "partial"
            assert ends.low <= low + 1e-12
            assert ends.high >= high - 1e-12
            moved += high > low + 1e-9
            if ends.exact:
                assert (ends.low, ends.high) == pytest.approx((low, high), abs=1e-12)
            else:
                bounds += 1
    assert moved > 50
    assert bounds > 5


def test_the_object_that_two_equal_detections_want_is_given_to_either() -> None:
    # The first wants both objects and takes the left one; the second can have the left one alone.
    objects = [{"boxes": [BOX, BESIDE], "labels": ["a", "a"]}]
    wide, narrow = [1, 0, 21, 20], [0, 0, 15, 20]
    predictions = [{"boxes": [wide, narrow], "labels": ["a", "a"], "scores": [0.5, 0.5]}]
    pairs, table = pair_scene(objects, predictions, SMALL_COCO)
    without = find_tie_ranges(table)
    ranges = find_tie_ranges(table, pairs)
    assert (ranges.tied, ranges.contested, ranges.sampled) == (2, 1, 0)
    assert without.metrics["AP"].basis == "partial"
    assert without.metrics["AR100"].low == without.metrics["AR100"].high
    assert (ranges.metrics["AR100"].low, ranges.metrics["AR100"].high) == (0.5, 1.0)
    assert ranges.metrics["AR100"].basis == "bound"


def test_a_cap_that_divides_equal_scores_may_take_either() -> None:
    objects = [{"boxes": [BOX], "labels": ["a"]}]
    predictions = [{"boxes": [BOX, [60, 60, 80, 80]], "labels": ["a"] * 2, "scores": [0.5] * 2}]
    pairs, table = pair_scene(objects, predictions, SMALL_COCO)
    ranges = find_tie_ranges(table, pairs)
    assert (ranges.metrics["AR1"].low, ranges.metrics["AR1"].high) == (0.0, 1.0)
    assert (ranges.metrics["AR2"].low, ranges.metrics["AR2"].high) == (1.0, 1.0)
    assert ranges.contested == 1


def test_more_orders_than_can_be_tried_are_sampled_and_said_to_be() -> None:
    objects = [{"boxes": [BOX], "labels": ["a"]}, {"boxes": [BOX], "labels": ["b"]}]
    crowd = {"boxes": [BOX] * 6, "labels": ["a"] * 6, "scores": [0.5] * 6}
    pairs, table = pair_scene(objects, [crowd, {"boxes": [BOX], "labels": ["b"], "scores": [1.0]}])
    ranges = find_tie_ranges(table, pairs)
    assert (ranges.contested, ranges.sampled) == (1, 1)
    assert ranges.metrics["AP"].basis == "partial"
    assert ranges.per_class["a"].basis == "partial"
    assert ranges.per_class["b"].basis == "exact"
    again = find_tie_ranges(table, pairs)
    assert again.metrics == ranges.metrics  # the sample is the same every time


@pytest.mark.parametrize("name", PROTOCOLS)
def test_native_and_reference_ranges_are_equal_to_the_bit(name: str) -> None:
    for seed in range(4):
        tables = random_tables(seed, levels=4)
        records = []
        for impl in ("native", "reference"):
            table = match(*tables, PROTOCOLS[name], impl=impl)
            pairs = pair_detections(*tables, table, impl=impl)
            records.append(json.dumps(find_tie_ranges(table, pairs, impl=impl).to_record()))
        assert records[0] == records[1]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_order_of_the_images_and_of_equal_scores_does_not_change_the_range(name: str) -> None:
    truth, detections = random_tables(5, levels=4)
    generator = np.random.default_rng(0)
    expected = None
    for _ in range(3):
        mixed = replace(detections, row=generator.permutation(len(detections)))
        table = match(truth, mixed, replace(PROTOCOLS[name], ties="file", iou_thresholds=(0.5,)))
        ranges = find_tie_ranges(table, pair_detections(truth, mixed, table))
        ends = [end for v in ranges.metrics.values() if v.exact for end in (v.low, v.high)]
        expected = expected or ends
        assert ends == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_scores_without_ties_have_the_number_itself_as_range(name: str) -> None:
    truth, detections = random_tables(1)
    distinct = np.random.default_rng(0).permutation(len(detections)) / len(detections)
    object.__setattr__(detections, "score", distinct)
    table = match(truth, detections, PROTOCOLS[name])
    ranges = find_tie_ranges(table, pair_detections(truth, detections, table))
    assert (ranges.tied, ranges.contested) == (0, 0)
    for key, value in evaluate_matches(table).metrics.items():
        ends = ranges.metrics[key]
        assert (ends.low, ends.high) == (value, value) or math.isnan(value)
        assert ends.exact


def test_arranging_keeps_the_counts_of_every_group_of_equal_scores() -> None:
    table = match(*random_tables(2, levels=3), COCO)
    status = np.ascontiguousarray(np.moveaxis(table.status, 2, 0)).reshape(len(table), -1)
    key = np.stack([table.label, table.score])
    for is_best in (False, True):
        arranged = arrange_ties(table, status, is_best=is_best)
        for group in np.unique(key, axis=1).T:
            is_here = (group == key.T).all(axis=1)
            for state in range(3):
                counts = [
                    (part[is_here] == state).sum(axis=0).tolist() for part in (status, arranged)
                ]
                assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["voc2007_test/yolov3_darknet", "coco_fakebbox100"])
def test_real_sets_have_the_ranges_of_an_independent_program(name: str, real_data: Path) -> None:
    for key, numbers in read_expected(real_data, "ties_real.json").items():
        if key.split("|")[0] != name:
            continue
        table = match(*read_real(real_data, name), PROTOCOLS[key.split("|")[1]])
        ranges = find_tie_ranges(table)  # which keeps the claims of objects, as that program does
        per_class = numbers.pop("per_class", {})
        for metric, (low, value, high) in numbers.items():
            ends = ranges.metrics[metric]
            assert (ends.low, ends.high) == pytest.approx((low, high), abs=1e-12)
            assert ends.low - 1e-15 <= value <= ends.high + 1e-15
        for label, (low, high) in per_class.items():
            ends = ranges.per_class[label]
            assert (ends.low, ends.high) == pytest.approx((low, high), abs=1e-12)


def test_orders_within_images_widen_the_range_of_the_real_set(real_data: Path) -> None:
    tables = read_real(real_data, "coco_fakebbox100")
    table = match(*tables, COCO)
    ends = find_tie_ranges(table, pair_detections(*tables, table)).metrics["AP"]
    assert (round(ends.low, 5), round(ends.high, 5), ends.basis) == (0.50429, 0.50484, "bound")
