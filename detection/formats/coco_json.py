"""COCO JSON: ground truth as an `instances` file, detections as a list of results.

Source: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from detection.boxes import box_area, corners, xywh
from detection.errors import InputError, InputWarning, listed
from detection.formats.files import contents, first_character, is_file, new_file, text
from detection.tables import (
    Catalog,
    Detections,
    GroundTruth,
    ImageId,
    ascending,
    bounded,
    images_by_name,
    with_images,
)

__all__ = [
    "is_detections",
    "is_ground_truth",
    "read_detections",
    "read_ground_truth",
    "write_detections",
    "write_ground_truth",
]

LARGEST_IMAGE = 2**31  # px, of a side
LARGEST_EXACT = 2**53  # up to here a float64 holds every integer
UNKNOWN = {"image_id": "on {} unknown images", "category_id": "of {} unknown classes"}
Number = int | float
Id = int | float | str
Bbox = tuple[float, float, float, float]
Parsed = TypeVar("Parsed")


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str = ""
    width: float = 0
    height: float = 0


class _Category(msgspec.Struct, gc=False):
    id: Number
    name: str = ""


class _Annotation(msgspec.Struct, gc=False):
    id: Number
    image_id: Id
    category_id: Number
    bbox: Bbox
    area: float | None = None
    iscrowd: Number | bool = 0
    difficult: Number | bool = 0


class _Instances(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Result(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Number
    bbox: Bbox
    score: float


def is_ground_truth(path: Path) -> bool:
    """Whether `path` looks like an instances file, or a folder that holds one."""
    if path.is_dir():
        return bool(_instances_files(path))
    return is_file(path) and (path.suffix == ".json" or first_character(path) == b"{")


def is_detections(path: Path) -> bool:
    """Whether `path` looks like a results file."""
    return is_file(path) and (path.suffix == ".json" or first_character(path) == b"[")


def read_ground_truth(path: Path, image_set: str | None, show_progress: bool) -> GroundTruth:
    """Ground truth of an instances file.

    Args:
        path: The file, or a folder (or its parent) that holds instances_*.json.
        image_set: In a folder, the name in instances_<name>.json; for a file, a text file with an
            image id on each line; None for the only one there is, and all of its images.
        show_progress: Not used: the file is read in one go.

    Raises:
        InputError: If the file is not such a file; names the key.
    """
    path, image_set = _chosen_file(path, image_set)
    parsed = _parsed(path, _Instances, "an object of images, annotations and categories")
    catalog = _catalog(parsed, path)
    rows = parsed.annotations
    bbox = _bboxes(rows, path, "annotations")
    _refuse_negative(bbox, path)
    difficult = np.array([bool(row.difficult) for row in rows], bool)
    table = GroundTruth(
        **_places(rows, catalog, path, "annotations"),
        box=corners(bbox),
        size=bbox[:, 2:],
        area=_areas(rows, bbox, path),
        difficult=difficult,
        crowd=np.array([bool(row.iscrowd) for row in rows], bool) & ~difficult,
        annotation_id=_annotation_ids(rows, path),
        catalog=catalog,
        pixels="continuous",
    )
    return table if image_set is None else with_images(table, _listed_images(image_set, catalog))


def read_detections(path: Path, catalog: Catalog, image_set: str | None) -> Detections:
    """Detections of a results file.

    Args:
        path: The file.
        catalog: The ground truth's images and classes, which the ids refer to.
        image_set: Not used.

    Raises:
        InputError: If the file is not such a file, or an id is not in `catalog`.
    """
    rows = _parsed(path, list[_Result], "a list of results")
    bbox = _bboxes(rows, path, "")
    return Detections(
        **_places(rows, catalog, path, ""),
        box=corners(bbox),
        size=bbox[:, 2:],
        score=np.array([row.score for row in rows], np.float64),
        row=np.arange(len(rows)),
        catalog=catalog,
        pixels="continuous",
    )


def write_ground_truth(table: GroundTruth, path: Path) -> None:
    """Writes an instances file.

    A difficult box is written as a crowd, which is how COCO tools come closest to VOC's rule, and
    marked `"difficult": 1`, by which `read_ground_truth` knows it again.
    """
    catalog = table.catalog
    named = zip(catalog.class_ids, catalog.classes, strict=True)
    instances = {
        "images": _image_objects(catalog),
        "annotations": _annotation_objects(table),
        "categories": [{"id": number, "name": name} for number, name in named],
    }
    _write(path, instances)


def write_detections(table: Detections, path: Path) -> None:
    """Writes a results file, in the order of the table's `row`."""
    image_ids, class_ids = _written_image_ids(table.catalog), table.catalog.class_ids
    rows = zip(
        table.image.tolist(),
        table.label.tolist(),
        xywh(table).tolist(),
        table.score.tolist(),
        strict=True,
    )
    results = [
        {"image_id": image_ids[i], "category_id": class_ids[k], "bbox": bbox, "score": score}
        for i, k, bbox, score in rows
    ]
    _write(path, [results[i] for i in np.argsort(table.row, kind="stable").tolist()])


