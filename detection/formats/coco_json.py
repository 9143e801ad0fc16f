"""COCO JSON: ground truth as an `instances` file, detections as a list of results.

Source: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, xywh
from upmap.detection.formats.checks import note
from upmap.detection.formats.image_sets import select_images
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.ids import Keys, find_places, find_unknown, keys_as_list
from upmap.detection.inputs import Input, files_in, is_listing, open_input, translate_errors
from upmap.detection.tables import (
    LARGEST,
    Catalog,
    Detections,
    GroundTruth,
    ImageId,
    are_bounded,
    is_bounded,
    with_images,
)
from upmap.errors import InputError, abbreviate_list
from upmap.files import write_bytes

if TYPE_CHECKING:
    from upmap.kernels.coco_json import Instances, Results

__all__ = [
    "category_names",
    "image_sets",
    "instances_file",
    "is_detections",
    "is_ground_truth",
    "read_detections",
    "read_ground_truth",
    "write_detections",
    "write_ground_truth",
    "write_tables",
]

LARGEST_IMAGE = 2**31  # px, of a side
NO_CLASS_IDS = (
    "COCO results name classes by category_id, but the ground truth (VOC files, or arrays) has "
    "class names without ids; --class-names FILE (class_names=) says which class each id is"
)


def is_ground_truth(named: Input) -> bool:
    """Whether `named` looks like an instances file, or a folder that holds one."""
    if named.is_folder():
        return bool(_instances_files(named.path))
    return named.is_file() and (named.path.suffix == ".json" or named.first_character() == b"{")


def is_detections(named: Input) -> bool:
    """Whether `named` looks like a results file."""
    return named.is_file() and (named.path.suffix == ".json" or named.first_character() == b"[")


def image_sets(named: Input) -> dict[str, Path]:
    """The image sets of a folder: the name in instances_<name>.json to the file."""
    if not named.is_folder():
        return {}
    return {_set_name(file): file for file in _instances_files(named.path)}


def read_ground_truth(named: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of an instances file.

    As in pycocotools, `iscrowd` alone says what is a crowd. `difficult`, which is no part of the
    format, tells of a crowd that it was VOC's difficult object; without `iscrowd` it is ignored,
    and warned about.

    Args:
        named: The file, or a folder (or its parent) that holds instances_*.json.
        options: `image_set` is, in a folder, the name in instances_<name>.json; for a file, a text
            file with an image id on each line; None for the only one there is, and all its images.

    Raises:
        InputError: If the file is not such a file; names the key.
    """
    from upmap.kernels.coco_json import instances

    named, image_list = _select_file(named, options.image_set)
    path = named.path
    with translate_errors(path):
        records = instances(named.source, threads=options.threads)
    catalog = _catalog(records, path)
    _validate_bounds(records, path, "annotations")
    _validate_sides(records, path)
    _check_annotation_ids(records.annotation_id, path)
    difficult = records.difficult & records.crowd
    _check_lone_marks(records.difficult & ~records.crowd, path)
    table = GroundTruth(
        image=_image_places(records.annotation_image_id, catalog, path, "annotations"),
        label=_class_places(records.annotation_category_id, catalog, path, "annotations"),
        box=records.box,
        size=records.size,
        area=_areas(records, path),
        difficult=difficult,
        crowd=records.crowd & ~difficult,
        annotation_id=records.annotation_id,
        catalog=catalog,
        pixels="continuous",
    )
    return table if image_list is None else with_images(table, select_images(image_list, catalog))


