"""Writes a data set in the documented layout: `python -m segmentation.convert SOURCE DEST`.

The layout is that of the data set `folder`: images, labels of class ids, classes.json and a list of
each split.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, printable
from upmap.files import check_new_folder, create_folder, read_bytes, require_path, write_bytes
from upmap.metrics.semantic import IGNORED
from upmap.options import (
    Choices,
    Flag,
    Positional,
    Range,
    add_flags,
    parse_options,
    validate_fields,
)
from upmap.progress import track_progress
from upmap.segmentation.class_description import create_palette
from upmap.segmentation.datasets import DESCRIPTION, IMAGES, LARGEST_IMAGE, MAX_PIXELS, decode_image
from upmap.segmentation.folders.splits import SHARES
from upmap.segmentation.label_records import count_labels
from upmap.segmentation.prediction_files import encode_labels
from upmap.segmentation.seeds import MAX_SEED
from upmap.segmentation.sources.coco_segments import fits_coco, read_coco
from upmap.segmentation.sources.label_folders import fits_folder, read_folder
from upmap.segmentation.sources.samples import Pixels, Sample, Settings, Source
from upmap.segmentation.sources.yolo_segments import fits_yolo, read_yolo
from upmap.text_tables import align_columns

__all__ = ["SOURCES", "ConvertOptions", "SourceFormat", "convert_source", "main"]

VOID_COLOR = (224, 224, 192)  # VOC's
DESCRIPTION_TEXT = """\
Writes images and labels in the layout that trainings read, from what annotation tools write."""
EXAMPLES = """\
examples:
  masks of 0 and 255, RGB masks, a_mask.png beside a.png ...: all that --dataset folder reads
    %(prog)s my_masks streets
  COCO's polygons and run-length codes; images beside the file, or where --images says
    %(prog)s instances_val2017.json streets --images val2017
    %(prog)s coco/ streets
  segments of YOLO, by data.yaml
    %(prog)s data.yaml streets
  then
    upmap train --dataset folder --root streets

objects: pixels without an object are the class background; where objects overlap, the smaller one
is seen; crowds are void. Masks of polygons are pixel for pixel those of pycocotools.

splits: those of the source; where it has none, 15 %% of the images are drawn for val and for test.

