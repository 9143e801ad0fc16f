"""The reference reader of rows of words: Python's split and float, one file at a time.

Words lie between ASCII white space; lines end with a line feed, a carriage return, or both.
"""

import errno
import os
import reprlib
import stat
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from upmap.kernels import FormatError
from upmap.kernels.text_rows.contract import Data, RowLayout

__all__ = ["read_rows"]

BOM = b"\xef\xbb\xbf"
Row = tuple[int, bytes | None, list[float]]  # line, name, numbers


def read_rows(
    paths: Sequence[str],
    layout: RowLayout,
    data: Data,
    *,
    missing_ok: bool,
) -> dict[str, Any]:
    """See `upmap.kernels.text_rows.read_text_rows`; names as they come, `name` counts those."""
    files = [_read_file(path, data.get(i), missing_ok) for i, path in enumerate(paths)]
    parsed = [
        [] if content is None else _parse_rows(content, path, layout)
        for path, content in zip(paths, files, strict=True)
    ]
    rows = [row for of_file in parsed for row in of_file]
    texts = [name for _, name, _ in rows if name is not None]
    place = {name: k for k, name in enumerate(dict.fromkeys(texts))}
    counts = [len(numbers) for _, _, numbers in rows]
    return {
        "names": [name.decode() for name in place],
        "file": np.repeat(np.arange(len(paths), dtype=np.int32), [len(part) for part in parsed]),
        "line": np.array([line for line, _, _ in rows], np.int32),
        "name": np.array([place[name] for name in texts], np.int32),
        "start": np.array([0, *accumulate(counts)], np.int64),
        "value": np.array([value for _, _, numbers in rows for value in numbers], np.float64),
        "is_missing": np.array([content is None for content in files], bool),
    }


def _read_file(path: str, data: bytes | None, missing_ok: bool) -> bytes | None:
    """The bytes without a byte order mark; None where there is no such file."""
    if data is None:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                raise OSError(errno.EINVAL, "not a regular file", path)
            data = Path(path).read_bytes()
        except FileNotFoundError:
            if not missing_ok:
                raise
            return None
    return data.removeprefix(BOM)


def _parse_rows(content: bytes, path: str, layout: RowLayout) -> list[Row]:
    prefixes = tuple(prefix.encode() for prefix in layout.skipped_prefixes)
    keywords = {word.encode(): value for word, value in layout.keywords.items()}
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        words = line.split()
        if not words or (prefixes and words[0].startswith(prefixes)):
            continue
        name = _take_name(words, layout.name_column, path, number)
        rows.append((number, name, [_to_number(word, keywords, path, number) for word in words]))
    return rows


def _take_name(words: list[bytes], column: int | None, path: str, line: int) -> bytes | None:
    """Removes the name from the words."""
    if column is None:
        return None
    if len(words) <= column:
        message = f"expected at least {column + 1} columns, got {len(words)}"
        raise FormatError(message, path, str(line))
    name = words.pop(column)
    try:
        name.decode()
    except UnicodeDecodeError:
        raise FormatError(f"not UTF-8: {name[:60]!r}", path, str(line)) from None
    return name


def _to_number(word: bytes, keywords: Mapping[bytes, float], path: str, line: int) -> float:
    if word in keywords:
        return keywords[word]
    try:
        if b"_" in word:  # Python reads 1_0 as 10
            raise ValueError
        return float(word)
    except ValueError:
        shown = reprlib.repr(word.decode(errors="backslashreplace"))
        raise FormatError(f"not a number: {shown}", path, str(line)) from None
