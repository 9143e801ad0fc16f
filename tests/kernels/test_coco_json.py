import itertools
import json
import os
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kernels import coco_json_fuzz as fuzz
from upmap.kernels import FormatError, coco_json
from upmap.kernels.coco_json import explanation, reference
from upmap.kernels.coco_json.contract import Kind

ROOT = Path(__file__).resolve().parents[2]
native = pytest.importorskip("upmap.kernels.coco_json.native")
READERS: dict[Kind, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "instances": (native.instances, reference.instances),
    "results": (native.results, reference.results),
}
LEFT = "no explanation: left to the reference"
WHOLE = {
    "instances": json.dumps(fuzz.INSTANCES).encode(),
    "results": json.dumps(fuzz.RESULTS).encode(),
}


def bits(column: Any) -> Any:
    """A column as something that == compares bit for bit."""
    if isinstance(column, list | int):
        return column
    return (str(column.dtype).replace("bool", "uint8"), column.shape, column.tobytes())


def disagreement(kind: Kind, data: bytes, path: Path, threads: int = 1) -> str:
    """How the native reader and the reference differ on `data`; empty if they do not.

    Where both refuse it, the explanation of the native one must be what the reference says.
    """
    path.write_bytes(data)
    native_reader, reference_reader = READERS[kind]
    from_file = native_reader(bytes(path), threads)
    try:
        expected = reference_reader(str(path))
    except FormatError as error:
        if isinstance(from_file, dict):
            return f"taken, but the reference says {error}: {data[:300]!r}"
        words = explained(kind, path, from_file)
        is_right = words in (str(error), LEFT)  # the reference reads the file then
        return "" if is_right else f"{words}, but should be {error}: {data[:300]!r}"
    if not isinstance(from_file, dict):  # left to the reference, so nothing is to be explained
        words = explained(kind, path, from_file)
        return "" if words == LEFT else f"{words}, but is taken: {data[:300]!r}"
    from_bytes = native_reader(b"", threads, data)
    for columns in (from_file, from_bytes):
        differ = [name for name in expected if bits(columns[name]) != bits(expected[name])]
        if differ or set(columns) != set(expected):
            return f"{differ} differ: {data[:300]!r}"
    return ""


def explained(kind: Kind, path: Path, refusal: Any) -> str:
    """Why a file is refused, as found without reading the whole of it with Python's json."""
    try:
        explanation.explain(path, kind, refusal)
    except FormatError as error:
        return str(error)
    return LEFT


def disagreements(kind: Kind, cases: Iterable[bytes], path: Path) -> list[str]:
    return [message for data in cases if (message := disagreement(kind, data, path))]


@pytest.mark.parametrize("kind", READERS)
def test_a_file_cut_at_any_byte_is_refused_by_both(kind: Kind, tmp_path: Path) -> None:
    assert disagreements(kind, [WHOLE[kind], *fuzz.truncated(WHOLE[kind])], tmp_path / "a") == []


@pytest.mark.parametrize("kind", READERS)
def test_flipped_bytes_make_the_same_table_or_are_refused_by_both(
    kind: Kind, tmp_path: Path
) -> None:
    cases = (fuzz.flipped(WHOLE[kind], seed) for seed in range(3_000))
    assert disagreements(kind, cases, tmp_path / "a") == []


@pytest.mark.parametrize("kind", READERS)
def test_odd_values_keys_and_spelling_make_the_same_table_or_are_refused_by_both(
    kind: Kind, tmp_path: Path
) -> None:
    part = list(READERS).index(kind)
    cases = [fuzz.mutate(seed)[part] for seed in range(3_000)]
    assert disagreements(kind, cases, tmp_path / "a") == []
    taken = 0
    for data in cases:
        (tmp_path / "a").write_bytes(data)
        taken += isinstance(READERS[kind][0](bytes(tmp_path / "a"), 1), dict)
    assert 300 < taken < 2_700, "the cases are nearly all good, or nearly all bad"


def replaced(kind: Kind, key: str, spelling: str) -> bytes:
    """The file with every value of `key` in its records spelled so."""
    marked = json.loads(WHOLE[kind])
    for rows in [marked] if isinstance(marked, list) else marked.values():
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and (key in row or key == "unknown"):
                row[key] = "@"
    return json.dumps(marked).replace('"@"', spelling).encode("utf-8", "surrogatepass")


