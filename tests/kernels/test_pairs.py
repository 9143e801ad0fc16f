"""Pairs: native against reference, and by hand."""

import numpy as np
import pytest

from upmap.kernels.matching import CLAIMABLE, CROWD, DetectionBoxes, TruthBoxes
from upmap.kernels.pairs import IMPLEMENTATIONS, find_pairs


def boxes(seed: int, count: int, images: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 30, (count, 2)) * 0.5
    size = rng.choice([0.0, 1.0, 7.5, 20.0], (count, 2))
    return {
        "image": rng.integers(0, images, count).astype(np.int32),
        "label": rng.integers(0, 3, count).astype(np.int32),
        "box": np.concatenate([low, low + size], axis=1),
        "box_area": size[:, 0] * size[:, 1],
    }


def detection_boxes(seed: int, count: int, images: int) -> DetectionBoxes:
    columns = boxes(seed, count, images)
    return DetectionBoxes(**columns, score=np.zeros(count), row=np.arange(count))


def truth_boxes(seed: int, count: int, images: int) -> TruthBoxes:
    columns = boxes(seed, count, images)
    kind = np.random.default_rng(seed).integers(CLAIMABLE, CROWD + 1, count).astype(np.uint8)
    return TruthBoxes(**columns, area=columns["box_area"], kind=kind)


@pytest.mark.parametrize(("detections", "truths"), [(0, 0), (9, 0), (0, 9), (70, 50), (20000, 40)])
@pytest.mark.parametrize("side_offset", [0.0, 1.0])
def test_native_equals_reference_with_any_number_of_threads(
    detections: int, truths: int, side_offset: float
) -> None:
    pytest.importorskip("upmap.kernels.pairs.native")
    tables = detection_boxes(1, detections, 60), truth_boxes(2, truths, 50)
    for min_iou in (0.0, 0.1, 0.5):
        options = {"side_offset": side_offset, "min_iou": min_iou}
        expected = find_pairs(*tables, **options, impl="reference")
        for threads in (1, 3):
            pairs = find_pairs(*tables, **options, threads=threads, impl="native")
            for name in ("start", "truth", "iou"):
                column, reference = getattr(pairs, name), getattr(expected, name)
                assert (column.dtype, column.tobytes()) == (reference.dtype, reference.tobytes())


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_crowd_is_overlapped_by_that_part_of_the_detection_which_lies_in_it(impl: str) -> None:
    detections = DetectionBoxes(
        image=[0], label=[0], box=[[0, 0, 4, 4]], box_area=[16], score=[1], row=[0]
    )
    truths = TruthBoxes(
        image=[0, 1, 0],
        label=[0, 0, 2],
        box=[[0, 0, 2, 8], [0, 0, 4, 4], [0, 0, 2, 8]],
        box_area=[16, 16, 16],
        area=[16, 16, 16],
        kind=[CLAIMABLE, CLAIMABLE, CROWD],
    )
    pairs = find_pairs(detections, truths, side_offset=0, min_iou=0, impl=impl)
    assert pairs.start.tolist() == [0, 2]
    assert pairs.truth.tolist() == [0, 2]
    assert pairs.iou.tolist() == [8 / 24, 0.5]


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_wrong_arrays_are_refused(impl: str) -> None:
    detections, truths = detection_boxes(1, 3, 2), truth_boxes(2, 3, 2)
    with pytest.raises(ValueError, match="min_iou not NaN"):
        find_pairs(detections, truths, side_offset=0, min_iou=np.nan, impl=impl)
    detections.image[0] = -1
    with pytest.raises(ValueError, match=r"detections.image must lie in 0 \.\."):
        find_pairs(detections, truths, side_offset=0, min_iou=0, impl=impl)


def test_an_image_may_have_the_largest_number_there_is() -> None:
    detections, truths = detection_boxes(1, 30, 1), truth_boxes(2, 30, 1)
    expected = find_pairs(detections, truths, side_offset=0, min_iou=0)
    assert len(expected)
    detections.image[:] = truths.image[:] = 2**31 - 1
    for impl in IMPLEMENTATIONS:
        pairs = find_pairs(detections, truths, side_offset=0, min_iou=0, impl=impl)
        assert pairs.truth.tolist() == expected.truth.tolist()


def test_the_native_kernel_stays_within_bounds_where_images_are_negative() -> None:
    native = pytest.importorskip("upmap.kernels.pairs.native")
    detections, truths = detection_boxes(1, 3, 2), truth_boxes(2, 3, 2)
    detections.image[:] = -1
    assert native.find_pairs(detections, truths, 0.0, 0.0, 1)[0].tolist() == [0, 0, 0, 0]
    truths.image[:] = -5
    assert native.find_pairs(detections, truths, 0.0, 0.0, 1)[0].tolist() == [0, 0, 0, 0]
