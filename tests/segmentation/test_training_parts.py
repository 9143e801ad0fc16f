"""Tests of the parts of a training: options, checkpoints, views, schedules and evaluation."""

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import Dataset

from upmap.detection import InputError
from upmap.metrics.semantic import IGNORED
from upmap.segmentation.augmentation import AugmentationOptions, Views
from upmap.segmentation.batches import MAX_WORKERS, count_workers, scale_batch
from upmap.segmentation.checkpoint import load_checkpoint, save_checkpoint
from upmap.segmentation.evaluation import as_input, confusion_matrix, evaluate_model, logits_at
from upmap.segmentation.label_scaling import resize_labels
from upmap.segmentation.optimization import (
    OptimizationOptions,
    autocast,
    build_optimizer,
    grad_scaler,
    learning_rate,
)
from upmap.segmentation.seeds import MAX_SEED, derive_seed
from upmap.segmentation.training_options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]

CHECKPOINT: dict[str, Any] = {
    "schema": 1,
    "program": "some.program",
    "options": {"a": 1, "b": [1.5, None]},
    "classes": ["x"],
    "palette": [[1, 2, 3]],
    "model": {"weight": torch.arange(3.0)},
}


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, CHECKPOINT)
    checkpoint = load_checkpoint(path)
    assert torch.equal(checkpoint.pop("model")["weight"], torch.arange(3.0))
    assert checkpoint == {key: value for key, value in CHECKPOINT.items() if key != "model"}


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, CHECKPOINT)
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, {**CHECKPOINT, "model": lambda: None})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, CHECKPOINT)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 50)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"last\.pt: not a checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint"),
        (b"\x89PNG\r\n", "not a checkpoint"),
        ({"model": {}}, "not a checkpoint of upmap: it has no schema, program"),
        ([1, 2], "not a checkpoint of upmap"),
        ({**CHECKPOINT, "schema": 9}, "a checkpoint of schema 9, expected 1"),
        (nn.Linear(1, 1), "not a checkpoint"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "last.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


class Numbered(Dataset[tuple[Tensor, Tensor]]):
    """Items whose labels show where each pixel comes from."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        label = (torch.arange(40 * 50).reshape(40, 50) % 200).to(torch.uint8)
        return label.expand(3, -1, -1) + item, label


PLAIN = AugmentationOptions(crop=(32, 32), color=0)


def test_a_view_depends_on_seed_epoch_and_item_alone() -> None:
    views = Views(Numbered(), PLAIN, seed=1, epoch=2)
    first = views[3]
    torch.rand(7)
    views[0]
    assert all(torch.equal(a, b) for a, b in zip(first, views[3], strict=True))
    for other in (
        Views(Numbered(), PLAIN, seed=2, epoch=2)[3],
        Views(Numbered(), PLAIN, seed=1, epoch=3)[3],
        views[4],
    ):
        assert not torch.equal(first[1], other[1])


def test_drawing_a_view_leaves_the_random_numbers_of_others_alone() -> None:
    before = torch.get_rng_state()
    Views(Numbered(), AugmentationOptions(), seed=1, epoch=2)[3]
    assert torch.equal(before, torch.get_rng_state())


def test_image_and_labels_are_moved_together() -> None:
    unscaled = AugmentationOptions(crop=(32, 32), color=0, smallest=1, largest=1)
    views = Views(Numbered(), unscaled, seed=0, epoch=0)
    for item in range(6):
        image, label = views[item]
        assert torch.equal(image, label.expand(3, -1, -1) + item)


def test_what_a_crop_adds_to_an_image_is_ignored() -> None:
    padded = AugmentationOptions(crop=(64, 64), color=0, smallest=1, largest=1)
    image, label = Views(Numbered(), padded, seed=0, epoch=0)[0]
    assert image.shape == (3, 64, 64)
    assert int((label == IGNORED).sum()) == 64 * 64 - 40 * 50
    assert (image[:, label == IGNORED] == 0).all()


def disk(side: int, center: tuple[float, float], radius: float) -> Tensor:
    y, x = (torch.arange(side, dtype=torch.float64)[:, None] - center[0],
            torch.arange(side, dtype=torch.float64) - center[1])  # fmt: skip
    return (y**2 + x**2 < radius**2).to(torch.uint8)


def centroid(mass: Tensor) -> Tensor:
    mass = mass.double()
    places = [torch.arange(n, dtype=torch.float64) + 0.5 for n in mass.shape]
    return torch.stack([(mass.sum(1) @ places[0]), (mass.sum(0) @ places[1])]) / mass.sum()


class Disks(Dataset[tuple[Tensor, Tensor]]):
    """White disks on black, with the class of white pixels."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(item)
        y, x, radius = torch.rand(3, generator=generator).tolist()
        label = disk(160, (60 + 40 * y, 60 + 40 * x), 15 + 30 * radius)
        return (255 * label).expand(3, -1, -1), label


@pytest.mark.parametrize(
    ("limits", "crop", "flip", "more"),
    [
        ((0.75, 1.5), (300, 300), 0.0, {}),
        ((0.75, 1.5), (300, 300), 1.0, {}),
        ((0.2, 0.5), (100, 90), 0.5, {}),
        ((2.0, 4.0), (800, 800), 0.5, {}),
        ((0.3, 3.0), (601, 603), 0.5, {}),
        ((1.0, 1.0), (161, 200), 1.0, {}),
        ((1.0, 1.0), (161, 200), 0.0, {"vertical_flip": 1.0}),
        ((1.0, 1.0), (161, 200), 0.0, {"rotation": 20.0}),
        ((0.75, 1.5), (300, 300), 0.5, {"vertical_flip": 0.5, "rotation": 180.0, "blur": 2.0}),
        ((1.0, 1.0), (161, 200), 0.0, {"blur": 4.0, "gamma": 0.5}),
    ],
    ids=str,
)
def test_labels_stay_above_their_pixels_in_any_view(
    limits: tuple[float, float], crop: tuple[int, int], flip: float, more: dict[str, float]
) -> None:
    low, high = limits
    options = AugmentationOptions(
        crop=crop,
        color=0,
        flip=flip,
        smallest=low,
        largest=high,
        **more,  # type: ignore[arg-type]
    )
    shifts = []
    for item in range(40):
        image, label = Views(Disks(), options, seed=item, epoch=0)[item]
        shifts.append(centroid(label == 1) - centroid(image[0]))
    # Half a pixel, or half a step of the scale, would be a shift by another rule than the image's.
    assert torch.stack(shifts).mean(0).abs().max() < 0.05
    assert torch.stack(shifts).abs().max() < 0.5


def view_of(image: Tensor, label: Tensor, seed: int = 0, **changes: Any) -> tuple[Tensor, Tensor]:
    """A view in which nothing changes but what `changes` say."""
    still = {"crop": (40, 40), "flip": 0.0, "smallest": 1.0, "largest": 1.0, "color": 0.0}
    options = AugmentationOptions(**(still | changes))
    (view,) = [Views([(image, label)], options, seed=seed, epoch=0)[0]]  # type: ignore[arg-type]
    return view


def test_a_vertical_flip_is_one() -> None:
    image, label = view_of(*crop_numbered(), vertical_flip=1.0)
    assert torch.equal(image, crop_numbered()[0].flip(1))
    assert torch.equal(label, crop_numbered()[1].flip(0))


def crop_numbered() -> tuple[Tensor, Tensor]:
    image, label = Numbered()[0]
    return image[:, :, :40], label[:, :40]


def test_what_a_rotation_leaves_without_image_is_black_and_ignored() -> None:
    image, label = view_of(torch.full((3, 40, 40), 255, dtype=torch.uint8),
                           torch.ones(40, 40, dtype=torch.uint8), rotation=45.0)  # fmt: skip
    assert 0 < int((label == IGNORED).sum()) < 800
    assert set(label.unique().tolist()) == {1, IGNORED}
    # Interpolated by at most a half across an edge, by at least a quarter inside of a corner.
    assert (image[:, label == IGNORED] <= 128).all()
    assert (image[:, label == 1] >= 63).all()
    assert (image[:, label == 1] >= 127).double().mean() > 0.99


@pytest.mark.parametrize("change", [{"gamma": 1.0}, {"blur": 2.0}, {"gamma": 0.5, "blur": 0.4}])
def test_gamma_and_blur_change_images_and_no_labels(change: dict[str, float]) -> None:
    image, label = crop_numbered()
    views = [view_of(image, label, seed, **change) for seed in range(8)]
    assert all(torch.equal(view[1], label) for view in views)
    # Some of them are so small that they change no pixel of 8 bits.
    assert len({view[0].numpy().tobytes() for view in views}) >= 6
    assert all(view[0].dtype == torch.uint8 for view in views)


def test_gamma_is_a_power_of_the_values_within_its_limits() -> None:
    image = torch.full((3, 40, 40), 128, dtype=torch.uint8)
    label = torch.zeros(40, 40, dtype=torch.uint8)
    exponents = [
        math.log(float(view_of(image, label, seed, gamma=1.0)[0][0, 0, 0]) / 255)
        / math.log(128 / 255)
        for seed in range(200)
    ]
    # 8 bits: half a step of 255 is 0.006 of an exponent of 2.
    assert 0.49 < min(exponents) < 0.55
    assert 1.85 < max(exponents) < 2.02


def test_a_blur_keeps_the_mean_of_values_and_has_its_width() -> None:
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    image[:, :, 20:] = 255
    blurred = view_of(image, torch.zeros(40, 40, dtype=torch.uint8), seed=3, blur=3.0)[0][0, 20]
    slope = blurred.double().diff()
    assert slope.min() >= 0
    places = torch.arange(39) - 19
    deviation = float(((slope * places**2).sum() / slope.sum()).sqrt())
    assert 0.1 < deviation <= 3.1


@pytest.mark.parametrize("factor", [0.25, 0.3, 0.5, 0.77, 1.0, 1.3, 2.0])
def test_labels_stay_above_their_pixels_at_any_factor(factor: float) -> None:
    options = TrainOptions(factor=factor, channels_last=False)
    shifts = []
    for item in range(20):
        image, label = Disks()[item]
        inputs, targets = scale_batch(image[None], label[None], options)
        white = inputs[0, 0] - inputs[0, 0].min()
        shifts.append(centroid(targets[0] == 1) - centroid(white))
    assert torch.stack(shifts).mean(0).abs().max() < 0.05
    assert torch.stack(shifts).abs().max() < 0.5


@given(
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 1000),
)
def test_a_scaled_label_is_the_most_frequent_of_the_nearest(
    sides: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    labels = torch.randint(0, 3, sides, generator=torch.Generator().manual_seed(seed))
    scaled = resize_labels(labels.to(torch.uint8), size)
    assert scaled.dtype == torch.uint8
    for i, j in torch.cartesian_prod(torch.arange(size[0]), torch.arange(size[1])).tolist():
        center = [
            Fraction(2 * k + 1, 2) * n / m for k, n, m in zip((i, j), sides, size, strict=False)
        ]
        nearest = [
            [k for k in range(n) if abs(k + Fraction(1, 2) - c) <= Fraction(1, 2)]
            for c, n in zip(center, sides, strict=False)
        ]
        votes = Counter(int(labels[y, x]) for y in nearest[0] for x in nearest[1])
        assert votes[int(scaled[i, j])] == max(votes.values())


@pytest.mark.parametrize("factor", [0.25, 0.5])
def test_scaled_labels_keep_the_areas_of_classes(factor: float) -> None:
    side = round(160 * factor)
    for background, color in ((0, 1), (1, 0)):
        areas = []
        for item in range(40):
            label = torch.where(Disks()[item][1] == 1, color, background)
            area = (resize_labels(label, (side, side)) == color).sum() / factor**2
            areas.append(float(area / (label == color).sum()))
        assert np.mean(areas) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.77, 1.3])
