"""The file formats of detection: one row of FORMATS each, recognized by looking at the files."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upmap.detection.boxes import convert_pixels
from upmap.detection.formats import coco_json, voc_results, voc_xml
from upmap.detection.formats.class_names import ClassNamesSource, read_class_names
from upmap.detection.inputs import Input, Named, open_input
from upmap.detection.tables import Catalog, Detections, GroundTruth, align
from upmap.errors import InputError, InputWarning, abbreviate_list
from upmap.files import create_folder

__all__ = [
    "DEFAULT_SET",
    "FORMATS",
    "Format",
    "coco_files",
    "infer_image_set",
    "read",
    "read_detections",
    "read_ground_truth",
    "recognize_format",
    "write",
]

DEFAULT_SET = "all"  # the name of an image set that its source does not name
SET_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is recognized, read and written.

    Attributes:
        description: One line for --help.
        is_ground_truth: Whether an input looks like this format's ground truth.
        is_detections: Whether an input looks like this format's detections.
        read_ground_truth: (input, image set, progress bar, threads) to table.
        read_detections: (input, the ground truth's catalog, image set, threads) to table.
        has_category_ids: Whether detections name their classes by id.
        image_set_hints: The image sets that detections' file names may speak of, likeliest first.
        write: Writes both tables (detections may be None) into a folder, under an image set.
    """

    description: str
    is_ground_truth: Callable[[Input], bool]
    is_detections: Callable[[Input], bool]
    read_ground_truth: Callable[[Input, str | None, bool, int], GroundTruth]
    read_detections: Callable[[Input, Catalog, str | None, int], Detections]
    has_category_ids: bool
    image_set_hints: Callable[[Input], list[str]]
    write: Callable[[GroundTruth, Detections | None, Path, str], None]


