"""LabelMe JSON: a file for each image."""

import json
import random
import tracemalloc
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from upmap.detection import GroundTruth, read_ground_truth
from upmap.detection.formats import recognize_format
from upmap.detection.formats.labelme_json import read_ground_truth as read_labelme
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import open_input
from upmap.errors import InputError, InputWarning


def shape(*points: list[float], kind: str = "rectangle", label: Any = "cat") -> dict[str, Any]:
    return {"label": label, "points": list(points), "shape_type": kind, "group_id": None}


BOX = shape([1.5, 2], [10, 20])


def content(*shapes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 50,
        "imageWidth": 60,
    } | changes


def read(folder: Path, *files: Any, **options: Any) -> GroundTruth:
    for i, file in enumerate(files):
        text = file if isinstance(file, str | bytes) else json.dumps(file)
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"file_{i}.json").write_bytes(data)
    return read_labelme(open_input(folder), ReadOptions(**options))


@pytest.mark.parametrize(
    "points",
    [[[1, 2], [10, 20]], [[10, 20], [1, 2]], [[1, 20], [10, 2]], [[10, 2], [1, 20]]],
)
def test_corners_of_a_rectangle_may_come_in_any_order(tmp_path: Path, points: Any) -> None:
    assert read(tmp_path, content(shape(*points))).box.tolist() == [[1, 2, 10, 20]]


def test_images_are_called_like_their_files_and_those_without_shapes_count(tmp_path: Path) -> None:
    table = read(tmp_path, content(BOX, imagePath="..\\img\\b.jpg"), content())
    assert table.catalog.images == ("a", "b")
    assert table.catalog.file_names == ("a.jpg", "..\\img\\b.jpg")
    assert table.catalog.sizes.tolist() == [[60, 50]] * 2
    assert (table.image.tolist(), table.box.tolist()) == ([1], [[1.5, 2, 10, 20]])


def test_files_that_repeat_an_image_path_name_their_images_themselves(tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match="1 files repeat the imagePath of another"):
        table = read(tmp_path, content(BOX), content())
    assert table.catalog.images == ("file_0", "file_1")


def test_image_data_is_skipped_and_not_built(tmp_path: Path) -> None:
    size = 2**20
    files = [content(BOX, imageData="A" * size, imagePath=f"{i}.jpg") for i in range(4)]
    read(tmp_path, *files)
    assert recognize_format(tmp_path, "ground truth") == "labelme"
    tracemalloc.start()
    read(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 2 * size  # the bytes of one file at a time
    tracemalloc.stop()


@pytest.mark.parametrize("first", ["imageData", "shapes"])
def test_keys_may_come_in_any_order(tmp_path: Path, first: str) -> None:
    whole = content(BOX, imageData="A" * 10**5)
    read(tmp_path, {first: whole[first]} | whole)
    assert recognize_format(tmp_path, "ground truth") == "labelme"
    assert recognize_format(tmp_path / "file_0.json", "ground truth") == "labelme"


def test_polygons_are_left_out_and_with_the_task_segment_their_hulls_are_read(
    tmp_path: Path,
) -> None:
    polygon = shape([5, 6], [9, 7], [6, 30], kind="polygon", label="dog")
    circle = shape([10, 10], [13, 14], kind="circle")
    with pytest.warns(InputWarning, match="left out: .* 1 circle, 1 polygon; --task segment"):
        assert len(read(tmp_path, content(BOX, polygon, circle))) == 1
    table = read(tmp_path, task="segment")
    assert table.box[1:].tolist() == [[5, 6, 9, 30], [5, 5, 15, 15]]
    with pytest.raises(InputError, match="there are no boxes, but shapes that are no boxes"):
        read(tmp_path, content(polygon))


def test_a_shape_without_a_type_is_a_polygon_as_in_old_files(tmp_path: Path) -> None:
    old = {"label": "cat", "points": [[1, 2], [3, 4], [5, 2]]}
    assert read(tmp_path, content(old), task="segment").box.tolist() == [[1, 2, 5, 4]]


def test_what_no_number_depends_on_may_be_missing_or_odd(tmp_path: Path) -> None:
    text = json.dumps(content(BOX, imageWidth=None, imageHeight=None, flags=float("nan")))
    table = read(tmp_path, "\ufeff" + text.replace('"imagePath": "a.jpg", ', ""))
    assert table.catalog.images == ("file_0",)
    assert table.catalog.sizes.tolist() == [[0, 0]]
    assert read(tmp_path, content(shape([1, 2], [3, 4], label=7))).catalog.classes == ("7",)


BAD: dict[str, Any] = {
    "malformed JSON": '{"shapes": [',
    r"Expected `array`, got `int` - at|Expected `array`, got `int`": content(shapes=3),
    "missing required field `shapes`": {"imagePath": "a"},
    r"shapes\[0\]: expected two corners of a rectangle, got 1": content(shape([1, 2])),
    r"shapes\[1\]: expected points x, y": content(BOX, shape([1, 2, 3], [4, 5, 6])),
    r"shapes\[0\]: the box is not finite or too large": content(shape([1, 2], [1e200, 3])),
    "nested too deeply": '{"shapes": [], "a": ' + "[" * 10**5 + "]" * 10**5 + "}",
    "not UTF-8": b'{"shapes": [], "imagePath": "\xff"}',
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_malformed_is_refused_with_its_place(tmp_path: Path, message: str) -> None:
    with pytest.raises(InputError, match=rf"json.*({message})"):
        read(tmp_path, BAD[message])


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there are no \.json files"):
        read(tmp_path)


def test_the_sample_is_read_like_its_twin_in_voc_format(real_data: Path) -> None:
    folder = real_data / "formats" / "one_set_many_formats"
    truth, voc = read_ground_truth(folder / "labelme"), read_ground_truth(folder / "voc")
    assert truth.catalog.images == voc.catalog.images
    assert truth.catalog.classes == voc.catalog.classes
    assert truth.box.tolist() == voc.box.tolist()
    assert truth.label.tolist() == voc.label.tolist()


def test_spoilt_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    generator = random.Random(3)
    text = json.dumps(content(BOX, shape([1, 2], [3, 4], [5, 6], kind="polygon"))).encode()
    for _ in range(400):
        data = bytearray(text)
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(data))
            data[place : place + generator.choice((0, 1, 1, 9))] = generator.choice(
                (b"", b"{", b'"', b"9", b"-", b"\xff", b"\0", b"[", b"1e400", b"null", b"NaN")
            )
        with warnings.catch_warnings(), suppress(InputError):
            warnings.simplefilter("ignore")
            read(tmp_path, bytes(data), task="segment")
