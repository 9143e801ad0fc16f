"""What text formats with a file of rows for each image share: their files, images and rows."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.checks import note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import Input, translate_errors
from upmap.detection.tables import Catalog, image_names
from upmap.errors import InputError, abbreviate_list
from upmap.kernels.text_rows.contract import RowLayout, TextRows

__all__ = [
    "RowFiles",
    "find_duplicates",
    "find_row_files",
    "match_images",
    "name_images",
    "peek_rows",
    "read_row_files",
    "refuse_rows",
]

NOT_ROWS = frozenset(
    ["classes.txt", "readme.dataset.txt", "readme.roboflow.txt", "readme.txt", "requirements.txt"]
)
PEEKED_FILES = 16  # looked into to recognize a format
PEEKED_BYTES = 4096  # of each
Words = list[bytes]


@dataclass(frozen=True, slots=True)
class RowFiles:
    """Files of rows, one for each image.

    Attributes:
        names: The files' paths below the folder without their ending; their images' names.
        paths: The files.
    """

    names: list[str]
    paths: list[str]


def find_row_files(folder: Path) -> RowFiles:
    """The .txt files in a folder and below, in order, without lists of classes and READMEs."""
    files = list(_walk_row_files(folder))
    return RowFiles([name for name, _ in files], [path for _, path in files])


def _walk_row_files(folder: Path) -> Iterator[tuple[str, str]]:
    """The name and the path of each file that `find_row_files` lists."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        relative = Path(root).relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        for name in sorted(files):
            if name.endswith(".txt") and name.lower() not in NOT_ROWS:
                yield f"{prefix}{name[:-4]}", f"{root}/{name}"


def peek_rows(source: Input) -> list[Words]:
    """The words of the first rows of some files of a folder; none if it has no such files.

    Reads the beginnings of a few files only.
    """
    rows: list[Words] = []
    if not source.is_folder():
        return rows
    try:
        for _, path in islice(_walk_row_files(source.path), PEEKED_FILES * 16):
            if len(rows) >= PEEKED_FILES:
                break
            if not os.path.isfile(path):  # noqa: PTH113
                continue
            with Path(path).open("rb") as file:
                lines = file.read(PEEKED_BYTES).removeprefix(b"\xef\xbb\xbf").splitlines()
            rows += [line.split() for line in lines[:4] if line.strip()]
    except OSError:
        return []
    return rows


def read_row_files(
    files: RowFiles, options: ReadOptions, folder: Path, layout: RowLayout | None = None
) -> TextRows:
    """The rows of all files.

    Raises:
        InputError: If a file cannot be read or a word is no number; names the file and the line.
    """
    from upmap.kernels.text_rows import read_text_rows

    with translate_errors(folder):
        return read_text_rows(files.paths, layout=layout, threads=options.threads)


def refuse_rows(
    files: RowFiles, rows: TextRows, is_wrong: NDArray[np.bool_], message: Callable[[int], str]
) -> None:
    """Refuses the first row that is wrong.

    Args:
        files: The files.
        rows: Their rows, N.
        is_wrong: bool [N].
        message: Says what is wrong with a row.

    Raises:
        InputError: If there is one; names the file and the line.
    """
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise InputError(message(row), files.paths[rows.file[row]], str(rows.line[row]))


