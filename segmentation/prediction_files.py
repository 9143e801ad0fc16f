"""The files of a prediction: the images that are labeled, what is written for each, what is there.

The labels of an image are written last and every file takes its place when it is whole, so that an
image whose labels are there is done, also after `kill -9`.
"""

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from upmap.errors import InputError, abbreviate_list
from upmap.files import create_file, make_folder, read_bytes, read_text, require_path, write_bytes
from upmap.options import describe_value
from upmap.segmentation.datasets import IMAGES, LARGEST_IMAGE, decode_picture
from upmap.segmentation.predictor import Prediction

__all__ = [
    "LARGEST_JPEG",
    "MANIFEST",
    "SCORE_FILES",
    "Job",
    "describe_left_out",
    "encode_labels",
    "encode_scores",
    "find_jobs",
    "is_done",
    "overlay_labels",
    "read_labels",
    "refuse_outputs",
    "write_manifest",
    "write_prediction",
]

MANIFEST = "predict.json"  # in the folder of labels: what they were made with
OTHER_IMAGES = frozenset((".gif", ".jp2", ".heic", ".avif", ".jxl", ".exr"))
SCORE_FILES = ("png", "npz")  # 16-bit PNG of the labels' scores, or those of all classes
JPEG_QUALITY = 90
LARGEST_JPEG = 65500  # px a side; the most that libjpeg writes
STRIP_ROWS = 256  # of an image that are overlaid at once

Pixels = NDArray[np.uint8]


class Job(NamedTuple):
    """An image, and where its labels go.

    Attributes:
        path: The image.
        base: The path of its outputs, without endings.
        name: That path relative to the folder of all outputs, with slashes.
    """

    path: Path
    base: Path
    name: str

    @property
    def labels(self) -> Path:
        """The file of the labels."""
        return self.base.with_name(f"{self.base.name}.png")


def find_jobs(places: Iterable[Path], out: Path) -> tuple[list[Job], list[Path]]:
    """The images that are named, and those in folders and the folders in them, by name.

    Files and folders whose names begin with a dot are passed over, and so is `out`.

    Args:
        places: Images, and folders of them. Outputs of a folder have the paths of its images.
        out: The folder of all outputs.

    Returns:
        The images, and files in the folders that by their names are images of other formats.

    Raises:
        InputError: If a place is not there, a folder has no image or is `out`, or two images would
            have the same outputs.
    """
    jobs: list[Job] = []
    left_out: list[Path] = []
    for place in places:
        if not require_path(place).is_dir():
            jobs.append(_plan_job(place, PurePath(place.name), out))
            continue
        if _is_same_folder(place, out):
            raise InputError("--out is a folder of images; name another", out)
        files = _list_files(place, out)
        images = [file for file in files if file.suffix.lower() in IMAGES]
        others = [file for file in files if file.suffix.lower() in OTHER_IMAGES - {*IMAGES}]
        if not images:
            kinds = sorted({file.suffix.lower() for file in others})
            message = f", only {', '.join(kinds)}" if kinds else ""
            raise InputError(f"no images ({', '.join(IMAGES)}) in it{message}", place)
        jobs += [_plan_job(file, file.relative_to(place), out) for file in images]
        left_out += others
    return jobs, left_out


def refuse_outputs(jobs: Iterable[Job], *, overlay: bool, scores: str, resume: bool) -> None:
    """Refuses two images with the same output, and outputs that exist.

    Args:
        jobs: The images.
        overlay: Whether overlays are written.
        scores: One of SCORE_FILES, or empty.
        resume: Whether outputs may exist.

    Raises:
        InputError: If so; names the image or the file.
    """
    sources: dict[Path, Path] = {}
    for job in jobs:
        for output in _outputs(job, overlay=overlay, scores=scores):
            if output in sources:
                message = f"{output.name} would be written for {sources[output]} too"
                raise InputError(f"{message}; name the folder above both", job.path)
            sources[output] = job.path
            if not resume and output.exists():
                raise InputError("exists already; --resume, or name a new --out", output)


def is_done(job: Job, *, overlay: bool, scores: str) -> bool:
    """Whether all outputs of an image are there, and its labels can be decoded."""
    if not all(path.is_file() for path in _outputs(job, overlay=overlay, scores=scores)):
        return False
    try:
        read_labels(job.labels)
    except InputError:
        return False
    return True


def read_labels(path: Path) -> Pixels:
    """The labels in a file that `write_prediction` wrote, uint8 [H, W].

    Raises:
        InputError: If it cannot be read, or is no such file.
    """
    picture = decode_picture(read_bytes(path), path, LARGEST_IMAGE)
    if picture.mode != "P":
        raise InputError(f"expected labels with a palette, got {picture.mode} pixels", path)
    return np.asarray(picture, np.uint8)


