"""Results as HTML for notebooks: tables of their numbers. Names from files never become markup."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from upmap.errors import printable
from upmap.metrics.reports.text import score_text

if TYPE_CHECKING:
    from upmap.metrics.analysis.comparison import DetectorComparison, Difference
    from upmap.metrics.analysis.uncertainty import Estimate
    from upmap.metrics.scores import Evaluation

__all__ = ["comparison_html", "evaluation_html"]

MAX_CLASSES = 100  # that are listed
NUMBER = "text-align: right; font-variant-numeric: tabular-nums"
NAME = "text-align: left"


def evaluation_html(evaluation: "Evaluation") -> str:
    """The summary and the classes, each number with its 95 % interval.

    Args:
        evaluation: The result; undefined numbers are n/a.
    """
    from upmap.metrics.analysis.uncertainty import estimate_uncertainty

    uncertainty = estimate_uncertainty(evaluation.match_table, evaluation=evaluation)
    level = f"{100 * uncertainty.level:g} % from"
    summary = [[name, *_estimate_cells(estimate)] for name, estimate in uncertainty.metrics.items()]
    counts_of_classes = [
        (name, (scores.positives, scores.detections))
        for name, scores in evaluation.per_class.items()
    ]
    classes = [
        [name, *map(str, counts), *_estimate_cells(uncertainty.per_class[name])]
        for name, counts in counts_of_classes
    ]
    images = f"{len(evaluation.match_table.images):,} images"
    return _document(
        f"{evaluation.protocol.name}, {images}",
        _table([evaluation.protocol.name, "value", level, "to"], summary),
        _class_table(["class", "objects", "detections", "AP", level, "to"], classes),
    )


def comparison_html(comparison: "DetectorComparison") -> str:
    """The differences of numbers and classes, each with its interval and p.

    Args:
        comparison: The result; undefined numbers are n/a.
    """
    level = f"{100 * comparison.level:g} % from"
    head = ["A", "B", "B - A", level, "to", "p"]
    classes = [
        [name, *_difference_cells(row), _p_text(row.p_holm)]
        for name, row in comparison.per_class.items()
    ]
    return _document(
        f"two detectors on {comparison.images:,} images",
        _table(["number", *head], _difference_rows(comparison.metrics)),
        _class_table(["class", *head, "p (Holm)"], classes),
    )


def _difference_rows(differences: Mapping[str, "Difference"]) -> list[list[str]]:
    return [[name, *_difference_cells(row)] for name, row in differences.items()]


def _difference_cells(row: "Difference") -> list[str]:
    delta, low, high = (_sign_text(number) for number in (row.delta, row.low, row.high))
    return [score_text(row.a), score_text(row.b), delta, low, high, _p_text(row.p)]


def _estimate_cells(estimate: "Estimate") -> list[str]:
    return [score_text(number) for number in (estimate.value, estimate.low, estimate.high)]


def _sign_text(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:+.6f}"


def _p_text(p: float) -> str:
    return "n/a" if math.isnan(p) else f"{p:.2g}"


def _document(title: str, *tables: str) -> str:
    return f"<div><p>{_escape(title)}</p>{''.join(tables)}</div>"


def _class_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that is folded, of at most MAX_CLASSES rows."""
    text = _table(head, rows[:MAX_CLASSES])
    if len(rows) > MAX_CLASSES:
        text += f"<p>and {len(rows) - MAX_CLASSES:,} more classes</p>"
    return f"<details open><summary>{len(rows):,} classes</summary>{text}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is names, the others numbers; every cell is escaped."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    styles = [NAME, *[NUMBER] * (len(cells) - 1)]
    parts = (
        f'<{tag} style="{style}">{_escape(cell)}</{tag}>'
        for style, cell in zip(styles, cells, strict=True)
    )
    return f"<tr>{''.join(parts)}</tr>"


def _escape(text: str) -> str:
    return escape(printable(text), quote=True)
