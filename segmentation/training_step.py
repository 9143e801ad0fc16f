"""One step of a training: the gradient of a whole batch, in parts and over processes.

The loss is a function of sums over the pixels of the batch (`upmap.segmentation.losses`). Each part
adds the gradient of its own sums, weighted by the slope of the loss at the sums of the whole batch.
So the step is that of the whole batch, also where parts differ in ignored pixels and classes. Where
that slope depends on the logits, as for Dice, parts are computed twice, as by Gao et al., "Scaling
Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from upmap.segmentation.batches import scale_batch
from upmap.segmentation.losses import compute_slope, compute_sums, compute_value, sum_labels
from upmap.segmentation.optimization import autocast
from upmap.segmentation.processes import sum_over_processes, world_size
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.training_state import TrainingState

__all__ = ["take_step"]

LOWEST_SCALE = 1.0  # below it, scaling the loss cannot be why gradients overflow

Part = tuple[Tensor, Tensor]


def take_step(
    state: TrainingState,
    forward: nn.Module,
    parts: Iterator[Part],
    options: TrainOptions,
) -> float:
    """Takes one step over all parts of a batch.

    Args:
        state: The state; its counters of skipped steps and sums of the epoch are updated.
        forward: The model as it is called in training: compiled, distributed.
        parts: Images uint8 [B, 3, H, W] and labels uint8 [B, H, W]; `accumulate` are taken.
        options: The options.

    Returns:
        The loss of the batch over all processes; NaN if the step was skipped, because the loss or
        a gradient was not finite.
    """
    state.optimizer.zero_grad(set_to_none=True)
    # The same in all processes, which must agree on whether to skip: or weights would diverge.
    sums = _add_gradients(state, forward, [*islice(parts, options.accumulate)], options)
    value = compute_value(sums, options.loss)
    # The limit is one on the true gradients, not on scaled ones.
    state.scaler.unscale_(state.optimizer)
    limit = options.optimization.clip or math.inf
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), limit)
    # Both at once: fetching a number waits for a GPU.
    loss: float
    loss, size = torch.stack([value.detach().float(), norm.float()]).tolist()
    is_finite = math.isfinite(size) and math.isfinite(loss)
    # Under fp16 GradScaler.step skips gradients that are not finite by itself.
    if is_finite or state.scaler.is_enabled():
        state.scaler.step(state.optimizer)
    scale = 1.0 if is_finite else state.scaler.get_scale()  # fetching it waits, too
    state.scaler.update()
    if not is_finite:
        _count_skip(state, loss, scale)
        return math.nan
    state.skipped_in_a_row = 0
    state.epoch_sums.append(sums)
    if state.averaged is not None:
        state.averaged.update_parameters(state.model)
    return loss


def _count_skip(state: TrainingState, loss: float, scale: float) -> None:
    """Counts a skipped step, but not in a row while a smaller scale may still help."""
    state.skipped += 1
    # Scaling begins high and is halved by each overflow of a gradient: that is no divergence. A
    # loss that is itself not finite is one at any scale.
    is_start = state.scaler.is_enabled() and scale > LOWEST_SCALE and math.isfinite(loss)
    state.skipped_in_a_row += not is_start


def _add_gradients(
    state: TrainingState, forward: nn.Module, parts: Sequence[Part], options: TrainOptions
) -> Tensor:
    """Adds the gradients of all parts; returns the sums of the whole batch, float [S]."""
    whole = _sum_ahead(state, parts, options) if len(parts) > 1 else None
    total: Tensor | None = None
    for number, part in enumerate(parts, 1):
        with _synchronize(forward, only_if=number == len(parts)):
            sums = _sum_part(forward, part, state, options)
            total = sums.detach() if total is None else total + sums.detach()
            if whole is None:
                whole = sum_over_processes(total)
            # DistributedDataParallel takes the mean over processes where the sum is due.
            weighted = world_size() * (sums * compute_slope(whole, options.loss)).sum()
            state.scaler.scale(weighted).backward()  # type: ignore[no-untyped-call]
    assert total is not None
    return sum_over_processes(total)


def _synchronize(forward: nn.Module, *, only_if: bool) -> contextlib.AbstractContextManager[object]:
    """Leaves gradients to each process until the last part: they are exchanged once a step."""
    if only_if or not isinstance(forward, DistributedDataParallel):
        return contextlib.nullcontext()
    return forward.no_sync()


@torch.no_grad()
def _sum_ahead(state: TrainingState, parts: Sequence[Part], options: TrainOptions) -> Tensor:
    """The sums of the whole batch that the slope of the loss depends on, before any gradient."""
    device = next(state.model.parameters()).device
    sums = [
        sum_labels(_scale(part, device, options)[1], torch.float32, options.loss) for part in parts
    ]
    known = [part_sums for part_sums in sums if part_sums is not None]
    if len(known) < len(parts):
        # A forward pass in training mode moves running statistics: they are put back.
        buffers = [(buffer, buffer.clone()) for buffer in state.model.buffers()]
        known = [_sum_part(state.model, part, state, options) for part in parts]
        for buffer, before in buffers:
            buffer.copy_(before)
    return sum_over_processes(torch.stack(known).sum(0))


def _sum_part(
    forward: nn.Module, part: Part, state: TrainingState, options: TrainOptions
) -> Tensor:
    """The sums of one part of a batch, float [S], of this process."""
    device = next(state.model.parameters()).device
    inputs, targets = _scale(part, device, options)
    # Where sizes differ, the loss interpolates: the model must not do so before it.
    full_size = inputs.shape[2:] != targets.shape[1:]
    with autocast(device, options.optimization.precision):
        logits = forward(inputs, full_size=full_size)
    return compute_sums(logits, targets, options.loss)


def _scale(part: Part, device: torch.device, options: TrainOptions) -> Part:
    images, labels = part
    # Copies from page-locked memory do not wait for what the GPU still computes.
    images, labels = (tensor.to(device, non_blocking=True) for tensor in (images, labels))
    return scale_batch(images, labels, options)
