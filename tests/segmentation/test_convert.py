"""Tests of conversion to the documented layout; masks against pycocotools."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks

from upmap.__main__ import main as upmap
from upmap.errors import InputError
from upmap.segmentation.convert import ConvertOptions, convert_source, main
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.polygon_masks import decode_runs, draw_polygon

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 24, 32
TRIANGLE = [2.0, 3.0, 20.5, 4.0, 9.25, 21.0]
SQUARE = [16.0, 8.0, 30.0, 8.0, 30.0, 20.0, 16.0, 20.0]
IGNORE_NOTES = pytest.mark.filterwarnings("ignore::upmap.errors.InputWarning")  # how it is read
SMALL = [18.0, 10.0, 22.0, 10.0, 22.0, 14.0, 18.0, 14.0]


def expected_mask(points: list[float], height: int = HEIGHT, width: int = WIDTH) -> NDArray[Any]:
    (code,) = coco_masks.frPyObjects([points], height, width)
    return np.array(coco_masks.decode([code])[..., 0], bool)


coordinates = st.one_of(
    st.integers(-5, 40).map(float),
    st.integers(-10, 80).map(lambda value: value / 2),
    st.floats(-20, 60, allow_nan=False, width=32),
)


@given(
    st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["open", "closed", "doubled"]),
)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_polygons_and_codes_are_those_of_pycocotools(
    corners: list[tuple[float, float]], height: int, width: int, kind: str
) -> None:
    if kind == "closed":
        corners = [*corners, corners[0]]
    if kind == "doubled":
        corners = [corner for corner in corners for _ in range(2)]
    points = [value for corner in corners for value in corner]
    (code,) = coco_masks.frPyObjects([points], height, width)
    expected = np.asarray(coco_masks.decode([code]))[..., 0].astype(bool)
    np.testing.assert_array_equal(draw_polygon(points, (height, width)), expected)
    np.testing.assert_array_equal(decode_runs(code["counts"].decode(), (height, width)), expected)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([0.0, 0.0, 1.0, 1.0], "three points"),
        ([0.0] * 7, "three points"),
        ([0.0, 0.0, 1.0, 1.0, float("nan"), 1.0], "far outside"),
        ([0.0, 0.0, 1.0, 1.0, 1e9, 1.0], "far outside"),
        ([0.0, 0.0, 1e6, 1e6] * 20, "too long"),
    ],
)
def test_polygons_that_cannot_be_drawn_are_refused(points: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_polygon(points, (8, 8))


@pytest.mark.parametrize("counts", ["", "2", "22222", "\x00", "zzzzzzzzzzzzzzzz", [3, 2], [-1, 5]])
def test_codes_that_are_no_mask_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match=r"runs|run-length"):
        decode_runs(counts, (2, 2))


def put_image(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(path)


def put_coco(root: Path, name: str = "annotations/instances_val2017.json", **changes: Any) -> Path:
    """A file of two images: a triangle and, on a square, a smaller one; an image of a crowd."""
    code = coco_masks.encode(np.asfortranarray(expected_box().astype(np.uint8)))
    content: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "deep/b c.png"},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "segmentation": [SMALL], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "segmentation": [SQUARE, TRIANGLE]},
            {
                "id": 3,
                "image_id": 9,
                "category_id": 3,
                "iscrowd": 1,
                "segmentation": {"counts": code["counts"].decode(), "size": [HEIGHT, WIDTH]},
            },
        ],
    }
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | changes))
    put_image(root / "val2017" / "a.jpg")
    put_image(root / "val2017" / "deep" / "b c.png")
    return path


def expected_box() -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:9, 10:20] = True
    return mask


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("by_folder", [False, True])
def test_coco_becomes_labels_of_its_masks(by_folder: bool, tmp_path: Path) -> None:
    path = put_coco(tmp_path / "coco")
    source = tmp_path / "coco" if by_folder else path
    counts = convert_source(ConvertOptions(source=source, out=tmp_path / "out"))
    dataset = open_dataset("folder", tmp_path / "out", "val")
    assert dataset.classes == ("background", "car", "dog")
    assert dataset.names == ("a", "deep__b_c")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[expected_mask(SQUARE) | expected_mask(TRIANGLE)] = 1
    expected[expected_mask(SMALL)] = 2  # the smaller one, though it comes first
    np.testing.assert_array_equal(dataset[0][1], expected)
    np.testing.assert_array_equal(dataset[1][1], np.where(expected_box(), 255, 0))
    assert counts["dog"] == {"val": int(expected_mask(SMALL).sum())}
    copied = tmp_path / "out" / "images" / "a.jpg"
    assert copied.read_bytes() == (tmp_path / "coco/val2017/a.jpg").read_bytes()


BOX = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]}
BAD_COCO: dict[str, tuple[dict[str, Any], str]] = {
    "a box alone": ({"annotations": [BOX]}, r"annotations\[0\].segmentation: a box without a mask"),
    "an unknown category": (
        {"annotations": [BOX | {"category_id": 5}]},
        r"annotations\[0\].category_id: there is no category 5",
    ),
    "an unknown image": (
        {"annotations": [BOX | {"image_id": 1, "segmentation": [SMALL]}]},
        "annotations: there is no image 1",
    ),
    "another size": (
        {"images": [{"id": 7, "file_name": "a.jpg", "height": 9, "width": 9}], "annotations": []},
        "a.jpg has 32 x 24 px, not 9 x 9 as this file says",
    ),
    "a way out": ({"images": [{"id": 7, "file_name": "../a.jpg"}], "annotations": []}, "no path"),
    "a root": ({"images": [{"id": 7, "file_name": "/etc/a.jpg"}], "annotations": []}, "no path"),
    "a missing image": (
        {"images": [{"id": 7, "file_name": "x.jpg"}], "annotations": []},
        "no image 'x.jpg' in .*; name the folder by --images",
    ),
    "a wrong polygon": (
        {"annotations": [{"id": 4, "image_id": 7, "category_id": 3, "segmentation": [[1, 2]]}]},
        "annotation 4 of a.jpg: a polygon needs the x and y of three points",
    ),
    "a mask of another size": (
        {"annotations": [
            {"id": 4, "image_id": 7, "category_id": 3,
             "segmentation": {"counts": [4], "size": [2, 2]}},
        ]},
        r"annotation 4 of a.jpg: its mask is of \(2, 2\), not \(24, 32\)",
    ),
    "no categories": ({"categories": [], "annotations": []}, "expected the names of classes"),
    "one category twice": (
        {"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]},
        "categories: two categories have one id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_COCO)
def test_what_is_wrong_in_coco_is_one_line_and_nothing_is_written(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    changes, message = BAD_COCO[kind]
    path = put_coco(tmp_path / "coco", **changes)
    assert main([str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["coco"]


def test_one_file_without_a_split_in_its_name_is_split_by_a_seed(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(20)]
    annotations = [{"image_id": 3, "category_id": 3, "segmentation": [SMALL]}]
    path = put_coco(tmp_path, "labels.json", images=images, annotations=annotations)
    for i in range(20):
        put_image(tmp_path / "elsewhere" / f"{i}.png")
    options = ConvertOptions(
        source=path, out=tmp_path / "out", images=tmp_path / "elsewhere", seed=1
    )
    convert_source(options)
    sizes = {s: len(open_dataset("folder", options.out, s)) for s in ("train", "val", "test")}
    assert sizes == {"train": 14, "val": 3, "test": 3}


def put_yolo(root: Path, rows: str = "") -> Path:
    """Two splits of one image each; that for validation has no file of labels."""
    put_image(root / "images/train/a.png")
    put_image(root / "images/train/empty.png")
    put_image(root / "images/val/v.png")
    put_image(root / "images/val/w.png")
    for name in ("train/a", "val/w"):
        path = root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        shares = [value / (WIDTH, HEIGHT)[i % 2] for i, value in enumerate(SQUARE)]
        path.write_text(rows or f"1 {' '.join(map(str, shares))}\n")
    path = root / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("described", [True, False])
def test_yolo_becomes_labels_of_its_polygons(described: bool, tmp_path: Path) -> None:
    path = put_yolo(tmp_path / "yolo")
    if not described:
        path.unlink()
        (tmp_path / "yolo" / "classes.txt").write_text("cat\ndog\n")
    options = ConvertOptions(source=path.parent, out=tmp_path / "out", format="yolo")
    convert_source(options)
    dataset = open_dataset("folder", options.out, "train")
    assert dataset.classes == ("background", "cat", "dog")
    assert dataset.names == ("a", "empty")
    np.testing.assert_array_equal(dataset[0][1], 2 * expected_mask(SQUARE))
    assert not dataset[1][1].any()
    assert open_dataset("folder", options.out, "val").names == ("v", "w")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0 0.5 0.5 0.2 0.2\n", r"a\.txt:1: a box, not a polygon"),
        ("\n7 0 0 1 0 1 1\n", r"a\.txt:2: there is no class '7'"),
        ("0 0 0 1 0 1 x\n", r"a\.txt:1: expected a class and the x and y"),
        ("0 0 0 1 0 1\n", r"a\.txt:1: a polygon needs the x and y of three points"),
        ("0 0 0 1 0 inf 1\n", r"a\.txt:1: a point of a polygon is far outside"),
    ],
)
def test_what_is_wrong_in_yolo_names_the_line(rows: str, message: str, tmp_path: Path) -> None:
    options = ConvertOptions(source=put_yolo(tmp_path / "yolo", rows), out=tmp_path / "out")
    with pytest.raises(InputError, match=message):
        convert_source(options)
    assert not options.out.exists()


@IGNORE_NOTES
@pytest.mark.parametrize("kind", ["binary", "colors", "suffixes", "splits", "documented"])
def test_a_folder_becomes_what_the_data_set_folder_reads_in_it(kind: str, tmp_path: Path) -> None:
    root, labels = tmp_path / "in", RNG.integers(0, 2, (20, HEIGHT, WIDTH), np.uint8)
    colors = np.array([[0, 0, 0], [200, 10, 10]], np.uint8)
    for i, label in enumerate(labels):
        split = ("train", "val")[i % 2]
        parts = {"suffixes": ("", ""), "splits": (f"{split}/images/", f"{split}/masks/")}
        image, mask = parts.get(kind, ("images/", "labels/"))
        put_image(root / f"{image}{i}.png")
        suffix = "_mask" if kind == "suffixes" else ""
        path = root / f"{mask}{i}{suffix}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = {"colors": colors[label], "documented": label}.get(kind, 255 * label)
        Image.fromarray(pixels).save(path)
    description: dict[str, Any] = {"classes": ["ground", "roof"]}
    if kind == "colors":
        description["palette_rgb"] = colors.tolist()
    (root / "classes.json").write_text(json.dumps(description))
    if kind == "documented":
        for name in ("train", "val"):
            (root / f"{name}.txt").write_text("0\n1\n2\n" if name == "train" else "5\n")
    convert_source(ConvertOptions(source=root, out=tmp_path / "out"))
    for split in ("train", "val"):
        before = open_dataset("folder", root, split)
        after = open_dataset("folder", tmp_path / "out", split)
        assert after.classes == before.classes
        assert after.names == tuple(name.replace("/", "__") for name in before.names)
        for i in range(len(before)):
            for first, second in zip(before[i], after[i], strict=True):
                np.testing.assert_array_equal(first, second)
    if kind == "colors":
        np.testing.assert_array_equal(after.palette, colors)


@IGNORE_NOTES
def test_images_in_folders_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a/b", "a__b", "c"):
        put_image(tmp_path / "in" / "images" / f"{name}.png")
        path = tmp_path / "in" / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(path)
    with pytest.raises(InputError, match="would both be called a__b"):
        convert_source(ConvertOptions(source=tmp_path / "in", out=tmp_path / "out"))


def test_what_is_no_source_is_refused_with_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert main([str(tmp_path / "notes.txt"), str(tmp_path / "out")]) == 2
    assert "not recognized; there are coco: " in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), str(tmp_path / "out")]) == 2
    assert "no images with labels in it" in capsys.readouterr().err


def test_the_command_prints_the_pixels_of_each_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_coco(tmp_path)
    assert upmap(["convert-segmentation", str(tmp_path), str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["pixels", "val"]
    assert [line.split()[0] for line in lines[2:5]] == ["background", "car", "dog"]
