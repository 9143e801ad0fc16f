"""Measures the checkerboard that an upsampling operator adds to a constant input.

Source: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from upmap.segmentation.upsampling import Upsampler

__all__ = ["Checkerboard", "measure_checkerboard"]

SIDE = 16  # of the features, px
MARGIN = 4  # px of the features at each edge, which padding may affect


@dataclass(frozen=True, slots=True)
class Checkerboard:
    """Two scores of an operator; both are 0 if all output pixels are computed alike.

    A phase is the set of output pixels at the same place in their s x s block.

    Attributes:
        pattern: Share of the energy at the frequencies of stride s, 0 to 1, mean over channels.
            Independent random weights for each of the s^2 phases give 1 - 1 / s^2; training can
            remove it.
        overlap: Standard deviation by mean of the power of the s^2 phases, summed over channels:
            the part that the geometry of the operator causes, whatever its random weights.
    """

    pattern: float
    overlap: float


@torch.no_grad()
def measure_checkerboard(
    operator: Upsampler, generator: torch.Generator, *, draws: int = 64
) -> Checkerboard:
    """Measures an operator on features that are constant over the image.

    The frequencies of stride s are those of a pattern that repeats every s pixels, so their energy
    is that of the means over each of the s^2 phases. The output for zeros is subtracted first: a
    bias is no checkerboard, but would dilute one.

    Args:
        operator: The operator, with its present weights.
        generator: Draws the features, on the CPU.
        draws: Number of random features.
    """
    response = _response(operator, generator, draws)
    # [draws, C, cell row, phase row, cell column, phase column].
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
    """The output for random features less that for zeros, float64 [draws, C, H, W]."""
    parameter = next(operator.parameters(), torch.zeros(()))
    shape = (draws, operator.channels, SIDE, SIDE)
    features = torch.randn(*shape[:2], 1, 1, generator=generator).expand(shape).to(parameter)
    size = (operator.scale * SIDE, operator.scale * SIDE)
    guide = None
    if operator.needs_indices:
        # Any indices that a pooling can have.
        pooled = torch.randn(*shape[:2], *size, generator=generator)
        _, guide = functional.max_pool2d(pooled, operator.scale, return_indices=True)
        guide = guide.to(parameter.device)
    zeros = torch.zeros_like(features)
    outputs: Tensor = operator(features, size, guide) - operator(zeros, size, guide)
    return outputs.double()
