"""COCO JSON: ground truth as an `instances` file, detections as a list of results.

Source: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, xywh
from upmap.detection.inputs import Input, files_in, is_listing, open_input
from upmap.detection.tables import (
    LARGEST,
    Catalog,
    Detections,
    GroundTruth,
    ImageId,
    images_by_name,
    is_bounded,
    with_images,
)
from upmap.errors import InputError, InputWarning, abbreviate_list
from upmap.files import describe_os_error, write_bytes

if TYPE_CHECKING:
    from upmap.kernels.coco_json import Ids, Instances, Results

__all__ = [
    "category_names",
    "instances_file",
    "is_detections",
    "is_ground_truth",
    "read_detections",
    "read_ground_truth",
    "write_detections",
    "write_ground_truth",
]

LARGEST_IMAGE = 2**31  # px, of a side
MAX_TABLE_SPAN = 2**22  # ids from the lowest to the highest, up to which a table is made of them
BLOCK = 2**14  # ids looked up at a time: what is made of them stays in the cache
NO_CLASS_IDS = (
    "COCO results name classes by category_id, but the ground truth (VOC files, or arrays) has "
    "class names without ids; --class-names FILE (class_names=) says which class each id is"
)
UNKNOWN = {"image_id": "on {} unknown images", "category_id": "of {} unknown classes"}


def is_ground_truth(named: Input) -> bool:
    """Whether `named` looks like an instances file, or a folder that holds one."""
    if named.is_folder():
        return bool(_instances_files(named.path))
    return named.is_file() and (named.path.suffix == ".json" or named.first_character() == b"{")


def is_detections(named: Input) -> bool:
    """Whether `named` looks like a results file."""
    return named.is_file() and (named.path.suffix == ".json" or named.first_character() == b"[")


def read_ground_truth(
    named: Input, image_set: str | None, show_progress: bool, threads: int = 0
) -> GroundTruth:
    """Ground truth of an instances file.

    As in pycocotools, `iscrowd` alone says what is a crowd. `difficult`, which is no part of the
    format, tells of a crowd that it was VOC's difficult object; without `iscrowd` it is ignored,
    and warned about.

    Args:
        named: The file, or a folder (or its parent) that holds instances_*.json.
        image_set: In a folder, the name in instances_<name>.json; for a file, a text file with an
            image id on each line; None for the only one there is, and all of its images.
        show_progress: Not used: the file is read in one go.
        threads: Maximum number of threads; 0 uses all cores.

    Raises:
        InputError: If the file is not such a file; names the key.
    """
    from upmap.kernels.coco_json import instances

    named, image_set = _select_file(named, image_set)
    path = named.path
    with _translate_errors(path):
        found = instances(named.source, threads=threads)
    catalog = _catalog(found, path)
    _validate_bounds(found, path, "annotations")
    _validate_sides(found, path)
    _check_annotation_ids(found.annotation_id, path)
    difficult = found.difficult & found.crowd
    _warn_of_lone_marks(found.difficult & ~found.crowd, path)
    table = GroundTruth(
        image=_index(found.annotation_image_id, "image_id", catalog.images, path, "annotations"),
        label=_index(
            found.annotation_category_id, "category_id", catalog.class_ids, path, "annotations"
        ),
        box=found.box,
        size=found.size,
        area=_areas(found, path),
        difficult=difficult,
        crowd=found.crowd & ~difficult,
        annotation_id=found.annotation_id,
        catalog=catalog,
        pixels="continuous",
    )
    return table if image_set is None else with_images(table, _read_image_list(image_set, catalog))


def read_detections(
    named: Input, catalog: Catalog, image_set: str | None, threads: int = 0
) -> Detections:
    """Detections of a results file.

    Args:
        named: The file.
        catalog: The ground truth's images and classes, which the ids refer to.
        image_set: Not used.
        threads: Maximum number of threads; 0 uses all cores.

    Raises:
        InputError: If the file is not such a file, an id is not in `catalog`, or that has no ids
            of classes.
    """
    from upmap.kernels.coco_json import results

    path = named.path
    with _translate_errors(path):
        found = results(named.source, threads=threads)
    if len(found.category_id) and not catalog.has_class_ids:
        raise InputError(NO_CLASS_IDS, path)
    _validate_bounds(found, path, "")
    return Detections(
        image=_index(found.image_id, "image_id", catalog.images, path, ""),
        label=_index(found.category_id, "category_id", catalog.class_ids, path, ""),
        box=found.box,
        size=found.size,
        score=found.score,
        row=np.arange(len(found.score)),
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

    with _translate_errors(named.path):
        found = instances(named.source)
    ids = found.category_id.tolist()
    _validate_unique(ids, "category ids", named.path, "categories")
    names = dict(sorted(zip(ids, found.category_name, strict=True)))
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


def _select_file(named: Input, image_set: str | None) -> tuple[Input, str | None]:
    """The instances file, and the list of images if `image_set` is one."""
    path = named.path
    if not named.is_folder():
        return named, image_set
    files = {
        file.name.removesuffix(".gz").removesuffix(".json").removeprefix("instances_"): file
        for file in _instances_files(path)
    }
    if not files:
        raise InputError("no instances_*.json in this folder", path)
    if image_set in files:
        return open_input(files[image_set]), None
    if len(files) == 1 and (image_set is None or is_listing(Path(image_set))):
        return open_input(next(iter(files.values()))), image_set
    wanted = "name an image set" if image_set is None else f"no image set called {image_set!r}"
    raise InputError(f"{wanted}; there are {', '.join(files)}", path)


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Says what is wrong with the file that is read within, as an InputError."""
    from upmap.kernels.coco_json import JsonError

    try:
        yield
    except JsonError as error:
        raise InputError(error.message, path, error.where) from None
    except OSError as error:
        raise InputError(describe_os_error(error), path) from None