def _write_voc(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    voc_xml.write_ground_truth(ground_truth, folder, image_set)
    if detections is not None:
        (folder / "results").mkdir()
        voc_results.write_detections(detections, folder / "results", image_set)


def _write_coco(
    ground_truth: GroundTruth, detections: Detections | None, folder: Path, image_set: str
) -> None:
    coco_json.write_ground_truth(ground_truth, folder / f"instances_{image_set}.json")
    if detections is not None:
        coco_json.write_detections(detections, folder / f"detections_{image_set}.json")


FORMATS = {
    "voc": Format(
        description="a VOC devkit folder or a folder of XML; comp4_det_<set>_<class>.txt",
        is_ground_truth=voc_xml.is_ground_truth,
        is_detections=voc_results.is_detections,
        read_ground_truth=voc_xml.read_ground_truth,
        read_detections=voc_results.read_detections,
        has_category_ids=False,
        image_set_hints=voc_results.image_set_hints,
        write=_write_voc,
    ),
    "coco": Format(
        description="an instances JSON file; a results JSON file",
        is_ground_truth=coco_json.is_ground_truth,
        is_detections=coco_json.is_detections,
        read_ground_truth=coco_json.read_ground_truth,
        read_detections=coco_json.read_detections,
        has_category_ids=True,
        image_set_hints=lambda named: [],
        write=_write_coco,
    ),
}


def recognize_format(path: Named, what: str) -> str:
    """The name of the format of an input.

    Args:
        path: A file or folder; a pipe must be an `Input`, or it is read here and gone.
        what: "ground truth" or "detections".

    Raises:
        InputError: If nothing is there, or it looks like no known format.
    """
    path = open_input(path)
    for name, known in FORMATS.items():
        recognizes = known.is_ground_truth if what == "ground truth" else known.is_detections
        if recognizes(path):
            return name
    expected = "; or ".join(f"{name}: {known.description}" for name, known in FORMATS.items())
    raise InputError(f"not recognized as {what}; expected {expected}", path.path)


def read_ground_truth(
    path: Named,
    *,
    format: str | None = None,  # noqa: A002
    image_set: str | None = None,
    threads: int = 0,
    show_progress: bool = False,
) -> GroundTruth:
    """Ground truth from files.

    Args:
        path: A VOC devkit folder, a folder of XML files, or a COCO instances file, which may be a
            pipe or compressed by gzip.
        format: A key of FORMATS; None to look at the files.
        image_set: The name of an image set, or a file that lists image ids; None for all images.
        threads: Maximum number of threads; 0 uses all cores.
        show_progress: Whether to draw a progress bar on a terminal.

    Raises:
        InputError: If the files cannot be read; names the file and the line or key.
    """
    path = open_input(path)
    known = _format(format or recognize_format(path, "ground truth"))
    return known.read_ground_truth(path, image_set, show_progress, threads)


def read_detections(
    path: Named,
    catalog: Catalog,
    *,
    format: str | None = None,  # noqa: A002
    image_set: str | None = None,
    class_names: ClassNamesSource | None = None,
    threads: int = 0,
) -> Detections:
    """Detections from files.

    Args:
        path: A folder of comp4 files, one such file, or a COCO results file; each file may be a
            pipe or compressed by gzip.
        catalog: The ground truth's images and classes.
        format: A key of FORMATS; None to look at the files.
        image_set: The image set in comp4 file names; None if there is only one.
        class_names: Which class each category id of a COCO results file is, where the ground truth
            has no such ids (or others): a mapping, or a file (see `read_class_names`).
        threads: Maximum number of threads; 0 uses all cores.

    Raises:
        InputError: If the files cannot be read, or speak of unknown images or classes.
    """
    path = open_input(path)
    known = _format(format or recognize_format(path, "detections"))
    if class_names is not None:
        if not known.has_category_ids:
            message = "class names are for category ids, which these files have not"
            raise InputError(message, path.path)
        catalog = _with_class_names(catalog, read_class_names(class_names))
    return known.read_detections(path, catalog, image_set, threads)


def read(
    ground_truth: Named,
    detections: Named,
    *,
    format: str | None = None,  # noqa: A002
    image_set: str | None = None,
    class_names: ClassNamesSource | None = None,
    threads: int = 0,
    show_progress: bool = False,
) -> tuple[GroundTruth, Detections]:
    """Ground truth and detections from files, under one catalog.

    Where `image_set` is None, the image set that the detections' file names speak of is used, if
    the ground truth has a list of that name. Boxes that are legal but odd are warned about.

    Args:
        ground_truth: See `read_ground_truth`.
        detections: See `read_detections`.
        format: The format of both; None to look at the files.
        image_set: The name of an image set, or a file that lists image ids.
        class_names: See `read_detections`.
        threads: Maximum number of threads; 0 uses all cores.
        show_progress: Whether to draw a progress bar on a terminal.

    Raises:
        InputError: If the files cannot be read; names the file and the line or key.
    """
    ground_truth, detections = open_input(ground_truth), open_input(detections)
    if image_set is None:
        image_set = infer_image_set(ground_truth, detections, format=format)
    truth = read_ground_truth(
        ground_truth,
        format=format,
        image_set=image_set,
        threads=threads,
        show_progress=show_progress,
    )
    found = read_detections(
        detections,
        truth.catalog,
        format=format,
        image_set=image_set,
        class_names=class_names,
        threads=threads,
    )
    _warn_of_unknown_classes(truth, found, detections.path)
    truth, found = align(truth, found)
    _warn_of_odd_boxes(found, detections.path)
    return truth, found


def coco_files(
    ground_truth: Named,
    detections: Named,
    *,
    format: str | None = None,  # noqa: A002
    image_set: str | None = None,
) -> tuple[Input, Input] | None:
    """The instances file and the results file that `read` reads for the same arguments.

    Returns:
        Both inputs; None if one of them is in another format.
    """
    ground_truth, detections = open_input(ground_truth), open_input(detections)
    truth_format = format or recognize_format(ground_truth, "ground truth")
    if {truth_format, format or recognize_format(detections, "detections")} != {"coco"}:
        return None
    return coco_json.instances_file(ground_truth, image_set), detections


def infer_image_set(
    ground_truth: Named,
    detections: Named,
    *,
    format: str | None = None,  # noqa: A002
) -> str | None:
    """The image set that the detections' file names speak of and a VOC ground truth has a list of.

    Args:
        ground_truth: See `read_ground_truth`.
        detections: See `read_detections`.
        format: A key of FORMATS; None to look at the files.
    """
    detections, truth = open_input(detections), open_input(ground_truth)
    hints = _format(format or recognize_format(detections, "detections")).image_set_hints(
        detections
    )
    known = voc_xml.image_sets(truth.path) if truth.is_folder() else {}
    return next((hint for hint in hints if hint in known), None)


def write(
    ground_truth: GroundTruth,
    detections: Detections | None,
    folder: str | Path,
    *,
    format: str,  # noqa: A002
    image_set: str = DEFAULT_SET,
) -> None:
    """Writes tables in a format; the folder appears only when all of it is written.

    Args:
        ground_truth: The ground truth.
        detections: The detections, or None.
        folder: A new folder.
        format: A key of FORMATS.
        image_set: The name that goes into file names.

    Raises:
        InputError: If the folder exists, or a name cannot be written in this format.
    """
    if not SET_NAME.fullmatch(image_set):
        raise InputError(f"the image set {image_set!r} cannot be part of a file name")
    known = _format(format)
    with create_folder(Path(folder)) as beside:
        known.write(ground_truth, detections, beside, image_set)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise ValueError(f"format {name!r} is unknown; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def _with_class_names(catalog: Catalog, names: dict[int, str]) -> Catalog:
    """The images of `catalog` and the classes of `names`, id to name."""
    return Catalog(
        images=catalog.images,
        classes=tuple(names.values()),
        class_ids=tuple(names),
        file_names=catalog.file_names,
        sizes=catalog.sizes,
    )


def _warn_of_unknown_classes(truth: GroundTruth, found: Detections, path: Path) -> None:
    counts = np.bincount(found.label, minlength=len(found.catalog.classes))
    used = {found.catalog.classes[k] for k in np.flatnonzero(counts).tolist()}
    if unknown := sorted(used - set(truth.catalog.classes)):
        _warn(f"{path}: no ground truth for the detected classes {abbreviate_list(unknown)}")


def _warn_of_odd_boxes(detections: Detections, path: Path) -> None:
    """Inverted boxes, and boxes outside their image, are legal; they are counted aloud."""
    if len(detections) and detections.size.min() < 0:
        inverted = int((detections.size < 0).any(axis=1).sum())
        _warn(f"{path}: {inverted} detections have an inverted box; they overlap nothing")
    if not len(detections.catalog.sizes):
        return
    if outside := int(_outside(detections).sum()):
        _warn(
            f"{path}: {outside} of {len(detections)} detections reach outside their image; "
            "they are evaluated as they are"
        )


def _outside(detections: Detections) -> NDArray[np.bool_]:
    """Which boxes reach outside their image, bool [N]; none where its size is not known."""
    sizes = detections.catalog.sizes.astype(np.float64)
    is_known: NDArray[np.bool_] = np.all(sizes > 0, axis=1)
    low, high = np.where(is_known, 0.0, -np.inf), np.where(is_known[:, np.newaxis], sizes, np.inf)
    left, top, right, bottom = convert_pixels(detections, "continuous").box.T
    image = detections.image
    beyond: NDArray[np.bool_] = (right > high[:, 0][image]) | (bottom > high[:, 1][image])
    if len(detections) and min(left.min(), top.min()) < 0:
        beyond |= np.minimum(left, top) < low[image]
    return beyond


def _warn(message: str) -> None:
    warnings.warn(message, InputWarning, stacklevel=4)  # the caller of read()