def match_images(
    names: Sequence[str], catalog: Catalog, options: ReadOptions, path: Path
) -> NDArray[np.int32]:
    """The place of each name in the catalog's images, int32; -1 where it names none.

    Names are ids of images, or the stems of their files' names: one reading for all of them. Names
    of images that are not in the catalog are counted and noted.

    Args:
        names: Paths without ending, with "/" between folders.
        catalog: The ground truth's images.
        options: `image_key` settles the reading.
        path: The folder, for messages.

    Raises:
        InputError: If both readings fit and differ, or none does.
    """
    readings = {"id": _places_by_id(names, catalog), "stem": _places_by_stem(names, catalog)}
    if options.image_key is not None:
        places = readings["id" if options.image_key == "id" else "stem"]
    else:
        places = _select_reading(readings, path)
    known = places[places >= 0]
    if len(np.unique(known)) < len(known):
        shared = catalog.images[int(np.argmax(np.bincount(known)))]
        raise InputError(f"two files are called like the image {shared!r}", path)
    unknown = [names[i] for i in np.flatnonzero(places < 0).tolist()]
    if len(unknown) == len(names) and names:
        examples = abbreviate_list([repr(image) for image in catalog.images], 3)
        message = f"none of {len(names)} files is called like an image; {unknown[0]!r} is the first"
        raise InputError(f"{message}, the images are {examples}", path)
    if unknown:
        message = f"{len(unknown)} of {len(names)} files are left out: no such images"
        note(
            "unknown-image",
            len(unknown),
            path,
            f"{message}: {abbreviate_list(unknown)}",
            unknown[:5],
        )
    return places


def name_images(files: RowFiles, path: Path) -> tuple[RowFiles, tuple[str, ...]]:
    """Files in the order of the images that they are of, and these images.

    An image is called like its file, without folders if the names differ all the same.

    Raises:
        InputError: If there are no files.
    """
    if not files.paths:
        raise InputError("there are no .txt files in this folder", path)
    stems = [name.rpartition("/")[2] for name in files.names]
    names = stems if len(set(stems)) == len(stems) else files.names
    order = sorted(range(len(names)), key=names.__getitem__)
    images = tuple(names[i] for i in order)
    return RowFiles(list(images), [files.paths[i] for i in order]), images


def find_duplicates(columns: Sequence[NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Which rows repeat an earlier row exactly, bool [N].

    Args:
        columns: Arrays [N] of 4 or 8 bytes an element.
    """
    count = len(columns[0])
    mixed = np.zeros(count, np.uint64)
    for column in columns:
        bits = np.ascontiguousarray(column).view(f"u{column.dtype.itemsize}")
        mixed = (mixed ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    is_repeated = np.zeros(count, bool)
    order = np.argsort(mixed, kind="stable")
    same = np.flatnonzero(np.diff(mixed[order].view(np.int64)) == 0) + 1
    if not len(same):
        return is_repeated
    # Equal mixtures are equal rows, but for accidents.
    before, after = order[same - 1], order[same]
    are_equal = np.all([column[before] == column[after] for column in columns], axis=0)
    is_repeated[after[are_equal]] = True
    return is_repeated


def _places_by_id(names: Sequence[str], catalog: Catalog) -> NDArray[np.int32]:
    """By ids; those that are integers may be written with leading zeros."""
    place = {str(image): i for i, image in enumerate(catalog.images)}
    is_text = not catalog.images or isinstance(catalog.images[0], str)
    keys = [name.rpartition("/")[2] for name in names]
    if not is_text:
        keys = [key.lstrip("0") or "0" if key.isdecimal() else key for key in keys]
    whole = [place.get(name, -1) for name in names]
    return np.array(
        [i if i >= 0 else place.get(key, -1) for i, key in zip(whole, keys, strict=True)], np.int32
    )


def _places_by_stem(names: Sequence[str], catalog: Catalog) -> NDArray[np.int32]:
    """By the stems of file names, where no two images share one."""
    stems = image_names(catalog)
    place: dict[str, int] = {}
    for i, stem in enumerate(stems):
        place[stem] = -1 if stem in place else i
    keys = [name.rpartition("/")[2] for name in names]
    return np.array([place.get(key, -1) for key in keys], np.int32)


def _select_reading(readings: dict[str, NDArray[np.int32]], path: Path) -> NDArray[np.int32]:
    """The reading that fits all names, or else the only one that fits any."""
    by_id, by_stem = readings["id"], readings["stem"]
    if np.array_equal(by_id, by_stem):
        return by_id
    for fits in (np.all, np.any):
        fitting = [places for places in (by_id, by_stem) if fits(places >= 0)]
        if len(fitting) == 1:
            return fitting[0]
        if len(fitting) == 2:
            message = "file names can be read as ids of images and as stems of their files' names"
            raise InputError(f"{message}, which differ; --image-key id or stem settles it", path)
    return by_id
