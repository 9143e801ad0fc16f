"""Tests of data sets: formats of images and labels, and errors that name the file."""

import json
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from upmap.data.shapes import CLASSES, scenes
from upmap.errors import InputError
from upmap.metrics.semantic import IGNORED
from upmap.segmentation import datasets
from upmap.segmentation.datasets import (
    DATASETS,
    SegmentationDataset,
    open_dataset,
    validate_dataset,
)

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (6, 8, 3), np.uint8)  # H, W, RGB
IDS = np.arange(48, dtype=np.uint8).reshape(6, 8) % 4  # three classes, and 3 for void
VOC_IDS = np.tile([0, 20, 255, 1], (6, 2)).astype(np.uint8)
CLASS_NAMES = ["sky", "road", "tree"]
JSON = {"classes": CLASS_NAMES, "ignore_index_in_files": 3}


def encode(pixels: NDArray[Any], mode: str | None = None, kind: str = "PNG", **more: Any) -> bytes:
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette(RNG.permutation(768).astype(np.uint8).tobytes())
    elif mode is not None:
        image = image.convert(mode)
    file = BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def gray_png(ids: NDArray[np.uint8], bits: int) -> bytes:
    """A grayscale PNG of less than 8 bits, which Pillow cannot write."""
    height, width = ids.shape
    planes = np.unpackbits(ids[:, :, None], axis=2)[:, :, 8 - bits :].reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(planes, axis=1))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


PALETTE_PNG = encode(IDS, "P")
FILES: dict[str, bytes] = {
    "classes.json": json.dumps(JSON).encode(),
    "train.txt": b"a\nb\n",
    "val.txt": b"b\n",
    "NOTES.txt": b"by hand\n",
    "images/a.png": encode(PHOTO),
    "images/b.jpg": encode(PHOTO, kind="JPEG"),
    "labels/a.png": PALETTE_PNG,
    "labels/b.png": PALETTE_PNG,
}


def put(folder: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    for name, content in {**FILES, **(changes or {})}.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder


def classes_json(**changes: Any) -> dict[str, bytes | None]:
    return {"classes.json": json.dumps(JSON | changes).encode()}


def as_camvid(folder: Path) -> Path:
    for name in ("classes.json", "train.txt", "val.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(FILES[name])
    for split, stems in (("train", "ab"), ("val", "b")):
        for name, content in FILES.items():
            if "/" in name and Path(name).stem in stems:
                (folder / split / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / split / name).write_bytes(content)
    return folder


def as_voc(folder: Path, ids: NDArray[np.uint8]) -> Path:
    year = folder / "VOCdevkit" / "VOC2012"
    for name, content in {
        "ImageSets/Segmentation/val.txt": b"2007_000033\n",
        "JPEGImages/2007_000033.jpg": encode(PHOTO, kind="JPEG"),
        "SegmentationClass/2007_000033.png": encode(ids, "P"),
    }.items():
        (year / name).parent.mkdir(parents=True)
        (year / name).write_bytes(content)
    return folder


def test_an_item_is_an_rgb_image_and_its_classes(tmp_path: Path) -> None:
    image, label = open_dataset("folder", put(tmp_path), "train")[0]
    assert (image.dtype, label.dtype) == (torch.uint8, torch.uint8)
    assert np.array_equal(image.numpy(), PHOTO.transpose(2, 0, 1))
    assert np.array_equal(label.numpy(), np.where(IDS == 3, IGNORED, IDS))


def test_a_data_set_knows_its_names_classes_and_colors(tmp_path: Path) -> None:
    palette = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 0]]
    folder = put(tmp_path, classes_json(palette_rgb=palette))
    dataset = open_dataset("folder", folder, "train")
    assert (len(dataset), dataset.names, dataset.split) == (2, ("a", "b"), "train")
    assert dataset.classes == tuple(CLASS_NAMES)
    assert dataset.palette.dtype == np.uint8
    assert dataset.palette.tolist() == palette[:3]


def test_classes_without_colors_get_those_of_voc(tmp_path: Path) -> None:
    palette = open_dataset("voc2012", as_voc(tmp_path, IDS), "val").palette
    assert palette[[0, 1, 2, 15, 20]].tolist() == [
        *([0, 0, 0], [128, 0, 0], [0, 128, 0]),
        *([192, 128, 128], [0, 64, 128]),
    ]


