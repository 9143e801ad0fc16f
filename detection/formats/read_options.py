"""What every reader of files may be told, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    """

    image_set: str | None = None
    class_names: ClassNamesSource | None = None
    threads: int = 0
    show_progress: bool = False
