"""Means in which NaN stands for undefined."""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["mean_without_nan"]


def mean_without_nan(values: NDArray[np.float64]) -> float:
    """The mean of the values that are not NaN; NaN if there are none.

    >>> mean_without_nan(np.array([1, 3, np.nan]))
    2.0
    """
    # Not np.nanmean, which adds a zero for each NaN: that groups the sum differently (last bit).
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else math.nan
