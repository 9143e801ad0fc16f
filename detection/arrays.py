"""Tables from memory: one dict of arrays per image, the form that torchvision's detectors return.

Arrays may be NumPy's, PyTorch's (on any device) or plain lists; torch is never imported. Where the
arrays of all images have one type, a column is built in one call; where they differ, or one of them
is invalid, it is built image by image, so that an error can name its image.
"""

import operator
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import box_area, inclusive_size
from upmap.detection.tables import (
    Catalog,
    Detections,
    GroundTruth,
    ImageId,
    Pixels,
    class_order,
    is_bounded,
    sort_ids,
)
from upmap.errors import InputError

__all__ = ["ClassNames", "detections_from_arrays", "ground_truth_from_arrays"]

ImageArrays = Mapping[str, Any]
ClassNames = Sequence[str] | Mapping[int, str]


def ground_truth_from_arrays(
    targets: Sequence[ImageArrays],
    *,
    classes: ClassNames | None = None,
    images: Sequence[ImageId] | None = None,
    pixels: Pixels = "continuous",
) -> GroundTruth:
    """Ground truth from one dict per image.

    Args:
        targets: Dicts with `boxes` [n, 4] xyxy px and `labels` [n] (all integers, or all class
            names: 1 is not "1"); and optionally `difficult`, `iscrowd`, `area` (px^2), each [n].
        classes: Names of the integer labels, by position or by label; None names a label by its
            number.
        images: The images' ids; None counts them from 0.
        pixels: The convention of the corners.

    Raises:
        InputError: If a key is missing, lengths differ, values are not finite, or a box is
            inverted; names the image.

    >>> table = ground_truth_from_arrays([{"boxes": [[0, 0, 9, 9]], "labels": [3]}])
    >>> table.catalog.classes, table.area.tolist()
    (('3',), [81.0])
    """
    columns, counts, order = _common_columns(targets, classes, images, pixels)
    rows = len(order)
    _validate_corners(columns)

    def optional(key: str, otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
        if not any(key in image for image in targets):
            return otherwise
        column = _optional_column(targets, key, counts)[order]
        return np.where(np.isnan(column), otherwise, column)

    return GroundTruth(
        **columns,
        area=optional("area", box_area(columns["size"])),
        difficult=optional("difficult", np.zeros(rows)) != 0,
        crowd=optional("iscrowd", np.zeros(rows)) != 0,
        annotation_id=np.arange(1, rows + 1),
    )


def detections_from_arrays(
    predictions: Sequence[ImageArrays],
    *,
    classes: ClassNames | None = None,
    images: Sequence[ImageId] | None = None,
    pixels: Pixels = "continuous",
) -> Detections:
    """Detections from one dict per image.

    `row` numbers them by image (ids ascending), then by their place in the dict, whatever the order
    of the dicts: where scores are equal the order is the same in a table of all images as in
    tables of any of them, which `upmap.metrics.concatenate` puts together.

    Args:
        predictions: Dicts with `boxes` [n, 4] xyxy px, `scores` [n] and `labels` [n].
        classes: See `ground_truth_from_arrays`.
        images: See `ground_truth_from_arrays`.
        pixels: The convention of the corners.

    Raises:
        InputError: If a key is missing, lengths differ, or values are not finite; names the image.
    """
    columns, counts, order = _common_columns(predictions, classes, images, pixels)
    score = _column(predictions, "scores", counts)
    return Detections(**columns, score=score[order], row=np.arange(len(order)), rows_by_image=True)


def _common_columns(
    dicts: Sequence[ImageArrays],
    classes: ClassNames | None,
    images: Sequence[ImageId] | None,
    pixels: Pixels,
) -> tuple[dict[str, Any], NDArray[np.int64], NDArray[np.int64]]:
    """The columns that both tables have; each dict's rows; each row's place among the inputs."""
    ids = _image_ids(dicts, images)
    known = None if classes is None else _names_by_label(classes)
    labels = _labels(dicts, known)
    counts = labels.counts
    boxes = _column(dicts, "boxes", counts, width=4)
    catalog = Catalog(tuple(sort_ids(ids)), labels.names, has_numbers=labels.has_numbers)
    place = {image: i for i, image in enumerate(catalog.images)}
    image = np.repeat(np.array([place[i] for i in ids], np.int32), counts)
    order = np.argsort(image, kind="stable")  # quick where they ascend already
    box = boxes[order]
    columns = {
        "image": image[order],
        "label": labels.index[order],
        "box": box,
        "size": inclusive_size(box) if pixels == "inclusive" else box[:, 2:] - box[:, :2],
        "catalog": catalog,
        "pixels": pixels,
    }
    return columns, counts, order


def _validate_corners(columns: dict[str, Any]) -> None:
    inverted = np.flatnonzero((columns["size"] < 0).any(axis=1)).tolist()
    if inverted:
        image = columns["catalog"].images[columns["image"][inverted[0]]]
        corners = columns["box"][inverted[0]].tolist()
        raise InputError(f"image {image!r}: a ground truth's box is inverted: {corners}")


def _image_ids(dicts: Sequence[ImageArrays], images: Sequence[ImageId] | None) -> list[ImageId]:
    """The ids as Python's integers or strings, one for each dict."""
    for i, image in enumerate(dicts):
        if type(image) is not dict and not isinstance(image, Mapping):
            raise InputError(f"image {i} must be a dict of arrays, not {type(image).__name__}")
    try:
        keys = range(len(dicts)) if images is None else images
        ids = [key if isinstance(key, str) else operator.index(key) for key in keys]
    except TypeError:
        raise InputError("image ids must be integers or strings") from None
    if len(ids) != len(dicts):
        raise InputError(f"expected {len(dicts)} image ids, one for each dict, got {len(ids)}")
    if len(set(ids)) != len(ids):
        raise InputError("image ids must differ from each other")
    return ids


def _names_by_label(classes: ClassNames) -> dict[int, str]:
    """Label to class name."""
    numbered = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    if len(set(numbered.values())) != len(numbered):
        raise InputError("the names in classes must differ from each other")
    return numbered


def _column(
    dicts: Sequence[ImageArrays], key: str, counts: NDArray[np.int64], width: int | None = None
) -> NDArray[np.float64]:
    """The float64 column `key` of all dicts, [n], or [n, width] with a width."""
    whole = _concatenate(dicts, key, width)
    if whole is not None and np.array_equal(whole[1], counts):
        values = whole[0].astype(np.float64, copy=False)
        if (np.isfinite if width is None else is_bounded)(values).all():
            return values
    parts = [
        _validate_array(image, key, i, n, width)
        for i, (image, n) in _enumerate_images(dicts, counts)
    ]
    return np.concatenate([*parts, np.zeros((0,) if width is None else (0, width))])


def _optional_column(
    dicts: Sequence[ImageArrays], key: str, counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """As `_column`, for a key that dicts may lack: NaN where it is missing."""
    if all(key in image for image in dicts):
        return _column(dicts, key, counts)
    parts = [
        _validate_array(image, key, i, n) if key in image else np.full(n, np.nan)
        for i, (image, n) in _enumerate_images(dicts, counts)
    ]
    return np.concatenate(parts)


def _enumerate_images(
    dicts: Sequence[ImageArrays], counts: NDArray[np.int64]
) -> Iterable[tuple[int, tuple[ImageArrays, int]]]:
    return enumerate(zip(dicts, counts.tolist(), strict=True))


def _concatenate(
    dicts: Sequence[ImageArrays], key: str, width: int | None = None
) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """`key` of all dicts, end to end, and the rows of each; None if types or shapes differ."""
    parts: list[Any] = [image.get(key) for image in dicts]
    types, torch = set(map(type, parts)), sys.modules.get("torch")
    if types == {np.ndarray}:
        sizes, join = [part.size for part in parts], np.concatenate
    elif types and torch and all(issubclass(part, torch.Tensor) for part in types):
        sizes, join = list(map(torch.numel, parts)), torch.cat
    else:
        return None
    full = [part for part, size in zip(parts, sizes, strict=True) if size]
    empty = [part for part, size in zip(parts, sizes, strict=True) if not size]
    if len({part.dtype for part in full}) != 1:
        return None
    if not width and any(part.ndim != 1 for part in empty):
        return None
    try:
        values = _array(join(full))
    except (RuntimeError, ValueError):  # of different shapes, or on different devices
        return None
    if values.dtype.kind not in "fiub" or values.shape[1:] != ((width,) if width else ()):
        return None
    return values, np.array(sizes) // (width or 1)


def _array(values: Any) -> NDArray[Any]:
    """A numpy array of a tensor, an array or a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        try:
            return np.asarray(values.numpy())
        except TypeError:  # bfloat16, which numpy does not have
            return np.asarray(values.double().numpy())
    return np.asarray(values)


def _validate_array(
    image: ImageArrays, key: str, index: int, rows: int, width: int | None = None
) -> NDArray[np.float64]:
    """The float64 array image[key], [rows], or [rows, width] with a width."""
    value = _value(image, key, index)
    try:
        array = _array(value)
        if array.dtype.kind == "c":
            raise TypeError("complex numbers")
        values: NDArray[np.float64] = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"image {index}: {key!r} is not numeric: {error}") from None
    if width is not None and values.size == 0:
        values = values.reshape(0, width)
    if values.shape[1:] != (() if width is None else (width,)) or values.ndim == 0:
        shape = "[n]" if width is None else f"[n, {width}]"
        raise InputError(f"image {index}: {key!r} must be {shape}, not {list(values.shape)}")
    if len(values) != rows:
        raise InputError(f"image {index}: {len(values)} {key} but {rows} labels")
    if not (np.isfinite if width is None else is_bounded)(values).all():
        raise InputError(f"image {index}: {key!r} holds a value that is not finite")
    return values


def _value(image: ImageArrays, key: str, index: int) -> Any:
    if key not in image:
        raise InputError(f"image {index} has no {key!r}; it has {', '.join(map(str, image))}")
    return image[key]


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """The classes of all rows.

    Attributes:
        index: int32 [N], into names.
        names: The class names.
        counts: int64 [I], the rows of each dict.
        has_numbers: Whether the names are integers that `classes` did not name.
    """

    index: NDArray[np.int32]
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    has_numbers: bool


def _labels(dicts: Sequence[ImageArrays], known: dict[int, str] | None) -> _Labels:
    whole = _concatenate(dicts, "labels")
    if whole is not None and _are_integers(whole[0]):
        numbers, index = np.unique(whole[0].astype(np.int64), return_inverse=True)
        if known is None:
            names = tuple(map(str, numbers.tolist()))
            return _Labels(index.astype(np.int32), names, whole[1], len(names) > 0)
        if known.keys() >= set(numbers.tolist()):
            place = {number: k for k, number in enumerate(known)}
            places = np.array([place[number] for number in numbers.tolist()], np.int32)
            return _Labels(places[index], tuple(known.values()), whole[1], False)
    parts = [_label_values(image, i) for i, image in enumerate(dicts)]
    has_numbers = known is None and _are_numbers(parts)
    labels = [name for i, part in enumerate(parts) for name in _label_names(part, i, known)]
    names = class_order(set(labels)) if known is None else tuple(known.values())
    place_of = {name: k for k, name in enumerate(names)}
    label = np.array([place_of[name] for name in labels], np.int32)
    return _Labels(label, names, np.array(list(map(len, parts)), np.int64), has_numbers)


def _label_values(image: ImageArrays, index: int) -> list[int] | list[str]:
    """The labels of a dict, all integers or all names."""
    values = _value(image, "labels", index)
    labels = _array(values)
    if labels.ndim != 1:
        raise InputError(f"image {index}: 'labels' must be [n], not {list(labels.shape)}")
    # NumPy turns an integer beside a name into text.
    is_mixed = isinstance(values, list | tuple) and len({isinstance(v, str) for v in values}) > 1
    if not is_mixed and all(isinstance(label, str) for label in labels):
        return [str(label) for label in labels]
    if is_mixed or not _are_integers(labels):
        raise InputError(f"image {index}: labels must be integers or class names")
    numbers: list[int] = labels.astype(np.int64).tolist()
    return numbers


def _are_numbers(parts: Sequence[list[int] | list[str]]) -> bool:
    """Whether there are labels and they are integers.

    Raises:
        InputError: If those of some dicts are integers and those of others are names.
    """
    first: dict[bool, int] = {}
    for i, part in enumerate(parts):
        if part:
            first.setdefault(isinstance(part[0], int), i)
    if len(first) > 1:
        number, name = parts[first[True]][0], parts[first[False]][0]
        raise InputError(
            f"image {first[True]}: the label {number} is an integer, but {name!r} of image "
            f"{first[False]} is a class name; classes= says which name an integer has"
        )
    return True in first


def _label_names(
    labels: list[int] | list[str], index: int, classes: dict[int, str] | None
) -> list[str]:
    """The class name of each label."""
    if classes is None:
        return list(map(str, labels))
    names, known = list(map(str, labels)), set(classes.values())
    if labels and isinstance(labels[0], int):
        if unnamed := sorted(set(labels) - set(classes)):
            raise InputError(f"image {index}: label {unnamed[0]} has no name in classes")
        names = [classes[number] for number in labels]
    if unknown := sorted(set(names) - known):
        raise InputError(f"image {index}: no class {unknown[0]!r} in classes")
    return names


def _are_integers(values: NDArray[Any]) -> bool:
    if values.dtype.kind == "f":
        values = values.astype(np.float64, copy=False)  # 2^53 is beyond float16
        return bool(((np.abs(values) <= 2**53) & (values == np.round(values))).all())
    return values.dtype.kind == "i" or (values.dtype.kind == "u" and bool((values < 2**63).all()))
