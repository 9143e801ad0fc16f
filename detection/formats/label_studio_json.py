"""Label Studio JSON: a list of tasks with annotations and predictions in percent of the image.

Source: Label Studio's documentation of its JSON export (not JSON-MIN).
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from upmap.detection.formats.box_lists import (
    BoxLists,
    Corners,
    decode_json,
    hull_of_points,
    hull_of_rotation,
    image_names_of_files,
    make_detections,
    make_ground_truth,
    note_shapes,
    read_beginning,
)
from upmap.detection.formats.checks import note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import Input
from upmap.detection.tables import Catalog, Detections, GroundTruth, base_name
from upmap.errors import InputError, abbreviate_list

__all__ = ["is_detections", "is_ground_truth", "read_detections", "read_ground_truth"]

HULL_OPTION = "--task segment reads the hulls of polygons as boxes"
UPLOAD = "/upload/"  # in paths of files that were uploaded, whose names get a prefix
PREFIX = re.compile(r"[0-9a-f]{8}-")
NO_SHAPES = frozenset(("choices", "textarea", "rating", "number", "taxonomy", "relation"))
LABELS = ("rectanglelabels", "polygonlabels", "labels")
Place = tuple[Path, str]  # a file and a key in it


def is_ground_truth(source: Input) -> bool:
    """Whether `source` is a file of tasks with annotations."""
    beginning = read_beginning(source)
    return _has_tasks(beginning) and b'"annotations"' in beginning


def is_detections(source: Input) -> bool:
    """Whether `source` is a file of tasks with predictions."""
    return _has_tasks(beginning := read_beginning(source)) and b'"predictions"' in beginning


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of the annotations of a file of tasks.

    Of several annotations of a task the one marked `ground_truth` is read, else the first that was
    not canceled. Tasks without annotations are no images of the set.

    Args:
        source: The file.
        options: With the `task` "segment" polygons count with their hulls, with "obb" those of
            rotated boxes, which are refused otherwise.

    Raises:
        InputError: If the file is malformed, or boxes are rotated; names the key.
    """
    path, lists = source.path, BoxLists()
    without, several = 0, 0
    for i, task in enumerate(decode_json(source, list[_task_type()])):  # type: ignore[misc]
        valid = [annotation for annotation in task.annotations if not annotation.was_cancelled]
        if not valid:
            without += 1
            continue
        several += len(valid) > 1
        marked = [annotation for annotation in valid if annotation.ground_truth]
        _add_task(lists, task, i)
        annotation = (marked or valid)[0]
        k = next(k for k, other in enumerate(task.annotations) if other is annotation)
        _add_regions(lists, annotation.result, options, (path, f"[{i}].annotations[{k}].result"))
    _name_images(lists)
    if without:
        message = f"{without} tasks have no annotation; they are left out, and are no images"
        note("task-without-annotation", without, path, message)
    if several:
        message = (
            f"{several} tasks have several annotations; the one marked ground_truth is read, "
            "else the first"
        )
        note("several-annotations", several, path, message)
    if options.task != "detect":
        note_shapes(lists, path, HULL_OPTION)
    return make_ground_truth(lists, path)


def read_detections(source: Input, catalog: Catalog, options: ReadOptions) -> Detections:
    """Detections of the predictions of a file of tasks.

    A box has its own score, else that of its prediction.

    Args:
        source: The file.
        catalog: The ground truth's images and classes.
        options: See `read_ground_truth`; and `image_key`.

    Raises:
        InputError: If the file is malformed, a score is missing, or a task has predictions of
            several models; names the key.
    """
    path, lists = source.path, BoxLists()
    for i, task in enumerate(decode_json(source, list[_task_type()])):  # type: ignore[misc]
        _add_task(lists, task, i)
        if len(task.predictions) > 1:
            versions = [repr(prediction.model_version) for prediction in task.predictions]
            message = f"predictions of several models: {abbreviate_list(versions)}; keep one"
            raise InputError(message, path, f"[{i}].predictions")
        for prediction in task.predictions:
            where = f"[{i}].predictions[0].result"
            scores = _add_regions(lists, prediction.result, options, (path, where))
            for row, score in enumerate(scores, start=len(lists.score)):
                value = prediction.score if score is None else score
                if value is None:
                    raise InputError("a prediction has no score", path, lists.where[row])
                lists.score.append(value)
    _name_images(lists)
    return make_detections(lists, catalog, options, path)


def _has_tasks(beginning: bytes) -> bool:
    return beginning.lstrip().startswith(b"[") and b'"data"' in beginning


def _add_task(lists: BoxLists, task: Any, index: int) -> None:
    """Adds the image of a task."""
    lists.file_names.append(_image_path(task, index))
    lists.images.append(index)
    lists.sizes.append((0.0, 0.0))