exit status: 0 good; 2 misused or unreadable input, and then nothing is written."""


class SourceFormat(NamedTuple):
    """A row of SOURCES.

    Attributes:
        description: One line for --help.
        fits: Whether a path looks like it.
        read: Maps the path and settings to what it holds.
    """

    description: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Settings], Source]


SOURCES = {  # the first that fits is read
    "coco": SourceFormat("JSON files of instances, or a folder with them", fits_coco, read_coco),
    "yolo": SourceFormat("data.yaml or obj.data, or a folder with it", fits_yolo, read_yolo),
    "folder": SourceFormat("images and label files", fits_folder, read_folder),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """What is converted.

    Attributes:
        source: A file or a folder.
        out: A new folder.
        format: What the source is; default: what it looks like.
        images: The folder of COCO's images; default: it is looked for beside the file.
        seed: Seed of splits that are drawn.
        max_pixels: Maximum number of pixels of an image; larger ones are refused.
    """

    source: Annotated[Path, Positional("SOURCE")]
    out: Annotated[Path, Positional("DEST")]
    format: Annotated[str | None, Choices(lambda: SOURCES), Flag(name="from", metavar="FORMAT")] = (
        None
    )
    images: Annotated[Path | None, Flag(metavar="DIR")] = None
    seed: Annotated[int, Range(0, MAX_SEED)] = 0
    max_pixels: Annotated[int, Range(1, LARGEST_IMAGE)] = MAX_PIXELS

    def __post_init__(self) -> None:
        validate_fields(self)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    rows = [f"  {name}: {row.description}" for name, row in SOURCES.items()]
    parser = Parser(
        prog=describe_command("upmap.segmentation.convert", subcommand="convert-segmentation"),
        description="\n".join([DESCRIPTION_TEXT, "", "sources:", *rows]),
        epilog=EXAMPLES,
    )
    add_flags(parser, ConvertOptions)
    return run(lambda: _program(parse_options(ConvertOptions, parser, arguments)))


def _program(options: ConvertOptions) -> int:
    """Converts, and prints the pixels of each class; returns 0."""
    counts = convert_source(options, show_progress=True)
    splits = list(next(iter(counts.values())))
    print(align_columns([("pixels", *splits), *_rows(counts)]), end="")
    print(f"\n{printable(f'train on it: --dataset folder --root {options.out}')}")
    return 0


def _rows(counts: Mapping[str, Mapping[str, int]]) -> list[tuple[str, ...]]:
    return [(name, *(f"{count:,}" for count in row.values())) for name, row in counts.items()]


def convert_source(
    options: ConvertOptions, *, show_progress: bool = False
) -> dict[str, dict[str, int]]:
    """Writes a data set in the documented layout; all of it or nothing.

    Args:
        options: The options.
        show_progress: Whether to draw a progress bar on a terminal.

    Returns:
        The number of pixels of each class in each split.

    Raises:
        InputError: If the source is not recognized or cannot be read, or `out` is not new.
    """
    check_new_folder(options.out)
    path = require_path(options.source)
    name = options.format or next((n for n, row in SOURCES.items() if row.fits(path)), None)
    if name is None:
        known = "; ".join(f"{name}: {row.description}" for name, row in SOURCES.items())
        raise InputError(f"not recognized; there are {known}", path)
    source = SOURCES[name].read(path, Settings(options.images, options.seed, options.max_pixels))
    names = _name_files(source, path)
    palette = create_palette(len(source.classes)) if source.palette is None else source.palette
    counts: dict[str, NDArray[np.int64]] = {}
    with create_folder(options.out) as folder:
        for part in ("images", "labels"):
            (folder / part).mkdir()
        for split in sorted(source.splits, key=_rank_split):
            samples = source.splits[split]
            counts[split] = np.zeros(len(source.classes), np.int64)
            for sample in track_progress(
                samples, f"writing {split}", total=len(samples), show=show_progress
            ):
                label = _write_sample(sample, names[sample.image], folder, palette, options)
                counts[split] += count_labels(label, len(source.classes))
            listed = "".join(f"{names[sample.image]}\n" for sample in samples)
            write_bytes(folder / f"{split}.txt", listed.encode())
        write_bytes(folder / DESCRIPTION, _describe(source.classes, palette))
    return {
        label: {split: int(values[i]) for split, values in counts.items()}
        for i, label in enumerate(source.classes)
    }


def _rank_split(split: str) -> int:
    """The place of a split in tables: train, val, test, others."""
    return list(SHARES).index(split) if split in SHARES else len(SHARES)


def _name_files(source: Source, place: Path) -> dict[Path, str]:
    """A name for each image, without folders and blanks.

    Raises:
        InputError: If two would have one name.
    """
    names: dict[Path, str] = {}
    images: dict[str, Path] = {}
    for sample in (sample for samples in source.splits.values() for sample in samples):
        name = "_".join("__".join(PurePosixPath(sample.name).parts).split())
        other = images.setdefault(name.lower(), sample.image)
        if other != sample.image:
            raise InputError(f"{other} and {sample.image} would both be called {name}", place)
        names[sample.image] = name
    return names


def _write_sample(
    sample: Sample, name: str, folder: Path, palette: Pixels, options: ConvertOptions
) -> Pixels:
    """Copies an image and writes its label; returns that, uint8 [H, W]."""
    data = read_bytes(sample.image)
    height, width, _ = decode_image(data, sample.image, options.max_pixels).shape
    label = sample.read_label((height, width))
    ending = sample.image.suffix.lower()
    if ending not in IMAGES:
        raise InputError(f"an image's name ends in one of {', '.join(IMAGES)}", sample.image)
    colors = np.full((IGNORED + 1, 3), VOID_COLOR, np.uint8)
    colors[: len(palette)] = palette
    write_bytes(folder / "images" / f"{name}{ending}", data)
    write_bytes(folder / "labels" / f"{name}.png", encode_labels(label, colors))
    return label


def _describe(classes: Sequence[str], palette: Pixels) -> bytes:
    """The content of classes.json."""
    content: dict[str, Any] = {
        "classes": list(classes),
        "ignore_index_in_files": IGNORED,
        "palette_rgb": palette.tolist(),
    }
    return (json.dumps(content, indent=2) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main())
