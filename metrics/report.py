"""From evaluations to text, JSON and CSV."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from upmap.errors import abbreviate_list, printable
from upmap.metrics.comparison import Comparison, agrees, largest_difference
from upmap.metrics.protocol import Metric, Protocol, cap_text
from upmap.metrics.scores import ClassScores, Evaluation
from upmap.text_tables import align_columns

__all__ = ["SCHEMA", "as_csv", "as_json", "as_text", "comparison_text", "number"]

SCHEMA = 1  # of the JSON report; a change that breaks readers adds one
CSV_COLUMNS = ("protocol", "name", "positives", "detections", "AP", "AP50", "AP75", "recall")


def as_text(evaluations: Sequence[Evaluation]) -> str:
    """A table per class and a table of the summaries, for a terminal.

    Args:
        evaluations: Of the same data under different protocols; at least one.
    """
    parts = [
        align_columns(_class_table(evaluations), left=1),
        align_columns(_summary_table(evaluations), left=5),
    ]
    undefined = sorted({name for one in evaluations for name in one.undefined_classes})
    if undefined:
        names = printable(abbreviate_list(undefined, 20))
        parts.append(f"n/a: without counted ground truth, left out of the means: {names}\n")
    return "\n".join(parts)


def as_json(
    evaluations: Sequence[Evaluation],
    inputs: Mapping[str, Any],
    checks: Sequence[Sequence[Comparison]] = (),
) -> str:
    """The report as JSON: floats at full precision, undefined as null.

    Args:
        evaluations: Of the same data under different protocols.
        inputs: What was evaluated: paths and counts.
        checks: For each evaluation its cross-check; empty if there was none.
    """
    import json

    results: list[dict[str, Any]] = [
        {
            "protocol": one.protocol.name,
            "settings": _settings(one.protocol),
            "metrics": dict(one.metrics),
            "per_class": [_class_record(scores) for scores in one.per_class.values()],
        }
        for one in evaluations
    ]
    for result, rows in zip(results, checks, strict=False):
        result["cross_check"] = [asdict(row) for row in rows]
    report = {"schema": SCHEMA, "inputs": dict(inputs), "results": results}
    text = json.dumps(_finite(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # A path that is not UTF-8 has lone surrogates (os.fsdecode), which JSON has an escape for.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_csv(evaluations: Sequence[Evaluation]) -> str:
    """The per-class scores as CSV, one row per protocol and class; undefined is empty."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for one in evaluations:
        for scores in one.per_class.values():
            record = {"protocol": one.protocol.name} | _class_record(scores)
            empty = {key: "" for key, value in record.items() if value != value}
            writer.writerow(record | empty)
    return text.getvalue()


def comparison_text(rows: Sequence[Comparison]) -> str:
    """A cross-check as a table for a terminal, with its verdict."""
    table = [["cross-check", "upmap", "change", "pycocotools", "difference"]]
    for row in rows:
        change = "" if math.isnan(row.change) else f"{row.change:+.6f}"
        compared = not math.isnan(row.difference)
        theirs = number(row.pycocotools) if compared else ""
        difference = f"{row.difference:.1e}" if compared else ""
        table.append([row.name, number(row.ours), change, theirs, difference])
    if all(math.isnan(row.change) for row in rows):
        table = [[word for i, word in enumerate(line) if i != 2] for line in table]
    largest = largest_difference(rows)
    verdict = "agree" if agrees(rows) else "DISAGREE"
    return f"{align_columns(table, left=1)}largest difference {largest:.1e}: the two {verdict}\n"


def number(value: float) -> str:
    """A score as reports print it.

    >>> number(0.67748324541), number(math.nan)
    ('0.677483', 'n/a')
    """
    return "n/a" if math.isnan(value) else f"{value:.6f}"


def _class_table(evaluations: Sequence[Evaluation]) -> list[list[str]]:
    """Head and rows; positives stand once where all protocols count the same."""
    first = evaluations[0]
    columns = [(one, *column) for one in evaluations for column in _class_metrics(one.protocol)]
    counts = [[scores.positives for scores in one.per_class.values()] for one in evaluations]
    shown = evaluations[:1] if all(count == counts[0] for count in counts) else evaluations
    heads = ["positives"] if len(shown) == 1 else [f"{e.protocol.name} positives" for e in shown]
    names = [f"{one.protocol.name} {name}" for one, name, _ in columns]
    rows = [["class", "detections", *heads, *names]]
    for name, scores in first.per_class.items():
        row = [name, str(scores.detections)]
        row += [str(one.per_class[name].positives) for one in shown]
        row += [number(_class_value(one.per_class[name], iou)) for one, _, iou in columns]
        rows.append(row)
    return rows


def _class_metrics(protocol: Protocol) -> list[tuple[str, float | None]]:
    """Name and IoU of the metrics that a class has too: average precisions over all areas."""
    area = protocol.area_ranges[0].name
    return [
        ("AP" if metric.iou is None else name, metric.iou)
        for name, metric in protocol.summary.items()
        if metric.quantity == "AP" and metric.area == area
    ]


def _class_value(scores: ClassScores, iou: float | None) -> float:
    return scores.AP if iou is None else _at(scores, iou)


def _at(scores: ClassScores, iou: float) -> float:
    """The average precision at a threshold, or NaN where the protocol has no such threshold."""
    near = [value for key, value in scores.AP_at.items() if abs(key - iou) < 1e-9]
    return near[0] if near else math.nan


def _summary_table(evaluations: Iterable[Evaluation]) -> list[list[str]]:
    rows = [["protocol", "metric", "IoU", "area", "max dets", "value"]]
    for one in evaluations:
        for name, metric in one.protocol.summary.items():
            rows.append(
                [
                    one.protocol.name,
                    name,
                    _iou_text(one.protocol, metric),
                    metric.area,
                    cap_text(one.protocol.max_dets[metric.cap]),
                    number(one.metrics[name]),
                ]
            )
    return rows


def _iou_text(protocol: Protocol, metric: Metric) -> str:
    sign = ">" if protocol.strict else ">="
    if metric.iou is not None:
        return f"{sign} {metric.iou:.2f}"
    low, high = protocol.iou_thresholds[0], protocol.iou_thresholds[-1]
    return f"{sign} {low:.2f}" if low == high else f"{sign} {low:.2f}:{high:.2f}"


def _settings(protocol: Protocol) -> dict[str, Any]:
    settings = asdict(protocol)
    settings["area_ranges"] = {name: limits for name, *limits in protocol.area_ranges}
    del settings["name"], settings["metrics"]
    return settings


def _class_record(scores: ClassScores) -> dict[str, Any]:
    return {
        "name": scores.name,
        "AP": scores.AP,
        "AP50": _at(scores, 0.5),
        "AP75": _at(scores, 0.75),
        "recall": scores.recall,
        "positives": scores.positives,
        "detections": scores.detections,
    }


def _finite(value: Any) -> Any:
    """`value` with null for every NaN (undefined) and infinity (no limit)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
