"""Comparisons of detectors as text, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upmap.text_tables import align_columns

if TYPE_CHECKING:
    from upmap.metrics.analysis.comparison import Difference
    from upmap.metrics.compare_steps import Contest

__all__ = ["BEGINNINGS", "SCHEMA", "as_csv", "as_json", "as_text", "shorten_names"]

SCHEMA = 1
CSV_COLUMNS = (
    *("a", "b", "name", "kind", "value_a", "value_b", "delta", "standard_error", "low", "high"),
    *("p", "p_holm", "p_bh", "positives", "test"),
)
BEGINNINGS = (  # of earlier reports, which are overwritten
    b'{\n "schema"',
    b"a,b,name,kind,",
    b'<!doctype html>\n<html lang="en" data-made-by="upmap">',
)
ALPHA = 0.05  # of "differs"
MAX_IMAGES = 5  # that changed most, in the text


def as_text(contest: "Contest") -> str:
    """The comparison as tables and sentences."""
    labels = shorten_names(contest.names)
    sections = [_overview(contest, labels)]
    if len(contest.names) > 2:
        sections.append(_tiers_text(contest, labels))
    for (i, j), pair in contest.pairs.items():
        if i == 0:
            heading = f"{labels[j]} against {labels[i]}, {pair.images:,} images"
            if pair.left_out:
                heading += f" ({pair.left_out:,} that only one has are left out)"
            sections += [heading, _summary_table(pair.metrics), _class_table(contest, i, j)]
            sections.append(_images_text(pair.image_delta))
    sections.append(
        "An interval is that of the mean over test sets of this size; p is that of no difference.\n"
        "Another training of the same detector differs too, which no test on one run covers.\n"
    )
    return "\n".join(filter(None, sections))


def as_json(contest: "Contest") -> str:
    """The comparison as JSON: the numbers of each detector, and the differences of each pair."""
    first = next(iter(contest.pairs.values()))
    record = {
        "schema": SCHEMA,
        "protocol": contest.protocol.name,
        "detectors": [
            {"name": name, "metrics": _records(uncertainty.metrics)}
            for name, uncertainty in zip(contest.names, contest.uncertainties, strict=True)
        ],
        "tiers": _tiers(contest),
        "method": first.method,
        "level": first.level,
        "seed": first.seed,
        "groups": first.groups,
        "correction": contest.correction,
        "pairs": [
            {
                "a": contest.names[i],
                "b": contest.names[j],
                "images": pair.images,
                "left_out": pair.left_out,
                "metrics": _records(pair.metrics),
                "per_class": _records(pair.per_class),
                "image_delta": _select_changes(pair.image_delta, 100),
            }
            for (i, j), pair in contest.pairs.items()
        ],
        "notes": [
            {"kind": note.kind, "count": note.count, "examples": list(note.examples)}
            for note in contest.notes
        ],
    }
    return json.dumps(_without_nan(record), indent=1, allow_nan=False) + "\n"


def as_csv(contest: "Contest") -> str:
    """The differences as CSV, a row for each number and class of each pair."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for (i, j), pair in contest.pairs.items():
        kinds: tuple[tuple[str, Mapping[str, Difference]], ...] = (
            ("metric", pair.metrics),
            ("class", pair.per_class),
        )
        for kind, rows in kinds:
            for name, row in rows.items():
                values = asdict(row)
                cells = [values.pop("a"), values.pop("b")]
                cells += [values.get(column, "") for column in CSV_COLUMNS[6:]]
                writer.writerow(
                    [contest.names[i], contest.names[j], name, kind, *map(_cell, cells)]
                )
    return text.getvalue()


def _overview(contest: "Contest", labels: list[str]) -> str:
    """The first number of each detector with its interval."""
    name = next(iter(contest.protocol.summary))
    rows = [["detector", f"{contest.protocol.name} {name}", "+-", "interval"]]
    for label, uncertainty in zip(labels, contest.uncertainties, strict=True):
        estimate = uncertainty.metrics[name]
        interval = f"{_number(estimate.low)} .. {_number(estimate.high)}"
        half = (estimate.high - estimate.low) / 2
        rows.append([label, _number(estimate.value), _number(half), interval])
    return align_columns(rows)


