"""Objects of other libraries, by stand-ins with the same attributes, and real tensors."""

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from upmap.detection import detections_from_arrays, ground_truth_from_arrays
from upmap.detection.tables import align
from upmap.errors import InputError, InputWarning
from upmap.metrics import COCO, mean_average_precision

torch = pytest.importorskip("torch", reason="torch is not installed")

BOXES = [[0.0, 0.0, 10.0, 20.0], [5.0, 5.0, 30.0, 25.0]]
SCORES = [0.5, 0.75]
LABELS = [1, 0]
NAMES = {0: "cat", 1: "dog"}


def of_torchvision(boxes: Any, scores: Any, labels: Any) -> Any:
    return {"boxes": boxes, "scores": scores, "labels": labels}


def of_supervision(boxes: Any, scores: Any, labels: Any) -> Any:
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    labels = np.asarray(labels, int).reshape(-1)
    data: dict[str, Any] = {"class_name": np.array([NAMES[k] for k in labels.tolist()])}
    return Boxes(
        xyxy=array, confidence=np.asarray(scores), class_id=labels, data=data if len(array) else {}
    )


class Boxes(SimpleNamespace):
    """`supervision.Detections`, which has a length."""

    def __len__(self) -> int:
        return len(self.xyxy)


def of_ultralytics(boxes: Any, scores: Any, labels: Any) -> Any:
    inner = SimpleNamespace(
        xyxy=torch.as_tensor(boxes),
        conf=torch.as_tensor(scores),
        cls=torch.as_tensor(labels).float(),
    )
    return SimpleNamespace(boxes=inner, names=NAMES, orig_shape=(100, 100), obb=None)


def of_detectron2(boxes: Any, scores: Any, labels: Any) -> Any:
    instances = SimpleNamespace(
        pred_boxes=SimpleNamespace(tensor=torch.as_tensor(boxes).requires_grad_()),
        scores=torch.as_tensor(scores),
        pred_classes=torch.as_tensor(labels),
    )
    return {"instances": instances}


def of_mmdet(boxes: Any, scores: Any, labels: Any) -> Any:
    instances = SimpleNamespace(
        bboxes=torch.as_tensor(boxes),
        scores=torch.as_tensor(scores),
        labels=torch.as_tensor(labels),
    )
    return SimpleNamespace(pred_instances=instances, gt_instances=instances)


def of_rows(boxes: Any, scores: Any, labels: Any) -> Any:
    columns = (np.reshape(boxes, (-1, 4)), np.reshape(scores, (-1, 1)), np.reshape(labels, (-1, 1)))
    return torch.as_tensor(np.concatenate(columns, axis=1))


LIBRARIES = [of_torchvision, of_supervision, of_ultralytics, of_detectron2, of_mmdet, of_rows]


@pytest.mark.parametrize("build", LIBRARIES)
def test_the_same_detections_of_each_library_give_the_same_table(build: Any) -> None:
    images = [build([], [], []), build(BOXES, SCORES, LABELS)]
    table = detections_from_arrays(images, classes=NAMES)
    assert table.box.tolist() == BOXES
    assert table.score.tolist() == SCORES
    assert table.image.tolist() == [1, 1]
    assert [table.catalog.classes[k] for k in table.label] == ["dog", "cat"]


@pytest.mark.parametrize("build", [of_supervision, of_ultralytics])
def test_the_names_that_an_object_has_are_its_classes(build: Any) -> None:
    table = detections_from_arrays([build([], [], []), build(BOXES, SCORES, LABELS)])
    assert [table.catalog.classes[k] for k in table.label] == ["dog", "cat"]
    assert not table.catalog.has_numbers


@pytest.mark.parametrize("build", [of_supervision, of_ultralytics])
def test_names_beside_integers_of_the_ground_truth_are_refused(build: Any) -> None:
    truth = ground_truth_from_arrays([{"boxes": BOXES, "labels": LABELS}])
    table = detections_from_arrays([build(BOXES, SCORES, LABELS)])
    with pytest.raises(InputError, match=r"integers \(0, 1\) .* class names .* classes= says"):
        align(truth, table)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_tensors_of_any_precision_that_require_gradients_are_read(dtype: str) -> None:
    kind = getattr(torch, dtype)
    boxes = torch.tensor(BOXES, dtype=kind, requires_grad=True)
    scores = torch.tensor(SCORES, dtype=kind, requires_grad=True)
    labels = torch.tensor(LABELS, dtype=kind)
    for build in (of_torchvision, of_mmdet):
        table = detections_from_arrays([build(boxes, scores, labels)], classes=NAMES)
        assert (table.box.tolist(), table.score.tolist()) == (BOXES, SCORES)


@pytest.mark.parametrize("shape", [(0,), (0, 6)])
def test_an_array_without_rows_is_an_image_without_detections(shape: tuple[int, ...]) -> None:
    rows = of_rows(BOXES, SCORES, LABELS)
    assert len(detections_from_arrays([torch.zeros(shape), rows])) == 2


