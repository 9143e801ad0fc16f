"""The tables of detection: ground truth and detections as frozen columns, one row a box."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.errors import InputError, listed

__all__ = [
    "Catalog",
    "Detections",
    "GroundTruth",
    "ImageId",
    "Pixels",
    "aligned",
    "row_subset",
    "with_classes",
    "with_images",
]

ImageId = int | str
Pixels = Literal["inclusive", "continuous"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The images and classes that the rows of a table refer to.

    Attributes:
        images: The image ids, ascending: COCO's integers, VOC's names. Background images included.
        classes: The class names, each once.
        class_ids: The category id of each class; 1 .. K where the source has none.
        file_names: The image files' names; empty where the source has none.
        sizes: int64 [I, 2], width and height in px; 0 where the source does not say.
    """

    images: tuple[ImageId, ...]
    classes: tuple[str, ...]
    class_ids: tuple[int, ...] = ()
    file_names: tuple[str, ...] = ()
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    def __post_init__(self) -> None:
        if not self.class_ids:
            object.__setattr__(self, "class_ids", tuple(range(1, len(self.classes) + 1)))
        if len(self.class_ids) != len(self.classes):
            raise ValueError("class_ids must be as many as classes")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        if not all(a < b for a, b in zip(self.images, self.images[1:], strict=False)):  # type: ignore[operator]
            raise ValueError("images must be ascending and differ from each other")
        if len(self.sizes) not in (0, len(self.images)):
            raise ValueError("sizes must be as many as images")


def _column(values: ArrayLike, dtype: Any, width: int | None = None) -> NDArray[Any]:
    column = np.ascontiguousarray(values, dtype)
    if width is not None:
        column = column.reshape(-1, width)
    column.flags.writeable = False
    return column


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Table:
    """What both tables have: boxes, and the images and classes that they lie in.

    Attributes:
        image: int32 [N], index into catalog.images.
        label: int32 [N], index into catalog.classes.
        box: float64 [N, 4], xyxy px, corners in the convention `pixels`.
        size: float64 [N, 2], width and height, px, as the source gives them: (x + w) - x would
            lose the last bit, which the official tools keep.
        catalog: The images and classes.
        pixels: "inclusive" (VOC: corners are pixels, from 1, both within the box) or "continuous"
            (COCO: corners are edges, from 0).
    """

    COLUMNS: ClassVar[dict[str, tuple[Any, int | None]]] = {
        "image": (np.int32, None),
        "label": (np.int32, None),
        "box": (np.float64, 4),
        "size": (np.float64, 2),
    }

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    box: NDArray[np.float64]
    size: NDArray[np.float64]
    catalog: Catalog
    pixels: Pixels

    def __post_init__(self) -> None:
        for name, (dtype, width) in self.COLUMNS.items():
            object.__setattr__(self, name, _column(getattr(self, name), dtype, width))
            if len(getattr(self, name)) != len(self.image):
                raise ValueError(f"{name} must have as many rows as image, {len(self.image)}")
        if self.pixels not in ("inclusive", "continuous"):
            raise ValueError(f"pixels must be 'inclusive' or 'continuous', not {self.pixels!r}")
        for name, count in (("image", self.catalog.images), ("label", self.catalog.classes)):
            index = getattr(self, name)
            if len(index) and not 0 <= index.min() <= index.max() < len(count):
                raise ValueError(f"{name} must lie in 0 .. {len(count) - 1}")
        if not (np.isfinite(self.box).all() and np.isfinite(self.size).all()):
            raise InputError("boxes must be finite")

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroundTruth(_Table):
    """Annotated boxes: the columns of every table, and these.

    Attributes:
        area: float64 [N], px^2, what area ranges read: COCO's annotated area, else width x height.
        difficult: bool [N], VOC's mark.
        crowd: bool [N], COCO's iscrowd.
        annotation_id: int64 [N], the source's id, or 1 .. N.
    """

    COLUMNS: ClassVar[dict[str, tuple[Any, int | None]]] = _Table.COLUMNS | {
        "area": (np.float64, None),
        "difficult": (np.bool_, None),
        "crowd": (np.bool_, None),
        "annotation_id": (np.int64, None),
    }

    area: NDArray[np.float64]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    annotation_id: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Detections(_Table):
    """Detected boxes: the columns of every table, and these.

    Attributes:
        score: float64 [N].
        row: int64 [N], the place in the source; where a protocol goes by file order, it decides
            between equal scores.
    """

    COLUMNS: ClassVar[dict[str, tuple[Any, int | None]]] = _Table.COLUMNS | {
        "score": (np.float64, None),
        "row": (np.int64, None),
    }

    score: NDArray[np.float64]
    row: NDArray[np.int64]


