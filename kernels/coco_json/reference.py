"""The reference reader of COCO JSON: Python's json, then one record at a time.

File: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

import codecs
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from upmap.kernels import FormatError
from upmap.kernels.coco_json.contract import LARGEST_SIDE, NO_ID, Columns, File, Kind
from upmap.kernels.coco_json.json_text import (
    MAX_DEPTH,
    MAX_NEAR,
    SPACE,
    depth,
    depth_error,
    empty_file_error,
    loads,
    syntax_error,
    truncation_error,
    utf8_error,
)
from upmap.kernels.coco_json.masks import measure_mask

__all__ = [
    "instances",
    "key_error",
    "read_record",
    "results",
    "type_error",
    "validate_whole",
]

LARGEST_EXACT = 2**53  # up to here a float64 holds every integer
MAX_QUOTED = 60  # characters that a message quotes of a value
SECTIONS = ("images", "annotations", "categories")
WHOLE: dict[str, tuple[tuple[type, ...], str]] = {
    "instances": ((dict,), "an object of images, annotations and categories"),
    "results": ((list, dict), "a list of results"),
}
# What a number looks like in a text: JSON's numbers, and some that others write.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
TYPE_NAMES: dict[type, str] = {
    dict: "object",
    list: "array",
    str: "str",
    bool: "bool",
    type(None): "null",
}

Record = dict[str, Any]


def instances(source: File) -> Columns:
    """See `upmap.kernels.coco_json.instances`; errors do not name the path."""
    whole = validate_whole(_parse_json(source), "instances")
    arrays = {key: _array(_require(whole, key, ""), key) for key in SECTIONS}
    image_id, file_name, image_size = _columns(arrays["images"], "images", 3)
    number, on_image, of_class, bbox, area, crowd, difficult = _columns(
        arrays["annotations"], "annotations", 7
    )
    category_id, category_name = _columns(arrays["categories"], "categories", 2)
    return {
        "image_id": _ids(image_id),
        "file_name": file_name,
        "image_size": _floats(image_size, 2),
        "category_id": _ids(category_id),
        "category_name": category_name,
        "annotation_id": _ids(number),
        "annotation_image_id": _ids(on_image),
        "annotation_category_id": _ids(of_class),
        **_boxes(bbox),
        "area": _floats(area),
        "crowd": np.array(crowd, bool),
        "difficult": np.array(difficult, bool),
    }


def results(source: File) -> Columns:
    """See `upmap.kernels.coco_json.results`; errors do not name the path."""
    whole = validate_whole(_parse_json(source), "results")
    within, names = "", {}
    if isinstance(whole, dict):  # as an instances file, whose annotations have scores
        names = _names_of_results(whole)
        within, whole = "annotations", _array(_require(whole, "annotations", ""), "annotations")
    records = [read_record("", row, f"{within}[{i}]") for i, row in enumerate(whole)]
    image_id, category_id, bbox, score, mask_area = _transpose(records, 5)
    return {
        "image_id": _ids(image_id),
        "category_id": _ids(category_id),
        **_boxes(bbox),
        "score": _floats(score),
        **_mask_areas(mask_area),
        **names,
    }


def _names_of_results(whole: Record) -> Columns:
    """The names of images and categories in a results file that is a whole COCO object."""
    columns = {}
    sections = (("images", "file_names", _image), ("categories", "category_names", _category))
    for key, name, read in sections:
        rows = [read(row, key) for row in _array(whole.get(key, []), key) if isinstance(row, dict)]
        columns[name] = {row[0]: row[1] for row in rows if row[1]}
    return columns


def read_record(section: str, value: Any, where: str) -> tuple[Any, ...]:
    """The values of one record.

    Args:
        section: "images", "annotations" or "categories"; "" for results.
        value: The record, parsed by Python's json.
        where: Its place, for messages.

    Raises:
        FormatError: If it is no such record; `where` is its place and the key.
    """
    if not isinstance(value, dict):
        raise type_error("object", value, where)
    return RECORDS[section](value, where)


def _parse_json(source: File) -> Any:
    """Parses the whole file.

    Raises:
        FormatError: If it is not JSON.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    data = data.removeprefix(codecs.BOM_UTF8)
    text = _decode(data)
    if not text.strip(SPACE):
        raise empty_file_error(text.count("\n") + 1)
    try:
        parsed = loads(text)
    except json.JSONDecodeError as error:
        raise _text_error(error, text, len(data)) from None
    except RecursionError:
        raise depth_error() from None
    if depth(text) > MAX_DEPTH:
        raise depth_error()
    return parsed


