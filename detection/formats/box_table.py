"""The rows of a table whose columns are known: a row a box, or one for an image without boxes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.formats.table_files import TableFile
from upmap.detection.formats.table_roles import Roles, is_list
from upmap.detection.ids import NO_ID
from upmap.detection.tables import are_bounded
from upmap.errors import InputError
from upmap.kernels.delimited.contract import MAX_INTEGER, Columns, Kind, Lists, Name, Texts

__all__ = ["BoxTable", "class_names_of", "read_box_table"]

Keys = NDArray[np.int64] | Texts  # of N rows; NO_ID or -1 where there is none
KEY_ROLES = ("image", "class")
PER_IMAGE = ("image", "image_width", "image_height")  # no lists, also where a row is an image
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")  # "007" is a name
LISTS: Mapping[Kind, Kind] = {
    "number": "numbers",
    "integer": "numbers",
    "text": "texts",
    "box": "boxes",
}
TEXTS: Mapping[Kind, Kind] = {"integer": "text", "numbers": "texts"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BoxTable:
    """N rows.

    Attributes:
        image: The key of each row's image.
        class_key: The key of its class.
        box: float64 [N, 4], as the table has them; NaN where there is none.
        numbers: float64 [N], the columns of numbers by role: score, area ...
        is_whole: Whether all rows have a box, of bounded numbers, as nearly all tables do.
    """

    image: Keys
    class_key: Keys
    box: NDArray[np.float64]
    numbers: Mapping[str, NDArray[np.float64]]
    is_whole: bool

    @property
    def has_box(self) -> NDArray[np.bool_]:
        """Which rows have a box, bool [N]."""
        if self.is_whole:
            return np.ones(len(self.box), bool)
        is_missing: NDArray[np.bool_] = np.all(np.isnan(self.box), axis=1)
        return ~is_missing

    def is_missing(self, keys: str) -> NDArray[np.bool_]:
        """Which rows have no key, bool [N]; `keys` is "image" or "class_key"."""
        column = getattr(self, keys)
        missing: NDArray[np.bool_] = (
            column.index < 0 if isinstance(column, Texts) else column == NO_ID
        )
        return missing

    def is_marked(self, role: str) -> NDArray[np.bool_]:
        """Which rows have a mark that is not 0, bool [N]."""
        if role not in self.numbers:
            return np.zeros(len(self.box), bool)
        marked: NDArray[np.bool_] = np.nan_to_num(self.numbers[role]) != 0
        return marked

    def image_sizes(self, image: NDArray[np.int32], count: int) -> NDArray[np.int64]:
        """Width and height of each image, int64 [count, 2], 0 where unknown; [0, 2] without any.

        Args:
            image: int32 [N], the place of each row's image.
            count: How many images there are.
        """
        if not {"image_width", "image_height"} <= self.numbers.keys():
            return np.zeros((0, 2), np.int64)
        sides = np.stack([self.numbers["image_width"], self.numbers["image_height"]], axis=1)
        is_known = ((sides > 0) & (sides < 2**31)).all(axis=1)
        sizes = np.zeros((count, 2), np.int64)
        sizes[image[is_known]] = sides[is_known]
        return sizes


def read_box_table(table: TableFile, roles: Roles, options: ReadOptions, path: Path) -> BoxTable:
    """Reads the columns that have a role.

    Args:
        table: The file.
        roles: Its columns by role.
        options: `threads`.
        path: The file, for messages.

    Raises:
        InputError: If a value is wrong, or lists of an image are of different lengths.
    """
    columns = _read(table, _kinds(table, roles), roles, options)
    values: dict[str, Any] = {role: columns[column] for role, column in roles.columns.items()}
    boxes: Any = [columns[name] for name in _box_names(roles, columns)]
    box = boxes[0]
    if isinstance(box, Lists):
        values, box = _spread(values, boxes, path)
    keys = {
        role: _to_keys(values.pop(role), roles.columns[role], path)
        for role in KEY_ROLES
        if role in values
    }
    # Rows without a key are images in their order.
    image = keys.get("image")
    if image is None:
        image = _row_numbers(boxes[0], len(box))
    return BoxTable(
        image=image,
        class_key=keys["class"],
        box=box,
        numbers=values,
        is_whole=are_bounded(box),
    )


def class_names_of(table: TableFile) -> dict[int, str] | None:
    """The names that a file of Hugging Face's datasets has for its classes; None if it has none."""
    import json

    try:
        features = json.loads(table.metadata["huggingface"])["info"]["features"]
        return _find_names(features["objects"])
    except (KeyError, ValueError, TypeError):
        return None


