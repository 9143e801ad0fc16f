"""What text formats with a file of rows for each image share: their files, images and rows."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.checks import check_images
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.ids import find_images
from upmap.detection.inputs import Input, translate_errors
from upmap.detection.tables import Catalog
from upmap.errors import InputError
from upmap.kernels.text_rows.contract import RowLayout, TextRows

__all__ = [
    "PEEKED_BYTES",
    "RowFiles",
    "find_duplicates",
    "find_row_files",
    "match_rows",
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


def match_rows(
    names: Sequence[str],
    index: NDArray[np.int32],
    catalog: Catalog,
    options: ReadOptions,
    path: Path,
) -> NDArray[np.int32]:
    """The place of each row's image in the catalog, int32 [N]; -1 where it is not listed.

    Rows on images that are not listed are noted.

    Args:
        names: The names of images: paths without ending, with "/" between folders.
        index: int32 [N], the name of each row.
        catalog: The ground truth's images.
        options: `image_key` settles how names are read.
        path: The folder, for messages.

    Raises:
        InputError: If names can be read in two ways, two of them are one image, or no row is on a
            listed image.
    """
    places = find_images(list(names), catalog, image_key=options.image_key, usual=None, path=path)
    known = places[places >= 0]
    counts = np.bincount(known)
    if counts.max(initial=0) > 1:
        shared = catalog.images[int(np.argmax(counts))]
        raise InputError(f"two files are called like the image {shared!r}", path)
    image = places[index]
    if len(image) and image.min() < 0:
        unknown = [repr(names[k]) for k in np.unique(index[image < 0]).tolist()]
        check_images(image, unknown, catalog, path)
    return image


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
