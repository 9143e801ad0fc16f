"""Tests of the scores of models and of label maps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from upmap.metrics.semantic import boundary_counts, boundary_iou
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.evaluate import main
from upmap.segmentation.evaluation import evaluate_model
from upmap.segmentation.inference import load_model
from upmap.segmentation.predict import main as predict
from upmap.segmentation.predictor import predict_labels

ROOT = Path(__file__).resolve().parents[2]
COUNT = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a split of drawn shapes, with void."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    dataset = open_dataset("shapes", None, "test", count=COUNT)
    for i in range(COUNT):
        image, label = dataset[i]
        label[:5] = 255
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "images" / f"{i}.png")
        Image.fromarray(label.numpy()).save(folder / "labels" / f"{i}.png")
    (folder / "test.txt").write_text("".join(f"{i}\n" for i in range(COUNT)))
    description = {"classes": list(dataset.classes), "ignore_index_in_files": 255}
    (folder / "classes.json").write_text(json.dumps(description))
    return folder


def evaluate(tmp_path: Path, *arguments: object) -> dict:
    path = tmp_path / "scores.json"
    assert main([*map(str, arguments), "--json", str(path)]) == 0
    report: dict = json.loads(path.read_text())
    return report


def test_a_model_and_its_labels_have_the_same_scores(
    varied_checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--root", data, "--split", "test")
    of_model = evaluate(tmp_path, varied_checkpoint, *flags)
    shown = capsys.readouterr().out
    out = tmp_path / "out"
    assert predict(list(map(str, (varied_checkpoint, data / "images", "--out", out)))) == 0
    of_labels = evaluate(tmp_path, out, *flags)
    classes = ",".join(of_model["classes"])
    of_folders = evaluate(tmp_path, out, data / "labels", "--classes", classes)
    names = {*of_model} - {"options", "split"}
    assert len(names) > 10
    for name in names:
        assert of_model[name] == of_labels[name] == of_folders[name], name
    assert f"{of_model['miou']:.4f}" in shown
    assert of_model["split"] == f"{COUNT} images of test"


def test_scores_are_those_of_scikit_learn_and_of_the_metrics(
    varied_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    report = evaluate(tmp_path, varied_checkpoint, "--root", data)
    dataset, trained = open_dataset("folder", data, "test"), load_model(varied_checkpoint)
    count = len(dataset.classes)
    truth, labels, boundaries = [], [], np.zeros((count, 2), np.int64)
    for i in range(COUNT):
        image, label = dataset[i]
        prediction = predict_labels(trained.model, image, factor=trained.factor).numpy()
        boundaries += boundary_counts(label.numpy(), prediction, count)
        truth.append(label.numpy().ravel())
        labels.append(prediction.ravel())
    target, predicted = np.concatenate(truth), np.concatenate(labels)
    is_counted = target != 255
    expected = jaccard_score(
        target[is_counted], predicted[is_counted], average=None, labels=range(count)
    )
    np.testing.assert_allclose(report["iou"], expected, rtol=1e-12)
    expected_boundary = [None if np.isnan(v) else v for v in boundary_iou(boundaries)]
    assert report["boundary_iou"] == expected_boundary
    assert sum(map(sum, report["confusion"])) == is_counted.sum() == sum(report["pixels"])


def test_ids_without_names_are_counted(data: Path, tmp_path: Path) -> None:
    report = evaluate(tmp_path, data / "labels", data / "labels")
    largest = max(
        id_ for path in (data / "labels").iterdir() for id_ in np.unique(Image.open(path))
        if id_ != 255
    )  # fmt: skip
    assert report["classes"] == [str(i) for i in range(largest + 1)]
    assert report["miou"] == 1
    assert report["pixel_accuracy"] == 1


def write_labels(folder: Path, **maps: np.ndarray) -> Path:
    for name, labels in maps.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
    return folder


SQUARE = np.zeros((10, 10), np.uint8)


def test_labels_of_no_image_are_named_and_scores_beside_labels_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_labels(tmp_path / "truth", a=SQUARE)
    labels = write_labels(tmp_path / "labels", a=SQUARE, a_scores=SQUARE, b=SQUARE)
    assert main([str(labels), str(truth)]) == 0
    captured = capsys.readouterr()
    assert "labels of no image of the truth: b\n" in captured.err
    assert "n/a" not in captured.out


@pytest.mark.parametrize(
    ("predicted", "truth", "flags", "message"),
    [
        ({"b": SQUARE}, {"a": SQUARE}, [], "no labels a.png (1 of 1 missing)"),
        ({"a": SQUARE[:5]}, {"a": SQUARE}, [], "a: target is the truth:"),
        ({"a": SQUARE + 3}, {"a": SQUARE}, [], "prediction must lie in 0 .. 0, not 3"),
        ({"a": SQUARE}, {"a": SQUARE + 2}, ["--classes", "x,y"], "target must lie in 0 .. 1"),
        ({"a": SQUARE}, {"a": SQUARE + 255}, [], "all labels are void"),
        ({"a": SQUARE}, {}, [], "no labels (.png) in it"),
        ({"a": SQUARE}, {"a": SQUARE}, ["--classes", "x,x"], "classes must be different"),
        ({"a": SQUARE}, {"a": SQUARE}, ["--root", "x"], "--root: the truth is a folder"),
        ({"a": SQUARE}, {"a": SQUARE}, ["--json", "truth/a.png"], "--json would overwrite"),
    ],
)
def test_what_cannot_be_scored_is_one_line_and_exit_2(
    predicted: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth").mkdir()
    write_labels(tmp_path / "labels", **predicted)
    write_labels(tmp_path / "truth", **truth)
    assert main(["labels", "truth", *flags]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_model_of_other_classes_is_refused(
    varied_checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("images", "labels", "test.txt"):
        (other / name).symlink_to(data / name)
    description = json.loads((data / "classes.json").read_text())
    description["classes"].reverse()
    (other / "classes.json").write_text(json.dumps(description))
    assert main([str(varied_checkpoint), "--root", str(other)]) == 2
    assert "class 0 is 'background' for the model" in capsys.readouterr().err
    assert main([str(varied_checkpoint), str(data / "labels")]) == 2
    assert "class" in capsys.readouterr().err


@pytest.mark.parametrize("window", [(64, 64), (90, 50)])
def test_evaluation_by_windows_is_that_of_prediction_by_windows(
    window: tuple[int, int], varied_checkpoint: Path
) -> None:
    from upmap.segmentation.evaluation import confusion_matrix

    trained, dataset = load_model(varied_checkpoint), open_dataset("shapes", None, "test", count=4)
    settings = {"window": window, "factor": trained.factor}
    device = torch.device("cpu")
    counts = evaluate_model(trained.model, dataset, 6, device=device, **settings)
    total = torch.zeros(6, 6, dtype=torch.int64)
    for i in range(len(dataset)):
        image, label = dataset[i]
        total += confusion_matrix(label, predict_labels(trained.model, image, **settings), 6)
    np.testing.assert_array_equal(counts, total.numpy())
    whole = evaluate_model(trained.model, dataset, 6, device=device, factor=trained.factor)
    assert (whole != counts).any()  # windows end in padding, so they cannot be equal


MEMORY = """
import resource, sys
import numpy as np, torch
from upmap.segmentation.evaluation import evaluate_model
from upmap.segmentation.predictor import predict_labels