def _find_names(feature: Any) -> dict[int, str] | None:
    """The `names` of the ClassLabel in a feature, which may be a list of structs or a struct."""
    if isinstance(feature, list):
        feature = feature[0]
    for key in ("feature", "category", "label", "categories"):
        inner = feature.get(key) if isinstance(feature, dict) else None
        if inner is not None and (names := _find_names(inner)):
            return names
    names = feature.get("names") if isinstance(feature, dict) else None
    return {k: str(name) for k, name in enumerate(names)} if isinstance(names, list) else None


def _kinds(table: TableFile, roles: Roles) -> dict[Name, Kind]:
    """What each column holds, by its first value."""
    is_by_image = is_list(table.first.get(roles.columns["class"]), "text")
    kinds: dict[Name, Kind] = {}
    for role, column in roles.columns.items():
        kind: Kind = "number"
        if role in KEY_ROLES:
            kind = "integer" if _is_integer(table.first.get(column)) else "text"
        kinds[column] = LISTS[kind] if is_by_image and role not in PER_IMAGE else kind
    if len(roles.box) == 1:
        return kinds | {roles.box[0]: "boxes" if is_by_image else "box"}
    return kinds | (dict.fromkeys(roles.box, "numbers") if is_by_image else {roles.box: "box"})


def _box_names(roles: Roles, columns: Columns) -> tuple[Name, ...]:
    """The columns that the boxes were read in."""
    return (roles.box,) if roles.box in columns else roles.box


def _is_integer(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and _is_integer(value[0])
    if isinstance(value, str):
        return INTEGER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)


def _read(table: TableFile, kinds: dict[Name, Kind], roles: Roles, options: ReadOptions) -> Columns:
    """The columns; keys whose first value is a number and later ones are not are read as texts."""
    try:
        return table.read(kinds, options.threads)
    except InputError:
        keys: list[Name] = [roles.columns[role] for role in KEY_ROLES if role in roles]
        others = {name: TEXTS.get(kinds[name], kinds[name]) for name in keys}
        if all(others[name] == kinds[name] for name in keys):
            raise
        return table.read(kinds | others, options.threads)


def _spread(
    values: Mapping[str, Any], boxes: list[Lists], path: Path
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """A row for each box, and for each image without one, of columns with a row an image."""
    start = boxes[0].start
    for role, column in [*values.items(), *(("box", column) for column in boxes)]:
        if isinstance(column, Lists) and not np.array_equal(column.start, start):
            row = int(np.argmax(column.start != start))
            raise InputError(f"lists of {role} and boxes differ in length", path, f"row {row}")
    count = np.diff(start)
    place = np.repeat(np.arange(len(count)), np.maximum(count, 1))
    is_box = np.repeat(count > 0, np.maximum(count, 1))
    flat: Any = [column.values for column in boxes]
    box = np.full((len(place), 4), np.nan)
    box[is_box] = flat[0] if len(flat) == 1 else np.stack(flat, axis=1)
    spread = {
        role: _fill(column.values, is_box) if isinstance(column, Lists) else _take(column, place)
        for role, column in values.items()
    }
    return spread, box


def _take(column: Any, place: NDArray[np.int64]) -> Any:
    return Texts(column.index[place], column.names) if isinstance(column, Texts) else column[place]


def _fill(values: Any, is_set: NDArray[np.bool_]) -> Any:
    """A column with values where `is_set`, and nothing elsewhere."""
    if isinstance(values, Texts):
        index = np.full(len(is_set), -1, np.int32)
        index[is_set] = values.index
        return Texts(index, values.names)
    column = np.full(len(is_set), np.nan)
    column[is_set] = values
    return column


def _row_numbers(column: Any, count: int) -> NDArray[np.int64]:
    """The numbers of the rows of a table, from 0; of lists, one for each element or empty list."""
    if not isinstance(column, Lists):
        return np.arange(count)
    lengths = np.maximum(np.diff(column.start), 1)
    return np.repeat(np.arange(len(lengths)), lengths)


def _to_keys(column: Any, name: str, path: Path) -> Keys:
    """Keys as integers, or as texts; texts that are all integers are those."""
    if isinstance(column, Texts):
        if not column.names or not all(map(INTEGER.fullmatch, column.names)):
            return column
        numbers = np.array([*map(int, column.names), NO_ID], np.int64)
        return numbers[column.index]
    if column.dtype.kind == "i":
        return column  # type: ignore[no-any-return]
    is_missing = np.isnan(column)
    with np.errstate(invalid="ignore"):
        is_whole = (column == np.round(column)) & (np.abs(column) <= MAX_INTEGER)
    if not (is_whole | is_missing).all():
        row = int(np.argmin(is_whole | is_missing))
        raise InputError(f"{column[row]:g} is not a whole number", path, f"{name}, row {row + 1}")
    return np.where(is_missing, 0, column).astype(np.int64) + np.where(is_missing, NO_ID, 0)
