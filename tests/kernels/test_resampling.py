"""Resampling: native against reference, against data resampled for real, and by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.test_boundary import EXTREMES, mutate, one_changed
from upmap.kernels.accumulation import accumulate
from upmap.kernels.matching.contract import Matches
from upmap.kernels.resampling import (
    IMPLEMENTATIONS,
    Outcomes,
    Quantities,
    influence,
    regroup,
    resample,
    sum_influence,
)
from upmap.kernels.resampling.weights import draw_counts, hash_counts

FALSE, TRUE, IGNORED = 0, 1, 2
POINTS = {
    "all points": None,
    "COCO": np.linspace(0, 1, 101),
    "VOC07": np.arange(11) * 0.1,
    "uneven": np.array([0.0, 0.11, 0.5, 0.501, 0.75]),
    "one": np.array([0.5]),
}
# Sampled precision is summed in float32, where a few dozen terms of at most 1 / R are rounded.
SINGLE = {"rtol": 0, "atol": 1e-6}
DOUBLE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(params=IMPLEMENTATIONS)
def impl(request: pytest.FixtureRequest) -> Any:
    return request.param


def tolerance(points: Any) -> dict[str, float]:
    return SINGLE if points is not None and len(points) in (11, 101) else DOUBLE


def random_outcomes(rng: np.random.Generator, *, rows: int = 15) -> Outcomes:
    """Detections of any status, and at least as many positives on an image as true ones.

    Some classes have no rows, no positives, or neither; some images have nothing.
    """
    A, T, K, images = 2, 3, 4, int(rng.integers(1, 7))
    counts = rng.integers(0, rows, K) * (rng.random(K) < 0.8)
    N = int(counts.sum())
    label = np.repeat(np.arange(K), counts)
    status = rng.choice(3, (A, T, N), p=rng.dirichlet([1, 1, 1]))
    image = rng.integers(0, images, N)
    has_positives = rng.random(K) < 0.8
    status[:, :, ~has_positives[label]] = FALSE
    is_extra = has_positives[extra := rng.integers(0, K, 9)]
    is_true = (status == TRUE).any(axis=1)  # [A, N]
    areas = np.concatenate([is_true[0] + 2 * is_true[1], rng.integers(1, 4, is_extra.sum())])
    labels = np.concatenate([label, extra[is_extra]])
    on_image = np.concatenate([image, rng.integers(0, images, is_extra.sum())])
    order = np.lexsort((on_image, labels))
    order = order[areas[order] > 0]
    return Outcomes(
        images=images,
        status=status.astype(np.uint8),
        rank=rng.integers(0, 5, N).astype(np.int32),
        image=image.astype(np.int32),
        start=np.concatenate([[0], np.cumsum(counts)]),
        positive_image=on_image[order].astype(np.int32),
        positive_label=labels[order].astype(np.int32),
        positive_areas=areas[order].astype(np.uint64),
    )


def random_quantities(rng: np.random.Generator, Q: int | None = None) -> Quantities:
    Q = int(rng.integers(0, 7)) if Q is None else Q
    return Quantities(
        is_recall=rng.random(Q) < 0.4,
        area=rng.integers(0, 2, Q).astype(np.int32),
        max_dets=rng.choice([1, 3, 100], Q),
        thresholds=rng.integers(1, 8, Q).astype(np.uint64),
    )


def every_curve(caps: tuple[int, ...] = (1, 3, 100), *, recall: bool) -> Quantities:
    """AP, or recall, of each area range, threshold and cap alone: [A, T, M] in C order."""
    area, t, cap = (grid.ravel() for grid in np.meshgrid([0, 1], [0, 1, 2], caps, indexing="ij"))
    return Quantities(
        is_recall=np.full(len(area), recall),
        area=area.astype(np.int32),
        max_dets=cap.astype(np.int64),
        thresholds=(1 << t).astype(np.uint64),
    )


def one_curve(is_recall: bool = False) -> Quantities:
    return Quantities(
        is_recall=np.array([is_recall]),
        area=np.zeros(1, np.int32),
        max_dets=np.array([100]),
        thresholds=np.ones(1, np.uint64),
    )


def outcomes_of_a_curve(status: list[int], image: list[int], positive_image: list[int]) -> Outcomes:
    images = max([*image, *positive_image], default=-1) + 1
    return Outcomes(
        images=images,
        status=np.array(status, np.uint8).reshape(1, 1, -1),
        rank=np.zeros(len(status), np.int32),
        image=np.array(image, np.int32),
        start=np.array([0, len(status)]),
        positive_image=np.array(positive_image, np.int32),
        positive_label=np.zeros(len(positive_image), np.int32),
        positive_areas=np.ones(len(positive_image), np.uint64),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), points=st.sampled_from(list(POINTS)))
def test_native_equals_reference(seed: int, points: str) -> None:
    pytest.importorskip("upmap.kernels.resampling.native")
    rng = np.random.default_rng(seed)
    outcomes, quantities = random_outcomes(rng), random_quantities(rng)
    replicates = int(rng.choice([0, 1, 3, 64, 65]))
    weights = rng.integers(0, rng.choice([1, 2, 4, 256]), (replicates, outcomes.images))
    native, reference = (
        resample(outcomes, weights, quantities, recall_points=POINTS[points], impl=impl)
        for impl in ("native", "reference")
    )
    np.testing.assert_allclose(native, reference, **tolerance(POINTS[points]))
    first, second = (influence(outcomes, quantities, impl=i) for i in ("native", "reference"))
    np.testing.assert_array_equal(first.start, second.start)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_allclose(first.value, second.value, **DOUBLE)
    np.testing.assert_allclose(first.number, second.number, **DOUBLE)
    sums = [sum_influence(outcomes, quantities, impl=i) for i in ("native", "reference")]
    for name in ("of_images", "of_classes", "number"):
        np.testing.assert_allclose(*(getattr(part, name) for part in sums), **DOUBLE)
    np.testing.assert_array_equal(sums[0].positive_images, sums[1].positive_images)


def influence_by_definition(outcomes: Outcomes, quantities: Quantities, q: int, k: int) -> Any:
    """The influence of each image on a class, [I]: every true row looks for its maximum."""
    area, by_image = int(quantities.area[q]), np.zeros(outcomes.images)
    inside = (outcomes.positive_areas >> np.uint64(area)) & np.uint64(1) == 1
    positives = outcomes.positive_image[inside & (outcomes.positive_label == k)]
    bits = int(quantities.thresholds[q])
    thresholds = [t for t in range(outcomes.status.shape[1]) if bits >> t & 1]
    rows = np.arange(outcomes.start[k], outcomes.start[k + 1])
    rows = rows[outcomes.rank[rows] < quantities.max_dets[q]]
    P, number = len(positives), 0.0
    for t in thresholds:
        counted = rows[outcomes.status[area, t, rows] <= TRUE]
        is_true = outcomes.status[area, t, counted] == TRUE
        N, S = np.cumsum(is_true), np.arange(1, len(counted) + 1)
        for j in np.flatnonzero(is_true):
            peak = j + int(np.argmax(np.where(is_true[j:], N[j:] / S[j:], -1)))
            part = 1.0 if quantities.is_recall[q] else N[peak] / S[peak]
            number += part / P
            by_image[outcomes.image[counted[j]]] += part / P
            if not quantities.is_recall[q]:
                for row in range(peak + 1):
                    slope = is_true[row] / S[peak] - N[peak] / S[peak] ** 2
                    by_image[outcomes.image[counted[row]]] += slope / P
    np.subtract.at(by_image, positives, number / max(P, 1))
    return by_image / len(thresholds) if P else np.full(outcomes.images, np.nan)


def test_influence_is_that_of_its_definition(impl: Any) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        outcomes, quantities = random_outcomes(rng), random_quantities(rng, 5)
        result = influence(outcomes, quantities, impl=impl)
        sums = sum_influence(outcomes, quantities, impl=impl)
        for q in range(5):
            dense = np.array(
                [influence_by_definition(outcomes, quantities, q, k) for k in range(4)]
            )
            for k in range(4):
                own = slice(result.start[k], result.start[k + 1])
                expected = dense[k, result.image[own]]
                np.testing.assert_allclose(result.value[q, own], expected, **DOUBLE)
            dense = np.nan_to_num(dense, nan=0.0)
            np.testing.assert_allclose(sums.of_classes[q], np.square(dense).sum(axis=1), **DOUBLE)
            of_images = np.square(dense.sum(axis=0)).sum()
            np.testing.assert_allclose(sums.of_images[q], of_images, **DOUBLE)


def test_rows_that_count_in_any_of_many_sets_of_area_ranges_have_their_influence() -> None:
    # More different sets than the native kernel has places for.
    pytest.importorskip("upmap.kernels.resampling.native")
    rng = np.random.default_rng(3)
    A, N, images = 10, 900, 12
    status = rng.choice([FALSE, IGNORED], (A, 1, N)).repeat(9, axis=1)
    status[:, :, ::7] = rng.choice(3, status[:, :, ::7].shape)
    outcomes = Outcomes(
        images=images,
        status=status.astype(np.uint8),
        rank=np.zeros(N, np.int32),
        image=rng.integers(0, images, N).astype(np.int32),
        start=np.array([0, N]),
        positive_image=np.sort(rng.integers(0, images, N)).astype(np.int32),
        positive_label=np.zeros(N, np.int32),
        positive_areas=rng.integers(1, 2**A, N).astype(np.uint64),
    )
    quantities = Quantities(
        is_recall=np.arange(2 * A) % 2 == 1,
        area=np.arange(2 * A, dtype=np.int32) // 2,
        max_dets=np.full(2 * A, 100),
        thresholds=np.full(2 * A, 2**9 - 1, np.uint64),
    )
    first, second = (influence(outcomes, quantities, impl=i) for i in ("native", "reference"))
    np.testing.assert_allclose(first.value, second.value, **DOUBLE)


def repeated(outcomes: Outcomes, weights: np.ndarray) -> Matches:
    """The replicate as data: each row as often as its image's weight, copies side by side."""
    copies = weights[outcomes.image]
    label = np.repeat(np.arange(len(outcomes.start) - 1), np.diff(outcomes.start))
    K, A = len(outcomes.start) - 1, len(outcomes.status)
    positives = np.zeros((K, A), np.int64)
    for a in range(A):
        inside = (outcomes.positive_areas >> np.uint64(a)) & np.uint64(1) == 1
        np.add.at(
            positives[:, a],
            outcomes.positive_label[inside],
            weights[outcomes.positive_image[inside]],
        )
    label = np.repeat(label, copies)
    return Matches(
        image=np.repeat(outcomes.image, copies),
        label=label,
        row=np.arange(len(label)),
        status=np.repeat(outcomes.status, copies, axis=2),
        rank=np.repeat(outcomes.rank, copies),
        score=np.zeros(copies.sum()),
        start=np.searchsorted(label, np.arange(K + 1)),
        positives=positives,
    )