def test_any_number_of_classes_gets_distinct_colors() -> None:
    assert len(np.unique(datasets.create_palette(254), axis=0)) == 254


def test_pixels_are_counted_by_class(tmp_path: Path) -> None:
    counts = validate_dataset(open_dataset("folder", put(tmp_path), "train"), show_progress=True)
    assert counts.dtype == np.int64
    assert counts.tolist() == [24, 24, 24]


def test_items_can_be_iterated_over_and_counted_from_the_end(tmp_path: Path) -> None:
    dataset = open_dataset("folder", put(tmp_path), "train")
    assert len(list(dataset)) == 2  # type: ignore[call-overload]
    assert torch.equal(dataset[-1][0], dataset[1][0])
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize("name", ["folder", "camvid", "voc2012", "shapes", "edges"])
def test_every_data_set_gives_the_same_thing_also_after_pickling(tmp_path: Path, name: str) -> None:
    makers: dict[str, Callable[[], Path | None]] = {
        "folder": lambda: put(tmp_path),
        "camvid": lambda: as_camvid(tmp_path),
        "voc2012": lambda: as_voc(tmp_path, VOC_IDS),
        "shapes": lambda: None,
        "edges": lambda: None,
    }
    dataset = open_dataset(name, makers[name](), "val", count=2)
    again: SegmentationDataset = pickle.loads(pickle.dumps(dataset))
    for image, label in (dataset[0], again[0], open_dataset(name, tmp_path, "val", count=2)[0]):
        assert image.shape == (3, *label.shape)
        assert (image.dtype, label.dtype) == (torch.uint8, torch.uint8)
        assert torch.equal(image, dataset[0][0])
        assert torch.equal(label, dataset[0][1])
    assert validate_dataset(again).shape == (len(dataset.classes),)
    assert dataset.palette.shape == (len(dataset.classes), 3)


def test_processes_load_what_one_process_does(tmp_path: Path) -> None:
    dataset = open_dataset("folder", put(tmp_path), "train")
    loaded = next(iter(DataLoader(dataset, batch_size=2, num_workers=1)))
    assert torch.equal(loaded[0], torch.stack([dataset[0][0], dataset[1][0]]))


def test_shapes_are_the_scenes_of_their_split() -> None:
    dataset = open_dataset("shapes", None, "val", count=3)
    assert dataset.classes == ("background", *CLASSES)
    for item, scene in zip(dataset, scenes(3, seed=1, colored=True), strict=True):  # type: ignore[call-overload]
        assert np.array_equal(item[0].numpy(), scene.image.transpose(2, 0, 1))
        assert np.array_equal(item[1].numpy(), scene.mask)


def test_the_splits_of_shapes_differ() -> None:
    first = [
        open_dataset("shapes", None, split, count=1)[0][0] for split in ("train", "val", "test")
    ]
    assert len({image.numpy().tobytes() for image in first}) == 3


def test_shapes_are_forty_to_test_with() -> None:
    assert len(open_dataset("shapes", None, "test")) == 40


@pytest.mark.parametrize("size", [(4, 4), (6, 8), (10, 4), (4, 12), (9, 13)])
def test_a_size_gives_the_middle_and_void_around_it(tmp_path: Path, size: tuple[int, int]) -> None:
    dataset = open_dataset("folder", put(tmp_path), "train")
    image, label = dataset[0]
    sized = open_dataset("folder", tmp_path, "train", size=size)[0]
    padded = torch.nn.functional.pad(image, (10, 10, 10, 10))
    void = torch.nn.functional.pad(label, (10, 10, 10, 10), value=IGNORED)
    top, left = 10 - (size[0] - 6) // 2, 10 - (size[1] - 8) // 2
    assert torch.equal(sized[0], padded[:, top : top + size[0], left : left + size[1]])
    assert torch.equal(sized[1], void[top : top + size[0], left : left + size[1]])


