"""The tables of analyses as CSV: one row for each class, pair of classes, slice, image or label."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["as_csv_table", "list_tables"]

Row = Mapping[str, Any]
Rows = Sequence[Row]


def list_tables(sections: Mapping[str, Any]) -> dict[str, Rows]:
    """The tables in the sections of a JSON report that analyses made: name to rows.

    Args:
        sections: Key of the section to plain data.
    """
    tables: dict[str, Rows] = {}
    for key, record in sections.items():
        for name, rows in TABLES[key].items():
            tables[name] = list(rows(record))
    return tables


def as_csv_table(rows: Rows) -> str:
    """Rows as CSV: columns of nested data are named by both keys, undefined is empty.

    Args:
        rows: Plain data; a list of numbers, such as a box, is one cell with spaces between them.

    >>> print(as_csv_table([{"name": "cat", "shares": {"Cls": 0.5}, "box": [1.0, 2.0]}]), end="")
    name,shares_Cls,box
    cat,0.5,1.0 2.0
    """
    flat = [dict(_flatten(row)) for row in rows]
    text = io.StringIO()
    columns = dict.fromkeys(name for row in flat for name in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flatten(row: Row, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{before}{key}_")
        elif isinstance(value, list | tuple):
            yield before + key, " ".join(map(str, value))
        else:
            yield before + key, "" if value is None or value != value else value


def _error_rows(record: Row) -> Rows:
    columns = ("counts", "gains", "shares")
    whole = {"name": "", "AP": record["errors"]["mAP"]}
    return [
        whole | {name: record["errors"][name] for name in columns},
        *record["errors"]["per_class"],
    ]


def _tidecv_rows(record: Row) -> Rows:
    return [
        {"error": kind, "count": record["counts"][kind], "gain": gain}
        for kind, gain in record["gains"].items()
    ]


def _confusion_rows(record: Row) -> Rows:
    names = [*record["confusion"]["classes"], ""]
    return [
        {"true": names[true], "predicted": names[predicted], "count": count}
        for true, predicted, count in record["confusion"]["cells"]
    ]


def _calibration_rows(record: Row) -> Rows:
    return [] if record["calibration"] is None else record["calibration"]["bins"]


def _label_rows(record: Row) -> Rows:
    return [
        {"list": name, **candidate}
        for name, candidates in record.items()
        if name != "counts"
        for candidate in candidates
    ]


# Key of a section to its tables, each a name and how its rows are taken from the section. An empty
# name of a class stands for all classes, or for background.
TABLES: Mapping[str, Mapping[str, Callable[[Row], Rows]]] = {
    "explanation": {
        "errors": _error_rows,
        "operating_points": lambda record: record["operating_points"]["per_class"],
        "confusion": _confusion_rows,
        "lrp": lambda record: record["lrp"]["per_class"],
        "calibration": _calibration_rows,
    },
    "tidecv": {"tidecv": _tidecv_rows},
    "slices": {"slices": lambda record: record["slices"]},
    "tie_range": {"tie_range": lambda record: record["per_class"]},
    "worst_images": {"worst_images": lambda record: record["images"]},
    "label_candidates": {"label_candidates": _label_rows},
}