@pytest.mark.parametrize("points", POINTS)
def test_a_replicate_is_the_accumulation_of_repeated_rows(points: str, impl: Any) -> None:
    caps = np.array([1, 3, 100])
    for seed in range(12):
        rng = np.random.default_rng(seed)
        outcomes = random_outcomes(rng)
        weights = rng.integers(0, 4, (3, outcomes.images))
        precision, recall = (
            resample(outcomes, weights, quantities, recall_points=POINTS[points], impl=impl)
            for quantities in (every_curve(recall=False), every_curve(recall=True))
        )
        for b, row in enumerate(weights):
            data = repeated(outcomes, row)
            whole = accumulate(
                data,
                recall_points=np.zeros(0) if POINTS[points] is None else POINTS[points],
                max_dets=caps,
                epsilon=0,
            )
            expected = whole.all_points if POINTS[points] is None else whole.precision.mean(axis=1)
            assert expected is not None
            by_curve = np.moveaxis(expected, (2, 0, 3), (0, 1, 2)).reshape(18, -1)  # [A, T, M], K
            np.testing.assert_allclose(precision[:, :, b], by_curve, **tolerance(POINTS[points]))
            by_curve = np.moveaxis(whole.recall, (2, 0, 3), (0, 1, 2))
            np.testing.assert_array_equal(recall[:, :, b], by_curve.reshape(18, -1))


