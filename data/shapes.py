"""Synthetic scenes of colored shapes, with boxes, masks and a synthetic detector's findings.

Run as `python -m data.shapes OUT`; data/sample was written by it. Boxes and masks follow the
VOC2007 development kit: the extent of the visible pixels, from 1, both ends included; 0 is the
background.
"""

import colorsys
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from upmap.console import Parser, describe_command, run
from upmap.detection.boxes import box_area, inclusive_size
from upmap.detection.formats import write
from upmap.detection.tables import Catalog, Detections, GroundTruth
from upmap.errors import InputError, printable
from upmap.files import create_folder
from upmap.options import (
    Choices,
    Positional,
    Range,
    add_flags,
    parse_options,
    validate_fields,
)

__all__ = [
    "CLASSES",
    "IMAGE_SET",
    "Scene",
    "detections_of",
    "ground_truth_of",
    "main",
    "scenes",
    "write_shapes",
]

# Each class is one or more contours, given by the radii of corners at equal angles; where two
# contours lie within each other, the inner one is a hole.
CONTOURS: dict[str, tuple[tuple[float, ...], ...]] = {
    "circle": ((1.0,) * 48,),
    "ring": ((1.0,) * 48, (0.55,) * 48),
    "square": ((1.0,) * 4,),
    "star": ((1.0, 0.45) * 5,),
    "triangle": ((1.0,) * 3,),
}
CLASSES = tuple(CONTOURS)  # alphabetical, as readers of VOC files list them
IMAGE_SET = "test"
JPEG_QUALITY = 85

SMALLEST_SCENE, LARGEST_SCENE = (128, 96), (192, 144)  # width, height, px
SMALLEST_RADIUS, LARGEST_RADIUS = 5.0, 56.0  # px
MOST_SHAPES = 7
BACKGROUND_EVERY = 12  # one scene in so many has no objects
DIFFICULT_VISIBILITY = 0.35  # the visible part below which an object is difficult
DIFFICULT_PIXELS = 60  # the visible pixels below which it is, too
ANY_HUE = (0.0, 1.0)
HUE_SPREAD = 1.0  # of a class's share of the circle, where classes have hues of their own
SUBPIXEL_BITS = 4  # OpenCV's fixed-point coordinates, for smooth edges

SCENE_STREAM, DETECTOR_STREAM = 0, 1  # keep the random numbers of the two apart

# The detector: for class k, base + step x k.
JITTER, JITTER_STEP = 0.03, 0.022  # standard deviation of a corner, of the object's side
MISSES, MISSES_STEP = 0.06, 0.04
MISSES_DIFFICULT = 0.4
DUPLICATES = 0.15
WRONG_CLASSES = 0.05
FALSE_POSITIVES = 1.0  # per image
GRID = 0.25  # px: exact in binary, so that both pixel conventions hold the same boxes

DESCRIPTION = """\
Writes a synthetic detection data set: images of colored shapes, their ground truth, and the
detections of an imaginary detector."""
NOTES = """\
The same seed gives the same data. Evaluate it with `upmap evaluate OUT/voc OUT/voc/results`.

exit status: 0 good; 2 misused, or without OpenCV."""

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Contours = list[Floats]
Interval = tuple[float, float]
FormatName = Literal["voc", "coco"]

