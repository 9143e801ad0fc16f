"""Delimited text and JSON lines: the native reader gives what the reference gives, to the bit."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import delimited_fuzz as fuzz
from upmap.kernels.delimited import (
    IMPLEMENTATIONS,
    FormatError,
    Lists,
    Texts,
    read_columns,
    read_header,
)
from upmap.kernels.delimited.contract import names_of

KINDS: dict[str, Any] = {"image": "text", "x": "number", "score": "number", "note": "text"}
native = pytest.importorskip("upmap.kernels.delimited.native")


@pytest.fixture(params=IMPLEMENTATIONS)
def impl(request: pytest.FixtureRequest) -> Any:
    return request.param


def values(column: Any) -> Any:
    """A column as lists; texts themselves, and their order."""
    if isinstance(column, Texts):
        return [column.index.tolist(), column.names, str(column.index.dtype)]
    if isinstance(column, Lists):
        return [values(column.values), column.start.tolist()]
    return [str(column.dtype), column.shape, column.tobytes()]


def outcome(source: Any, impl: Any, kinds: Mapping[str, Any] = KINDS, threads: int = 1) -> Any:
    """All columns, or the error."""
    try:
        header = read_header(source)
        known = (
            kinds
            if header.kind == "jsonl"
            else {k: kinds[k] for k in kinds if {*names_of(k)} <= {*header.names}}
        )
        columns = read_columns(source, header, known, threads=threads, impl=impl)
    except FormatError as error:
        return error.message, error.where
    return {name: values(column) for name, column in columns.items()}


def assert_same(cases: Iterable[bytes], path: Path, kinds: Mapping[str, Any] = KINDS) -> None:
    for data in cases:
        path.write_bytes(data)
        expected = outcome(data, "reference", kinds)
        assert outcome(path, "reference", kinds) == expected, data[:300]
        assert outcome(data, "native", kinds) == expected, data[:300]
        assert outcome(path, "native", kinds, threads=3) == expected, data[:300]


def odd_rows(data: bytes) -> int:
    """How many rows the native reader leaves to the reference."""
    header = read_header(data)
    names = [name for name in KINDS if name in header.names]
    requests = [
        (name, header.names.index(name), int(KINDS[name] == "text"), array, 0)
        for array, name in enumerate(names)
    ]
    offset = data.index(b"\n") + 1
    is_json = header.kind == "jsonl"
    arguments = (is_json, header.separator, len(header.names), requests, 0 if is_json else offset)
    return len(native.read_columns(b"", data, *arguments, 2, 1)[1])


def test_what_tools_write_is_read_natively() -> None:
    assert [odd_rows(data) for data in fuzz.ORDINARY] == [0] * len(fuzz.ORDINARY)
    assert odd_rows(b'{"image": "a", "x": 1}\n{"image": 5, "x": null}\n') == 0


@pytest.mark.parametrize(
    "kinds",
    [
        KINDS,
        {"x": "number"},
        {"box": "box", "image": "text"},
        {"x": "integer", "score": "integer"},
        {("x", "score", "x", "score"): "box"},
    ],
)
def test_odd_files_are_judged_as_by_the_reference(kinds: Any, tmp_path: Path) -> None:
    assert_same((*fuzz.ORDINARY, *fuzz.ODD, fuzz.CSV, fuzz.JSON_LINES), tmp_path / "a", kinds)


def test_files_that_are_cut_off(tmp_path: Path) -> None:
    assert_same(fuzz.truncated(fuzz.CSV), tmp_path / "a")
    assert_same(fuzz.truncated(fuzz.JSON_LINES), tmp_path / "b")


def test_mutated_files(tmp_path: Path) -> None:
    assert_same((fuzz.mutate(seed) for seed in range(600)), tmp_path / "a")


def test_files_with_flipped_bits(tmp_path: Path) -> None:
    assert_same((fuzz.flipped(fuzz.CSV, seed) for seed in range(300)), tmp_path / "a")
    kinds = KINDS | {"box": "box"}
    assert_same((fuzz.flipped(fuzz.JSON_LINES, seed) for seed in range(300)), tmp_path / "b", kinds)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.text("ab\u00e9,;\"' \n", max_size=4), st.floats(), st.integers()))
)
def test_what_csv_and_json_write_comes_back(rows: list[tuple[str, float, int]]) -> None:
    import csv
    import io

    file = io.StringIO()
    csv.writer(file).writerows([("image", "x", "score"), *rows])
    lines = (json.dumps({"image": a, "x": b, "score": c}) for a, b, c in rows)
    kinds = {name: KINDS[name] for name in ("image", "x", "score")}
    for data in (file.getvalue().encode(), "\n".join(lines).encode()):
        if not rows or (data.startswith(b"{") and not data.strip()):
            continue
        assert outcome(data, "native", kinds) == outcome(data, "reference", kinds)
        columns: Any = read_columns(data, read_header(data), kinds)
        texts = [columns["image"].names[k] if k >= 0 else "" for k in columns["image"].index]
        assert texts == [row[0] for row in rows]
        np.testing.assert_array_equal(columns["x"], [row[1] for row in rows])


BOXES = b"image,w,x,label,h,y\n7,3,1,2,4,2\n\n8,30.5,10,1,40,-20\r\n7,,,1,,\n9,3,1,2,4,\n"
BOX_LINES = (
    b'{"image": 7, "w": 3, "x": 1, "label": 2, "h": 4, "y": 2}\n\n'
    b'{"image": 8, "x": 10, "y": -20, "w": 30.5, "h": 40, "label": 1}\n'
    b'{"image": 9, "label": 1}\n{"image": 9, "label": 1, "x": 1, "y": 2, "w": 3}\n'
)
BOX_KINDS: dict[Any, Any] = {"image": "integer", "label": "integer", ("x", "y", "w", "h"): "box"}


@pytest.mark.parametrize("data", [BOXES, BOX_LINES], ids=["csv", "jsonl"])
def test_four_columns_of_numbers_are_one_of_boxes(data: bytes, impl: Any) -> None:
    columns: Any = read_columns(data, read_header(data), BOX_KINDS, impl=impl)
    nan = np.nan
    expected = [[1, 2, 3, 4], [10, -20, 30.5, 40]]
    np.testing.assert_array_equal(columns[("x", "y", "w", "h")][:2], expected)
    np.testing.assert_array_equal(columns[("x", "y", "w", "h")][2], [nan] * 4)
    assert np.isnan(columns[("x", "y", "w", "h")][3]).any()
    assert (columns["image"].tolist()[:2], columns["image"].dtype) == ([7, 8], np.int64)


@pytest.mark.parametrize("cell", [b"", b"1.5", b"9007199254740994", b"-9e15", b"+3", b"inf", b"a"])
def test_integers_are_numbers_where_one_is_not_whole(cell: bytes, impl: Any) -> None:
    data = b"a,b\n1,2\n" + cell + b",3\n"
    kinds: Any = {"a": "integer", "b": "integer"}
    if cell == b"a":
        with pytest.raises(FormatError, match="a: not a number: 'a'"):
            read_columns(data, read_header(data), kinds, impl=impl)
        return
    columns: Any = read_columns(data, read_header(data), kinds, impl=impl)
    is_whole = cell in (b"-9e15", b"+3")
    assert [columns[name].dtype.kind for name in "ab"] == ["i" if is_whole else "f", "i"]
    np.testing.assert_array_equal(columns["a"], [1, float(cell or "nan")])


@pytest.mark.parametrize("data", [BOXES, BOX_LINES], ids=["csv", "jsonl"])
def test_hostile_boxes_are_judged_as_by_the_reference(data: bytes, tmp_path: Path) -> None:
    assert_same((fuzz.flipped(data, seed) for seed in range(300)), tmp_path / "b", BOX_KINDS)
    assert_same(fuzz.truncated(data), tmp_path / "b", BOX_KINDS)


def large_csv(rows: int) -> bytes:
    lines = (
        f"img{i // 40:05}.jpg,{i % 7},{i * 0.37:.4f},{(i * 7919 % 1000) / 1000}\n"
        for i in range(rows)
    )
    return b"image,label,x,score\n" + "".join(lines).encode()


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_file_of_several_pieces_is_the_same_for_any_number_of_threads(
    threads: int, tmp_path: Path
) -> None:
    data = large_csv(120_000)
    (tmp_path / "a.csv").write_bytes(data)
    kinds: dict[str, Any] = {"image": "text", "label": "text", "x": "number"}
    expected = outcome(data, "reference", kinds)
    assert len(data) > 3 * 2**20
    assert outcome(tmp_path / "a.csv", "native", kinds, threads) == expected


@pytest.mark.parametrize(
    "line", [b"img,1,x,0.5\n", b"img,1\n", b'"img\n,1,2,0.5\n', b"\xff,1,2,3\n"]
)
def test_an_error_far_behind_names_its_line(line: bytes, tmp_path: Path, impl: Any) -> None:
    data = large_csv(60_000)
    (tmp_path / "a.csv").write_bytes(data + line)
    kinds: dict[str, Any] = {"image": "text", "label": "text", "x": "number"}
    with pytest.raises(FormatError) as caught:
        read_columns(tmp_path / "a.csv", read_header(tmp_path / "a.csv"), kinds, impl=impl)
    assert (caught.value.path, caught.value.where) == (str(tmp_path / "a.csv"), "60002")


def test_a_newline_in_quotes_between_two_pieces_is_part_of_its_cell(impl: Any) -> None:
    data = large_csv(60_000)
    quoted = b'"a\nb\nc",1,2,0.5\n' * 3
    for place in (2**20 - 5, 2**20, 2**20 + 5):
        start = data.index(b"\n", place) + 1
        whole = data[:start] + quoted + data[start:]
        columns: Any = read_columns(whole, read_header(whole), {"image": "text"}, impl=impl)
        assert len(columns["image"].index) == 60_003
        assert "a\nb\nc" in columns["image"].names


@pytest.mark.parametrize(
    ("data", "kind", "separator", "names"),
    [
        (b"a,b\n1,2\n", "csv", ",", ("a", "b")),
        (b"a;b\n1,5;2\n", "csv", ";", ("a", "b")),
        (b"a\tb\n", "csv", "\t", ("a", "b")),
        (b"a|b\n", "csv", "|", ("a", "b")),
        (b'"a,b,c";d\n1;2\n', "csv", ";", ("a,b,c", "d")),
        (b"\n\na,b\n", "csv", ",", ("a", "b")),
        (b'\xef\xbb\xbf{"a": 1, "b": null}\n{"c": 2}\n', "jsonl", "", ("a", "b", "c")),
    ],
)
def test_the_header_is_recognized(data: bytes, kind: str, separator: str, names: Any) -> None:
    header = read_header(data)
    assert (header.kind, header.separator, header.names) == (kind, separator, names)


def test_first_values_are_those_that_are_not_null() -> None:
    assert read_header(b"a,b\n,1\nx,2\n").first == {"a": "x", "b": "1"}
    assert read_header(b'{"a": null}\n{"a": [1]}\n').first == {"a": [1]}


def test_lists_have_a_row_an_image(impl: Any) -> None:
    data = (
        b'{"image": 1, "boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "labels": ["a", "b"], "s": [1, 2]}\n'
        b'{"image": 2, "boxes": [], "labels": [], "s": null}\n'
    )
    kinds: dict[str, Any] = {"boxes": "boxes", "labels": "texts", "s": "numbers", "image": "text"}
    columns: Any = read_columns(data, read_header(data), kinds, impl=impl)
    assert values(columns["labels"]) == [[[0, 1], ["a", "b"], "int32"], [0, 2, 2]]
    assert columns["boxes"].values.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert columns["s"].start.tolist() == [0, 2, 2]


def test_lists_in_cells_of_csv_are_json_or_python(impl: Any) -> None:
    data = b"image,bbox,labels\na,\"[1, 2, 3, 4]\",\"['x', 'y']\"\nb,,\n"
    kinds: dict[str, Any] = {"bbox": "box", "labels": "texts"}
    columns: Any = read_columns(data, read_header(data), kinds, impl=impl)
    np.testing.assert_array_equal(columns["bbox"], [[1, 2, 3, 4], [np.nan] * 4])
    assert columns["labels"].values.names == ["x", "y"]


def test_a_column_that_is_not_there_is_a_key_error_in_csv_and_null_in_json(impl: Any) -> None:
    with pytest.raises(KeyError):
        read_columns(b"a,b\n1,2\n", read_header(b"a,b\n1,2\n"), {"c": "number"}, impl=impl)
    data = b'{"a": 1}\n'
    columns: Any = read_columns(data, read_header(data), {"c": "number"}, impl=impl)
    assert np.isnan(columns["c"]).tolist() == [True]


def test_a_file_that_is_not_there_or_a_folder_is_an_os_error(impl: Any, tmp_path: Path) -> None:
    header = read_header(b"a,b\n1,2\n")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises((FileNotFoundError, IsADirectoryError)):
            read_columns(os.fspath(path), header, {"a": "number"}, impl=impl)
