"""What the columns of a table are called, and what they mean: image, class, score, box."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upmap.detection.formats.read_options import Columns as ColumnNames
from upmap.errors import InputError
from upmap.kernels.delimited.contract import Kind

__all__ = ["Roles", "find_roles", "is_list"]

# The names of each role, the first that is there; upper and lower case are alike.
NAMES: Mapping[str, str] = {
    "image": "image_id image file_name filename imageid img frame image_name image_path path",
    "class": "category_id label class class_id category class_name category_name labelname labels "
    "categories classes",
    "score": "score confidence conf probability scores confidences",
    "image_width": "image_width img_width img_w imagewidth",
    "image_height": "image_height img_height img_h imageheight",
    "crowd": "iscrowd is_crowd",
    "difficult": "difficult is_difficult",
    "area": "area",
}
OBJECTS = "objects."  # before the fields of the objects in Hugging Face's data sets
BOX_NAMES = "bbox box boxes bboxes"
# Four columns, and what their numbers mean.
LAYOUTS = (
    ("xmin ymin xmax ymax", "xyxy"),
    ("x_min y_min x_max y_max", "xyxy"),
    ("x1 y1 x2 y2", "xyxy"),
    ("left top right bottom", "xyxy"),
    ("x y w h", "xywh"),
    ("x y width height", "xywh"),
    ("left top width height", "xywh"),
    ("xc yc w h", "cxcywh"),
    ("x_center y_center width height", "cxcywh"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The columns of a table by what they are.

    Attributes:
        columns: The column of each role of NAMES that is there.
        box: The four columns of the box, or the one with lists.
        layout: What the four numbers mean: "xyxy", "xywh" or "cxcywh", in px; None if nothing says.
        is_dataset: Whether it is one of Hugging Face's data sets, with boxes xywh by convention.
    """

    columns: Mapping[str, str]
    box: tuple[str, ...]
    layout: str | None
    is_dataset: bool = False

    def __contains__(self, role: str) -> bool:
        return role in self.columns


def find_roles(names: tuple[str, ...], renamed: ColumnNames | None) -> Roles | None:
    """The roles of a table's columns; None if it has none for an image or a box.

    Args:
        names: The columns.
        renamed: What some columns are called otherwise: a usual name to the column's. The names of
            the columns of rows, which have none, are not for tables.

    Raises:
        InputError: If `renamed` names no column.
    """
    known = {name.lower().removeprefix(OBJECTS): name for name in reversed(names)}
    renames = renamed if isinstance(renamed, Mapping) else {}
    is_of_table = any(column in names for column in renames.values())  # else of the other input
    for name, column in renames.items() if is_of_table else ():
        if column not in names:
            raise InputError(f"--columns: no column {column!r}; there are {', '.join(names)[:200]}")
        known[name.lower()] = column
    columns = {}
    for role, spellings in NAMES.items():
        names_of_role = [name for name in (role, *spellings.split()) if name in known]
        if names_of_role:
            columns[role] = known[names_of_role[0]]
    box, layout = _find_box(known)
    is_dataset = bool(box) and box[0].startswith(OBJECTS)  # whose rows may have no key of an image
    if not box or not ("image" in columns or is_dataset):
        return None
    if is_dataset:
        columns = _columns_of_dataset(columns, known)
        layout = layout or "xywh"
    return Roles(columns=columns, box=box, layout=layout, is_dataset=is_dataset)


def is_list(value: Any, kind: Kind) -> bool:
    """Whether the first value of a column is a list of values of a kind, a row an image.

    Args:
        value: The value; of CSV, the text of a cell.
        kind: "number", "text" or "box", which is a list by itself.
    """
    if isinstance(value, str):
        return value.lstrip().startswith("[[" if kind == "box" else "[")
    if kind == "box":
        return isinstance(value, list) and (not value or isinstance(value[0], list))
    return isinstance(value, list)


def _columns_of_dataset(columns: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The columns of a data set of Hugging Face, whose `width` and `height` are the image's.

    The column `image` has the image itself, or its bytes.
    """
    sides = {"image_width": "width", "image_height": "height"}
    others = {role: known[name] for role, name in sides.items() if name in known}
    keys = {role: name for role, name in columns.items() if name != "image"}
    return others | keys


def _find_box(known: Mapping[str, str]) -> tuple[tuple[str, ...], str | None]:
    for words, layout in LAYOUTS:
        if all(name in known for name in words.split()):
            return tuple(known[name] for name in words.split()), layout
    for name in BOX_NAMES.split():
        if name in known:
            return (known[name],), None
    return (), None
