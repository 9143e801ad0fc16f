"""COCO JSON: ground truth as an `instances` file, detections as a list of results.

Source: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, xywh
from upmap.detection.formats.checks import check_images, check_sides, note
from upmap.detection.formats.image_sets import select_images
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.ids import (
    NO_ID,
    ImageKey,
    Keys,
    as_integers,
    find_classes,
    find_images,
    find_unknown,
    keys_as_list,
    strip_name,
)
from upmap.detection.inputs import Input, files_in, is_listing, open_input, translate_errors
from upmap.detection.tables import (
    Catalog,
    Detections,
    GroundTruth,
    ImageId,
    are_bounded,
    is_bounded,
    with_images,
)
from upmap.errors import InputError, abbreviate_list
from upmap.files import is_file, write_bytes
from upmap.kernels.columns import LARGEST

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

ROBOFLOW_NAME = "_annotations.coco.json"
SPLITS = ("train", "valid", "val", "test")  # folders of a Roboflow export
NO_CLASS_IDS = (
    "COCO results name classes by category_id, but the ground truth (VOC files, or arrays) has "
    "class names without ids; --class-names FILE (class_names=) says which class each id is"
)


BOX_OF_MASK = (
    "{} results have a mask and no bbox: their boxes and areas are those of the masks, as in "
    "pycocotools"
)


def is_ground_truth(source: Input) -> bool:
    """Whether `source` looks like an instances file, or a folder that holds one."""
    if source.is_folder():
        return bool(_instances_files(source.path))
    return source.is_file() and (source.path.suffix == ".json" or source.first_character() == b"{")


def is_detections(source: Input) -> bool:
    """Whether `source` looks like a results file."""
    return source.is_file() and (source.path.suffix == ".json" or source.first_character() == b"[")


def image_sets(source: Input) -> dict[str, Path]:
    """The image sets of a folder: the name in instances_<name>.json, or a split, to the file."""
    if not source.is_folder():
        return {}
    return {_set_name(file): file for file in _instances_files(source.path)}


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of an instances file.

    As in pycocotools, `iscrowd` alone marks crowds. `difficult`, which is not part of the format,
    marks the crowds that were difficult objects in VOC; without `iscrowd` it is ignored, with a
    warning.

    Args:
        source: The file, or a folder (or its parent) that holds instances_*.json.
        options: `image_set` is, in a folder, the name in instances_<name>.json; for a file, a text
            file with an image id on each line; None for the only one there is, and all its images.

    Raises:
        InputError: If the file is not such a file; names the key.
    """
    from upmap.kernels.coco_json import instances

    source, image_list = _select_file(source, options.image_set)
    path = source.path
    with translate_errors(path):
        records = instances(source.content, threads=options.threads)
    catalog = _catalog(records, path)
    _validate_bounds(records, path, "annotations")
    check_sides(records.size, path)
    _check_lone_marks(records.difficult & ~records.crowd, path)
    table = _ground_truth(records, catalog, path)
    if image_list is None:
        return table
    return with_images(table, select_images(image_list, catalog, options.image_key))


