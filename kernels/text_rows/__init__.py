"""Many small text files to columns: rows of white-space separated words, numbers but for a name.

YOLO, KITTI, DOTA and their like keep one such file an image. `reference.py` says with Python's
split and float what is read and what is refused; `native.cpp` reads the files of the usual kind
with many threads, and leaves the others to the reference, one by one.
"""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import FormatError, Implementation, import_native, select_implementation
from upmap.kernels.counts import validate_threads
from upmap.kernels.text_rows.contract import Columns, Data, Reader, RowLayout, TextRows

if TYPE_CHECKING:
    from upmap.kernels.text_rows import native
else:
    native = import_native("text_rows")

__all__ = ["IMPLEMENTATIONS", "FormatError", "RowLayout", "TextRows", "read_text_rows"]


def read_text_rows(
    paths: Sequence[str | os.PathLike[str]],
    *,
    layout: RowLayout | None = None,
    missing_ok: bool = False,
    data: Data = MappingProxyType({}),
    threads: SupportsIndex = 0,
    impl: Implementation | None = None,
) -> TextRows:
    """Reads files of rows; empty files and blank lines have none.

    Args:
        paths: The files, UTF-8 with or without a byte order mark.
        layout: What the words of a row are; None if all are numbers.
        missing_ok: Whether files that do not exist count as empty.
        data: The bytes of some files, by their places in `paths`; these are not opened.
        threads: Maximum number of threads; 0 uses all cores.
        impl: A key of IMPLEMENTATIONS; None selects the fastest available.

    Raises:
        FormatError: If a word is no number, or a row has no name; names the file and the line.
        OSError: If a file cannot be read.
        TypeError: If a path is none.
        ValueError: If `threads` or a column is negative, or `impl` is unknown or not built.
    """
    layout = layout or RowLayout()
    if layout.name_column is not None and layout.name_column < 0:
        raise ValueError(f"name_column must be at least 0, not {layout.name_column}")
    read = select_implementation(IMPLEMENTATIONS, impl, "text_rows")
    names = [os.fspath(path) for path in paths]
    columns = read(names, layout, data, missing_ok, validate_threads(threads))
    return TextRows(**_sort_names(columns))


def _read_native(
    paths: Sequence[str], layout: RowLayout, data: Data, missing_ok: bool, threads: int
) -> Columns:
    columns = native.read_rows(
        [os.fsencode(path) for path in paths],
        -1 if layout.name_column is None else layout.name_column,
        {word.encode(): float(value) for word, value in layout.keywords.items()},
        [prefix.encode() for prefix in layout.skipped_prefixes],
        threads,
        dict(data),
    )
    unread = columns.pop("unread")
    columns["start"] = np.concatenate([np.zeros(1, np.int64), np.cumsum(columns.pop("width"))])
    columns["is_missing"] = np.zeros(len(paths), bool)
    if not len(unread):
        return columns
    known = {place: data[i] for place, i in enumerate(unread.tolist()) if i in data}
    others = _read_reference([paths[i] for i in unread], layout, known, missing_ok, threads)
    return _merge(columns, others, unread)


def _read_reference(
    paths: Sequence[str], layout: RowLayout, data: Data, missing_ok: bool, threads: int
) -> Columns:
    from upmap.kernels.text_rows import reference

    return reference.read_rows(paths, layout, data, missing_ok=missing_ok)


def _merge(columns: Columns, others: Columns, files: NDArray[np.int32]) -> Columns:
    """The rows of both in the order of the files; `others` counts those in `files`."""
    columns["is_missing"][files] = others["is_missing"]
    others["name"] += len(columns["names"])
    others["file"] = files[others["file"]]
    joined = {
        key: np.concatenate([columns[key], others[key]])
        for key in ("file", "line", "name", "value")
    }
    width = np.concatenate([np.diff(columns["start"]), np.diff(others["start"])])
    begin = np.cumsum(width) - width
    order = np.argsort(joined["file"], kind="stable")
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(width[order])])
    moved = np.repeat(begin[order] - start[:-1], width[order]) + np.arange(start[-1])
    return {
        "names": columns["names"] + others["names"],
        "file": joined["file"][order],
        "line": joined["line"][order],
        "name": joined["name"][order] if len(joined["name"]) else joined["name"],
        "start": start,
        "value": joined["value"][moved],
        "is_missing": columns["is_missing"],
    }


def _sort_names(columns: Columns) -> Columns:
    """The names ascending, without those of rows that were judged again by the reference."""
    name = columns["name"]
    counts = np.bincount(name, minlength=len(columns["names"]))
    names = sorted({columns["names"][k] for k in np.flatnonzero(counts).tolist()})
    place = {text: k for k, text in enumerate(names)}
    moved = np.array([place.get(text, -1) for text in columns["names"]], np.int32)
    return columns | {"names": names, "name": moved[name] if len(name) else name}


# The fastest first; None for what is not built.
IMPLEMENTATIONS: Mapping[str, Reader | None] = {
    "native": None if native is None else _read_native,
    "reference": _read_reference,
}
