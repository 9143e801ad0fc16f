"""The Lovasz-Softmax loss of single images: a convex extension of 1 - IoU to probabilities.

Source: Berman et al., "The Lovasz-Softmax Loss", CVPR 2018, equations 8 and 9 and algorithm 1,
their "per_image" and classes "present".
"""

import torch
from torch import Tensor
from torch.nn import functional

from upmap.metrics.semantic import IGNORED

__all__ = ["lovasz_softmax"]


def lovasz_softmax(probability: Tensor, labels: Tensor) -> Tensor:
    """The loss of each image, float [B]: the mean over the classes that its labels have.

    Args:
        probability: float [B, K, H, W], the softmax.
        labels: int64 [B, H, W], 0 .. K - 1, or IGNORED.

    Returns:
        0 for an image whose pixels are all ignored.

    >>> probability = torch.tensor([[[[0.75, 0.5]], [[0.25, 0.5]]]])
    >>> float(lovasz_softmax(probability, torch.tensor([[[0, 1]]])))
    0.4375
    """
    # Image by image: sorting all classes takes much memory.
    losses = [_image_loss(*image) for image in zip(probability, labels, strict=True)]
    return torch.stack(losses)


def _image_loss(probability: Tensor, labels: Tensor) -> Tensor:
    """The loss of one image, a scalar, of [K, H, W] and [H, W]."""
    counts = (labels != IGNORED).flatten()  # [P]
    target = functional.one_hot(labels.flatten().where(counts, 0), len(probability))
    target = target.transpose(0, 1).bool() & counts  # [K, P]
    errors = (target.to(probability.dtype) - probability.flatten(1)).abs()
    # The largest errors first; ignored pixels last, where they add nothing.
    order = errors.detach().where(counts, -1).argsort(dim=1, descending=True, stable=True)
    ordered = errors.where(counts, 0).gather(1, order)
    steps = _jaccard_steps(target.gather(1, order)).to(errors.dtype)
    present = target.any(dim=1)
    return (ordered * steps).sum(1).where(present, 0).sum() / present.sum().clamp(min=1)


def _jaccard_steps(target: Tensor) -> Tensor:
    """What each further wrong pixel adds to 1 - IoU, float64 [K, P].

    Args:
        target: bool [K, P], whether pixels are of the class, in the order in which they turn wrong.
    """
    total = target.sum(1, keepdim=True)
    intersection = total - target.cumsum(1, dtype=torch.int32)
    union = total + (~target).cumsum(1, dtype=torch.int32)
    jaccard = 1 - intersection.double() / union.clamp(min=1)
    return jaccard.diff(dim=1, prepend=torch.zeros_like(jaccard[:, :1]))