def test_a_count_gives_the_first_items(tmp_path: Path) -> None:
    put(tmp_path)
    assert open_dataset("folder", tmp_path, "train", count=1).names == ("a",)
    assert open_dataset("folder", tmp_path, "train", count=9).names == ("a", "b")


@pytest.mark.parametrize(
    "content",
    [encode(IDS), gray_png(IDS, 2), gray_png(IDS, 4), encode(IDS, "P", bits=2), PALETTE_PNG],
    ids=["gray", "2-bit gray", "4-bit gray", "2-bit palette", "palette"],
)
def test_ids_are_the_same_in_every_kind_of_label(tmp_path: Path, content: bytes) -> None:
    dataset = open_dataset("folder", put(tmp_path, {"labels/a.png": content}), "train")
    assert np.array_equal(dataset[0][1].numpy(), np.where(IDS == 3, IGNORED, IDS))


def test_one_bit_labels_are_zeros_and_ones(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "labels/a.png": encode(IDS == 1),
            "labels/b.png": gray_png((IDS & 1).astype(np.uint8), 1),
        },
    )
    dataset = open_dataset("folder", tmp_path, "train")
    assert np.array_equal(dataset[0][1].numpy(), IDS == 1)
    assert np.array_equal(dataset[1][1].numpy(), IDS & 1)


def test_an_image_is_turned_as_its_exif_data_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    put(tmp_path, {"images/b.jpg": encode(PHOTO, kind="JPEG", exif=exif)})
    (tmp_path / "labels/b.png").write_bytes(encode(IDS.T.copy(), "P"))
    assert open_dataset("folder", tmp_path, "val")[0][0].shape == (3, 8, 6)


@pytest.mark.parametrize(
    "pixels", [PHOTO[:, :, 0], np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])]
)
def test_gray_images_and_those_with_full_alpha_become_rgb(
    tmp_path: Path, pixels: NDArray[np.uint8]
) -> None:
    dataset = open_dataset("folder", put(tmp_path, {"images/a.png": encode(pixels)}), "train")
    expected = np.repeat(pixels[:, :, None], 3, 2) if pixels.ndim == 2 else PHOTO
    assert np.array_equal(dataset[0][0].numpy(), expected.transpose(2, 0, 1))


def test_endings_may_be_in_capitals_and_lists_may_have_windows_line_ends(tmp_path: Path) -> None:
    changes: dict[str, bytes | None] = {
        "images/b.jpg": None,
        "images/b.JPEG": FILES["images/b.jpg"],
        "train.txt": b"\xef\xbb\xbfa\r\n\r\nb\r\n",
    }
    dataset = open_dataset("folder", put(tmp_path, changes), "train")
    assert dataset.names == ("a", "b")
    assert validate_dataset(dataset).sum() == 72


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_is_found_from_any_of_its_folders(tmp_path: Path, below: str) -> None:
    dataset = open_dataset("voc2012", as_voc(tmp_path, VOC_IDS) / below, "val")
    assert len(dataset.classes) == 21
    assert validate_dataset(dataset)[[0, 1, 20]].tolist() == [12, 12, 12]


