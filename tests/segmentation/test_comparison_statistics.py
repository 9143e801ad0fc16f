"""Tests of a comparison's statistics, against SciPy, loops and simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from upmap.segmentation.comparison.scoring import mean_iou
from upmap.segmentation.comparison.statistics import (
    Difference,
    bootstrap_interval,
    count_seeds,
    paired_difference,
)


@pytest.mark.parametrize("comparisons", [1, 4])
def test_the_paired_difference_is_that_of_the_paired_t_test(comparisons: int) -> None:
    generator = np.random.default_rng(0)
    scores, baseline = generator.random((2, 5))
    difference = paired_difference(scores.tolist(), baseline.tolist(), comparisons=comparisons)
    expected = stats.ttest_rel(scores, baseline).confidence_interval(1 - 0.05 / comparisons)
    assert [difference.low, difference.high] == pytest.approx([expected.low, expected.high])


def test_all_intervals_together_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        baseline, *others = generator.normal(0, 1, (4, 5))  # all means are equal
        differences = [paired_difference(o, baseline, comparisons=3) for o in others]
        hits += all(d.low < 0 < d.high for d in differences)  # type: ignore[operator]
    # Of 300 at 95 % or more, at least 276 in all but one of 10,000 tests.
    assert hits >= 276


@pytest.mark.parametrize(("mean", "deviation"), [(0.1, 0.02), (-0.1, 0.1), (0.05, 0.2)])
def test_the_seeds_needed_are_the_first_whose_interval_leaves_out_zero(
    mean: float, deviation: float
) -> None:
    count = 2
    while stats.t.ppf(1 - 0.025 / 4, count - 1) * deviation / np.sqrt(count) >= abs(mean):
        count += 1
    assert count_seeds(mean, deviation, comparisons=4) == count


def test_one_seed_has_no_interval_and_is_not_significant() -> None:
    difference = paired_difference([0.5], [0.25])
    assert difference == Difference(0.25, None, None, None)
    assert not difference.is_significant


@pytest.mark.parametrize(
    ("low", "high", "image_low", "image_high", "is_significant"),
    [
        (0.1, 0.2, 0.1, 0.2, True),
        (-0.2, -0.1, -0.2, -0.1, True),
        (-0.1, 0.2, 0.1, 0.2, False),
        (0.1, 0.2, -0.1, 0.2, False),
    ],
)
def test_significant_is_what_holds_over_seeds_and_over_images(
    low: float, high: float, image_low: float, image_high: float, is_significant: bool
) -> None:
    difference = Difference(0.15, low, high, 2, image_low, image_high)
    assert difference.is_significant == is_significant


def counts(seed: int, add: int = 0) -> NDArray[np.int64]:
    """Intersection and union, [S = 3, I = 30, K = 2, 2]."""
    generator = np.random.default_rng(seed)
    intersection = generator.integers(0, 50, (3, 30, 2)) + add
    return np.stack([intersection, intersection + generator.integers(1, 50, (3, 30, 2))], axis=-1)


def test_the_bootstrap_agrees_with_a_loop_that_draws_images() -> None:
    own, base = counts(1, add=10), counts(2)
    generator = np.random.default_rng(3)
    differences = []
    for _ in range(4000):
        drawn = generator.integers(0, 30, 30)
        scores = [mean_iou(part[:, drawn].sum(axis=1)).mean() for part in (own, base)]
        differences.append(scores[0] - scores[1])
    expected = np.quantile(differences, [0.025, 0.975])
    low, high = bootstrap_interval(own, base, mean_iou)
    # A quantile of 2,000 draws is known to about 5 % of the interval's width.
    width = expected[1] - expected[0]
    assert [low, high] == pytest.approx(expected.tolist(), abs=0.1 * width)
    wide = bootstrap_interval(own, base, mean_iou, comparisons=4)
    assert wide[0] < low < high < wide[1]


def test_equal_predictions_differ_by_nothing_on_any_images() -> None:
    assert bootstrap_interval(counts(1), counts(1), mean_iou) == (0, 0)
