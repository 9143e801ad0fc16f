"""The match table: all that the numbers of an evaluation are computed from.

Tables of parts of the images, joined by `concatenate`, are the table of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import ImageId, class_order, sort_ids
from upmap.kernels.matching.contract import Matches
from upmap.metrics.protocols import Protocol

__all__ = ["MatchTable", "concatenate", "select_images"]

UNKNOWN_ORDER = (
    "detections of equal score stand in several match tables whose rows were numbered apart, so "
    "their order in the file, by which the protocol goes, is not known: make the tables of the "
    "parts with detections_from_arrays, cut them out of one table, or use ties='image'"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MatchTable(Matches):
    """The columns of `Matches`, and what their numbers refer to.

    Attributes:
        image: int32 [N], index into images.
        label: int32 [N], index into classes, ascending.
        score: float64 [N], descending within a class.
        row: int64 [N], the place in the source; joined tables keep each its own.
        rank: int32 [N], the place by score within image and class, from 0.
        status: uint8 [A, T, N], FALSE_POSITIVE, TRUE_POSITIVE or IGNORED (see kernels.matching).
        start: int64 [K + 1], the first detection of each class.
        positives: int64 [K, A], counted ground truths.
        positive_image: int32 [G], the image of each ground truth that counts in an area range.
        positive_label: int32 [G], its class, ascending; within a class the images ascend.
        positive_areas: uint64 [G], bit a is set where it counts in area range a.
        protocol: The protocol of the match.
        images: The images evaluated, ascending.
        classes: The class names.
        rows_by_image: Whether detections of equal score stand by image, then `row`, whatever the
            protocol's `ties`: those from memory do (see `Detections.rows_by_image`).
        has_numbers: Whether the classes are integer labels without names.
        has_areas: Whether areas in px^2 are known, so that scores of area ranges are defined.
    """

    positive_image: NDArray[np.int32]
    positive_label: NDArray[np.int32]
    positive_areas: NDArray[np.uint64]
    protocol: Protocol
    images: tuple[ImageId, ...]
    classes: tuple[str, ...]
    rows_by_image: bool = False
    has_numbers: bool = False
    has_areas: bool = True


def concatenate(tables: Sequence[MatchTable]) -> MatchTable:
    """The match table of the union of several tables' images: exactly that of evaluating them all.

    Detections of equal score stand by image, then by their place in it, where the protocol says so
    (COCO) or all of them come from memory (`detections_from_arrays`): then it does not matter how
    the images were divided. Otherwise (VOC, from files) they stand in the order of the file, which
    parts cut out of one table (`with_images`, `row_subset`) still know; parts that
    were read from files of their own do not, and are refused if a score stands in two of them.

    Args:
        tables: At least one, all under the same protocol, no image in two of them.

    Raises:
        ValueError: If there is none, protocols differ, an image stands in two tables, the labels of
            some are integers and those of others are names, or the order of equal scores is not
            known.
    """
    if not tables:
        raise ValueError("expected at least one match table")
    first = tables[0]
    if any(table.protocol != first.protocol for table in tables):
        raise ValueError("match tables of different protocols cannot be joined")
    if len({table.has_numbers for table in tables if table.classes}) > 1:
        raise ValueError(
            "the labels of some match tables are integers and those of others are class names; "
            "classes= says which name an integer has"
        )
    images = tuple(sort_ids(image for table in tables for image in table.images))
    if len(set(images)) < len(images):
        raise ValueError(
            "an image stands in two of the match tables (in tables from arrays, images= gives the "
            "ids)"
        )
    classes = first.classes
    if any(table.classes != classes for table in tables):
        classes = class_order({name for table in tables for name in table.classes})
    return _merge([_reindex(table, images, classes) for table in tables])


def select_images(
    table: MatchTable, images: Sequence[ImageId], classes: Sequence[str]
) -> MatchTable:
    """The match table of some of the images, under another list of classes.

    Args:
        table: The match table.
        images: Some of its images, ascending.
        classes: Classes, among them all of the table's.
    """
    selected = set(images)
    is_selected = np.array([image in selected for image in table.images], bool)
    columns: dict[str, Any] = {}
    for names, index in (
        (DETECTION_COLUMNS, table.image),
        (POSITIVE_COLUMNS, table.positive_image),
    ):
        keep = is_selected[index]
        columns |= {name: getattr(table, name)[..., keep] for name in names}
    part = replace(table, **columns)
    whole = _reindex(part, (*table.images,), tuple(classes))
    new_image = np.cumsum(is_selected, dtype=np.int32) - np.int32(1)
    order = np.argsort(whole.label, kind="stable")
    columns = {name: getattr(whole, name)[..., order] for name in DETECTION_COLUMNS}
    order = np.argsort(whole.positive_label, kind="stable")
    columns |= {name: getattr(whole, name)[order] for name in POSITIVE_COLUMNS}
    return replace(
        whole,
        **columns
        | {
            "image": new_image[columns["image"]],
            "positive_image": new_image[columns["positive_image"]],
        },
        images=tuple(images),
        start=np.searchsorted(columns["label"], np.arange(len(classes) + 1)).astype(np.int64),
        positives=_count_positives(columns, len(classes), table.positives.shape[1]),
    )


def _count_positives(columns: Mapping[str, Any], classes: int, areas: int) -> NDArray[np.int64]:
    """The positives of each class in each area range, int64 [K, A]."""
    positives = np.zeros((classes, areas), np.int64)
    for a in range(areas):
        is_inside = (columns["positive_areas"] >> np.uint64(a)) & np.uint64(1) == 1
        positives[:, a] = np.bincount(columns["positive_label"][is_inside], minlength=classes)
    return positives


def _reindex(
    table: MatchTable, images: tuple[ImageId, ...], classes: tuple[str, ...]
) -> MatchTable:
    """The table with indices into longer lists of images and classes; `start` is left as it is."""
    image_place = {image: i for i, image in enumerate(images)}
    class_place = {name: k for k, name in enumerate(classes)}
    new_image = np.array([image_place[image] for image in table.images], np.int32)
    new_label = np.array([class_place[name] for name in table.classes], np.int32)
    positives = np.zeros((len(classes), table.positives.shape[1]), np.int64)
    positives[new_label] = table.positives
    return replace(
        table,
        images=images,
        classes=classes,
        image=new_image[table.image],
        label=new_label[table.label],
        positives=positives,
        positive_image=new_image[table.positive_image],
        positive_label=new_label[table.positive_label],
    )


# The columns with an entry for each detection, on the last axis.
DETECTION_COLUMNS = ("image", "label", "score", "row", "rank", "status")
POSITIVE_COLUMNS = ("positive_image", "positive_label", "positive_areas")


def _merge(tables: Sequence[MatchTable]) -> MatchTable:
    """Joins tables of the same images and classes, and puts their detections in curve order."""
    columns: dict[str, Any] = {name: _join(tables, name) for name in DETECTION_COLUMNS}
    rows_by_image = all(table.rows_by_image for table in tables if len(table))
    if rows_by_image or tables[0].protocol.ties == "image":
        order = _order(columns, "row", "image")
    else:
        order = _order(columns, "row")
        _check_order_is_known(tables, columns, order)
    columns = {name: column[..., order] for name, column in columns.items()}
    classes = np.arange(len(tables[0].classes) + 1)
    return replace(
        tables[0],
        **columns,
        **_merge_positives(tables),
        start=np.searchsorted(columns["label"], classes).astype(np.int64),
        positives=np.sum([table.positives for table in tables], axis=0),
        rows_by_image=rows_by_image,
        has_numbers=any(table.has_numbers for table in tables),
        has_areas=all(table.has_areas for table in tables),
    )


def _merge_positives(tables: Sequence[MatchTable]) -> dict[str, Any]:
    columns = {name: _join(tables, name) for name in POSITIVE_COLUMNS}
    order = np.lexsort((columns["positive_image"], columns["positive_label"]))
    return {name: column[order] for name, column in columns.items()}


def _join(tables: Sequence[MatchTable], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(table, name) for table in tables], axis=-1)


def _order(columns: Mapping[str, NDArray[Any]], *ties: str) -> NDArray[np.int64]:
    """By class, then descending score; equal scores by the columns `ties`, the last one first."""
    keys = *(columns[name] for name in ties), -columns["score"], columns["label"]
    return np.lexsort(keys).astype(np.int64)


def _check_order_is_known(
    tables: Sequence[MatchTable], columns: Mapping[str, NDArray[Any]], order: NDArray[np.int64]
) -> None:
    """Refuses equal scores of several tables if the tables' rows are not places in one file.

    Raises:
        ValueError: If there are any.
    """
    label, score = columns["label"][order], columns["score"][order]
    table = np.repeat(np.arange(len(tables)), [len(table) for table in tables])[order]
    is_tie = (np.diff(label) == 0) & (np.diff(score) == 0)
    if (is_tie & (np.diff(table) != 0)).any() and not _share_a_source(tables, columns["row"]):
        raise ValueError(UNKNOWN_ORDER)


def _share_a_source(tables: Sequence[MatchTable], row: NDArray[np.int64]) -> bool:
    """Whether the rows of all tables, which `row` holds, can be places in one file."""
    is_any_by_image = any(table.rows_by_image for table in tables if len(table))
    return not is_any_by_image and len(np.unique(row)) == len(row)