def _instances_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("instances_*.json"), *folder.glob("annotations/instances_*.json")])


def _chosen_file(path: Path, image_set: str | None) -> tuple[Path, str | None]:
    """The instances file, and the list of images if `image_set` is one."""
    if not path.is_dir():
        return path, image_set
    files = {file.stem.removeprefix("instances_"): file for file in _instances_files(path)}
    if not files:
        raise InputError("no instances_*.json in this folder", path)
    if image_set in files:
        return files[image_set], None
    if len(files) == 1 and (image_set is None or is_file(Path(image_set))):
        return next(iter(files.values())), image_set
    wanted = "name an image set" if image_set is None else f"no image set called {image_set!r}"
    raise InputError(f"{wanted}; there are {', '.join(files)}", path)


def _parsed(path: Path, kind: type[Parsed], expected: str) -> Parsed:
    data = contents(path)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), path, expected) from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error), data, path) from None
    except UnicodeDecodeError:
        text(path)  # names the line
        raise InputError("a string is not UTF-8 text", path) from None
    except RecursionError:
        raise InputError("JSON is nested too deeply", path) from None


def _invalid(error: str, path: Path, expected: str) -> InputError:
    """Names the key that msgspec's message is about: "Expected `int`, got `str` - at `$.id`"."""
    message, _, place = error.partition(" - at ")
    place = place.strip("`$.")
    if message.startswith("Object missing required field"):
        key = message.split("`")[1]
        return InputError("missing", path, f"{place}.{key}" if place else key)
    if not place:
        found = message.rpartition("got ")[2]
        found = {"`array`": "a list", "`object`": "an object"}.get(found, found)
        return InputError(f"expected {expected}, got {found}", path, "1")
    return InputError(message, path, place)


def _malformed(message: str, data: bytes, path: Path) -> InputError:
    """Names the line, and says what is there, from "JSON is malformed: ... (byte 17)"."""
    digits = message.rpartition("(byte ")[2].rstrip(")")
    offset = int(digits) if digits.isdigit() else len(data)
    line = str(data.count(b"\n", 0, offset) + 1)
    if not data.strip():
        return InputError("the file is empty; expected JSON", path, line)
    if "truncated" in message:
        return InputError(f"JSON ends too early, after {len(data)} bytes", path, line)
    near = data[offset:][:16].decode("utf-8", "replace").partition("\n")[0]
    if near.startswith(("NaN", "Infinity")):
        return InputError(f"{re.split('[], }]', near)[0]} is not a number in JSON", path, line)
    message = message.partition(" (byte ")[0]
    return InputError(f"{message} near {near!r}" if near else message, path, line)


