"""Rows of a cross-check: numbers of ours beside pycocotools', and whether they agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TOLERANCE", "Comparison", "agrees", "largest_difference"]

TOLERANCE = 1e-12  # both engines add the same terms, at most in another order


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row: a number of ours and of pycocotools.

    Attributes:
        name: What is compared.
        ours: Our number.
        pycocotools: Theirs; NaN where pycocotools cannot be set alike.
        difference: The absolute difference; NaN likewise.
        change: On a walk, how far this step moved our number; NaN elsewhere.
    """

    name: str
    ours: float
    pycocotools: float
    difference: float
    change: float = math.nan


def largest_difference(rows: Sequence[Comparison]) -> float:
    """The largest difference of the rows where both were computed."""
    return max((row.difference for row in rows if not math.isnan(row.difference)), default=0.0)


def agrees(rows: Sequence[Comparison]) -> bool:
    """Whether the two agree wherever both were computed."""
    return largest_difference(rows) <= TOLERANCE
