"""What every reader of files may be told, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upmap.detection.ids import ImageKey

__all__ = ["ClassNamesSource", "ReadOptions"]

ClassNamesSource = str | Path | Mapping[int, str]


Task = Literal["detect", "segment", "obb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options of all readers; a reader ignores what its format has no use for.

    Attributes:
        image_set: The name of an image set, or a file that lists image ids; None for all images.
        class_names: Which class each category id of the detections is: a mapping, or a file.
        image_key: How the detections (and lists of images) name images: by id, stem of the file
            name, or file name; None for the one reading that fits.
        threads: Maximum number of threads; 0 uses all cores.
        show_progress: Whether to draw a progress bar on a terminal.
        box: What four numbers of a box mean: "xyxy", "xywh" or "cxcywh", in px, or with
            "-normalized" behind in units of the image's sides; None for what the format says.
        task: What rows of more numbers than a box's are: "detect" (a box and other things),
            "segment" (polygons) or "obb" (four corners), whose hulls are the boxes.
    """

    image_set: str | None = None
    class_names: ClassNamesSource | None = None
    image_key: ImageKey | None = None
    threads: int = 0
    show_progress: bool = False
    box: str | None = None
    task: Task | None = None
