"""Accumulation: native against reference, bit for bit, and a curve worked by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upmap.kernels.accumulation import IMPLEMENTATIONS, accumulate
from upmap.kernels.accumulation.contract import TIE_ORDERS
from upmap.kernels.matching import Matches

FALSE, TRUE, IGNORED = 0, 1, 2


def matches(status: Any, positives: Any, start: Any, rank: Any = None) -> Matches:
    status = np.array(status, np.uint8)
    rows = status.shape[2]
    return Matches(
        image=np.zeros(rows, np.int32),
        label=np.repeat(np.arange(len(start) - 1, dtype=np.int32), np.diff(start))[:rows],
        row=np.arange(rows),
        status=status,
        rank=np.zeros(rows, np.int32) if rank is None else np.array(rank, np.int32),
        score=np.linspace(1, 0, rows),
        start=np.array(start, np.int64),
        positives=np.array(positives, np.int64),
    )


@pytest.fixture(params=IMPLEMENTATIONS)
def impl(request: pytest.FixtureRequest) -> Any:
    return request.param


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), points=st.sampled_from([0, 1, 11, 101]))
def test_native_equals_reference_in_every_bit(seed: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, 4)
    rows = int(counts.sum())
    data = matches(
        rng.integers(0, 3, (2, 3, rows)),
        # at least as many positives as there can be true positives, or none
        rng.choice([0, 40, 41, 49], (4, 2)),
        np.concatenate([[0], np.cumsum(counts)]),
        rng.integers(0, 6, rows),
    )
    options = {
        "recall_points": np.linspace(0, 1, points),
        "max_dets": np.array([1, 3, 100]),
        "epsilon": float(rng.choice([0.0, 2.0**-52])),
        "with_scores": True,
        "ties": str(rng.choice(TIE_ORDERS)),
    }
    data = replace(data, score=-np.floor(np.arange(rows) / rng.integers(1, 9)))
    results = [accumulate(data, impl=impl, **options) for impl in ("native", "reference")]
    for name in ("precision", "recall", "all_points", "scores"):
        native, reference = (getattr(result, name) for result in results)
        np.testing.assert_array_equal(native, reference, name)


@pytest.mark.parametrize("curve_caps", [[], [1], [0, 2], [0, 1, 2]])
def test_curves_under_some_caps_are_those_of_all_and_recall_is_under_all(
    curve_caps: list[int], impl: Any
) -> None:
    rng = np.random.default_rng(0)
    data = matches(
        rng.integers(0, 3, (2, 3, 40)), [[40, 0], [50, 60]], [0, 25, 40], rng.integers(0, 6, 40)
    )
    options: dict[str, Any] = {
        "recall_points": np.linspace(0, 1, 11),
        "max_dets": np.array([1, 3, 100]),
        "epsilon": 0.0,
        "with_scores": True,
        "impl": impl,
    }
    whole = accumulate(data, **options)
    part = accumulate(data, **options, curve_caps=np.array(curve_caps, np.int64))
    for name in ("precision", "all_points", "scores"):
        expected = getattr(whole, name)[..., curve_caps]
        np.testing.assert_array_equal(getattr(part, name), expected, name)
    np.testing.assert_array_equal(part.recall, whole.recall)


@pytest.mark.parametrize("curve_caps", [[1], [-1], [0, 0], [[0]], [0.5]])
def test_places_of_caps_that_are_not_there_or_do_not_ascend_are_refused(
    curve_caps: Any, impl: Any
) -> None:
    data = matches([[[TRUE]]], [[1]], [0, 1])
    settings: dict[str, Any] = {"recall_points": np.zeros(0), "max_dets": np.array([1])}
    with pytest.raises(ValueError, match="curve_caps"):
        accumulate(data, **settings, epsilon=0, curve_caps=np.array(curve_caps), impl=impl)


def test_only_what_is_asked_for_is_returned(impl: Any) -> None:
    data = matches([[[TRUE]]], [[1]], [0, 1])
    settings = {"recall_points": np.array([0.5]), "max_dets": np.array([1]), "epsilon": 0}
    result = accumulate(data, with_areas=False, impl=impl, **settings)
    assert result.all_points is None
    assert result.scores is None
    assert result.precision.item() == result.recall.item() == 1


def test_a_curve_worked_by_hand(impl: Any) -> None:
    # TP, FP, ignored, TP of 4 positives: precision 1 at recall 1/4, 2/3 at recall 2/4, then none.
    data = matches([[[TRUE, FALSE, IGNORED, TRUE]]], [[4]], [0, 4])
    result = accumulate(
        data,
        recall_points=np.array([0, 0.25, 0.3, 0.5, 0.75]),
        max_dets=np.array([1]),
        epsilon=0,
        with_scores=True,
        impl=impl,
    )
    assert result.precision[0, :, 0, 0, 0].tolist() == [1, 1, 2 / 3, 2 / 3, 0]
    assert result.recall[0, 0, 0, 0] == 0.5
    assert result.all_points is not None
    assert result.all_points[0, 0, 0, 0] == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert result.scores is not None
    assert result.scores[0, :, 0, 0, 0].tolist() == [1, 1, 0, 0, 0]


def test_without_positives_everything_is_undefined(impl: Any) -> None:
    data = matches([[[FALSE]]], [[0]], [0, 1])
    result = accumulate(
        data, recall_points=np.array([0.5]), max_dets=np.array([1]), epsilon=0, impl=impl
    )
    assert np.isnan(result.precision).all()
    assert np.isnan(result.recall).all()
    assert result.all_points is not None
    assert np.isnan(result.all_points).all()
    assert result.scores is None


def test_without_detections_precision_and_recall_are_zero(impl: Any) -> None:
    data = matches(np.zeros((1, 1, 0)), [[3]], [0, 0])
    result = accumulate(
        data, recall_points=np.array([0.0, 0.5]), max_dets=np.array([1]), epsilon=0, impl=impl
    )
    assert result.precision.ravel().tolist() == [0, 0]
    assert result.all_points is not None
    assert result.recall.item() == result.all_points.item() == 0


def test_columns_that_disagree_are_refused() -> None:
    data = matches([[[FALSE]]], [[1]], [0, 2])
    with pytest.raises(ValueError, match=r"matches.start must be \[2\] and ascend from 0 to 1"):
        accumulate(data, recall_points=np.zeros(1), max_dets=np.ones(1, np.int64), epsilon=0)


def test_equal_scores_stand_as_asked_at_each_threshold_of_its_own(impl: Any) -> None:
    # Equal scores, under two thresholds: true first is another order at each.
    data = matches([[[FALSE, TRUE], [TRUE, FALSE]]], [[1]], [0, 2])
    data = replace(data, score=np.zeros(2))
    areas = {
        ties: accumulate(
            data,
            recall_points=np.zeros(0),
            max_dets=np.array([9]),
            epsilon=0,
            ties=ties,
            impl=impl,
        ).all_points
        for ties in TIE_ORDERS
    }
    assert {ties: values.ravel().tolist() for ties, values in areas.items()} == {
        "kept": [0.5, 1.0],
        "true_first": [1.0, 1.0],
        "false_first": [0.5, 0.5],
    }


def test_an_unknown_order_of_equal_scores_is_refused(impl: Any) -> None:
    data = matches([[[TRUE]]], [[1]], [0, 1])
    with pytest.raises(ValueError, match="ties must be one of kept, true_first, false_first"):
        accumulate(
            data,
            recall_points=np.zeros(0),
            max_dets=np.array([9]),
            epsilon=0,
            ties="random",  # type: ignore[arg-type]
            impl=impl,
        )