KEYS = {
    "instances": (
        "id",
        "image_id",
        "category_id",
        "bbox",
        "area",
        "iscrowd",
        "difficult",
        "name",
        "file_name",
        "width",
        "segmentation",
        "unknown",
    ),
    "results": ("image_id", "category_id", "bbox", "score", "unknown"),
}


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in KEYS for key in KEYS[kind]])
def test_every_odd_value_under_every_key_is_judged_as_the_reference_does(
    kind: Kind, key: str, tmp_path: Path
) -> None:
    cases = (replaced(kind, key, spelling) for spelling in fuzz.SPELLINGS)
    assert disagreements(kind, cases, tmp_path / "a") == []


@pytest.mark.parametrize("side", range(4))
def test_every_odd_number_in_a_box_is_judged_as_the_reference_does(
    side: int, tmp_path: Path
) -> None:
    boxes = (
        "[" + ",".join(spelling if i == side else str(i) for i in range(4)) + "]"
        for spelling in fuzz.SPELLINGS
    )
    cases = (replaced("results", "bbox", box) for box in boxes)
    assert disagreements("results", cases, tmp_path / "a") == []


def test_random_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 2**63, 20_000, dtype=np.int64).view(np.float64)
    values = [float(v) for v in patterns if np.isfinite(v)]
    values += generator.normal(0, 500, 20_000).round(2).tolist()
    spellings = (
        [repr(v) for v in values] + [f"{v:.25g}" for v in values] + [f"{v:.3e}" for v in values]
    )
    rows = (f'{{"image_id":1,"category_id":1,"bbox":[0,0,1,1],"score":{s}}}' for s in spellings)
    (tmp_path / "a").write_text(f"[{','.join(rows)}]")
    found = native.results(bytes(tmp_path / "a"), 2)
    assert found["score"].tolist() == [float(s) for s in spellings]


def long_results(rows: int, **more: Any) -> bytes:
    """So many records that they are read in several pieces."""
    return json.dumps(
        [
            {"image_id": i, "category_id": i % 7, "bbox": [i, 1, 2.5, i % 3], "score": 1 / (i + 1)}
            | more
            for i in range(rows)
        ]
    ).encode()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    "more",
    [{}, {"x": "}, {"}, {"x": [{"image_id": 1}, {"score": 2}]}, {"x": '"}, {"image_id": 1}, {"'}],
    ids=["plain", "braces in text", "records in a record", "quotes and braces"],
)
def test_a_file_in_pieces_reads_as_in_one_wherever_they_are_cut(
    more: dict[str, Any], threads: int, tmp_path: Path
) -> None:
    data = long_results(60_000, **more)
    assert len(data) > 5e6
    assert disagreement("results", data, tmp_path / "a", threads) == ""


@pytest.mark.parametrize("place", [0.02, 0.35, 0.5, 0.65, 0.98])
@pytest.mark.parametrize("spoilt", [b"\x00", b"}", b"{", b'"', b"]", b",", b"\xff", b"1"])
def test_a_fault_in_any_piece_is_found(place: float, spoilt: bytes, tmp_path: Path) -> None:
    data = long_results(60_000)
    at = int(place * len(data))
    cut = data[:at] + spoilt + data[at + 1 :]
    assert disagreement("results", cut, tmp_path / "a", 2) == ""


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_short_values_before_right_records_are_refused(threads: int, tmp_path: Path) -> None:
    data = fuzz.wrong_first(1_000_000, 30_000)
    assert disagreement("results", data, tmp_path / "a", threads) == ""
    assert native.results(bytes(tmp_path / "a"), threads)[0] == "record"


def test_the_arrays_of_a_large_instances_file_may_stand_in_any_order(tmp_path: Path) -> None:
    rows = json.loads(long_results(60_000))
    for i, row in enumerate(rows):
        row |= {"id": i + 1, "segmentation": [[1.5] * 6]}
    arrays = {
        "annotations": rows,
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(60_000)],
        "categories": [{"id": i, "name": str(i)} for i in range(7)],
    }
    for order in (("annotations", "images", "categories"), ("images", "categories", "annotations")):
        data = json.dumps({key: arrays[key] for key in order}).encode()
        assert disagreement("instances", data, tmp_path / "a", 2) == ""


