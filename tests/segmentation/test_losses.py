"""Tests of losses, against torch and against the formulas; ignored pixels do not count."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from upmap.metrics.semantic import IGNORED
from upmap.segmentation.losses import (
    LOSSES,
    LossOptions,
    compute_loss,
    cross_entropy,
    dice,
    focal,
    resolve_class_weights,
)

K = 5
WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)
NAMES = sorted(LOSSES)


def batch(dtype: torch.dtype = torch.float64, ignored: bool = True) -> tuple[Tensor, Tensor]:
    """Logits [2, K, 7, 5] and labels [2, 7, 5], a third of them ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, K, 7, 5, generator=generator)).to(dtype)
    labels = torch.randint(0, K, (2, 7, 5), generator=generator)
    if ignored:
        labels[torch.rand(2, 7, 5, generator=generator) < 1 / 3] = IGNORED
    return logits, labels


def gradient(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    logits = logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(compute_loss(logits, labels, options), logits)
    return slope


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_cross_entropy_and_its_gradient_equal_torchs(
    weights: tuple[float, ...], smoothing: float, ignored: bool
) -> None:
    logits, labels = batch(ignored=ignored)
    options = LossOptions(class_weights=weights, label_smoothing=smoothing)
    logits.requires_grad_()
    expected = functional.cross_entropy(
        logits,
        labels,
        weight=torch.tensor(weights, dtype=torch.float64) if weights else None,
        ignore_index=IGNORED,
        label_smoothing=smoothing,
    )
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    # The same sums in another order, float64.
    torch.testing.assert_close(cross_entropy(logits, labels, options), expected)
    torch.testing.assert_close(gradient(logits.detach(), labels, options), expected_gradient)


def dice_by_loops(logits: Tensor, labels: Tensor) -> float:
    """V-Net's formula, a pixel at a time."""
    coefficients = []
    for label in range(logits.shape[1]):
        intersection = predicted = target = 0.0
        for image, row, column in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
            pixel = int(labels[image, row, column])
            if pixel == IGNORED:
                continue
            powers = [math.exp(logit) for logit in logits[image, :, row, column].tolist()]
            probability = powers[label] / sum(powers)
            predicted += probability
            target += pixel == label
            intersection += probability * (pixel == label)
        coefficients.append((2 * intersection + 1) / (predicted + target + 1))
    return 1 - sum(coefficients) / len(coefficients)


@pytest.mark.parametrize("ignored", [False, True])
def test_dice_equals_the_written_out_formula(ignored: bool) -> None:
    logits, labels = batch(ignored=ignored)
    loss = float(dice(logits, labels, LossOptions()))
    assert loss == pytest.approx(dice_by_loops(logits, labels), rel=1e-12)  # float64, ~50 sums


def test_dice_of_two_pixels_by_hand() -> None:
    logits = torch.zeros(1, 2, 1, 2)  # probability 1/2 everywhere, both pixels of class 0
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    # (2 x 1 + 1) / (1 + 2 + 1) and 1 / (1 + 0 + 1)
    assert float(dice(logits, labels, LossOptions())) == 1 - (3 / 4 + 1 / 2) / 2


def test_dice_of_what_is_found_exactly_is_0() -> None:
    _, labels = batch(ignored=False)
    labels[labels == 3] = 2  # a class that is nowhere and found nowhere
    logits = 1e3 * functional.one_hot(labels, K).permute(0, 3, 1, 2).double()
    assert float(dice(logits, labels, LossOptions())) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_right_in_float64(name: str) -> None:
    logits, labels = batch()
    options = LossOptions(loss=name, class_weights=WEIGHTS, label_smoothing=0.1, dice_weight=0.5)
    few = logits[:, :, :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda logits: compute_loss(logits, labels[:, :2, :3], options), (few,)
    )


@pytest.mark.parametrize("name", [name for name in NAMES if "+" in name])
def test_the_sum_is_the_sum(name: str) -> None:
    logits, labels = batch()
    options = LossOptions(class_weights=WEIGHTS, dice_weight=0.25, lovasz_weight=0.5)
    first, second = (
        compute_loss(logits, labels, replace(options, loss=part)) for part in name.split("+")
    )
    weight = 0.25 if name.endswith("dice") else 0.5
    expected = first + weight * second
    assert torch.equal(compute_loss(logits, labels, replace(options, loss=name)), expected)


def focal_by_loops(logits: Tensor, labels: Tensor, gamma: float) -> float:
    """The paper's equation 5, a pixel at a time, with WEIGHTS as alpha."""
    losses = weights = 0.0
    for image, row, column in torch.cartesian_prod(*map(torch.arange, labels.shape)).tolist():
        pixel = int(labels[image, row, column])
        if pixel == IGNORED:
            continue
        powers = [math.exp(logit) for logit in logits[image, :, row, column].tolist()]
        probability = powers[pixel] / sum(powers)
        losses -= WEIGHTS[pixel] * (1 - probability) ** gamma * math.log(probability)
        weights += WEIGHTS[pixel]
    return losses / weights


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_loss_equals_the_written_out_formula(gamma: float) -> None:
    logits, labels = batch()
    options = LossOptions(class_weights=WEIGHTS, focal_gamma=gamma)
    loss = float(focal(logits, labels, options))
    # float64; 1 - p loses digits where p is close to 1
    assert loss == pytest.approx(focal_by_loops(logits, labels, gamma), rel=1e-10)


def test_focal_loss_without_gamma_is_cross_entropy() -> None:
    logits, labels = batch()
    options = LossOptions(class_weights=WEIGHTS, focal_gamma=0.0)
    expected = cross_entropy(logits, labels, options)
    torch.testing.assert_close(focal(logits, labels, options), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 16.0])
