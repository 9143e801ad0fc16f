"""Readers are rows of a table: formats combine, and an input is opened and recognized once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detection.small_files import COCO, VOC, put
from upmap.detection import (
    Catalog,
    Detections,
    InputError,
    read,
    read_detections,
    read_ground_truth,
)
from upmap.detection.convert import main as convert
from upmap.detection.formats import (
    DETECTION_READERS,
    FORMATS,
    GROUND_TRUTH_READERS,
    WRITERS,
    DetectionReader,
    ReadOptions,
    open_source,
    open_sources,
    write,
)
from upmap.detection.formats.read_options import ReadArguments
from upmap.detection.input_flags import InputFlags
from upmap.detection.inputs import Input, Source, open_input
from upmap.kernels import coco_json, voc_files
from upmap.metrics.evaluate import main as evaluate

TRUTHS = {"voc": "voc", "coco": "coco/truth.json"}
RESULTS = {"voc": "voc/results", "coco": "coco/found.json"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "voc", VOC)
    put(tmp_path / "coco", COCO)
    return tmp_path


def read_rows(source: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """A reader of lines `image,class,score,x,y,width,height`."""
    rows = [line.split(",") for line in source.text().splitlines()]
    numbers = np.array([row[2:] for row in rows], np.float64).reshape(-1, 5)
    return Detections(
        image=np.array([catalog.images.index(row[0]) for row in rows]),
        label=np.array([catalog.classes.index(row[1]) for row in rows]),
        box=np.concatenate([numbers[:, 1:3], numbers[:, 1:3] + numbers[:, 3:]], axis=1),
        size=numbers[:, 3:],
        score=numbers[:, 0],
        row=np.arange(len(rows)),
        catalog=catalog,
        pixels="continuous",
    )


@pytest.fixture
def rows_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third format, of detections only: a function and a row."""
    reader = DetectionReader(
        description="rows of text",
        recognizes=lambda source: source.path.suffix == ".rows",
        read=read_rows,
        has_class_ids=False,
    )
    monkeypatch.setitem(DETECTION_READERS, "rows", reader)


@pytest.mark.parametrize("truth_format", TRUTHS)
@pytest.mark.parametrize("results_format", RESULTS)
@pytest.mark.parametrize("is_named", [True, False])
def test_ground_truth_and_detections_of_any_formats_go_together(
    folder: Path, truth_format: str, results_format: str, is_named: bool
) -> None:
    if (truth_format, results_format) == ("voc", "coco"):
        text = (folder / "coco/found.json").read_text()
        for number, name in ((1, "a"), (2, "b")):
            text = text.replace(f'"image_id": {number}', f'"image_id": "{name}"')
        (folder / "coco/found.json").write_text(text)
    names = {1: "cat", 2: "dog"} if results_format == "coco" else None
    formats: dict[str, Any] = {}
    if is_named:
        formats = {"ground_truth_format": truth_format, "detections_format": results_format}
    expected, expected_detections = read(folder / "voc", folder / "voc/results")
    truth, detections = read(
        folder / TRUTHS[truth_format],
        folder / RESULTS[results_format],
        class_names=names,
        **formats,
    )
    assert truth.catalog.classes == expected.catalog.classes
    assert np.array_equal(truth.image, expected.image)
    assert np.array_equal(np.sort(detections.score), np.sort(expected_detections.score))


@pytest.mark.usefixtures("rows_format")
@pytest.mark.parametrize("options", [{}, {"detections_format": "rows"}])
@pytest.mark.parametrize("more", [{}, {"format": "voc"}, {"ground_truth_format": "voc"}])
def test_a_format_of_detections_alone_is_a_row(
    folder: Path, options: dict[str, Any], more: dict[str, Any]
) -> None:
    (folder / "x.rows").write_text("b,cat,0.75,4,4,5,5\n")
    if "format" in more and not options:
        with pytest.raises(InputError, match="no files called comp"):
            read(folder / "voc", folder / "x.rows", **more)
        return
    truth, detections = read(folder / "voc", folder / "x.rows", **options, **more)
    assert detections.size.tolist() == [[5, 5]]
    assert detections.catalog == truth.catalog


@pytest.mark.usefixtures("rows_format")
def test_a_format_without_a_reader_or_writer_of_the_kind_is_unknown_there(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"format 'rows' is unknown; there are .*coco.*"):
        read_ground_truth(folder / "voc", format="rows")
    with pytest.raises(ValueError, match=r"format 'x' is unknown; there are .*voc.*coco.*rows$"):
        read_detections(folder / "voc/results", Catalog((), ()), format="x")
    truth = read_ground_truth(folder / "voc")
    with pytest.raises(ValueError, match=r"format 'rows' is unknown; there are voc, coco.*"):
        write(truth, None, folder / "out", format="rows")
    assert not (folder / "out").exists()