def test_a_wrong_array_is_replaced_by_a_right_one_of_the_same_key(tmp_path: Path) -> None:
    whole = WHOLE["instances"].decode()
    data = whole.replace('"images":', '"images": [{"id": "x"}, 3], "images":').encode()
    assert disagreement("instances", data, tmp_path / "a") == ""
    assert isinstance(native.instances(bytes(tmp_path / "a"), 1), dict)


@pytest.mark.parametrize("image", ["1", "null", '""'])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_shortest_annotations_fit_into_the_memory_that_is_reserved(
    image: str, threads: int, tmp_path: Path
) -> None:
    row = f'{{"bbox":[0,0,0,0],"image_id":{image},"category_id":1}}'
    rows = ",".join([row] * 100_000)
    (tmp_path / "a").write_text(f'{{"images":[],"categories":[],"annotations":[{rows}]}}')
    columns = native.instances(bytes(tmp_path / "a"), threads)
    assert len(columns["area"]) == 100_000


def test_string_ids_stay_strings(tmp_path: Path) -> None:
    rows = [row | {"image_id": name} for row, name in zip(fuzz.RESULTS, "a\u00e9", strict=True)]
    (tmp_path / "a").write_text(json.dumps(rows))
    assert coco_json.results(tmp_path / "a").image_id == ["a", "\u00e9"]