def test_the_number_of_threads_and_the_instruction_set_change_no_bit() -> None:
    native = pytest.importorskip("upmap.kernels.resampling.native")
    for seed, points in enumerate(POINTS.values()):
        rng = np.random.default_rng(seed)
        outcomes, quantities = random_outcomes(rng, rows=60), random_quantities(rng, 6)
        weights = rng.integers(0, 5, (130, outcomes.images)).astype(np.uint8)
        results = [
            resample(outcomes, weights, quantities, recall_points=points, threads=threads).tobytes()
            for threads in (1, 2, 5)
        ]
        status = np.ascontiguousarray(np.moveaxis(outcomes.status, 2, 0))
        for instructions in ("baseline", "avx2", "avx512"):
            try:
                result = native.resample(
                    outcomes, status, weights, quantities, points, 1, instructions
                )
            except ValueError as error:
                assert f"no instruction set {instructions} here" in str(error)  # noqa: PT017
            else:
                results.append(result.tobytes())
        assert len(results) > 3
        assert len(set(results)) == 1
        values = [influence(outcomes, quantities, threads=n).value.tobytes() for n in (1, 2, 5)]
        assert len(set(values)) == 1
        sums = [sum_influence(outcomes, quantities, threads=n) for n in (1, 2, 5)]
        assert len({part.of_images.tobytes() + part.of_classes.tobytes() for part in sums}) == 1


