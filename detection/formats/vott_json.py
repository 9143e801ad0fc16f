"""VoTT JSON: a project's export, with the assets (images) and their regions.

Source: VoTT 2's export "VoTT JSON". Corners are px, from 0. Its CSV export is a flat table.
"""

from functools import cache
from pathlib import Path
from typing import Any

from upmap.detection.formats.box_lists import (
    BoxLists,
    decode_json,
    image_names_of_files,
    make_ground_truth,
    note_shapes,
    read_beginning,
)
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import Input
from upmap.detection.tables import GroundTruth
from upmap.errors import InputError

__all__ = ["is_ground_truth", "read_ground_truth"]

KEYS = (b'"assets"', b'"videoSettings"', b'"securityToken"')  # two of them are in the beginning
BOXES = ("RECTANGLE", "SQUARE")  # types of regions


def is_ground_truth(source: Input) -> bool:
    """Whether `source` is an export of VoTT."""
    beginning = b"" if source.is_folder() else read_beginning(source)
    return sum(key in beginning for key in KEYS) >= 2


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of an export; a region with several tags is an object of each class.

    Args:
        source: The file.
        options: `task` is "segment" to take the hulls of regions that are no rectangles.

    Raises:
        InputError: If the file is malformed.
    """
    content = decode_json(source, _content_type())
    lists = BoxLists()
    files = [entry.asset.name for entry in content.assets.values()]
    lists.images, lists.file_names = [*image_names_of_files(files)], files
    for i, (key, entry) in enumerate(content.assets.items()):
        size = entry.asset.size
        lists.sizes.append((size.width, size.height) if size else (0, 0))
        for j, region in enumerate(entry.regions):
            where = f"assets.{key}.regions[{j}]"
            if region.type in BOXES or options.task == "segment":
                _add_region(lists, i, region, source.path, where)
            else:
                lists.left_out[region.type.lower()] += 1
    note_shapes(lists, source.path, "--task segment reads the hulls of polygons")
    return make_ground_truth(lists, source.path, [tag.name for tag in content.tags])


def _add_region(lists: BoxLists, image: int, region: Any, path: Path, where: str) -> None:
    box = region.boundingBox
    if box is None:
        raise InputError("a region without a boundingBox", path, where)
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    for tag in region.tags:
        lists.add_box(image, tag, corners, where)


@cache
def _content_type() -> Any:
    """The type of the file's content; what it does not name is skipped."""
    import msgspec

    define = msgspec.defstruct
    box: Any = define("Box", [(name, float) for name in ("left", "top", "width", "height")])
    size: Any = define("Size", [("width", float), ("height", float)])
    asset: Any = define("Asset", [("name", str), ("size", size | None, None)])
    region: Any = define(
        "Region",
        [("tags", list[str]), ("type", str, "RECTANGLE"), ("boundingBox", box | None, None)],
    )
    entry: Any = define("Entry", [("asset", asset), ("regions", list[region], [])])
    tag: Any = define("Tag", [("name", str)])
    return define("Content", [("assets", dict[str, entry]), ("tags", list[tag], [])])
