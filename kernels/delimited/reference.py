"""The reference reader of delimited text and JSON lines: Python's csv, json and float.

Source: RFC 4180 for quotes; the spellings of null are those that pandas writes and reads.
"""

import codecs
import csv
import io
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from upmap.kernels import FormatError
from upmap.kernels.delimited.contract import (
    MAX_COLUMNS,
    MAX_HEADER,
    NULLS,
    Column,
    Columns,
    Header,
    Kind,
    Lists,
    Name,
    Source,
    Texts,
    as_integers,
)

__all__ = ["make_columns", "read_columns", "read_header", "read_line"]

SEPARATORS = ",;\t|"
NEWLINES = {"csv": "", "jsonl": "\n"}  # of `open`: csv splits lines itself
ERRORS = "surrogateescape"  # what is not UTF-8 matters only in the columns that are asked for
PEEKED_BYTES = 2**15  # from the beginning, in which most files have some rows
SAMPLED_RECORDS = 100  # whose values show what a column holds
COMMA_NUMBER = re.compile(r"[-+]?[0-9]+,[0-9]*(e[-+]?[0-9]+)?", re.IGNORECASE)
Record = tuple[int, Mapping[str, Any]]  # the number of its line, and its values


def read_header(source: Source) -> Header:
    """See `upmap.kernels.delimited.read_header`; errors do not name the path."""
    head = _beginning(source)
    first = next((line for line in head.splitlines() if line.strip()), "")
    if first.lstrip().startswith("{"):
        header = Header(kind="jsonl", separator="", names=(), first={})
        values = _first_values(_json_records(io.StringIO(head, newline="\n")))
        return replace(header, names=tuple(values), first=values)
    separator = max(SEPARATORS, key=_without_quotes(first).count)
    header = Header(kind="csv", separator=separator, names=_names(head, separator), first={})
    return replace(header, first=_first_values(_csv_records(io.StringIO(head, newline=""), header)))


def read_columns(source: Source, header: Header, kinds: Mapping[Name, Kind]) -> Columns:
    """See `upmap.kernels.delimited.read_columns`; errors do not name the path."""
    with _open(source, NEWLINES[header.kind]) as file:
        records = _csv_records(file, header) if header.kind == "csv" else _json_records(file)
        values = [read_record(record, header, kinds) for record in records]
    return make_columns(values, kinds)


def read_line(
    line: bytes, number: int, header: Header, kinds: Mapping[Name, Kind]
) -> list[Any] | None:
    """The values of the record that a line is, as `read_record`; None if it may be part of one.

    Raises:
        FormatError: If a value is not of its kind, or the line has other columns.
    """
    text = line.decode(errors=ERRORS)
    if header.kind == "jsonl":
        return read_record((number, _parse_json(text, number)), header, kinds)
    try:
        rows = list(csv.reader([text], delimiter=header.separator, strict=True))
    except csv.Error:  # as of a cell that goes on in the next line
        return None
    if len(rows) != 1 or "\r" in text:
        return None
    return read_record((number, _cells_by_name(rows[0], header, number)), header, kinds)


def read_record(record: Record, header: Header, kinds: Mapping[Name, Kind]) -> list[Any]:
    """The values of one record for each of `kinds`, as `make_columns` takes them."""
    values: list[Any] = []
    for name, kind in kinds.items():
        if isinstance(name, tuple):
            values.append([_read_value(record, header, part, "number") for part in name])
        else:
            values.append(_read_value(record, header, name, kind))
    return values


def _read_value(record: Record, header: Header, name: str, kind: Kind) -> Any:
    line, cells = record
    try:
        return CONVERSIONS[kind](_decode(cells.get(name), kind, header))
    except (ValueError, TypeError, RecursionError):
        shown = reprlib.repr(cells.get(name))
        raise FormatError(f"{name}: not a {WORDS[kind]}: {shown}", "", str(line)) from None


def make_columns(values: Sequence[Sequence[Any]], kinds: Mapping[Name, Kind]) -> Columns:
    """The columns of records that `read_record` gave."""
    columns = zip(*values, strict=True) if values else ((),) * len(kinds)
    return {
        name: COLLECTIONS[kind](column)
        for (name, kind), column in zip(kinds.items(), columns, strict=True)
    }


def _beginning(source: Source) -> str:
    """The text of the first lines: two or more if MAX_HEADER bytes have them, all of them whole."""
    data = _read_beginning(source, PEEKED_BYTES)
    if len(data) > PEEKED_BYTES and data.count(b"\n") < 2:  # rows of long lists
        data = _read_beginning(source, MAX_HEADER)
    if len(data) > PEEKED_BYTES:
        data, _, _ = data.rpartition(b"\n")
    return data.removeprefix(codecs.BOM_UTF8).decode(errors=ERRORS)


def _read_beginning(source: Source, size: int) -> bytes:
    """One byte more than `size`, if there are as many."""
    if isinstance(source, bytes):
        return source[: size + 1]
    with Path(source).open("rb") as file:
        return file.read(size + 1)


def _names(head: str, separator: str) -> tuple[str, ...]:
    """The names in the first line of CSV; those that are empty are no columns."""
    _, cells = next(_csv_rows(io.StringIO(head, newline=""), separator), (1, []))
    names = [name.strip() for name in cells]
    if len(names) > MAX_COLUMNS:
        raise FormatError(f"more than {MAX_COLUMNS} columns", "", "1")
    if repeated := [name for name in names if name and names.count(name) > 1]:
        raise FormatError(f"the column {repeated[0][:60]!r} stands there twice", "", "1")
    return tuple(names)


