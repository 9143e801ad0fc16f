"""Attributes of images from a CSV file: `image` and a column for each attribute."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from upmap.detection.tables import Catalog, images_by_name
from upmap.errors import InputError
from upmap.files import read_text

__all__ = ["MAX_VALUES", "bin_values", "read_attributes", "read_columns"]

MAX_VALUES = 20  # different values of an attribute, beyond which numbers are binned
BINS = 4


def read_attributes(path: Path, catalog: Catalog) -> dict[str, list[str | None]]:
    """Reads attributes of images.

    The first row names the columns, one of them `image`: ids, or names of files without folder and
    ending. Images that the file does not list, and empty cells, have no value. Numbers of more than
    MAX_VALUES different values are divided into quarters of the images.

    Args:
        path: A CSV file, UTF-8.
        catalog: The images.

    Returns:
        Attribute to the value of each image of the catalog.

    Raises:
        InputError: See `read_columns`; or if text has more than MAX_VALUES different values.
    """
    columns = read_columns(path, catalog)
    return {name: _bin_column(name, values, path) for name, values in columns.items()}


def read_columns(
    path: Path, catalog: Catalog, *, allow_others: bool = False
) -> dict[str, list[str | None]]:
    """The columns of a CSV file of images as they stand, without `image`.

    Args:
        path: See `read_attributes`.
        catalog: The images.
        allow_others: Whether rows of images that the catalog does not have are passed over.

    Raises:
        InputError: If a row has another number of cells than the first, or an image is unknown or
            stands twice; names the line.
    """
    rows = _read_rows(path)
    _, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    if "image" not in names or len(names) < 2 or len(set(names)) < len(names) or "" in names:
        expected = "different columns, one of them `image` and at least one other"
        raise InputError(f"expected {expected}, got {', '.join(names)!r}", path, "1")
    places, key = images_by_name(catalog), names.index("image")
    columns: dict[str, list[str | None]] = {
        name: [None] * len(catalog.images) for name in names if name != "image"
    }
    seen: set[int] = set()
    for line, cells in rows:
        if len(cells) != len(names):
            message = f"expected {len(names)} cells, got {len(cells)}"
            raise InputError(message, path, str(line))
        place = _find_image(cells[key].strip(), places)
        if place is None:
            if allow_others:
                continue
            raise InputError(
                f"no image {cells[key].strip()!r} in the ground truth", path, str(line)
            )
        if place in seen:
            raise InputError(f"image {cells[key].strip()!r} stands twice", path, str(line))
        seen.add(place)
        for name, cell in zip(names, cells, strict=True):
            if name != "image":
                columns[name][place] = cell.strip() or None
    return columns


def bin_values(values: Sequence[str | None]) -> list[str | None] | None:
    """Numbers in words of their quarter, as "2: (0.5, 7]"; None where a value is no number.

    >>> bin_values(["1", "2", None, "3", "4"])
    ['1: [1, 1.75]', '2: (1.75, 2.5]', None, '3: (2.5, 3.25]', '4: (3.25, 4]']
    """
    try:
        numbers = np.array([float(value) for value in values if value is not None])
    except ValueError:
        return None
    if not np.isfinite(numbers).all():
        return None
    limits = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)))
    texts = [f"{limit:g}" for limit in limits]
    words: list[str | None] = []
    for value in values:
        if value is None:
            words.append(None)
            continue
        b = max(1, int(np.searchsorted(limits, float(value), side="left")))
        words.append(
            f"{b}: {'[' if b == 1 else '('}{texts[b - 1]}, {texts[min(b, len(limits) - 1)]}]"
        )
    return words


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each row that is not blank."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"not CSV: {error}", path, str(reader.line_num)) from None


def _find_image(name: str, places: dict[str, int]) -> int | None:
    stem = name.rpartition("/")[2].rpartition(".")[0]
    return places.get(name, places.get(stem))


def _bin_column(name: str, values: list[str | None], path: Path) -> list[str | None]:
    """The values as they stand, or binned if they are too many."""
    different = {value for value in values if value is not None}
    if len(different) <= MAX_VALUES:
        return values
    binned = bin_values(values)
    if binned is None:
        message = f"column {name!r} has {len(different)} different values"
        raise InputError(f"{message}; expected numbers, or at most {MAX_VALUES}", path)
    return binned
