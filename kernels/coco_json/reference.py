"""The oracle of reading COCO JSON: Python's json, then one record at a time.

Source: the data and results formats of cocodataset.org, as pycocotools 2.0.11 reads them.
"""

import json
import math
import re
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from kernels.coco_json import JsonError

__all__ = ["MAX_DEPTH", "instances", "results"]

MAX_DEPTH = 512  # of nested objects and arrays
LARGEST_EXACT = 2**53  # up to here a float64 holds every integer
MOST_DIGITS = 4000  # Python refuses to read integers of more than 4300
BOM = b"\xef\xbb\xbf"
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
NAMES: dict[type, str] = {
    dict: "object",
    list: "array",
    str: "str",
    bool: "bool",
    type(None): "null",
}

Record = dict[str, Any]


def instances(path: str, threads: int = 0) -> dict[str, Any]:
    """See `kernels.coco_json.instances`; `threads` is not used."""
    expected = "an object of images, annotations and categories"
    whole = _of_type(_parsed(path), dict, expected)
    images, rows, categories = (
        _records(_required(whole, key, ""), key) for key in ("images", "annotations", "categories")
    )
    return {
        "image_id": _ids(images, "id", "images", _image_id),
        "file_name": [_text(row, "file_name", where) for row, where in images],
        "image_size": _floats(
            [
                [_optional(row, side, 0.0, where) for side in ("width", "height")]
                for row, where in images
            ],
            2,
        ),
        "category_id": _ids(categories, "id", "categories", _integer),
        "category_name": [_text(row, "name", where) for row, where in categories],
        "annotation_id": _ids(rows, "id", "annotations", _integer),
        "annotation_image_id": _ids(rows, "image_id", "annotations", _image_id),
        "annotation_category_id": _ids(rows, "category_id", "annotations", _integer),
        **_boxes(rows),
        "area": _floats([_area(row, where) for row, where in rows]),
        "crowd": np.array([_flag(row, "iscrowd", where) for row, where in rows], bool),
        "difficult": np.array([_mark(row, "difficult") for row, _ in rows], bool),
    }


def results(path: str, threads: int = 0) -> dict[str, Any]:
    """See `kernels.coco_json.results`; `threads` is not used."""
    rows = _records(_of_type(_parsed(path), list, "a list of results"), "")
    return {
        "image_id": _ids(rows, "image_id", "", _image_id),
        "category_id": _ids(rows, "category_id", "", _integer),
        **_boxes(rows),
        "score": _floats(
            [_number(_required(row, "score", where), f"{where}.score") for row, where in rows]
        ),
    }


def _parsed(path: str) -> Any:
    """What Python's json makes of the file, with JSON's own numbers only."""
    data = Path(path).read_bytes().removeprefix(BOM)
    text = _decoded(data)
    if not text.strip(" \t\r\n"):
        raise JsonError("the file is empty; expected JSON", str(text.count("\n") + 1))
    try:
        parsed = json.loads(text, parse_constant=_no_number, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise _malformed(error, text, len(data)) from None
    except RecursionError:
        raise _too_deep() from None
    brackets = re.findall(r"[\[\]{}]", STRING.sub("", text))
    if max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0) > MAX_DEPTH:
        raise _too_deep()
    return parsed


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x} is not UTF-8 text"
        raise JsonError(found, str(line)) from None


def _no_number(name: str) -> NoReturn:
    raise _NoNumber(name)


class _NoNumber(json.JSONDecodeError):
    """NaN or Infinity, which Python's json would take; it does not say where it stands."""

    def __init__(self, name: str):
        super().__init__(f"{name.removeprefix('-')} is not a number in JSON", "", 0)
        self.name = name


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MOST_DIGITS else math.inf


def _too_deep() -> JsonError:
    return JsonError(f"JSON is nested too deeply, more than {MAX_DEPTH} levels", "1")