@pytest.mark.parametrize("points", POINTS)
def test_a_replicate_does_not_depend_on_the_others(points: str, impl: Any) -> None:
    rng = np.random.default_rng(5)
    outcomes, quantities = random_outcomes(rng), random_quantities(rng, 5)
    weights = np.concatenate([rng.integers(0, 4, (70, outcomes.images)), [[3] * outcomes.images]])
    whole = resample(outcomes, weights, quantities, recall_points=POINTS[points], impl=impl)
    for part in (slice(0, 1), slice(69, 71), slice(1, 66)):
        alone = resample(
            outcomes, weights[part], quantities, recall_points=POINTS[points], impl=impl
        )
        np.testing.assert_array_equal(alone, whole[:, :, part])


def test_many_positives_of_large_weight_keep_twelve_digits(impl: Any) -> None:
    rng = np.random.default_rng(0)
    P = 600
    outcomes = outcomes_of_a_curve(
        rng.permutation([TRUE] * 500 + [FALSE] * 700).tolist(),
        np.arange(1200).tolist(),
        np.arange(P).tolist(),
    )
    weights = rng.integers(200, 256, (2, 1200))  # more than 100,000 positives by weight
    native = resample(outcomes, weights, one_curve(), recall_points=POINTS["COCO"], impl=impl)
    for b, row in enumerate(weights):
        expected = accumulate(
            repeated(outcomes, row),
            recall_points=POINTS["COCO"],
            max_dets=np.array([100]),
            epsilon=0,
        ).precision.mean()
        np.testing.assert_allclose(native[0, 0, b], expected, **DOUBLE)


