"""Ultralytics' predictions.json: COCO results whose images are stems and whose classes are places.

Source: `pred_to_json` and `eval_json` of ultralytics.models.yolo.detect.val. `image_id` is the stem
of the file's name, as a number if it is one; `category_id` the class's place among the model's
names, from 1 (from 0 before December 2024), or COCO's id for a model of COCO.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.box_lists import read_beginning
from upmap.detection.formats.checks import check_images, note
from upmap.detection.formats.coco_json import NO_CLASS_IDS
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.ids import find_images, find_unknown, keys_as_list
from upmap.detection.inputs import Input, translate_errors
from upmap.detection.tables import Catalog, Detections, image_names, is_bounded
from upmap.errors import InputError, abbreviate_list

__all__ = ["is_detections", "read_detections"]

KEYS = (b'"file_name"', b'"image_id"', b'"category_id"', b'"score"')  # of each detection
HINT = (
    "--class-names settles it: with the ground truth's own file the numbers are its ids, with a "
    "list of the model's names, a name on each line, their places from 1"
)
Places = NDArray[np.int32]


def is_detections(source: Input) -> bool:
    """Whether `source` is a results file whose first detection has a file's name, too."""
    beginning = b"" if source.is_folder() else read_beginning(source).lstrip()
    first = beginning.partition(b"}")[0]
    return beginning.startswith(b"[") and all(key in first for key in KEYS)


def read_detections(source: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of a predictions.json.

    Args:
        source: The file.
        catalog: The ground truth's images and classes.
        options: `threads`, `image_key`; with `class_names` the category ids are as it says.

    Raises:
        InputError: If the file is malformed, no image is in the catalog, or images or classes can
            be read in two ways.
    """
    from upmap.kernels.coco_json import results

    path = source.path
    with translate_errors(path):
        records = results(source.content, threads=options.threads)
    if len(records.score) and not catalog.has_class_ids:
        raise InputError(NO_CLASS_IDS, path)
    is_wrong = ~is_bounded(np.concatenate([records.box, records.size], axis=1)).all(axis=1)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise InputError(f"out of range: {records.box[row].tolist()}", path, f"[{row}].bbox")
    keys = [str(key) for key in keys_as_list(records.image_id)]
    image = _image_places(keys, catalog, options, path)
    numbers = _numbers(keys_as_list(records.category_id), path)
    label = _class_places(numbers, catalog, options.class_names is not None, path)
    if unknown := find_unknown(records.image_id, image):
        check_images(image, unknown.names, catalog, path)
    keep = (image >= 0) & (label >= 0)
    return Detections(
        image=image[keep],
        label=label[keep],
        box=records.box[keep],
        size=records.size[keep],
        score=records.score[keep],
        row=np.flatnonzero(keep),
        catalog=catalog,
        pixels="continuous",
    )


def _image_places(keys: list[str], catalog: Catalog, options: ReadOptions, path: Path) -> Places:
    """The place of each key in the catalog's images; -1 where it is none.

    One reading is taken for all keys: as stems of the images' files without leading zeros, or ids.
    """
    if options.image_key in ("id", "file_name"):
        return find_images(keys, catalog, image_key=options.image_key, path=path)
    ids = {str(image): i for i, image in enumerate(catalog.images)}
    stems = {_plain(name): i for i, name in enumerate(image_names(catalog))}
    by_id = np.array([ids.get(key, -1) for key in keys], np.int32)
    by_stem = np.array([stems.get(_plain(key), -1) for key in keys], np.int32)
    if options.image_key == "stem":
        return by_stem
    count_by_id, count_by_stem = int((by_id >= 0).sum()), int((by_stem >= 0).sum())
    if count_by_id == count_by_stem and not np.array_equal(by_id, by_stem):
        message = "image_ids can be read as ids and as stems of file names, which differ"
        raise InputError(f"{message}; --image-key id or stem settles it", path)
    return by_stem if count_by_stem > count_by_id else by_id


def _plain(stem: str) -> str:
    """A stem as Ultralytics writes it: without the zeros before a number."""
    return stem.lstrip("0") or "0" if stem.isascii() and stem.isdecimal() else stem


def _numbers(keys: Iterable[int | str], path: Path) -> list[int]:
    numbers = []
    for i, key in enumerate(keys):
        try:
            numbers.append(int(key))
        except (TypeError, ValueError):
            message = f"category_id is no number: {key!r}"
            raise InputError(message, path, f"[{i}].category_id") from None
    return numbers


def _class_places(numbers: list[int], catalog: Catalog, is_settled: bool, path: Path) -> Places:
    """The place of each category id in the catalog's classes; -1 where it is none.

    The numbers of a file are ids, or places among the classes, from 1 or from 0: what fits all.
    """
    different = sorted(set(numbers))
    count = len(catalog.classes)
    as_ids = {number: k for k, number in enumerate(catalog.class_ids)}
    readings = {"ids": as_ids}
    if not is_settled:
        readings["places from 1"] = {k + 1: k for k in range(count)}
        if 0 in different:  # a number that no place from 1 has
            readings["places from 0"] = {k: k for k in range(count)}
    places = {
        name: [place[number] for number in different]
        for name, place in readings.items()
        if place.keys() >= set(different)
    }
    if len({tuple(places_of) for places_of in places.values()}) > 1:
        first, other = list(places)[:2]
        raise InputError(
            f"category_ids can be read as the ground truth's {first} and as {other} in its list of "
            f"classes, which are other classes; {HINT}",
            path,
        )
    name = next(iter(places), "ids")
    if name != "ids":
        message = f"category_ids are not the ground truth's ids; they are read as {name} in its "
        note("classes-by-place", len(numbers), path, f"{message}list of classes; {HINT}")
    place = readings[name]
    if unknown := [number for number in different if number not in place]:
        listed = abbreviate_list([str(number) for number in unknown])
        left_out = sum(number not in place for number in numbers)
        message = f"{left_out} detections of classes that are not listed are left out: {listed}"
        note("unlisted-class", left_out, path, message, [str(number) for number in unknown[:5]])
    return np.array([place.get(number, -1) for number in numbers], np.int32)
