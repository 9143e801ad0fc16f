"""Statistics of a comparison: paired differences, their intervals over seeds and over images.

Intervals are simultaneous: the differences of all K - 1 operators to the baseline lie in theirs
with at least 95 % probability, by Bonferroni's inequality.

Sources: Dunn, "Multiple Comparisons Among Means", JASA 1961; Efron and Tibshirani, "An Introduction
to the Bootstrap", 1993 (percentile intervals).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "bootstrap_interval", "count_seeds", "paired_difference", "tail"]

CONFIDENCE = 0.95  # of all intervals of a comparison together
REPLICATES = 2000  # of the bootstrap
BOOTSTRAP_SEED = 0
MAX_SEEDS = 10_000  # more are not counted

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference to the baseline and its interval over seeds.

    Attributes:
        mean: The mean over seeds.
        low: The lower limit; None for one seed.
        high: The upper limit; None for one seed.
        seeds_needed: Number of seeds with which the interval would leave out 0, if the mean and the
            standard deviation stayed; None if it is above MAX_SEEDS, or for one seed.
        image_low: The lower limit of the interval over test images; None if there is none.
        image_high: The upper limit.
    """

    mean: float
    low: float | None
    high: float | None
    seeds_needed: int | None
    image_low: float | None = None
    image_high: float | None = None

    @property
    def is_significant(self) -> bool:
        """Whether both intervals leave out 0, over seeds and over test images."""
        if self.low is None or self.image_low is None:
            return False
        assert self.high is not None
        assert self.image_high is not None
        return min(self.low, self.image_low) > 0 or max(self.high, self.image_high) < 0


def tail(comparisons: int) -> float:
    """The probability on either side of one of several simultaneous intervals.

    >>> tail(1)
    0.025
    """
    return round((1 - CONFIDENCE) / 2, 12) / max(1, comparisons)


def paired_difference(
    values: Sequence[float], base: Sequence[float], *, comparisons: int = 1
) -> Difference:
    """The mean difference of pairs and its confidence interval by Student's t.

    Args:
        values: The score of each seed.
        base: The score of the baseline for each seed.
        comparisons: The number of operators that are compared with the baseline, K - 1.

    >>> paired_difference([0.5, 0.75], [0.25, 0.5])
    Difference(mean=0.25, low=0.25, high=0.25, seeds_needed=2, image_low=None, image_high=None)
    """
    difference = np.subtract(values, base)
    mean, count = float(difference.mean()), len(difference)
    if count < 2:
        return Difference(mean, None, None, None)
    deviation = float(difference.std(ddof=1))
    half = _half_width(deviation, count, comparisons)
    seeds = count_seeds(mean, deviation, comparisons=comparisons)
    return Difference(mean, mean - half, mean + half, seeds)


def count_seeds(mean: float, deviation: float, *, comparisons: int = 1) -> int | None:
    """The smallest number of seeds whose interval leaves out 0; None if it is above MAX_SEEDS.

    Args:
        mean: The mean difference.
        deviation: The standard deviation of the differences.
        comparisons: The number of operators that are compared with the baseline.

    >>> count_seeds(0.1, 0.1), count_seeds(0.0, 0.1)
    (7, None)
    """
    if _half_width(deviation, MAX_SEEDS, comparisons) >= abs(mean):
        return None
    low, high = 1, MAX_SEEDS  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        is_enough = _half_width(deviation, middle, comparisons) < abs(mean)
        low, high = (low, middle) if is_enough else (middle, high)
    return high


def _half_width(deviation: float, count: int, comparisons: int) -> float:
    from scipy.stats import t

    quantile = float(t.ppf(1 - tail(comparisons), count - 1))
    return quantile * deviation / math.sqrt(count)


def bootstrap_interval(
    counts: Counts,
    base: Counts,
    score: Callable[[Counts], Floats],
    *,
    comparisons: int = 1,
) -> tuple[float, float]:
    """The interval of the mean difference over seeds, over test images drawn with replacement.

    The trained models stay, and all are scored on the same images, those of every replicate.

    Args:
        counts: int64 [S, I, ...], what each image adds to the score of each seed's model.
        base: int64 [S, I, ...], of the baseline.
        score: Maps sums over images, int64 [R, ...], to scores, float64 [R].
        comparisons: The number of operators that are compared with the baseline.

    Returns:
        The lower and the upper limit.
    """
    images = counts.shape[1]
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    weights = generator.multinomial(images, np.full(images, 1 / images), size=REPLICATES)
    difference = np.zeros(REPLICATES)
    for own, other in zip(counts, base, strict=True):
        scores = [score(np.tensordot(weights, part, axes=1)) for part in (own, other)]
        difference += (scores[0] - scores[1]) / len(counts)
    low, high = np.quantile(difference, [tail(comparisons), 1 - tail(comparisons)])
    return float(low), float(high)
