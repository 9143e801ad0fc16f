"""The reference of reading COCO JSON: Python's json, then one record at a time.

Source: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from upmap.kernels.coco_json import JsonError

__all__ = [
    "BOM",
    "MAX_DEPTH",
    "NEAR",
    "SPACE",
    "depth",
    "empty",
    "ends_early",
    "error_place",
    "instances",
    "is_constant",
    "loads",
    "malformed_error",
    "missing",
    "mixed_ids_error",
    "not_an_array",
    "not_utf8",
    "of_type",
    "read_record",
    "results",
    "too_deep",
]

MAX_DEPTH = 512  # of nested objects and arrays
LARGEST_EXACT = 2**53  # up to here a float64 holds every integer
MOST_DIGITS = 4000  # Python refuses to read integers of more than 4300
BOM = b"\xef\xbb\xbf"
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'  # or what begins as one; takes no memory
TOKEN = re.compile(rf"{STRING}|[\[\]{{}}]", re.DOTALL)
CONSTANT = re.compile(rf"{STRING}|NaN|-?Infinity", re.DOTALL)
SPACE = " \t\r\n"
MOST_SHOWN = 60  # characters of a quoted value
NEAR = 16  # characters of malformed text that are shown
SECTIONS = ("images", "annotations", "categories")
WHOLE: dict[str, tuple[type, str]] = {
    "instances": (dict, "an object of images, annotations and categories"),
    "results": (list, "a list of results"),
}
IMAGE_ID = {"images": 0, "annotations": 1, "categories": 0, "": 0}  # which value of a record
NAMES: dict[type, str] = {
    dict: "object",
    list: "array",
    str: "str",
    bool: "bool",
    type(None): "null",
}

Record = dict[str, Any]
Source = str | os.PathLike[str] | bytes


def instances(source: Source, threads: int = 0) -> dict[str, Any]:
    """See `upmap.kernels.coco_json.instances`; `threads` is not used."""
    whole = of_type(_parse_json(source), "instances")
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


def results(source: Source, threads: int = 0) -> dict[str, Any]:
    """See `upmap.kernels.coco_json.results`; `threads` is not used."""
    rows = of_type(_parse_json(source), "results")
    image_id, category_id, bbox, score = _columns(rows, "", 4)
    return {
        "image_id": _ids(image_id),
        "category_id": _ids(category_id),
        **_boxes(bbox),
        "score": _floats(score),
    }


def read_record(section: str, value: Any, where: str) -> tuple[Any, ...]:
    """The values of one record.

    Args:
        section: "images", "annotations" or "categories"; "" of results.
        value: What Python's json makes of it.
        where: Its place, as messages name it.

    Raises:
        JsonError: If it is no such record; has `where` it stands and the key.
    """
    if not isinstance(value, dict):
        raise _type_error("object", value, where)
    return RECORDS[section](value, where)


def _parse_json(source: Source) -> Any:
    """What Python's json makes of the file, with JSON's own numbers only."""
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    data = data.removeprefix(BOM)
    text = _decode(data)
    if not text.strip(SPACE):
        raise empty(text.count("\n") + 1)
    try:
        parsed = loads(text)
    except json.JSONDecodeError as error:
        raise _not_json(error, text, len(data)) from None
    except RecursionError:
        raise too_deep() from None
    if depth(text) > MAX_DEPTH:
        raise too_deep()
    return parsed


def _not_json(error: json.JSONDecodeError, text: str, size: int) -> JsonError:
    """What is wrong with a text of so many bytes: nested too deeply, cut short, or malformed."""
    place = error_place(error, text)
    if depth(text[:place]) > MAX_DEPTH:
        return too_deep()
    whole = text.rstrip(SPACE)
    is_cut = place >= len(whole) or whole[-1] not in "]}"
    if is_cut and not is_constant(error):
        return ends_early(size, text.count("\n") + 1)
    line = text.count("\n", 0, place) + 1
    return malformed_error(error, text[place : place + NEAR], line)


def loads(text: str) -> Any:
    """What Python's json makes of a text, with JSON's own numbers only."""
    return json.loads(text, parse_constant=_no_number, parse_int=_whole)


def depth(text: str) -> int:
    """How many objects and arrays the text opens within one another, at most."""
    here = deepest = 0
    for token in TOKEN.finditer(text):
        if text[token.start()] in "[{":
            here += 1
            deepest = max(deepest, here)
        elif text[token.start()] in "]}":
            here -= 1
    return deepest


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise not_utf8(data[error.start], line) from None


def not_utf8(byte: int, line: int) -> JsonError:
    """The error of a byte that is no part of UTF-8 text."""
    return JsonError(f"byte 0x{byte:02x} is not UTF-8 text", str(line))


def _no_number(name: str) -> NoReturn:
    raise _NoNumber(name)


class _NoNumber(json.JSONDecodeError):
    """NaN or Infinity, which Python's json would take; it does not say where it stands."""

    def __init__(self, name: str):
        super().__init__(f"{name.removeprefix('-')} is not a number in JSON", "", 0)
        self.name = name


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MOST_DIGITS else math.inf