def _catalog(parsed: _Instances, path: Path) -> Catalog:
    ids = _ids(parsed.images, "id", path, "images")
    _refuse_duplicates(ids, "image ids", path, "images")
    class_ids = _ids(parsed.categories, "id", path, "categories")
    _refuse_duplicates(class_ids, "category ids", path, "categories")
    image_of = dict(zip(ids, parsed.images, strict=True))
    class_of = dict(zip(class_ids, parsed.categories, strict=True))
    images = tuple(ascending(ids))
    return Catalog(
        images=images,
        classes=_class_names({int(number): class_of[number].name for number in sorted(class_of)}),
        class_ids=tuple(sorted(map(int, class_ids))),
        file_names=tuple(image_of[image].file_name or f"{image}.jpg" for image in images),
        sizes=_sizes(image_of, images, path),
    )


def _class_names(named: dict[int, str]) -> tuple[str, ...]:
    """The name of each class, with its id where another has the same, or it has none."""
    times = Counter(named.values())
    return tuple(
        (f"{name} ({number})" if times[name] > 1 else name) if name else str(number)
        for number, name in named.items()
    )


def _sizes(
    image_of: dict[ImageId, _Image], images: tuple[ImageId, ...], path: Path
) -> NDArray[np.int64]:
    sides = np.array([(image_of[i].width, image_of[i].height) for i in images]).reshape(-1, 2)
    bad = np.flatnonzero((sides < 0).any(axis=1) | (sides > LARGEST_IMAGE).any(axis=1))
    if len(bad):
        width, height = sides[bad[0]].tolist()
        where = f"images[{list(image_of).index(images[bad[0]])}]"
        raise InputError(f"width and height are out of range: {width:g} {height:g}", path, where)
    return sides.astype(np.int64)


def _ids(rows: Sequence[Any], key: str, path: Path, within: str) -> list[ImageId]:
    """The ids under `key`: integers of 64 bits (1.0 is one), or strings, but not both."""
    values = [getattr(row, key) for row in rows]
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    if str in kinds:
        raise InputError(f"{key} is a string in some places and a number in others", path, within)
    if float in kinds or (values and not -(2**63) <= min(values) <= max(values) < 2**63):
        bad = next((i for i, value in enumerate(values) if not _is_integer(value)), None)
        if bad is not None:
            where = f"{within}[{bad}].{key}"
            raise InputError(f"expected an integer of 64 bits, got {values[bad]!r}", path, where)
        values = [int(value) for value in values]
    return values


def _is_integer(value: Number) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= LARGEST_EXACT
    return -(2**63) <= value < 2**63


def _refuse_duplicates(values: Sequence[Any], what: str, path: Path, where: str | None) -> None:
    if len(set(values)) != len(values):
        repeated = [str(value) for value, times in Counter(values).items() if times > 1]
        raise InputError(f"{len(repeated)} duplicate {what}: {listed(repeated)}", path, where)


def _places(
    rows: Sequence[Any], catalog: Catalog, path: Path, within: str
) -> dict[str, NDArray[np.int32]]:
    """The columns `image` and `label`."""
    return {
        "image": _index(rows, "image_id", catalog.images, path, within),
        "label": _index(rows, "category_id", catalog.class_ids, path, within),
    }


def _index(
    rows: Sequence[Any], key: str, among: Sequence[ImageId], path: Path, within: str
) -> NDArray[np.int32]:
    """The place in `among` of each row's id under `key`."""
    values = _ids(rows, key, path, within)
    place = {value: i for i, value in enumerate(among)}
    index = np.array([place.get(value, -1) for value in values], np.int32)
    bad = np.flatnonzero(index < 0).tolist()
    if bad:
        unknown = list(dict.fromkeys(repr(values[i]) for i in bad))
        what = UNKNOWN[key].format(len(unknown))
        message = f"{len(bad)} {within or 'detections'} {what}: {listed(unknown)}"
        raise InputError(message, path, f"{within}[{bad[0]}].{key}")
    return index


def _bboxes(rows: Sequence[Any], path: Path, within: str) -> NDArray[np.float64]:
    """COCO's x, y, width, height, float64 [n, 4]."""
    bbox = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    bad = np.flatnonzero(~bounded(bbox).all(axis=1))
    if len(bad):
        message = f"out of range: {bbox[bad[0]].tolist()}"
        raise InputError(message, path, f"{within}[{bad[0]}].bbox")
    return bbox


