"""COCO JSON: ground truth as an `instances` file, detections as a list of results.

Source: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from detection.boxes import box_area, corners, xywh
from detection.errors import InputError, InputWarning, listed
from detection.formats.files import contents, new_file, text
from detection.tables import Catalog, Detections, GroundTruth, ImageId, with_images

__all__ = [
    "is_detections",
    "is_ground_truth",
    "read_detections",
    "read_ground_truth",
    "write_detections",
    "write_ground_truth",
]

Number = int | float
Id = int | float | str
Bbox = tuple[float, float, float, float]
Parsed = TypeVar("Parsed")


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str = ""
    width: Number = 0
    height: Number = 0


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
    return path.is_file() and _first_character(path) == b"{"


def is_detections(path: Path) -> bool:
    """Whether `path` looks like a results file."""
    return path.is_file() and (_first_character(path) == b"[" or path.suffix == ".json")


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
    parsed = _parsed(path, _Instances)
    catalog = _catalog(parsed, path)
    rows = parsed.annotations
    image = _index(_ids(rows, "image_id", path, "annotations"), catalog.images)
    label = _index(_integers(rows, "category_id", path, "annotations"), catalog.class_ids)
    _refuse_unknown(image, rows, "image_id", path, "annotations on {} unknown images")
    _refuse_unknown(label, rows, "category_id", path, "annotations of {} unknown classes")
    box = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    _refuse_negative(box, path)
    crowd = np.array([bool(row.iscrowd) for row in rows], bool)
    difficult = np.array([bool(row.difficult) for row in rows], bool)
    table = GroundTruth(
        image=image,
        label=label,
        box=corners(box),
        size=box[:, 2:],
        area=_areas(rows, box, path),
        difficult=difficult,
        crowd=crowd & ~difficult,
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
    rows = _parsed(path, list[_Result])
    image = _index(_ids(rows, "image_id", path, ""), catalog.images)
    label = _index(_integers(rows, "category_id", path, ""), catalog.class_ids)
    _refuse_unknown(image, rows, "image_id", path, "detections on {} unknown images")
    _refuse_unknown(label, rows, "category_id", path, "detections of {} unknown classes")
    box = np.array([row.bbox for row in rows], np.float64).reshape(-1, 4)
    return Detections(
        image=image,
        label=label,
        box=corners(box),
        size=box[:, 2:],
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
    image_ids = _written_image_ids(catalog)
    names = catalog.file_names or tuple(f"{image}.jpg" for image in catalog.images)
    sizes = catalog.sizes if len(catalog.sizes) else np.zeros((len(catalog.images), 2), np.int64)
    images = [
        {"id": i, "file_name": name, "width": width, "height": height}
        for i, name, (width, height) in zip(image_ids, names, sizes.tolist(), strict=True)
    ]
    categories = [
        {"id": i, "name": name}
        for i, name in zip(catalog.class_ids, catalog.classes, strict=True)
    ]
    annotations = [
        {
            "id": number,
            "image_id": image_ids[image],
            "category_id": catalog.class_ids[label],
            "bbox": bbox,
            "area": area,
            "iscrowd": int(crowd or difficult),
        }
        | ({"difficult": 1} if difficult else {})
        for number, image, label, bbox, area, crowd, difficult in zip(
            _positive_ids(table.annotation_id),
            table.image.tolist(),
            table.label.tolist(),
            xywh(table).tolist(),
            table.area.tolist(),
            table.crowd.tolist(),
            table.difficult.tolist(),
            strict=True,
        )
    ]
    _write(path, {"images": images, "annotations": annotations, "categories": categories})


def write_detections(table: Detections, path: Path) -> None:
    """Writes a results file, in the order of the table's `row`."""
    catalog = table.catalog
    image_ids = _written_image_ids(catalog)
    bboxes, scores = xywh(table).tolist(), table.score.tolist()
    _write(
        path,
        [
            {
                "image_id": image_ids[table.image[i]],
                "category_id": catalog.class_ids[table.label[i]],
                "bbox": bboxes[i],
                "score": scores[i],
            }
            for i in np.argsort(table.row, kind="stable")
        ],
    )


def _first_character(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


def _instances_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("instances_*.json"), *folder.glob("annotations/instances_*.json")])


def _chosen_file(path: Path, image_set: str | None) -> tuple[Path, str | None]:
    """The instances file, and the list of images if `image_set` is one."""
    if not path.is_dir():
        return path, image_set
    files = {file.stem.removeprefix("instances_"): file for file in _instances_files(path)}
    if image_set in files:
        return files[image_set], None
    if image_set is None and len(files) == 1:
        return next(iter(files.values())), None
    raise InputError(f"name an image set; there are {', '.join(files)}", path)


def _parsed(path: Path, kind: type[Parsed]) -> Parsed:
    data = contents(path)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        raise InputError(message, path, place.strip("`$.") or None) from None
    except msgspec.DecodeError as error:
        raise InputError(_malformed(str(error), data), path, _line(str(error), data)) from None
    except UnicodeDecodeError:
        text(path)  # names the line
        raise InputError("a string is not UTF-8 text", path) from None
    except RecursionError:
        raise InputError("JSON is nested too deeply", path) from None


def _offset(message: str, data: bytes) -> int:
    digits = message.rpartition("(byte ")[2].rstrip(")")
    return int(digits) if digits.isdigit() else len(data)


def _line(message: str, data: bytes) -> str:
    return str(data.count(b"\n", 0, _offset(message, data)) + 1)


