"""COCO's files of instances: polygons and run-length codes of objects, one label for each image."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from upmap.conversion import decode_json
from upmap.errors import InputError, abbreviate_list
from upmap.files import is_file, read_text
from upmap.metrics.semantic import IGNORED
from upmap.segmentation.polygon_masks import decode_runs, draw_polygon
from upmap.segmentation.sources.samples import (
    Mask,
    Pixels,
    Sample,
    Settings,
    Source,
    add_background,
    draw_splits,
    guess_split,
    paint_masks,
)

__all__ = ["fits_coco", "read_coco"]

PATTERNS = (  # of files of instances in the archives of COCO and of Roboflow
    "annotations/instances_*.json",
    "*/_annotations.coco.json",
    "_annotations.coco.json",
)


@dataclass(frozen=True, slots=True)
class _Image:
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class _Category:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class _Runs:
    counts: str | list[int]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: int | str
    category_id: int
    segmentation: list[list[float]] | _Runs | None = None
    iscrowd: int = 0
    id: int | str | None = None


@dataclass(frozen=True, slots=True)
class _Instances:
    """The content of a file of instances."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def fits_coco(path: Path) -> bool:
    """Whether a source is a JSON file, or a folder with files of instances."""
    return path.suffix.lower() == ".json" if is_file(path) else bool(_find_files(path))


def read_coco(path: Path, settings: Settings) -> Source:
    """Reads files of instances.

    Objects of crowds are void, and pixels without an object are background.

    Args:
        path: A JSON file, or a folder that has such files as COCO's and Roboflow's archives do.
        settings: The folder of the images, else looked for beside the files; and the seed of
            splits, where there is one file whose name says none.

    Raises:
        InputError: If a file is malformed, files disagree on classes, or an image is not there.
    """
    files = [path] if is_file(path) else _find_files(path)
    contents = [decode_json(read_text(file), _Instances, file) for file in files]
    names = [_list_categories(content, file) for content, file in zip(contents, files, strict=True)]
    if any(other != names[0] for other in names):
        raise InputError(f"its categories are others than those of {files[0].name}", files[1])
    classes, numbers = add_background(list(names[0].values()), files[0])
    by_id = dict(zip(names[0], numbers, strict=True))
    samples = [
        _list_samples(content, file, by_id, settings.images)
        for content, file in zip(contents, files, strict=True)
    ]
    splits = [guess_split(f"{file.parent.name} {file.stem}") for file in files]
    if len(files) == 1 and (splits[0] is None or is_file(path)):
        splits = [guess_split(files[0].stem)]
    if splits == [None]:
        return Source(classes, draw_splits(samples[0], settings.seed, files[0]))
    if None in splits or len({*splits}) < len(splits):
        listing = abbreviate_list([file.name for file in files], 4)
        raise InputError(f"names do not tell the split of each of {listing}; name one file", path)
    return Source(classes, {str(s): part for s, part in zip(splits, samples, strict=True)})


def _find_files(folder: Path) -> list[Path]:
    """The files of instances of a folder: instances_*.json, those of Roboflow, or any JSON."""
    for pattern in PATTERNS:
        if files := sorted(folder.glob(pattern)):
            return files
    # Other tools write JSON, too: a file for each image, or classes.json.
    return [file for file in sorted(folder.glob("*.json")) if '"categories"' in read_text(file)]


def _list_categories(content: _Instances, file: Path) -> dict[int, str]:
    """The name of each category, by id, in order of the ids."""
    categories = {category.id: category.name for category in content.categories}
    if len(categories) < len(content.categories):
        raise InputError("two categories have one id", file, "categories")
    return dict(sorted(categories.items()))


def _list_samples(
    content: _Instances, file: Path, classes: dict[int, int], images: Path | None
) -> list[Sample]:
    annotations: defaultdict[int | str, list[_Annotation]] = defaultdict(list)
    for i, annotation in enumerate(content.annotations):
        place = f"annotations[{i}]"
        if annotation.category_id not in classes:
            message = f"there is no category {annotation.category_id}"
            raise InputError(message, file, f"{place}.category_id")
        if not annotation.segmentation:
            message = "a box without a mask; only masks say which pixels are of an object"
            raise InputError(message, file, f"{place}.segmentation")
        annotations[annotation.image_id].append(annotation)
    if unknown := annotations.keys() - {image.id for image in content.images}:
        raise InputError(f"there is no image {min(map(str, unknown))}", file, "annotations")
    places = _list_places(file, images)
    return [
        Sample(
            PurePosixPath(image.file_name).with_suffix("").as_posix(),
            _find_image(image.file_name, places, file),
            partial(_paint, image, annotations[image.id], classes, file),
        )
        for image in content.images
    ]


def _list_places(file: Path, images: Path | None) -> list[Path]:
    """The folders in which images of a file may lie."""
    if images is not None:
        return [images]
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    name = file.stem.removeprefix("instances_")
    return [file.parent, root, root / "images", root / name, root / "images" / name]


def _find_image(name: str, places: Sequence[Path], file: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InputError(f"{name!r} is no path within a folder", file, "images.file_name")
    for place in places:
        if is_file(place / name):
            return place / name
    folders = abbreviate_list([str(place) for place in dict.fromkeys(places)], 5)
    raise InputError(f"no image {name!r} in {folders}; name the folder by --images", file)


def _paint(
    image: _Image,
    annotations: Sequence[_Annotation],
    classes: dict[int, int],
    file: Path,
    size: tuple[int, int],
) -> Pixels:
    """The label of an image of `size`, height and width."""
    stated = (image.height, image.width)
    if None not in stated and stated != size:
        message = f"{image.file_name} has {size[1]} x {size[0]} px, not {image.width} x "
        raise InputError(f"{message}{image.height} as this file says", file, "images")
    masks = []
    for annotation in annotations:
        label = IGNORED if annotation.iscrowd else classes[annotation.category_id]
        try:
            masks.append((label, _draw(annotation, size)))
        except ValueError as error:
            where = f"annotation {annotation.id} of {image.file_name}"
            raise InputError(str(error), file, where) from None
    return paint_masks(size, masks)


def _draw(annotation: _Annotation, size: tuple[int, int]) -> Mask:
    if isinstance(annotation.segmentation, _Runs):
        if annotation.segmentation.size != size:
            raise ValueError(f"its mask is of {annotation.segmentation.size}, not {size}")
        return decode_runs(annotation.segmentation.counts, size)
    polygons = [draw_polygon(points, size) for points in annotation.segmentation or ()]
    mask: Mask = np.logical_or.reduce(polygons)
    return mask
