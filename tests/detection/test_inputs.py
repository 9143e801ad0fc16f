"""Whatever can be read is an input: files, compressed files, pipes and standard input."""

import contextlib
import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.detection.small_files import COCO, VOC, put, results
from upmap.detection import InputError, inputs, read, read_detections, read_ground_truth
from upmap.detection.convert import main as convert
from upmap.detection.inputs import Input, open_input

ROOT = Path(__file__).resolve().parents[2]
CAT = "results/comp4_det_test_cat.txt"
LIST = "ImageSets/Main/test.txt"
Placed = Callable[[Path, bytes], Path]


def plain(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def compressed(path: Path, data: bytes) -> Path:
    return plain(path, gzip.compress(data))


def in_members(path: Path, data: bytes) -> Path:
    middle = len(data) // 2
    return plain(path, gzip.compress(data[:middle]) + gzip.compress(data[middle:]))


def pipe(path: Path, data: bytes) -> Path:
    """A named pipe that one reader can read once."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            path.write_bytes(data)

    threading.Thread(target=write, daemon=True).start()
    return path


def compressed_pipe(path: Path, data: bytes) -> Path:
    return pipe(path, gzip.compress(data))


PLACED = [compressed, in_members, pipe, compressed_pipe]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return put(tmp_path, COCO)


@pytest.mark.parametrize("placed", PLACED)
@pytest.mark.parametrize("name", ["found.json", "found.json.gz", "found"])
@pytest.mark.parametrize("format_name", [None, "coco"])
@pytest.mark.parametrize("impl", ["native", "reference"])
def test_results_of_any_kind_of_file_read_as_those_of_a_plain_one(
    coco: Path,
    placed: Placed,
    name: str,
    format_name: str | None,
    impl: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UPMAP_IMPL", impl)
    truth, expected = read(coco / "truth.json", coco / "found.json")
    path = placed(coco / name, (coco / "found.json").read_bytes())
    detections = read_detections(path, truth.catalog, format=format_name)
    assert np.array_equal(detections.box, expected.box[np.argsort(expected.row)])
    assert np.array_equal(detections.score, expected.score[np.argsort(expected.row)])


@pytest.mark.parametrize("placed", PLACED)
@pytest.mark.parametrize("format_name", [None, "coco"])
def test_ground_truth_and_results_may_both_be_pipes_or_compressed(
    coco: Path, placed: Placed, format_name: str | None
) -> None:
    truth, detections = read(coco / "truth.json", coco / "found.json")
    paths = [placed(coco / f"{n}.x", (coco / n).read_bytes()) for n in ("truth.json", "found.json")]
    truth_again, detections_again = read(*paths, format=format_name)
    assert np.array_equal(truth_again.box, truth.box)
    assert np.array_equal(detections_again.box, detections.box)


@pytest.mark.parametrize("placed", PLACED)
@pytest.mark.parametrize("impl", ["native", "reference"])
def test_a_file_of_voc_results_may_be_a_pipe_or_compressed(
    tmp_path: Path, placed: Placed, impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPMAP_IMPL", impl)
    put(tmp_path, VOC)
    expected = read(tmp_path, tmp_path / "results")[1]
    placed(tmp_path / CAT, (tmp_path / CAT).read_bytes())
    detections = read(tmp_path, tmp_path / "results")[1]
    assert np.array_equal(detections.box, expected.box)
    assert np.array_equal(detections.score, expected.score)


def test_a_folder_of_voc_results_may_hold_gz_files(tmp_path: Path) -> None:
    put(tmp_path, VOC)
    expected = read(tmp_path, tmp_path / "results")[1]
    for file in sorted((tmp_path / "results").iterdir()):
        compressed(file.with_name(f"{file.name}.gz"), file.read_bytes())
        file.unlink()
    detections = read(tmp_path, tmp_path / "results")[1]
    assert np.array_equal(detections.box, expected.box)
    file = next((tmp_path / "results").glob("*_cat.txt.gz"))
    assert len(read(tmp_path, file)[1])


def test_a_class_with_a_plain_and_a_compressed_file_is_refused(tmp_path: Path) -> None:
    put(tmp_path, VOC)
    compressed(tmp_path / f"{CAT}.gz", (tmp_path / CAT).read_bytes())
    with pytest.raises(InputError, match="results: a class has two files of results"):
        read(tmp_path, tmp_path / "results")


@pytest.mark.parametrize("placed", [plain, *PLACED])
def test_a_list_of_images_may_be_a_pipe_or_compressed(tmp_path: Path, placed: Placed) -> None:
    put(tmp_path / "voc", VOC)
    put(tmp_path / "coco", COCO)
    for truth in (tmp_path / "voc", tmp_path / "coco" / "truth.json"):
        listing = placed(tmp_path / "list", b"a\n")
        assert len(read_ground_truth(truth, image_set=str(listing)).catalog.images) == 1


def test_a_compressed_instances_file_of_a_folder_is_its_image_set(tmp_path: Path) -> None:
    compressed(tmp_path / "instances_val.json.gz", str(COCO["truth.json"]).encode())
    assert len(read_ground_truth(tmp_path, image_set="val"))
    assert len(read_ground_truth(tmp_path))


@pytest.mark.parametrize("placed", PLACED)
def test_what_is_wrong_in_a_pipe_or_compressed_file_is_named_with_its_line(
    coco: Path, placed: Placed
) -> None:
    path = placed(coco / "x.json", b"\n[1,")
    with pytest.raises(InputError, match=r"x\.json:2: JSON ends too early, after 4 bytes"):
        read(coco / "truth.json", path)
    path = placed(coco / "y.json", str(COCO["found.json"]).replace("0.75", '"x"').encode())
    with pytest.raises(InputError, match=r"y\.json:\[1\]\.score: Expected `float`, got `str`"):
        read(coco / "truth.json", path)


def test_damaged_gzip_data_is_one_line_wherever_it_is_cut_or_changed(coco: Path) -> None:
    whole = gzip.compress((coco / "found.json").read_bytes(), mtime=0)
    for length in range(3, len(whole)):
        with pytest.raises(InputError, match=r"found\.json: damaged gzip data: cut short"):
            open_input(plain(coco / "found.json", whole[:length]))
    for place in range(10, len(whole)):  # behind the header, which may hold a name and a time
        changed = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        with pytest.raises(InputError, match=r"found\.json: damaged gzip data: [^\n]+$"):
            open_input(plain(coco / "found.json", changed))


@pytest.mark.parametrize("placed", [compressed, pipe])
def test_what_memory_cannot_hold_is_refused_in_one_line(
    coco: Path, placed: Placed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_physical_memory", lambda: 3 << 20)
    with pytest.raises(InputError, match=r"found\.json: too large for memory: 4 MiB and more$"):
        open_input(placed(coco / "found.json", b" " * (8 << 20)))


@pytest.mark.parametrize("name", ["", "results", "Annotations", "ImageSets/Main"])
def test_a_folder_without_permission_says_so(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, VOC)
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, m: Path(p) != tmp_path / name and access(p, m))

    def read_all() -> None:
        read_ground_truth(tmp_path)
        read(tmp_path, tmp_path / "results", image_set="test")

    with pytest.raises(InputError, match="permission denied") as caught:
        read_all()
    assert str(caught.value) == f"{tmp_path / name}: permission denied"


def program(module: str, *arguments: str | Path, data: bytes) -> tuple[int, str, str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(command, input=data, capture_output=True, cwd=ROOT, timeout=120)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("format_name", [None, "coco"])
def test_detections_are_read_from_standard_input(
    coco: Path, name: str, format_name: str | None
) -> None:
    options = [] if format_name is None else ["--format", format_name]
    data = (coco / "found.json").read_bytes()
    for sent in (data, gzip.compress(data)):
        arguments = (coco / "truth.json", name, *options)
        status, printed, _ = program("metrics.evaluate", *arguments, data=sent)
        assert status == 0
        assert f"detections    {name}: {len(results())} boxes" in printed


def test_ground_truth_is_converted_from_standard_input(coco: Path) -> None:
    arguments = ("-", coco / "found.json", "--to", "voc", "--out", coco / "out")
    status, printed, errors = program(
        "detection.convert", *arguments, data=(coco / "truth.json").read_bytes()
    )
    assert (status, errors) == (0, "")
    assert "wrote 2 images" in printed


def test_both_inputs_cannot_be_standard_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(["-", "-", "--to", "voc", "--out", "nowhere"]) == 2
    printed = capsys.readouterr().err
    assert printed == "error: ground truth and detections cannot both be standard input\n"


def test_what_standard_input_lacks_is_one_line(coco: Path) -> None:
    status, printed, errors = program("metrics.evaluate", coco / "truth.json", "-", data=b"")
    assert (status, printed) == (2, "")
    assert errors.startswith("error: -: not recognized as detections")
    assert errors.count("\n") == 1


def test_an_input_that_is_open_is_not_opened_again(coco: Path) -> None:
    opened = open_input(pipe(coco / "p.json", (coco / "found.json").read_bytes()))
    assert open_input(opened) is opened
    assert isinstance(opened, Input)
    assert opened.content == (coco / "found.json").read_bytes()