@pytest.mark.parametrize("reader", [coco_json.instances, coco_json.results])
def test_what_is_refused_is_explained(reader: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a").write_text('\n{"images": ]')
    with pytest.raises(FormatError, match="2: JSON") as caught:
        reader(tmp_path / "a")
    assert (caught.value.path, caught.value.where) == (str(tmp_path / "a"), "2")
    with pytest.raises(FormatError, match="1: the file is empty") as caught:
        reader(b"")
    assert caught.value.path == ""


TRUNCATING = """
import os, random, sys, threading, time
from upmap.kernels import coco_json
path, data = sys.argv[1], open(sys.argv[2], "rb").read()
for attempt in range(20):
    open(path, "wb").write(data)
    def cut(delay):
        time.sleep(delay)
        os.truncate(path, 1000) if attempt % 2 else open(path, "w").close()
    thread = threading.Thread(target=cut, args=(attempt * 0.001,))
    thread.start()
    try:
        assert len(coco_json.results(path).score) == 60_000
        print("whole")
    except (OSError, coco_json.FormatError) as error:
        print(type(error).__name__, error)
    thread.join()
"""


def test_a_file_cut_short_while_it_is_read_is_an_error_or_read_whole(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(long_results(60_000))
    command = [sys.executable, "-c", TRUNCATING, str(tmp_path / "a"), str(tmp_path / "whole")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 20


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_file_that_changes_while_it_is_read_is_refused(is_cut: bool, tmp_path: Path) -> None:
    data = long_results(60_000)
    path = tmp_path / "a"
    path.write_bytes(data)
    is_over = threading.Event()

    def change() -> None:
        for i in itertools.cycle(range(1_000)):
            if is_over.is_set():
                return
            if is_cut:
                os.truncate(path, len(data) // 2 + i)
                os.truncate(path, len(data))
            else:
                os.utime(path, (i, i))

    def read_often() -> None:
        for _ in range(1_000):
            coco_json.results(path, threads=1, impl="native")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with pytest.raises((OSError, FormatError), match=r"it changed while it was read|JSON"):
            read_often()
    finally:
        is_over.set()
        thread.join()


LIMITED = """
import resource, sys
import numpy  # is imported when columns are made: not under the limit
from upmap.kernels import coco_json
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for room in range(0, 64 << 20, 4 << 20):
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
    try:
        print(len(coco_json.results(sys.argv[1], threads=1, impl="native").score))
    except MemoryError:
        print("MemoryError")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_memory_that_is_not_there_is_a_memory_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(long_results(60_000))
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(ended.stdout.splitlines()) == {"60000", "MemoryError"}


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_file_read_in_the_background_has_the_columns_of_one_read_at_once(
    threads: int, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(long_results(30_000))
    expected = coco_json.results(path)
    reading = coco_json.start_reading("results", path, threads=threads)
    assert reading is not None
    for _ in range(2):  # the second time the file is read again
        columns = coco_json.results(reading)
        for field in fields(columns):
            values = getattr(columns, field.name)
            np.testing.assert_array_equal(values, getattr(expected, field.name))


@pytest.mark.parametrize("content", [b"", b"[{]", b'{"images": 3}', b'[{"image_id": 1}]', b"[1e]"])
def test_what_is_wrong_with_a_file_read_in_the_background_is_said_as_at_once(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    reading = coco_json.start_reading("results", path)
    with pytest.raises(FormatError) as expected:
        coco_json.results(path)
    with pytest.raises(FormatError) as error:
        coco_json.results(reading)
    assert str(error.value) == str(expected.value)


def test_a_file_that_is_not_there_and_a_folder_are_os_errors_in_the_background_too(
    tmp_path: Path,
) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(OSError, match=re.escape(str(path))):
            coco_json.instances(coco_json.start_reading("instances", path))


def test_a_reading_that_nobody_asks_for_ends_with_its_object(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(long_results(30_000))
    for _ in range(20):
        coco_json.start_reading("results", path)


def test_the_reference_reads_what_is_read_in_the_background_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(long_results(10))
    reading = coco_json.start_reading("results", path)
    assert len(coco_json.results(reading, impl="reference").score) == 10
    monkeypatch.setenv("UPMAP_IMPL", "reference")
    assert coco_json.start_reading("results", path) is None


MISTAKES = {
    "a word for a score": ('"score": 0.5', '"score": "high"', "[1].score: Expected `float`, got"),
    "no record": ('{"image_id": 1,', '3, {"image_id": 1,', "[1]: Expected `object`, got `int`"),
    "no number": ('"score": 0.5', '"score": NaN', "[1].score: Number out of range"),
    "a comma too many": ('"score": 0.5', '"score": 0.5,', "1: JSON is malformed: "),
    "a comma too few": ('"score": 0.5', '"score" 0.5', "malformed: expecting ':' delimiter, near"),
    "too deep": ('"score": 0.5', f'"x": {"[" * 600}{"]" * 600}', "1: JSON is nested too deeply"),
    "no UTF-8": ('"score": 0.5', '"x": "\udcff"', "1: byte 0xff is not UTF-8 text"),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_mistake_in_a_large_file_is_explained_without_reading_it_all_with_json(
    name: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, message = MISTAKES[name]
    data = long_results(30_000).decode().replace(old, new, 1)
    path = tmp_path / "a"
    path.write_bytes(data.encode("utf-8", "surrogateescape"))
    with pytest.raises(FormatError) as expected:
        reference.results(path)
    longest = 0
    loads = json.loads

    def watched(text: str, **options: Any) -> Any:
        nonlocal longest
        longest = max(longest, len(text))
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", watched)
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        coco_json.results(path, threads=threads, impl="native")
    assert (caught.value.message, caught.value.where) == (
        expected.value.message,
        expected.value.where,
    )
    assert longest < 10_000


@pytest.mark.parametrize("tail", ["", '", "score": "high"}]', "\\"])
@pytest.mark.parametrize("body", ["a", "\\n", "[", '\\"', "\u00e9"])
def test_the_reference_takes_memory_in_proportion_to_a_long_string(
    tail: str, body: str, tmp_path: Path
) -> None:
    data = f'[{{"image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1], "x": "{body * 500_000}{tail}'
    (tmp_path / "a").write_text(data, encoding="utf-8")
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            reference.results(tmp_path / "a")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(data)


def test_a_message_quotes_no_more_than_some_characters(tmp_path: Path) -> None:
    for value in ("1" * 3_000, f'"{"a" * 3_000}\\ud800"'):
        (tmp_path / "a").write_text(f'[{{"image_id": {value}}}]')
        with pytest.raises(FormatError) as caught:
            coco_json.results(tmp_path / "a")
        assert len(caught.value.message) < 150


def test_a_named_pipe_is_not_opened_by_the_native_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    assert native.results(bytes(tmp_path / "a"), 1) is None


def test_a_file_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        coco_json.instances(tmp_path / "none.json")


@pytest.mark.parametrize("length", [4096 - 64, 4096 - 1, 4096, 4096 + 1, 8192])
def test_a_file_that_ends_with_a_page_is_read_to_its_end_and_no_further(
    length: int, tmp_path: Path
) -> None:
    data = WHOLE["results"]
    padded = b" " * (length - len(data)) + data
    assert disagreement("results", padded, tmp_path / "a") == ""
    assert disagreement("results", padded[:-1], tmp_path / "a") == ""
