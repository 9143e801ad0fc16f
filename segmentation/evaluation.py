"""Evaluates a model on a data set, in one confusion matrix on the model's device."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from upmap.kernels.upsample_ce import upsample_confusion
from upmap.metrics.semantic import IGNORED
from upmap.segmentation.models import Fcn, Unet
from upmap.segmentation.optimization import autocast

__all__ = ["as_input", "batch_items", "confusion_matrix", "evaluate_model", "logits_at", "resize"]

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pixels, as torchvision's weights expect
DEVIATION = (0.229, 0.224, 0.225)
Item = tuple[Tensor, Tensor]


def as_input(images: Tensor) -> Tensor:
    """A model's input, float32 [B, 3, H, W], from images uint8 [B, 3, H, W], RGB.

    >>> as_input(torch.full((1, 3, 1, 1), 124, dtype=torch.uint8)).abs().max() < 0.4
    tensor(True)
    """
    mean, deviation = (
        torch.tensor(values, device=images.device).reshape(3, 1, 1) for values in (MEAN, DEVIATION)
    )
    return (images.float() / 255 - mean) / deviation


def resize(images: Tensor, factor: float) -> Tensor:
    """Images float [B, 3, H, W] with sides scaled by `factor`, at least 1 px, antialiased."""
    if factor == 1:
        return images
    size = [max(1, round(factor * side)) for side in images.shape[2:]]
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True)


def logits_at(
    model: nn.Module, images: Tensor, *, factor: float = 1.0, precision: str = "fp32"
) -> Tensor:
    """A model's logits, float32 [B, K, H, W], at the size of the images.

    Args:
        model: Maps float [B, 3, h, w] to logits [B, K, h, w].
        images: uint8 [B, 3, H, W], on the model's device.
        factor: Scale of the images at the model's input.
        precision: A key of PRECISIONS.
    """
    with autocast(images.device, precision):
        logits: Tensor = model(resize(as_input(images), factor))
    size = (images.shape[2], images.shape[3])
    if logits.shape[2:] == images.shape[2:]:
        return logits.float()
    return functional.interpolate(logits.float(), size=size, mode="bilinear")


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """The confusion matrix, int64 [K, K], target by prediction, on the labels' device.

    Args:
        labels: integer [...], 0 .. K - 1 or IGNORED.
        predictions: integer [...], 0 .. K - 1.
        classes: K.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 255]), torch.tensor([0, 0, 1, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    counts = labels != IGNORED
    pairs = classes * labels[counts].long() + predictions[counts].long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


@torch.no_grad()
def evaluate_model(
    model: nn.Module,
    items: Iterable[Item],
    classes: int,
    *,
    device: torch.device,
    batch_size: int = 8,
    factor: float = 1.0,
    precision: str = "fp32",
) -> NDArray[np.int64]:
    """Evaluates a model on a data set: its confusion matrix, int64 [K, K], target by prediction.

    Args:
        model: See `logits_at`; in evaluation mode afterwards.
        items: (image uint8 [3, H, W], label uint8 [H, W]); neighbors of one size share a batch.
        classes: K.
        device: The device of the model.
        batch_size: Maximum number of images in a batch.
        factor: See `logits_at`.
        precision: See `logits_at`.
    """
    model.eval()
    # Counted on the device, so that only K x K numbers are copied to the CPU.
    total = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    for images, labels in batch_items(items, batch_size):
        logits = _low_resolution_logits(model, images.to(device), factor, precision)
        total += _batch_confusion(logits, labels.to(device))
    counts: NDArray[np.int64] = total.cpu().numpy()
    return counts


def _low_resolution_logits(
    model: nn.Module, images: Tensor, factor: float, precision: str
) -> Tensor:
    """Logits that, interpolated to the size of the images, are those of `logits_at`."""
    inputs = resize(as_input(images), factor)
    with autocast(images.device, precision):
        # With another factor, the model's interpolation to its input's size cannot be left out:
        # a second one, to the size of the images, follows it.
        is_single = factor == 1 and isinstance(model, (Unet, Fcn))
        logits: Tensor = model(inputs, full_size=False) if is_single else model(inputs)
    return logits.float()


def _batch_confusion(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[2:] == labels.shape[1:]:
        return confusion_matrix(labels, logits.argmax(1), logits.shape[1])
    return upsample_confusion(logits, labels, ignore_index=IGNORED)


def batch_items(items: Iterable[Item], batch_size: int) -> Iterator[Item]:
    """Stacks consecutive items of the same size: [B, 3, H, W] and [B, H, W].

    Args:
        items: (image [3, H, W], label [H, W]).
        batch_size: Maximum number of items in a batch.
    """
    batch: list[Item] = []
    for item in items:
        if batch and (len(batch) == batch_size or item[0].shape != batch[0][0].shape):
            yield _stack(batch)
            batch = []
        batch.append(item)
    if batch:
        yield _stack(batch)


def _stack(items: list[Item]) -> Item:
    return torch.stack([image for image, _ in items]), torch.stack([label for _, label in items])
