"""Tests of folders as annotation tools write them: which files, which classes, which splits."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from upmap.errors import InputError, InputWarning
from upmap.metrics.semantic import IGNORED
from upmap.segmentation.datasets import SegmentationDataset, open_dataset, validate_dataset
from upmap.segmentation.folders.splits import draw_split

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (6, 8, 3), np.uint8)
CLASSES = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3  # K = 3
OBJECT = (CLASSES == 1).astype(np.uint8)
PALETTE = np.array([[0, 0, 0], [128, 64, 128], [70, 70, 70]], np.uint8)
NAMES = ["background", "road", "tree"]
STEMS = [f"im{i}" for i in range(10)]

pytestmark = pytest.mark.filterwarnings("ignore::upmap.errors.InputWarning")


def save(path: Path, pixels: NDArray[Any], **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)


def build(
    root: Path,
    label: NDArray[Any],
    *,
    image: str = "images/{}.png",
    place: str = "labels/{}.png",
    classes: list[str] | None = NAMES,
    stems: list[str] = STEMS,
    **description: Any,
) -> Path:
    for stem in stems:
        save(root / image.format(stem), PHOTO)
        save(root / place.format(stem), label)
    if classes is not None:
        (root / "classes.json").write_text(json.dumps({"classes": classes, **description}))
    return root


def first_label(root: Path, split: str = "train") -> NDArray[np.uint8]:
    return np.asarray(open_dataset("folder", root, split)[0][1].numpy())


def write_lists(root: Path, lines: list[str]) -> None:
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("white", [np.uint8(255), np.uint16(65535)])
def test_masks_of_black_and_white_have_two_classes(
    tmp_path: Path, lists: bool, white: np.integer[Any]
) -> None:
    build(tmp_path, OBJECT * white, classes=["sky", "cloud"])
    if lists:
        write_lists(tmp_path, STEMS)
    dataset = open_dataset("folder", tmp_path, "train")
    assert dataset.classes == ("sky", "cloud")
    assert np.array_equal(dataset[0][1].numpy(), OBJECT)


@pytest.mark.parametrize("is_color", [True, False])
def test_a_missing_description_is_suggested_and_can_be_used(tmp_path: Path, is_color: bool) -> None:
    build(tmp_path, PALETTE[CLASSES] if is_color else CLASSES, classes=None)
    with pytest.raises(InputError, match="it names the classes: ") as caught:
        open_dataset("folder", tmp_path, "train")
    text = str(caught.value)
    description = json.loads(text[text.index("{") : text.index("}") + 1])
    assert description["classes"] == ["background", "class1", "class2"]
    (tmp_path / "classes.json").write_text(json.dumps(description))
    label = first_label(tmp_path)
    if is_color:  # classes in the order of the colors
        label = np.array(description["palette_rgb"], np.uint8)[label]
    assert np.array_equal(label, PALETTE[CLASSES] if is_color else CLASSES)


def test_masks_of_black_and_white_need_no_classes_json(tmp_path: Path) -> None:
    dataset = open_dataset("folder", build(tmp_path, OBJECT * 255, classes=None), "val")
    assert dataset.classes == ("background", "object")
    assert np.array_equal(dataset[0][1].numpy(), OBJECT)


def test_255_that_classes_json_calls_void_stays_void(tmp_path: Path) -> None:
    build(tmp_path, OBJECT * 255, classes=["sky", "cloud"], ignore_index_in_files=255)
    assert np.array_equal(first_label(tmp_path), np.where(OBJECT, IGNORED, 0))


def test_colors_are_read_by_the_palette_of_classes_json(tmp_path: Path) -> None:
    void = [9, 9, 9]
    pixels = np.vstack([PALETTE, [void]]).astype(np.uint8)[np.where(CLASSES == 2, 3, CLASSES)]
    build(tmp_path, pixels, palette_rgb=[*PALETTE.tolist(), void])
    assert np.array_equal(first_label(tmp_path), np.where(CLASSES == 2, IGNORED, CLASSES))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\n{0}:{1},{2},{3}::\n"),
        ("class_dict.csv", "name,r,g,b\n{0}, {1}, {2}, {3}\n"),
        ("label_colors.txt", "{1} {2} {3}\t{0}\n"),
    ],
)
@pytest.mark.parametrize("classes", [None, NAMES[::-1]])
def test_colors_are_read_by_the_palette_file_of_a_tool(
    tmp_path: Path, name: str, content: str, classes: list[str] | None
) -> None:
    build(tmp_path, PALETTE[CLASSES], classes=classes)
    *header, row = content.splitlines()
    rows = [row.format(name, *color) for name, color in zip(NAMES, PALETTE.tolist(), strict=True)]
    (tmp_path / name).write_text("\n".join([*header, *rows]) + "\n")
    dataset = open_dataset("folder", tmp_path, "train")
    assert dataset.classes == tuple(classes or NAMES)
    assert np.array_equal(dataset.palette, PALETTE[::-1] if classes else PALETTE)
    assert np.array_equal(dataset[0][1].numpy(), 2 - CLASSES if classes else CLASSES)


def test_ids_in_files_maps_ids_of_any_size(tmp_path: Path) -> None:
    ids = np.array([26000, 7, 11], np.uint16)
    build(tmp_path, ids[CLASSES], ids_in_files=ids.tolist(), ignore_index_in_files=255)
    assert np.array_equal(first_label(tmp_path), CLASSES)


@pytest.mark.parametrize("lists", [True, False])
def test_ids_from_1_are_recognized(tmp_path: Path, lists: bool) -> None:
    build(tmp_path, CLASSES + 1)
    if lists:
        write_lists(tmp_path, STEMS)
    assert np.array_equal(first_label(tmp_path), CLASSES)


def test_0_may_be_void_where_ids_are_said_to_begin_with_1(tmp_path: Path) -> None:
    build(tmp_path, np.arange(48, dtype=np.uint8).reshape(6, 8) % 4, label_values="ids_from_1")
    description = json.loads((tmp_path / "classes.json").read_text())
    (tmp_path / "classes.json").write_text(json.dumps(description | {"ignore_index_in_files": 0}))
    expected = np.array([IGNORED, 0, 1, 2], np.uint8)[np.arange(48).reshape(6, 8) % 4]
    assert np.array_equal(first_label(tmp_path), expected)


def test_indices_of_a_palette_count_and_not_its_colors(tmp_path: Path) -> None:
    build(tmp_path, CLASSES, palette_rgb=PALETTE.tolist())
    for stem in STEMS:
        picture = Image.fromarray(CLASSES)
        picture.putpalette(PALETTE[[2, 0, 1]].tobytes())
        picture.save(tmp_path / f"labels/{stem}.png")
    assert np.array_equal(first_label(tmp_path), CLASSES)


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("{}.png", "{}_mask.png"),
        ("{}.jpg", "{}_gt.png"),
        ("{}_image.png", "{}_LABEL.png"),
        ("a/b/{}.png", "a/b/{}_seg.png"),
        ("images/{}.jpg", "masks/{}_mask.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("imgs/x/{}.png", "gt/x/{}.png"),
        (
            "leftImg8bit/train/aachen/{}_leftImg8bit.png",
            "gtFine/train/aachen/{}_gtFine_labelIds.png",
        ),
        ("train/images/{}.png", "train/labels/{}.png"),
        ("images/{}.tif", "labels/{}.tif"),
        ("images/{}.bmp", "labels/{}.bmp"),
        ("images/{}.webp", "labels/{}.png"),
        ("images/a name of {}.png", "labels/a name of {}.png"),
    ],
)
def test_images_and_labels_are_paired_by_the_conventions_of_tools(
    tmp_path: Path, image: str, place: str
) -> None:
    dataset = open_dataset("folder", build(tmp_path, CLASSES, image=image, place=place), "train")
    assert np.array_equal(dataset[0][1].numpy(), CLASSES)
    assert validate_dataset(dataset).sum() == 48 * len(dataset)
    if not image.endswith((".jpg", ".webp")):
        assert np.array_equal(dataset[0][0].numpy(), PHOTO.transpose(2, 0, 1))


def test_folders_name_the_splits(tmp_path: Path) -> None:
    for split, stems in (("train", STEMS[:5]), ("valid", STEMS[5:7]), ("testing", STEMS[7:])):
        where = {"image": f"{split}/images/{{}}.png", "place": f"{split}/masks/{{}}.png"}
        build(tmp_path, CLASSES, stems=stems, **where)
    names = [open_dataset("folder", tmp_path, split).names for split in ("train", "val", "test")]
    assert names[0] == tuple(f"train/{stem}" for stem in STEMS[:5])
    assert names[1] == tuple(f"valid/{stem}" for stem in STEMS[5:7])
    assert names[2] == tuple(f"testing/{stem}" for stem in STEMS[7:])


def test_a_split_that_is_drawn_divides_the_images_and_depends_on_the_seed(tmp_path: Path) -> None:
    build(tmp_path, CLASSES)
    drawn = {s: open_dataset("folder", tmp_path, s).names for s in ("train", "val", "test")}
    assert sorted(name for names in drawn.values() for name in names) == STEMS
    assert [len(names) for names in drawn.values()] == [6, 2, 2]
    assert drawn["val"] == open_dataset("folder", tmp_path, "val").names
    build(tmp_path, CLASSES, split_seed=1)
    assert open_dataset("folder", tmp_path, "val").names != drawn["val"]


@pytest.mark.parametrize("count", [3, 4, 7, 20, 1000])
def test_every_image_is_drawn_into_one_split(count: int) -> None:
    names = [f"n{i}" for i in range(count)]
    parts = draw_split(names, 5)
    assert sorted(name for part in parts.values() for name in part) == sorted(names)
    assert min(len(part) for part in parts.values()) >= 1
    assert abs(len(parts["val"]) - 0.15 * count) <= 1


@pytest.mark.parametrize("line", ["{}", "{}.png", "images/{}.png", "images\\{}.jpg"])
def test_lists_may_have_endings_and_folders(tmp_path: Path, line: str) -> None:
    build(
        tmp_path, OBJECT * 255, classes=["a", "b"], image="images/x/{}.png", place="masks/x/{}.png"
    )
    write_lists(tmp_path, [line.format(stem) for stem in STEMS[3:5]])
    assert open_dataset("folder", tmp_path, "train").names == ("x/im3", "x/im4")


def test_what_is_recognized_is_said_once(tmp_path: Path) -> None:
    build(tmp_path, OBJECT * 255, classes=["a", "b"], place="masks/{}.png")
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        for split in ("train", "val", "test"):
            open_dataset("folder", tmp_path, split)
    (note,) = notes
    assert isinstance(note.message, InputWarning)
    words = str(note.message)
    assert words.endswith("10 labels in masks, read as masks of 0 and 255; 2 classes: a, b")


def test_the_documented_layout_with_ids_is_read_without_a_word(tmp_path: Path) -> None:
    write_lists(build(tmp_path, CLASSES), STEMS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(first_label(tmp_path), CLASSES)


def jpeg(root: Path) -> None:
    build(root, CLASSES, image="images/{}.png", place="masks/{}.jpg")


def two_folders(root: Path) -> None:
    build(root, CLASSES)
    build(root, CLASSES, place="masks/{}.png")


def two_suffixes(root: Path) -> None:
    build(root, CLASSES, image="{}.png", place="{}_mask.png")
    build(root, CLASSES, image="{}.png", place="{}_gt.png")


def two_readings(root: Path) -> None:
    pixels = np.repeat(OBJECT[:, :, None] * 255, 3, axis=2)
    build(root, pixels, classes=["a", "b"], palette_rgb=[[255] * 3, [0] * 3])


def other_ids(root: Path) -> None:
    build(root, CLASSES + 7, place="masks/{}.png")


def other_colors(root: Path) -> None:
    build(root, PALETTE[CLASSES], place="masks/{}.png")


def no_classes(root: Path) -> None:
    build(root, CLASSES, place="masks/{}.png", classes=None)


def lonely(root: Path) -> None:
    build(root, CLASSES, place="masks/{}.png")
    (root / "masks/im3.png").unlink()


def photos(root: Path) -> None:
    many = np.arange(3 * 90 * 80, dtype=np.uint32).astype(np.uint8).reshape(80, 90, 3)
    many[..., 1] = np.arange(80)[:, None]
    many[..., 2] = np.arange(90)
    build(root, many, place="masks/{}.png")


def late(root: Path) -> None:
    build(root, OBJECT * 255, classes=["a", "b"], stems=[f"n{i:03d}" for i in range(100)])
    for path in (root / "labels").iterdir():
        if path.stem in {f"n00{i}" for i in (1, 2, 3, 5, 6, 7)}:  # every fourth is looked at
            save(path, OBJECT * 9)


def unlisted(root: Path) -> None:
    write_lists(build(root, CLASSES, place="masks/{}.png"), ["im1", "imm"])


def duplicate(root: Path) -> None:
    build(root, CLASSES, place="masks/{}.png")
    build(root, CLASSES, image="images/{}.bmp", place="masks/{}.png")


def partly_split(root: Path) -> None:
    build(root, CLASSES, image="images/train/{}.png", place="masks/train/{}.png")
    build(root, CLASSES, place="masks/{}.png", stems=["odd"])


def floating(root: Path) -> None:
    build(root, CLASSES, image="images/{}.tif", place="masks/{}.png")
    for stem in STEMS:
        save(root / f"images/{stem}.tif", np.zeros((6, 8), np.float32))


def two_pages(root: Path) -> None:
    build(root, CLASSES, image="images/{}.tif", place="masks/{}.png")
    page = Image.fromarray(PHOTO)
    for stem in STEMS:
        page.save(root / f"images/{stem}.tif", save_all=True, append_images=[page])


def turned(root: Path) -> None:
    build(root, CLASSES, image="images/{}.tif", place="masks/{}.png")
    for stem in STEMS:
        Image.fromarray(PHOTO).save(root / f"images/{stem}.tif", tiffinfo={274: 6})


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "labels of JPEG": (jpeg, r"JPEG changes the values of pixels.*; save labels as PNG$"),
    "two folders": (two_folders, r"choose in classes\.json: .*\"label_folder\": \"masks\"$"),
    "two suffixes": (two_suffixes, r"could be any of 2; .*\"label_suffix\": \"_gt\"$"),
    "two readings": (two_readings, r"several ways; .*\"binary\" .*\"colors\" .*$"),
    "other ids": (other_ids, r"labels have value 7, value 8, value 9, .*ids_in_files.*$"),
    "other colors": (other_colors, r"labels have color #000000, .*palette_rgb .*$"),
    "no classes": (no_classes, r"classes\.json: no such file or folder; .* ids 0, 1, 2$"),
    "no label": (lonely, r"1 images have no label: im3\.png; remove them, .*$"),
    "photos as labels": (photos, r"has the colors of a photo, not those of classes$"),
    "a late value": (late, r"n00\d\.png: value 9 \(row 0, column 1\) is no class: .*255$"),
    "an unknown name": (unlisted, r"train\.txt:2: no image with a label is called 'imm'$"),
    "two images of one name": (duplicate, r"im0\.bmp and .*im0\.png have the same name; keep.*$"),
    "splits of some": (partly_split, r"the split of some images, but not of odd; .*$"),
    "floating point": (floating, r"floating point\); convert them to 8 or 16 bits$"),
    "two pages": (two_pages, r"several pages or frames; save the one that counts alone$"),
    "turned": (turned, r"turned by its orientation=6; save it upright$"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=list(BAD))
def test_what_cannot_be_read_names_cause_and_remedy(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        validate_dataset(open_dataset("folder", tmp_path, "train"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("spoil", "choice", "expected"),
    [
        (two_folders, {"label_folder": "masks"}, CLASSES),
        (two_suffixes, {"label_suffix": "_gt"}, CLASSES),
        (two_readings, {"label_values": "binary"}, OBJECT),
        (two_readings, {"label_values": "colors"}, 1 - OBJECT),
        (other_ids, {"ids_in_files": [7, 8, 9]}, CLASSES),
        (other_colors, {"palette_rgb": PALETTE.tolist()}, CLASSES),
    ],
)
def test_what_a_message_asks_for_chooses(
    tmp_path: Path,
    spoil: Callable[[Path], None],
    choice: dict[str, Any],
    expected: NDArray[np.uint8],
) -> None:
    spoil(tmp_path)
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | choice))
    assert np.array_equal(first_label(tmp_path), expected)


def test_items_are_pickled_for_processes_that_load_them(tmp_path: Path) -> None:
    import pickle

    dataset = open_dataset("folder", build(tmp_path, OBJECT * 255, classes=["a", "b"]), "train")
    again: SegmentationDataset = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(again[0][1].numpy(), OBJECT)