HUGE = gray_png(np.zeros((1, 1), np.uint8), 1).replace(
    struct.pack(">II", 1, 1), struct.pack(">II", 20_000, 5_000)
)
HUGE = HUGE[:29] + struct.pack(">I", zlib.crc32(HUGE[12:29])) + HUGE[33:]  # its checksum
A_LABEL, A_IMAGE = "labels/a.png", "images/a.png"
BAD: dict[str, tuple[dict[str, bytes | None], str]] = {
    "an id of no class": (
        {A_LABEL: encode(IDS + 10, "P")},
        r"labels/a\.png: label 10 is not one of 3 classes \(0 \.\. 2\) or void \(3\); convert .*$",
    ),
    "an id where there is no void": (
        {A_LABEL: encode(IDS | 252, "P"), **classes_json(ignore_index_in_files=None)},
        r"labels/a\.png: label 252 is not one of 3 classes .*, and there is no void; convert .*$",
    ),
    "a mask of 0 and 255": (
        {A_LABEL: encode((IDS == 1) * np.uint8(255)), **classes_json(ignore_index_in_files=None)},
        r"labels/a\.png: label 255 .*; if 255 is void, .* ignore_index_in_files .*, convert .*$",
    ),
    "a label of another size": (
        {A_LABEL: encode(IDS[:5], "P")},
        r"labels/a\.png: the label has 8 x 5 px, its image a\.png has 8 x 6 px$",
    ),
    "an RGB label": (
        {A_LABEL: encode(PHOTO)},
        r"labels/a\.png: expected class ids \(a palette or .*\), got RGB pixels; convert it$",
    ),
    "a label with alpha": (
        {A_LABEL: encode(np.dstack([IDS, IDS]))},
        r"labels/a\.png: expected class ids \(a palette or .*\), got LA pixels; convert it$",
    ),
    "a 16-bit label": (
        {A_LABEL: encode(IDS.astype(np.uint16))},
        r"labels/a\.png: expected class ids \(a palette or .*\), got 16-bit pixels; convert it$",
    ),
    "a JPEG as label": (
        {A_LABEL: encode(IDS, kind="JPEG")},
        r"labels/a\.png: expected a PNG file of class ids, got JPEG$",
    ),
    "a text as label": ({A_LABEL: b"hello"}, r"labels/a\.png: not a .* image: it is .*$"),
    "an empty label": ({A_LABEL: b""}, r"labels/a\.png: not a .* image: it is .*$"),
    "a truncated label": (
        {A_LABEL: PALETTE_PNG[:-20]},
        r"labels/a\.png: cannot be decoded: .*[Tt]runcated.*$",
    ),
    "a decompression bomb as label": (
        {A_LABEL: HUGE},
        r"labels/a\.png: \d+ x \d+ px are more than \d+ pixels .*$",
    ),
    "a decompression bomb as image": (
        {A_IMAGE: HUGE},
        r"images/a\.png: \d+ x \d+ px are more than \d+ pixels .*$",
    ),
    "a text as image": ({A_IMAGE: b"hello"}, r"images/a\.png: not a .* image: it is .*$"),
    "an empty image": ({A_IMAGE: b""}, r"images/a\.png: not a .* image: it is .*$"),
    "a truncated PNG": (
        {A_IMAGE: FILES[A_IMAGE][:-40]},
        r"images/a\.png: cannot be decoded: .*[Tt]runcated.*$",
    ),
    "a truncated JPEG": (
        {"images/b.jpg": FILES["images/b.jpg"][:-40]},
        r"images/b\.jpg: cannot be decoded: .*[Tt]runcated.*$",
    ),
    "a missing image": (
        {A_IMAGE: None},
        r"images/a\.jpg: no such file, nor \.jpeg, nor \.png, .*, but it is listed$",
    ),
    "a missing label": ({A_LABEL: None}, r"labels/a\.png: no such file, but it is listed$"),
    "a list with endings": (
        {"train.txt": b"a.png\nb.jpg\n"},
        r"images/a\.png\.jpg: .* listed: lists have names without endings, a instead of a\.png$",
    ),
    "an image of another format": (
        {A_IMAGE: None, "images/a.gif": b"GIF8"},
        r"images/a\.jpg: .*; there is a\.gif, which is not read: convert it to \.jpg or .*$",
    ),
    "a label of another format": (
        {A_LABEL: None, "labels/a.bmp": b"BM"},
        r"labels/a\.png: .*; there is a\.bmp, which is not read: convert it to \.png$",
    ),
    "a misspelt name": (
        {"train.txt": b"photo_01\n", "images/photo_1.png": encode(PHOTO)},
        r"images/photo_01\.jpg: .* listed; there is photo_1\.png$",
    ),
    "two images of one name": (
        {"images/a.jpg": FILES["images/b.jpg"]},
        r"images: a\.jpg and a\.png have the same name; keep one$",
    ),
    "no folder of labels": (
        {A_LABEL: None, "labels/b.png": None},
        r"labels: no such file or folder$",
    ),
    "only void": (
        {A_LABEL: encode(IDS * 0 + 3, "P"), "labels/b.png": encode(IDS * 0 + 3, "P")},
        r"^no pixel of train has a class: all labels are void$",
    ),
    "an empty list": ({"train.txt": b" \n"}, r"train\.txt: the list of images is empty$"),
    "a name twice": ({"train.txt": b"a\nb\na\n"}, r"train\.txt:3: duplicate image id a$"),
    "a name that leads away": (
        {"train.txt": b"a\n../b\n"},
        r"train\.txt:2: '\.\./b' is not an image id$",
    ),
    "a list that is not UTF-8": (
        {"train.txt": b"a\n\xff\n"},
        r"train\.txt:2: byte 0xff is not UTF-8 text$",
    ),
    "no description": (
        {"classes.json": None},
        r"classes\.json: no such file or folder; .* ids 0, 1, 2, 3$",
    ),
    "malformed JSON": ({"classes.json": b'{"classes": ['}, r"classes\.json: malformed JSON: .*$"),
    "JSON of great depth": (
        {"classes.json": b'{"x": ' + b"[" * 100_000},
        r"classes\.json: malformed JSON: .*$",
    ),
    "a list as description": ({"classes.json": b"[]"}, r"classes\.json: .+$"),
    "no classes": ({"classes.json": b"{}"}, r"classes\.json: .* missing required field `classes`$"),
    "a class that is no name": (
        classes_json(classes=["sky", 1]),
        r"classes\.json:classes\[1\]: .+$",
    ),
    "a class without a name": (
        classes_json(classes=["sky", ""]),
        r"classes\.json:classes\[1\]: .+$",
    ),
    "an empty list of classes": (
        classes_json(classes=[]),
        r"classes\.json:classes: .+$",
    ),
    "a class twice": (
        classes_json(classes=["sky", "road", "sky"]),
        r"classes\.json:classes: duplicate class sky$",
    ),
    "void that is a class": (
        classes_json(ignore_index_in_files=1),
        r"classes\.json:ignore_index_in_files: 1 is the class road, so it cannot be void$",
    ),
    "void beyond a byte": (
        classes_json(ignore_index_in_files=256),
        r"classes\.json:ignore_index_in_files: .+$",
    ),
    "too few colors": (
        classes_json(palette_rgb=[[0, 0, 0]]),
        r"classes\.json:palette_rgb: 1 colors for 3 classes; void may have one more$",
    ),
    "a color beyond a byte": (
        classes_json(palette_rgb=[[0, 0, 0], [0, -1, 0], [1, 1, 1]]),
        r"classes\.json:palette_rgb\[1\]\[1\]: .+$",
    ),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=list(BAD))