def test_logits_lie_above_the_pixels_that_they_come_from_at_any_factor(factor: float) -> None:
    class Brightness(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :1]

    for item in range(10):
        image, _ = Disks()[item]
        logits = logits_at(Brightness(), image[None], factor=factor)[0, 0]
        shift = centroid(logits - logits.min()) - centroid(image[0])
        assert shift.abs().max() < 0.05  # px


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_norms_and_biases_do_not_decay(name: str) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    first, second = build_optimizer(layers, OptimizationOptions(optimizer=name)).param_groups
    assert [p.ndim for p in first["params"]] == [4]
    assert [p.ndim for p in second["params"]] == [1, 1, 1]
    assert (first["weight_decay"], second["weight_decay"]) == (0.01, 0.0)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_the_learning_rate_warms_up_then_falls_as_its_schedule_says(schedule: str) -> None:
    chosen = OptimizationOptions(schedule=schedule, warmup=0.2, learning_rate=1.0)
    rates = [learning_rate(step, 10, chosen) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    expected = {"poly": 0.5**0.9, "cosine": 0.5, "constant": 1.0}
    assert rates[6] == pytest.approx(expected[schedule])


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_precision_is_what_convolutions_compute_in(precision: str, dtype: torch.dtype) -> None:
    device = torch.device("cpu")
    with autocast(device, precision):
        assert nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2)).dtype == dtype
    assert grad_scaler(device, precision).is_enabled() == (precision == "fp16")


