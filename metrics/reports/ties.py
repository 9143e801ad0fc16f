"""Ranges over orders of equal scores, as text for a terminal and as columns of CSV."""

import math
from typing import TYPE_CHECKING

from upmap.metrics.reports.text import score_text
from upmap.metrics.scores import Evaluation
from upmap.text_tables import align_columns

if TYPE_CHECKING:
    from upmap.metrics.analysis.ties import TieRange, TieRanges

__all__ = ["tie_columns", "ties_text"]

WORDS = {
    "exact": "exact: no order leaves the range, and orders reach its ends at each IoU threshold.",
    "bound": "bound: no order leaves the range; with equal scores on one object its ends may not "
    "be\nreached.",
    "partial": "partial: some images have too many orders to try all of them.",
}


def ties_text(evaluation: Evaluation, ranges: "TieRanges") -> str:
    """The range of each number of the summary as a table, and how to read it.

    Args:
        evaluation: The numbers as they stand.
        ranges: Their ranges.
    """
    name = evaluation.protocol.name
    rows = [[f"{name}: any order of equal scores", "value", "from", "to", "+-", "range is"]]
    for metric, ends in ranges.metrics.items():
        value = evaluation.metrics[metric]
        cells = [score_text(number) for number in (value, ends.low, ends.high)]
        rows.append([metric, *cells, _half_width(value, ends), ends.basis])
    bases = {ends.basis for ends in ranges.metrics.values()}
    words = "\n".join(text for basis, text in WORDS.items() if basis in bases)
    return f"{align_columns(rows)}\n{_counts_text(ranges)}\n{words}\n"


def tie_columns(ranges: "TieRanges") -> dict[str, dict[str, float]]:
    """The ranges of classes as columns of CSV: class name to column to value."""
    return {
        name: {"AP_ties_low": ends.low, "AP_ties_high": ends.high}
        for name, ends in ranges.per_class.items()
    }


def _half_width(value: float, ends: "TieRange") -> str:
    """The largest distance from the value as it stands; in full, since it is often tiny."""
    distance = max(value - ends.low, ends.high - value)
    return "n/a" if math.isnan(distance) else f"{distance:.1g}"


def _counts_text(ranges: "TieRanges") -> str:
    text = f"{ranges.tied:,} detections share their score with another one of their class."
    if ranges.contested:
        text += (
            f"\nIn {ranges.contested:,} pairs of image and class the order decides who claims what"
        )
        text += f"; {ranges.sampled:,} were tried in a sample of orders." if ranges.sampled else "."
    return text