@pytest.mark.parametrize("rows", [np.zeros((2, 7)), np.zeros((1, 5)), np.zeros(6), [[1, 2]]])
def test_an_array_of_another_shape_is_refused(rows: Any) -> None:
    with pytest.raises(InputError, match=r"^image 1: an array must be \[n, 6\]"):
        detections_from_arrays([np.zeros((0, 6)), rows])


def test_an_array_is_no_ground_truth() -> None:
    with pytest.raises(InputError, match="image 0 must be a dict of arrays, not ndarray"):
        ground_truth_from_arrays([np.zeros((2, 6))])


def test_detections_without_confidence_are_refused_and_ground_truth_needs_none() -> None:
    annotated = of_supervision(BOXES, SCORES, LABELS)
    annotated.confidence = None
    with pytest.raises(InputError, match="image 0: the detections have no confidence"):
        detections_from_arrays([annotated])
    assert ground_truth_from_arrays([annotated]).box.tolist() == BOXES


def test_oriented_boxes_of_ultralytics_are_refused() -> None:
    results = of_ultralytics(BOXES, SCORES, LABELS)
    results.boxes, results.obb = None, object()
    with pytest.raises(InputError, match="image 0: the results have oriented boxes"):
        detections_from_arrays([results])


def test_a_label_that_the_names_of_ultralytics_lack_is_refused() -> None:
    with pytest.raises(InputError, match="image 0: label 7 has no name in names"):
        detections_from_arrays([of_ultralytics(BOXES, SCORES, [1, 7])])


def test_ground_truth_of_detectron2_and_mmdet_is_read_from_its_own_attributes() -> None:
    truth = SimpleNamespace(
        gt_boxes=SimpleNamespace(tensor=torch.tensor(BOXES)), gt_classes=torch.tensor(LABELS)
    )
    for image in ({"instances": truth}, of_mmdet(BOXES, SCORES, LABELS)):
        table = ground_truth_from_arrays([image])
        assert table.box.tolist() == BOXES
        assert table.label.tolist() == LABELS


@pytest.mark.parametrize("key", ["class_labels", "labels"])
def test_targets_in_units_of_the_image_become_px_of_the_original_image(key: str) -> None:
    target = {
        "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.25]]),
        key: torch.tensor([3]),
        "orig_size": torch.tensor([80, 40]),  # height, width
        "size": torch.tensor([800, 400]),
        "area": torch.tensor([40000.0]),
    }
    empty = target | {"boxes": torch.zeros((0, 4)), key: torch.zeros(0), "area": torch.zeros(0)}
    table = ground_truth_from_arrays([empty, target])
    assert table.box.tolist() == [[10.0, 30.0, 30.0, 50.0]]
    assert table.area.tolist() == [400.0]


def test_targets_in_px_are_read_as_they_are() -> None:
    target = {"boxes": BOXES, "labels": LABELS, "orig_size": np.array([80, 40])}
    assert ground_truth_from_arrays([target]).box.tolist() == BOXES


@pytest.mark.parametrize("size", [np.array([80]), np.array([0, 40])])
def test_targets_in_units_of_the_image_need_its_size(size: Any) -> None:
    target = {"boxes": [[0.5, 0.5, 0.5, 0.5]], "labels": [1], "orig_size": size}
    with pytest.raises(InputError, match="image 0: 'orig_size' must be a height and a width"):
        ground_truth_from_arrays([target])


def test_boxes_of_torchvision_are_read_in_the_format_that_they_name() -> None:
    vision = pytest.importorskip("torchvision.tv_tensors", reason="torchvision is not installed")
    numbers = {
        "XYXY": [0, 0, 10, 20],
        "XYWH": [0, 0, 10, 20],
        "CXCYWH": [5, 10, 10, 20],
    }
    for kind, box in numbers.items():
        boxes = vision.BoundingBoxes(torch.tensor([box]), format=kind, canvas_size=(50, 50))
        table = ground_truth_from_arrays([{"boxes": boxes, "labels": [1]}])
        assert table.box.tolist() == [[0, 0, 10, 20]]


def random_boxes(scale: float, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 500, (40, 2))
    return scale * np.concatenate([low, low + generator.uniform(10, 100, (40, 2))], axis=1)


@pytest.mark.parametrize("scale", [0.5, 0.002, 2.0, 1000.0])
def test_targets_of_another_scale_than_the_predictions_are_warned_about(scale: float) -> None:
    truth = [{"boxes": random_boxes(scale), "labels": np.ones(40, int)}]
    detected = [{"boxes": random_boxes(1.0), "labels": np.ones(40, int), "scores": np.ones(40)}]
    with pytest.warns(InputWarning, match="in the pixels of images of another size") as warning:
        mean_average_precision(truth, detected, protocol=COCO)
    assert [w.message.kind for w in warning] == ["different-scales"]  # type: ignore[union-attr]


def test_targets_of_the_same_scale_are_not_warned_about() -> None:
    truth = [{"boxes": random_boxes(1.0, 2), "labels": np.ones(40, int)}]
    detected = [{"boxes": random_boxes(1.0), "labels": np.ones(40, int), "scores": np.ones(40)}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean_average_precision(truth, detected, protocol=COCO)