@pytest.mark.parametrize("points", ["COCO", "VOC07", "uneven", "one"])
def test_recall_points_are_reached_as_float64_division_says(points: str, impl: Any) -> None:
    # Recalls i / P for all i, at P where many of them fall on a recall point.
    for P in (10, 20, 50, 100, 200):
        outcomes = outcomes_of_a_curve([TRUE] * P, list(range(P)), list(range(P)))
        weights = np.tril(np.ones((P, P), np.uint8))[:, ::-1].copy()  # the last n images only
        outcomes = replace(outcomes, images=2 * P, positive_image=np.arange(P, 2 * P))
        weights = np.concatenate([weights, np.ones((P, P), np.uint8)], axis=1)
        result = resample(outcomes, weights, one_curve(), recall_points=POINTS[points], impl=impl)
        recall = np.arange(1, P + 1) / P
        expected = (recall[:, np.newaxis] >= POINTS[points]).mean(axis=1)
        np.testing.assert_allclose(result[0, 0], expected, **tolerance(POINTS[points]))


def test_a_curve_worked_by_hand(impl: Any) -> None:
    # Images 0 (true), 1 (false), 2 (true) of weights 2, 1, 3; positives: 2 x 1 + 3 x 2 = 8.
    outcomes = outcomes_of_a_curve([TRUE, FALSE, TRUE], [0, 1, 2], [0, 2, 2])
    weights = np.array([[2, 1, 3], [0, 1, 0], [0, 1, 1], [0, 0, 0]])
    average = resample(outcomes, weights, one_curve(), recall_points=None, impl=impl)
    assert average[0, 0, 0] == pytest.approx(2 / 8 * 1 + 3 / 8 * 5 / 6)
    assert np.isnan(average[0, 0, [1, 3]]).all()
    assert average[0, 0, 2] == pytest.approx(1 / 2 * 1 / 2)
    recall = resample(outcomes, weights, one_curve(True), recall_points=None, impl=impl)
    np.testing.assert_array_equal(recall[0, 0], [5 / 8, np.nan, 1 / 2, np.nan])


def test_influence_worked_by_hand_and_adds_up_to_nothing(impl: Any) -> None:
    # AP(w) = w0 / P + w2 / P * (w0 + w2) / (w0 + w1 + w2), P = w0 + 2 w2.
    outcomes = outcomes_of_a_curve([TRUE, FALSE, TRUE], [0, 1, 2], [0, 2, 2])
    result = influence(outcomes, one_curve(), impl=impl)
    AP = 1 / 3 + 2 / 9
    by_image = [1 / 3 + 1 / 27 - AP / 3, -2 / 27, 2 / 9 + 1 / 27 - 2 * AP / 3]
    np.testing.assert_allclose(result.value[0], by_image, **DOUBLE)
    np.testing.assert_allclose(result.number, [[AP]], **DOUBLE)
    assert result.image.tolist() == [0, 1, 2]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        result = influence(random_outcomes(rng), random_quantities(rng, 4), impl=impl)
        for k in range(len(result.start) - 1):
            total = result.value[:, result.start[k] : result.start[k + 1]].sum(axis=1)
            np.testing.assert_allclose(total[~np.isnan(total)], 0, **DOUBLE)


def test_influence_is_the_derivative_of_the_weighted_number(impl: Any) -> None:
    # AP depends on ratios of weights alone, so its derivative at 100 is a hundredth of that at 1.
    # Central differences are exact to the second order, about 1e-4 of values below 1.
    rng = np.random.default_rng(11)
    outcomes, quantities = random_outcomes(rng), every_curve((100,), recall=False)
    result = influence(outcomes, quantities, impl=impl)
    for i in range(outcomes.images):
        weights = np.full((3, outcomes.images), 100)
        weights[:, i] += [-1, 0, 1]
        number = resample(outcomes, weights, quantities, recall_points=None, impl=impl)
        before, after = (number[:, :, 1] - number[:, :, 0], number[:, :, 2] - number[:, :, 1])
        is_smooth = np.abs(after - before) < 2e-4  # elsewhere another row attains a maximum
        expected = np.zeros(number.shape[:2])
        for k in range(len(result.start) - 1):
            own = slice(result.start[k], result.start[k + 1])
            expected[:, k] = result.value[:, own][:, result.image[own] == i].sum(axis=1)
        slope = (after + before) / 2 * 100
        assert is_smooth.sum() > 5
        np.testing.assert_allclose(slope[is_smooth], expected[is_smooth], rtol=0, atol=1e-2)