def _image_path(task: Any, index: int) -> str:
    """Where the image of a task lies: of its data, `image`, else what looks like a file."""
    from urllib.parse import parse_qs, unquote, urlsplit

    texts = {key: value for key, value in task.data.items() if isinstance(value, str)}
    values = [value for value in texts.values() if re.search(r"\.\w{3,4}(\?|$)", value)]
    url = texts.get("image") or next(iter([*values, *texts.values()]), "") or task.file_upload
    if not url:
        return str(index)
    try:
        parts = urlsplit(url)
    except ValueError:
        return str(url)
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/file
    return local[0] if local else unquote(parts.path) or str(url)


def _name_images(lists: BoxLists) -> None:
    """Names the images after their files, without the prefix that an upload puts before a name."""
    names = [base_name(path) for path in lists.file_names]
    is_uploaded = [UPLOAD in path or "/" not in path for path in lists.file_names]
    prefixed = [bool(PREFIX.match(name)) for name in names]
    # One reading for the whole file: all uploaded names have the prefix.
    if any(is_uploaded) and all(p for p, u in zip(prefixed, is_uploaded, strict=True) if u):
        plain = [
            path if not u else name[9:]
            for path, name, u in zip(lists.file_names, names, is_uploaded, strict=True)
        ]
        if len(set(image_names_of_files(plain))) == len(plain):
            lists.file_names = plain
    lists.images = list(image_names_of_files(lists.file_names))


def _add_regions(
    lists: BoxLists, regions: list[Any], options: ReadOptions, place: Place
) -> list[float | None]:
    """Adds the boxes of a result to the last image; returns their scores."""
    scores = []
    path, key = place
    for j, region in enumerate(regions):
        if region.type in NO_SHAPES:
            continue
        where, value = f"{key}[{j}]", region.value
        labels = next((x for x in (getattr(value, name) for name in LABELS) if x), None)
        box = _box(region, options, (path, where))
        if box is None or labels is None:
            kind = region.type if box is None else f"{region.type} without a label"
            lists.left_out[kind] += 1
            continue
        if len(labels) > 1:
            raise InputError(f"a box has several labels: {labels}", path, where)
        lists.sizes[-1] = (region.original_width, region.original_height)
        lists.add_box(len(lists.images) - 1, str(labels[0]), box, where)
        scores.append(region.score)
    return scores


def _box(region: Any, options: ReadOptions, place: Place) -> Corners | None:
    """The corners of a region, px; None if it is no box."""
    value = region.value
    is_box = None not in (value.x, value.y, value.width, value.height)
    is_polygon = options.task == "segment" and bool(value.points)
    if not (is_box and not region.type.startswith("ellipse")) and not is_polygon:
        return None
    path, where = place
    width, height = region.original_width, region.original_height
    if not (width > 0 and height > 0):
        message = "original_width and original_height are missing; the boxes are in percent of them"
        raise InputError(message, path, where)
    if not is_box:
        if any(len(point) != 2 for point in value.points):
            raise InputError("expected points x, y", path, where)
        return hull_of_points([(x * width / 100, y * height / 100) for x, y in value.points])
    left, top = value.x * width / 100, value.y * height / 100
    right, bottom = left + value.width * width / 100, top + value.height * height / 100
    if not value.rotation:
        return left, top, right, bottom
    if options.task != "obb" or not abs(value.rotation) < 1e6:
        message = f"the box is rotated by {value.rotation:g} degrees; --task obb reads its hull"
        raise InputError(message, path, where)
    return hull_of_rotation((left, top, right, bottom), value.rotation, (left, top))


@cache
def _task_type() -> Any:
    """The struct of a task; msgspec is imported only where such a file is read."""
    import msgspec

    number: Any = float | None
    texts: Any = list[str | int] | None
    sides = [(name, number, None) for name in ("x", "y", "width", "height", "rotation")]
    labels = [(name, texts, None) for name in LABELS]
    points: Any = list[list[float]] | None
    value: Any = msgspec.defstruct("Value", [*sides, *labels, ("points", points, None)])
    region: Any = msgspec.defstruct(
        "Region",
        [
            ("value", value, msgspec.field(default_factory=value)),
            ("type", str, "region"),
            ("score", number, None),
            ("original_width", float, 0.0),
            ("original_height", float, 0.0),
        ],
    )
    regions: Any = list[region]
    annotation: Any = msgspec.defstruct(
        "Annotation",
        [
            ("result", regions, []),
            ("was_cancelled", bool, False),
            ("ground_truth", bool, False),
            ("score", number, None),
            ("model_version", str | None, None),
        ],
    )
    annotations: Any = list[annotation]
    return msgspec.defstruct(
        "Task",
        [
            ("data", dict[str, Any], {}),
            ("annotations", annotations, []),
            ("predictions", annotations, []),
            ("file_upload", str | None, None),
        ],
    )