def too_deep() -> JsonError:
    """The error of JSON that is nested too deeply."""
    return JsonError(f"JSON is nested too deeply, more than {MAX_DEPTH} levels", "1")


def empty(line: int) -> JsonError:
    """The error of a file that holds white space only, up to a line."""
    return JsonError("the file is empty; expected JSON", str(line))


def ends_early(size: int, line: int) -> JsonError:
    """The error of JSON that ends in its midst, on a line, after so many bytes."""
    return JsonError(f"JSON ends too early, after {size} bytes", str(line))


def is_constant(error: json.JSONDecodeError) -> bool:
    """Whether an error of `loads` is that of NaN or Infinity."""
    return isinstance(error, _NoNumber)


def error_place(error: json.JSONDecodeError, text: str) -> int:
    """Where in `text`, which has it, an error of `loads` stands."""
    if not isinstance(error, _NoNumber):
        return error.pos
    return next(found.start() for found in CONSTANT.finditer(text) if found[0] == error.name)


def malformed_error(error: json.JSONDecodeError, near: str, line: int) -> JsonError:
    """The error of malformed JSON: the line, and some of what stands there."""
    if isinstance(error, _NoNumber):
        return JsonError(error.msg, str(line))
    message = (
        "trailing characters" if error.msg == "Extra data" else error.msg[0].lower() + error.msg[1:]
    )
    shown = near[:NEAR].partition("\n")[0]
    return JsonError(f"JSON is malformed: {message}, near {shown!r}", str(line))


def of_type(value: Any, kind: str) -> Any:
    """`value`, if it is what "instances" or "results" are."""
    expected, words = WHOLE[kind]
    if not isinstance(value, expected):
        found = {"array": "a list", "object": "an object"}.get(_kind(value), _kind(value))
        raise JsonError(f"expected {words}, got {found}", "1")
    return value


