"""Delimited text (CSV, TSV) and JSON lines to columns; only those asked for are parsed.

`reference.py` defines, with Python's csv, json and float, what is read and what is refused.
`native.cpp` reads pieces of a file on many threads, and leaves odd rows to the reference.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, SupportsIndex

import numpy as np

from upmap.kernels import FormatError, Implementation, import_native, select_implementation
from upmap.kernels.counts import validate_threads
from upmap.kernels.delimited.contract import (
    KINDS,
    Column,
    Columns,
    Header,
    Kind,
    Lists,
    Name,
    Reader,
    Source,
    Texts,
    as_integers,
    names_of,
)

if TYPE_CHECKING:
    from upmap.kernels.delimited import native
else:
    native = import_native("delimited")

__all__ = [
    "IMPLEMENTATIONS",
    "Column",
    "FormatError",
    "Header",
    "Kind",
    "Lists",
    "Texts",
    "read_columns",
    "read_header",
]

NATIVE_KINDS = KINDS[:4]  # the others have a row an image, and few rows


def read_header(source: Source | os.PathLike[str]) -> Header:
    """Reads the names of the columns and their first values; what separates cells is inferred.

    Args:
        source: A path, or the bytes of a file: UTF-8, with or without a byte order mark.

    Raises:
        FormatError: If a name stands there twice, or the first line is malformed.
        OSError: If the file cannot be read.
    """
    from upmap.kernels.delimited import reference

    try:
        return reference.read_header(_as_source(source))
    except FormatError as error:
        raise _name_file(error, source) from None


def read_columns(
    source: Source | os.PathLike[str],
    header: Header,
    kinds: Mapping[Name, Kind],
    *,
    threads: SupportsIndex = 0,
    impl: Implementation | None = None,
) -> Columns:
    """Reads some columns; blank lines are no rows.

    Quotes and newlines in them are as in RFC 4180. A number may have a decimal comma where that
    does not separate cells. Lists in a cell of CSV are JSON.

    Args:
        source: What `header` is of.
        header: See `read_header`.
        kinds: What each column asked for holds; four columns of numbers may be one of boxes.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        FormatError: If a value is not of its kind, or a row has another number of cells; names the
            line.
        KeyError: If CSV has no such column; in JSON lines it may be missing and is null.
        OSError: If the file cannot be read.
        ValueError: If a number is out of range, or `impl` is unknown or not built.
    """
    read = select_implementation(IMPLEMENTATIONS, impl, "delimited")
    names = [name for column in kinds for name in names_of(column)]
    if header.kind == "csv" and (unknown := [name for name in names if name not in header.names]):
        raise KeyError(unknown[0])
    try:
        return read(_as_source(source), header, kinds, validate_threads(threads))
    except FormatError as error:
        raise _name_file(error, source) from None


def _as_source(source: Source | os.PathLike[str]) -> Source:
    return source if isinstance(source, bytes) else os.fspath(source)


def _name_file(error: FormatError, source: Source | os.PathLike[str]) -> FormatError:
    path = "" if isinstance(source, bytes) else os.fspath(source)
    return FormatError(error.message, path, error.where)


def _read_natively(
    source: Source, header: Header, kinds: Mapping[Name, Kind], threads: int
) -> Columns:
    requests = _requests(header, kinds)
    if not requests:
        return _read_by_reference(source, header, kinds, threads)
    offset, line = _behind_header(source, header)
    if offset < 0:
        return _read_by_reference(source, header, kinds, threads)
    outcome = native.read_columns(
        b"" if isinstance(source, bytes) else os.fsencode(source),
        source if isinstance(source, bytes) else None,
        header.kind == "jsonl",
        header.separator,
        len(header.names),
        requests,
        offset,
        line,
        threads,
    )
    if outcome is None:
        return _read_by_reference(source, header, kinds, threads)
    values, odd = outcome
    columns = {
        name: Texts(*value) if isinstance(value, tuple) else value
        for name, value in zip(kinds, values, strict=True)
    }
    if len(odd) and not _fill_odd_rows(columns, odd.tolist(), source, header, kinds):
        return _read_by_reference(source, header, kinds, threads)
    return columns


def _requests(header: Header, kinds: Mapping[Name, Kind]) -> list[tuple[str, int, int, int, int]]:
    """Name, position, kind, array and place in its rows of each column; none of what is not read.

    A row of the other kinds is an image, and there are few; nor is a column read twice.
    """
    requests = []
    for array, (column, kind) in enumerate(kinds.items()):
        of_column: Kind = "number" if isinstance(column, tuple) else kind
        for place, name in enumerate(names_of(column)):
            position = header.names.index(name) if header.kind == "csv" else 0
            requests.append((name, position, KINDS.index(of_column), array, place))
    names = [name for name, *_ in requests]
    are_native = all(kind in NATIVE_KINDS for kind in kinds.values())
    if not are_native or len(set(names)) < len(names):
        return []
    return sorted(requests, key=lambda request: request[1])


def _behind_header(source: Source, header: Header) -> tuple[int, int]:
    """The offset and the number of the line behind the names; -1 if these are not one line."""
    if header.kind == "jsonl":
        return 0, 1
    offset = line = 0
    with _open(source) as file:
        for text in file:
            offset, line = offset + len(text), line + 1
            if text.strip(b" \t\r\n\xef\xbb\xbf"):
                is_line = text.count(b'"') % 2 == 0 and b"\r" not in text.rstrip(b"\r\n")
                return (offset, line + 1) if is_line else (-1, 0)
    return offset, line + 1


def _fill_odd_rows(
    columns: Columns,
    odd: list[list[int]],
    source: Source,
    header: Header,
    kinds: Mapping[Name, Kind],
) -> bool:
    """Reads the rows that the native reader left; False if the whole file is to be read anew."""
    from upmap.kernels.delimited import reference

    rows, records = [], []
    with _open(source) as file:
        for begin, end, line, row in odd:
            file.seek(begin)
            values = reference.read_line(file.read(end - begin), line, header, kinds)
            if values is None:
                return False
            rows.append(row)
            records.append(values)
    for name, filling in reference.make_columns(records, kinds).items():
        filled: Any = _fill(columns[name], rows, filling)
        columns[name] = as_integers(filled) if kinds[name] == "integer" else filled
    return True


def _fill(column: Any, rows: list[int], values: Any) -> Column:
    """The column with other values in some rows; names in the order of first use."""
    if not isinstance(column, Texts):
        column[rows] = values
        return column  # type: ignore[no-any-return]
    names = list(dict.fromkeys([*column.names, *values.names]))
    place = {name: k for k, name in enumerate(names)}
    places = np.array([*(place[name] for name in values.names), -1], np.int32)
    index = column.index
    index[rows] = places[values.index]
    used, first = np.unique(index, return_index=True)
    order = used[np.argsort(first)]
    order = order[order >= 0]
    new_index = np.full(len(names) + 1, -1, np.int32)
    new_index[order] = np.arange(len(order))
    return Texts(new_index[index], [names[k] for k in order.tolist()])


def _open(source: Source) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def _read_by_reference(
    source: Source, header: Header, kinds: Mapping[Name, Kind], threads: int
) -> Columns:
    from upmap.kernels.delimited import reference

    return reference.read_columns(source, header, kinds)


IMPLEMENTATIONS: Mapping[str, Reader | None] = {
    "native": None if native is None else _read_natively,
    "reference": _read_by_reference,
}