def test_one_line_names_the_file_and_what_is_wrong(
    tmp_path: Path, changes: dict[str, bytes | None], message: str
) -> None:
    put(tmp_path, changes)
    with pytest.raises(InputError, match=message) as caught:
        validate_dataset(open_dataset("folder", tmp_path, "train"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith((str(tmp_path), "no pixel"))


def test_a_broken_image_is_named_also_where_nothing_was_checked(tmp_path: Path) -> None:
    dataset = open_dataset("folder", put(tmp_path, {A_IMAGE: b"hello"}), "train")
    with pytest.raises(InputError, match=r"images/a\.png: not a .* image: .*$"):
        dataset[0]


@pytest.mark.parametrize("name", [A_IMAGE, A_LABEL])
def test_a_file_that_goes_away_is_named(tmp_path: Path, name: str) -> None:
    dataset = open_dataset("folder", put(tmp_path), "train")
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(name)}: no such file or folder$"):
        dataset[0]


def test_an_unknown_data_set_names_those_that_there_are() -> None:
    with pytest.raises(
        InputError, match=r"'city'; there are shapes, edges, camvid, voc2012, folder$"
    ):
        open_dataset("city", None, "train")


@pytest.mark.parametrize("name", ["folder", "camvid", "shapes", "edges"])
def test_an_unknown_split_names_those_that_there_are(tmp_path: Path, name: str) -> None:
    root = as_camvid(tmp_path) if name == "camvid" else put(tmp_path)
    with pytest.raises(InputError, match=r"no split called 'trian'; there are .*train.*") as caught:
        open_dataset(name, root, "trian")
    assert "NOTES" not in str(caught.value)
    assert "val" in str(caught.value)


def test_where_there_are_no_splits_and_too_few_images_the_error_says_so(tmp_path: Path) -> None:
    put(tmp_path, {"train.txt": None, "val.txt": None})
    with pytest.raises(InputError, match=r"2 images are too few to be split into train.*$"):
        open_dataset("folder", tmp_path, "train")


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"shapes", "edges"}))
@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "^root: expected the folder of the data set; only shapes and edges need none$"),
        ("missing", "missing: no such file or folder$"),
        ("train.txt", r"train\.txt: not a folder$"),
    ],
)
def test_a_root_that_is_no_folder_is_refused(
    tmp_path: Path, name: str, root: str | None, message: str
) -> None:
    put(tmp_path)
    with pytest.raises(InputError, match=message):
        open_dataset(name, root and tmp_path / root, "train")