def _array(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise not_an_array(value, key)
    return value


def not_an_array(value: Any, key: str) -> JsonError:
    """The error of a section that is another value."""
    return _type_error("array", value, key)


def _columns(rows: list[Any], within: str, width: int) -> list[list[Any]]:
    """The values of an array's records, one list for each of the `width` values of a record."""
    records = [read_record(within, row, f"{within}[{i}]") for i, row in enumerate(rows)]
    columns = [list(column) for column in zip(*records, strict=True)] or [[] for _ in range(width)]
    if len({type(value) for value in columns[IMAGE_ID[within]]}) > 1:
        raise mixed_ids_error(within)
    return columns


def mixed_ids_error(within: str) -> JsonError:
    """The error of image ids of two kinds."""
    key = "id" if within == "images" else "image_id"
    return JsonError(f"{key} is a string in some places and a number in others", within)


def _require(row: Record, key: str, where: str) -> Any:
    if key not in row:
        raise missing(f"{where}.{key}" if where else key)
    return row[key]


def missing(where: str) -> JsonError:
    """The error of a key that is not there."""
    return JsonError("missing", where)


def _ids(values: list[Any]) -> Any:
    return values if values and isinstance(values[0], str) else np.array(values, np.int64)


def _image(row: Record, where: str) -> tuple[Any, ...]:
    return (
        _require_id(row, "id", where, _image_id),
        _text(row, "file_name", where),
        [_optional(row, side, 0.0, where) for side in ("width", "height")],
    )


def _annotation(row: Record, where: str) -> tuple[Any, ...]:
    return (
        _require_id(row, "id", where, _integer),
        _require_id(row, "image_id", where, _image_id),
        _require_id(row, "category_id", where, _integer),
        _bbox(_require(row, "bbox", where), f"{where}.bbox"),
        _area(row, where),
        _flag(row, "iscrowd", where),
        _mark(row, "difficult"),
    )


def _category(row: Record, where: str) -> tuple[Any, ...]:
    return _require_id(row, "id", where, _integer), _text(row, "name", where)


def _result(row: Record, where: str) -> tuple[Any, ...]:
    return (
        _require_id(row, "image_id", where, _image_id),
        _require_id(row, "category_id", where, _integer),
        _bbox(_require(row, "bbox", where), f"{where}.bbox"),
        _number(_require(row, "score", where), f"{where}.score"),
    )


def _require_id(
    row: Record, key: str, where: str, read: Callable[[Any, str], int | str]
) -> int | str:
    return read(_require(row, key, where), f"{where}.{key}")


def _image_id(value: Any, where: str) -> int | str:
    return _unicode(value, where) if isinstance(value, str) else _integer(value, where)


def _integer(value: Any, where: str) -> int:
    """An integer of 64 bits, which 1.0 is too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _type_error("int", value, where)
    is_whole = (
        value.is_integer() and abs(value) <= LARGEST_EXACT
        if isinstance(value, float)
        else -(2**63) <= value < 2**63
    )
    if not is_whole:
        raise JsonError(f"expected an integer of 64 bits, got {_abbreviate(value)}", where)
    return int(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _type_error("float", value, where)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise JsonError("Number out of range", where)
    return number


def _optional(row: Record, key: str, otherwise: float, where: str) -> float:
    return _number(row[key], f"{where}.{key}") if key in row else otherwise


def _area(row: Record, where: str) -> float:
    return math.nan if row.get("area") is None else _number(row["area"], f"{where}.area")


def _flag(row: Record, key: str, where: str) -> bool:
    value = row.get(key, False)
    if not isinstance(value, bool | int | float):
        raise _type_error("bool", value, f"{where}.{key}")
    return bool(value)


def _mark(row: Record, key: str) -> bool:
    """A flag that is no part of the format: whatever is no true value is no mark, and no error."""
    value = row.get(key)
    return isinstance(value, bool | int | float) and bool(value)


def _text(row: Record, key: str, where: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        raise _type_error("str", value, f"{where}.{key}")
    return _unicode(value, f"{where}.{key}")


def _unicode(value: str, where: str) -> str:
    """`value`, which JSON's escapes may have made something that is not text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise JsonError(f"not Unicode text: {_abbreviate(value)}", where) from None
    return value


def _abbreviate(value: Any) -> str:
    """A value as a message quotes it."""
    words = repr(value)
    return words if len(words) <= MOST_SHOWN else f"{words[: MOST_SHOWN - 3]}..."


def _boxes(rows: list[Any]) -> dict[str, Any]:
    bbox = _floats(rows, 4)
    corners = np.concatenate([bbox[:, :2], bbox[:, 2:] + bbox[:, :2]], axis=1)
    return {"box": corners, "size": bbox[:, 2:].copy()}


def _bbox(value: Any, where: str) -> list[float]:
    if not isinstance(value, list):
        raise _type_error("array", value, where)
    if len(value) != 4:
        raise JsonError(f"Expected `array` of length 4, got {len(value)}", where)
    return [_number(side, f"{where}[{i}]") for i, side in enumerate(value)]


def _floats(rows: list[Any], width: int | None = None) -> Any:
    column = np.array(rows, np.float64)
    return column if width is None else column.reshape(-1, width)


def _type_error(expected: str, value: Any, where: str) -> JsonError:
    return JsonError(f"Expected `{expected}`, got `{_kind(value)}`", where)


def _kind(value: Any) -> str:
    return NAMES.get(type(value), type(value).__name__)


RECORDS: dict[str, Callable[[Record, str], tuple[Any, ...]]] = {
    "images": _image,
    "annotations": _annotation,
    "categories": _category,
    "": _result,
}
