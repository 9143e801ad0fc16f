"""Tables from numpy arrays, torch tensors and lists, without importing torch."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.detection import InputError, detections_from_arrays, ground_truth_from_arrays
from upmap.detection.tables import align

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Tensor:
    """As much of a tensor on another device as torch's own refusals leave usable."""

    values: Any
    grad: bool = True
    device: str = "cuda"

    def detach(self) -> "Tensor":
        return Tensor(self.values, False, self.device)

    def cpu(self) -> "Tensor":
        return Tensor(self.values, self.grad, "cpu")

    def is_floating_point(self) -> bool:
        return np.asarray(self.values).dtype.kind == "f"

    def double(self) -> "Tensor":
        assert self.is_floating_point()
        return Tensor(np.asarray(self.values, np.float64), self.grad, self.device)

    def numpy(self) -> Any:
        if self.grad or self.device != "cpu":
            raise TypeError("can't convert to numpy")
        return np.asarray(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("can't convert to numpy")


BOXES = [[0.1, 2, 10, 20], [5, 5, 9, 9.5]]


def real_tensor(values: Any) -> Any:
    torch = pytest.importorskip("torch", reason="needs torch")
    values = torch.as_tensor(values)
    return values.requires_grad_() if values.is_floating_point() else values


@pytest.mark.parametrize(
    "array",
    [list, np.array, Tensor, real_tensor],
    ids=["lists", "numpy", "torch-like", "torch"],
)
def test_every_kind_of_array_makes_the_same_table(array: Any) -> None:
    scores = np.array([0.5, 0.1], np.float32)
    image = {"boxes": array(BOXES), "scores": array(scores), "labels": array([3, 1])}
    table = detections_from_arrays([image])
    expected = np.array(BOXES, np.float32) if array is real_tensor else BOXES
    np.testing.assert_array_equal(table.box, expected)
    np.testing.assert_array_equal(table.score, scores.astype(np.float64))
    assert [table.catalog.classes[k] for k in table.label] == ["3", "1"]
    assert (table.pixels, table.row.tolist()) == ("continuous", [0, 1])


def test_torch_is_not_imported() -> None:
    program = (
        "import sys, detection, numpy as np\n"
        "detection.ground_truth_from_arrays([{'boxes': np.ones((1, 4)), 'labels': [1]}])\n"
        "assert not {'torch', 'pycocotools', 'cv2', 'tqdm'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def one(**changes: Any) -> dict[str, Any]:
    image = {"boxes": BOXES, "labels": [1, 2], "scores": [0.5, 0.25]} | changes
    return {key: value for key, value in image.items() if value is not None}


def test_images_in_any_order_are_sorted_and_rows_are_numbered_by_image() -> None:
    images = [one(labels=[1, 2]), one(boxes=[], labels=[], scores=[]), one(labels=[2, 3])]
    table = detections_from_arrays(images, images=[9, 5, 3])
    assert table.catalog.images == (3, 5, 9)
    assert table.image.tolist() == [0, 0, 2, 2]
    assert (table.row.tolist(), table.rows_by_image) == ([0, 1, 2, 3], True)
    assert [table.catalog.classes[k] for k in table.label] == ["2", "3", "1", "2"]


def random_images(array: Any) -> list[dict[str, Any]]:
    """Images of 0 to 3 boxes; `array` makes each array."""
    rng = np.random.default_rng(0)
    images = []
    for n in rng.integers(0, 4, 50).tolist():
        corners = rng.integers(0, 50, (n, 4)).cumsum(axis=1).astype(float)
        images.append(
            {
                "boxes": array(corners) if n else array([]),
                "labels": array(rng.choice([-7, 2, 90], n)),
                "scores": array(rng.integers(0, 100, n) / 128),
                "iscrowd": array(rng.integers(0, 2, n)),
            }
        )
    return images


@pytest.mark.parametrize("array", [np.asarray, real_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("change", ["none", "one is a list", "one has floats", "one lacks a key"])
@pytest.mark.parametrize("function", [ground_truth_from_arrays, detections_from_arrays])
def test_columns_made_at_once_equal_those_made_image_by_image(
    function: Any, change: str, array: Any
) -> None:
    images, listed = random_images(array), random_images(list)
    for dicts in (images, listed):
        if change == "one is a list":
            dicts[7] = listed[7]
        if change == "one has floats":
            dicts[7]["labels"] = np.asarray(dicts[7]["labels"], float)
        if change == "one lacks a key":
            del dicts[7]["iscrowd"]
    for classes in (None, {90: "x", -7: "a", 2: "m", 1: "unused"}):
        table, from_lists = function(images, classes=classes), function(listed, classes=classes)
        assert table.catalog == from_lists.catalog
        for name in table.COLUMNS:
            np.testing.assert_array_equal(getattr(table, name), getattr(from_lists, name), name)


def test_marks_and_areas_follow_their_boxes_and_have_defaults() -> None:
    marked = one(difficult=[0, 1], iscrowd=np.array([True, False]), area=[7, 8])
    table = ground_truth_from_arrays([marked, one()], images=["b", "a"])
    assert table.difficult.tolist() == [False, False, False, True]
    assert table.crowd.tolist() == [False, False, True, False]
    assert table.area.tolist() == pytest.approx([9.9 * 18, 4 * 4.5, 7, 8])
    assert table.annotation_id.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("function", [ground_truth_from_arrays, detections_from_arrays])
@pytest.mark.parametrize(
    "images",
    [
        [],
        [one(boxes=[], labels=[], scores=[])],
        [one(boxes=np.zeros((0, 4)), labels=[], scores=[])],
    ],
)
def test_no_images_and_empty_images_make_empty_tables(function: Any, images: list[Any]) -> None:
    table = function(images)
    assert (len(table), table.box.shape) == (0, (0, 4))
    assert len(table.catalog.images) == len(images)


def test_inclusive_corners_have_a_pixel_more() -> None:
    table = ground_truth_from_arrays([one(boxes=[[3, 3, 3, 4]] * 2)], pixels="inclusive")
    assert table.size.tolist() == [[1, 2]] * 2


def test_both_tables_align_without_sizes_or_files() -> None:
    truth, detections = align(ground_truth_from_arrays([one()]), detections_from_arrays([one()]))
    assert truth.catalog == detections.catalog


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        ([10, 9], None, ("9", "10")),
        ([-1, 2], None, ("-1", "2")),
        ([1.0, 2.0], None, ("1", "2")),
        (["dog", "cat"], None, ("cat", "dog")),
        (np.array(["dog", "cat"], object), None, ("cat", "dog")),
        ([1, 0], ["a", "b", "c"], ("a", "b", "c")),
        ([7, 3], {3: "a", 7: "b"}, ("a", "b")),
        (["b", "a"], {3: "a", 7: "b"}, ("a", "b")),
    ],
)
def test_labels_are_named(labels: Any, classes: Any, names: tuple[str, ...]) -> None:
    table = ground_truth_from_arrays([one(labels=labels)], classes=classes)
    assert table.catalog.classes == names
    assert table.label.tolist() == [1, 0] if classes or names[0] == "9" else [0, 1]


@pytest.mark.parametrize("ids", [np.array([4, 2]), [np.int64(4), 2]])
def test_numpy_ids_become_integers(ids: Any) -> None:
    table = ground_truth_from_arrays([one(), one()], images=ids)
    assert [type(image) for image in table.catalog.images] == [int, int]
    assert table.catalog.images == (2, 4)


@pytest.mark.parametrize("key", ["boxes", "scores", "labels"])
def test_a_missing_key_is_named_with_its_image(key: str) -> None:
    with pytest.raises(InputError, match=f"^image 1 has no '{key}'; it has "):
        detections_from_arrays([one(), one(**{key: None})])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[1, 2, 3]] * 2}, r"'boxes' must be \[n, 4\], not \[2, 3\]"),
        ({"boxes": [1, 2, 3, 4]}, r"'boxes' must be \[n, 4\], not \[4\]"),
        ({"boxes": 5}, r"'boxes' must be \[n, 4\], not \[\]"),
        ({"boxes": [[1, 2, 3, 4]]}, "1 boxes but 2 labels"),
        ({"boxes": []}, "0 boxes but 2 labels"),
        ({"boxes": [["a"] * 4] * 2}, "'boxes' is not numeric"),
        ({"boxes": [[1, 2, 3], [1]]}, "'boxes' is not numeric"),
        ({"boxes": [[1, 2, 3, np.nan]] * 2}, "'boxes' holds a value that is not finite"),
        ({"boxes": [[1, 2, 3, np.inf]] * 2}, "'boxes' holds a value that is not finite"),
        ({"scores": [1]}, "1 scores but 2 labels"),
        ({"scores": [[1], [2]]}, r"'scores' must be \[n\], not \[2, 1\]"),
        ({"scores": 0.5}, r"'scores' must be \[n\], not \[\]"),
        ({"scores": [1, np.nan]}, "'scores' holds a value that is not finite"),
        ({"labels": [[1], [2]]}, r"'labels' must be \[n\], not \[2, 1\]"),
        ({"labels": 3}, r"'labels' must be \[n\], not \[\]"),
        ({"labels": [1.5, 2]}, "labels must be integers or class names"),
        ({"labels": [np.nan, 2]}, "labels must be integers or class names"),
        ({"labels": [np.inf, 2]}, "labels must be integers or class names"),
        ({"labels": [True, False]}, "labels must be integers or class names"),
        ({"labels": [b"a", b"b"]}, "labels must be integers or class names"),
        ({"labels": [None, 1]}, "labels must be integers or class names"),
    ],
)
def test_a_wrong_array_is_named_with_its_image(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^image 1: {message}"):
        detections_from_arrays([one(), one(**changes)])


def test_an_inverted_ground_truth_is_named_with_its_image_and_a_detection_is_not() -> None:
    image = one(boxes=[[1, 1, 2, 2], [5, 5, 4, 9]])
    with pytest.raises(
        InputError, match=r"^image 'x': a ground truth's box is inverted: \[5\.0, 5"
    ):
        ground_truth_from_arrays([image], images=["x"])
    assert detections_from_arrays([image]).size.tolist() == [[1, 1], [-1, 4]]


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (["a", "b"], [0, 2], "image 0: label 2 has no name in classes"),
        (["a", "b"], [0, -1], "image 0: label -1 has no name in classes"),
        ({1: "a"}, [1, 0], "image 0: label 0 has no name in classes"),
        (["a", "b"], ["a", "c"], "image 0: no class 'c' in classes"),
        (["a", "a"], [0, 1], "the names in classes must differ"),
    ],
)
def test_a_label_without_a_name_is_refused(classes: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ground_truth_from_arrays([one(labels=labels)], classes=classes)


@pytest.mark.parametrize("numbers", [[1, 2], np.array([1, 2]), np.array([1.0, 2.0])])
@pytest.mark.parametrize("names", [["cat", "dog"], ["1", "2"], np.array(["1", "2"], object)])
@pytest.mark.parametrize("is_swapped", [False, True])
def test_integers_on_one_side_and_names_on_the_other_are_refused_unless_classes_says(
    numbers: Any, names: Any, is_swapped: bool
) -> None:
    labels = (names, numbers) if is_swapped else (numbers, names)
    truth, detections = ground_truth_from_arrays([one(labels=labels[0])]), one(labels=labels[1])
    with pytest.raises(InputError, match=r"labels are (integers|class names) .* but"):
        align(truth, detections_from_arrays([detections]))
    classes = {1: names[0], 2: names[1]}
    both = align(
        ground_truth_from_arrays([one(labels=labels[0])], classes=classes),
        detections_from_arrays([detections], classes=classes),
    )
    assert both[0].label.tolist() == both[1].label.tolist() == [0, 1]
    with pytest.raises(InputError, match="classes= says"):  # it names one side only
        align(
            ground_truth_from_arrays([one(labels=[1, 2])], classes=classes),
            detections_from_arrays([one(labels=[1, 2])]),
        )


def test_a_side_without_any_labels_goes_with_integers_and_with_names() -> None:
    empty = {"boxes": [], "labels": [], "scores": []}
    for labels in ([1, 2], ["cat", "dog"]):
        table = detections_from_arrays([one(labels=labels)])
        truth, detections = align(ground_truth_from_arrays([empty]), table)
        assert detections.catalog.classes == tuple(map(str, labels))
        assert detections.catalog.has_numbers == truth.catalog.has_numbers == (labels == [1, 2])


@pytest.mark.parametrize("function", [ground_truth_from_arrays, detections_from_arrays])
def test_integers_in_some_images_and_names_in_others_are_refused_unless_classes_says(
    function: Any,
) -> None:
    images = [one(boxes=[], labels=[], scores=[]), one(labels=["cat", "1"]), one(labels=[1, 2])]
    expected = "image 2: the label 1 is an integer, but 'cat' of image 1 is a class name"
    with pytest.raises(InputError, match=expected):
        function(images)
    with pytest.raises(InputError, match="image 0: labels must be integers or class names"):
        function([one(labels=[1, "cat"])])
    table = function(images, classes={1: "cat", 2: "1"})
    assert table.label.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1], "expected 2 image ids, one for each dict, got 1"),
        ([1, 1], "image ids must differ from each other"),
        ([1, "a"], "image ids must be all integers or all strings"),
        ([1, 2.5], "image ids must be integers or strings"),
        ([1, None], "image ids must be integers or strings"),
    ],
)
def test_wrong_image_ids_are_refused(ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ground_truth_from_arrays([one(), one()], images=ids)


@pytest.mark.parametrize("images", [one(), [[1, 2]]])
def test_what_is_not_a_list_of_dicts_is_refused(images: Any) -> None:
    with pytest.raises(InputError, match=r"image 0 must be a dict of arrays, not (str|list)"):
        ground_truth_from_arrays(images)
