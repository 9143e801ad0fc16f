"""Evaluations as data for other programs: JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upmap.errors import InputWarning
    from upmap.metrics.analysis import Uncertainty
    from upmap.metrics.cross_check import Comparison
    from upmap.metrics.protocols import Protocol
    from upmap.metrics.scores import ClassScores, Evaluation

__all__ = ["BEGINNINGS", "SCHEMA", "as_csv", "as_json"]

SCHEMA = 1  # of the JSON report; a change that breaks readers adds one
CSV_COLUMNS = ("protocol", "name", "positives", "detections", "AP", "AP50", "AP75", "recall")
# How the reports begin, by which an earlier one is known and may be overwritten.
BEGINNINGS = (
    b'{\n "schema"',
    b"protocol,name,",
    b'<!doctype html>\n<html lang="en" data-made-by="upmap">',
)


def as_json(
    evaluations: Sequence[Evaluation],
    inputs: Mapping[str, Any],
    checks: Sequence[Sequence[Comparison]] = (),
    notes: Sequence[InputWarning] = (),
    uncertainties: Sequence[Uncertainty] = (),
    *,
    sections: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The report as JSON: floats at full precision, undefined as null.

    Args:
        evaluations: Of the same data under different protocols.
        inputs: What was evaluated: paths and counts.
        checks: For each evaluation its cross-check; empty if there was none.
        notes: The warnings about the input.
        uncertainties: For each evaluation its uncertainty; empty if it was not asked for.
        sections: For each evaluation what analyses say of it, by key; empty if none was asked for.
    """
    import json

    results: list[dict[str, Any]] = [
        {
            "protocol": evaluation.protocol.name,
            "settings": _settings(evaluation.protocol),
            "metrics": dict(evaluation.metrics),
            "per_class": [_class_record(scores) for scores in evaluation.per_class.values()],
        }
        for evaluation in evaluations
    ]
    for result, rows in zip(results, checks, strict=False):
        result["cross_check"] = [asdict(row) for row in rows]
    for result, uncertainty in zip(results, uncertainties, strict=False):
        result["uncertainty"] = _uncertainty_record(uncertainty)
    for result, records in zip(results, sections, strict=False):
        result.update(records)
    report = {
        "schema": SCHEMA,
        "inputs": dict(inputs),
        "notes": [_note_record(note) for note in notes],
        "results": results,
    }
    text = json.dumps(_json_value(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # A path that is not UTF-8 has lone surrogates (os.fsdecode); JSON has an escape for them.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_csv(
    evaluations: Sequence[Evaluation],
    columns: Sequence[Mapping[str, Mapping[str, float]]] = (),
) -> str:
    """The per-class scores as CSV, one row per protocol and class; undefined is empty.

    Args:
        evaluations: Of the same data under different protocols.
        columns: For each evaluation, further columns by class and name; empty for none.
    """
    import csv
    import io

    names = dict.fromkeys(n for part in columns for values in part.values() for n in values)
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*CSV_COLUMNS, *names], lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    for i, evaluation in enumerate(evaluations):
        for scores in evaluation.per_class.values():
            record = {"protocol": evaluation.protocol.name} | _class_record(scores)
            if columns:
                record |= columns[i][scores.name]
            undefined = {key: "" for key, value in record.items() if value != value}
            writer.writerow(record | undefined)
    return text.getvalue()


def _note_record(note: InputWarning) -> dict[str, Any]:
    return {"kind": note.kind, "count": note.count, "examples": [*note.examples]} | {
        "message": str(note)
    }


def _settings(protocol: Protocol) -> dict[str, Any]:
    settings = asdict(protocol)
    settings["area_ranges"] = {name: limits for name, *limits in protocol.area_ranges}
    del settings["name"], settings["metrics"]
    return settings


def _uncertainty_record(uncertainty: Uncertainty) -> dict[str, Any]:
    return {
        "method": uncertainty.method,
        "level": uncertainty.level,
        "metrics": {name: asdict(number) for name, number in uncertainty.metrics.items()},
        "per_class": {name: asdict(number) for name, number in uncertainty.per_class.items()},
        "rare_classes": uncertainty.rare_classes,
    }


def _class_record(scores: ClassScores) -> dict[str, Any]:
    return {
        "name": scores.name,
        "AP": scores.AP,
        "AP50": scores.average_precision(0.5),
        "AP75": scores.average_precision(0.75),
        "recall": scores.recall,
        "positives": scores.positives,
        "detections": scores.detections,
    }


def _json_value(value: Any) -> Any:
    """`value` with None for every NaN (undefined) and infinity (no limit)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value
