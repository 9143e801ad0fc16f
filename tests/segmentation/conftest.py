"""A checkpoint of a short training, for several tests."""

from pathlib import Path

import pytest

from upmap.segmentation.models import ModelOptions
from upmap.segmentation.train import train_model
from upmap.segmentation.training_options import TrainOptions


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    model = ModelOptions(width=4, depth=2)
    train_model(TrainOptions(epochs=1, batch_size=50, factor=0.5, model=model, out=str(out)))
    return out / "best.pt"
