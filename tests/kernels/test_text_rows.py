"""Rows of words: what the native reader takes is what the reference takes, to the last bit."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kernels import text_rows_fuzz as fuzz
from upmap.kernels.text_rows import IMPLEMENTATIONS, FormatError, RowLayout, read_text_rows

native = pytest.importorskip("upmap.kernels.text_rows.native")
Outcome = tuple[Any, ...]
LAYOUTS = [RowLayout(**fields) for fields in fuzz.LAYOUTS]


def outcome(paths: list[Path], impl: Any, layout: RowLayout, **options: Any) -> Outcome:
    """All columns, bit for bit, or the error."""
    try:
        rows = read_text_rows(paths, layout=layout, impl=impl, **options)
    except FormatError as error:
        return (error.message, error.path, error.where)
    columns = (rows.file, rows.line, rows.name, rows.start, rows.value, rows.is_missing)
    return (rows.names, *((str(array.dtype), array.tobytes()) for array in columns))


def is_taken(data: bytes, layout: RowLayout, path: Path) -> bool:
    """Whether the native reader takes it; fails where both implementations differ."""
    path.write_bytes(data)
    assert outcome([path], "native", layout) == outcome([path], "reference", layout), data[:300]
    keywords = {word.encode(): value for word, value in layout.keywords.items()}
    prefixes = [prefix.encode() for prefix in layout.skipped_prefixes]
    column = -1 if layout.name_column is None else layout.name_column
    columns = native.read_rows([os.fsencode(path)], column, keywords, prefixes, 1, {})
    return not len(columns["unread"])


def share(cases: Iterable[bytes], layout: RowLayout, path: Path) -> float:
    """The share of the cases that the native reader takes."""
    return float(np.mean([is_taken(data, layout, path) for data in cases]))


def test_what_the_tools_of_the_field_write_is_taken(tmp_path: Path) -> None:
    assert share(fuzz.ORDINARY, LAYOUTS[0], tmp_path / "a") == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_odd_files_are_judged_as_by_the_reference(layout: RowLayout, tmp_path: Path) -> None:
    share((*fuzz.ORDINARY, *fuzz.ODD, *fuzz.truncated(fuzz.ROWS)), layout, tmp_path / "a")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mutated_files(layout: RowLayout, tmp_path: Path) -> None:
    cases = [fuzz.mutate(seed) for seed in range(400)]
    assert share(cases, layout, tmp_path / "a") > 0.2
    flipped = (fuzz.flipped(fuzz.ROWS, seed) for seed in range(400))
    share(flipped, layout, tmp_path / "a")


def test_rows_come_in_the_order_of_the_files_whoever_read_them(tmp_path: Path) -> None:
    contents = [b"a 1 2\n", b"b +1\n", b"", b"c 3\nb .5 6 7\n", b"a nan\n"]
    paths = [tmp_path / str(i) for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    rows = read_text_rows(paths * 50, layout=RowLayout(name_column=0), threads=2)
    assert rows.names == ["a", "b", "c"]
    assert rows.file[:5].tolist() == [0, 1, 3, 3, 4]
    assert rows.line[:5].tolist() == [1, 1, 1, 2, 1]
    assert rows.name[:5].tolist() == [0, 1, 2, 1, 0]
    assert rows.start[:6].tolist() == [0, 2, 3, 4, 7, 8]
    assert rows.value[:7].tolist() == [1, 2, 1, 3, 0.5, 6, 7]
    reference = outcome(paths * 50, "reference", RowLayout(name_column=0))
    assert outcome(paths * 50, "native", RowLayout(name_column=0)) == reference


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_missing_file_is_empty_only_where_that_is_allowed(impl: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[1].write_bytes(b"1 2")
    rows = read_text_rows(paths, missing_ok=True, impl=impl)
    assert (rows.is_missing.tolist(), rows.file.tolist()) == ([True, False], [1])
    with pytest.raises(FileNotFoundError):
        read_text_rows(paths, impl=impl)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_an_error_names_the_file_and_the_line(impl: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0 1\n")
    (tmp_path / "b").write_bytes(b"0 1\r\n\r\n0 1,5\n")
    with pytest.raises(FormatError, match=r"b:3: not a number: '1,5'"):
        read_text_rows([tmp_path / "a", tmp_path / "b"], impl=impl)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_bytes_stand_in_for_a_file(impl: Any, tmp_path: Path) -> None:
    rows = read_text_rows([tmp_path / "none"], data={0: b"1 2 3"}, impl=impl)
    assert rows.value.tolist() == [1, 2, 3]


def test_a_pipe_is_not_waited_for_by_the_native_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    columns = native.read_rows([os.fsencode(tmp_path / "pipe")], -1, {}, [], 1, {})
    assert columns["unread"].tolist() == [0]
