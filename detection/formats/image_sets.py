"""Lists of images: text files with an image id first on each line."""

from pathlib import Path

from upmap.detection.inputs import is_listing, open_input
from upmap.detection.tables import Catalog, ImageId, images_by_name
from upmap.errors import InputError, abbreviate_list

__all__ = ["read_image_list", "select_images"]


def read_image_list(path: Path) -> list[str]:
    """The image ids of a list file: the first word of each line, which names a file in a folder.

    Raises:
        InputError: If an id stands there twice or leads out of the folder, or there is none.
    """
    rows = _read_rows(path)
    for line, name in rows:
        if "/" in name or "\\" in name or "\0" in name:
            raise InputError(f"{name!r} is not an image id", path, str(line))
    _validate_unique(rows, [name for _, name in rows], path)
    return [name for _, name in rows]


def select_images(path: Path, catalog: Catalog) -> tuple[ImageId, ...]:
    """The images of `catalog` that a list file names, by id or by file name without its ending.

    Raises:
        InputError: If there is no such file, an image is unknown or stands there twice, or there
            is none.
    """
    if not is_listing(path):
        raise InputError("no such list of images", path)
    rows, place = _read_rows(path), images_by_name(catalog)
    if unknown := [(line, name) for line, name in rows if name not in place]:
        names = abbreviate_list([name for _, name in unknown])
        raise InputError(f"{len(unknown)} unknown images: {names}", path, str(unknown[0][0]))
    images = tuple(catalog.images[place[name]] for _, name in rows)
    _validate_unique(rows, images, path)
    return images


def _read_rows(path: Path) -> list[tuple[int, str]]:
    """The number and the first word of each line that is not blank."""
    lines = enumerate(open_input(path).text().splitlines(), start=1)
    rows = [(number, line.split()[0]) for number, line in lines if line.strip()]
    if not rows:
        raise InputError("the list of images is empty", path)
    return rows


def _validate_unique(
    rows: list[tuple[int, str]], images: list[str] | tuple[ImageId, ...], path: Path
) -> None:
    """Refuses a row whose image an earlier row has; `images` are those of `rows`."""
    seen: set[ImageId] = set()
    for (line, name), image in zip(rows, images, strict=True):
        if image in seen:
            raise InputError(f"duplicate image id {name}", path, str(line))
        seen.add(image)
