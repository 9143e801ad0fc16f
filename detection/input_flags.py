"""The flags of programs that read ground truth and detections, whatever they do with them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from upmap.options import Choices, Flag, Threads

if TYPE_CHECKING:  # it imports numpy, which the programs import while they read
    from upmap.detection.formats.read_options import ReadArguments

__all__ = ["InputFlags"]

READING = "how the input is read"  # the heading in the help


def _list_formats() -> Iterable[str]:
    from upmap.detection.formats import FORMATS

    return FORMATS


def _list_truth_formats() -> Iterable[str]:
    from upmap.detection.formats import GROUND_TRUTH_READERS

    return GROUND_TRUTH_READERS


def _list_detection_formats() -> Iterable[str]:
    from upmap.detection.formats import DETECTION_READERS

    return DETECTION_READERS


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFlags:
    """How files are read.

    Attributes:
        format: Format of both inputs; default: recognized by looking at the files.
        gt_format: Format of the ground truth, where it is not that of both.
        dt_format: Format of the detections, where it is not that of both.
        image_set: An image set (a split) of the ground truth, or a file with an image id on each
            line; default: the one that the detections' file names mention, else all images.
        class_names: Which class each number in the detections' files is, where the ground truth has
            no such ids: a name on each line, or lines `id name`, or an instances file, or the
            data.yaml of the detector's training.
        image_key: How detections and lists name images; default: the one reading that fits.
        images: A folder with the images, for their sizes (YOLO, Open Images).
        sizes: A file of lines `name width height`, for the sizes of images.
        image_size: Width and height of all images, px.
        columns: What the columns of rows of text are (class,conf,x,y,w,h); or of a table
            (image=file,xmin=left_px,...).
        box: What the numbers of a box mean, where the format does not say: xyxy, xywh or cxcywh, in
            px; with -normalized behind in units of the image's sides.
        task: Shapes other than upright boxes are read as their hulls: polygons (segment), rotated
            boxes (obb); detect leaves out what stands behind a box.
        duplicates: Whether identical rows of an image are kept or dropped, as Ultralytics does.
        strict: Every warning about the input is an error.
        threads: Maximum number of threads; 0 uses all cores.
    """

    format: Annotated[str | None, Choices(_list_formats), Flag(metavar="NAME", group=READING)] = (
        None
    )
    gt_format: Annotated[
        str | None, Choices(_list_truth_formats), Flag(metavar="NAME", group=READING)
    ] = None
    dt_format: Annotated[
        str | None, Choices(_list_detection_formats), Flag(metavar="NAME", group=READING)
    ] = None
    image_set: Annotated[str | None, Flag(metavar="NAME|FILE", group=READING)] = None
    class_names: Annotated[Path | None, Flag(metavar="FILE", group=READING)] = None
    image_key: Annotated[Literal["id", "stem", "file_name"] | None, Flag(group=READING)] = None
    images: Annotated[Path | None, Flag(metavar="FOLDER", group=READING)] = None
    sizes: Annotated[Path | None, Flag(metavar="FILE", group=READING)] = None
    image_size: Annotated[tuple[int, ...], Flag(metavar="W,H", group=READING)] = ()
    columns: Annotated[tuple[str, ...], Flag(metavar="A,B", group=READING)] = ()
    box: Annotated[str | None, Flag(metavar="KIND", group=READING)] = None
    task: Annotated[Literal["detect", "segment", "obb"] | None, Flag(group=READING)] = None
    duplicates: Annotated[Literal["keep", "drop"], Flag(group=READING)] = "keep"
    strict: Annotated[bool, Flag(group=READING)] = False
    threads: Annotated[Threads, Flag(group=READING)] = 0

    def validate_input_flags(self) -> None:
        """Refuses an image size that is none, and columns that are both of rows and of a table.

        Raises:
            ValueError: Names the option.
        """
        if len({"=" in column for column in self.columns}) > 1:
            raise ValueError("columns: expected names in order, or NAME=COLUMN for each")
        if self.image_size and (len(self.image_size) != 2 or min(self.image_size) < 1):
            raise ValueError(f"image_size: expected a width and a height, got {self.image_size}")

    def _read_columns(self) -> dict[str, str] | tuple[str, ...] | None:
        if not any("=" in column for column in self.columns):
            return self.columns or None
        pairs = (column.partition("=") for column in self.columns)
        return {name.strip(): column.strip() for name, _, column in pairs}

    def read_arguments(self) -> "ReadArguments":
        """What the functions that read files take: the fields of `ReadOptions`."""
        return {
            "image_set": self.image_set,
            "class_names": self.class_names,
            "image_key": self.image_key,
            "images": self.images,
            "sizes": self.sizes,
            "image_size": (self.image_size[0], self.image_size[1]) if self.image_size else None,
            "columns": self._read_columns(),
            "box": self.box,
            "task": self.task,
            "duplicates": self.duplicates,
            "threads": self.threads,
            "show_progress": True,
        }
