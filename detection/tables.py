"""The tables of detection: ground truth and detections as frozen columns, one row a box."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from upmap.errors import InputError, abbreviate_list
from upmap.kernels.columns import LARGEST, exact_array

__all__ = [
    "Catalog",
    "Detections",
    "GroundTruth",
    "ImageId",
    "Pixels",
    "TablePixels",
    "align",
    "are_bounded",
    "base_name",
    "class_order",
    "concatenate_truths",
    "image_names",
    "images_by_name",
    "is_bounded",
    "row_subset",
    "sort_ids",
    "with_classes",
    "with_images",
]

ImageId = int | str
Pixels = Literal["inclusive", "continuous"]
TablePixels = Literal["inclusive", "continuous", "relative"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The images and classes that the rows of a table refer to.

    Attributes:
        images: The image ids, ascending: COCO's integers, VOC's names. Background images included.
        classes: The class names, each once.
        class_ids: The category id of each class; 1 .. K where the source has none.
        file_names: The image files' names; empty where the source has none.
        sizes: int64 [I, 2], width and height in px; 0 where the source does not say.
        has_class_ids: Whether class_ids are the source's own.
        has_numbers: Whether the classes are integer labels that nothing names.
        class_keys: The texts by which the source's files name the classes, where those are no
            numbers; else empty.
        has_indices: Whether class_ids are one more than the numbers by which the source's rows
            name the classes, which count from 0, as YOLO's do.
    """

    images: tuple[ImageId, ...]
    classes: tuple[str, ...]
    class_ids: tuple[int, ...] = ()
    file_names: tuple[str, ...] = ()
    sizes: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((0, 2), np.int64), compare=False
    )
    has_class_ids: bool = field(default=True, compare=False)
    has_numbers: bool = field(default=False, compare=False)
    class_keys: tuple[str, ...] = field(default=(), compare=False)
    has_indices: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.class_ids:
            object.__setattr__(self, "class_ids", tuple(range(1, len(self.classes) + 1)))
            object.__setattr__(self, "has_class_ids", False)
        if len(self.class_ids) != len(self.classes):
            raise ValueError("class_ids must be as many as classes")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        if list(self.images) != sort_ids(set(self.images)):
            raise ValueError("images must be ascending and differ from each other")
        if len(self.sizes) not in (0, len(self.images)):
            raise ValueError("sizes must be as many as images")


def sort_ids(images: Iterable[ImageId]) -> list[ImageId]:
    """The image ids in order.

    Raises:
        InputError: If some are strings and others are numbers.
    """
    try:
        return sorted(images)
    except TypeError:
        raise InputError("image ids must be all integers or all strings") from None


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """The class names in order; if all are numbers, in the order of numbers.

    >>> class_order({"10", "9"}), class_order({"b", "10", "9"})
    (('9', '10'), ('10', '9', 'b'))
    """
    names = sorted(names)
    are_numbers = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=int) if are_numbers else names)


def image_names(catalog: Catalog) -> list[str]:
    """A name for each image: its file's without folder and ending; its id where it has no file.

    >>> image_names(Catalog((7, 8), (), file_names=("train/a.b.jpg", "c.png")))
    ['a.b', 'c']
    """
    if not catalog.file_names:
        return [str(image) for image in catalog.images]
    return [_stem(name) for name in catalog.file_names]


def base_name(name: str) -> str:
    r"""The name of a file without its folders, of which data sets have many: quicker than pathlib.

    >>> base_name("train/a.jpg"), base_name("train\\a.jpg"), base_name("a/")
    ('a.jpg', 'a.jpg', 'a')
    """
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _stem(name: str) -> str:
    base = base_name(name)
    stem, _, ending = base.rpartition(".")
    return stem if stem and ending else base


def images_by_name(catalog: Catalog) -> dict[str, int]:
    """Index into catalog.images by id and, where no two images share it, by `image_names`."""
    names = image_names(catalog)
    shared = {name for name, times in Counter(names).items() if times > 1}
    by_file = {name: i for i, name in enumerate(names) if name not in shared}
    return by_file | {str(image): i for i, image in enumerate(catalog.images)}


def is_bounded(values: ArrayLike) -> NDArray[np.bool_]:
    """Where coordinates and sides are finite, and so small that areas will be finite too.

    >>> is_bounded([7.0, np.nan, -np.inf, 1e200]).tolist()
    [True, False, False, False]
    """
    within: NDArray[np.bool_] = np.abs(np.asarray(values, np.float64)) <= LARGEST
    return within