def test_what_is_not_recognized_is_told_the_formats_of_its_kind(folder: Path) -> None:
    (folder / "x.txt").write_text("x")
    for what, readers in (
        ("ground truth", GROUND_TRUTH_READERS),
        ("detections", DETECTION_READERS),
    ):
        with pytest.raises(InputError, match=f"x.txt: not recognized as {what}; ") as caught:
            open_source(folder / "x.txt", what)  # type: ignore[arg-type]
        assert all(
            f"{name}: {row.description}" in str(caught.value) for name, row in readers.items()
        )


def test_formats_has_every_row_of_readers_and_writers() -> None:
    assert set(FORMATS) == {*GROUND_TRUTH_READERS, *DETECTION_READERS, *WRITERS}
    for name, row in FORMATS.items():
        assert row.ground_truth is GROUND_TRUTH_READERS.get(name)
        assert row.detections is DETECTION_READERS.get(name)
        assert row.writer is WRITERS.get(name)
        assert row.description


@pytest.mark.parametrize(
    ("truth", "results", "image_set"),
    [
        ("voc", "voc/results", "test"),
        ("coco/truth.json", "voc/results", None),
        ("coco/truth.json", "coco/found.json", None),
        ("named", "voc/results", "test"),
        ("named", "coco/found.json", None),
    ],
)
def test_the_image_set_is_one_that_file_names_mention_and_the_ground_truth_has(
    folder: Path, truth: str, results: str, image_set: str | None
) -> None:
    put(folder / "named", {"instances_test.json": COCO["truth.json"]})
    sources = open_sources(folder / truth, folder / results)
    assert [source.image_set for source in sources] == [image_set, image_set]
    put(folder / "named", {"instances_val.json": COCO["truth.json"]})
    assert [source.image_set for source in open_sources(folder / truth, folder / results)] == [
        image_set,
        image_set,
    ]
    if image_set is not None:
        assert len(read(folder / truth, folder / results)[0]) == 3


def test_a_source_is_read_as_it_was_settled_unless_told_otherwise(folder: Path) -> None:
    (folder / "list").write_text("a\n")
    source = open_source(folder / "voc", "ground truth", image_set=str(folder / "list"))
    assert isinstance(source, Source)
    assert open_input(source) is source
    assert read_ground_truth(source).catalog.images == ("a",)
    assert read_ground_truth(source, image_set="test").catalog.images == ("a", "b")
    with pytest.raises(InputError, match="no instances_"):
        read_ground_truth(source, format="coco")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is called of the rows of readers."""
    counts: Counter[str] = Counter()

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count_call(*arguments: Any) -> Any:
            counts[name] += 1
            return function(*arguments)

        return count_call

    tables: list[tuple[str, dict[str, Any], str]] = [
        ("truth", GROUND_TRUTH_READERS, "image_sets"),
        ("results", DETECTION_READERS, "image_set_hints"),
    ]
    for what, readers, sets in tables:
        for name, row in list(readers.items()):
            functions = {
                key: count(f"{what} {name} {key}", getattr(row, key))
                for key in ("recognizes", "read", sets)
            }
            monkeypatch.setitem(readers, name, replace(row, **functions))
    return counts


@pytest.mark.parametrize("formats", [("voc", "voc"), ("coco", "voc"), ("coco", "coco")])
@pytest.mark.parametrize("program", [evaluate, convert])
def test_a_program_recognizes_each_input_once_and_infers_the_image_set_once(
    folder: Path, calls: Counter[str], formats: tuple[str, str], program: Callable[..., int]
) -> None:
    more = ["--to", "coco", "--out", str(folder / "out")] if program is convert else []
    paths = [str(folder / TRUTHS[formats[0]]), str(folder / RESULTS[formats[1]])]
    assert program([*paths, *more]) == 0
    assert max(calls.values()) == 1
    assert calls[f"truth {formats[0]} read"] == calls[f"results {formats[1]} read"] == 1
    assert calls[f"results {formats[1]} image_set_hints"] == 1


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_number_of_threads_reaches_every_kernel_that_reads(
    folder: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[str, int]] = []

    def record(module: Any, name: str) -> None:
        function = getattr(module, name)

        def record_call(*arguments: Any, threads: int = -1, **keywords: Any) -> Any:
            used.append((name, threads))
            return function(*arguments, threads=threads, **keywords)

        monkeypatch.setattr(module, name, record_call)

    for module, name in (
        (voc_files, "annotations"),
        (voc_files, "results"),
        (coco_json, "instances"),
        (coco_json, "results"),
    ):
        record(module, name)
    for format_name in TRUTHS:
        paths = folder / TRUTHS[format_name], folder / RESULTS[format_name]
        read(*paths, threads=threads)
    names = ["annotations", "results", "instances", "results"]
    assert used == [(name, threads) for name in names]


def test_an_error_of_a_kernel_that_is_not_about_the_file_is_not_an_input_error(
    folder: Path,
) -> None:
    for truth in TRUTHS.values():
        with pytest.raises(ValueError, match="threads") as caught:
            read_ground_truth(folder / truth, threads=-1)
        assert not isinstance(caught.value, InputError)


def test_every_option_of_reading_is_a_keyword_argument() -> None:
    names = [field.name for field in fields(ReadOptions)]
    assert list(ReadArguments.__annotations__) == names
    assert list(InputFlags().read_arguments()) == names