def _malformed(message: str, data: bytes) -> str:
    if not data.strip():
        return "the file is empty; expected JSON"
    if "truncated" in message:
        return f"JSON ends too early, after {len(data)} bytes"
    near = data[_offset(message, data) :][:16].decode("utf-8", "replace").partition("\n")[0]
    if near.lstrip("-").startswith(("NaN", "Infinity")):
        return f"{near.split(',')[0].rstrip(' }]')} is not a number in JSON"
    return f"{message[0].lower() if message[:4] != 'JSON' else 'J'}{message[1:]} near {near!r}"


def _ids(rows: list[Any], key: str, path: Path, within: str) -> list[ImageId]:
    """The ids under `key`: integers (1.0 is one), or strings, but not both."""
    values = [getattr(row, key) for row in rows]
    kinds = set(map(type, values))
    if kinds == {str}:
        return values
    if str in kinds:
        raise InputError(f"{key} is a string in some places and a number in others", path, within)
    if float in kinds:
        for i, value in enumerate(values):
            if isinstance(value, float) and not value.is_integer():
                where = f"{within}[{i}].{key}"
                raise InputError(f"expected an integer, got {value!r}", path, where)
        values = [int(value) for value in values]
    return values


def _integers(rows: list[Any], key: str, path: Path, within: str) -> list[int]:
    return [int(value) for value in _ids(rows, key, path, within)]


def _annotation_ids(rows: list[_Annotation], path: Path) -> NDArray[np.int64]:
    ids = _integers(rows, "id", path, "annotations")
    _refuse_duplicates(ids, "annotation ids", path)
    if 0 in ids:
        warnings.warn(
            f"{path}: an annotation has id 0, which pycocotools takes for 'not matched': "
            "its numbers will be lower than these",
            InputWarning,
            stacklevel=2,
        )
    try:
        return np.array(ids, np.int64)
    except OverflowError:
        raise InputError("an id does not fit in 64 bits", path, "annotations") from None


def _refuse_duplicates(values: list[Any], what: str, path: Path) -> None:
    if len(set(values)) != len(values):
        repeated = [str(value) for value, count in Counter(values).items() if count > 1]
        raise InputError(f"{len(repeated)} duplicate {what}: {listed(repeated)}", path)


def _catalog(parsed: _Instances, path: Path) -> Catalog:
    ids = _ids(parsed.images, "id", path, "images")
    _refuse_duplicates(ids, "image ids", path)
    class_ids = _integers(parsed.categories, "id", path, "categories")
    _refuse_duplicates(class_ids, "category ids", path)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    images = [parsed.images[i] for i in order]
    categories = sorted(zip(class_ids, parsed.categories, strict=True), key=lambda pair: pair[0])
    names = [category.name or str(number) for number, category in categories]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    return Catalog(
        images=tuple(ids[i] for i in order),
        classes=tuple(
            f"{name} ({number})" if name in repeated else name
            for name, (number, _) in zip(names, categories, strict=True)
        ),
        class_ids=tuple(number for number, _ in categories),
        file_names=tuple(image.file_name or str(image.id) for image in images),
        sizes=np.array([(i.width, i.height) for i in images], np.int64).reshape(-1, 2),
    )


def _index(values: list[Any], among: tuple[Any, ...]) -> NDArray[np.int32]:
    """The place of each value in `among`; -1 for one that is not there."""
    place = {value: i for i, value in enumerate(among)}
    return np.array([place.get(value, -1) for value in values], np.int32)


def _refuse_unknown(
    index: NDArray[np.int32], rows: list[Any], key: str, path: Path, what: str
) -> None:
    if len(index) and index.min() < 0:
        unknown = sorted({getattr(rows[i], key) for i in np.flatnonzero(index < 0)})
        names = listed([str(value) for value in unknown])
        raise InputError(f"{what.format(len(unknown))}: {key} {names}", path)


def _refuse_negative(bbox: NDArray[np.float64], path: Path) -> None:
    bad = np.flatnonzero((bbox[:, 2:] < 0).any(axis=1))
    if len(bad):
        width, height = bbox[bad[0], 2:].tolist()
        message = f"a ground truth has a negative side: {width} x {height}"
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


def _listed_images(image_set: str, catalog: Catalog) -> tuple[ImageId, ...]:
    """The images that the file `image_set` lists, by id or by file name without its ending."""
    path = Path(image_set)
    if not path.is_file():
        raise InputError("no such list of images", path)
    known: dict[str, ImageId] = {str(image): image for image in catalog.images}
    stems = {Path(n).stem: i for n, i in zip(catalog.file_names, catalog.images, strict=True)}
    names = [line.split()[0] for line in text(path).splitlines() if line.strip()]
    unknown = [name for name in names if name not in known and name not in stems]
    if unknown:
        raise InputError(f"{len(unknown)} unknown images: {listed(unknown)}", path)
    images = [known[name] if name in known else stems[name] for name in names]
    _refuse_duplicates(images, "image ids", path)
    return tuple(images)


def _written_image_ids(catalog: Catalog) -> list[int]:
    """COCO's ids of the images: their own if they are integers, else 1, 2, ... in order."""
    if all(isinstance(image, int) for image in catalog.images):
        return [int(image) for image in catalog.images]
    return list(range(1, len(catalog.images) + 1))


def _positive_ids(ids: NDArray[np.int64]) -> list[int]:
    """The annotation ids; 1, 2, ... if one is 0, which pycocotools takes for 'not matched'."""
    return list(range(1, len(ids) + 1)) if (ids == 0).any() else ids.tolist()


def _write(path: Path, value: Any) -> None:
    with new_file(path) as beside:
        beside.write_bytes(msgspec.json.encode(value))
