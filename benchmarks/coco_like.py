"""A data set of the size and shape of COCO val2017, made from a seed: `instances` and results JSON.

Run as `python -m benchmarks.coco_like OUT --detections 43000`. The distributions (classes by
Zipf's law, log-normal sizes, half of an image's objects of one class) are fitted by eye to the
figures of Lin et al., "Microsoft COCO" (2014); the files are laid out as cocodataset.org says.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["Size", "main", "write"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Record = dict[str, Any]

IMAGE_SIZES = ((640, 480), (640, 427), (480, 640), (427, 640), (500, 375))  # px, width and height
IMAGE_SIZE_SHARES = (0.45, 0.25, 0.15, 0.10, 0.05)
LARGEST_IMAGE_ID = 581_929  # COCO's
CROWD_SHARE = 0.012  # COCO val2017: 446 of 36,781
CROWD_SCALE = 3.0  # a crowd is larger than an object
DIAMETER = (3.9, 1.1)  # mean and deviation of ln px: a median of 49 px
DIAMETER_LIMITS = (4.0, 400.0)  # px
VERTICES = (3.05, 0.6)  # mean and deviation of the ln of a polygon's corners
VERTEX_LIMITS = (4, 200)
FOUND_SHARE = 0.7  # of the detections stem from an object, the others from nothing
RIGHT_CLASS_SHARE = 0.85
JITTER = 0.13  # of the box sides, per coordinate
SCORE_DECIMALS = 3  # as results files often have: equal scores abound
EDGE = 0.01  # px, by which boxes stay inside, so that x + w cannot round to beyond the image


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a data set is; the defaults are COCO val2017's.

    Attributes:
        images: I, the number of images.
        classes: K, the number of classes.
        ground_truths: M, the number of annotations.
        detections: N, the number of results.
        polygons: Whether annotations have a segmentation (Objects365 has none).
    """

    images: int = 5_000
    classes: int = 80
    ground_truths: int = 36_781
    detections: int = 43_000
    polygons: bool = True

    def __post_init__(self) -> None:
        for name in ("images", "classes", "ground_truths", "detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, eq=False)
class _Scenes:
    """The images, and what is common in them.

    Attributes:
        image_id: int64 [I], in no order.
        sides: float64 [I, 2], width and height, px.
        crowdedness: float64 [I], the share of all objects that an image has.
        main_class: int64 [I], the class of half of its objects.
        class_id: int64 [K], ascending, with gaps.
        frequency: float64 [K].
    """

    image_id: Integers
    sides: Floats
    crowdedness: Floats
    main_class: Integers
    class_id: Integers
    frequency: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """The ground truth.

    Attributes:
        image: int64 [M].
        label: int64 [M].
        bbox: float64 [M, 4], x, y, width, height, px.
        area: float64 [M], px^2, of the segmentation.
        crowd: bool [M].
        vertex: float64 [V, 2], px, the corners of all polygons.
        start: int64 [M + 1], where each polygon begins.
    """

    image: Integers
    label: Integers
    bbox: Floats
    area: Floats
    crowd: NDArray[np.bool_]
    vertex: Floats
    start: Integers


def write(folder: Path, size: Size, *, seed: int = 2017) -> tuple[Path, Path]:
    """Writes instances.json and detections.json; the former does not depend on the latter's size.

    Args:
        folder: Where to; made if it is not there.
        size: How large.
        seed: The same seed and size give the same bytes (under one version of numpy).

    Returns:
        The paths of the two files.
    """
    truth_generator, found_generator = np.random.default_rng(seed).spawn(2)
    scenes = _scenes(size, truth_generator)
    objects = _objects(scenes, size.ground_truths, truth_generator)
    folder.mkdir(parents=True, exist_ok=True)
    instances, detections = folder / "instances.json", folder / "detections.json"
    instances.write_text(json.dumps(_instances(scenes, objects, polygons=size.polygons)))
    results = _results(scenes, objects, size.detections, found_generator)
    detections.write_text(json.dumps(results))
    return instances, detections


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a data set as the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks.coco_like", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for instances.json and detections.json")
    for name in ("images", "classes", "ground_truths", "detections"):
        flag = f"--{name.replace('_', '-')}"
        default = getattr(Size(), name)
        parser.add_argument(flag, type=int, default=default, metavar="N", help=f"[{default}]")
    parser.add_argument("--no-polygons", dest="polygons", action="store_false")
    parser.add_argument("--seed", type=int, default=2017)
    options = vars(parser.parse_args(arguments))
    folder, seed = options.pop("out"), options.pop("seed")
    try:
        size = Size(**options)
    except ValueError as error:
        parser.error(str(error))
    for path in write(folder, size, seed=seed):
        print(f"{path} {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _scenes(size: Size, generator: Generator) -> _Scenes:
    images, classes = size.images, size.classes
    frequency = np.arange(1.0, classes + 1) ** -0.9
    frequency /= frequency.sum()
    crowdedness = generator.gamma(1.2, size=images)
    kind = generator.choice(len(IMAGE_SIZES), images, p=IMAGE_SIZE_SHARES)
    ids = max(LARGEST_IMAGE_ID, 2 * images)
    return _Scenes(
        image_id=1 + generator.choice(ids, images, replace=False),
        sides=np.array(IMAGE_SIZES, np.float64)[kind],
        crowdedness=crowdedness / crowdedness.sum(),
        main_class=generator.choice(classes, images, p=frequency),
        class_id=1 + np.sort(generator.choice(classes * 9 // 8, classes, replace=False)),
        frequency=frequency,
    )


def _objects(scenes: _Scenes, count: int, generator: Generator) -> _Objects:
    image = generator.choice(len(scenes.image_id), count, p=scenes.crowdedness)
    other = generator.choice(len(scenes.class_id), count, p=scenes.frequency)
    label = np.where(generator.random(count) < 0.5, scenes.main_class[image], other)
    crowd = generator.random(count) < CROWD_SHARE
    frame = scenes.sides[image] - EDGE
    frame_box = _random_boxes(frame, np.where(crowd, CROWD_SCALE, 1.0), generator)
    vertex, start = _polygons(frame_box, generator)
    low = np.minimum.reduceat(vertex, start[:-1])
    high = np.maximum.reduceat(vertex, start[:-1])
    low[crowd] = np.floor(frame_box[crowd, :2])
    high[crowd] = low[crowd] + np.floor(frame_box[crowd, 2:])  # whole pixels, as a mask has
    sides = (high - low).round(2)
    return _Objects(
        image=image,
        label=label,
        bbox=np.concatenate([low, sides], axis=1),
        area=np.where(crowd, sides.prod(axis=1), _polygon_areas(vertex, start)),
        crowd=crowd,
        vertex=vertex,
        start=start,
    )


def _random_boxes(frame: Floats, scale: Floats, generator: Generator) -> Floats:
    """Boxes x, y, width, height inside of `frame`, float64 [N, 2], px."""
    count = len(frame)
    diameter = scale * np.exp(generator.normal(*DIAMETER, count)).clip(*DIAMETER_LIMITS)
    aspect = np.exp(generator.normal(0, 0.2, count))
    sides = np.minimum(np.stack([diameter * aspect, diameter / aspect], axis=1), frame - 2)
    corner = generator.random((count, 2)) * (frame - sides)
    return np.concatenate([corner, sides], axis=1)


def _polygons(box: Floats, generator: Generator) -> tuple[Floats, Integers]:
    """A star-shaped polygon in each box: all corners, [V, 2], and where each polygon begins."""
    counts = np.exp(generator.normal(*VERTICES, len(box))).astype(np.int64).clip(*VERTEX_LIMITS)
    start = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(len(box)), counts)
    place = np.arange(start[-1]) - start[owner] + generator.uniform(-0.3, 0.3, start[-1])
    angle = 2 * np.pi * place / counts[owner]
    radius = generator.uniform(0.7, 1.0, start[-1])
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, np.newaxis]
    center, sides = box[owner, :2] + box[owner, 2:] / 2, box[owner, 2:]
    return (center + unit * sides / 2).round(2), start


def _polygon_areas(vertex: Floats, start: Integers) -> Floats:
    """The shoelace formula, float64 [M], px^2."""
    following = np.arange(1, len(vertex) + 1)
    following[start[1:] - 1] = start[:-1]
    (x, y), (next_x, next_y) = vertex.T, vertex[following].T
    area: Floats = np.abs(np.add.reduceat(x * next_y - next_x * y, start[:-1])) / 2
    return area


def _instances(scenes: _Scenes, objects: _Objects, *, polygons: bool) -> Record:
    images = [
        {"file_name": f"{i:012d}.jpg", "height": int(height), "width": int(width), "id": i}
        for i, (width, height) in zip(scenes.image_id.tolist(), scenes.sides, strict=True)
    ]
    annotations = [
        {"area": area, "iscrowd": crowd, "image_id": image, "bbox": bbox, "category_id": i, "id": n}
        for n, (area, crowd, image, bbox, i) in enumerate(
            zip(
                objects.area.tolist(),
                objects.crowd.astype(int).tolist(),
                scenes.image_id[objects.image].tolist(),
                objects.bbox.tolist(),
                scenes.class_id[objects.label].tolist(),
                strict=True,
            ),
            start=1,
        )
    ]
    if polygons:
        parts = zip(_segmentations(scenes, objects), annotations, strict=True)
        annotations = [{"segmentation": part, **annotation} for part, annotation in parts]
    return {
        "info": {"description": "COCO-like, random", "version": "1"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in scenes.class_id.tolist()],
    }


def _segmentations(scenes: _Scenes, objects: _Objects) -> list[Any]:
    """A polygon for each object, run lengths for a crowd."""
    flat = objects.vertex.ravel().tolist()
    start = (2 * objects.start).tolist()
    segments: list[Any] = [[flat[begin:end]] for begin, end in pairwise(start)]
    heights = scenes.sides[objects.image].astype(np.int64)
    for i in np.flatnonzero(objects.crowd):
        segments[i] = _box_mask(objects.bbox[i].astype(np.int64), heights[i])
    return segments


def _box_mask(bbox: Integers, sides: Integers) -> Record:
    """COCO's run lengths (down the columns, background first) of a box of whole pixels."""
    x, y, width, height = bbox.tolist()
    image_width, image_height = sides.tolist()
    runs = [height, image_height - height] * width
    runs[-1] = image_width * image_height - image_height * (x + width - 1) - y - height
    return {"counts": [x * image_height + y, *runs], "size": [image_height, image_width]}


def _results(scenes: _Scenes, objects: _Objects, count: int, generator: Generator) -> list[Record]:
    found = int(FOUND_SHARE * count)
    source = generator.integers(0, len(objects.image), found)
    nowhere = generator.integers(0, len(scenes.image_id), count - found)
    image = np.concatenate([objects.image[source], nowhere])
    box = np.concatenate(
        [
            _jittered(objects.bbox[source], generator),
            _random_boxes(scenes.sides[nowhere], np.ones(len(nowhere)), generator),
        ]
    )
    label = generator.choice(len(scenes.class_id), count, p=scenes.frequency)
    right = np.flatnonzero(generator.random(found) < RIGHT_CLASS_SHARE)
    label[right] = objects.label[source[right]]
    score = np.concatenate([generator.beta(3, 2, found), generator.beta(1, 5, count - found)])
    order = generator.permutation(count)
    columns = (
        scenes.image_id[image][order].tolist(),
        scenes.class_id[label][order].tolist(),
        _clipped(box, scenes.sides[image] - EDGE)[order].tolist(),
        score.round(SCORE_DECIMALS)[order].tolist(),
    )
    return [
        {"image_id": i, "category_id": k, "bbox": bbox, "score": s}
        for i, k, bbox, s in zip(*columns, strict=True)
    ]


def _jittered(bbox: Floats, generator: Generator) -> Floats:
    return bbox + generator.normal(0, JITTER, bbox.shape) * bbox[:, [2, 3, 2, 3]]


def _clipped(bbox: Floats, frame: Floats) -> Floats:
    """Boxes of two decimals, at least 1 px wide and high, that lie in their image."""
    low = bbox[:, :2].clip(0, frame - 1).round(2)
    high = np.clip(bbox[:, :2] + bbox[:, 2:], low + 1, frame).round(2)
    return np.concatenate([low, (high - low).round(2)], axis=1)


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
