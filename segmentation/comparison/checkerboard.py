"""How much of a checkerboard an upsampling operator makes of an input that has none.

Source: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from upmap.segmentation.upsampling import Upsampler

__all__ = ["Checkerboard", "checkerboard"]

SIDE = 16  # features' px
MARGIN = 4  # features' px at each edge, which padding may reach


@dataclass(frozen=True, slots=True)
class Checkerboard:
    """Two scores of the same responses; both are 0 where every output pixel is treated alike.

    Attributes:
        pattern: The share of the energy at the stride's frequencies, 0 to 1: what is seen in a
            single channel. Independent random weights for each of the s^2 phases give
            1 - 1 / s^2; training can remove it.
        overlap: How unequally strong the s^2 phases are over all channels, standard deviation by
            mean: the part that the geometry of the operator makes, which stays at any weights
            drawn alike.
    """

    pattern: float
    overlap: float


@torch.no_grad()
def checkerboard(
    operator: Upsampler, generator: torch.Generator, *, draws: int = 64
) -> Checkerboard:
    """The scores of an operator as it is, on features that are constant over the image.

    The frequencies of stride s are those of a pattern that repeats every s pixels, so their energy
    is that of the means over each of the s^2 phases. What the operator makes of zeros is
    subtracted: a bias is no checkerboard, but would dilute one.

    Args:
        operator: The operator.
        generator: For the features, on the CPU.
        draws: How many features to try.
    """
    response = _response(operator, generator, draws)
    cells = response.reshape(*response.shape[:2], -1, operator.scale, SIDE, operator.scale)
    cells = cells[:, :, MARGIN:-MARGIN, :, MARGIN:-MARGIN]
    phases = cells.mean(dim=(2, 4))
    at_stride = phases.var(dim=(2, 3), correction=0).mean()
    power = cells.square().mean(dim=(0, 1, 2, 4))
    if not power.any():
        return Checkerboard(pattern=0.0, overlap=0.0)
    return Checkerboard(
        pattern=float(at_stride / power.mean()),
        overlap=float(power.std(correction=0) / power.mean()),
    )


def _response(operator: Upsampler, generator: torch.Generator, draws: int) -> Tensor:
    """What the operator adds to its response to zeros, float64 [draws, C, H, W]."""
    parameter = next(operator.parameters(), torch.zeros(()))
    shape = (draws, operator.channels, SIDE, SIDE)
    features = torch.randn(*shape[:2], 1, 1, generator=generator).expand(shape).to(parameter)
    size = (operator.scale * SIDE, operator.scale * SIDE)
    guide = None
    if operator.needs_indices:
        pooled = torch.randn(*shape[:2], *size, generator=generator)
        _, guide = functional.max_pool2d(pooled, operator.scale, return_indices=True)
        guide = guide.to(parameter.device)
    zeros = torch.zeros_like(features)
    outputs: Tensor = operator(features, size, guide) - operator(zeros, size, guide)
    return outputs.double()