def _catalog(found: Instances, path: Path) -> Catalog:
    ids, classes = _as_list(found.image_id), found.category_id.tolist()
    _validate_unique(ids, "image ids", path, "images")
    _validate_unique(classes, "category ids", path, "categories")
    _validate_image_sizes(found.image_size, path)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Catalog(
        images=tuple([ids[i] for i in order]),
        classes=_class_names(dict(sorted(zip(classes, found.category_name, strict=True)))),
        class_ids=tuple(sorted(classes)),
        file_names=tuple([found.file_name[i] or f"{ids[i]}.jpg" for i in order]),
        sizes=found.image_size[order].astype(np.int64),
    )


def _as_list(ids: Ids) -> list[Any]:
    """The ids as Python's integers or strings."""
    return ids if isinstance(ids, list) else ids.tolist()


def _class_names(named: dict[int, str]) -> tuple[str, ...]:
    """The name of each class, with its id where another has the same, or it has none."""
    times = Counter(named.values())
    return tuple(
        (f"{name} ({number})" if times[name] > 1 else name) if name else str(number)
        for number, name in named.items()
    )


def _validate_image_sizes(sides: NDArray[np.float64], path: Path) -> None:
    bad = np.flatnonzero((sides < 0).any(axis=1) | (sides > LARGEST_IMAGE).any(axis=1))
    if len(bad):
        width, height = sides[bad[0]].tolist()
        message = f"width and height are out of range: {width:g} {height:g}"
        raise InputError(message, path, f"images[{bad[0]}]")


def _validate_unique(values: Sequence[Any], what: str, path: Path, where: str | None) -> None:
    if len(set(values)) != len(values):
        repeated = [str(value) for value, times in Counter(values).items() if times > 1]
        raise InputError(
            f"{len(repeated)} duplicate {what}: {abbreviate_list(repeated)}", path, where
        )


def _index(
    ids: Ids, key: str, among: Sequence[ImageId], path: Path, within: str
) -> NDArray[np.int32]:
    """The place in `among`, which ascends, of each id; int32 [N]."""
    index = _places(ids, among)
    bad = np.flatnonzero(index < 0).tolist()
    if bad:
        unknown = list(dict.fromkeys(repr(_as_list(ids[i : i + 1])[0]) for i in bad))
        what = UNKNOWN[key].format(len(unknown))
        message = f"{len(bad)} {within or 'detections'} {what}: {abbreviate_list(unknown)}"
        if among and isinstance(ids, list) != isinstance(among[0], str):
            message += f"; the {key}s of the {'images' if within else 'ground truth'} are "
            message += "integers" if isinstance(ids, list) else f"strings, such as {among[0]!r}"
        raise InputError(message, path, f"{within}[{bad[0]}].{key}")
    return index