def _text_error(error: json.JSONDecodeError, text: str, size: int) -> FormatError:
    """The error of a text of `size` bytes: it is nested too deeply, truncated, or malformed."""
    place = error.pos
    if depth(text[:place]) > MAX_DEPTH:
        return depth_error()
    visible = text.rstrip(SPACE)
    is_truncated = place >= len(visible) or visible[-1] not in "]}"
    if is_truncated:
        return truncation_error(size, text.count("\n") + 1)
    near = text[place : place + MAX_NEAR]
    return syntax_error(error, near, text.count("\n", 0, place) + 1)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise utf8_error(data[error.start], line) from None


def validate_whole(value: Any, kind: Kind) -> Any:
    """`value`, if it is of the type of a whole file.

    Raises:
        FormatError: If not.
    """
    expected, words = WHOLE[kind]
    if not isinstance(value, expected):
        name = _type_name(value)
        got = {"array": "a list", "object": "an object"}.get(name, name)
        raise FormatError(f"expected {words}, got {got}", "", "1")
    return value


def _array(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise type_error("array", value, key)
    return value


def _columns(rows: list[Any], within: str, width: int) -> list[list[Any]]:
    """The values of an array's records, one list for each of the `width` values of a record."""
    return _transpose(
        [read_record(within, row, f"{within}[{i}]") for i, row in enumerate(rows)], width
    )


def _transpose(records: list[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*records, strict=True)] or [[] for _ in range(width)]


def _require(row: Record, key: str, where: str) -> Any:
    if key not in row:
        raise key_error(f"{where}.{key}" if where else key)
    return row[key]


def key_error(where: str) -> FormatError:
    """The error of a missing key."""
    return FormatError("missing", "", where)


def _ids(values: list[Any]) -> Any:
    if not any(isinstance(value, str) for value in values):
        return np.array([NO_ID if value is None else value for value in values], np.int64)
    return values


def _image(row: Record, where: str) -> tuple[Any, ...]:
    return (
        _require_id(row, "id", where),
        _name(row, "file_name"),
        [_side(row.get(side)) for side in ("width", "height")],
    )


def _annotation(row: Record, where: str) -> tuple[Any, ...]:
    return (
        _number_of_annotation(row.get("id")),
        _require_reference(row, "image_id", where),
        _require_reference(row, "category_id", where),
        _bbox(_require(row, "bbox", where), f"{where}.bbox"),
        _area(row, where),
        _flag(row, "iscrowd", where),
        _mark(row, "difficult"),
    )


def _category(row: Record, where: str) -> tuple[Any, ...]:
    return _require_id(row, "id", where), _name(row, "name")


def _result(row: Record, where: str) -> tuple[Any, ...]:
    box, mask_area = _box_or_mask(row, where)
    return (
        _require_reference(row, "image_id", where),
        _require_reference(row, "category_id", where),
        box,
        _number_or_text(_require(row, "score", where), f"{where}.score"),
        mask_area,
    )


def _require_id(row: Record, key: str, where: str) -> int | str:
    return _id(_require(row, key, where), f"{where}.{key}")


def _require_reference(row: Record, key: str, where: str) -> int | str | None:
    """The id of an image or a category; null leads nowhere."""
    value = _require(row, key, where)
    return None if value is None else _id(value, f"{where}.{key}")


def _number_of_annotation(value: Any) -> int:
    """The id of an annotation, which no number depends on."""
    try:
        return _integer(value, "")
    except FormatError:
        return NO_ID


def _id(value: Any, where: str) -> int | str:
    return _unicode(value, where) if isinstance(value, str) else _integer(value, where)


def _integer(value: Any, where: str) -> int:
    """An integer of 64 bits; a float without a fraction, such as 1.0, counts as one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise type_error("int", value, where)
    is_whole = (
        value.is_integer() and abs(value) <= LARGEST_EXACT
        if isinstance(value, float)
        else NO_ID < value < 2**63
    )
    if not is_whole:
        raise FormatError(f"expected an integer of 64 bits, got {_abbreviate(value)}", "", where)
    return int(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise type_error("float", value, where)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FormatError("Number out of range", "", where)
    return number


def _side(value: Any) -> float:
    """A side of an image, px; 0 for what is none."""
    is_side = type(value) in (int, float) and 0 <= value <= LARGEST_SIDE
    return float(value) if is_side else 0.0


def _number_or_text(value: Any, where: str) -> float:
    """A number, which may be spelled as a text, as in "10.5"."""
    if isinstance(value, str) and len(value) < MAX_QUOTED and NUMBER.fullmatch(value):
        value = float(value)
    return _number(value, where)


def _box_or_mask(row: Record, where: str) -> tuple[Any, float | None]:
    """The box of a result, and the area of its mask if the box is that of the mask."""
    if row.get("bbox", []) or "segmentation" not in row:
        return _bbox(_require(row, "bbox", where), f"{where}.bbox"), None
    measures = measure_mask(row["segmentation"])
    if measures is None:
        message = "not a mask in run-length encoding; a result without bbox needs such a mask"
        raise FormatError(message, "", f"{where}.segmentation")
    return measures


def _mask_areas(areas: Sequence[float | None]) -> Columns:
    """The column of the areas of masks, if there is a mask."""
    if all(area is None for area in areas):
        return {}
    return {"mask_area": np.array([math.nan if area is None else area for area in areas])}


def _area(row: Record, where: str) -> float:
    return math.nan if row.get("area") is None else _number_or_text(row["area"], f"{where}.area")


def _flag(row: Record, key: str, where: str) -> bool:
    value = row.get(key)
    if value is not None and not isinstance(value, bool | int | float):
        raise type_error("bool", value, f"{where}.{key}")
    return bool(value)


def _mark(row: Record, key: str) -> bool:
    """A flag that is not part of the format: a value of another type is no mark, and no error."""
    value = row.get(key)
    return isinstance(value, bool | int | float) and bool(value)


def _name(row: Record, key: str) -> str:
    """A name, which may be an integer; empty for anything else."""
    value = row.get(key)
    if type(value) is int and -(2**63) <= value < 2**63:
        return str(value)
    if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
        return ""
    return value


def _unicode(value: str, where: str) -> str:
    """`value`, without lone surrogates, which JSON's escapes can write.

    Raises:
        FormatError: If it has any.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FormatError(f"not Unicode text: {_abbreviate(value)}", "", where) from None
    return value


def _abbreviate(value: Any) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}..."


def _boxes(rows: list[Any]) -> dict[str, Any]:
    bbox = _floats(rows, 4)
    corners = np.concatenate([bbox[:, :2], bbox[:, 2:] + bbox[:, :2]], axis=1)
    return {"box": corners, "size": bbox[:, 2:].copy()}


def _bbox(value: Any, where: str) -> list[float]:
    if not isinstance(value, list):
        raise type_error("array", value, where)
    if len(value) != 4:
        raise FormatError(f"Expected `array` of length 4, got {len(value)}", "", where)
    return [_number_or_text(side, f"{where}[{i}]") for i, side in enumerate(value)]


def _floats(rows: list[Any], width: int | None = None) -> Any:
    column = np.array(rows, np.float64)
    return column if width is None else column.reshape(-1, width)


def type_error(expected: str, value: Any, where: str) -> FormatError:
    """The error of a value of another type than `expected`."""
    return FormatError(f"Expected `{expected}`, got `{_type_name(value)}`", "", where)


def _type_name(value: Any) -> str:
    return TYPE_NAMES.get(type(value), type(value).__name__)


RECORDS: dict[str, Callable[[Record, str], tuple[Any, ...]]] = {
    "images": _image,
    "annotations": _annotation,
    "categories": _category,
    "": _result,
}
