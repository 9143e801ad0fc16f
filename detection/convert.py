"""The command line of format conversion: `python -m detection.convert`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upmap.console import Parser, run
from upmap.detection.formats import (
    DEFAULT_SET,
    FORMATS,
    open_source,
    open_sources,
    read,
    read_ground_truth,
    write,
)
from upmap.detection.formats.registry import WRITERS
from upmap.detection.inputs import Named, Source, is_listing, open_arguments
from upmap.detection.tables import Detections, GroundTruth
from upmap.errors import printable
from upmap.files import check_new_folder

__all__ = ["main"]

DESCRIPTION = """\
Converts ground truth, and detections if they are given, to another format."""
NOTES = """\
examples:
  VOC to COCO: out/instances_test.json and out/detections_test.json
    python -m detection.convert VOCdevkit/VOC2007 results/ --to coco --out out --image-set test
  COCO to VOC: out/Annotations/*.xml, out/ImageSets/Main/all.txt and
  out/results/comp4_det_all_<class>.txt
    python -m detection.convert instances.json detections.json --to voc --out out
  ground truth alone, only the images in a list
    python -m detection.convert instances.json --to voc --out out --image-set val.txt

pixels: VOC writes the first and last pixel of a box, counted from 1 (1-based, inclusive); COCO
writes its left and top edge, from 0, and its size (0-based, continuous). The same region is
x = xmin - 1, y = ymin - 1, width = xmax - xmin + 1, height = ymax - ymin + 1. Fractions are kept.

marks: a difficult box of VOC becomes "iscrowd": 1, "difficult": 1 in COCO; a crowd of COCO becomes
difficult in VOC, which has no crowds. VOC has no place for COCO's ids, areas and polygons, nor for
classes without a box or a detection.

inputs: files may be pipes or compressed by gzip; one of both may be -, standard input.

exit status: 0 good; 2 misused or unreadable input, and then nothing is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    ground_truth: Named
    detections: Named | None
    to: str
    out: Path
    source: str | None
    image_set: str | None
    class_names: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    return run(lambda: program(Options(**vars(_parser().parse_args(arguments)))))


def program(options: Options) -> None:
    """Reads, writes, and prints what was written."""
    check_new_folder(options.out)
    truth_source, detections_source = resolve_inputs(options)
    options = replace(options, ground_truth=truth_source, detections=detections_source)
    ground_truth, detections = read_tables(options)
    image_set = output_image_set(truth_source)
    write(ground_truth, detections, options.out, format=options.to, image_set=image_set)
    print(format_summary(ground_truth, detections))
    for line in list_outputs(options.out):
        print(printable(line))


def resolve_inputs(options: Options) -> tuple[Source, Source | None]:
    """Both inputs, opened, with their formats and the image set."""
    truth, detections = open_arguments(options.ground_truth, options.detections)
    source, image_set = options.source, options.image_set
    if detections is None:
        return open_source(truth, "ground truth", format=source, image_set=image_set), None
    return open_sources(truth, detections, format=source, image_set=image_set)


def read_tables(options: Options) -> tuple[GroundTruth, Detections | None]:
    """What is converted."""
    if options.detections is None:
        return read_ground_truth(options.ground_truth, show_progress=True), None
    return read(
        options.ground_truth,
        options.detections,
        class_names=options.class_names,
        show_progress=True,
    )


def output_image_set(source: Source) -> str:
    """The name of the image set that is read, for file names."""
    name = source.image_set
    if name is None:
        return DEFAULT_SET
    return Path(name.removesuffix(".gz")).stem if is_listing(Path(name)) else name


def format_summary(ground_truth: GroundTruth, detections: Detections | None) -> str:
    """The counts, in one line."""
    catalog = ground_truth.catalog
    marks = [
        f"{int(column.sum())} {mark}"
        for mark, column in (("difficult", ground_truth.difficult), ("crowd", ground_truth.crowd))
        if column.any()
    ]
    counts = [
        f"{len(catalog.images)} images",
        f"{len(ground_truth)} boxes" + (f" ({', '.join(marks)})" if marks else ""),
        f"{len(catalog.classes)} classes",
    ]
    if detections is not None:
        counts.append(f"{len(detections)} detections")
    return "wrote " + ", ".join(counts)


def list_outputs(folder: Path) -> Iterator[str]:
    """The files in `folder`; those of a folder that has several are counted."""
    for place in sorted({file.parent for file in folder.rglob("*") if file.is_file()}):
        files = sorted(place.iterdir())
        several = f"{place} ({len(files)} files *{files[0].suffix})"
        same = len(files) > 2 and len({file.suffix for file in files}) == 1
        yield from [several] if same else map(str, files)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m detection.convert", description=DESCRIPTION, epilog=NOTES)
    known = "; ".join(f"{name}: {row.description}" for name, row in FORMATS.items())
    add = parser.add_argument
    add("ground_truth", type=Path, metavar="GROUND_TRUTH", help=f"what to read ({known})")
    add("detections", type=Path, nargs="?", metavar="DETECTIONS", help="detections, likewise")
    add("--to", required=True, choices=WRITERS, help="the format to write")
    add("--out", required=True, type=Path, metavar="DIR", help="a new folder for what is written")
    add("--from", dest="source", choices=FORMATS, help="the format to read; default: recognized")
    add(
        "--image-set",
        metavar="NAME|FILE",
        help="an image set of the ground truth, or a file with an image id first on each line; "
        "default: the one that the detections' file names speak of, else all images",
    )
    add(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="which class each category id of COCO results is, where the ground truth has no such "
        "ids: a name on each line for 1, 2, ..., or lines `id name`, or an instances file",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
