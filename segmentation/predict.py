"""Labels images with a trained model: `python -m segmentation.predict MODEL IMAGES...`.

Large images are labeled window by window, see `upmap.segmentation.tiling`.
"""

import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from upmap.console import Parser, describe_command, run
from upmap.errors import InputError, InputWarning, printable
from upmap.files import check_folder, check_outputs, create_file, is_stdout, read_bytes, write_bytes
from upmap.options import Choices, Flag, Positional, add_flags, parse_options
from upmap.progress import open_bar, track_progress
from upmap.segmentation.datasets import decode_picture, read_image
from upmap.segmentation.device import limit_threads
from upmap.segmentation.label_records import count_labels, describe_labels
from upmap.segmentation.prediction_files import (
    LARGEST_JPEG,
    SCORE_FILES,
    Job,
    describe_left_out,
    find_jobs,
    is_done,
    read_labels,
    refuse_outputs,
    write_manifest,
    write_prediction,
)
from upmap.segmentation.predictor import Level, Predictor, PredictorOptions, load_predictor
from upmap.text_tables import align_columns

__all__ = ["PredictOptions", "main"]

PROGRAM = "segmentation.predict"
PART = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})", re.ASCII)
LEVELS: dict[str, Level] = {"": "labels", "png": "scores", "npz": "probabilities"}
EXAMPLES = """\
examples:
  %(prog)s runs/train/best.pt photo.jpg
  %(prog)s best.pt CamVid/test/images --out runs/camvid --flip
  %(prog)s best.pt aerial.png --window 512 --overlap 0.5 --batch-size 4
  a folder of many images, on with it after it was stopped, one of eight parts
    %(prog)s best.pt photos --skip-bad --json labels.jsonl
    %(prog)s best.pt photos --skip-bad --json labels.jsonl --resume
    %(prog)s best.pt photos --part 3/8

MODEL is a checkpoint of segmentation.train, or an ONNX file of segmentation.export. writes to
--out, for each image: NAME.png, the class id of each pixel, colored by a palette; NAME_overlay.jpg,
the image under the classes' colors; images in folders keep their paths. prints the share of each
class.
exit status: 0 good; 2 misused or unreadable input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions(PredictorOptions):
    """How images are labeled.

    Attributes:
        model: A checkpoint of segmentation.train, such as best.pt, or an ONNX file.
        images: Image files, or folders of them, which may have folders in them.
        out: The folder for labels and overlays.
        overlay: Write overlays, too.
        scores: Write the probability of each label as a 16-bit PNG file, 65535 for 1, or those of
            all classes as npz.
        json: Write a line of JSON for each image: its classes, their shares, and their masks in
            COCO's run-length encoding; - is stdout.
        resume: Leave out images whose outputs are there, of the same model and options.
        part: Label only the I-th of N parts of the images, such as 3/8.
        skip_bad: Leave out images that cannot be read, and list them in skipped.txt.
    """

    model: Annotated[Path, Positional("MODEL")]
    images: Annotated[tuple[Path, ...], Positional("IMAGES")]
    out: Annotated[str, Flag(metavar="DIR")] = "runs/predict"
    overlay: bool = True
    scores: Annotated[str | None, Choices(SCORE_FILES)] = None
    json: Annotated[Path | None, Flag(metavar="FILE")] = None
    resume: bool = False
    part: Annotated[str | None, Flag(metavar="I/N")] = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        PredictorOptions.__post_init__(self)
        if self.part is not None:
            match = PART.fullmatch(self.part)
            if match is None or int(match[1]) > int(match[2]):
                raise ValueError("part must be I/N with I in 1 .. N, such as 3/8")

    @property
    def outputs(self) -> dict[str, Any]:
        """Which files are written for each image: arguments of prediction_files."""
        return {"overlay": self.overlay, "scores": self.scores or ""}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command(f"upmap.{PROGRAM}"),
        description="Labels each pixel of images with a class, by a trained model.",
        epilog=EXAMPLES,
    )
    add_flags(parser, PredictOptions)
    return run(lambda: _program(parse_options(PredictOptions, parser, arguments)))


def _program(options: PredictOptions) -> int:
    """Labels every image, and prints the share of each class; returns 0."""
    limit_threads(options.threads)
    predictor = load_predictor(options.model, options)
    jobs = _select_jobs(options)
    out = Path(options.out)
    check_folder(out)
    skipped: dict[Job, str] = {}
    windows = _check_images(predictor, jobs, options, skipped)
    write_manifest(out, _describe_run(predictor, options))
    counts = _predict(predictor, windows, options, skipped)
    if options.skip_bad:
        _list_bad_images(skipped, options)
    if options.json is None or not is_stdout(options.json):
        _print_shares(predictor, counts, out)
    return 0


def _select_jobs(options: PredictOptions) -> list[Job]:
    """The images of this part, after all outputs are found to be possible."""
    out = Path(options.out)
    jobs, left_out = find_jobs(options.images, out)
    if left_out:
        message = describe_left_out(left_out)
        warnings.warn(InputWarning(message, kind="left-out", count=len(left_out)), stacklevel=2)
    refuse_outputs(jobs, **options.outputs, resume=True)
    if options.part is not None:
        part, parts = map(int, options.part.split("/"))
        jobs = jobs[part - 1 :: parts]
        if not jobs:
            raise InputError(f"--part {options.part}: there are fewer images than parts")
    refuse_outputs(jobs, **options.outputs, resume=options.resume)
    if options.json is not None:
        check_outputs({"--json": options.json}, [options.model, *(job.path for job in jobs)])
    return jobs


def _check_images(
    predictor: Predictor, jobs: list[Job], options: PredictOptions, skipped: dict[Job, str]
) -> dict[Job, int]:
    """The number of windows of each image, 0 if it is done; bad ones are put into `skipped`.

    A broken image is reported before hours of work, not after them.
    """
    windows: dict[Job, int] = {}
    for job in track_progress(jobs, "checking", total=len(jobs), show=True):
        if options.resume and is_done(job, **options.outputs):
            windows[job] = 0
            continue
        with _skip_bad(job, options, skipped):
            # By Pillow: some versions of OpenCV accept truncated files.
            width, height = decode_picture(read_bytes(job.path), job.path, options.max_pixels).size
            if options.overlay and max(width, height) > LARGEST_JPEG:
                message = f"an overlay has at most {LARGEST_JPEG} px a side; --no-overlay"
                raise InputError(message, job.path)
            windows[job] = predictor.count_windows((height, width))
    if not windows:
        raise InputError("none of the images can be read", options.images[0])
    return windows


def _describe_run(predictor: Predictor, options: PredictOptions) -> dict[str, Any]:
    """What the outputs depend on: the manifest."""
    return {
        "program": PROGRAM,
        "sha256": predictor.metadata["sha256"],
        "precision": predictor.metadata["precision"],
        "window": options.window,
        "overlap": options.overlap,
        "flip": options.flip,
        "batch_size": options.batch_size,
        "overlay": options.overlay,
        "scores": options.scores,
    }


def _predict(
    predictor: Predictor, windows: dict[Job, int], options: PredictOptions, skipped: dict[Job, str]
) -> NDArray[np.int64]:
    """Labels the images that are not done; returns the pixels of each class in each image."""
    counts = []
    total = sum(windows.values())
    with open_bar("predicting", total=total, show=True) as update, _open_json(options) as lines:
        for job, number in windows.items():
            with _skip_bad(job, options, skipped):
                if number:
                    labels = _label_image(predictor, job, options, update)
                else:
                    labels = read_labels(job.labels)
                counts.append(count_labels(labels, len(predictor.classes)))
                if lines is not None:
                    record = describe_labels(labels, predictor.classes)
                    names = {"image": str(job.path), "labels": f"{job.name}.png"}
                    lines.write(json.dumps(names | record) + "\n")
    return np.array(counts, np.int64).reshape(-1, len(predictor.classes))


def _label_image(
    predictor: Predictor, job: Job, options: PredictOptions, update: Any
) -> NDArray[np.uint8]:
    """Labels an image and writes its outputs; returns the labels."""
    image = read_image(job.path, options.max_pixels)
    level = LEVELS[options.scores or ""]
    prediction = predictor.predict(image, level, after_window=update)
    write_prediction(job, image, prediction, predictor.palette, **options.outputs)
    return prediction.labels


@contextmanager
def _skip_bad(job: Job, options: PredictOptions, skipped: dict[Job, str]) -> Iterator[None]:
    """With --skip-bad, an InputError of an image is put into `skipped`."""
    try:
        yield
    except InputError as error:
        if not options.skip_bad:
            raise
        skipped[job] = str(error)


@contextmanager
def _open_json(options: PredictOptions) -> Iterator[TextIO | None]:
    if options.json is None:
        yield None
        return
    with create_file(options.json) as beside, beside.open("w", encoding="utf-8") as lines:
        yield lines


def _list_bad_images(skipped: dict[Job, str], options: PredictOptions) -> None:
    """Writes the images that were left out, and says how many they are."""
    part = f"-{options.part.replace('/', '-of-')}" if options.part is not None else ""
    path = Path(options.out) / f"skipped{part}.txt"
    lines = [f"{job.path}\t{' '.join(reason.split())}\n" for job, reason in skipped.items()]
    write_bytes(path, "".join(lines).encode("utf-8", "surrogateescape"))
    if skipped:
        message = f"{len(skipped)} images left out, listed in {path}"
        warnings.warn(InputWarning(message, kind="skipped", count=len(skipped)), stacklevel=2)


def _print_shares(predictor: Predictor, counts: NDArray[np.int64], out: Path) -> None:
    """Prints for each class its color, its share of all pixels, and the images that have it."""
    print(f"labels of {len(counts)} images in {printable(str(out))}\n")
    colors = [f"#{bytes(color).hex()}" for color in predictor.palette.tolist()]
    shares = [f"{share:.4f}" for share in (counts.sum(axis=0) / max(1, counts.sum())).tolist()]
    images = map(str, np.count_nonzero(counts, axis=0).tolist())
    rows = zip(predictor.classes, colors, shares, images, strict=True)
    print(align_columns([("class", "color", "share", "images"), *rows], left=2), end="")


if __name__ == "__main__":
    sys.exit(main())
