"""The command `upmap`: `upmap evaluate ...` is `python -m upmap.metrics.evaluate ...`.

A program is imported only when it is the one that runs.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from upmap import __version__
from upmap.console import run_process, suggest
from upmap.errors import as_line

__all__ = ["PROGRAMS", "Program", "main", "run"]


class Program(NamedTuple):
    """One subcommand.

    Attributes:
        module: The module whose `main` runs it.
        description: One line for `upmap --help`.
        is_short: Whether it is run by `run_process`.
    """

    module: str
    description: str
    is_short: bool = False


PROGRAMS = {
    "evaluate": Program(
        "upmap.metrics.evaluate", "evaluate object detections: VOC mAP, COCO AP", is_short=True
    ),
    "convert": Program("upmap.detection.convert", "convert annotations and detections"),
    "compare-detectors": Program(
        "upmap.metrics.compare", "compare object detectors: is the difference chance?"
    ),
    "convert-segmentation": Program(
        "upmap.segmentation.convert", "write a segmentation data set in the layout of trainings"
    ),
    "train": Program("upmap.segmentation.train", "train a segmentation model"),
    "predict": Program("upmap.segmentation.predict", "label images with a trained model"),
    "evaluate-segmentation": Program(
        "upmap.segmentation.evaluate", "score a segmentation model, or label maps"
    ),
    "serve": Program("upmap.segmentation.serve", "label images over HTTP"),
    "compare": Program("upmap.segmentation.compare", "compare upsampling operators"),
    "export": Program("upmap.segmentation.export", "export a trained model to ONNX"),
    "kernels": Program("upmap.kernels.__main__", "list the kernels and which of them are built"),
    "shapes": Program("upmap.data.shapes", "draw a sample data set"),
}


USAGE = """\
usage: upmap SUBCOMMAND ...

{subcommands}

examples:
  upmap evaluate                                              the bundled sample
  upmap evaluate VOCdevkit/VOC2007 results/                   Pascal VOC
  upmap evaluate instances_val2017.json detections.json       COCO
  upmap train --dataset folder --root MY_DATA                 a segmentation model
  upmap predict runs/train/best.pt photo.jpg

`upmap SUBCOMMAND --help` describes one; `upmap --version` prints the version."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the subcommand that the first argument names; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        print(f"upmap {__version__}")
        return 0
    if words[0] not in PROGRAMS:
        near = suggest(words[0], PROGRAMS) or f"; there are {', '.join(PROGRAMS)}"
        print(f"error: {as_line(f'no subcommand {words[0]!r}{near}')}", file=sys.stderr)
        return 2
    status: int = import_module(PROGRAMS[words[0]].module).main(words[1:])
    return status


def run() -> NoReturn:
    """The command `upmap`: `main` as the whole process."""
    if PROGRAMS.get(" ".join(sys.argv[1:2]), PROGRAMS["train"]).is_short:
        run_process(main)
    sys.exit(main())


def _usage() -> str:
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:<{width}}  {program.description}" for name, program in PROGRAMS.items()]
    return USAGE.format(subcommands="\n".join(lines))


if __name__ == "__main__":
    run()
