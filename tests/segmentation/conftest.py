"""A checkpoint of a short training, which several tests look at."""

from pathlib import Path

import pytest

from upmap.segmentation.models import ModelOptions
from upmap.segmentation.train import train
from upmap.segmentation.training_options import TrainOptions


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    made = ModelOptions(width=4, depth=2)
    train(TrainOptions(epochs=1, batch_size=50, factor=0.5, model=made, out=str(out)))
    return out / "best.pt"