def _places(ids: Ids, among: Sequence[ImageId]) -> NDArray[np.int32]:
    """The place of each id in `among`, -1 where it is not there."""
    is_text = isinstance(ids, list)
    if not among or is_text != isinstance(among[0], str):
        return np.full(len(ids), -1, np.int32)
    if isinstance(ids, list):
        place = {value: i for i, value in enumerate(among)}
        return np.array([place.get(value, -1) for value in ids], np.int32)
    known = np.array(among, np.int64)
    low, high = int(known[0]), int(known[-1])
    if high - low < MAX_TABLE_SPAN:
        place_of = np.full(high - low + 2, -1, np.int32)  # the last for what lies outside
        place_of[known - low] = np.arange(len(known))
        places = np.empty(len(ids), np.int32)
        for some in (slice(i, i + BLOCK) for i in range(0, len(ids), BLOCK)):
            steps = (ids[some] - low).view(np.uint64)  # below low it wraps around, beyond high
            places[some] = place_of[np.minimum(steps, high - low + 1, out=steps).view(np.int64)]
        return places
    at = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[at] == ids, at, -1).astype(np.int32)


def _validate_bounds(found: Instances | Results, path: Path, within: str) -> None:
    """Refuses what is too large for its area to be finite."""
    if len(found.box) and max(found.box.max(), -found.box.min(), found.size.max()) > LARGEST / 2:
        bbox = _bbox(found)
        bad = np.flatnonzero(~is_bounded(bbox).all(axis=1))
        if len(bad):
            message = f"out of range: {bbox[bad[0]].tolist()}"
            raise InputError(message, path, f"{within}[{bad[0]}].bbox")


def _bbox(found: Instances | Results) -> NDArray[np.float64]:
    """COCO's x, y, width, height, float64 [n, 4]."""
    return np.concatenate([found.box[:, :2], found.size], axis=1)


def _validate_sides(found: Instances, path: Path) -> None:
    bad = np.flatnonzero((found.size < 0).any(axis=1))
    if len(bad):
        width, height = found.size[bad[0]].tolist()
        message = f"a ground truth has a negative side: {width:g} x {height:g}"
        raise InputError(message, path, f"annotations[{bad[0]}].bbox")


def _areas(found: Instances, path: Path) -> NDArray[np.float64]:
    is_missing = np.isnan(found.area)
    if missing := int(is_missing.sum()):
        warnings.warn(
            f"{path}: {missing} annotations have no area; width x height is used",
            InputWarning,
            stacklevel=2,
        )
    return np.where(is_missing, box_area(found.size), found.area)


def _check_annotation_ids(ids: NDArray[np.int64], path: Path) -> None:
    in_order = ids if (ids[1:] > ids[:-1]).all() else np.sort(ids)
    if (in_order[1:] == in_order[:-1]).any():
        _validate_unique(ids.tolist(), "annotation ids", path, "annotations")
    if (ids == 0).any():
        warnings.warn(
            f"{path}: an annotation has id 0, which pycocotools takes for 'not matched': "
            "its numbers will be lower than these",
            InputWarning,
            stacklevel=2,
        )


def _warn_of_lone_marks(is_lone: NDArray[np.bool_], path: Path) -> None:
    if count := int(is_lone.sum()):
        warnings.warn(
            f"{path}: {count} annotations are marked difficult without iscrowd; as in pycocotools "
            "the mark is ignored, and they count",
            InputWarning,
            stacklevel=3,
        )


def _read_image_list(image_set: str, catalog: Catalog) -> tuple[ImageId, ...]:
    """The images that the file `image_set` lists, by id or by file name without its ending."""
    path = Path(image_set)
    if not is_listing(path):
        raise InputError("no such list of images", path)
    place = images_by_name(catalog)
    text = open_input(path).text()
    lines = [(i, line.split()[0]) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if unknown := [(i, name) for i, name in lines if name not in place]:
        names = abbreviate_list([name for _, name in unknown])
        raise InputError(f"{len(unknown)} unknown images: {names}", path, str(unknown[0][0]))
    images = [catalog.images[place[name]] for _, name in lines]
    _validate_unique(images, "image ids", path, None)
    return tuple(images)


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