def test_the_gradient_of_the_focal_loss_is_finite_where_pixels_are_certain(gamma: float) -> None:
    labels = torch.tensor([[[0, 1]]])
    logits = torch.tensor([[[[1e4, 1e4]], [[-1e4, -1e4]]]])  # right, and wrong
    options = LossOptions(loss="focal", focal_gamma=gamma)
    assert gradient(logits, labels, options).isfinite().all()


def lovasz_by_sets(logits: Tensor, labels: Tensor) -> float:
    """Equation 8 with the sets of wrong pixels themselves, an image and a class at a time."""
    losses = []
    for image, label in zip(logits.softmax(1), labels, strict=True):
        pixels = (label != IGNORED).nonzero().tolist()
        classes = []
        for k in {int(label[row, column]) for row, column in pixels}:
            mask = {(r, c) for r, c in pixels if int(label[r, c]) == k}
            errors = {(r, c): abs(((r, c) in mask) - float(image[k, r, c])) for r, c in pixels}
            wrong: set[tuple[int, int]] = set()
            loss = before = 0.0
            for pixel in sorted(errors, key=errors.__getitem__, reverse=True):
                wrong.add(pixel)
                now = 1 - len(mask - wrong) / len(mask | wrong)  # 1 - IoU with these mistakes
                loss += errors[pixel] * (now - before)
                before = now
            classes.append(loss)
        losses.append(sum(classes) / len(classes))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("ignored", [False, True])
def test_lovasz_equals_the_written_out_formula(ignored: bool) -> None:
    logits, labels = batch(ignored=ignored)
    labels[1][labels[1] == 3] = 2  # a class that one image has, and the other not
    loss = float(compute_loss(logits, labels, LossOptions(loss="lovasz")))
    assert loss == pytest.approx(lovasz_by_sets(logits, labels), rel=1e-12)  # float64, ~50 sums


def test_lovasz_of_certain_predictions_is_1_minus_the_mean_iou_of_present_classes() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 1]]])
    predicted = torch.tensor([[[0, 0, 1, 1, 2]]])
    logits = 1e4 * functional.one_hot(predicted, 3).permute(0, 3, 1, 2).double()
    loss = float(compute_loss(logits, labels, LossOptions(loss="lovasz")))
    assert loss == pytest.approx(1 - (2 / 3 + 1 / 3) / 2, rel=1e-12)  # float64


