"""Lists of images: text files with an image id first on each line."""

from pathlib import Path

from upmap.detection.ids import ImageKey, find_images, find_unknown, strip_name
from upmap.detection.inputs import is_listing, open_input
from upmap.detection.tables import Catalog, ImageId
from upmap.errors import InputError, abbreviate_list

__all__ = ["read_image_list", "select_images"]


def read_image_list(path: Path, folder: Path | None = None) -> list[str]:
    """The image ids of a list file: the first word of each line, which names an XML file.

    Where lines have folders or endings of image files, the ids are the names without them, unless
    the folder has a file for each name as it is.

    Args:
        path: The list.
        folder: The folder of <id>.xml; None where names are ids as they are.

    Raises:
        InputError: If an id occurs twice or leads out of the folder, or there is none.
    """
    rows = _read_rows(path)
    stripped = [strip_name(name) for _, name in rows]
    names = [name for _, name in rows]
    if folder is not None and names != stripped:
        are_ids = all(map(_is_plain, names)) and all(
            (folder / f"{name}.xml").exists() for name in names
        )
        names = names if are_ids else stripped
    for (line, name), image in zip(rows, names, strict=True):
        if not _is_plain(image) or "\0" in name:
            raise InputError(f"{name!r} is not an image id", path, str(line))
    _validate_unique(rows, names, path)
    return names


def select_images(
    path: Path, catalog: Catalog, image_key: ImageKey | None = None
) -> tuple[ImageId, ...]:
    """The images of `catalog` that a list file names, all by id, by stem or by file name.

    Raises:
        InputError: If there is no such file, an image is unknown or occurs twice, there is none,
            or the names can be read in two ways.
    """
    if not is_listing(path):
        raise InputError("no such list of images", path)
    rows = _read_rows(path)
    places = find_images([name for _, name in rows], catalog, image_key=image_key, path=path)
    if unknown := find_unknown([name for _, name in rows], places):
        names = abbreviate_list([name for name in unknown.names])
        line = str(rows[int(unknown.rows[0])][0])
        raise InputError(f"{len(unknown.rows)} unknown images: {names}", path, line)
    images = tuple(catalog.images[place] for place in places.tolist())
    _validate_unique(rows, images, path)
    return images


def _is_plain(name: str) -> bool:
    return bool(name) and not any(c in name for c in "/\\\0")


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
