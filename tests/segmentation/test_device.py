"""Where a training computes, and how its batches come there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from upmap.segmentation import batches
from upmap.segmentation.device import configure_gpu, describe_gpu, names_gpu
from upmap.segmentation.training_options import TrainOptions


@pytest.fixture
def untouched() -> Iterator[None]:
    """Puts torch's settings back."""
    backends = torch.backends.cudnn, torch.backends.cudnn, torch.backends.cuda.matmul
    names = ("benchmark", "allow_tf32", "allow_tf32")
    before = [getattr(*pair) for pair in zip(backends, names, strict=True)]
    yield
    for backend, name, value in zip(backends, names, before, strict=True):
        setattr(backend, name, value)


@pytest.mark.parametrize(
    ("device", "is_pinned"), [("cpu", False), ("cuda", True), ("cuda:1", True)]
)
def test_batches_for_a_gpu_are_in_page_locked_memory(
    device: str, is_pinned: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaders: list[dict[str, Any]] = []

    def load(views: Any, **settings: Any) -> list[Any]:
        loaders.append(settings)
        return []

    monkeypatch.setattr(batches, "DataLoader", load)
    options = TrainOptions(device=device, out=str(tmp_path))
    batches.load_parts(None, [[0, 1]], options, 0)  # type: ignore[arg-type]
    assert [each["pin_memory"] for each in loaders] == [is_pinned]


@pytest.mark.parametrize("is_there", [False, True])
def test_auto_names_a_gpu_where_there_is_one(
    is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert names_gpu("auto") is is_there


@pytest.mark.usefixtures("untouched")
def test_settings_of_a_gpu_do_not_depend_on_what_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = True
    configure_gpu(torch.device("cpu"))
    assert torch.backends.cuda.matmul.allow_tf32
    configure_gpu(torch.device("cuda"))
    described = describe_gpu(torch.device("cuda"))
    assert described["gpu"] == "a GPU"
    settings = [described[name] for name in ("cudnn_benchmark", "cudnn_tf32", "matmul_tf32")]
    assert settings == ["True", "True", "False"]
    assert describe_gpu(torch.device("cpu")) == {}