def are_bounded(values: NDArray[np.float64], bound: float = LARGEST) -> bool:
    """Whether all are finite and none is larger than `bound`, which is at least 1.

    The sum of squares tells it in one pass over memory, of all but absurd values.

    >>> are_bounded(np.array([7.0, -8.0])), are_bounded(np.array([np.nan]))
    (True, False)
    """
    flat = np.asarray(values).reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        is_small = np.einsum("i,i->", flat, flat) <= bound
    return bool(is_small) or bool((np.abs(flat) <= bound).all())


def _column(name: str, values: ArrayLike, dtype: Any, width: int | None = None) -> NDArray[Any]:
    """The values as a column [N], or [N, width]; empty ones may have any shape."""
    column = exact_array(name, values, dtype)
    shape = (-1,) if width is None else (-1, width)
    if column.size == 0 and (column.ndim == 1 or len(column) == 0):
        column = column.reshape((0, *shape[1:]))
    if column.ndim != len(shape) or column.shape[1:] != shape[1:]:
        expected = "[N]" if width is None else f"[N, {width}]"
        raise ValueError(f"{name} must be {expected}, not {list(column.shape)}")
    column.flags.writeable = False
    return column


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """What both tables have: boxes, and the images and classes that they lie in.

    Attributes:
        image: int32 [N], index into catalog.images.
        label: int32 [N], index into catalog.classes.
        box: float64 [N, 4], xyxy px, corners in the convention `pixels`.
        size: float64 [N, 2], width and height, px, as the source gives them: (x + w) - x would
            lose the last bit, which the official tools keep.
        catalog: The images and classes.
        pixels: "inclusive" (VOC: corners are pixels, from 1, both within the box) or "continuous"
            (COCO: corners are edges, from 0), or "relative": continuous, in units of the image's
            sides, for images of unknown size. An IoU is the same in those; an area is not known.
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
    pixels: TablePixels

    def __post_init__(self) -> None:
        for name, (dtype, width) in self.COLUMNS.items():
            column = _column(name, getattr(self, name), dtype, width)
            object.__setattr__(self, name, column)
            if len(column) != len(self.image):
                raise ValueError(f"{name} must have as many rows as image, {len(self.image)}")
            if column.dtype.kind != "f" or are_bounded(column):
                continue
            if not np.isfinite(column).all():
                raise InputError(f"{name} must be finite")
        if self.pixels not in get_args(TablePixels):
            names = ", ".join(map(repr, get_args(TablePixels)))
            raise ValueError(f"pixels must be one of {names}, not {self.pixels!r}")
        for name, among in (("image", self.catalog.images), ("label", self.catalog.classes)):
            index = getattr(self, name)
            if len(index) and not 0 <= index.min() <= index.max() < len(among):
                raise ValueError(f"{name} must lie in 0 .. {len(among) - 1}")

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroundTruth(Table):
    """Annotated boxes: the columns of every table, and these.

    Attributes:
        area: float64 [N], px^2, what area ranges read: COCO's annotated area, else width x height.
        difficult: bool [N], VOC's mark.
        crowd: bool [N], COCO's iscrowd.
        annotation_id: int64 [N], the source's id, or 1 .. N.
    """

    COLUMNS: ClassVar[dict[str, tuple[Any, int | None]]] = Table.COLUMNS | {
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
class Detections(Table):
    """Detected boxes: the columns of every table, and these.

    Attributes:
        score: float64 [N].
        row: int64 [N], the place in the source; where a protocol goes by file order, it decides
            between equal scores.
        area: float64 [N], px^2, what area ranges read: that of the mask, where results have one;
            None where it is width x height.
        rows_by_image: Whether `row` ascends with `image`, as in tables from memory. Then (image,
            row) orders as `row` does, also over tables whose rows were numbered apart.
    """

    COLUMNS: ClassVar[dict[str, tuple[Any, int | None]]] = Table.COLUMNS | {
        "score": (np.float64, None),
        "row": (np.int64, None),
    }

    score: NDArray[np.float64]
    row: NDArray[np.int64]
    area: NDArray[np.float64] | None = None
    rows_by_image: bool = False

    def __post_init__(self) -> None:
        Table.__post_init__(self)
        if self.area is not None:
            object.__setattr__(self, "area", _column("area", self.area, np.float64))
            if len(self.area) != len(self):
                raise ValueError(f"area must have as many rows as image, {len(self)}")


TableT = TypeVar("TableT", GroundTruth, Detections)


def row_subset(table: TableT, keep: NDArray[np.bool_]) -> TableT:
    """The rows of `table` where `keep`, bool [N], is true; the catalog stays whole."""
    columns = {name: getattr(table, name)[keep] for name in table.COLUMNS}
    if table.area is not None:
        columns["area"] = table.area[keep]
    return replace(table, **columns)


def concatenate_truths(first: GroundTruth, second: GroundTruth) -> GroundTruth:
    """The rows of both, by image, then as they stand; both under one catalog; ids are 1 .. M."""
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in first.COLUMNS
    }
    order = np.argsort(columns["image"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    return replace(first, **columns | {"annotation_id": np.arange(1, len(order) + 1)})


def with_classes(table: TableT, classes: tuple[str, ...]) -> TableT:
    """`table` under another list of classes; rows of classes that are not in it are left out.

    Class ids are kept where the source had the class, and are otherwise the next free ones.
    """
    catalog = table.catalog
    if classes == catalog.classes:
        return table
    known = dict(zip(catalog.classes, catalog.class_ids, strict=True))
    spare = count(max(known.values(), default=0) + 1)
    ids = tuple(known[name] if name in known else next(spare) for name in classes)
    return _reindex(table, replace(catalog, classes=classes, class_ids=ids, class_keys=()), "label")


def with_images(table: TableT, images: tuple[ImageId, ...]) -> TableT:
    """`table` under another list of images; rows of images that are not in it are left out.

    Args:
        table: The table.
        images: Ids, each once; file names and sizes are kept for those that the table knows.
    """
    catalog = table.catalog
    images = tuple(sort_ids(images))
    if images == catalog.images:
        return table
    place_of = {image: i for i, image in enumerate(catalog.images)}
    places = [place_of.get(image, -1) for image in images]
    all_known = all(i >= 0 for i in places)
    names = tuple(catalog.file_names[i] for i in places) if all_known and catalog.file_names else ()
    sizes = np.zeros((0, 2), np.int64)
    if all_known and len(catalog.sizes):
        sizes = catalog.sizes[places]
    return _reindex(table, replace(catalog, images=images, file_names=names, sizes=sizes), "image")


def _reindex(table: TableT, catalog: Catalog, column: Literal["image", "label"]) -> TableT:
    """`table` under `catalog`, which differs in the values that `column` points at."""
    before, after = (
        (table.catalog.images, catalog.images)
        if column == "image"
        else (table.catalog.classes, catalog.classes)
    )
    place_of = {value: i for i, value in enumerate(after)}
    places = np.array([place_of.get(value, -1) for value in before], np.int64)
    index = places[getattr(table, column)] if len(table) else np.zeros(0, np.int64)
    rows = row_subset(table, index >= 0)
    changes: dict[str, Any] = {"catalog": catalog, column: index[index >= 0]}
    return replace(rows, **changes)


def align(ground_truth: GroundTruth, detections: Detections) -> tuple[GroundTruth, Detections]:
    """Both tables under one catalog: the ground truth's images, the classes of both.

    Raises:
        InputError: If detections lie on images that the ground truth does not have, or the labels
            of one are integers and those of the other are names.
    """
    truth, detected = ground_truth.catalog, detections.catalog
    _validate_label_types(truth, detected)
    if truth is detected or truth == detected:
        return ground_truth, detections
    known = set(truth.images)
    used = [detected.images[i] for i in np.unique(detections.image).tolist()]
    if unknown := [image for image in used if image not in known]:
        names = abbreviate_list([repr(image) for image in unknown])
        raise InputError(f"detections on {len(unknown)} unknown images: {names}")
    classes = _all_classes(truth.classes, detected.classes)
    ground_truth = with_classes(ground_truth, classes)
    detections = with_classes(with_images(detections, truth.images), classes)
    if detected.has_numbers and not truth.has_numbers:  # all classes come from the detections
        catalog = replace(ground_truth.catalog, has_numbers=True)
        ground_truth = replace(ground_truth, catalog=catalog)
    return ground_truth, replace(detections, catalog=ground_truth.catalog)


def _validate_label_types(truth: Catalog, detected: Catalog) -> None:
    """Refuses integers that nothing names on one side and class names on the other."""
    if truth.has_numbers == detected.has_numbers or not (truth.classes and detected.classes):
        return
    types = [
        f"{'integers' if catalog.has_numbers else 'class names'} ({_examples(catalog)})"
        for catalog in (truth, detected)
    ]
    raise InputError(
        f"the ground truth's labels are {types[0]} but the detections' are {types[1]}; classes= "
        "says which name an integer has"
    )


def _examples(catalog: Catalog) -> str:
    names = [name if catalog.has_numbers else repr(name[:60]) for name in catalog.classes]
    return abbreviate_list(names, 3)


def _all_classes(classes: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """`classes` and those of `others` that are not among them: in order if they were, else last."""
    extra = set(others) - set(classes)
    for order in (class_order, sorted):
        if tuple(order(classes)) == classes:
            return tuple(order([*classes, *extra]))
    return (*classes, *sorted(extra))