def test_a_folder_without_voc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder ImageSets/Segmentation in it$"):
        open_dataset("voc2012", put(tmp_path), "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"count": 0}, "items must be at least 1, not 0"), ({"size": (0, 8)}, "1 x 1, not 0 x 8")],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset("shapes", None, "val", **options)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_spoilt_label_is_read_or_refused_and_never_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from([PALETTE_PNG, gray_png(IDS, 2)])))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "spoilt.png"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(InputError):
        assert datasets.read_label_ids(path).dtype == np.uint8


@pytest.mark.parametrize("name", [A_LABEL, A_IMAGE, "images/b.jpg"])
def test_a_file_that_was_cut_off_anywhere_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    dataset = open_dataset("folder", put(tmp_path), "train")
    for length in range(len(FILES[name]) - 4):  # the last 4 bytes are those of the end marker
        (tmp_path / name).write_bytes(FILES[name][:length])
        with pytest.raises(InputError, match=rf"{re.escape(name)}: [^\n]*$"):
            validate_dataset(dataset)


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101), ("test", 233)])
def test_camvid_has_the_images_of_its_split(real_data: Path, split: str, count: int) -> None:
    dataset = open_dataset("camvid", real_data / "camvid", split)
    assert len(dataset) == count
    assert len(dataset.classes) == 11
    for item in (0, count // 2, count - 1):
        image, label = dataset[item]
        assert image.shape == (3, 360, 480)
        assert set(np.unique(label).tolist()) <= {*range(11), IGNORED}


def test_camvid_is_sound_and_mostly_road_and_buildings(real_data: Path) -> None:
    dataset = open_dataset("camvid", real_data / "camvid", "val")
    counts = validate_dataset(dataset)
    share = dict(zip(dataset.classes, counts / counts.sum(), strict=True))
    assert 0.9 < counts.sum() / (len(dataset) * 360 * 480) <= 1
    assert sorted(share, key=share.__getitem__)[-2:] == ["Building", "Road"]
    assert 0.001 < min(share.values()) < 0.01  # poles and people are thin


@pytest.mark.parametrize(("split", "count"), [("train", 357), ("val", 44), ("test", 44)])
def test_a_users_own_folder_of_nuclei_is_sound(real_data: Path, split: str, count: int) -> None:
    dataset = open_dataset("folder", real_data / "dsb2018_nuclei", split)
    background, nucleus = validate_dataset(dataset)
    assert len(dataset) == count
    assert dataset.classes == ("background", "nucleus")
    assert 0.05 < nucleus / (background + nucleus) < 0.2
    assert {tuple(dataset[i][1].shape) for i in range(count)} <= {(256, 256), (256, 320)}


def test_the_page_names_every_data_set() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text("utf-8")
    assert [name for name in DATASETS if f"| `{name}` |" not in page] == []


def test_the_pages_example_runs_on_a_folder_of_its_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "datasets.md").read_text("utf-8")
    blocks = dict(re.findall(r"```(json|python)\n(.*?)```", page, re.DOTALL))
    labels = {A_LABEL: encode(IDS & 1), "labels/b.png": encode(IDS | 255)}
    put(tmp_path / "streets", {"classes.json": blocks["json"].encode(), **labels})
    monkeypatch.chdir(tmp_path)
    exec(blocks["python"], {})
    assert capsys.readouterr().out == "2 images\nroad 24\npavement 24\nsky 0\n"
