"""Batches of a training: shuffled for each epoch, divided among processes, at the model's size."""

import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from upmap.segmentation.augmentation import Views
from upmap.segmentation.datasets import SegmentationDataset
from upmap.segmentation.device import names_gpu
from upmap.segmentation.evaluation import as_input, resize
from upmap.segmentation.label_scaling import resize_labels
from upmap.segmentation.processes import rank, world_size
from upmap.segmentation.seeds import derive_seed
from upmap.segmentation.training_options import TrainOptions

__all__ = ["count_workers", "load_parts", "scale_batch", "shuffle_batches"]

MAX_WORKERS = 8  # unless more are asked for


def shuffle_batches(count: int, options: TrainOptions, epoch: int) -> list[list[int]]:
    """The items of each step of an epoch; the last incomplete batch is dropped.

    Args:
        count: The number of items of the data set.
        options: The options; the seed and the batch size count.
        epoch: The epoch, from 0.
    """
    # A generator of its own: the order depends on no other random number.
    generator = torch.Generator().manual_seed(derive_seed(options.seed, epoch))
    order = torch.randperm(count, generator=generator).tolist()
    size = options.batch_size
    return [order[begin : begin + size] for begin in range(0, count - size + 1, size)]


def count_workers(options: TrainOptions) -> int:
    """How many processes load images: as asked for; else those that a GPU does not wait for.

    On a CPU they would take the cores from the model.
    """
    if options.workers is not None:
        return options.workers
    if not names_gpu(options.device):
        return 0
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(max(cores // world_size() - 1, 0), MAX_WORKERS)


def load_parts(
    dataset: SegmentationDataset, batches: list[list[int]], options: TrainOptions, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of every batch, in `accumulate` parts each.

    Args:
        dataset: The training split.
        batches: The items of each step, over all processes.
        options: The options.
        epoch: The epoch, from 0.

    Yields:
        Augmented images, uint8 [B, 3, h, w], and labels, uint8 [B, h, w].
    """
    shares = world_size() * options.accumulate
    # Part i of a step takes every `shares`-th image, so that all parts have the same size.
    own_shares = range(rank(), shares, world_size())
    parts = [batch[share::shares] for batch in batches for share in own_shares]
    views = Views(dataset, options.augmentation, seed=options.seed, epoch=epoch)
    # Page-locked memory is what a GPU copies from while it computes.
    loader = DataLoader(
        views,
        batch_sampler=parts,
        num_workers=count_workers(options),
        pin_memory=names_gpu(options.device),
    )
    return iter(loader)


def scale_batch(images: Tensor, labels: Tensor, options: TrainOptions) -> tuple[Tensor, Tensor]:
    """The model's inputs at `factor`, and labels at their size or at full size.

    Args:
        images: uint8 [B, 3, H, W].
        labels: uint8 [B, H, W].
        options: The options; factor, full_labels and channels_last count.

    Returns:
        float32 [B, 3, h, w], and uint8 [B, h, w] or, with full_labels, [B, H, W].
    """
    inputs = resize(as_input(images), options.factor)
    if options.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    if options.full_labels or inputs.shape[2:] == labels.shape[1:]:
        return inputs, labels
    return inputs, resize_labels(labels, (inputs.shape[2], inputs.shape[3]))
