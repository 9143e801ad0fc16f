"""Confidence intervals from standard errors.

Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference"
(1927); M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and
26.7.4, for Student's t; S. Holm, "A simple sequentially rejective multiple test procedure" (1979);
Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate" (1995).
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "adjust_benjamini_hochberg",
    "adjust_holm",
    "normal_p_value",
    "student_p_value",
    "two_sided_quantile",
    "wilson_interval",
]

Floats = NDArray[np.float64]
MANY_DEGREES = 1000  # beyond, Student's t is the normal distribution to three digits
MIN_GROUPS = 20  # below, Student's t stands in for the normal distribution


def two_sided_quantile(level: float, groups: int | None = None) -> float:
    """How many standard errors an interval reaches to each side.

    Args:
        level: The probability that it covers, in (0, 1).
        groups: The number of independent groups, where images come in groups.

    Returns:
        The quantile of the normal distribution; with fewer than MIN_GROUPS groups, that of
        Student's t with groups - 1 degrees of freedom; NaN for one group.

    Raises:
        ValueError: If the level does not lie in (0, 1).

    >>> round(two_sided_quantile(0.95), 4), round(two_sided_quantile(0.95, groups=4), 4)
    (1.96, 3.1824)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if groups is None or groups >= MIN_GROUPS:
        return _normal_quantile(level)
    return _student_quantile(level, groups - 1) if groups > 1 else math.nan


def _normal_quantile(level: float) -> float:
    """The z with P(|Z| <= z) = level, by bisection.

    `statistics.NormalDist` has it too, but takes as long to import as a small evaluation.
    """
    low, high = 0.0, 40.0
    while low < (middle := (low + high) / 2) < high:
        if math.erfc(middle / math.sqrt(2)) > 1 - level:
            low = middle
        else:
            high = middle
    return low


def _student_quantile(level: float, degrees: int) -> float:
    """The t with P(|T| <= t) = level, by bisection over the angle atan(t / sqrt(degrees))."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        if _student_probability(angle, degrees) < level:
            low = angle
        else:
            high = angle
    return math.sqrt(degrees) * math.tan(high)


def _student_probability(angle: float, degrees: int) -> float:
    """P(|T| <= sqrt(degrees) tan(angle)): 26.7.3 for odd, 26.7.4 for even degrees of freedom."""
    is_odd = degrees % 2 == 1
    term = math.cos(angle) if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(2 + is_odd, degrees - 1, 2):
        term *= math.cos(angle) ** 2 * (power - 1) / power
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total


def wilson_interval(
    value: Floats, standard_error: Floats, positives: Floats, quantile: float
) -> tuple[Floats, Floats]:
    """Wilson's interval of average precisions, of the sample size that their errors imply.

    A share p of n independent trials has standard error sqrt(p (1 - p) / n); n is what this gives
    for the value and its standard error, but at most the number of positives.

    Args:
        value: float64 [K], in [0, 1].
        standard_error: float64 [K]; 0 takes the number of positives.
        positives: float64 [K].
        quantile: See `two_sided_quantile`.

    Returns:
        Both ends, float64 [K], in [0, 1]; NaN where the value or the standard error is.
    """
    spread = value * (1 - value)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.minimum(positives, spread / standard_error**2)
        n = np.where((standard_error == 0) | (spread <= 0), positives, n)
        n = np.where(np.isnan(standard_error), np.nan, n)
        z2 = quantile**2
        center = (value + z2 / (2 * n)) / (1 + z2 / n)
        half = quantile * np.sqrt(np.maximum(spread, 0) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    # Between rounding and these limits lies the value itself, also at its ends 0 and 1.
    return np.clip(center - half, 0, value), np.clip(center + half, value, 1)


def normal_p_value(difference: float, standard_error: float) -> float:
    """The two-sided p-value of a difference; 1 for no difference without error, NaN if undefined.

    >>> round(normal_p_value(-1.96, 1.0), 4)
    0.05
    """
    if standard_error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / standard_error / math.sqrt(2))


def student_p_value(difference: float, standard_error: float, degrees: float) -> float:
    """The two-sided p-value where the standard error is an estimate of so many degrees of freedom.

    Degrees are rounded down, and from MANY_DEGREES on taken for infinitely many.

    >>> round(student_p_value(2.228, 1.0, 10), 4)
    0.05
    """
    is_normal = math.isnan(degrees) or degrees >= MANY_DEGREES or standard_error == 0
    if is_normal or math.isnan(difference / standard_error):
        return normal_p_value(difference, standard_error)
    whole = max(1, int(degrees))
    angle = math.atan(abs(difference) / standard_error / math.sqrt(whole))
    # Beyond rounding: the normal distribution has the lighter tails.
    normal = normal_p_value(difference, standard_error)
    return max(1 - _student_probability(angle, whole), normal)


def adjust_holm(p_values: Floats) -> Floats:
    """Holm's adjusted p-values, float64 [K]: no false alarm at all with their probability.

    NaN stays, and does not count as a test.

    >>> adjust_holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")[: np.count_nonzero(~np.isnan(p_values))]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(p_values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def adjust_benjamini_hochberg(p_values: Floats) -> Floats:
    """Benjamini and Hochberg's adjusted p-values, float64 [K]: they bound false discoveries.

    NaN stays, and does not count as a test.

    >>> adjust_benjamini_hochberg(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p_values, kind="stable")[: np.count_nonzero(~np.isnan(p_values))]
    factors = len(order) / np.arange(1, len(order) + 1)
    highest_first = (p_values[order] * factors)[::-1]
    adjusted = np.full(len(p_values), np.nan)
    adjusted[order] = np.minimum(np.minimum.accumulate(highest_first)[::-1], 1)
    return adjusted