def read_detections(named: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of a results file.

    Args:
        named: The file.
        catalog: The ground truth's images and classes, which the ids refer to.
        options: Only `threads` matters.

    Raises:
        InputError: If the file is not such a file, an id is not in `catalog`, or that has no ids
            of classes.
    """
    from upmap.kernels.coco_json import results

    path = named.path
    with translate_errors(path):
        records = results(named.source, threads=options.threads)
    if len(records.category_id) and not catalog.has_class_ids:
        raise InputError(NO_CLASS_IDS, path)
    _validate_bounds(records, path, "")
    return Detections(
        image=_image_places(records.image_id, catalog, path, ""),
        label=_class_places(records.category_id, catalog, path, ""),
        box=records.box,
        size=records.size,
        score=records.score,
        row=np.arange(len(records.score)),
        catalog=catalog,
        pixels="continuous",
    )


def write_tables(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    """Writes instances_<image_set>.json and, with detections, detections_<image_set>.json."""
    write_ground_truth(ground_truth, folder / f"instances_{image_set}.json")
    if detections is not None:
        write_detections(detections, folder / f"detections_{image_set}.json")


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
    image_ids, class_ids = _output_image_ids(table.catalog), table.catalog.class_ids
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


def category_names(named: Input) -> dict[int, str]:
    """Category id to class name of an instances file, ids ascending.

    Raises:
        InputError: If the file is not such a file.
    """
    from upmap.kernels.coco_json import instances

    with translate_errors(named.path):
        records = instances(named.source)
    ids = records.category_id.tolist()
    _validate_unique(ids, "category ids", named.path, "categories")
    names = dict(sorted(zip(ids, records.category_name, strict=True)))
    return dict(zip(names, _class_names(names), strict=True))


def instances_file(named: Input, image_set: str | None) -> Input:
    """The instances file that `read_ground_truth` reads for the same arguments.

    Raises:
        InputError: If it is not clear which.
    """
    return _select_file(named, image_set)[0]


def _instances_files(folder: Path) -> list[Path]:
    patterns = ("instances_*.json", "instances_*.json.gz")
    return sorted([*files_in(folder, *patterns), *files_in(folder / "annotations", *patterns)])


def _set_name(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".json").removeprefix("instances_")


def _select_file(named: Input, image_set: str | None) -> tuple[Input, Path | None]:
    """The instances file, and the list of images if `image_set` is one."""
    if not named.is_folder():
        return named, None if image_set is None else Path(image_set)
    files = image_sets(named)
    if not files:
        raise InputError("no instances_*.json in this folder", named.path)
    if image_set in files:
        return open_input(files[image_set]), None
    if len(files) == 1 and (image_set is None or is_listing(Path(image_set))):
        (file,) = files.values()
        return open_input(file), None if image_set is None else Path(image_set)
    problem = "name an image set" if image_set is None else f"no image set called {image_set!r}"
    raise InputError(f"{problem}; there are {', '.join(files)}", named.path)


def _catalog(records: Instances, path: Path) -> Catalog:
    ids, classes = keys_as_list(records.image_id), records.category_id.tolist()
    _validate_unique(ids, "image ids", path, "images")
    _validate_unique(classes, "category ids", path, "categories")
    _validate_image_sizes(records.image_size, path)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Catalog(
        images=tuple([ids[i] for i in order]),
        classes=_class_names(dict(sorted(zip(classes, records.category_name, strict=True)))),
        class_ids=tuple(sorted(classes)),
        file_names=tuple([records.file_name[i] or f"{ids[i]}.jpg" for i in order]),
        sizes=records.image_size[order].astype(np.int64),
    )


def _class_names(named: dict[int, str]) -> tuple[str, ...]:
    """The name of each class, with its id where another has the same, or it has none."""
    times = Counter(named.values())
    return tuple(
        (f"{name} ({number})" if times[name] > 1 else name) if name else str(number)
        for number, name in named.items()
    )


def _validate_image_sizes(sides: NDArray[np.float64], path: Path) -> None:
    outside = np.flatnonzero((sides < 0).any(axis=1) | (sides > LARGEST_IMAGE).any(axis=1))
    if len(outside):
        width, height = sides[outside[0]].tolist()
        message = f"width and height are out of range: {width:g} {height:g}"
        raise InputError(message, path, f"images[{outside[0]}]")


def _validate_unique(values: Sequence[ImageId], what: str, path: Path, where: str) -> None:
    if len(set(values)) != len(values):
        repeated = [str(value) for value, times in Counter(values).items() if times > 1]
        raise InputError(
            f"{len(repeated)} duplicate {what}: {abbreviate_list(repeated)}", path, where
        )


def _image_places(keys: Keys, catalog: Catalog, path: Path, section: str) -> NDArray[np.int32]:
    """The place of each image id in `catalog`, int32 [N]; `section` is "annotations" or empty."""
    places = find_places(keys, catalog.images)
    if unknown := find_unknown(keys, places):
        names = f"{len(unknown.names)} unknown images: {abbreviate_list(unknown.names)}"
        message = f"{len(unknown.rows)} {section or 'detections'} on {names}"
        message += _describe_key_types(keys, catalog.images, section)
        raise InputError(message, path, f"{section}[{unknown.rows[0]}].image_id")
    return places


def _class_places(keys: Keys, catalog: Catalog, path: Path, section: str) -> NDArray[np.int32]:
    """The place of each category id in `catalog`, int32 [N]; `section` as in `_image_places`."""
    places = find_places(keys, catalog.class_ids)
    if unknown := find_unknown(keys, places):
        names = f"{len(unknown.names)} unknown classes: {abbreviate_list(unknown.names)}"
        message = f"{len(unknown.rows)} {section or 'detections'} of {names}"
        raise InputError(message, path, f"{section}[{unknown.rows[0]}].category_id")
    return places


def _describe_key_types(keys: Keys, images: Sequence[ImageId], section: str) -> str:
    """What the images' ids are, where the keys are of the other type; else nothing."""
    is_text = isinstance(keys, list)
    if not images or is_text == isinstance(images[0], str):
        return ""
    owner = "images" if section else "ground truth"
    what = "integers" if is_text else f"strings, such as {images[0]!r}"
    return f"; the image_ids of the {owner} are {what}"


def _validate_bounds(records: Instances | Results, path: Path, section: str) -> None:
    """Refuses what is too large for its area to be finite."""
    if are_bounded(records.box, LARGEST / 2) and are_bounded(records.size, LARGEST / 2):
        return
    # As COCO writes it.
    bbox = np.concatenate([records.box[:, :2], records.size], axis=1)
    outside = np.flatnonzero(~is_bounded(bbox).all(axis=1))
    if len(outside):
        message = f"out of range: {bbox[outside[0]].tolist()}"
        raise InputError(message, path, f"{section}[{outside[0]}].bbox")


def _validate_sides(records: Instances, path: Path) -> None:
    negative = np.flatnonzero((records.size < 0).any(axis=1))
    if len(negative):
        width, height = records.size[negative[0]].tolist()
        message = f"a ground truth has a negative side: {width:g} x {height:g}"
        raise InputError(message, path, f"annotations[{negative[0]}].bbox")


def _areas(records: Instances, path: Path) -> NDArray[np.float64]:
    is_missing = np.isnan(records.area)
    if count := int(is_missing.sum()):
        message = f"{count} annotations have no area; width x height is used"
        note("missing-area", count, path, message)
    return np.where(is_missing, box_area(records.size), records.area)


def _check_annotation_ids(ids: NDArray[np.int64], path: Path) -> None:
    in_order = ids if (ids[1:] > ids[:-1]).all() else np.sort(ids)
    if (in_order[1:] == in_order[:-1]).any():
        _validate_unique(ids.tolist(), "annotation ids", path, "annotations")
    if (ids == 0).any():
        note(
            "annotation-id-zero",
            1,
            path,
            "an annotation has id 0, which pycocotools takes for 'not matched': "
            "its numbers will be lower than these",
        )


def _check_lone_marks(is_lone: NDArray[np.bool_], path: Path) -> None:
    if count := int(is_lone.sum()):
        note(
            "difficult-without-crowd",
            count,
            path,
            f"{count} annotations are marked difficult without iscrowd; as in pycocotools "
            "the mark is ignored, and they count",
        )


def _image_objects(catalog: Catalog) -> list[dict[str, Any]]:
    names = catalog.file_names or tuple(f"{image}.jpg" for image in catalog.images)
    sizes = catalog.sizes if len(catalog.sizes) else np.zeros((len(catalog.images), 2), np.int64)
    return [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, name, (width, height) in zip(
            _output_image_ids(catalog), names, sizes.tolist(), strict=True
        )
    ]


def _annotation_objects(table: GroundTruth) -> list[dict[str, Any]]:
    image_ids, class_ids = _output_image_ids(table.catalog), table.catalog.class_ids
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


def _output_image_ids(catalog: Catalog) -> list[int]:
    """COCO's ids of the images: their own if they are integers, else 1, 2, ... in order."""
    if all(isinstance(image, int) for image in catalog.images):
        return [int(image) for image in catalog.images]
    return list(range(1, len(catalog.images) + 1))


def _positive_ids(ids: NDArray[np.int64]) -> list[int]:
    """The annotation ids; 1, 2, ... if one is 0, which pycocotools takes for 'not matched'."""
    return list(range(1, len(ids) + 1)) if (ids == 0).any() else ids.tolist()


def _write(path: Path, value: Any) -> None:
    import msgspec

    try:
        data = msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise InputError(f"a name is not text: {error.object!r}", path) from None
    write_bytes(path, data)
