"""Reading and writing of ground truth and detections in the formats of `registry`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar, Unpack

from upmap.detection.boxes import relabel_pixels
from upmap.detection.formats import checks, coco_json
from upmap.detection.formats.advice import READERS, advise, find_format
from upmap.detection.formats.class_names import read_class_names
from upmap.detection.formats.read_options import ReadArguments, ReadOptions
from upmap.detection.formats.registry import (
    DETECTION_READERS,
    GROUND_TRUTH_READERS,
    WRITERS,
)
from upmap.detection.inputs import Input, Named, Source, open_input
from upmap.detection.tables import Catalog, Detections, GroundTruth, align
from upmap.errors import InputError
from upmap.files import create_folder

__all__ = [
    "DEFAULT_SET",
    "coco_files",
    "open_source",
    "open_sources",
    "read",
    "read_detections",
    "read_ground_truth",
    "recognize_format",
    "write",
]

DEFAULT_SET = "all"  # the name of an image set that its source does not name
SET_NAME = re.compile(r"\w[\w.-]*")
What = Literal["ground truth", "detections"]
Row = TypeVar("Row")


def read_ground_truth(
    path: Named,
    *,
    format: str | None = None,  # noqa: A002
    **arguments: Unpack[ReadArguments],
) -> GroundTruth:
    """Ground truth from files.

    Args:
        path: A file or folder in one of the formats of `GROUND_TRUTH_READERS`, such as a VOC devkit
            folder or a COCO instances file; a file may be a pipe or compressed by gzip.
        format: A key of GROUND_TRUTH_READERS; None recognizes it by the files.
        **arguments: The fields of `ReadOptions`: image_set, image_key, sizes, threads ...

    Raises:
        InputError: If the files cannot be read; names the file and the line or key.
    """
    options = ReadOptions(**arguments)
    source = open_source(path, "ground truth", format=format, image_set=options.image_set)
    reader = GROUND_TRUTH_READERS[source.format]
    return reader.read(source, replace(options, image_set=source.image_set))


def read_detections(
    path: Named,
    catalog: Catalog,
    *,
    format: str | None = None,  # noqa: A002
    **arguments: Unpack[ReadArguments],
) -> Detections:
    """Detections from files.

    Args:
        path: A file or folder in one of the formats of `DETECTION_READERS`, such as a folder of
            comp4 files or a COCO results file; a file may be a pipe or compressed by gzip.
        catalog: The ground truth's images and classes.
        format: A key of DETECTION_READERS; None recognizes it by the files.
        **arguments: The fields of `ReadOptions`: image_set (that in comp4 file names), class_names,
            image_key, columns, threads ...

    Raises:
        InputError: If the files cannot be read, or have unknown images or classes.
    """
    options = ReadOptions(**arguments)
    source = open_source(path, "detections", format=format, image_set=options.image_set)
    reader = DETECTION_READERS[source.format]
    if options.class_names is not None and not reader.reads_class_names:
        if not reader.has_class_ids:
            message = "class names are for category ids, which these files do not have"
            raise InputError(message, source.path)
        catalog = _with_class_names(catalog, read_class_names(options.class_names))
    return reader.read(source, catalog, replace(options, image_set=source.image_set))


def read(
    ground_truth: Named,
    detections: Named,
    *,
    format: str | None = None,  # noqa: A002
    ground_truth_format: str | None = None,
    detections_format: str | None = None,
    **arguments: Unpack[ReadArguments],
) -> tuple[GroundTruth, Detections]:
    """Ground truth and detections from files, under one catalog.

    Where `image_set` is None, the image set that the detections' file names mention is used, if
    the ground truth has a list of that name. Boxes that are valid but suspicious are warned about.

    Args:
        ground_truth: See `read_ground_truth`.
        detections: See `read_detections`.
        format: The format of both; None recognizes each by its files.
        ground_truth_format: The format of the ground truth, where it is not `format`.
        detections_format: The format of the detections, where it is not `format`.
        **arguments: The fields of `ReadOptions`: image_set, class_names, image_key, threads ...

    Raises:
        InputError: If the files cannot be read; names the file and the line or key.
    """
    truth_source, detections_source = open_sources(
        ground_truth,
        detections,
        format=format,
        ground_truth_format=ground_truth_format,
        detections_format=detections_format,
        image_set=arguments.pop("image_set", None),
    )
    truth = read_ground_truth(truth_source, **arguments)
    table = read_detections(detections_source, truth.catalog, **arguments)
    checks.check_classes(truth, table, detections_source.path)
    reader = DETECTION_READERS[detections_source.format]
    if reader.has_class_ids and arguments.get("class_names") is None:
        checks.check_shift(truth, table, detections_source.path)
    truth, table = align(truth, table)
    checks.check_boxes(table, detections_source.path)
    return truth, table


def open_sources(
    ground_truth: Named,
    detections: Named,
    *,
    format: str | None = None,  # noqa: A002
    ground_truth_format: str | None = None,
    detections_format: str | None = None,
    image_set: str | None = None,
) -> tuple[Source, Source]:
    """Opens both inputs, recognizes their formats and infers the image set, each once.

    Args:
        ground_truth: See `read_ground_truth`.
        detections: See `read_detections`.
        format: See `read`.
        ground_truth_format: See `read`.
        detections_format: See `read`.
        image_set: See `read`.

    Returns:
        What `read`, `read_ground_truth` and `read_detections` take in place of paths and options.

    Raises:
        InputError: If nothing is there, or it looks like no known format.
    """
    are_settled = isinstance(ground_truth, Source) and isinstance(detections, Source)
    truth = open_source(
        ground_truth, "ground truth", format=ground_truth_format or format, image_set=image_set
    )
    results = open_source(
        detections, "detections", format=detections_format or format, image_set=image_set
    )
    if are_settled or image_set is not None:
        return truth, results
    inferred = _infer_image_set(truth, results)
    return replace(truth, image_set=inferred), replace(results, image_set=inferred)


def open_source(
    named: Named,
    what: What,
    *,
    format: str | None = None,  # noqa: A002
    image_set: str | None = None,
) -> Source:
    """Opens one input and recognizes its format.

    Args:
        named: A file or folder; a `Source` keeps what is not named anew.
        what: "ground truth" or "detections".
        format: A key of its readers; None recognizes it by the files.
        image_set: The name of an image set, or a file that lists image ids; None for all images.

    Raises:
        InputError: If nothing is there, or it looks like no known format.
    """
    source = open_input(named)
    if isinstance(source, Source):
        format, image_set = format or source.format, image_set or source.image_set  # noqa: A001
    name = format or recognize_format(source, what)
    _row(READERS[what], name)
    return Source(source.path, source.data, source.reading, format=name, image_set=image_set)


def recognize_format(path: Named, what: What) -> str:
    """The name of the format of an input.

    Args:
        path: A file or folder; a pipe must be an `Input`, or it is read here and gone.
        what: "ground truth" or "detections".

    Raises:
        InputError: If nothing is there, or it looks like no known format.
    """
    source = open_input(path)
    if isinstance(source, Source):
        return source.format
    name = find_format(source, what)
    if name is None:
        raise InputError(f"not recognized as {what}; {advise(source, what)}", source.path)
    return name


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
    truth, results = open_sources(ground_truth, detections, format=format, image_set=image_set)
    if (truth.format, results.format) != ("coco", "coco"):
        return None
    return coco_json.instances_file(truth, truth.image_set), results


def write(
    ground_truth: GroundTruth,
    detections: Detections | None,
    folder: str | Path,
    *,
    format: str,  # noqa: A002
    image_set: str = DEFAULT_SET,
    pixels: Literal["keep", "shift"] = "shift",
) -> None:
    """Writes tables in a format; the folder appears only when all of it is written.

    Args:
        ground_truth: The ground truth.
        detections: The detections, or None.
        folder: A new folder.
        format: A key of WRITERS.
        image_set: The name that goes into file names.
        pixels: "shift" writes boxes that cover the same region in the format's pixel convention;
            "keep" writes the same corners, as many tools do.

    Raises:
        InputError: If the folder exists, or a name cannot be written in this format.
    """
    if not SET_NAME.fullmatch(image_set):
        raise InputError(f"the image set {image_set!r} cannot be part of a file name")
    writer = _row(WRITERS, format)
    if pixels == "keep":
        ground_truth = relabel_pixels(ground_truth, writer.pixels)
        detections = None if detections is None else relabel_pixels(detections, writer.pixels)
    with create_folder(Path(folder)) as beside:
        writer.write(ground_truth, detections, beside, image_set)


def _row(rows: Mapping[str, Row], name: str) -> Row:
    if name not in rows:
        raise ValueError(f"format {name!r} is unknown; there are {', '.join(rows)}")
    return rows[name]


def _infer_image_set(ground_truth: Source, detections: Source) -> str | None:
    hints = DETECTION_READERS[detections.format].image_set_hints(detections)
    if not hints:
        return None
    known = GROUND_TRUTH_READERS[ground_truth.format].image_sets(ground_truth)
    return next((hint for hint in hints if hint in known), None)


def _with_class_names(catalog: Catalog, names: dict[int, str]) -> Catalog:
    """The images of `catalog` and the classes of `names`, id to name."""
    return Catalog(
        images=catalog.images,
        classes=tuple(names.values()),
        class_ids=tuple(names),
        file_names=catalog.file_names,
        sizes=catalog.sizes,
    )