def write_manifest(out: Path, content: Mapping[str, Any]) -> None:
    """Writes what the labels in a folder are made with, or requires that it is the same.

    Several processes may label parts of the images into one folder.

    Args:
        out: The folder.
        content: Values of JSON; what outputs depend on.

    Raises:
        InputError: If labels of another model, or with other options, are there; names the key.
    """
    path = out / MANIFEST
    if not path.exists():
        make_folder(out)
        write_bytes(path, json.dumps(content, indent=1).encode() + b"\n")
        return
    try:
        old = json.loads(read_text(path))
    except ValueError:
        old = None
    if not isinstance(old, dict):
        raise InputError("not written by segmentation.predict; name a new --out", path)
    for key, value in json.loads(json.dumps(content)).items():
        if old.get(key) != value:
            values = f"{describe_value(old.get(key))}, not {describe_value(value)}"
            raise InputError(f"labels there were made with {values}; name a new --out", path, key)


def write_prediction(
    job: Job,
    image: Pixels,
    prediction: Prediction,
    palette: Pixels,
    *,
    overlay: bool,
    scores: str,
) -> None:
    """Writes the outputs of an image, the labels last.

    Args:
        job: The image, and where its outputs go.
        image: uint8 [H, W, 3], RGB; overwritten by the overlay, if there is one.
        prediction: What is written.
        palette: uint8 [K, 3], RGB.
        overlay: Whether the overlay is written.
        scores: One of SCORE_FILES, or empty.

    Raises:
        InputError: If a file cannot be written.
    """
    make_folder(job.base.parent)
    if scores:
        _write_scores(_outputs(job, overlay=False, scores=scores)[0], prediction)
    if overlay:
        for top in range(0, len(image), STRIP_ROWS):
            rows = slice(top, top + STRIP_ROWS)
            image[rows] = overlay_labels(image[rows], prediction.labels[rows], palette)
        write_bytes(_outputs(job, overlay=True, scores="")[0], _encode_jpeg(image))
    write_bytes(job.labels, encode_labels(prediction.labels, palette))


def encode_labels(labels: Pixels, palette: Pixels) -> bytes:
    """A PNG file of labels, uint8 [H, W], as indices into a palette, uint8 [K, 3], RGB."""
    indices = Image.fromarray(labels)
    indices.putpalette(palette.tobytes())  # turns gray values into indices of the same value
    stream = io.BytesIO()
    indices.save(stream, format="PNG", bits=8)
    return stream.getvalue()


def encode_scores(scores: NDArray[np.uint16]) -> bytes:
    """A 16-bit gray PNG file of scores, uint16 [H, W]."""
    stream = io.BytesIO()
    Image.fromarray(scores).save(stream, format="PNG")
    return stream.getvalue()


def overlay_labels(image: Pixels, labels: Pixels, palette: Pixels) -> Pixels:
    """The mean of an image and the colors of its classes, uint8 [H, W, 3], RGB.

    Args:
        image: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W], 0 .. K - 1.
        palette: uint8 [K, 3], RGB.

    >>> black, gray = np.zeros((1, 1, 3), np.uint8), np.full((1, 3), 100, np.uint8)
    >>> overlay_labels(black, np.zeros((1, 1), np.uint8), gray).tolist()
    [[[50, 50, 50]]]
    """
    mixed: Pixels = image // 2 + palette[labels] // 2  # each halved first, to stay in 8 bits
    return mixed


def describe_left_out(left_out: Sequence[Path]) -> str:
    """What a warning says of images of other formats.

    >>> describe_left_out([Path("b.gif")])
    'left out, as they are no .jpg, .jpeg, .png, .tif, .tiff, .bmp, .webp: b.gif'
    """
    names = abbreviate_list([str(path) for path in left_out])
    return f"left out, as they are no {', '.join(IMAGES)}: {names}"


def _encode_jpeg(image: Pixels) -> bytes:
    """A JPEG file of an image; by OpenCV, as Pillow would copy all of it twice."""
    import cv2

    bgr = np.ascontiguousarray(image[:, :, ::-1])  # the array that `read_image` has turned round
    encoded: Pixels = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return encoded.tobytes()


def _plan_job(path: Path, relative: PurePath, out: Path) -> Job:
    name = relative.with_name(relative.stem)
    return Job(path, out / name, name.as_posix())


def _outputs(job: Job, *, overlay: bool, scores: str) -> list[Path]:
    """The files of an image, in the order in which they are written."""
    name = job.base.name
    outputs = [job.base.with_name(f"{name}_scores.{scores}")] if scores else []
    if overlay:
        outputs.append(job.base.with_name(f"{name}_overlay.jpg"))
    return [*outputs, job.labels]


def _list_files(folder: Path, out: Path) -> list[Path]:
    """The files in a folder and those in it, by name; links to folders are not followed."""
    files = []
    for root, folders, names in os.walk(folder, onerror=_raise_input_error):
        # In place: os.walk goes on with these.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _is_same_folder(Path(root, name), out)
        )
        files += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
    return files


def _raise_input_error(error: OSError) -> None:
    raise InputError("cannot be read", os.fsdecode(error.filename)) from None


def _is_same_folder(first: Path, second: Path) -> bool:
    return first.is_dir() and second.is_dir() and first.samefile(second)


def _write_scores(path: Path, prediction: Prediction) -> None:
    if path.suffix == ".png":
        assert prediction.scores is not None
        write_bytes(path, encode_scores(prediction.scores))
        return
    assert prediction.probabilities is not None
    with create_file(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, probabilities=prediction.probabilities)
