"""Tables refuse what is not a table, and move between catalogs and pixel conventions."""

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upmap.detection import Catalog, Detections, GroundTruth, InputError
from upmap.detection.boxes import convert_pixels, inclusive_size, xywh, xyxy_from_xywh
from upmap.detection.tables import (
    align,
    image_names,
    images_by_name,
    is_bounded,
    row_subset,
    with_classes,
    with_images,
)

CATALOG = Catalog((3, 5), ("cat", "dog"), sizes=np.array([[9, 8], [7, 6]]))


def detections(**changes: Any) -> Detections:
    box = np.array([[0.0, 0, 4, 4], [1, 1, 3, 5], [2, 2, 6, 7]])
    columns: dict[str, Any] = {
        "image": [0, 1, 1],
        "label": [1, 0, 1],
        "box": box,
        "size": box[:, 2:] - box[:, :2],
        "score": [0.5, 0.25, 0.75],
        "row": [0, 1, 2],
        "catalog": CATALOG,
        "pixels": "continuous",
    }
    return Detections(**columns | changes)


def truth(**changes: Any) -> GroundTruth:
    table = detections()
    columns: dict[str, Any] = {
        "image": table.image,
        "label": table.label,
        "box": table.box,
        "size": table.size,
        "area": [16, 8, 20],
        "difficult": [False, True, False],
        "crowd": [False, False, True],
        "annotation_id": [7, 8, 9],
        "catalog": CATALOG,
        "pixels": "continuous",
    }
    return GroundTruth(**columns | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": [1, 2]}, "score must have as many rows as image, 3"),
        ({"box": np.zeros((2, 4))}, "box must have as many rows as image, 3"),
        ({"image": [0, 1, 2]}, r"image must lie in 0 \.\. 1"),
        ({"label": [-1, 0, 1]}, r"label must lie in 0 \.\. 1"),
        (
            {"pixels": "pixels"},
            "pixels must be one of 'inclusive', 'continuous', 'relative', not 'pixels'",
        ),
        ({"box": np.full((3, 4), np.nan)}, "box must be finite"),
        ({"size": np.full((3, 2), np.inf)}, "size must be finite"),
        ({"score": [0, np.nan, 1]}, "score must be finite"),
        ({"image": [[0], [1], [1]]}, r"image must be \[N\], not \[3, 1\]"),
        ({"score": np.zeros((3, 1))}, r"score must be \[N\], not \[3, 1\]"),
        ({"row": np.int64(3)}, r"row must be \[N\], not \[\]"),
        ({"box": np.zeros(12)}, r"box must be \[N, 4\], not \[12\]"),
        ({"size": np.zeros((2, 3))}, r"size must be \[N, 2\], not \[2, 3\]"),
        ({"image": [0, 0.5, 1]}, "image must be int32; it is float64 and holds other values"),
        ({"image": [0, 2**32, 1]}, "image must be int32; it is int64"),
        ({"row": [0, 2**63, 1]}, "row must be int64"),
    ],
)
def test_columns_that_do_not_make_a_table_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        detections(**changes)


@pytest.mark.parametrize("scores", [["a", "b", "c"], [1j, 0, 0], [None, 0, 0], [10**30, 0, 0]])
def test_a_column_that_holds_no_numbers_is_refused(scores: Any) -> None:
    with pytest.raises(TypeError, match=r"score must hold numbers \(float64\)"):
        detections(score=np.array(scores))


def test_a_mark_is_true_or_false() -> None:
    assert truth(difficult=[0, 1, 0]).difficult.tolist() == [False, True, False]
    with pytest.raises(ValueError, match="crowd must be bool"):
        truth(crowd=[0, 2, 0])


def test_columns_between_two_words_of_memory_are_copied() -> None:
    score = np.frombuffer(b"." + np.array([0.5, 0.25, 0.75]).tobytes(), np.uint8)[1:].view(float)
    assert not score.flags.aligned
    column = detections(score=score).score
    assert column.flags.aligned
    assert column.tolist() == [0.5, 0.25, 0.75]


def test_an_area_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="area must be finite"):
        truth(area=[1, np.nan, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": (2, 1)}, "images must be ascending and differ"),
        ({"images": (1, 1)}, "images must be ascending and differ"),
        ({"images": (1, "a")}, "image ids must be all integers or all strings"),
        ({"classes": ("a", "a")}, "classes must differ from each other"),
        ({"class_ids": (1,)}, "class_ids must be as many as classes"),
        ({"sizes": np.zeros((3, 2))}, "sizes must be as many as images"),
    ],
)
def test_a_catalog_that_contradicts_itself_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Catalog(**{"images": (1, 2), "classes": ("a", "b")} | arguments)


def test_a_table_cannot_be_changed() -> None:
    table = detections()
    with pytest.raises(FrozenInstanceError):
        table.score = np.zeros(3)  # type: ignore[misc]
    assert not table.score.flags.writeable


def test_columns_have_their_dtypes_whatever_they_are_made_of() -> None:
    table = detections(box=[[0, 0, 4, 4]] * 3, score=[1, 0, 1])
    dtypes = [getattr(table, name).dtype.name for name in table.COLUMNS]
    assert dtypes == ["int32", "int32", "float64", "float64", "float64", "int64"]


