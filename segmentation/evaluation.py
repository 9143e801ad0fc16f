"""Evaluates a model on a data set, in one confusion matrix on the model's device.

Memory is bounded by `MAX_BATCH_PIXELS` and by the size of a window, whatever the size of images:
those that are larger than a window are evaluated window by window, as prediction labels them.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from upmap.kernels.upsample_ce import upsample_confusion
from upmap.metrics.semantic import IGNORED
from upmap.progress import track_progress
from upmap.segmentation.models import Fcn, Unet
from upmap.segmentation.optimization import autocast
from upmap.segmentation.tiling import (
    DEFAULT_OVERLAP,
    DEFAULT_WINDOW,
    Size,
    blend_windows,
    count_windows,
)

__all__ = ["as_input", "batch_items", "confusion_matrix", "evaluate_model", "logits_at", "resize"]

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pixels, as torchvision's weights expect
DEVIATION = (0.229, 0.224, 0.225)
MAX_BATCH_PIXELS = (
    DEFAULT_WINDOW * DEFAULT_WINDOW
)  # at the model's input, unless one image has more
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
    inputs = _arrange(resize(as_input(images), factor))
    with autocast(images.device, precision):
        logits: Tensor = model(inputs)
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
    window: Size | None = (DEFAULT_WINDOW, DEFAULT_WINDOW),
    overlap: float = DEFAULT_OVERLAP,
    show_progress: bool = False,
) -> NDArray[np.int64]:
    """Evaluates a model on a data set: its confusion matrix, int64 [K, K], target by prediction.

    Args:
        model: See `logits_at`; in evaluation mode afterwards.
        items: (image uint8 [3, H, W], label uint8 [H, W]); neighbors of one size share a batch.
        classes: K.
        device: The device of the model.
        batch_size: Maximum number of images in a batch; of large images there are fewer.
        factor: See `logits_at`.
        precision: See `logits_at`.
        window: Maximum height and width, px, of images that are evaluated whole, and of the windows
            of larger ones; None evaluates all of them whole.
        overlap: Minimum share of a window that its neighbor covers, too.
        show_progress: Whether to draw a progress bar over the windows of a large image.
    """
    model.eval()
    # Counted on the device, so that only K x K numbers are copied to the CPU.
    total = torch.zeros(classes, classes, dtype=torch.int64, device=device)

    def look(images: Tensor) -> Tensor:
        return logits_at(model, images.to(device), factor=factor, precision=precision)

    for images, labels in batch_items(items, batch_size, factor):
        windows = count_windows((images.shape[2], images.shape[3]), window, overlap)
        if windows == 1:
            logits = _low_resolution_logits(model, images.to(device), factor, precision)
            total += _batch_confusion(logits, labels.to(device))
            continue
        for image, label in zip(images, labels, strict=True):
            blocks = blend_windows(look, image, window=window, overlap=overlap)
            for block in track_progress(blocks, "windows", total=windows, show=show_progress):
                target = label[block.rows, block.columns].to(device)
                total += confusion_matrix(target, block.logits.argmax(0), classes)
    counts: NDArray[np.int64] = total.cpu().numpy()
    return counts


def _low_resolution_logits(
    model: nn.Module, images: Tensor, factor: float, precision: str
) -> Tensor:
    """Logits that, interpolated to the size of the images, are those of `logits_at`."""
    inputs = _arrange(resize(as_input(images), factor))
    with autocast(images.device, precision):
        # With another factor, the model's interpolation to its input's size cannot be left out:
        # a second one, to the size of the images, follows it.
        is_single = factor == 1 and isinstance(model, (Unet, Fcn))
        logits: Tensor = model(inputs, full_size=False) if is_single else model(inputs)
    return logits.float()


def _arrange(inputs: Tensor) -> Tensor:
    """Inputs in the memory format that convolutions of images are fastest with."""
    if inputs.device.type != "cpu":
        return inputs
    return inputs.contiguous(memory_format=torch.channels_last)


def _batch_confusion(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[2:] == labels.shape[1:]:
        return confusion_matrix(labels, logits.argmax(1), logits.shape[1])
    return upsample_confusion(logits, labels, ignore_index=IGNORED)


def batch_items(items: Iterable[Item], batch_size: int, factor: float = 1.0) -> Iterator[Item]:
    """Stacks consecutive items of the same size: [B, 3, H, W] and [B, H, W].

    Args:
        items: (image [3, H, W], label [H, W]).
        batch_size: Maximum number of items in a batch; there are fewer of large images.
        factor: Scale of the images at the model's input.
    """
    batch: list[Item] = []
    for item in items:
        pixels = item[1].numel() * factor**2
        limit = min(batch_size, max(1, int(MAX_BATCH_PIXELS // pixels)))
        if batch and (len(batch) >= limit or item[0].shape != batch[0][0].shape):
            yield _stack(batch)
            batch = []
        batch.append(item)
    if batch:
        yield _stack(batch)


def _stack(items: list[Item]) -> Item:
    if len(items) == 1:  # without a copy, which may be large
        return items[0][0][None], items[0][1][None]
    return torch.stack([image for image, _ in items]), torch.stack([label for _, label in items])
