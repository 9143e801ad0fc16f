"""A training that is killed at random moments, while it computes or writes, goes on bit for bit."""

import csv
import json
import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from upmap.segmentation.checkpoint import load_checkpoint
from upmap.segmentation.train import main


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of eight small images, so that an epoch takes a fraction of a second."""
    root = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        names = [f"{split}{i}" for i in range(count)]
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            label = np.repeat(rng.integers(0, 2, 16).astype(np.uint8)[:, None], 24, axis=1)
            image = rng.integers(0, 60, (16, 24, 3)) + 150 * label[:, :, None]
            cv2.imwrite(str(root / "images" / f"{name}.png"), image.astype(np.uint8))
            cv2.imwrite(str(root / "labels" / f"{name}.png"), label)
    (root / "classes.json").write_text(json.dumps({"classes": ["dark", "bright"]}))
    return root


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(
    kills: int, stripes: Path, tmp_path: Path
) -> None:
    whole, killed = (_words(stripes, tmp_path / name, 4 * kills) for name in ("whole", "killed"))
    assert main(whole) == 0
    seconds = [float(row["seconds"]) for row in _read_history(tmp_path / "whole")]
    moments, epochs = random.Random(kills), []
    for _ in range(kills):
        # In an epoch, in the writing of its files, or before the first one.
        more, delay = moments.randrange(4), moments.uniform(0, float(np.median(seconds)))
        epochs.append(_kill([*killed, "--resume"], tmp_path / "killed", more, delay))
    print("epochs after each kill:", *epochs)
    assert epochs == sorted(epochs)
    assert epochs[-1] > 0
    assert epochs[0] < len(seconds)
    assert main([*killed, "--resume"]) == 0
    assert _read_results(tmp_path / "killed") == _read_results(tmp_path / "whole")


def _words(root: Path, out: Path, epochs: int) -> list[str]:
    return [
        *("--dataset", "folder", "--root", str(root), "--out", str(out), "--device", "cpu"),
        *("--epochs", str(epochs), "--batch-size", "2", "--augmentation.crop", "[16, 24]"),
        *("--model.width", "4", "--model.depth", "2", "--threads", "1", "--ema", "0.9"),
    ]


def _kill(words: list[str], out: Path, more: int, delay: float) -> int:
    """Kills a training, `delay` seconds after `more` further epochs; returns how many it has."""
    # Forked from a process that has imported all, so that kills are not spent on imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["upmap.segmentation.train"])
    epochs = len(_read_history(out)) + more
    process = context.Process(target=main, args=(words,))
    process.start()
    until = time.monotonic() + 120
    while process.is_alive() and len(_read_history(out)) < epochs and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode in (-signal.SIGKILL, 0)  # 0: it was done
    return len(_read_history(out))


def _read_history(out: Path) -> list[dict[str, str]]:
    path = out / "history.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _read_results(out: Path) -> Any:
    """What a training has written, without times and the folder's name, tensors as bytes."""
    history = [row | {"seconds": ""} for row in _read_history(out)]
    checkpoints = [_flatten(load_checkpoint(out / name)) for name in ("best.pt", "last.pt")]
    return history, checkpoints


def _flatten(value: Any) -> Any:
    if isinstance(value, dict):
        ignored = ("seconds", "out", "resume")
        return {key: _flatten(item) for key, item in value.items() if key not in ignored}
    if isinstance(value, list | tuple):
        return [_flatten(item) for item in value]
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), list(value.shape), value.numpy().tobytes())
    return value