Table = TypeVar("Table", GroundTruth, Detections)


def row_subset(table: Table, keep: NDArray[np.bool_]) -> Table:
    """The rows of `table` where `keep`, bool [N], is true; the catalog stays whole."""
    return replace(table, **{name: getattr(table, name)[keep] for name in table.COLUMNS})


def with_classes(table: Table, classes: tuple[str, ...]) -> Table:
    """`table` under another list of classes; rows of classes that are not in it are left out.

    Class ids are kept where the source had the class, and are otherwise the next free ones.
    """
    catalog = table.catalog
    if classes == catalog.classes:
        return table
    known = dict(zip(catalog.classes, catalog.class_ids, strict=True))
    spare = iter(range(max(known.values(), default=0) + 1, max(known.values(), default=0) + 1 + len(classes)))
    ids = tuple(known[name] if name in known else next(spare) for name in classes)
    return _reindexed(table, replace(catalog, classes=classes, class_ids=ids), "label")


def with_images(table: Table, images: tuple[ImageId, ...]) -> Table:
    """`table` under another list of images; rows of images that are not in it are left out.

    Args:
        table: The table.
        images: Ids, each once; file names and sizes are kept for those that the table knows.
    """
    catalog = table.catalog
    images = tuple(sorted(images))  # type: ignore[type-var]
    if images == catalog.images:
        return table
    place = {image: i for i, image in enumerate(catalog.images)}
    kept = [place.get(image, -1) for image in images]
    known = all(i >= 0 for i in kept)
    names = tuple(catalog.file_names[i] for i in kept) if known and catalog.file_names else ()
    sizes = catalog.sizes[kept] if known and len(catalog.sizes) else np.zeros((0, 2), np.int64)
    return _reindexed(
        table, replace(catalog, images=images, file_names=names, sizes=sizes), "image"
    )


def _reindexed(table: Table, catalog: Catalog, column: Literal["image", "label"]) -> Table:
    before, after = (
        (table.catalog.images, catalog.images)
        if column == "image"
        else (table.catalog.classes, catalog.classes)
    )
    place = {value: i for i, value in enumerate(after)}
    moved = np.array([place.get(value, -1) for value in before], np.int64)
    index = moved[getattr(table, column)] if len(table) else np.zeros(0, np.int64)
    kept = row_subset(table, index >= 0)
    return replace(kept, catalog=catalog, **{column: index[index >= 0]})


def aligned(
    ground_truth: GroundTruth, detections: Detections
) -> tuple[GroundTruth, Detections]:
    """Both tables under one catalog: the ground truth's images, the classes of both.

    Raises:
        InputError: If detections lie on images that the ground truth does not have.
    """
    truth, found = ground_truth.catalog, detections.catalog
    if truth is found or truth == found:
        return ground_truth, detections
    unknown = set(np.unique(detections.image).tolist()) - {
        i for i, image in enumerate(found.images) if image in set(truth.images)
    }
    if unknown:
        names = sorted(str(found.images[i]) for i in unknown)
        raise InputError(f"detections on {len(names)} unknown images: {listed(names)}")
    classes = truth.classes
    if extra := sorted(set(found.classes) - set(classes)):
        sort = list(classes) == sorted(classes)
        classes = tuple(sorted([*classes, *extra]) if sort else [*classes, *extra])
    ground_truth = with_classes(ground_truth, classes)
    detections = with_classes(with_images(detections, truth.images), classes)
    return ground_truth, replace(detections, catalog=ground_truth.catalog)
