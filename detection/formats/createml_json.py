"""CreateML JSON: a list of images with boxes, whose x and y are their center or a corner.

Source: Apple's documentation of object detection in Create ML, where x and y are the center. Other
tools write the upper left corner under the same names.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.formats.box_lists import (
    BoxLists,
    decode_json,
    image_names_of_files,
    make_ground_truth,
    read_beginning,
)
from upmap.detection.formats.checks import note
from upmap.detection.formats.read_options import ReadOptions
from upmap.detection.inputs import Input, files_in
from upmap.detection.tables import GroundTruth
from upmap.errors import InputError

__all__ = ["is_ground_truth", "read_ground_truth"]

TOLERANCE = 1.0  # px, by which boxes may reach outside their image
MIN_SHARE = 0.05  # of boxes that reach outside, from which a reading does not fit
READINGS = {"cxcywh": "the center", "xywh": "the upper left corner"}


def is_ground_truth(source: Input) -> bool:
    """Whether `source` is such a file, or a folder with one *.createml.json."""
    if source.is_folder():
        return len(files_in(source.path, "*.createml.json")) == 1
    beginning = read_beginning(source)
    return beginning.lstrip().startswith(b"[") and b'"coordinates"' in beginning


def read_ground_truth(source: Input, options: ReadOptions) -> GroundTruth:
    """Ground truth of a file; what x and y mean is the same for all of it.

    Args:
        source: The file, or a folder with one.
        options: `box` is "cxcywh" (x and y are the center, as Apple has it) or "xywh" (the upper
            left corner); None takes the corner if as centers many boxes would reach outside.

    Raises:
        InputError: If the file is malformed, or both readings fit and `box` is None.
    """
    if source.is_folder():
        source = Input(files_in(source.path, "*.createml.json")[0])
    lists, numbers = BoxLists(), []
    for i, image in enumerate(decode_json(source, list[_image_type()])):  # type: ignore[misc]
        name = image.image or image.imagefilename
        if not name:
            raise InputError(
                "an image has no name, `image` or `imagefilename`", source.path, f"[{i}]"
            )
        lists.images.append(name)
        lists.file_names.append(name)
        lists.sizes.append((0.0, 0.0))
        for j, box in enumerate(image.annotations or image.annotation or ()):
            part = box.coordinates
            numbers.append((part.x, part.y, part.width, part.height))
            lists.add_box(i, str(box.label), (0.0, 0.0, 0.0, 0.0), f"[{i}].annotations[{j}]")
    xywh = np.array(numbers, np.float64).reshape(-1, 4)
    corners = _corners(xywh, _reading(xywh, options, source))
    lists.box = [(a, b, c, d) for a, b, c, d in corners.tolist()]
    lists.images = list(image_names_of_files(lists.file_names))
    return make_ground_truth(lists, source.path)


def _reading(xywh: NDArray[np.float64], options: ReadOptions, source: Input) -> str:
    """What x and y are, "cxcywh" or "xywh"."""
    if options.box is not None:
        if options.box not in READINGS:
            kinds = " or ".join(READINGS)
            raise InputError(f"--box is {kinds} for CreateML, not {options.box!r}", source.path)
        return options.box
    low = _corners(xywh, "cxcywh")[:, :2]
    if not len(xywh) or (xywh[:, 2:] == 0).all():
        return "cxcywh"  # both readings are the same
    outside = int((low < -TOLERANCE).any(axis=1).sum())
    # A few boxes reach outside in any set; where many would, these are no centers.
    if outside < max(1, MIN_SHARE * len(xywh)) or xywh[:, :2].min() < -TOLERANCE:
        raise InputError(
            "x and y can be the center of a box (as Apple has it; --box cxcywh) or its upper left "
            "corner (as some tools write; --box xywh), and nothing in the file tells which",
            source.path,
        )
    message = (
        f"x and y are read as the upper left corner: if they were the center, {outside} of "
        f"{len(xywh)} boxes would begin outside their image; --box cxcywh or xywh settles it"
    )
    note("corner-for-center", outside, source.path, message)
    return "xywh"


def _corners(xywh: NDArray[np.float64], reading: str) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):
        low = xywh[:, :2] - (xywh[:, 2:] / 2 if reading == "cxcywh" else 0)
        return np.concatenate([low, low + xywh[:, 2:]], axis=1)


@cache
def _image_type() -> Any:
    """The struct of an image; msgspec is imported only where such a file is read."""
    import msgspec

    sides = [(name, float) for name in ("x", "y", "width", "height")]
    coordinates: Any = msgspec.defstruct("Coordinates", sides)
    label: Any = str | int
    box: Any = msgspec.defstruct("Box", [("label", label), ("coordinates", coordinates)])
    boxes: Any = list[box] | None
    return msgspec.defstruct(
        "Image",
        [
            ("image", str | None, None),
            ("imagefilename", str | None, None),
            ("annotations", boxes, None),
            ("annotation", boxes, None),
        ],
    )
