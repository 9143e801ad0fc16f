"""Evaluations as text for a terminal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from upmap.errors import abbreviate_list, printable
from upmap.metrics.protocols import Metric, Protocol
from upmap.metrics.protocols.protocol import cap_text
from upmap.metrics.scores import Evaluation
from upmap.text_tables import align_columns

if TYPE_CHECKING:
    from upmap.metrics.analysis import Uncertainty
    from upmap.metrics.cross_check import Comparison

__all__ = ["as_text", "comparison_text", "inputs_text", "score_text"]

NO_AREAS = (
    "n/a: areas, since the sizes of the images are not known; they come from\n"
    "--images FOLDER, --sizes FILE or --image-size W,H\n"
)
MAX_SHOWN = 20  # undefined classes that are listed


def as_text(evaluations: Sequence[Evaluation], uncertainties: Sequence["Uncertainty"] = ()) -> str:
    """A table of the classes and a table of the summaries.

    Args:
        evaluations: Of the same data under different protocols; at least one.
        uncertainties: For each evaluation its uncertainty; empty leaves it out.
    """
    # All but the values of a summary are words.
    summary = align_columns(_summary_table(evaluations, uncertainties), left=5)
    if uncertainties:
        summary += _uncertainty_text(uncertainties[0])
    parts = [align_columns(_class_table(evaluations, uncertainties), left=1), summary]
    undefined = {name for evaluation in evaluations for name in evaluation.undefined_classes}
    if undefined:
        names = printable(abbreviate_list(sorted(undefined), MAX_SHOWN))
        parts.append(f"n/a: without counted ground truth, left out of the means: {names}\n")
    if not all(evaluation.match_table.has_areas for evaluation in evaluations):
        parts.append(NO_AREAS)
    return "\n".join(parts)


def inputs_text(inputs: Mapping[str, str | int | None]) -> str:
    """Two lines that say what is evaluated: files and counts.

    Args:
        inputs: Of the paths "ground_truth" and "detections", of the "image_set", or None, and of
            the numbers of "images", "ground_truth_boxes", "detection_boxes", "difficult" and
            "crowd" boxes.
    """
    marks = [f"{inputs[mark]:,} {mark}" for mark in ("difficult", "crowd") if inputs[mark]]
    image_set = f", image set {printable(str(inputs['image_set']))}" if inputs["image_set"] else ""
    return (
        f"ground truth  {_relative_path(inputs['ground_truth'])}{image_set}: "
        f"{inputs['images']:,} images, "
        f"{inputs['ground_truth_boxes']:,} boxes{''.join(f', {mark}' for mark in marks)}\n"
        f"detections    {_relative_path(inputs['detections'])}: "
        f"{inputs['detection_boxes']:,} boxes\n"
    )


def comparison_text(rows: Sequence["Comparison"]) -> str:
    """A cross-check as a table, with its verdict."""
    from upmap.metrics.cross_check import largest_difference

    table = [["cross-check", "upmap", "change", "pycocotools", "difference"]]
    for row in rows:
        change = "" if math.isnan(row.change) else f"{row.change:+.6f}"
        is_compared = not math.isnan(row.difference)
        theirs = score_text(row.pycocotools) if is_compared else ""
        difference = f"{row.difference:.1e}" if is_compared else ""
        table.append([row.name, score_text(row.ours), change, theirs, difference])
    # Only a walk has changes.
    if all(math.isnan(row.change) for row in rows):
        table = [[cell for column, cell in enumerate(row) if column != 2] for row in table]
    largest = largest_difference(rows)
    verdict = "agree" if all(row.agrees for row in rows) else "DISAGREE"
    return f"{align_columns(table, left=1)}largest difference {largest:.1e}: the two {verdict}\n"


def score_text(value: float) -> str:
    """A score as it is printed.

    >>> score_text(0.67748324541), score_text(math.nan)
    ('0.677483', 'n/a')
    """
    return "n/a" if math.isnan(value) else f"{value:.6f}"


def _class_table(
    evaluations: Sequence[Evaluation], uncertainties: Sequence["Uncertainty"]
) -> list[list[str]]:
    """Header and rows; there is one column of positives if all protocols count the same."""
    counts = [[scores.positives for scores in e.per_class.values()] for e in evaluations]
    is_same = all(count == counts[0] for count in counts)
    counted = evaluations[:1] if is_same else evaluations
    heads = ["positives"] if is_same else [f"{e.protocol.name} positives" for e in evaluations]
    columns = [
        column
        for i, evaluation in enumerate(evaluations)
        for column in _score_columns(evaluation, uncertainties[i] if uncertainties else None)
    ]
    rows = [["class", "detections", *heads, *(head for head, _ in columns)]]
    for name, scores in evaluations[0].per_class.items():
        positives = [str(evaluation.per_class[name].positives) for evaluation in counted]
        cells = [column[name] for _, column in columns]
        rows.append([name, str(scores.detections), *positives, *cells])
    return rows


def _score_columns(
    evaluation: Evaluation, uncertainty: "Uncertainty | None"
) -> list[tuple[str, dict[str, str]]]:
    """The columns of an evaluation: the head, and the cell of each class."""
    columns = []
    for metric, iou in _class_metrics(evaluation.protocol):
        cells = {
            name: score_text(scores.average_precision(iou))
            for name, scores in evaluation.per_class.items()
        }
        columns.append((f"{evaluation.protocol.name} {metric}", cells))
        if uncertainty is not None and iou is None:
            intervals = {
                name: _interval(e.low, e.high) for name, e in uncertainty.per_class.items()
            }
            columns.append((f"{_percent(uncertainty)} interval", intervals))
    return columns


def _class_metrics(protocol: Protocol) -> list[tuple[str, float | None]]:
    """Name and IoU threshold of the metrics that a class has, too: AP in the first area range."""
    area = protocol.area_ranges[0].name
    return [
        ("AP" if metric.iou is None else name, metric.iou)
        for name, metric in protocol.summary.items()
        if metric.quantity == "AP" and metric.area == area
    ]


def _summary_table(
    evaluations: Iterable[Evaluation], uncertainties: Sequence["Uncertainty"]
) -> list[list[str]]:
    rows = [["protocol", "metric", "IoU", "area", "max dets", "value"]]
    if uncertainties:
        rows[0].append(f"+- {_percent(uncertainties[0])}")
    for i, evaluation in enumerate(evaluations):
        protocol = evaluation.protocol
        for name, metric in protocol.summary.items():
            cap = cap_text(protocol.max_dets[metric.cap])
            value = score_text(evaluation.metrics[name])
            iou = _iou_text(protocol, metric)
            rows.append([protocol.name, name, iou, metric.area, cap, value])
            if uncertainties:
                estimate = uncertainties[i].metrics[name]
                rows[-1].append(score_text(uncertainties[i].half_width(estimate)))
    return rows


def _uncertainty_text(uncertainty: "Uncertainty") -> str:
    """What the intervals are, in a sentence."""
    count, units = uncertainty.groups, "images"
    if count is not None:
        units = f"{count:,} group{'' if count == 1 else 's'} of images"
    source = f"the influence of {units}"
    if uncertainty.method == "bootstrap":
        source = f"{len(uncertainty.replicates):,} bootstrap replicates of {units}"
    return (
        f"+-: to both ends of the {_percent(uncertainty)} interval of the mean over test sets of "
        f"this size,\nby {source}; a class has Wilson's interval\n"
    )


def _interval(low: float, high: float) -> str:
    return "n/a" if math.isnan(low) else f"{low:.4f} .. {high:.4f}"


def _percent(uncertainty: "Uncertainty") -> str:
    return f"{100 * uncertainty.level:g} %"


def _iou_text(protocol: Protocol, metric: Metric) -> str:
    sign = ">" if protocol.strict else ">="
    if metric.iou is not None:
        return f"{sign} {metric.iou:.2f}"
    low, high = protocol.iou_thresholds[0], protocol.iou_thresholds[-1]
    return f"{sign} {low:.2f}" if low == high else f"{sign} {low:.2f}:{high:.2f}"


def _relative_path(path: str | int | None) -> str:
    """A path, relative to the current folder if it lies in it."""
    whole, folder = Path(str(path)), Path.cwd()
    return printable(str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole))