def test_counting_skips_ignored_pixels_and_adds_up() -> None:
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.choice([0, 1, 2, IGNORED], (4, 9, 7)).astype(np.uint8))
    predictions = torch.from_numpy(rng.integers(0, 3, (4, 9, 7)))
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for target, prediction in zip(
        labels.flatten().tolist(), predictions.flatten().tolist(), strict=True
    ):
        if target != IGNORED:
            expected[target, prediction] += 1
    assert torch.equal(confusion_matrix(labels, predictions, 3), expected)
    assert torch.equal(
        sum(confusion_matrix(labels[i], predictions[i], 3) for i in range(4)), expected
    )


def test_a_models_confusion_does_not_depend_on_batches() -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 3, padding=1).eval()
    generator = torch.Generator().manual_seed(1)
    items = [
        (
            torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator),
            torch.randint(0, 4, size, dtype=torch.uint8, generator=generator),
        )
        for size in [(8, 9), (8, 9), (8, 9), (5, 7), (8, 9)]
    ]
    device = torch.device("cpu")
    single = evaluate_model(net, items, 4, device=device, batch_size=1)
    assert np.array_equal(evaluate_model(net, items, 4, device=device, batch_size=3), single)
    assert single.sum() == 4 * 72 + 35


def test_scores_are_at_the_images_size_whatever_the_model_sees() -> None:
    net = nn.Conv2d(3, 4, 3, padding=1)
    images = torch.zeros(2, 3, 9, 13, dtype=torch.uint8)
    assert logits_at(net, images, factor=0.5).shape == (2, 4, 9, 13)
    assert logits_at(net, images, precision="bf16").dtype == torch.float32


