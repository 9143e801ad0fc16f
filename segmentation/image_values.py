"""The values of one decoded image file as 8 bits of red, green and blue, without silent loss.

Values are scaled by the bits that an image uses, an orientation in EXIF data is applied, and what
has no place in three channels (transparency, further pages) is refused with a way out.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upmap.errors import InputError

__all__ = [
    "find_bits",
    "look_up",
    "orient_pixels",
    "read_orientation",
    "refuse_lossy",
    "scale_to_bytes",
]

ORIENTATION = 0x0112  # EXIF 2.32, table 4; 1 to 8
PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # where PNG files have it
DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras, microscopes and X-ray detectors
OPAQUE = 255

AnyPixels = NDArray[np.uint8] | NDArray[np.uint16]


def find_bits(pixels: AnyPixels) -> int:
    """The bits that the values of an image use, of those that sensors have: 8, 10, 12, 14 or 16.

    >>> find_bits(np.array([0, 4095], np.uint16)), find_bits(np.array([4096], np.uint16))
    (12, 14)
    """
    largest = int(pixels.max(initial=0))
    return next(bits for bits in DEPTHS if largest < 2**bits)


def scale_to_bytes(pixels: AnyPixels) -> NDArray[np.uint8]:
    """Values of 8 bits, from 0 for 0 to 255 for the largest value of the bits that are used.

    Args:
        pixels: uint8 or uint16.

    >>> scale_to_bytes(np.array([0, 2048, 4095], np.uint16)).tolist()
    [0, 128, 255]
    """
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    largest = 2 ** find_bits(pixels) - 1
    table = (np.arange(largest + 1, dtype=np.int64) * 255 + largest // 2) // largest  # rounded
    scaled: NDArray[np.uint8] = table.astype(np.uint8)[pixels]
    return scaled


def look_up(values: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The entry of a table for each value: by OpenCV, four times as fast as `table[values]`.

    Args:
        values: uint8 [H, W].
        table: uint8 [256].

    >>> look_up(np.array([[0, 255]], np.uint8), np.arange(256, dtype=np.uint8)[::-1]).tolist()
    [[255, 0]]
    """
    import cv2

    entries = cv2.LUT(np.ascontiguousarray(values), np.ascontiguousarray(table))
    return np.asarray(entries, np.uint8)


def read_orientation(picture: Image.Image, data: bytes) -> int:
    """The orientation in the EXIF data of a picture, 1 to 8; 1, upright, where there is none.

    Args:
        picture: The picture, as Pillow opens it.
        data: The bytes of its file.
    """
    # Pillow would decode a whole PNG file to see whether EXIF data follow its pixels.
    if picture.format == "PNG" and not any(mark in data for mark in PNG_EXIF):
        return 1
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # malformed EXIF data raise almost anything, and viewers ignore them
        return 1
    return orientation if orientation in range(1, 9) else 1


def orient_pixels(pixels: AnyPixels, orientation: int) -> AnyPixels:
    """Pixels [H, W, ...] upright, as viewers show them.

    Args:
        pixels: As they are stored.
        orientation: 1 to 8, see EXIF 2.32.

    >>> orient_pixels(np.array([[1, 2, 3]], np.uint8), 6).tolist()
    [[1], [2], [3]]
    """
    if orientation >= 5:  # rows are columns
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def refuse_lossy(picture: Image.Image, path: Path) -> None:
    """Refuses what a red, green and blue image cannot hold.

    Args:
        picture: The picture, as Pillow opens it.
        path: The file, for errors.

    Raises:
        InputError: If it has several pages, or pixels that are not opaque; says what to do.
    """
    if (count := getattr(picture, "n_frames", 1)) > 1:
        message = f"{count} pages or frames, of which one would be used"
        raise InputError(f"{message}; save each as a file of its own", path)
    if _is_transparent(picture):
        message = "transparent pixels (alpha below 255), whose colors nobody sees"
        remedy = "put it on a background, as by `magick IN -background black -alpha remove OUT`"
        raise InputError(f"{message}; {remedy}", path)


def _is_transparent(picture: Image.Image) -> bool:
    """Whether a picture has a pixel whose alpha is not full."""
    if picture.mode.startswith("I"):  # 16-bit gray, one value of which may be transparent
        return bool((np.asarray(picture) == picture.info.get("transparency", -1)).any())
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return False
    lowest, _ = picture.convert("RGBA").getchannel("A").getextrema()
    return int(lowest) < OPAQUE  # type: ignore[arg-type]