def test_groups_are_images_of_equal_weight(impl: Any) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        outcomes, quantities = random_outcomes(rng), random_quantities(rng, 4)
        group = rng.integers(0, 3, outcomes.images)
        weights = rng.integers(0, 4, (5, 3))
        options = {"recall_points": POINTS["COCO"], "impl": impl}
        by_group = resample(regroup(outcomes, group, 3), weights, quantities, **options)
        by_image = resample(outcomes, weights[:, group], quantities, **options)
        np.testing.assert_array_equal(by_group, by_image)


def test_weights_that_are_no_counts_are_refused(impl: Any) -> None:
    outcomes = outcomes_of_a_curve([TRUE], [0], [0])
    cases: list[tuple[Any, type[Exception], str]] = [
        ([[-1]], ValueError, r"weights must lie in 0 \.\. 255, not -1 \.\. -1"),
        ([[256]], ValueError, r"weights must lie in 0 \.\. 255, not 256 \.\. 256"),
        ([[np.nan]], ValueError, r"weights must lie in 0 \.\. 255, not nan \.\. nan"),
        ([[0.5]], ValueError, "weights must be uint8"),
        ([["1"]], TypeError, "weights must hold numbers"),
        ([1], ValueError, r"weights must be \[B, 1\], not \[1\]"),
        ([[1, 1]], ValueError, r"weights must be \[B, 1\], not \[1, 2\]"),
        (np.ones((1, 1, 1)), ValueError, r"weights must be \[B, 1\], not \[1, 1, 1\]"),
    ]
    for weights, error, message in cases:
        with pytest.raises(error, match=message):
            resample(outcomes, weights, one_curve(), recall_points=None, impl=impl)


def test_columns_that_disagree_are_refused() -> None:
    outcomes = outcomes_of_a_curve([TRUE], [0], [0])
    changes: list[tuple[dict[str, Any], str]] = [
        ({"image": np.array([1])}, "outcomes.image must"),
        ({"positive_image": np.array([-1])}, "outcomes.positive_image must"),
        ({"positive_areas": np.array([2])}, "outcomes.positive_areas must have bits 0 to 0 only"),
        ({"positive_label": np.array([1])}, "outcomes.positive_label must"),
        ({"start": np.array([0, 2])}, "outcomes.start must ascend from 0 to 1"),
        ({"status": np.zeros((1, 65, 1), np.uint8)}, "1 to 64 IoU thresholds"),
        ({"images": -1}, "outcomes.images must"),
    ]
    for change, message in changes:
        with pytest.raises(ValueError, match=message):
            influence(replace(outcomes, **change), one_curve())
    with pytest.raises(ValueError, match=r"quantities\.thresholds must have bits 0 to 0"):
        influence(outcomes, replace(one_curve(), thresholds=np.array([2])))
    with pytest.raises(ValueError, match=r"group must be \[1\], not \[2\]"):
        regroup(outcomes, [0, 0], 1)


def test_spoilt_arrays_are_refused_alike_or_resampled_alike() -> None:
    pytest.importorskip("upmap.kernels.resampling.native")
    refusals = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        inputs: list[Any] = [random_outcomes(rng, rows=6), random_quantities(rng, 3)]
        weights: Any = rng.integers(0, 3, (2, inputs[0].images)).astype(np.uint8)
        points: Any = np.linspace(0, 1, 5)
        place = rng.integers(4)
        if place < 2:
            inputs[place] = one_changed(inputs[place], rng)
        elif place == 2:
            weights = mutate(weights, rng)
        else:
            points = rng.choice([*EXTREMES, 0]) if rng.random() < 0.2 else mutate(points, rng)
        if isinstance(inputs[0].images, int) and inputs[0].images > 2**20:
            continue  # weights of so many images are refused; influence would take the memory

        def call(
            impl: Any, inputs: Any = inputs, weights: Any = weights, points: Any = points
        ) -> Any:
            number = resample(inputs[0], weights, inputs[1], recall_points=points, impl=impl)
            return number, influence(*inputs, impl=impl).value

        native, reference = (outcome(call, impl) for impl in ("native", "reference"))
        assert (native is None) == (reference is None), f"seed {seed}"
        refusals += native is None
        if native is not None:
            for first, second in zip(native, reference, strict=True):
                np.testing.assert_allclose(first, second, **SINGLE, err_msg=f"seed {seed}")
    assert 0 < refusals < 300


