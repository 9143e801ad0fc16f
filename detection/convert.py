"""The command line of format conversion: `python -m detection.convert`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from upmap.console import Parser, collect_notes, describe_command, run
from upmap.detection.formats import (
    DEFAULT_SET,
    FORMATS,
    WRITERS,
    open_source,
    open_sources,
    read,
    read_ground_truth,
    write,
)
from upmap.detection.input_flags import InputFlags
from upmap.detection.inputs import Named, Source, is_listing, open_arguments
from upmap.detection.tables import Detections, GroundTruth
from upmap.errors import printable
from upmap.files import check_new_folder
from upmap.options import (
    Choices,
    Flag,
    Positional,
    add_flags,
    parse_options,
    validate_fields,
)

__all__ = ["main"]

DESCRIPTION = """\
Converts ground truth, and detections if they are given, to another format."""
NOTES = """\
examples:
  VOC to COCO: out/instances_test.json and out/detections_test.json
    %(prog)s VOCdevkit/VOC2007 results/ --to coco --out out --image-set test
  COCO to VOC: out/Annotations/*.xml, out/ImageSets/Main/all.txt and
  out/results/comp4_det_all_<class>.txt
    %(prog)s instances.json detections.json --to voc --out out
  ground truth alone, only the images in a list
    %(prog)s instances.json --to voc --out out --image-set val.txt

pixels: VOC writes the first and last pixel of a box, counted from 1 (1-based, inclusive); COCO
writes its left and top edge, from 0, and its size (0-based, continuous). The same region is
x = xmin - 1, y = ymin - 1, width = xmax - xmin + 1, height = ymax - ymin + 1. Fractions are kept.
Most tools do not shift: they write x = xmin, width = xmax - xmin. --pixels keep does as they do,
for numbers that compare with theirs (on real data 0.003 mAP from those of the same regions).

marks: a difficult box of VOC becomes "iscrowd": 1, "difficult": 1 in COCO; a crowd of COCO becomes
difficult in VOC, which has no crowds. VOC has no place for COCO's ids, areas and polygons, nor for
classes without a box or a detection.

inputs: files may be pipes or compressed by gzip; one of both may be -, standard input.

exit status: 0 good; 2 misused or unreadable input, and then nothing is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(InputFlags):
    """What is converted, and to what.

    Attributes:
        ground_truth: A file, a folder or -.
        detections: A file, a folder or -; without them only ground truth is converted.
        to: The format to write.
        out: A new folder for what is written.
        source: Another name of --format.
        pixels: shift writes boxes that cover the same region in the new format's pixel convention;
            keep writes the same corners (see below).
    """

    ground_truth: Annotated[Named, Positional("GROUND_TRUTH")]
    detections: Annotated[Named | None, Positional("DETECTIONS")] = None
    to: Annotated[str, Choices(WRITERS), Flag(metavar="FORMAT")]
    out: Annotated[Path, Flag(metavar="DIR")]
    source: Annotated[str | None, Choices(FORMATS), Flag(name="from", metavar="FORMAT")] = None
    pixels: Literal["shift", "keep"] = "shift"

    def __post_init__(self) -> None:
        validate_fields(self)
        self.validate_input_flags()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    formats = [f"  {name}: {row.description}" for name, row in FORMATS.items()]
    parser = Parser(
        prog=describe_command("upmap.detection.convert"),
        description="\n".join([DESCRIPTION, "", "formats:", *formats]),
        epilog=NOTES,
    )
    add_flags(parser, Options)
    return run(lambda: program(parse_options(Options, parser, arguments)))


def program(options: Options) -> int:
    """Reads, writes, and prints what was written; returns 0."""
    check_new_folder(options.out)
    with collect_notes(strict=options.strict):
        truth_source, detections_source = resolve_inputs(options)
        options = replace(options, ground_truth=truth_source, detections=detections_source)
        ground_truth, detections = read_tables(options)
    write(
        ground_truth,
        detections,
        options.out,
        format=options.to,
        image_set=output_image_set(truth_source),
        pixels=options.pixels,
    )
    print(format_summary(ground_truth, detections))
    for line in list_outputs(options.out):
        print(printable(line))
    return 0


def resolve_inputs(options: Options) -> tuple[Source, Source | None]:
    """Both inputs, opened, with their formats and the image set."""
    truth, detections = open_arguments(options.ground_truth, options.detections)
    image_set = options.image_set
    both = options.format or options.source
    truth_format = options.gt_format or both
    if detections is None:
        return open_source(truth, "ground truth", format=truth_format, image_set=image_set), None
    return open_sources(
        truth,
        detections,
        ground_truth_format=truth_format,
        detections_format=options.dt_format or both,
        image_set=image_set,
    )


def read_tables(options: Options) -> tuple[GroundTruth, Detections | None]:
    """The tables to convert; the inputs are resolved."""
    if options.detections is None:
        truth = read_ground_truth(options.ground_truth, **options.read_arguments())
        return truth, None
    return read(options.ground_truth, options.detections, **options.read_arguments())


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


if __name__ == "__main__":
    sys.exit(main())