def test_a_table_without_rows_is_a_table() -> None:
    empty = row_subset(detections(), np.zeros(3, bool))
    assert (len(empty), empty.box.shape, empty.size.shape) == (0, (0, 4), (0, 2))


def test_catalogs_are_equal_whatever_is_known_of_sizes() -> None:
    assert Catalog((1, 2), ("a",)) == Catalog((1, 2), ("a",), sizes=np.ones((2, 2)))
    assert Catalog((1, 2), ("a",)) != Catalog((1, 2), ("a",), class_ids=(7,))


def test_a_subset_of_rows_keeps_the_catalog() -> None:
    subset = row_subset(truth(), np.array([False, True, True]))
    assert subset.annotation_id.tolist() == [8, 9]
    assert subset.catalog is CATALOG


def test_another_list_of_classes_drops_and_renumbers() -> None:
    table = with_classes(detections(), ("owl", "dog"))
    assert table.label.tolist() == [1, 1]
    assert table.row.tolist() == [0, 2]
    assert table.catalog.class_ids == (3, 2)


def test_another_list_of_images_drops_renumbers_and_keeps_sizes() -> None:
    table = with_images(detections(), (5,))
    assert table.image.tolist() == [0, 0]
    assert table.catalog.sizes.tolist() == [[7, 6]]


def test_sizes_are_forgotten_where_an_image_is_new() -> None:
    table = with_images(detections(), (9, 5))
    assert table.catalog.images == (5, 9)
    assert table.catalog.sizes.shape == (0, 2)


def test_aligned_tables_share_the_images_of_one_and_the_classes_of_both() -> None:
    other = replace(detections(), catalog=Catalog((2, 3), ("bee", "dog")))
    other = row_subset(other, other.image == 1)
    aligned, other = align(truth(), other)
    assert aligned.catalog is other.catalog
    assert aligned.catalog.images == (3, 5)
    assert aligned.catalog.classes == ("bee", "cat", "dog")
    assert aligned.label.tolist() == [2, 1, 2]
    assert (other.image.tolist(), other.label.tolist()) == ([0, 0], [0, 2])


def test_aligned_classes_keep_an_order_that_is_not_the_alphabet() -> None:
    catalog = replace(CATALOG, classes=("dog", "cat"))
    other = replace(CATALOG, classes=("ape", "dog"))
    aligned, table = align(truth(catalog=catalog), detections(catalog=other))
    assert aligned.catalog.classes == ("dog", "cat", "ape")
    assert table.label.tolist() == [0, 2, 0]


def test_alignment_names_the_unknown_images() -> None:
    other = detections(catalog=Catalog((3, 9), ("cat", "dog")))
    with pytest.raises(InputError, match="detections on 1 unknown images: 9"):
        align(truth(), other)


def test_alignment_tells_a_number_from_its_text() -> None:
    other = detections(catalog=Catalog(("3", "5"), ("cat", "dog")))
    with pytest.raises(InputError, match="detections on 2 unknown images: '3', '5'"):
        align(truth(), other)


def test_images_go_by_id_and_by_file_name_that_no_other_shares() -> None:
    names = ("x/1.b.jpg", "y\\2.jpg", "z/c.png", "c.jpg")
    catalog = Catalog((1, 2, 3, 4), (), file_names=names)
    assert image_names(catalog) == ["1.b", "2", "c", "c"]
    assert images_by_name(catalog) == {"1": 0, "2": 1, "3": 2, "4": 3, "1.b": 0}


def test_an_id_goes_before_a_file_name() -> None:
    assert images_by_name(Catalog((1, 2), (), file_names=("2.jpg", "1.jpg"))) == {"1": 0, "2": 1}


def test_bounded_values_have_finite_products() -> None:
    values = np.array([1e150, -1e150, 1.1e150, np.inf, -np.inf, np.nan, 0])
    assert is_bounded(values).tolist() == [True, True, False, False, False, False, True]


def test_one_pixel_is_the_same_region_in_both_conventions() -> None:
    box = np.array([[1.0, 1, 1, 1]] * 3)
    table = detections(box=box, size=inclusive_size(box), pixels="inclusive")
    assert convert_pixels(table, "continuous").box.tolist() == [[0, 0, 1, 1]] * 3
    assert xywh(table).tolist() == [[0, 0, 1, 1]] * 3


def test_corners_as_they_stand_have_sides_a_pixel_smaller() -> None:
    table = truth(size=inclusive_size(detections().box), area=[25, 15, 3], pixels="inclusive")
    bare = convert_pixels(table, "corners")
    assert (bare.pixels, bare.size.tolist()) == ("continuous", [[4, 4], [2, 4], [4, 5]])
    assert bare.area.tolist() == [16, 8, 3]  # the third was annotated, not derived


@given(st.lists(st.tuples(*[st.integers(-(10**6), 10**6)] * 4), min_size=3, max_size=3))
def test_whole_pixels_return_exactly_from_the_other_convention(
    numbers: list[tuple[int, ...]],
) -> None:
    table = detections(
        box=xyxy_from_xywh(np.array(numbers, np.float64)), size=np.array(numbers)[:, 2:]
    )
    there = convert_pixels(table, "inclusive")
    assert np.array_equal(inclusive_size(there.box), table.size)
    assert np.array_equal(convert_pixels(there, "continuous").box, table.box)