def _malformed(error: json.JSONDecodeError, text: str, size: int) -> JsonError:
    """Names the line, and says what is there."""
    if isinstance(error, _NoNumber):
        place = STRING.sub(lambda found: " " * len(found[0]), text).find(error.name)
        return JsonError(error.msg, str(text.count("\n", 0, place) + 1))
    whole = text.rstrip(" \t\r\n")
    if error.pos >= len(whole) or whole[-1] not in "]}":
        return JsonError(f"JSON ends too early, after {size} bytes", str(text.count("\n") + 1))
    message = (
        "trailing characters" if error.msg == "Extra data" else error.msg[0].lower() + error.msg[1:]
    )
    near = text[error.pos :][:16].partition("\n")[0]
    return JsonError(f"JSON is malformed: {message}, near {near!r}", str(error.lineno))


def _of_type(value: Any, kind: type, expected: str) -> Any:
    if not isinstance(value, kind):
        found = {"array": "a list", "object": "an object"}.get(_kind(value), _kind(value))
        raise JsonError(f"expected {expected}, got {found}", "1")
    return value


def _records(rows: Any, within: str) -> list[tuple[Record, str]]:
    """The objects of an array, each with the key under which it stands."""
    if not isinstance(rows, list):
        raise _unexpected("array", rows, within)
    records = [(row, f"{within}[{i}]") for i, row in enumerate(rows)]
    for row, where in records:
        if not isinstance(row, dict):
            raise _unexpected("object", row, where)
    return records


def _required(row: Record, key: str, where: str) -> Any:
    if key not in row:
        raise JsonError("missing", f"{where}.{key}" if where else key)
    return row[key]


def _ids(
    rows: list[tuple[Record, str]], key: str, within: str, read: Callable[[Any, str], int | str]
) -> Any:
    values = [read(_required(row, key, where), f"{where}.{key}") for row, where in rows]
    if len({type(value) for value in values}) > 1:
        message = f"{key} is a string in some places and a number in others"
        raise JsonError(message, within)
    return values if values and isinstance(values[0], str) else np.array(values, np.int64)


def _image_id(value: Any, where: str) -> int | str:
    return _unicode(value, where) if isinstance(value, str) else _integer(value, where)


def _integer(value: Any, where: str) -> int:
    """An integer of 64 bits, which 1.0 is too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unexpected("int", value, where)
    is_whole = (
        value.is_integer() and abs(value) <= LARGEST_EXACT
        if isinstance(value, float)
        else -(2**63) <= value < 2**63
    )
    if not is_whole:
        raise JsonError(f"expected an integer of 64 bits, got {value!r}", where)
    return int(value)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unexpected("float", value, where)
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
        raise _unexpected("bool", value, f"{where}.{key}")
    return bool(value)


def _mark(row: Record, key: str) -> bool:
    """A flag that is no part of the format: whatever is no true value is no mark, and no error."""
    value = row.get(key)
    return isinstance(value, bool | int | float) and bool(value)


def _text(row: Record, key: str, where: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str):
        raise _unexpected("str", value, f"{where}.{key}")
    return _unicode(value, f"{where}.{key}")


def _unicode(value: str, where: str) -> str:
    """`value`, which JSON's escapes may have made something that is not text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise JsonError(f"not Unicode text: {value!r}", where) from None
    return value


def _boxes(rows: list[tuple[Record, str]]) -> dict[str, Any]:
    bbox = _floats(
        [_bbox(_required(row, "bbox", where), f"{where}.bbox") for row, where in rows], 4
    )
    corners = np.concatenate([bbox[:, :2], bbox[:, 2:] + bbox[:, :2]], axis=1)
    return {"box": corners, "size": bbox[:, 2:].copy()}


def _bbox(value: Any, where: str) -> list[float]:
    if not isinstance(value, list):
        raise _unexpected("array", value, where)
    if len(value) != 4:
        raise JsonError(f"Expected `array` of length 4, got {len(value)}", where)
    return [_number(side, f"{where}[{i}]") for i, side in enumerate(value)]


def _floats(rows: list[Any], width: int | None = None) -> Any:
    column = np.array(rows, np.float64)
    return column if width is None else column.reshape(-1, width)


def _unexpected(expected: str, value: Any, where: str) -> JsonError:
    return JsonError(f"Expected `{expected}`, got `{_kind(value)}`", where)


def _kind(value: Any) -> str:
    return NAMES.get(type(value), type(value).__name__)
