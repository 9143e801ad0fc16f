"""Tests of reading image and label files: nothing is lost, turned or recolored in silence."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from upmap.errors import InputError, InputWarning
from upmap.segmentation.datasets import open_dataset, read_image, validate_dataset

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (6, 8, 3), np.uint8)  # H, W, RGB
IDS = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
CLASS_NAMES = ["sky", "road", "tree"]
A_LABEL, A_IMAGE = "labels/a.png", "images/a.png"


def encode(pixels: NDArray[Any], kind: str = "PNG", **more: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **more)
    return file.getvalue()


def colored(ids: NDArray[np.uint8], colors: list[list[int]], **more: Any) -> bytes:
    picture = Image.fromarray(ids)
    picture.putpalette([value for color in colors for value in color])
    file = BytesIO()
    picture.save(file, "PNG", **more)
    return file.getvalue()


def put(folder: Path, changes: dict[str, bytes | None], **description: Any) -> Path:
    files: dict[str, bytes | None] = {
        "classes.json": json.dumps({"classes": CLASS_NAMES, **description}).encode(),
        "train.txt": b"a\nb\n",
        A_IMAGE: encode(PHOTO),
        "images/b.jpg": encode(PHOTO, "JPEG"),
        A_LABEL: colored(IDS, COLORS),
        "labels/b.png": colored(IDS, COLORS),
    }
    for name, content in {**files, **changes}.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder


def test_the_background_color_of_an_opaque_palette_is_no_transparency(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(colored(IDS, COLORS, transparency=200))  # an index that no pixel has
    assert read_image(path).shape == (6, 8, 3)


def transparent_images() -> dict[str, bytes]:
    gray, alpha = PHOTO[:, :, 0], np.full(PHOTO.shape[:2], 255, np.uint8)
    alpha[2, 3] = 254
    return {
        "RGBA": encode(np.dstack([PHOTO, alpha])),
        "gray and alpha": encode(np.dstack([gray, alpha])),
        "a transparent index": colored(IDS, COLORS, transparency=1),
        "a transparent color": encode(PHOTO, transparency=tuple(PHOTO[0, 0].tolist())),
        "a transparent gray": encode(gray, transparency=int(gray[0, 0])),
        "a transparent 16-bit gray": encode(IDS.astype(np.uint16) * 999, transparency=1998),
    }


@pytest.mark.parametrize("kind", transparent_images())
def test_hidden_colors_of_transparent_pixels_are_refused_with_a_way_out(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(transparent_images()[kind])
    with pytest.raises(InputError, match=r"a\.png: transparent pixels .alpha.*background"):
        read_image(path)


def test_an_image_of_several_frames_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"a\.png: 2 pages or frames.*a file of its own"):
        read_image(path)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_images_are_scaled_by_the_bits_that_they_use(
    bits: int, channels: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (40, 48, channels)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), values[:, :, ::-1])
    pixels = read_image(path)
    exact = values * (255 / (2**bits - 1))
    assert pixels.shape == (40, 48, 3)
    assert np.abs(pixels - exact).max() <= 0.5  # rounded
    assert len(np.unique(pixels)) > 200


def test_scaled_bits_are_said_and_more_so_if_they_differ(tmp_path: Path) -> None:
    dark, bright = (np.full((6, 8), value, np.uint16) for value in (900, 60_000))
    put(tmp_path, {"images/a.png": encode(dark), "images/b.png": encode(bright),
                   "images/b.jpg": None})  # fmt: skip
    with pytest.warns(InputWarning, match="10 bits .a.png.*16 bits .b.png.*brightness") as caught:
        validate_dataset(open_dataset("folder", tmp_path, "train"))
    (note,) = [warning.message for warning in caught if isinstance(warning.message, InputWarning)]
    assert (note.kind, note.count) == ("scaled-bits", 2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a"
    path.write_bytes(encode(PHOTO, kind, exif=exif))
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    # Decoders of JPEG may round differently.
    assert np.abs(read_image(path).astype(int) - expected).max() <= (8 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_turn_that_the_size_does_not_show_is_said(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(tmp_path, {"images/b.jpg": encode(PHOTO, "JPEG", exif=exif)})
    with pytest.warns(InputWarning, match=r"train: turned as their EXIF data say: b\.jpg; .*label"):
        validate_dataset(open_dataset("folder", tmp_path, "train"))


def test_a_label_that_was_not_turned_with_its_image_names_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path, {"images/b.jpg": encode(PHOTO, "JPEG", exif=exif)})
    with pytest.raises(InputError, match=r"b\.png: the label has .*orientation=6.*exiftool"):
        validate_dataset(open_dataset("folder", tmp_path, "train"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_label_is_turned_by_the_rule_of_its_image(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(tmp_path, {A_LABEL: colored(IDS, COLORS, exif=exif), A_IMAGE: encode(PHOTO, exif=exif)})
    image, label = open_dataset("folder", tmp_path, "train")[0]
    expected = ImageOps.exif_transpose(Image.open(tmp_path / A_LABEL))
    assert np.array_equal(label.numpy() == 1, np.asarray(expected) == 1)
    assert image.shape[1:] == label.shape


def test_a_palette_that_shows_an_id_as_another_class_is_refused(tmp_path: Path) -> None:
    swapped = [COLORS[1], COLORS[0], COLORS[2]]
    put(tmp_path, {A_LABEL: colored(IDS, swapped)}, palette_rgb=COLORS)
    with pytest.raises(InputError, match=r"a\.png: id 0 .sky. is shown in #00ff00, the color of"):
        validate_dataset(open_dataset("folder", tmp_path, "train"))


def test_palettes_that_were_chosen_file_by_file_are_refused(tmp_path: Path) -> None:
    other = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    put(tmp_path, {A_LABEL: colored(IDS, COLORS), "labels/b.png": colored(IDS, other)})
    with pytest.raises(InputError, match=r"b\.png: id 0 .* but in #ff0000 in a\.png.*one palette"):
        validate_dataset(open_dataset("folder", tmp_path, "train"))


def test_palettes_of_the_colors_of_the_classes_or_of_none_are_read(tmp_path: Path) -> None:
    ramp = [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    permuted = [[2, 2, 2], [0, 0, 0], [9, 9, 9]]
    for colors, description in (
        (COLORS, {"palette_rgb": COLORS}),
        (COLORS, {}),
        (ramp, {"palette_rgb": permuted}),
    ):
        files: dict[str, bytes | None] = {
            name: colored(IDS, colors) for name in (A_LABEL, "labels/b.png")
        }
        put(tmp_path, files, **description)
        assert validate_dataset(open_dataset("folder", tmp_path, "train")).sum() == 2 * IDS.size


def test_palettes_of_other_colors_than_the_classes_are_said(tmp_path: Path) -> None:
    put(tmp_path, {}, palette_rgb=[[9, 9, 9], [0, 255, 0], [7, 7, 7]])
    message = r"id 0 .sky. in #ff0000 instead of #090909, id 2 .tree. .*ids count, not their colors"
    with pytest.warns(InputWarning, match=message):
        validate_dataset(open_dataset("folder", tmp_path, "train"))


def test_a_transparent_background_of_a_label_is_no_matter(tmp_path: Path) -> None:
    put(tmp_path, {A_LABEL: colored(IDS, COLORS, transparency=0)})
    label = open_dataset("folder", tmp_path, "train")[0][1]
    assert np.array_equal(label.numpy(), IDS)


@pytest.mark.parametrize("names", ["my photo\n", "my photo\nmy other photo\n"])
def test_names_with_blanks_are_explained(names: str, tmp_path: Path) -> None:
    put(tmp_path, {"train.txt": names.encode(), "images/my photo.png": encode(PHOTO)})
    with pytest.raises(InputError, match="rename files so that their names have no blanks"):
        open_dataset("folder", tmp_path, "train")
