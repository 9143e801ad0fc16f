"""Small copies of images as data URLs."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from upmap.detection.formats.image_sizes import find_image_files
from upmap.detection.tables import Catalog, ImageId, image_names

__all__ = ["make_thumbnails"]

SIDE, QUALITY = 320, 70  # px of the longer side; of JPEG


def make_thumbnails(folder: Path, catalog: Catalog, images: Sequence[ImageId]) -> list[str | None]:
    """A JPEG of each image as a data URL; None where its file is not there or cannot be read.

    Args:
        folder: The folder of the image files, with those below.
        catalog: The images, and their files' names.
        images: Ids of some of them.
    """
    files = find_image_files(folder)
    files |= {name.rpartition("/")[2]: path for name, path in files.items()}
    names = dict(zip(catalog.images, image_names(catalog), strict=True))
    paths = [files.get(names[image]) for image in images]
    return [None if path is None else _encode(path) for path in paths]


def _encode(path: str) -> str | None:
    from PIL import Image, ImageOps

    if not Path(path).is_file():  # opening a pipe would wait
        return None
    try:
        with Image.open(path) as image:
            image.draft("RGB", (SIDE, SIDE))  # JPEG is decoded no larger than needed
            upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail((SIDE, SIDE))
            stream = io.BytesIO()
            upright.save(stream, "JPEG", quality=QUALITY)
    except Exception:  # Pillow's parsers raise whatever they stumble over; the boxes remain
        return None
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
