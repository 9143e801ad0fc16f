"""Slices as text for a terminal."""

import math
from typing import TYPE_CHECKING

from upmap.metrics.reports.text import score_text
from upmap.text_tables import align_columns

if TYPE_CHECKING:
    from upmap.metrics.analysis.slices import Slices, SliceScores

__all__ = ["slices_text"]


def slices_text(name: str, slices: "Slices") -> str:
    """The slices as a table, and how to read it.

    Args:
        name: Of the protocol.
        slices: The result.
    """
    header = ["slice of", "which", "images", "positives", f"{name} {slices.metric}"]
    rows = [[*header, "standard error", "to the rest", "p", "p (Holm)"]]
    rows += [_cells(scores) for scores in slices.slices]
    return (
        f"{align_columns(rows, left=2)}\nall: {score_text(slices.value)}. to the rest: difference "
        "to all that is not in the slice. p: of no difference, and corrected for\nthe number of "
        "slices (Holm). Small slices score higher by themselves; * has too few positives for p.\n"
    )


def _cells(scores: "SliceScores") -> list[str]:
    difference = "n/a" if math.isnan(scores.difference) else f"{scores.difference:+.6f}"
    mark = "*" if scores.has_few_positives else ""
    return [
        scores.dimension,
        scores.name,
        str(scores.images),
        f"{scores.positives}{mark}",
        score_text(scores.value),
        score_text(scores.standard_error),
        difference,
        _p(scores.p),
        _p(scores.p_holm),
    ]


def _p(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2g}"
