"""Tests of label maps as JSON: masks as pycocotools encodes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from upmap.segmentation.label_records import count_labels, describe_labels, encode_masks


def random_labels(height: int, width: int, classes: int, block: int, seed: int) -> NDArray:
    """Blocks of labels: long runs for large blocks, short ones for small."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, classes, (-(-height // block), -(-width // block)), np.uint8)
    return small.repeat(block, 0).repeat(block, 1)[:height, :width]


@settings(deadline=None)
@given(
    *(st.integers(1, 70), st.integers(1, 70), st.integers(1, 256)),
    *(st.integers(1, 40), st.integers(0, 2**32)),
)
def test_masks_are_those_of_pycocotools(
    height: int, width: int, classes: int, block: int, seed: int
) -> None:
    labels = random_labels(height, width, classes, block, seed)
    masks = dict(encode_masks(labels))
    assert list(masks) == np.unique(labels).tolist()
    for label, counts in masks.items():
        expected = coco.encode(np.asfortranarray(labels == label).view(np.uint8))
        assert counts == expected["counts"].decode()


@pytest.mark.parametrize("side", [1, 33, 2000])
def test_runs_of_any_length_are_those_of_pycocotools(side: int) -> None:
    labels = np.zeros((side, side), np.uint8)
    labels[side // 2 :, side // 3 :] = 1
    for label, counts in encode_masks(labels):
        expected = coco.encode(np.asfortranarray(labels == label).view(np.uint8))
        assert counts == expected["counts"].decode()


def test_a_record_adds_up() -> None:
    labels = random_labels(40, 60, 5, 7, 3)
    record = describe_labels(labels, [f"class {i}" for i in range(6)])
    assert (record["height"], record["width"]) == labels.shape
    assert sum(row["pixels"] for row in record["classes"]) == labels.size
    assert sum(row["share"] for row in record["classes"]) == pytest.approx(1, abs=1e-12)
    for row in record["classes"]:
        assert row["pixels"] == coco.area(row["rle"]) == (labels == row["id"]).sum()
        assert row["name"] == f"class {row['id']}"
    np.testing.assert_array_equal(count_labels(labels, 6), np.bincount(labels.flat, minlength=6))
