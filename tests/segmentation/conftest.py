"""A checkpoint of a short training, for several tests."""

from pathlib import Path

import pytest
import torch

from upmap.segmentation.checkpoint import load_checkpoint, save_checkpoint
from upmap.segmentation.datasets import open_dataset
from upmap.segmentation.evaluation import logits_at
from upmap.segmentation.inference import load_model
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.train import train_model
from upmap.segmentation.training_options import TrainOptions


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    model = ModelOptions(width=4, depth=2)
    train_model(TrainOptions(epochs=1, batch_size=50, factor=0.5, model=model, out=str(out)))
    return out / "best.pt"


@pytest.fixture(scope="session")
def varied_checkpoint(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose labels are of many classes: that of a short training sees background."""
    path = tmp_path_factory.mktemp("varied") / "best.pt"
    content, generator = load_checkpoint(checkpoint), torch.Generator().manual_seed(0)
    for value in content["model"].values():
        if value.ndim == 4:
            value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
    save_checkpoint(path, content)
    image = open_dataset("shapes", None, "test", count=1)[0][0]
    with torch.no_grad():
        logits = logits_at(load_model(path).model, image[None], factor=0.5)
    # Every class is as strong as the others, on average.
    head = [name for name, value in content["model"].items() if value.shape == (6,)][-1]
    content["model"][head] -= logits.mean((0, 2, 3))
    save_checkpoint(path, content)
    with torch.no_grad():
        labels = logits_at(load_model(path).model, image[None], factor=0.5).argmax(1)
    assert (labels.flatten().bincount(minlength=6) > 100).sum() >= 4
    return path
