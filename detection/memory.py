"""Tables from memory: one dict of arrays per image, the form that torchvision's detectors return.

Arrays may be numpy's, torch's (on any device) or plain lists; torch is never imported.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.boxes import box_area, inclusive_size
from detection.errors import InputError
from detection.tables import Catalog, Detections, GroundTruth, ImageId, Pixels

__all__ = ["ClassNames", "detections_from_arrays", "ground_truth_from_arrays"]

Image = Mapping[str, Any]
ClassNames = Sequence[str] | Mapping[int, str]
Reader = Callable[[Image, str], NDArray[Any]]


def ground_truth_from_arrays(
    targets: Sequence[Image],
    *,
    classes: ClassNames | None = None,
    images: Sequence[ImageId] | None = None,
    pixels: Pixels = "continuous",
) -> GroundTruth:
    """Ground truth from one dict per image.

    Args:
        targets: Dicts with `boxes` [n, 4] xyxy px and `labels` [n] (integers, or class names); and
            optionally `difficult`, `iscrowd`, `area` (px^2), each [n].
        classes: Names of the integer labels, by position or by label; None names a label by its
            number.
        images: The images' ids; None counts them from 0.
        pixels: The convention of the corners.

    Raises:
        InputError: If a key is missing, lengths differ, or values are not finite; names the image.

    >>> table = ground_truth_from_arrays([{"boxes": [[0, 0, 9, 9]], "labels": [3]}])
    >>> table.catalog.classes, table.area.tolist()
    (('3',), [81.0])
    """
    columns = _common_columns(targets, classes, images, pixels)
    rows, size = len(columns["image"]), columns["size"]
    order = columns.pop("order")

    def optional(key: str, otherwise: NDArray[Any]) -> NDArray[Any]:
        parts = [
            _checked(image, key, i, 1) if key in image else np.full(_rows(image), np.nan)
            for i, image in enumerate(targets)
        ]
        given = np.concatenate(parts or [np.zeros(0)])[order].astype(np.float64)
        return np.where(np.isnan(given), otherwise, given)

    return GroundTruth(
        **columns,
        area=optional("area", box_area(size)),
        difficult=optional("difficult", np.zeros(rows)) != 0,
        crowd=optional("iscrowd", np.zeros(rows)) != 0,
        annotation_id=np.arange(1, rows + 1),
    )


def detections_from_arrays(
    predictions: Sequence[Image],
    *,
    classes: ClassNames | None = None,
    images: Sequence[ImageId] | None = None,
    pixels: Pixels = "continuous",
) -> Detections:
    """Detections from one dict per image.

    Args:
        predictions: Dicts with `boxes` [n, 4] xyxy px, `scores` [n] and `labels` [n].
        classes: See `ground_truth_from_arrays`.
        images: See `ground_truth_from_arrays`.
        pixels: The convention of the corners.

    Raises:
        InputError: If a key is missing, lengths differ, or values are not finite; names the image.
    """
    columns = _common_columns(predictions, classes, images, pixels)
    order = columns.pop("order")
    parts = [_checked(image, "scores", i, 1) for i, image in enumerate(predictions)]
    scores = np.concatenate(parts or [np.zeros(0)])[order]
    return Detections(**columns, score=scores, row=order)


def _common_columns(
    dicts: Sequence[Image],
    classes: ClassNames | None,
    images: Sequence[ImageId] | None,
    pixels: Pixels,
) -> dict[str, Any]:
    """The columns that both tables have, and `order`, the place of each row among the inputs."""
    ids = list(range(len(dicts))) if images is None else list(images)
    if len(ids) != len(dicts):
        raise InputError(f"expected {len(dicts)} image ids, one for each dict, got {len(ids)}")
    if len(set(ids)) != len(ids):
        raise InputError("image ids must differ from each other")
    boxes = [_checked(image, "boxes", i, 2) for i, image in enumerate(dicts)]
    labels = [_labels(image, i, classes) for i, image in enumerate(dicts)]
    sorted_ids = sorted(ids)  # type: ignore[type-var]
    place = {image: i for i, image in enumerate(sorted_ids)}
    image = np.repeat([place[i] for i in ids], [len(part) for part in boxes]).astype(np.int32)
    order = np.argsort(image, kind="stable")
    box = np.concatenate(boxes or [np.zeros((0, 4))])[order]
    names = [name for part in labels for name in part]
    known = _all_classes(names, classes)
    index = {name: k for k, name in enumerate(known)}
    label = np.array([index[name] for name in names], np.int32)[order]
    size = inclusive_size(box) if pixels == "inclusive" else box[:, 2:] - box[:, :2]
    catalog = Catalog(tuple(sorted_ids), known)
    return {
        "image": image[order],
        "label": label,
        "box": box,
        "size": size,
        "catalog": catalog,
        "pixels": pixels,
        "order": order,
    }


def _all_classes(names: list[str], classes: ClassNames | None) -> tuple[str, ...]:
    if classes is not None:
        return tuple(classes.values() if isinstance(classes, Mapping) else classes)
    distinct = set(names)
    if all(name.isdigit() for name in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))


def _rows(image: Image) -> int:
    return len(image["labels"])


def _array(values: Any) -> NDArray[Any]:
    """A numpy array of a tensor, an array or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
        return np.asarray(values.numpy())
    return np.asarray(values)


def _checked(image: Image, key: str, index: int, dimensions: int) -> NDArray[np.float64]:
    """The float64 array image[key], as long as the labels."""
    for needed in (key, "labels"):
        if needed not in image:
            have = ", ".join(map(str, image))
            raise InputError(f"image {index} has no {needed!r}; it has {have}")
    try:
        values = _array(image[key]).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"image {index}: {key!r} is not numeric: {error}") from None
    if dimensions == 2:
        values = values.reshape(0, 4) if values.size == 0 else values
    if values.ndim != dimensions or (dimensions == 2 and values.shape[1] != 4):
        shape = "[n, 4]" if dimensions == 2 else "[n]"
        raise InputError(f"image {index}: {key!r} must be {shape}, not {list(values.shape)}")
    if len(values) != _rows(image):
        raise InputError(f"image {index}: {len(values)} {key} but {_rows(image)} labels")
    if not np.isfinite(values).all():
        raise InputError(f"image {index}: {key!r} holds a value that is not finite")
    return values


def _labels(image: Image, index: int, classes: ClassNames | None) -> list[str]:
    labels = _array(image["labels"])
    if labels.dtype.kind in "US":
        names = [str(label) for label in labels]
    elif labels.size and (labels.dtype.kind == "f" and not np.array_equal(labels, labels.round())):
        raise InputError(f"image {index}: labels must be integers or class names")
    else:
        numbers = [int(label) for label in labels.ravel()]
        if classes is None:
            return [str(number) for number in numbers]
        try:
            names = [classes[number] for number in numbers]
        except (KeyError, IndexError):
            raise InputError(
                f"image {index}: a label of {sorted(set(numbers))} has no name in classes"
            ) from None
    if classes is not None:
        known = set(classes.values() if isinstance(classes, Mapping) else classes)
        if unknown := sorted(set(names) - known):
            raise InputError(f"image {index}: unknown class {unknown[0]!r}")
    return names