def test_inputs_have_the_mean_and_deviation_that_resnets_expect() -> None:
    image = torch.tensor([124, 116, 104], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert as_input(image).abs().max() < 0.02
    assert float(as_input(image + 58)[0, 0] - as_input(image)[0, 0]) == pytest.approx(
        58 / 255 / 0.229
    )


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (OptimizationOptions, {"optimizer": "lion"}, "optimizer must be one of adamw, adam, sgd"),
        (OptimizationOptions, {"schedule": "step"}, "schedule must be one of poly"),
        (
            OptimizationOptions,
            {"precision": "fp8"},
            "precision must be one of auto, fp32, bf16, fp16",
        ),
        (
            OptimizationOptions,
            {"learning_rate": -1.0},
            r"learning_rate must lie in \[0, 1000\], not -1",
        ),
        (OptimizationOptions, {"warmup": 1.0}, r"warmup must lie in \[0, 1\)"),
        (AugmentationOptions, {"crop": (0, 4)}, r"crop must lie in \[1, 16384\], not 0"),
        (AugmentationOptions, {"flip": 2.0}, "flip must lie in"),
        (AugmentationOptions, {"smallest": 2.0}, "smallest must be at most largest"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    kind: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**changes)


@given(
    first=st.tuples(st.integers(0, MAX_SEED), st.integers(0, 10**6 - 1), st.integers(0, 10**6 - 1)),
    second=st.tuples(
        st.integers(0, MAX_SEED), st.integers(0, 10**6 - 1), st.integers(0, 10**6 - 1)
    ),
)
def test_seeds_of_epochs_and_items_differ_and_generators_accept_them(
    first: tuple[int, int, int], second: tuple[int, int, int]
) -> None:
    for length in (2, 3):
        seeds = [derive_seed(*indices[:length]) for indices in (first, second)]
        assert all(torch.Generator().manual_seed(seed).initial_seed() == seed for seed in seeds)
    # Epochs and items below the multiplier: seed and epoch are the digits of a number.
    if first[:2] != second[:2]:
        assert derive_seed(*first[:2]) != derive_seed(*second[:2])


@pytest.mark.parametrize("text", ['" - at "', "1_000_003", "IGNORED = 255"])
def test_what_all_need_is_written_once(text: str) -> None:
    files = [*(ROOT / "upmap").glob("*.py"), *(ROOT / "metrics").rglob("*.py")]
    files += (ROOT / "segmentation").rglob("*.py")
    assert sum(file.read_text("utf-8").count(text) for file in files) == 1


@pytest.mark.parametrize(("cores", "expected"), [(1, 0), (4, 3), (64, MAX_WORKERS)])
def test_a_gpu_has_images_loaded_by_the_other_cores(
    cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert count_workers(TrainOptions(device="cuda")) == expected
    assert count_workers(TrainOptions(device="cpu")) == 0
    for device in ("cpu", "cuda"):
        assert count_workers(TrainOptions(device=device, workers=5)) == 5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_pixels_that_become_an_input_stay_as_they_are(dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8).to(dtype)
    before = images.clone()
    as_input(images)
    assert torch.equal(images, before)
