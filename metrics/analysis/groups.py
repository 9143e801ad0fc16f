"""Groups of images that are alike: frames of a video, images of a scene or a patient.

Images of a group are no independent samples: an interval that takes them as such is too short.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from upmap.detection.formats.checks import note
from upmap.detection.tables import Catalog
from upmap.errors import InputError, abbreviate_list
from upmap.files import is_file

__all__ = ["find_frames", "group_by_pattern", "note_frames", "read_groups", "select_groups"]

MIN_RUN = 8  # names in a row, the number in each as much larger: by chance in one name of thirty
MIN_SHARE = 0.2  # of names in such runs, from which on they look like frames
DIGITS = "0123456789"
EXPORTED = re.compile(r"_(?:jpe?g|png)\.rf\.[0-9a-zA-Z]+$")  # what Roboflow appends to a name


def select_groups(text: str, catalog: Catalog) -> dict[Any, Hashable]:
    """For each image id its group, as the option --groups says it.

    Args:
        text: The path of a file, see `read_groups`; else a regular expression, see
            `group_by_pattern`, for the images' file names, or their ids where they have none.
        catalog: The images.

    Raises:
        InputError: If the file is wrong, or the pattern is none or is not in a name.
    """
    if is_file(Path(text)):
        return read_groups(Path(text), catalog)
    names = catalog.file_names or tuple(map(str, catalog.images))
    try:
        groups = group_by_pattern(names, text)
    except ValueError as error:
        raise InputError(f"{error}, and there is no such file", "--groups") from None
    return {
        image: groups[name][0] if len(groups[name]) == 1 else groups[name]
        for image, name in zip(catalog.images, names, strict=True)
    }


def read_groups(path: Path, catalog: Catalog) -> dict[Any, Hashable]:
    """For each image id its group, from a CSV file.

    Args:
        path: A CSV file with the columns `image` (ids, or names of files without folder and ending)
            and `group`, a row for each image and maybe for others; instead of `group`, the only
            other column.
        catalog: The images.

    Raises:
        InputError: If the file is malformed, has no column of groups, or an image has no group.
    """
    from upmap.metrics.analysis.attributes import read_columns

    columns = read_columns(path, catalog, allow_others=True)
    if "group" not in columns and len(columns) > 1:
        raise InputError(f"expected a column `group`, got {', '.join(columns)!r}", path, "1")
    values = columns.get("group", next(iter(columns.values())))
    without = [str(image) for image, value in zip(catalog.images, values, strict=True) if not value]
    if without:
        raise InputError(f"no group for {len(without)} images: {abbreviate_list(without)}", path)
    return dict(zip(catalog.images, values, strict=True))


def group_by_pattern(images: Iterable[object], pattern: str) -> dict[Any, tuple[str | None, ...]]:
    """For each image id its group: what a regular expression matches in it.

    Args:
        images: Ids, or names.
        pattern: Searched in each; the group is what its parentheses match, else the whole match.

    Raises:
        ValueError: If the pattern is not a regular expression, or is not in an image's id.

    >>> group_by_pattern(["a_001", "a_002", "b_001"], r"^(.*)_")
    {'a_001': ('a',), 'a_002': ('a',), 'b_001': ('b',)}
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    groups: dict[Any, tuple[str | None, ...]] = {}
    for image in images:
        match = expression.search(str(image))
        if match is None:
            raise ValueError(f"the pattern {pattern!r} is not in the image {str(image)[:60]!r}")
        groups[image] = match.groups() or (match.group(),)
    return groups


def note_frames(catalog: Catalog, path: Path) -> None:
    """Warns where images look like frames of videos, which are no independent samples.

    Args:
        catalog: The images.
        path: The file or folder of the ground truth.
    """
    names = catalog.file_names or [name for name in catalog.images if isinstance(name, str)]
    if frames := find_frames(names):
        message = (
            f"{len(frames)} of {len(names)} images look like frames of videos, which are alike: "
            "intervals are too short unless --groups says which belong together"
        )
        note("frames-of-videos", len(frames), path, message, frames[:5])


def find_frames(names: Iterable[str]) -> list[str]:
    """The names that look like frames of videos; none where they are a small part of all.

    They end with a number that grows by the same step through a run of names which begin alike.
    Names that are numbers alone, as in COCO and VOC2007, are no frames; nor those that all begin
    alike, since still images are often numbered so, unless they say `frame`.

    Args:
        names: Names of files, or ids.

    >>> names = [f"{video}/frame_{i:04d}.jpg" for video in ("a", "b") for i in range(0, 50, 5)]
    >>> len(find_frames(names)), find_frames(["a/000001.jpg", "b/000007.jpg"])
    (20, [])
    """
    numbers: dict[str, list[int]] = defaultdict(list)
    total = 0
    by_place: dict[tuple[str, int], str] = {}
    for name in names:
        total += 1
        stem = _strip_ending(name)
        head = stem.rstrip(DIGITS)
        if head and len(head) < len(stem):
            number = int(stem[len(head) :][-18:])
            numbers[head].append(number)
            by_place[head, number] = name
    if len(numbers) == 1 and "frame" not in next(iter(numbers)).lower():
        return []
    frames = [by_place[head, n] for head, own in numbers.items() for n in _list_runs(sorted(own))]
    return frames if len(frames) > MIN_SHARE * total else []


def _strip_ending(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if not stem or "/" in ending:
        return name
    return EXPORTED.sub("", stem) if ".rf." in stem else stem


def _list_runs(numbers: list[int]) -> list[int]:
    """The ascending numbers that stand in runs of equal steps, of MIN_RUN numbers or more."""
    in_runs: list[int] = []
    first = 0
    for i in range(1, len(numbers) + 1):
        step = numbers[first + 1] - numbers[first] if first + 1 < len(numbers) else 0
        if i < len(numbers) and numbers[i] - numbers[i - 1] == step:
            continue
        is_run = i - first >= MIN_RUN and step > 0
        if is_run:
            in_runs += numbers[first:i]
        first = i if is_run else i - 1  # the last number may begin a run of another step
    return in_runs