def _refuse_negative(bbox: NDArray[np.float64], path: Path) -> None:
    bad = np.flatnonzero((bbox[:, 2:] < 0).any(axis=1))
    if len(bad):
        width, height = bbox[bad[0], 2:].tolist()
        message = f"a ground truth has a negative side: {width:g} x {height:g}"
        raise InputError(message, path, f"annotations[{bad[0]}].bbox")


def _areas(rows: list[_Annotation], bbox: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    missing = sum(row.area is None for row in rows)
    if missing:
        warnings.warn(
            f"{path}: {missing} annotations have no area; width x height is used",
            InputWarning,
            stacklevel=2,
        )
    given = np.array([np.nan if row.area is None else row.area for row in rows], np.float64)
    return np.where(np.isnan(given), box_area(bbox[:, 2:]), given)


def _annotation_ids(rows: list[_Annotation], path: Path) -> NDArray[np.int64]:
    ids = _ids(rows, "id", path, "annotations")
    _refuse_duplicates(ids, "annotation ids", path, "annotations")
    if 0 in ids:
        warnings.warn(
            f"{path}: an annotation has id 0, which pycocotools takes for 'not matched': "
            "its numbers will be lower than these",
            InputWarning,
            stacklevel=2,
        )
    return np.array(ids, np.int64)


def _listed_images(image_set: str, catalog: Catalog) -> tuple[ImageId, ...]:
    """The images that the file `image_set` lists, by id or by file name without its ending."""
    path = Path(image_set)
    if not is_file(path):
        raise InputError("no such list of images", path)
    place = images_by_name(catalog)
    lines = [
        (i, line.split()[0]) for i, line in enumerate(text(path).splitlines(), 1) if line.strip()
    ]
    if unknown := [(i, name) for i, name in lines if name not in place]:
        names = listed([name for _, name in unknown])
        raise InputError(f"{len(unknown)} unknown images: {names}", path, str(unknown[0][0]))
    images = [catalog.images[place[name]] for _, name in lines]
    _refuse_duplicates(images, "image ids", path, None)
    return tuple(images)


def _image_objects(catalog: Catalog) -> list[dict[str, Any]]:
    names = catalog.file_names or tuple(f"{image}.jpg" for image in catalog.images)
    sizes = catalog.sizes if len(catalog.sizes) else np.zeros((len(catalog.images), 2), np.int64)
    return [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, name, (width, height) in zip(
            _written_image_ids(catalog), names, sizes.tolist(), strict=True
        )
    ]


def _annotation_objects(table: GroundTruth) -> list[dict[str, Any]]:
    image_ids, class_ids = _written_image_ids(table.catalog), table.catalog.class_ids
    columns = (table.image, table.label, xywh(table), table.area, table.crowd, table.difficult)
    rows = zip(
        _positive_ids(table.annotation_id), *(column.tolist() for column in columns), strict=True
    )
    return [
        {
            "id": number,
            "image_id": image_ids[image],
            "category_id": class_ids[label],
            "bbox": bbox,
            "area": area,
            "iscrowd": int(crowd or difficult),
        }
        | ({"difficult": 1} if difficult else {})
        for number, image, label, bbox, area, crowd, difficult in rows
    ]


def _written_image_ids(catalog: Catalog) -> list[int]:
    """COCO's ids of the images: their own if they are integers, else 1, 2, ... in order."""
    if all(isinstance(image, int) for image in catalog.images):
        return [int(image) for image in catalog.images]
    return list(range(1, len(catalog.images) + 1))


def _positive_ids(ids: NDArray[np.int64]) -> list[int]:
    """The annotation ids; 1, 2, ... if one is 0, which pycocotools takes for 'not matched'."""
    return list(range(1, len(ids) + 1)) if (ids == 0).any() else ids.tolist()


def _write(path: Path, value: Any) -> None:
    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise InputError(f"a name is not text: {error.object!r}", path) from None
    with new_file(path) as beside:
        beside.write_bytes(data)
