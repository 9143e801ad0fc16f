"""Figures of results, drawn by matplotlib (the extra `plots`)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from upmap.errors import printable
from upmap.extras import require_packages
from upmap.metrics.analysis.comparison import DetectorComparison
from upmap.metrics.analysis.uncertainty import estimate_uncertainty
from upmap.metrics.scores import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_comparison", "plot_evaluation"]

MAX_CURVES = 10  # that have a color and a name, as many as matplotlib has colors
MAX_CLASSES = 80  # of a forest
ROW = 0.22  # in, the height of a class
GRAY = "0.8"

Row = tuple[str, float, float, float]  # name, value, low, high


def plot_evaluation(
    evaluation: Evaluation,
    *,
    classes: Sequence[str] | None = None,
    iou: float | None = None,
    level: float = 0.95,
) -> "tuple[Axes, Axes]":
    """Draws the precision-recall curves of classes, and their AP with intervals.

    Args:
        evaluation: The result.
        classes: The classes whose curves have colors and names; None for those with most objects,
            up to MAX_CURVES.
        iou: The IoU threshold of the curves, one of the protocol's; None for its first.
        level: The probability that an interval covers, in (0, 1).

    Returns:
        The axes of the curves and of the classes' AP; `.figure` of each is the figure.

    Raises:
        InputError: If matplotlib is not installed.
        ValueError: If there is no such class or threshold.
    """
    shown = _select_classes(evaluation, classes)
    uncertainty = estimate_uncertainty(evaluation.match_table, evaluation=evaluation, level=level)
    rows = [(name, each.value, each.low, each.high) for name, each in uncertainty.per_class.items()]
    kept = _keep_rows(rows, [scores.positives for scores in evaluation.per_class.values()])
    kept.sort(key=lambda row: row[1])
    curves, forest = _open_axes(2, len(kept))
    _draw_curves(curves, evaluation, shown, iou)
    _draw_forest(forest, kept, center=evaluation.mAP)
    name = next(iter(evaluation.metrics))
    forest.set_xlabel(f"AP with {100 * level:g} % intervals; line: {_label(name)}")
    forest.set_title(_count_title(len(kept), len(rows)))
    forest.set_xlim(0, 1)
    return curves, forest


def plot_comparison(comparison: DetectorComparison) -> "Axes":
    """Draws the difference of each number and class with its interval.

    Args:
        comparison: The result of `compare`.

    Returns:
        The axes; `.figure` is the figure. Classes are sorted by difference, below the numbers.

    Raises:
        InputError: If matplotlib is not installed.
    """
    numbers = [(name, d.delta, d.low, d.high) for name, d in comparison.metrics.items()]
    per_class = [(name, d.delta, d.low, d.high) for name, d in comparison.per_class.items()]
    kept = _keep_rows(per_class, [d.positives for d in comparison.per_class.values()])
    kept.sort(key=lambda row: row[1])
    numbers = [row for row in numbers if not math.isnan(row[1])]
    (axes,) = _open_axes(1, len(kept) + len(numbers))
    _draw_forest(axes, [*kept, *reversed(numbers)], center=0.0)
    if kept and numbers:
        axes.axhline(len(kept) - 0.5, color=GRAY, linewidth=1)
    axes.set_xlabel(f"B - A with {100 * comparison.level:g} % intervals")
    axes.set_title(_count_title(len(kept), len(per_class)))
    return axes


def _select_classes(evaluation: Evaluation, classes: Sequence[str] | None) -> list[str]:
    """The classes whose curves are named.

    Raises:
        ValueError: If there is no such class.
    """
    per_class = evaluation.per_class
    if classes is None:
        order = sorted(per_class, key=lambda name: -per_class[name].positives)
        return [name for name in order if per_class[name].positives][:MAX_CURVES]
    if unknown := [name for name in classes if name not in per_class]:
        raise ValueError(f"there is no class {unknown[0]!r}")
    return list(dict.fromkeys(classes))


def _keep_rows(rows: Sequence[Row], positives: Sequence[int]) -> list[Row]:
    """The rows that are defined; of many classes those with most objects."""
    places = [i for i, row in enumerate(rows) if not math.isnan(row[1])]
    places = sorted(places, key=lambda i: -positives[i])[:MAX_CLASSES]
    return [rows[i] for i in places]


def _open_axes(columns: int, rows: int) -> "list[Axes]":
    require_packages("plots", "matplotlib")
    from matplotlib import pyplot

    size = (6.4 * columns, max(4.8, 1.2 + ROW * rows))
    _, axes = pyplot.subplots(1, columns, figsize=size, squeeze=False, layout="constrained")
    return list(axes[0])


def _draw_curves(
    axes: "Axes", evaluation: Evaluation, shown: Sequence[str], iou: float | None
) -> None:
    """Precision against recall: named classes in colors, the others in gray behind them."""
    behind = [n for n, s in evaluation.per_class.items() if s.positives and n not in shown]
    for name in [*behind, *shown]:
        curve = evaluation.curve(name, iou=iou)
        # From recall 0 on, as high as the first detection.
        recall = np.concatenate([[0.0], curve.recall])
        precision = np.concatenate([curve.precision[:1], curve.precision])
        if not len(curve.precision):
            recall, precision = np.zeros(0), np.zeros(0)
        if name in behind:
            axes.plot(recall, precision, color=GRAY, linewidth=0.6)
        else:
            AP = evaluation.per_class[name].average_precision(iou)
            axes.plot(recall, precision, label=f"{AP:.3f} {_label(name)}")
    threshold = evaluation.protocol.iou_thresholds[0] if iou is None else iou
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{_label(evaluation.protocol.name)} at IoU {threshold:g}")
    if shown:
        axes.legend(title="AP, class", fontsize="small", loc="lower left")


def _draw_forest(axes: "Axes", rows: Sequence[Row], *, center: float) -> None:
    """A point and a line for each row, the first at the bottom, and a line at the center."""
    place = np.arange(len(rows))
    value, low, high = (np.array([row[i] for row in rows], np.float64) for i in (1, 2, 3))
    if not math.isnan(center):
        axes.axvline(center, color=GRAY, linewidth=1)
    axes.hlines(place, low, high, linewidth=1.5)  # none where there is no interval
    axes.plot(value, place, "o", markersize=4)
    axes.set_yticks(place, [_label(row[0]) for row in rows])
    axes.set_ylim(-0.5, len(rows) - 0.5 if rows else 0.5)


def _count_title(shown: int, count: int) -> str:
    if shown == count:
        return f"{count:,} classes"
    return f"{shown:,} of {count:,} classes: defined, with most objects"


def _label(name: str) -> str:
    """A name that matplotlib does not read as mathematics."""
    return printable(name).replace("$", r"\$")