def peak():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss / {"linux": 1, "darwin": 1024}[sys.platform]

model, size = torch.nn.Conv2d(3, 40, 1), (2000, 3000)
model(torch.zeros(1, 3, 64, 64))
image, label = torch.ones(3, *size, dtype=torch.uint8), torch.ones(size, dtype=torch.uint8)
before, settings = peak(), {"window": (256, 256)}
evaluate_model(model, [(image, label)], 40, device=torch.device("cpu"), **settings)
predict_labels(model, image, **settings)
print(peak() - before)
"""


def test_the_memory_of_large_images_is_that_of_windows() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEMORY]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # kB: what rows of windows share has 40 x 64 x 3000 logits, 31 MB, and the labels have 6 MB.
    # The logits of the whole image would be 960 MB.
    assert float(result.stdout) < 200_000


def test_batches_are_bounded_in_pixels_at_the_size_of_the_models_input() -> None:
    from upmap.segmentation.evaluation import MAX_BATCH_PIXELS

    seen = []

    class Model(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.shape)
            return super().forward(images)

    model = Model(3, 2, 1)
    items = [(torch.zeros(3, 384, 768, dtype=torch.uint8), torch.zeros(384, 768).byte())] * 5
    for factor in (1.0, 0.5):
        seen.clear()
        evaluate_model(model, items, 2, device=torch.device("cpu"), factor=factor, batch_size=9)
        assert sum(shape[0] for shape in seen) == 5
        sizes = [shape[0] * shape[2] * shape[3] for shape in seen]
        assert max(sizes) <= MAX_BATCH_PIXELS
        assert len(seen) == (3 if factor == 1 else 1)
