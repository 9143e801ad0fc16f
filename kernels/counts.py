"""Validation of counts, and the largest that kernels take; a program reads these before numpy."""

import operator
from typing import SupportsIndex

__all__ = [
    "MAX_CLASSES",
    "MAX_DETECTIONS",
    "MAX_THREADS",
    "MAX_THRESHOLDS",
    "validate_count",
    "validate_threads",
]

MAX_THREADS = 1024  # kernels/parallel.hpp starts no more
MAX_THRESHOLDS = 64  # the native kernel keeps one bit per threshold and ground truth
MAX_CLASSES = 2**24  # some hundred megabytes, whether boxes use them or not
MAX_DETECTIONS = 2**31 - 1  # per image and class: ranks are int32


def validate_count(name: str, value: SupportsIndex, maximum: int) -> int:
    """Converts a count to int.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it does not lie in 0 .. maximum.
    """
    count = operator.index(value)
    if not 0 <= count <= maximum:
        raise ValueError(f"{name} must lie in 0 .. {maximum}, not {str(count)[:60]}")
    return count


def validate_threads(threads: SupportsIndex) -> int:
    """Converts a maximum number of threads (0 uses all cores) to an int of at most MAX_THREADS.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is negative.
    """
    count = operator.index(threads)
    if count < 0:
        raise ValueError(f"threads must be at least 0, not {str(count)[:60]}")
    return min(count, MAX_THREADS)