FORMAT_CHOICES: dict[str, tuple[FormatName, ...]] = {
    "voc": ("voc",),
    "coco": ("coco",),
    "both": ("voc", "coco"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A rendered scene and what is to be seen in it, for n objects.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        instances: uint8 [H, W], 0 for the background, i + 1 where object i is visible.
        boxes: float64 [n, 4], xyxy px, the extent of the visible pixels, 1-based inclusive.
        labels: int32 [n], index into CLASSES.
        difficult: bool [n], mostly covered or very small.
    """

    image: Pixels
    instances: Pixels
    boxes: Floats
    labels: NDArray[np.int32]
    difficult: NDArray[np.bool_]

    @property
    def mask(self) -> Pixels:
        """The class of each pixel, uint8 [H, W]: 0 for the background, else 1 + label."""
        return np.concatenate([[0], self.labels + 1]).astype(np.uint8)[self.instances]


def scenes(count: int, seed: int, *, colored: bool = False) -> list[Scene]:
    """Scenes of 1 to 7 overlapping shapes; every twelfth is a background without any.

    Args:
        count: How many; the first scenes of a larger number are the same.
        seed: Of the random numbers, from 0.
        colored: Whether a class has hues of its own, so that a small model learns classes in
            seconds; otherwise the outline alone tells them.

    Raises:
        InputError: If `count` is below 1 or `seed` below 0.
        ImportError: If OpenCV is not installed.

    >>> [len(scene.labels) for scene in scenes(3, seed=0)]
    [4, 1, 3]
    """
    for name, value, least in (("number of images", count, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"the {name} must be at least {least}, not {value}")
    return [
        _scene(
            np.random.default_rng([seed, SCENE_STREAM, i]),
            is_background=i % BACKGROUND_EVERY == BACKGROUND_EVERY - 1,
            colored=colored,
        )
        for i in range(count)
    ]


def ground_truth_of(scenes: Sequence[Scene]) -> GroundTruth:
    """The objects of `scenes` as a table of inclusive boxes; images are shape_000001 and on."""
    names = tuple(f"shape_{i:06d}" for i in range(1, len(scenes) + 1))
    sizes = [scene.instances.shape[::-1] for scene in scenes]
    box = np.concatenate([scene.boxes for scene in scenes])
    size = inclusive_size(box)
    return GroundTruth(
        image=np.repeat(np.arange(len(scenes)), [len(scene.labels) for scene in scenes]),
        label=np.concatenate([scene.labels for scene in scenes]),
        box=box,
        size=size,
        area=box_area(size),
        difficult=np.concatenate([scene.difficult for scene in scenes]),
        crowd=np.zeros(len(box), bool),
        annotation_id=np.arange(1, len(box) + 1),
        catalog=Catalog(names, CLASSES, sizes=np.array(sizes, np.int64)),
        pixels="inclusive",
    )


def detections_of(scenes: Sequence[Scene], seed: int) -> Detections:
    """What a synthetic detector finds in `scenes`: a table in the order of VOC results files.

    It misses objects, finds some twice or as another class, sees some that are not there, and is
    the less exact the later a class comes in CLASSES. Scores fall with the error of the box.

    Args:
        scenes: The scenes.
        seed: Of the random numbers, from 0.
    """
    truth = ground_truth_of(scenes)
    rng = np.random.default_rng([seed, DETECTOR_STREAM])
    missed = MISSES + MISSES_STEP * truth.label + MISSES_DIFFICULT * truth.difficult
    hits = np.flatnonzero(rng.random(len(truth)) >= missed)
    twice = hits[rng.random(len(hits)) < DUPLICATES]
    parts = (
        _copies(truth, hits, rng, blur=1.0),
        _copies(truth, twice, rng, blur=2.0),
        _false_positives(truth.catalog, rng),
    )
    return _in_file_order(truth.catalog, parts)


def write_shapes(
    folder: str | Path,
    *,
    images: int = 48,
    seed: int = 0,
    formats: Sequence[FormatName] = ("voc", "coco"),
) -> tuple[GroundTruth, Detections]:
    """Writes scenes with ground truth and detections; the folder appears when all is written.

    Args:
        folder: A new folder; it gets a folder for each of `formats`. The images go into the first:
            voc/JPEGImages or coco/images.
        images: How many.
        seed: Of the random numbers, from 0.
        formats: Which annotations to write.

    Returns:
        The tables that were written.

    Raises:
        InputError: If `folder` exists, `images` is below 1 or `seed` below 0.
        ImportError: If OpenCV is not installed.
    """
    with create_folder(Path(folder)) as beside:
        drawn = scenes(images, seed)
        truth, detections = ground_truth_of(drawn), detections_of(drawn, seed)
        for kind in formats:
            write(truth, detections, beside / kind, format=kind, image_set=IMAGE_SET)
        pictures = beside / ("voc/JPEGImages" if "voc" in formats else "coco/images")
        pictures.mkdir()
        for name, scene in zip(truth.catalog.images, drawn, strict=True):
            (pictures / f"{name}.jpg").write_bytes(_jpeg(scene.image))
    return truth, detections


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is drawn, and where it is written.

    Attributes:
        folder: A new folder for the data set.
        images: Number of images.
        seed: Seed of the random numbers.
        format: The format: OUT/voc has XML and comp4 files, OUT/coco has JSON.
    """

    folder: Annotated[Path, Positional("OUT")]
    images: Annotated[int, Range(1, 999_999)] = 48
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    format: Annotated[str, Choices(FORMAT_CHOICES)] = "both"

    def __post_init__(self) -> None:
        validate_fields(self)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    parser = Parser(
        prog=describe_command("upmap.data.shapes"), description=DESCRIPTION, epilog=NOTES
    )
    add_flags(parser, Options)
    return run(lambda: _program(parse_options(Options, parser, arguments)))


def _program(options: Options) -> int:
    try:
        truth, detections = write_shapes(
            options.folder,
            images=options.images,
            seed=options.seed,
            formats=FORMAT_CHOICES[options.format],
        )
    except ImportError as error:
        hint = 'drawing needs OpenCV: pip install "upmap[shapes]"'
        raise InputError(f"{error}; {hint}") from None
    count = len(truth.catalog.images)
    folder = printable(str(options.folder))
    print(f"{folder}: {count} images, {len(truth)} objects, {len(detections)} detections")
    return 0


def _scene(rng: Generator, *, is_background: bool, colored: bool) -> Scene:
    width, height = rng.integers(SMALLEST_SCENE, LARGEST_SCENE, endpoint=True).tolist()
    count = 0 if is_background else int(rng.integers(1, MOST_SHAPES, endpoint=True))
    labels = rng.integers(len(CLASSES), size=count).astype(np.int32)
    shapes = [_contours(CLASSES[label], width, height, rng) for label in labels.tolist()]
    stencils = np.zeros((count, height, width), bool)
    canvas = _background(width, height, rng)
    for i, (shape, label) in enumerate(zip(shapes, labels.tolist(), strict=True)):
        stencils[i] = _inside(shape, width, height)
        canvas = _paint(canvas, shape, rng, _hues(label) if colored else ANY_HUE)
    image = np.clip(canvas + rng.normal(0, 2.5, (height, width, 1)), 0, 255).astype(np.uint8)
    return _annotate(image, stencils, labels)


def _contours(name: str, width: int, height: int, rng: Generator) -> Contours:
    """A shape of random place, size and rotation: its contours, float64 [P, 2], x and y, px."""
    radius = math.exp(rng.uniform(math.log(SMALLEST_RADIUS), math.log(LARGEST_RADIUS)))
    center = rng.uniform((0, 0), (width, height))
    turn = rng.uniform(0, 2 * math.pi)
    contours = []
    for radii in CONTOURS[name]:
        angle = turn + np.linspace(0, 2 * math.pi, len(radii), endpoint=False)
        rays = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        contours.append(center + radius * np.array(radii)[:, None] * rays)
    return contours


def _inside(contours: Contours, width: int, height: int) -> NDArray[np.bool_]:
    """Which pixels' centers lie within a shape, bool [H, W], by the even-odd rule.

    OpenCV is not asked: its versions differ in single pixels, and boxes depend on these.
    """
    start = np.concatenate(contours)[:, :, None]
    end = np.concatenate([np.roll(contour, -1, axis=0) for contour in contours])[:, :, None]
    y = np.arange(height)
    crossing = (start[:, 1] <= y) != (end[:, 1] <= y)  # [edges, H]
    across, down = end[:, 0] - start[:, 0], end[:, 1] - start[:, 1]
    slope = np.divide(across, down, out=np.zeros_like(across), where=down != 0)
    x = start[:, 0] + (y - start[:, 1]) * slope
    to_the_left = crossing[:, :, None] & (np.arange(width) >= x[:, :, None])  # [edges, H, W]
    inside: NDArray[np.bool_] = np.logical_xor.reduce(to_the_left, axis=0)
    return inside


def _background(width: int, height: int, rng: Generator) -> Floats:
    """A gradient of two muted colors under soft clouds, float64 [H, W, 3], RGB, 0 .. 255."""
    import cv2

    from_color, to_color = (_color(rng, ANY_HUE, (0.05, 0.45), (0.25, 0.95)) for _ in range(2))
    ramp = _ramp(width, height, rng)[:, :, None]
    clouds = np.zeros((height, width))
    for cells, strength in ((4, 14.0), (12, 7.0)):
        grid = rng.normal(0, strength, (cells, cells))
        clouds += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return from_color * (1 - ramp) + to_color * ramp + clouds[:, :, None]


def _ramp(width: int, height: int, rng: Generator) -> Floats:
    """A slope in a random direction from 0 to 1, float64 [H, W]."""
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[:height, :width]
    slope: Floats = x * math.cos(angle) + y * math.sin(angle)
    scaled: Floats = (slope - slope.min()) / np.ptp(slope)
    return scaled


def _hues(label: int) -> Interval:
    """The hues of a class: its share of the circle."""
    middle = label / len(CLASSES)
    reach = HUE_SPREAD / (2 * len(CLASSES))
    return middle - reach, middle + reach


def _color(rng: Generator, hue: Interval, saturation: Interval, value: Interval) -> Floats:
    """A color, float64 [3], RGB, 0 .. 255; hues are shares of the circle."""
    hsv = rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value)
    return 255 * np.array(colorsys.hsv_to_rgb(*hsv))


def _paint(canvas: Floats, contours: Contours, rng: Generator, hue: Interval) -> Floats:
    """`canvas` with a shaded shape on it and a soft shadow beside it, float64 [H, W, 3]."""
    import cv2

    height, width, _ = canvas.shape
    ink, shade = np.zeros((2, height, width), np.uint8)
    points = [np.rint(contour * (1 << SUBPIXEL_BITS)).astype(np.int32) for contour in contours]
    below = [contour + (2 << SUBPIXEL_BITS) for contour in points]
    cv2.fillPoly(ink, points, (255,), cv2.LINE_AA, SUBPIXEL_BITS)
    cv2.fillPoly(shade, below, (255,), cv2.LINE_AA, SUBPIXEL_BITS)
    shadow = cv2.GaussianBlur(shade, (0, 0), 2.0)[:, :, None] / 255
    cover = ink[:, :, None] / 255
    light = 1.1 - 0.4 * _ramp(width, height, rng)[:, :, None]
    color = _color(rng, hue, (0.55, 0.95), (0.5, 1.0)) * light
    painted: Floats = canvas * (1 - 0.45 * shadow) * (1 - cover) + color * cover
    return painted


def _annotate(image: Pixels, stencils: NDArray[np.bool_], labels: NDArray[np.int32]) -> Scene:
    """The scene of shapes that cover `stencils`, bool [n, H, W]; later ones lie on top."""
    numbers = np.arange(1, len(labels) + 1, dtype=np.uint8)[:, None, None]
    top = np.max(stencils * numbers, axis=0, initial=0)
    pixels = (top == numbers).sum(axis=(1, 2))
    seen = pixels > 0
    renumbered = np.concatenate([[0], np.cumsum(seen)]).astype(np.uint8)
    visibility = pixels[seen] / stencils.sum(axis=(1, 2))[seen]
    return Scene(
        image=image,
        instances=renumbered[top],
        boxes=_extents((top == numbers)[seen]),
        labels=labels[seen],
        difficult=(visibility < DIFFICULT_VISIBILITY) | (pixels[seen] < DIFFICULT_PIXELS),
    )


def _extents(visible: NDArray[np.bool_]) -> Floats:
    """The boxes, xyxy, 1-based inclusive, float64 [n, 4], around the pixels of [n, H, W]."""
    height, width = visible.shape[1:]
    columns = np.logical_or.reduce(visible, axis=1)
    rows = np.logical_or.reduce(visible, axis=2)
    first = [columns.argmax(axis=1) + 1, rows.argmax(axis=1) + 1]
    last = [width - columns[:, ::-1].argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)]
    return np.stack([*first, *last], axis=1).astype(np.float64)


