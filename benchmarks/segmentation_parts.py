"""One part of a training, timed: run by bench_segmentation, in the environment of either arm.

It uses nothing but names of upmap that both commits have. Files: argument 1 is the part, argument 2
a folder in the layout of `camvid`, argument 3 takes the seconds, argument 4 the digest of all that
was computed.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253  # a program, which nothing imports

from upmap.segmentation.augmentation import AugmentationOptions, Views
from upmap.segmentation.batches import load_parts
from upmap.segmentation.comparison.scoring import score_model
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.optimization import OptimizationOptions
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.training_state import create_state
from upmap.segmentation.training_step import take_step

__all__ = ["PARTS", "main"]

BATCH = 8
VIEWS, STEPS, SCORED = 96, 8, 24  # timed, after WARM of each
WARM = 2


def main(arguments: list[str]) -> None:
    """Runs a part once, and writes what it took."""
    part, root, report, digest = arguments
    torch.set_num_threads(1)
    _write_report(PARTS[part](_options(root)), Path(report), Path(digest))


def _write_report(run: Iterator[Any], report: Path, digest: Path) -> None:
    for _ in range(WARM):
        next(run)
    wall, cpu = time.perf_counter(), time.process_time()
    results = [*run]
    report.write_text(f"{time.perf_counter() - wall!r} {time.process_time() - cpu!r}")
    content = hashlib.sha256()
    for tensors in results:
        for tensor in tensors:
            content.update(np.ascontiguousarray(tensor).data)
    digest.write_text(content.hexdigest())


def _options(root: str) -> TrainOptions:
    """Those of segmentation/configs/camvid.toml."""
    return TrainOptions(
        dataset="camvid",
        root=root,
        batch_size=BATCH,
        factor=0.5,
        ema=0.99,
        model=ModelOptions(width=16, depth=4, classes=11),
        augmentation=AugmentationOptions(crop=(360, 480), smallest=0.75, largest=1.5),
        optimization=OptimizationOptions(learning_rate=3e-3, precision="bf16"),
    )


def _load(options: TrainOptions) -> Iterator[Any]:
    """Random views of images, one by one."""
    dataset = open_dataset("camvid", options.root, "train")
    views = Views(dataset, options.augmentation, seed=0, epoch=0)
    items = islice(cycle(range(len(dataset))), WARM + VIEWS)
    return ([tensor.numpy() for tensor in views[item]] for item in items)


def _train(options: TrainOptions) -> Iterator[Any]:
    """Steps on batches that are loaded already; the weights after each."""
    dataset = open_dataset("camvid", options.root, "train")
    items = list(islice(cycle(range(len(dataset))), BATCH * (WARM + STEPS)))
    batches = [items[first : first + BATCH] for first in range(0, len(items), BATCH)]
    parts = [*load_parts(dataset, batches, options, 0)]
    state = create_state(options, torch.device("cpu"))
    state.model.train()
    for part in parts:
        take_step(state, state.model, iter([part]), options)
        yield [parameter.detach().numpy().copy() for parameter in state.model.parameters()]


def _score(options: TrainOptions) -> Iterator[Any]:
    """The scores of a model on test images, as a comparison has them."""
    model = create_state(options, torch.device("cpu")).model.eval()
    for count in (1, 1, SCORED):
        dataset = open_dataset("camvid", options.root, "test", count=count)
        scores = score_model(model, dataset, options)
        yield scores.confusion, scores.regions, scores.boundaries, scores.errors


PARTS: dict[str, Callable[[TrainOptions], Iterator[Any]]] = {
    "load": _load,
    "train": _train,
    "score": _score,
}

if __name__ == "__main__":
    main(sys.argv[1:])
