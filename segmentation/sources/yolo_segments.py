"""YOLO's segment files: a line `class x y x y ...` for each object, in shares of the image."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from upmap.detection.formats.yolo_dataset import (
    SPLITS,
    LabeledImages,
    find_description,
    find_labeled_images,
    list_splits,
)
from upmap.detection.inputs import open_input
from upmap.errors import InputError
from upmap.files import read_text
from upmap.segmentation.polygon_masks import draw_polygon
from upmap.segmentation.sources.samples import (
    Pixels,
    Sample,
    Settings,
    Source,
    add_background,
    draw_splits,
    paint_masks,
)

__all__ = ["fits_yolo", "read_yolo"]

YAML_ENDINGS = (".yaml", ".yml", ".data")
BOX_VALUES = 4


def fits_yolo(path: Path) -> bool:
    """Whether a source is a data.yaml or obj.data, or a folder with one."""
    if path.is_dir():
        return find_description(open_input(path)) is not None
    return path.suffix.lower() in YAML_ENDINGS


def read_yolo(path: Path, settings: Settings) -> Source:
    """Reads a data set in one of YOLO's layouts; an image without a file of labels is background.

    Args:
        path: A data.yaml, a folder with one, or a folder of `images` and `labels`.
        settings: The seed of splits, where there are none.

    Raises:
        InputError: If no file names the classes, or an image is not there.
    """
    if settings.images is not None:
        raise InputError("--images has no effect on YOLO's layout, which says where images are")
    splits = _find_splits(path)
    names = next((files.class_names for files in splits.values() if files.class_names), None)
    if names is None:
        raise InputError("no file names the classes: data.yaml, obj.names or classes.txt", path)
    classes, numbers = add_background(list(names.values()), path)
    by_number = dict(zip(names, numbers, strict=True))
    samples = {name: _list_samples(files, by_number, path) for name, files in splits.items()}
    if "" in samples:
        return Source(classes, draw_splits(samples[""], settings.seed, path))
    return Source(classes, samples)


def _find_splits(path: Path) -> dict[str, LabeledImages]:
    """The images of each split; of all, under "", where there are none."""
    source = open_input(path)
    if described := list_splits(source):
        return {name: find_labeled_images(source, name) for name in described}
    splits = {}
    for name in SPLITS:
        try:
            splits[name] = find_labeled_images(source, name)
        except InputError:  # a folder need not have every split
            continue
    return splits or {"": find_labeled_images(source, None)}


def _list_samples(files: LabeledImages, classes: dict[int, int], path: Path) -> list[Sample]:
    samples = []
    for name, image, label in zip(files.names, files.images, files.labels, strict=True):
        if image is None:
            raise InputError(f"there is no image for the labels {label}", path)
        label_path = None if label is None else Path(label)
        samples.append(Sample(name, Path(image), partial(_paint, label_path, classes)))
    return samples


def _paint(path: Path | None, classes: dict[int, int], size: tuple[int, int]) -> Pixels:
    """The label of an image of `size`, height and width."""
    masks = []
    lines = [] if path is None else read_text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label, points = _parse_line(line.split(), classes)
            sides = (size[1], size[0])
            pixels = [value * sides[i % 2] for i, value in enumerate(points)]
            masks.append((label, draw_polygon(pixels, size)))
        except ValueError as error:
            raise InputError(str(error), path, str(number)) from None
    return paint_masks(size, masks)


def _parse_line(words: Sequence[str], classes: dict[int, int]) -> tuple[int, list[float]]:
    """The class of an object and the points of its polygon.

    Raises:
        ValueError: If it is something else.
    """
    if not words[0].isdecimal() or int(words[0][:9]) not in classes:
        raise ValueError(f"there is no class {words[0][:20]!r}")
    if len(words) - 1 == BOX_VALUES:
        raise ValueError("a box, not a polygon; only polygons say which pixels are of an object")
    try:
        return classes[int(words[0][:9])], [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError("expected a class and the x and y of points") from None