class _Candidates(NamedTuple):
    image: NDArray[np.int32]
    label: NDArray[np.int32]
    box: Floats
    logit: Floats


def _copies(
    truth: GroundTruth, rows: NDArray[np.int64], rng: Generator, *, blur: float
) -> _Candidates:
    """Jittered copies of objects, the worse and the less sure the greater `blur`."""
    label = truth.label[rows]
    jitter = blur * (JITTER + JITTER_STEP * label)
    shift = rng.normal(0, 1, (len(rows), 4)) * jitter[:, None]
    logit = 4 - blur - 20 * np.abs(shift).mean(axis=1) + rng.normal(0, 0.7, len(rows))
    other = (label + rng.integers(1, len(CLASSES), len(rows))) % len(CLASSES)
    mistaken = rng.random(len(rows)) < WRONG_CLASSES
    return _Candidates(
        image=truth.image[rows],
        label=np.where(mistaken, other, label).astype(np.int32),
        box=truth.box[rows] + shift * np.tile(truth.size[rows], 2),
        logit=logit - mistaken,
    )


def _false_positives(catalog: Catalog, rng: Generator) -> _Candidates:
    """Boxes of random place and size, of low score."""
    count = int(rng.poisson(FALSE_POSITIVES * len(catalog.images)))
    image = rng.integers(len(catalog.images), size=count).astype(np.int32)
    center = rng.uniform(0, 1, (count, 2)) * catalog.sizes[image]
    half = np.exp(rng.uniform(np.log(SMALLEST_RADIUS), np.log(LARGEST_RADIUS), (count, 2)))
    return _Candidates(
        image=image,
        label=rng.integers(len(CLASSES), size=count).astype(np.int32),
        box=np.concatenate([center - half, center + half], axis=1),
        logit=rng.normal(-0.5, 1.2, count),
    )


def _in_file_order(catalog: Catalog, parts: Sequence[_Candidates]) -> Detections:
    """The table: class by class, image by image, best score first; boxes within their images."""
    image = np.concatenate([part.image for part in parts])
    label = np.concatenate([part.label for part in parts])
    score = np.round(1 / (1 + np.exp(-np.concatenate([part.logit for part in parts]))), 6)
    box = np.concatenate([part.box for part in parts])
    limits = np.tile(catalog.sizes[image], 2).astype(np.float64)
    corners = np.sort(np.clip(box, 1, limits).reshape(-1, 2, 2), axis=1)
    box = np.rint(corners.reshape(-1, 4) / GRID) * GRID
    order = np.lexsort((-score, image, label))
    return Detections(
        image=image[order],
        label=label[order],
        box=box[order],
        size=inclusive_size(box[order]),
        score=score[order],
        row=np.arange(len(order)),
        catalog=catalog,
        pixels="inclusive",
    )


def _jpeg(image: Pixels) -> bytes:
    """The JPEG file of an image, uint8 [H, W, 3], RGB."""
    import cv2

    bgr = np.ascontiguousarray(image[:, :, ::-1])
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded
    return data.tobytes()


if __name__ == "__main__":
    sys.exit(main())