def _first_values(records: Iterator[Record]) -> dict[str, Any]:
    """The first value that is not null of each column, in some records."""
    values: dict[str, Any] = {}
    try:
        for _, record in islice(records, SAMPLED_RECORDS):
            for name, value in record.items():
                if values.get(name) in (None, ""):
                    values[name] = value
    except FormatError:  # which reading the records will say of them
        pass
    return values


def _without_quotes(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _open(source: Source, newline: str) -> TextIO:
    raw = io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors=ERRORS, newline=newline)


def _csv_rows(file: TextIO, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line and the cells of each row; blank lines have none."""
    reader = csv.reader(file, delimiter=separator, strict=True)
    line = 1
    try:
        for row in reader:
            if len(row) > 1 or any(cell.strip(" \t") for cell in row):  # no blank line
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(f"malformed CSV: {error}", "", str(line)) from None


def _csv_records(file: TextIO, header: Header) -> Iterator[Record]:
    rows = _csv_rows(file, header.separator)
    next(rows, None)
    for line, row in rows:
        yield line, _cells_by_name(row, header, line)


def _cells_by_name(row: Sequence[str], header: Header, line: int) -> dict[str, str]:
    """The cells of a row; blank ones behind the last column are left out."""
    count = len(header.names)
    if len(row) < count or any(cell.strip() for cell in row[count:]):
        raise FormatError(f"expected {count} columns, got {len(row)}", "", str(line))
    return dict(zip(header.names, row[:count], strict=True))


def _json_records(file: TextIO) -> Iterator[Record]:
    for line, text in enumerate(file, start=1):
        if text.strip(" \t\r\n"):
            yield line, _parse_json(text.rstrip("\r\n"), line)


def _parse_json(text: str, line: int) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"malformed JSON: {error.msg}", "", str(line)) from None
    except (RecursionError, ValueError):
        raise FormatError("malformed JSON: nested too deeply, or too long", "", str(line)) from None
    if not isinstance(record, dict):
        raise FormatError("expected a JSON object on each line", "", str(line))
    return record


def _decode(cell: Any, kind: Kind, header: Header) -> Any:
    """The value of a cell: of CSV, lists are JSON, perhaps with Python's quotes."""
    if header.kind == "jsonl" or not isinstance(cell, str):
        return cell
    if kind in ("number", "integer", "text"):
        return cell
    text = cell.strip()
    if text in NULLS:
        return None
    return json.loads(text.replace("'", '"') if '"' not in text else text)


def _to_number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool | int | float):
        return float(value)
    if not isinstance(value, str):
        raise TypeError
    text = value.strip()
    if text in NULLS:
        return math.nan
    if COMMA_NUMBER.fullmatch(text):
        text = text.replace(",", ".")
    if "_" in text or not text.isascii():
        raise ValueError
    return float(text)


def _to_text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value.encode()  # which fails where the file is not UTF-8
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return str(int(value)) if value == int(value) else repr(value)


def _to_box(value: Any) -> list[float]:
    if value is None:
        return [math.nan] * 4
    if not isinstance(value, list) or len(value) != 4:
        raise TypeError
    return [_to_number(number) for number in value]


def _to_list(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def to_list(value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise TypeError
        return [convert(element) for element in value]

    return to_list


def _collect_numbers(values: Sequence[float]) -> Column:
    return np.array(values, np.float64)


def _collect_integers(values: Sequence[float]) -> Column:
    return as_integers(np.array(values, np.float64))


def _collect_boxes(values: Sequence[Sequence[float]]) -> Column:
    return np.array(values, np.float64).reshape(-1, 4)


def _collect_texts(values: Sequence[str | None]) -> Texts:
    place: dict[str, int] = {}
    index = [-1 if text is None else place.setdefault(text, len(place)) for text in values]
    return Texts(np.array(index, np.int32), list(place))


def _collect_lists(collect: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Lists]:
    def collect_lists(values: Sequence[Sequence[Any]]) -> Lists:
        counts = [len(elements) for elements in values]
        start = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return Lists(collect([element for elements in values for element in elements]), start)

    return collect_lists


WORDS: Mapping[Kind, str] = {
    "number": "number",
    "text": "text",
    "box": "list of four numbers",
    "integer": "number",
    "numbers": "list of numbers",
    "texts": "list of texts",
    "boxes": "list of boxes of four numbers",
}
CONVERSIONS: Mapping[Kind, Callable[[Any], Any]] = {
    "number": _to_number,
    "text": _to_text,
    "box": _to_box,
    "integer": _to_number,
    "numbers": _to_list(_to_number),
    "texts": _to_list(_to_text),
    "boxes": _to_list(_to_box),
}
COLLECTIONS: Mapping[Kind, Callable[[Sequence[Any]], Column]] = {
    "number": _collect_numbers,
    "text": _collect_texts,
    "box": _collect_boxes,
    "integer": _collect_integers,
    "numbers": _collect_lists(_collect_numbers),
    "texts": _collect_lists(_collect_texts),
    "boxes": _collect_lists(_collect_boxes),
}
