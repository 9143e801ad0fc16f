"""VOC files: what the native readers take is what the reference takes, to the last bit."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.kernels import voc_files_fuzz as fuzz
from upmap.kernels import FormatError, voc_files
from upmap.kernels.columns import LARGEST
from upmap.kernels.voc_files import reference

native = pytest.importorskip("upmap.kernels.voc_files.native")
KINDS = ("annotations", "results")
WHOLE = {"annotations": fuzz.ANNOTATION, "results": fuzz.RESULTS}
DETECTORS = ("yolov3_darknet", "mobilenet_yolov3_ncnn")


def bits(column: Any) -> Any:
    """A column as something that == compares bit for bit."""
    if isinstance(column, list):
        return column
    return (str(column.dtype), column.shape, column.tobytes())


def native_columns(kind: str, path: Path) -> dict[str, Any]:
    if kind == "annotations":
        found: dict[str, Any] = native.annotations(os.fsencode(path.parent), [path.stem], 1)
        return found
    found = native.results([os.fsencode(path)], fuzz.IMAGES, 1)
    return found


def reference_columns(kind: str, path: Path) -> dict[str, Any] | None:
    try:
        if kind == "annotations":
            return reference.annotations(path.parent, [path.stem])
        return reference.results([path], fuzz.IMAGES)
    except FormatError:
        return None


def outcome(kind: str, data: bytes, folder: Path) -> str:
    """What became of `data`: "taken", "refused" by both, "left" to the reference; or the fault."""
    path = folder / "a.xml"
    path.write_bytes(data)
    found, expected = native_columns(kind, path), reference_columns(kind, path)
    if found.pop("unread").tolist():
        return "refused" if expected is None else "left"
    if expected is None:
        return f"taken, but refused by the reference: {data[:300]!r}"
    differ = [name for name in expected if bits(found[name]) != bits(expected[name])]
    return f"{differ} differ: {data[:300]!r}" if differ or set(found) != set(expected) else "taken"


def shares(kind: str, cases: Iterable[bytes], folder: Path) -> dict[str, float]:
    """The shares of each outcome; fails where the readers disagree."""
    outcomes = [outcome(kind, data, folder) for data in cases]
    wrong = [found for found in outcomes if found not in ("taken", "refused", "left")]
    assert wrong == []
    return {name: outcomes.count(name) / len(outcomes) for name in ("taken", "refused", "left")}


@pytest.mark.parametrize(
    ("kind", "cases"), [("annotations", fuzz.ORDINARY), ("results", fuzz.ORDINARY_RESULTS)]
)
def test_what_the_tools_of_the_field_write_is_taken(
    kind: str, cases: tuple[bytes, ...], tmp_path: Path
) -> None:
    assert shares(kind, cases, tmp_path)["taken"] == 1


@pytest.mark.parametrize(
    ("kind", "cases"), [("annotations", fuzz.ODD), ("results", fuzz.ODD_RESULTS)]
)
def test_odd_files_are_judged_by_the_reference_or_as_by_it(
    kind: str, cases: tuple[bytes, ...], tmp_path: Path
) -> None:
    assert shares(kind, cases, tmp_path)["taken"] < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_at_any_byte(kind: str, tmp_path: Path) -> None:
    shares(kind, fuzz.truncated(WHOLE[kind]), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_flipped_bytes(kind: str, tmp_path: Path) -> None:
    found = shares(kind, (fuzz.flipped(WHOLE[kind], seed) for seed in range(1_500)), tmp_path)
    assert found["taken"] > 0.03
    assert found["left"] < 0.1


def test_annotations_in_odd_spelling(tmp_path: Path) -> None:
    found = shares("annotations", map(fuzz.mutate, range(1_500)), tmp_path)
    assert found["taken"] > 0.4
    assert found["refused"] > 0.05
    assert 0 < found["left"] < 0.15


def test_results_in_odd_spelling(tmp_path: Path) -> None:
    found = shares("results", map(fuzz.mutate_results, range(1_500)), tmp_path)
    assert found["taken"] > 0.4
    assert found["refused"] > 0.05
    assert 0 < found["left"] < 0.15


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


PLACES = (b">1.5<", b">30<", b">100<", b"c\xc3\xa4t", b"head", b">1</d", b"utf-8", b"\t<size>")


@pytest.mark.parametrize("place", PLACES)
def test_every_odd_text_in_an_annotation(place: bytes, tmp_path: Path) -> None:
    start, end = place.startswith(b">"), place.removeprefix(b">").lstrip(b"0123456789.")
    words = [encoded(word) for word in (*fuzz.SPELLINGS, *fuzz.TEXTS)]
    cases = [
        fuzz.ANNOTATION.replace(place, b">" * start + word + (end if start else b""))
        for word in words
    ]
    assert len({*cases}) > 200
    shares("annotations", cases, tmp_path)


@pytest.mark.parametrize("place", [b"000001", b"0.5", b"2.25", b"4e1", b"-1", b"\n\n"])
def test_every_odd_word_in_a_results_file(place: bytes, tmp_path: Path) -> None:
    words = [encoded(word) for word in (*fuzz.SPELLINGS, *fuzz.TEXTS)]
    shares("results", [fuzz.RESULTS.replace(place, word) for word in words], tmp_path)


def test_random_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 2**63, 20_000, dtype=np.int64).view(np.float64)
    values = [float(v) for v in patterns if abs(v) <= LARGEST]
    values += generator.normal(0, 500, 20_000).round(6).tolist()
    spellings = [form % v for v in values for form in ("%r", "%.25g", "%.3e", "%.6f")]
    spellings = [word for word in spellings if float(word) == 0 or abs(float(word)) > 1e-300]
    (tmp_path / "a").write_text("".join(f"000001 {word} 1 2 3 4\n" for word in spellings))
    found = native.results([os.fsencode(tmp_path / "a")], fuzz.IMAGES, 1)
    assert found["score"].tolist() == [float(word) for word in spellings]


def test_the_files_that_are_left_to_the_reference_come_back_in_their_places(
    tmp_path: Path,
) -> None:
    cases = [*map(fuzz.mutate, range(300)), *fuzz.ORDINARY, *fuzz.ODD]
    names = []
    for i, data in enumerate(cases):
        (tmp_path / f"{i:04d}.xml").write_bytes(data)
        if reference_columns("annotations", tmp_path / f"{i:04d}.xml") is not None:
            names.append(f"{i:04d}")
    unread = native.annotations(os.fsencode(tmp_path), names, 2)["unread"]
    assert 10 < len(unread) < len(names) / 2
    watched: list[str] = []
    found = voc_files.annotations(
        tmp_path, names, threads=2, watched=lambda names: watched.extend(names) or names
    )
    assert watched == [names[i] for i in unread]
    assert_equal(found, voc_files.annotations(tmp_path, names, impl="reference"))


def test_results_that_are_left_to_the_reference_come_back_in_their_places(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.txt" for i in range(6)]
    for i, path in enumerate(paths):
        odd = b"000002 +1 2 3 4 5\n" if i % 2 else b""
        path.write_bytes(odd + b"\n".join([fuzz.RESULTS] * i))
    found = voc_files.results(paths, fuzz.IMAGES)
    assert native.results(list(map(os.fsencode, paths)), fuzz.IMAGES, 2)["unread"].tolist() == [
        1,
        3,
        5,
    ]
    assert_equal(found, voc_files.results(paths, fuzz.IMAGES, impl="reference"))


def assert_equal(found: Any, expected: Any) -> None:
    for name in found.__slots__:
        assert bits(getattr(found, name)) == bits(getattr(expected, name)), name


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_no_files_make_empty_columns(impl: Any, tmp_path: Path) -> None:
    assert len(voc_files.annotations(tmp_path, [], impl=impl).box) == 0
    assert voc_files.results([], {}, impl=impl).box.shape == (0, 4)


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_a_wrong_file_is_explained(impl: Any, tmp_path: Path) -> None:
    (tmp_path / "good.xml").write_bytes(fuzz.ANNOTATION)
    (tmp_path / "bad.xml").write_text("<annotation>\n<object/></annotation>")
    with pytest.raises(FormatError, match=r"bad.xml:2: an object has no <name>") as caught:
        voc_files.annotations(tmp_path, ["good", "bad"], impl=impl)
    assert (caught.value.path, caught.value.where) == (str(tmp_path / "bad.xml"), "2")
    with pytest.raises(FormatError, match=r"bad.xml:1: expected 6 columns"):
        voc_files.results([tmp_path / "bad.xml"], {}, impl=impl)


@pytest.mark.parametrize("name", ["none", "folder", "a\udcff", "x" * 300])
@pytest.mark.parametrize("impl", ["native", "reference"])
def test_what_is_no_file_is_an_oserror(impl: Any, name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.xml").mkdir()
    with pytest.raises(OSError, match=r".") as caught:
        voc_files.annotations(tmp_path, [name], impl=impl)
    assert caught.value.filename == str(tmp_path / f"{name}.xml")


def test_a_name_that_holds_a_zero_is_not_cut_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert native.annotations(os.fsencode(tmp_path), ["a\0"], 1)["unread"].tolist() == [0]
    assert native.results([os.fsencode(tmp_path / "a\0")], {}, 1)["unread"].tolist() == [0]
    assert native.results([os.fsencode(tmp_path / "a")], {}, 1)["unread"].tolist() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.xml")
    assert native.annotations(os.fsencode(tmp_path), ["a"], 1)["unread"].tolist() == [0]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="this system has no links")
def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(fuzz.ANNOTATION)
    (tmp_path / "b.xml").symlink_to("a")
    assert len(voc_files.annotations(tmp_path, ["b"]).box) == 2


@pytest.mark.parametrize("length", [4096 - 64, 4096 - 1, 4096, 4096 + 1, 70_000])
def test_a_file_of_any_length_is_read_to_its_end_and_no_further(
    length: int, tmp_path: Path
) -> None:
    for kind in KINDS:
        padded = b" " * (length - len(WHOLE[kind])) + WHOLE[kind].removeprefix(b"<?xml")
        assert outcome(kind, padded, tmp_path) in ("taken", "refused")


def test_all_real_annotations_are_taken_and_equal_the_reference(real_data: Path) -> None:
    folder = real_data / "voc2007_test"
    names = (folder / "test.txt").read_text().split()
    columns = native.annotations(os.fsencode(folder / "Annotations"), names, 2)
    assert columns["unread"].tolist() == []
    found, expected = (
        voc_files.annotations(folder / "Annotations", names, impl=impl)
        for impl in ("native", "reference")
    )
    assert len(found.box) == 14_976
    assert_equal(found, expected)


@pytest.mark.parametrize("detector", DETECTORS)
def test_all_real_results_are_taken_and_equal_the_reference(detector: str, real_data: Path) -> None:
    names = (real_data / "voc2007_test" / "test.txt").read_text().split()
    images = {name: i for i, name in enumerate(names)}
    paths = sorted((real_data / f"voc2007_dets_{detector}").glob("comp4_det_test_*.txt"))
    columns = native.results(list(map(os.fsencode, paths)), images, 2)
    assert columns["unread"].tolist() == []
    found, expected = (
        voc_files.results(paths, images, impl=impl) for impl in ("native", "reference")
    )
    assert len(found.box) > 50_000
    assert_equal(found, expected)
