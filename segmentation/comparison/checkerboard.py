"""Measures the checkerboard that an upsampling operator adds to a constant input, and its gain.

Source: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.
"""

import math
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from upmap.segmentation.upsampling import Upsampler

__all__ = ["Checkerboard", "measure_checkerboard", "measure_model"]

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
        gain: Root mean square of the output by that of the features; 1 for interpolation. Operators
            that start with unlike gains start unlike trainings.
    """

    pattern: float
    overlap: float
    gain: float


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
    features = _constant_features(operator, generator, draws)
    response = _response(operator, features, generator)
    # [draws, C, cell row, phase row, cell column, phase column].
    cells = response.reshape(*response.shape[:2], -1, operator.scale, SIDE, operator.scale)
    cells = cells[:, :, MARGIN:-MARGIN, :, MARGIN:-MARGIN]
    phases = cells.mean(dim=(2, 4))
    at_stride = phases.var(dim=(2, 3), correction=0).mean()
    power = cells.square().mean(dim=(0, 1, 2, 4))
    if not power.any():
        return Checkerboard(pattern=0.0, overlap=0.0, gain=0.0)
    return Checkerboard(
        pattern=float(at_stride / power.mean()),
        overlap=float(power.std(correction=0) / power.mean()),
        gain=math.sqrt(power.mean() / features.double().square().mean()),
    )


def measure_model(model: nn.Module, generator: torch.Generator) -> Checkerboard:
    """The mean of the measures of all upsampling operators of a model.

    Args:
        model: The model, with at least one operator.
        generator: See `measure_checkerboard`.
    """
    operators = [module for module in model.modules() if isinstance(module, Upsampler)]
    measures = [asdict(measure_checkerboard(operator, generator)) for operator in operators]
    keys = [field.name for field in fields(Checkerboard)]
    return Checkerboard(**{key: sum(m[key] for m in measures) / len(measures) for key in keys})


def _constant_features(operator: Upsampler, generator: torch.Generator, draws: int) -> Tensor:
    """Random features that are constant over the image, [draws, C, SIDE, SIDE]."""
    parameter = next(operator.parameters(), torch.zeros(()))
    shape = (draws, operator.channels, SIDE, SIDE)
    return torch.randn(*shape[:2], 1, 1, generator=generator).expand(shape).to(parameter)


def _response(operator: Upsampler, features: Tensor, generator: torch.Generator) -> Tensor:
    """The output for features less that for zeros, float64 [draws, C, H, W]."""
    size = (operator.scale * SIDE, operator.scale * SIDE)
    guide = None
    if operator.needs_indices:
        # Any indices that a pooling can have.
        pooled = torch.randn(*features.shape[:2], *size, generator=generator)
        _, guide = functional.max_pool2d(pooled, operator.scale, return_indices=True)
        guide = guide.to(features.device)
    zeros = torch.zeros_like(features)
    outputs: Tensor = operator(features, size, guide) - operator(zeros, size, guide)
    return outputs.double()