def _summary_table(metrics: Mapping[str, "Difference"]) -> str:
    rows = [["number", "before", "after", "difference", "interval", "p", ""]]
    rows += [
        [
            name,
            _number(row.a),
            _number(row.b),
            _with_sign(row.delta),
            _interval(row),
            _p(row.p),
            _verdict(row.delta, row.p),
        ]
        for name, row in metrics.items()
    ]
    return align_columns(rows)


def _class_table(contest: "Contest", i: int, j: int) -> str:
    """The classes in the order of their p, as it is adjusted."""
    pair, name = contest.pairs[i, j], f"p_{contest.correction}"
    classes = [(key, row) for key, row in pair.per_class.items() if not math.isnan(row.delta)]
    rows = [["class", "objects", "before", "after", "difference", "interval", name, ""]]
    for key, row in sorted(classes, key=lambda item: (getattr(item[1], name), -abs(item[1].delta))):
        p = getattr(row, name)
        cells = [key, f"{row.positives:,}", _number(row.a), _number(row.b), _with_sign(row.delta)]
        rows.append([*cells, _interval(row), _p(p), _verdict(row.delta, p)])
    return align_columns(rows) if len(rows) > 1 else ""


def _tiers_text(contest: "Contest", labels: list[str]) -> str:
    lines = [["tier", "detector"]]
    for letter, members in zip("abcdefghijklmnopqrstuvwxyz", _tiers(contest), strict=False):
        names = [labels[contest.names.index(name)] for name in members]
        lines.append([letter, ", ".join(names)])
    table = align_columns(lines, left=2)
    return f"{table}Within a tier differences may be chance (Holm over all pairs).\n"


def _tiers(contest: "Contest") -> list[list[str]]:
    """Runs of detectors, best first, of which no two are shown to differ; none within another."""
    name = next(iter(contest.protocol.summary))
    values = [uncertainty.metrics[name].value for uncertainty in contest.uncertainties]
    order = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), -values[i]))
    differ = _pairs_that_differ(contest, name)
    tiers: list[list[int]] = []
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and not any(
            frozenset((order[k], order[last + 1])) in differ for k in range(first, last + 1)
        ):
            last += 1
        run = order[first : last + 1]
        if not tiers or not set(run) <= set(tiers[-1]):
            tiers.append(run)
    return [[contest.names[i] for i in tier] for tier in tiers]


def _pairs_that_differ(contest: "Contest", name: str) -> set[frozenset[int]]:
    import numpy as np

    from upmap.metrics.analysis.intervals import adjust_holm

    p = adjust_holm(np.array([pair.metrics[name].p for pair in contest.pairs.values()]))
    return {frozenset(key) for key, value in zip(contest.pairs, p, strict=True) if value < ALPHA}


def _images_text(image_delta: Mapping[Any, float]) -> str:
    changed = _select_changes(image_delta, MAX_IMAGES)
    if not changed:
        return ""
    rows = [["image that changed most", "points of the first number"]]
    rows += [[str(row["image"]), f"{100 * row['delta']:+.3f}"] for row in changed]
    return align_columns(rows)


def _select_changes(image_delta: Mapping[Any, float], count: int) -> list[dict[str, Any]]:
    order = sorted(image_delta, key=lambda image: -abs(image_delta[image]))[:count]
    return [
        {"image": image if isinstance(image, int) else str(image), "delta": image_delta[image]}
        for image in order
        if image_delta[image] != 0
    ]


def shorten_names(names: tuple[str, ...]) -> list[str]:
    """The last parts of paths that tell them apart.

    Args:
        names: The paths.
    """
    for count in range(1, 8):
        short = ["/".join(Path(name).parts[-count:]) for name in names]
        if len(set(short)) == len(short):
            return short
    return list(names)


def _verdict(delta: float, p: float) -> str:
    if math.isnan(p):
        return ""
    if p >= ALPHA:
        return "may be chance"
    return "better" if delta > 0 else "worse"


def _interval(row: "Difference") -> str:
    return "n/a" if math.isnan(row.low) else f"{_with_sign(row.low)} .. {_with_sign(row.high)}"


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.4f}"


def _with_sign(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:+.4f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _records(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(row) for name, row in rows.items()}


def _without_nan(value: Any) -> Any:
    """The value with null in place of NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
