"""The options of all readers of files, whatever their format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from upmap.detection.ids import ImageKey

__all__ = ["ClassNamesSource", "Columns", "ReadArguments", "ReadOptions", "Task"]

ClassNamesSource = str | Path | Mapping[int, str]
Columns = Mapping[str, str] | tuple[str, ...]
Task = Literal["detect", "segment", "obb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options of all readers; a reader ignores what its format has no use for.

    Attributes:
        image_set: The name of an image set, or a file that lists image ids; None for all images.
        class_names: Which class each category id of the detections is: a mapping, or a file.
        image_key: How the detections (and lists of images) name images: by id, stem of the file
            name, or file name; None for the one reading that fits.
        images: A folder of images, for their sizes.
        sizes: A file with a line `name width height` for each image.
        image_size: Width and height of all images, px.
        columns: What the columns of rows of text are, in order, such as ("class", "conf", "x", "y",
            "w", "h"); or what those of a table are called, by their usual names, such as
            {"image": "file", "xmin": "left_px"}.
        box: What four numbers of a box mean: "xyxy", "xywh" or "cxcywh", in px, or with
            "-normalized" behind in units of the image's sides; None for what the format says.
        task: What rows of more numbers than a box's are: "detect" (a box and other things),
            "segment" (polygons) or "obb" (four corners), whose hulls are the boxes.
        duplicates: Whether identical rows of an image are kept or dropped.
        threads: Maximum number of threads; 0 uses all cores.
        show_progress: Whether to draw a progress bar on a terminal.
    """

    image_set: str | None = None
    class_names: ClassNamesSource | None = None
    image_key: ImageKey | None = None
    images: Path | None = None
    sizes: Path | None = None
    image_size: tuple[int, int] | None = None
    columns: Columns | None = None
    box: str | None = None
    task: Task | None = None
    duplicates: Literal["keep", "drop"] = "keep"
    threads: int = 0
    show_progress: bool = False


class ReadArguments(TypedDict, total=False):
    """The fields of `ReadOptions`, as keyword arguments of the functions that read."""

    image_set: str | None
    class_names: ClassNamesSource | None
    image_key: ImageKey | None
    images: Path | None
    sizes: Path | None
    image_size: tuple[int, int] | None
    columns: Columns | None
    box: str | None
    task: Task | None
    duplicates: Literal["keep", "drop"]
    threads: int
    show_progress: bool