def read_detections(source: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of a results file.

    Args:
        source: The file.
        catalog: The ground truth's images and classes, which the ids refer to.
        options: `threads` and `image_key` matter; with `class_names` the file's own names of
            classes do not.

    Raises:
        InputError: If the file is not such a file, none of its images is in `catalog`, its images
            can be read in two ways, or the catalog has no ids of classes.
    """
    from upmap.kernels.coco_json import results

    path = source.path
    with translate_errors(path):
        records = results(source.content, threads=options.threads)
    if len(records.category_id) and not catalog.has_class_ids and not catalog.class_keys:
        raise InputError(NO_CLASS_IDS, path)
    _validate_bounds(records, path, "")
    if records.mask_area is not None:
        count = int(np.isfinite(records.mask_area).sum())
        note("box-of-mask", count, path, BOX_OF_MASK.format(count))
    image = _image_places(records, catalog, options.image_key, path)
    label = find_classes(records.category_id, catalog)
    if options.class_names is None:
        _validate_names(records.category_names, catalog, path)
    rows: slice | NDArray[np.bool_] = slice(None)
    if len(image) and min(image.min(), label.min()) < 0:
        _check_references(records, image, label, catalog, path)
        rows = (image >= 0) & (label >= 0)
    return Detections(
        image=image[rows],
        label=label[rows],
        box=records.box[rows],
        size=records.size[rows],
        score=records.score[rows],
        row=np.arange(len(records.score))[rows],
        area=_areas_of_results(records, rows),
        catalog=catalog,
        pixels="continuous",
    )


def _areas_of_results(
    records: Results, rows: slice | NDArray[np.bool_]
) -> NDArray[np.float64] | None:
    """The areas of masks where the boxes are those of masks; None if none is."""
    if records.mask_area is None:
        return None
    area = np.where(np.isnan(records.mask_area), box_area(records.size), records.mask_area)
    return area[rows]


def write_tables(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    """Writes instances_<image_set>.json and, with detections, detections_<image_set>.json."""
    write_ground_truth(ground_truth, folder / f"instances_{image_set}.json")
    if detections is not None:
        write_detections(detections, folder / f"detections_{image_set}.json")


def write_ground_truth(table: GroundTruth, path: Path) -> None:
    """Writes an instances file.

    A difficult box is written as a crowd, the mark of COCO that is nearest to VOC's rule, with
    `"difficult": 1`, by which `read_ground_truth` recognizes it.
    """
    catalog = table.catalog
    rows = zip(catalog.class_ids, catalog.classes, strict=True)
    instances = {
        "images": _image_objects(catalog),
        "annotations": _annotation_objects(table),
        "categories": [{"id": number, "name": name} for number, name in rows],
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


def category_names(source: Input) -> dict[int, str]:
    """Category id to class name of an instances file, ids ascending.

    Raises:
        InputError: If the file is not such a file, or its ids are no numbers.
    """
    from upmap.kernels.coco_json import instances

    with translate_errors(source.path):
        records = instances(source.content)
    ids, names = _categories(records, source.path)
    numbers = as_integers(ids)
    if numbers is None:
        raise InputError("category ids are texts, not numbers", source.path, "categories")
    by_id = dict(sorted(zip(numbers, names, strict=True)))
    return dict(zip(by_id, _class_names(by_id), strict=True))


def instances_file(source: Input, image_set: str | None) -> Input:
    """The instances file that `read_ground_truth` reads for the same arguments.

    Raises:
        InputError: If it is not clear which.
    """
    return _select_file(source, image_set)[0]


def _instances_files(folder: Path) -> list[Path]:
    """instances_<set>.json; or else the files of a Roboflow export, or of its splits."""
    patterns = ("instances_*.json", "instances_*.json.gz")
    files = sorted([*files_in(folder, *patterns), *files_in(folder / "annotations", *patterns)])
    exported = [folder / ROBOFLOW_NAME, *(folder / name / ROBOFLOW_NAME for name in SPLITS)]
    return files or [file for file in exported if is_file(file)]


def _set_name(file: Path) -> str:
    if file.name == ROBOFLOW_NAME:
        return file.absolute().parent.name
    return file.name.removesuffix(".gz").removesuffix(".json").removeprefix("instances_")


def _select_file(source: Input, image_set: str | None) -> tuple[Input, Path | None]:
    """The instances file, and the list of images if `image_set` is one."""
    if not source.is_folder():
        return source, None if image_set is None else Path(image_set)
    files = image_sets(source)
    if not files:
        raise InputError(f"no instances_*.json in this folder, and no {ROBOFLOW_NAME}", source.path)
    if image_set in files:
        return open_input(files[image_set]), None
    if len(files) == 1 and (image_set is None or is_listing(Path(image_set))):
        (file,) = files.values()
        return open_input(file), None if image_set is None else Path(image_set)
    problem = (
        "name an image set (--image-set)"
        if image_set is None
        else f"no image set called {image_set!r}"
    )
    raise InputError(f"{problem}; there are {', '.join(files)}", source.path)


def _catalog(records: Instances, path: Path) -> Catalog:
    images, image_rows = _image_ids(records, path)
    order = sorted(range(len(images)), key=images.__getitem__)
    rows = image_rows[order]
    keys, names = _categories(records, path)
    numbers = as_integers(keys)
    classes = dict(sorted(zip(keys if numbers is None else numbers, names, strict=True)))
    ids: list[Any] = list(classes)  # all integers, or all texts
    return Catalog(
        images=tuple([images[i] for i in order]),
        classes=_class_names(classes),
        class_ids=() if numbers is None else tuple(ids),
        class_keys=tuple(ids) if numbers is None else (),
        file_names=tuple(
            [
                records.file_name[row] or f"{images[i]}.jpg"
                for i, row in zip(order, rows.tolist(), strict=True)
            ]
        ),
        sizes=records.image_size[rows].astype(np.int64),
    )


def _image_ids(records: Instances, path: Path) -> tuple[list[ImageId], NDArray[np.intp]]:
    """The different ids of the images, all of one type, and their rows."""
    ids = keys_as_list(records.image_id)
    if len({type(value) for value in ids}) > 1:
        ids = _one_type(ids)
    if len(set(ids)) == len(ids):
        return ids, np.arange(len(ids))
    contents = [
        (name, *size)
        for name, size in zip(records.file_name, records.image_size.tolist(), strict=True)
    ]
    rows = _drop_repeated(ids, contents, "images", path)
    return [ids[row] for row in rows], np.array(rows, np.intp)


def _categories(records: Instances, path: Path) -> tuple[list[ImageId], list[str]]:
    """The different ids of the categories, all of one type, and their names."""
    ids, names = keys_as_list(records.category_id), records.category_name
    if len({type(value) for value in ids}) > 1:
        ids = _one_type(ids)
    rows = list(range(len(ids)))
    if len(set(ids)) != len(ids):
        rows = _drop_repeated(ids, names, "categories", path)
    return [ids[row] for row in rows], [names[row] for row in rows]


def _one_type(ids: list[ImageId]) -> list[ImageId]:
    """Integers and texts as integers, if the texts are the digits of some; else as texts."""
    numbers = as_integers(ids)
    return [*numbers] if numbers is not None else [str(value) for value in ids]


def _drop_repeated(
    ids: Sequence[ImageId], contents: Sequence[Any], section: str, path: Path
) -> list[int]:
    """The first row of each id, if all rows of an id have the same content.

    Raises:
        InputError: If they contradict each other.
    """
    first: dict[ImageId, int] = {}
    for row, number in enumerate(ids):
        before = first.setdefault(number, row)
        if contents[before] != contents[row]:
            message = f"the id {number!r} stands in {section}[{before}], too, with other values"
            raise InputError(message, path, f"{section}[{row}]")
    count = len(ids) - len(first)
    repeated = [str(number) for number, times in Counter(ids).items() if times > 1]
    message = f"{count} {section} stand there again, all alike; each counts once"
    note("repeated-row", count, path, message, repeated[:5])
    return list(first.values())


def _class_names(names: Mapping[Any, str]) -> tuple[str, ...]:
    """The name of each class, with its id where another has the same, or it has none."""
    times = Counter(names.values())
    return tuple(
        (f"{name} ({number})" if times[name] > 1 else name) if name else str(number)
        for number, name in names.items()
    )


def _ground_truth(records: Instances, catalog: Catalog, path: Path) -> GroundTruth:
    """The table of the annotations whose image and category are listed."""
    image = find_images(records.annotation_image_id, catalog, image_key="id")
    label = find_classes(records.annotation_category_id, catalog)
    is_listed = (image >= 0) & (label >= 0)
    rows: slice | NDArray[np.bool_] = slice(None)
    if not is_listed.all():
        _check_annotations(records, image, label, catalog, path)
        rows = is_listed
    difficult = records.difficult & records.crowd
    return GroundTruth(
        image=image[rows],
        label=label[rows],
        box=records.box[rows],
        size=records.size[rows],
        area=_areas(records, path)[rows],
        difficult=difficult[rows],
        crowd=(records.crowd & ~difficult)[rows],
        annotation_id=_annotation_ids(records.annotation_id, path)[rows],
        catalog=catalog,
        pixels="continuous",
    )


def _check_annotations(
    records: Instances,
    image: NDArray[np.int32],
    label: NDArray[np.int32],
    catalog: Catalog,
    path: Path,
) -> None:
    """Warns about annotations whose image or category is not listed.

    Raises:
        InputError: If no annotation is on a listed image.
    """
    if unknown := find_unknown(records.annotation_image_id, image):
        names = f"{len(unknown.names)} unknown images: {abbreviate_list(unknown.names)}"
        message = f"{len(unknown.rows)} annotations on {names}"
        if len(unknown.rows) == len(image) and catalog.images:
            message += _describe_key_types(
                records.annotation_image_id, catalog.images, "annotations"
            )
            raise InputError(message, path, f"annotations[{unknown.rows[0]}].image_id")
        message += "; they are left out"
        examples = unknown.names[:5]
        note("annotation-on-unlisted-image", len(unknown.rows), path, message, examples)
    if unknown := find_unknown(records.annotation_category_id, label):
        names = f"{len(unknown.names)} unknown classes: {abbreviate_list(unknown.names)}"
        message = f"{len(unknown.rows)} annotations of {names}; they are left out"
        examples = unknown.names[:5]
        note("annotation-of-unlisted-class", len(unknown.rows), path, message, examples)


def _image_places(
    records: Results, catalog: Catalog, image_key: ImageKey | None, path: Path
) -> NDArray[np.int32]:
    """The place of each detection's image in `catalog`, int32 [N]; -1 where it is not there.

    Raises:
        InputError: If none is there, or the names can be read in two ways.
    """
    keys: Keys = records.image_id
    if image_key in ("stem", "file_name") and records.file_names:
        names = records.file_names
        keys = [names.get(key, key) for key in keys_as_list(keys)]
    places = find_images(keys, catalog, image_key=image_key, path=path)
    if image_key is None:
        _validate_file_names(records, catalog, places, path)
    return places


def _validate_file_names(
    records: Results, catalog: Catalog, places: NDArray[np.int32], path: Path
) -> None:
    """Refuses results that name the file of an image otherwise than the ground truth does."""
    if not records.file_names or not catalog.file_names:
        return
    for key, place in dict(
        zip(keys_as_list(records.image_id), places.tolist(), strict=True)
    ).items():
        name = records.file_names.get(key)
        if name and place >= 0 and strip_name(name) != strip_name(catalog.file_names[place]):
            raise InputError(
                f"the image {key!r} is {name!r} here and {catalog.file_names[place]!r} in the "
                "ground truth; --image-key (image_key=) id|stem says which counts",
                path,
            )


def _validate_names(names: Mapping[int | str, str], catalog: Catalog, path: Path) -> None:
    """Refuses results that name a class otherwise than the ground truth does."""
    keys = list(names)
    for key, place in zip(keys, find_classes(list(keys), catalog).tolist(), strict=True):
        if place < 0:
            continue
        name, known = names[key], catalog.classes[place]
        spellings = {text.casefold() for text in (name, f"{name} ({key})", str(key))}
        if known.casefold() not in spellings:
            raise InputError(
                f"the category {key!r} is {name!r} here and {known!r} in the ground truth; "
                "--class-names FILE (class_names=) says which counts: this file, or that of the "
                "ground truth",
                path,
            )


def _check_references(
    records: Results,
    image: NDArray[np.int32],
    label: NDArray[np.int32],
    catalog: Catalog,
    path: Path,
) -> None:
    """Warns about detections that are not on a listed image and of a listed class.

    Raises:
        InputError: If no detection is on a listed image.
    """
    if unknown := find_unknown(records.image_id, image):
        hint = _describe_key_types(records.image_id, catalog.images, "")
        check_images(image, unknown.names, catalog, path, hint)
    if unknown := find_unknown(records.category_id, label):
        names = f"{len(unknown.names)} unknown classes: {abbreviate_list(unknown.names)}"
        message = f"{len(unknown.rows)} detections of {names}; they are left out"
        shift = _describe_shift(records.category_id, catalog)
        examples = unknown.names[:5]
        note("detection-of-unlisted-class", len(unknown.rows), path, message + shift, examples)


def _describe_shift(classes: Keys, catalog: Catalog) -> str:
    """A warning that classes may be counted from another number; empty if they do not seem so."""
    if isinstance(classes, list) or not catalog.class_ids:
        return ""
    used, known = set(np.unique(classes).tolist()) - {NO_ID}, set(catalog.class_ids)
    for step, words in ((1, "from 0"), (-1, "from 1")):
        shifted = {number + step for number in used}
        is_first = step == 1 and 0 in used and 0 not in known
        if used and (shifted <= known or is_first):
            return f". Their classes seem to be counted {words}, those of the ground truth not"
    return ""


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
    box, size = records.box, records.size
    if are_bounded(box, LARGEST / 2) and are_bounded(size, LARGEST / 2):
        return
    bbox = np.concatenate([box[:, :2], size], axis=1)  # as COCO writes it
    outside = np.flatnonzero(~is_bounded(bbox).all(axis=1))
    if len(outside):
        message = f"out of range: {bbox[outside[0]].tolist()}"
        raise InputError(message, path, f"{section}[{outside[0]}].bbox")


def _areas(records: Instances, path: Path) -> NDArray[np.float64]:
    is_missing = np.isnan(records.area)
    if count := int(is_missing.sum()):
        message = f"{count} annotations have no area; width x height is used"
        note("missing-area", count, path, message)
    return np.where(is_missing, box_area(records.size), records.area)


def _annotation_ids(ids: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    """The ids, numbered anew where they are missing, no numbers, or repeated."""
    in_order = ids if (ids[1:] > ids[:-1]).all() else np.sort(ids)
    numbers = in_order[in_order != NO_ID] if len(ids) and in_order[0] == NO_ID else in_order
    is_repeated = numbers[1:] == numbers[:-1]
    if count := int(is_repeated.sum()):
        examples = [str(number) for number in np.unique(numbers[1:][is_repeated])[:5].tolist()]
        message = (
            f"{count} annotations have an id that stands before, {abbreviate_list(examples)}; all "
            "count, but pycocotools loses those"
        )
        note("repeated-annotation-id", count, path, message, examples)
    if (numbers == 0).any():
        note(
            "annotation-id-zero",
            1,
            path,
            "an annotation has id 0, which pycocotools takes for 'not matched': "
            "its numbers will be lower than these",
        )
    return np.arange(1, len(ids) + 1) if count or len(numbers) < len(ids) else ids


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