def outcome(call: Callable[[Any], Any], impl: str) -> Any:
    try:
        return call(impl)
    except (TypeError, ValueError):
        return None


def test_counts_of_draws_add_up_to_the_number_of_images_and_continue() -> None:
    whole = draw_counts(7, 10, np.random.default_rng(3))
    assert (whole.sum(axis=1) == 7).all()
    generator = np.random.default_rng(3)
    parts = [draw_counts(7, count, generator) for count in (4, 6)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert draw_counts(0, 2, generator).shape == (2, 0)


def test_hashed_counts_are_the_same_on_every_machine_and_of_an_image_alone() -> None:
    names = [f"{i:06d}" for i in range(20)]
    whole = hash_counts(names, 50, seed=9)
    assert hash_counts(names[3:5], 50, seed=9).tolist() == whole[:, 3:5].tolist()
    assert hash_counts(names, 10, seed=9, first=40).tolist() == whole[40:].tolist()
    assert hash_counts(["7"], 8).tolist() == hash_counts([7], 8).tolist()
    assert not np.array_equal(hash_counts(names, 50, seed=8), whole)
    assert hash_counts([1, "a", "\udcff"], 6).T.tolist() == [
        [0, 1, 4, 0, 2, 2],
        [3, 0, 1, 1, 0, 2],
        [0, 1, 0, 1, 2, 1],
    ]


def test_hashed_counts_are_those_of_a_poisson_variable_of_mean_one() -> None:
    counts = hash_counts(range(2000), 500)
    # Standard error of the mean of a million counts is 0.001, of their variance 0.0017.
    assert counts.mean() == pytest.approx(1, abs=0.005)
    assert counts.var() == pytest.approx(1, abs=0.009)
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.0025)
    rows = counts.astype(float) - 1
    assert abs((rows[1:] * rows[:-1]).mean()) < 0.005
    assert abs((rows[:, 1:] * rows[:, :-1]).mean()) < 0.005


def test_weighted_small_cases_of_the_spec(real_data: Path, impl: Any) -> None:
    cases = json.loads((real_data / "expected_trust/weighted_small.json").read_text())["cases"]
    for case in cases:
        outcomes = outcomes_of_a_curve(case["status"], case["image"], case["positive_images"])
        weights = case["weights"]
        outcomes = replace(outcomes, images=len(weights))
        for key, points in (("all", None), ("11", POINTS["VOC07"]), ("101", POINTS["COCO"])):
            result = resample(outcomes, [weights], one_curve(), recall_points=points, impl=impl)
            expected = np.nan if case[key] is None else case[key]
            np.testing.assert_allclose(result, expected, **tolerance(points), err_msg=key)


def test_influence_small_cases_of_the_spec(real_data: Path, impl: Any) -> None:
    cases = json.loads((real_data / "expected_trust/influence_small.json").read_text())["cases"]
    for case in cases:
        outcomes = outcomes_of_a_curve(case["status"], case["image"], case["positive_images"])
        outcomes = replace(outcomes, images=case["images"])
        result = influence(outcomes, one_curve(), impl=impl)
        by_image = np.zeros(case["images"])
        by_image[result.image] = result.value[0]
        # Central differences of step 1e-7 have a rounding error of about 1e-8.
        np.testing.assert_allclose(by_image, case["influence"], rtol=0, atol=1e-5)
        assert result.number[0, 0] == pytest.approx(case["AP_all_points"], abs=1e-12)