def test_images_of_ignored_pixels_do_not_count_in_lovasz() -> None:
    logits, labels = batch()
    options = LossOptions(loss="lovasz")
    loss = compute_loss(logits[:1], labels[:1], options)
    labels[1] = IGNORED
    assert torch.equal(compute_loss(logits, labels, options), loss)


def test_automatic_class_weights_give_rare_classes_more() -> None:
    options = resolve_class_weights(LossOptions(class_weights="auto"), [900, 90, 10, 0])
    expected = [1 / math.log(1.02 + share) for share in (0.9, 0.09, 0.01)]
    assert options.class_weights == (*expected, 0.0)
    same = LossOptions(class_weights=(1.0, 2.0))
    assert resolve_class_weights(same, [5, 5]) is same


def test_automatic_class_weights_are_no_numbers_yet() -> None:
    logits, labels = batch()
    with pytest.raises(ValueError, match="class_weights are auto: resolve_class_weights"):
        compute_loss(logits, labels, LossOptions(class_weights="auto"))


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_change_nothing(name: str) -> None:
    logits, labels = batch()
    options = LossOptions(loss=name, class_weights=WEIGHTS, label_smoothing=0.1)
    ignored = (labels == IGNORED).unsqueeze(1)
    changed = logits.where(~ignored, 7 * logits + 1)
    assert torch.equal(
        compute_loss(changed, labels, options), compute_loss(logits, labels, options)
    )
    slope = gradient(logits, labels, options)
    assert not slope.masked_select(ignored).any()
    assert slope.masked_select(~ignored).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_labels_has_no_loss_and_no_gradient(name: str, dtype: torch.dtype) -> None:
    logits = torch.full((2, K, 7, 5), 6e4, dtype=dtype)  # whose sum float16 cannot hold
    labels = torch.full((2, 7, 5), IGNORED)
    options = LossOptions(loss=name, label_smoothing=0.1)
    assert float(compute_loss(logits, labels, options)) == 0
    assert torch.equal(gradient(logits, labels, options), torch.zeros_like(logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_where_only_classes_of_weight_zero_are_present_there_is_no_loss(smoothing: float) -> None:
    logits, labels = batch()
    labels[labels != IGNORED] = 2
    options = LossOptions(class_weights=WEIGHTS, label_smoothing=smoothing)
    assert float(compute_loss(logits, labels, options)) == 0
    assert not gradient(logits, labels, options).any()


@pytest.mark.parametrize("name", NAMES)
def test_logits_that_are_not_numbers_show_in_the_loss(name: str) -> None:
    logits, labels = batch(ignored=False)
    logits[0, 0, 0, 0] = math.nan
    assert compute_loss(logits, labels, LossOptions(loss=name)).isnan()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("name", NAMES)
def test_labels_may_be_of_any_integer_type(name: str, dtype: torch.dtype) -> None:
    logits, labels = batch()
    options = LossOptions(loss=name, class_weights=WEIGHTS)
    assert torch.equal(
        compute_loss(logits, labels.to(dtype), options), compute_loss(logits, labels, options)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_logits_of_half_precision_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    logits, labels = batch(dtype)
    options = LossOptions(loss=name, class_weights=WEIGHTS, label_smoothing=0.1)
    loss = compute_loss(logits, labels, options)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, compute_loss(logits.float(), labels, options))
    slope = gradient(logits, labels, options)
    assert torch.equal(slope, gradient(logits.float(), labels, options).to(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: str) -> None:
    logits, labels = batch(torch.bfloat16)
    options = LossOptions(loss=name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = compute_loss(logits, labels, options)
    assert torch.equal(loss, compute_loss(logits, labels, options))


@pytest.mark.parametrize("name", NAMES)
def test_the_channels_last_layout_gives_the_same(name: str) -> None:
    logits, labels = batch()
    options = LossOptions(loss=name, class_weights=WEIGHTS)
    again = logits.contiguous(memory_format=torch.channels_last)
    # The same sums in another order, float64.
    torch.testing.assert_close(
        compute_loss(again, labels, options), compute_loss(logits, labels, options)
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_images_does_not_matter(name: str) -> None:
    logits, labels = batch()
    options = LossOptions(loss=name, class_weights=WEIGHTS)
    loss = compute_loss(logits.flip(0), labels.flip(0), options)
    torch.testing.assert_close(loss, compute_loss(logits, labels, options))  # as above


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of cross_entropy, dice, .*, not 'hinge'"),
        ({"label_smoothing": 1.5}, r"label_smoothing must lie in \[0, 1\], not 1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing must lie in"),
        ({"label_smoothing": math.nan}, "label_smoothing must lie in"),
        ({"class_weights": (1.0, -2.0)}, "class_weights must lie in .*, not -2.0"),
        ({"class_weights": (1.0, math.nan)}, "class_weights must lie in .*, not nan"),
        ({"class_weights": (1.0, math.inf)}, "class_weights must lie in .*, not inf"),
        ({"class_weights": "median"}, "class_weights must lie in .*, not 'median'"),
        ({"dice_weight": -1.0}, "dice_weight must lie in .*, not -1.0"),
        ({"focal_gamma": -1.0}, "focal_gamma must lie in .*, not -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossOptions(**options)


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy+dice", "focal", "focal+lovasz"])
def test_class_weights_must_be_one_for_each_class(name: str) -> None:
    logits, labels = batch()
    options = LossOptions(loss=name, class_weights=(1.0, 2.0))
    for targets in (labels, torch.full_like(labels, IGNORED)):
        with pytest.raises(ValueError, match="expected 5 class_weights, got 2"):
            compute_loss(logits, targets, options)


@pytest.mark.parametrize("wrong", [-1, K, 200, 256])
@pytest.mark.parametrize("name", NAMES)
def test_a_label_out_of_range_is_refused_as_torch_does(name: str, wrong: int) -> None:
    logits, labels = batch()
    labels[0, 0, 0] = wrong
    for options in (
        LossOptions(loss=name),
        LossOptions(loss=name, class_weights=WEIGHTS),
    ):
        for smoothing in (0.0, 0.1):
            with pytest.raises((IndexError, RuntimeError)):
                compute_loss(logits, labels, replace(options, label_smoothing=smoothing))


@pytest.mark.parametrize("name", NAMES)
def test_labels_that_do_not_fit_the_logits_are_refused(name: str) -> None:
    logits, labels = batch()
    for wrong, shape in (
        (labels[:1], r"int64 \[1, 7, 5\]"),  # which torch would repeat for both images
        (labels.unsqueeze(1), r"int64 \[2, 1, 7, 5\]"),
        (labels.float(), r"float32 \[2, 7, 5\]"),
    ):
        with pytest.raises(ValueError, match=rf"labels must be integer \[2, H, W\], not {shape}"):
            compute_loss(logits, wrong, LossOptions(loss=name))


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("classes", [2, 5])
def test_a_loss_over_smaller_logits_is_that_of_upsampled_ones(kind: str, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 5, 7, generator=generator)
    labels = torch.randint(0, classes, (2, 21, 27), generator=generator).to(torch.uint8)
    labels[0, :4] = IGNORED
    weights = tuple(0.5 + i for i in range(classes))
    options = LossOptions(loss=kind, label_smoothing=0.1, class_weights=weights)
    gradients = []
    for is_fused in (True, False):
        leaf = logits.clone().requires_grad_()
        seen = leaf if is_fused else functional.interpolate(leaf, size=(21, 27), mode="bilinear")
        value = compute_loss(seen, labels, options)
        value.backward()
        gradients.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_an_unknown_implementation_is_named() -> None:
    with pytest.raises(ValueError, match="magic"):
        LossOptions(impl="magic")
