"""Matching: native against reference under every rule, and small cases worked by hand."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upmap.kernels.matching import (
    CLAIMABLE,
    CROWD,
    FALSE_POSITIVE,
    IGNORED,
    IMPLEMENTATIONS,
    NEVER_CLAIMED,
    TRUE_POSITIVE,
    DetectionBoxes,
    Matches,
    Rules,
    TruthBoxes,
    match,
)

CHOICES = list(product([False, True], repeat=4))


def columns(corners: Any, offset: float, **values: Any) -> dict[str, Any]:
    """The columns that detections and ground truth have in common; `values` may be scalars."""
    box = np.array(corners, np.float64).reshape(-1, 4)
    dtypes = {"score": np.float64, "kind": np.uint8}
    return {
        "box": box,
        "box_area": (box[:, 2] - box[:, 0] + offset) * (box[:, 3] - box[:, 1] + offset),
    } | {
        name: np.broadcast_to(np.asarray(value, dtypes.get(name, np.int32)), len(box)).copy()
        for name, value in values.items()
    }


def detections(
    corners: Any, *, image: Any = 0, label: Any = 0, score: Any = 1, offset: float = 0
) -> DetectionBoxes:
    values = columns(corners, offset, image=image, label=label, score=score)
    return DetectionBoxes(**values, row=np.arange(len(values["box"])))


def truths(
    corners: Any, *, image: Any = 0, label: Any = 0, kind: Any = CLAIMABLE, offset: float = 0
) -> TruthBoxes:
    values = columns(corners, offset, image=image, label=label, kind=kind)
    return TruthBoxes(**values, area=values["box_area"])


def rules(**changes: Any) -> Rules:
    defaults = {
        "iou_thresholds": np.array([0.5]),
        "area_ranges": np.array([[-np.inf, np.inf]]),
        "side_offset": 0.0,
        "strict": False,
        "best_only": True,
        "last_of_equals": False,
        "ties_by_image": False,
        "max_dets": 1000,
    }
    return Rules(**defaults | changes)


def statuses(boxes: Matches) -> list[int]:
    """At the first threshold and area range, in input order."""
    statuses = np.empty(len(boxes.row), int)
    statuses[boxes.row] = boxes.status[0, 0]
    return statuses.tolist()


@pytest.fixture(params=IMPLEMENTATIONS)
def impl(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("choices", CHOICES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_native_equals_reference_in_every_array(choices: tuple[bool, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    offset = float(rng.integers(0, 2))
    boxes = random_detections(rng, rng.integers(0, 60), offset)
    truth = random_truths(rng, rng.integers(0, 30), offset)
    names = ("strict", "best_only", "last_of_equals", "ties_by_image")
    chosen = rules(
        iou_thresholds=np.array([0.1, 0.5, 0.5, 1.0])[: rng.integers(1, 5)],
        area_ranges=np.array([[-np.inf, np.inf], [0, 16], [16, 36]]),
        side_offset=offset,
        max_dets=int(rng.choice([1, 3, 1000])),
        **dict(zip(names, choices, strict=True)),
    )
    native, reference = (match(boxes, truth, chosen, 3, impl=i) for i in ("native", "reference"))
    for name in ("image", "label", "score", "row", "rank", "status", "start", "positives"):
        np.testing.assert_array_equal(getattr(native, name), getattr(reference, name), name)


def random_columns(rng: np.random.Generator, count: int) -> tuple[Any, dict[str, Any]]:
    """Boxes on a coarse grid, so that IoUs, areas and scores tie."""
    low = rng.integers(0, 4, (count, 2)) * 2.0
    corners = np.concatenate([low, low + rng.integers(-1, 4, (count, 2)) * 2.0], axis=1)
    return corners, {"image": rng.integers(0, 3, count), "label": rng.integers(0, 3, count)}


def random_detections(rng: np.random.Generator, count: int, offset: float = 0) -> DetectionBoxes:
    corners, values = random_columns(rng, count)
    return detections(corners, **values, score=rng.integers(0, 5, count) / 4, offset=offset)


def random_truths(rng: np.random.Generator, count: int, offset: float = 0) -> TruthBoxes:
    corners, values = random_columns(rng, count)
    return truths(corners, **values, kind=rng.integers(0, 3, count), offset=offset)


@pytest.mark.parametrize("seed", range(20))
def test_native_equals_reference_with_areas_of_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, truth = random_detections(rng, 60), random_truths(rng, 40)
    boxes = replace(boxes, area=boxes.box_area * rng.choice([0.1, 0.5, 1], 60))
    chosen = rules(area_ranges=np.array([[-np.inf, np.inf], [0, 4], [4, 30]]))
    native, reference = (match(boxes, truth, chosen, 3, impl=i) for i in ("native", "reference"))
    np.testing.assert_array_equal(native.status, reference.status)


def test_the_area_of_a_mask_decides_the_range_and_not_the_overlap(impl: Any) -> None:
    boxes = detections([[0, 0, 2, 2], [50, 50, 52, 52]])
    chosen = rules(area_ranges=np.array([[2.0, 9.0]]))
    truth = truths([[0, 0, 2, 2]])
    assert statuses(match(boxes, truth, chosen, 1, impl=impl)) == [TRUE_POSITIVE, FALSE_POSITIVE]
    masks = replace(boxes, area=np.array([1.0, 1.0]))
    assert statuses(match(masks, truth, chosen, 1, impl=impl)) == [TRUE_POSITIVE, IGNORED]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    rng = np.random.default_rng(0)
    boxes, truth = random_detections(rng, 500), random_truths(rng, 200)
    alone, together = (
        match(boxes, truth, rules(), 3, threads=n, impl="native") for n in (1, threads)
    )
    np.testing.assert_array_equal(alone.status, together.status)
    np.testing.assert_array_equal(alone.row, together.row)


def test_a_second_detection_of_a_claimed_object_is_false(impl: Any) -> None:
    boxes = detections([[0, 0, 10, 10], [0, 0, 10, 9]], score=[0.9, 0.8])
    result = match(boxes, truths([[0, 0, 10, 10]]), rules(), 1, impl=impl)
    assert statuses(result) == [TRUE_POSITIVE, FALSE_POSITIVE]


def test_best_unclaimed_falls_back_to_the_second_best_and_best_does_not(impl: Any) -> None:
    boxes = detections([[0, 0, 10, 10], [0, 0, 10, 9]], score=[0.9, 0.8])
    truth = truths([[0, 0, 10, 10], [0, 0, 10, 7]])
    best = match(boxes, truth, rules(), 1, impl=impl)
    free = match(boxes, truth, rules(best_only=False), 1, impl=impl)
    assert statuses(best) == [TRUE_POSITIVE, FALSE_POSITIVE]
    assert statuses(free) == [TRUE_POSITIVE, TRUE_POSITIVE]


def test_an_iou_on_the_threshold_matches_unless_strict(impl: Any) -> None:
    boxes, truth = detections([[0, 0, 10, 5]]), truths([[0, 0, 10, 10]])
    for strict, expected in ((False, TRUE_POSITIVE), (True, FALSE_POSITIVE)):
        assert statuses(match(boxes, truth, rules(strict=strict), 1, impl=impl)) == [expected]


def test_an_ignored_object_may_be_found_any_number_of_times(impl: Any) -> None:
    boxes = detections([[0, 0, 10, 10]] * 3, score=[0.9, 0.8, 0.7])
    truth = truths([[0, 0, 10, 10]], kind=NEVER_CLAIMED)
    for best_only in (True, False):
        result = match(boxes, truth, rules(best_only=best_only), 1, impl=impl)
        assert statuses(result) == [IGNORED] * 3
        assert result.positives.tolist() == [[0]]


def test_a_crowd_divides_by_the_area_of_the_detection(impl: Any) -> None:
    boxes, truth = detections([[0, 0, 5, 5]]), truths([[0, 0, 100, 100]], kind=CROWD)
    assert statuses(match(boxes, truth, rules(), 1, impl=impl)) == [IGNORED]
    ordinary = truths([[0, 0, 100, 100]], kind=NEVER_CLAIMED)
    assert statuses(match(boxes, ordinary, rules(), 1, impl=impl)) == [FALSE_POSITIVE]


def test_of_equal_overlaps_the_first_or_the_last_is_taken(impl: Any) -> None:
    boxes = detections([[0, 0, 10, 10]])
    truth = truths([[0, 0, 10, 10]] * 2, kind=[CLAIMABLE, NEVER_CLAIMED])
    first, last = (rules(last_of_equals=last) for last in (False, True))
    assert statuses(match(boxes, truth, first, 1, impl=impl)) == [TRUE_POSITIVE]
    assert statuses(match(boxes, truth, last, 1, impl=impl)) == [IGNORED]


def test_equal_scores_keep_file_order_or_image_order(impl: Any) -> None:
    boxes = detections([[0, 0, 1, 1]] * 3, image=[2, 0, 1], score=0.5)
    by_file = match(boxes, truths([]), rules(), 1, impl=impl)
    by_image = match(boxes, truths([]), rules(ties_by_image=True), 1, impl=impl)
    assert by_file.row.tolist() == [0, 1, 2]
    assert by_image.row.tolist() == [1, 2, 0]


def test_detections_beyond_the_cap_are_ignored(impl: Any) -> None:
    boxes = detections([[50, 50, 60, 60], [0, 0, 10, 10]], score=[0.9, 0.8])
    result = match(boxes, truths([[0, 0, 10, 10]]), rules(max_dets=1), 1, impl=impl)
    assert statuses(result) == [FALSE_POSITIVE, IGNORED]
    assert result.rank.tolist() == [0, 1]


def test_an_unmatched_detection_outside_the_area_range_is_ignored(impl: Any) -> None:
    boxes = detections([[0, 0, 2, 2], [0, 0, 4, 4]], score=[0.9, 0.8])
    chosen = rules(area_ranges=np.array([[4.0, 15.0]]))
    assert statuses(match(boxes, truths([]), chosen, 1, impl=impl)) == [FALSE_POSITIVE, IGNORED]


def test_nothing_at_all_gives_empty_arrays(impl: Any) -> None:
    result = match(detections([]), truths([]), rules(), 0, impl=impl)
    assert result.status.shape == (1, 1, 0)
    assert result.positives.shape == (0, 1)
    assert result.start.tolist() == [0]


def test_each_class_begins_where_the_class_before_it_ends(impl: Any) -> None:
    boxes = detections([[0, 0, 1, 1]] * 4, label=[3, 1, 3, 3])
    result = match(boxes, truths([]), rules(), 5, impl=impl)
    assert result.start.tolist() == [0, 0, 1, 1, 4, 4]


def test_a_label_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"detections.label must lie in 0 .. 1"):
        match(detections([[0, 0, 1, 1]], label=2), truths([]), rules(), 2)


def test_too_many_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 64 IoU thresholds"):
        match(detections([]), truths([]), rules(iou_thresholds=np.linspace(0.1, 1, 65)), 1)


def test_an_unknown_implementation_names_those_that_exist() -> None:
    with pytest.raises(ValueError, match="native, reference"):
        match(detections([]), truths([]), rules(), 1, impl="cuda")  # type: ignore[arg-type]
