"""LabelMe: a JSON file for each image, with shapes of points in pixels.

Source: labelme's label_file.py and shape.py. The older LabelMe of the web writes XML, which is
another format.
"""

from functools import cache
from pathlib import Path
from typing import Any

from upmap.detection.formats.box_lists import (
    PEEKED_BYTES,
    BoxLists,
    decode_json,
    hull_of_points,
    image_names_of_files,
    make_ground_truth,
    note_shapes,
    read_beginning,
)
from upmap.detection.formats.checks import note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import Input, files_in
from upmap.detection.tables import GroundTruth
from upmap.errors import InputError
from upmap.files import is_file
from upmap.progress import track_progress

__all__ = ["is_ground_truth", "read_ground_truth"]

KEYS = (b'"shapes"', b'"imagePath"', b'"imageData"')  # two of them stand at an end of each file
PEEKED_FILES = 3
HULL_OPTION = "--task segment reads the hulls of polygons as boxes"


def is_ground_truth(source: Input) -> bool:
    """Whether `source` is such a file, or a folder of them."""
    if not source.is_folder():
        return _has_keys(source)
    return any(_has_keys(Input(file)) for file in files_in(source.path, "*.json")[:PEEKED_FILES])


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of a folder of files, or of one; each is an image.

    Rectangles have two corners in any order. `imageData`, the image itself, is skipped.

    Args:
        source: The folder or file.
        options: With the `task` "segment", shapes of other types count with their hulls.

    Raises:
        InputError: If a file is malformed; names it and the key.
    """
    files = [source]
    if source.is_folder():
        paths = files_in(source.path, "*.json")
        files = [Input(path) for path in paths if is_file(path) and path.name[0] != "."]
    lists = BoxLists()
    show = options.show_progress
    for file in track_progress(files, "annotations", total=len(files), show=show):
        _add_file(lists, file, options.task == "segment")
    _name_images(lists, files, source.path)
    if options.task != "detect":
        note_shapes(lists, source.path, HULL_OPTION)
    return make_ground_truth(lists, source.path)


def _has_keys(source: Input) -> bool:
    """Whether a file's beginning or end has keys that only LabelMe's files have."""
    beginning = read_beginning(source)
    if not beginning.lstrip().startswith(b"{") or b'"annotations"' in beginning:
        return False
    text = beginning + (_read_end(source.path) if len(beginning) >= PEEKED_BYTES else b"")
    return sum(key in text for key in KEYS) >= 2 and b'"annotations"' not in text


def _read_end(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(-PEEKED_BYTES, 2)
            return file.read(PEEKED_BYTES)
    except OSError:  # also of pipes, and of files that have no such end
        return b""


def _add_file(lists: BoxLists, file: Input, with_hulls: bool) -> None:
    content = decode_json(file, _file_type())
    place = len(lists.images)
    lists.images.append(file.path.stem)
    lists.file_names.append(content.imagePath or f"{file.path.stem}.jpg")
    lists.sizes.append((_side(content.imageWidth), _side(content.imageHeight)))
    for i, shape in enumerate(content.shapes):
        where = f"shapes[{i}]"
        kind = shape.shape_type or "polygon"
        if kind != "rectangle" and not with_hulls:
            lists.left_out[kind] += 1
            continue
        points = shape.points
        if kind == "rectangle" and len(points) not in (2, 4):
            message = f"expected two corners of a rectangle, got {len(points)} points"
            raise InputError(message, file.path, where)
        if not points or any(len(point) != 2 for point in points):
            raise InputError("expected points x, y", file.path, where)
        if kind == "circle":  # its center, and a point on it
            points = _circle_points(points)
        lists.add_box(place, str(shape.label), hull_of_points(points), f"{file.path.name}:{where}")


def _circle_points(points: list[list[float]]) -> list[list[float]]:
    (x, y), (on_x, on_y) = points[0], points[-1]
    radius = ((on_x - x) ** 2 + (on_y - y) ** 2) ** 0.5
    return [[x - radius, y - radius], [x + radius, y + radius]]


def _name_images(lists: BoxLists, files: list[Input], path: Path) -> None:
    """Names the images after their files, or, where those repeat, after the JSON files."""
    if not files:
        raise InputError("there are no .json files in this folder", path)
    names = image_names_of_files(lists.file_names)
    if len(set(names)) == len(names):
        lists.images = list(names)
        return
    repeated = len(names) - len(set(names))
    message = f"{repeated} files repeat the imagePath of another; images are named after the files"
    note("repeated-image", repeated, path, message)
    lists.file_names = [f"{file.path.stem}.jpg" for file in files]


def _side(value: float | None) -> float:
    return 0.0 if value is None else value


@cache
def _file_type() -> Any:
    """The struct of a file; msgspec is imported only where such a file is read."""
    import msgspec

    shape = msgspec.defstruct(
        "Shape",
        [
            ("label", str | int | float),
            ("points", list[list[float]]),
            ("shape_type", str | None, None),
        ],
    )
    return msgspec.defstruct(
        "File",
        [
            ("shapes", list[shape]),  # type: ignore[valid-type]
            ("imagePath", str | None, None),
            ("imageWidth", float | None, None),
            ("imageHeight", float | None, None),
        ],
    )
