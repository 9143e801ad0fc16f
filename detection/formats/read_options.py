"""What every reader of files may be told, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["ClassNamesSource", "ReadOptions"]

ClassNamesSource = str | Path | Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options of all readers; a reader ignores what its format has no use for.

    Attributes:
        image_set: The name of an image set, or a file that lists image ids; None for all images.
        class_names: Which class each category id of the detections is: a mapping, or a file.
        threads: Maximum number of threads; 0 uses all cores.
        show_progress: Whether to draw a progress bar on a terminal.
        image_key: By what detections name their images: their ids, the stems of their files' names,
            or those names; None for the only reading that fits.
        images: A folder of images, for their sizes.
        sizes: A file with a line `name width height` for each image.
        image_size: Width and height of all images, px.
        columns: What the columns of a table or row are called, in place of what is usual.
        box: What four numbers of a box mean: "xyxy", "xywh" or "cxcywh", in px, or with
            "-normalized" behind in units of the image's sides; None for what the format says.
        task: What rows of more numbers than a box's are: "detect" (a box and other things),
            "segment" (polygons) or "obb" (four corners), whose hulls are the boxes.
        duplicates: Whether identical rows of an image are kept or dropped.
    """

    image_set: str | None = None
    class_names: ClassNamesSource | None = None
    threads: int = 0
    show_progress: bool = False
    image_key: Literal["id", "stem", "file_name"] | None = None
    images: Path | None = None
    sizes: Path | None = None
    image_size: tuple[int, int] | None = None
    columns: Mapping[str, str] | tuple[str, ...] | None = None
    box: str | None = None
    task: Literal["detect", "segment", "obb"] | None = None
    duplicates: Literal["keep", "drop"] = "keep"
