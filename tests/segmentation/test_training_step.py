"""A step in parts, or over processes, is the step of the whole batch."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, multiprocessing, nn
from torch.utils._python_dispatch import TorchDispatchMode

from upmap.metrics.semantic import IGNORED
from upmap.segmentation import training_step
from upmap.segmentation.losses import LOSSES, LossOptions, compute_loss
from upmap.segmentation.models import ModelOptions
from upmap.segmentation.optimization import OptimizationOptions, build_optimizer, grad_scaler
from upmap.segmentation.processes import join_processes, leave_processes, rank, world_size
from upmap.segmentation.training_options import TrainOptions
from upmap.segmentation.training_state import TrainingState
from upmap.segmentation.training_step import take_step

K = 3
NAMES = sorted(LOSSES)
WEIGHTS = (0.25, 1.0, 8.0)
CPU = torch.device("cpu")


class Pixelwise(nn.Module):
    """Without batch normalization, so that only the loss can make parts differ from the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, K, 1)

    def forward(self, images: Tensor, *, full_size: bool = True) -> Tensor:
        logits: Tensor = self.conv(images)
        return logits


def make_batch(count: int, void: list[float], seed: int) -> tuple[Tensor, Tensor]:
    """Images of one dominant class each, with a share of void pixels that differs."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, K, (count, 8, 8), dtype=torch.uint8, generator=generator)
    for i in range(count):
        labels[i, : 4 + i % 4] = i % K
        labels[i][torch.rand(8, 8, generator=generator) < void[i % len(void)]] = IGNORED
    return images, labels


def make_options(**changes: Any) -> TrainOptions:
    optimization = OptimizationOptions(
        optimizer="sgd", learning_rate=1.0, weight_decay=0.0, clip=0.0, precision="fp32"
    )
    return TrainOptions(channels_last=False, optimization=optimization, **changes)


def make_state(model: nn.Module, options: TrainOptions) -> TrainingState:
    scaler = grad_scaler(CPU, options.optimization.precision)
    return TrainingState(model, None, build_optimizer(model, options.optimization), scaler)


def step(
    images: Tensor, labels: Tensor, options: TrainOptions, parts: int
) -> tuple[Tensor, float, TrainingState]:
    """The change of all weights, the loss, and the state after a step in parts."""
    torch.manual_seed(0)
    state = make_state(Pixelwise(), options)
    before = nn.utils.parameters_to_vector(state.model.parameters()).detach().clone()
    options = replace(options, batch_size=len(images), accumulate=parts)
    # As load_parts does it: part i has every `parts`-th image.
    pairs = iter([(images[i::parts], labels[i::parts]) for i in range(parts)])
    loss = take_step(state, state.model, pairs, options)
    after = nn.utils.parameters_to_vector(state.model.parameters()).detach()
    return after - before, loss, state


class Waits(TorchDispatchMode):
    """Counts the numbers that a program fetches: each waits for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


def test_a_step_fetches_the_loss_and_the_norm_at_once_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With sgd: AdamW counts steps in tensors of its own, which are on the CPU.
    images, labels = make_batch(4, [0.0], 0)
    options = make_options()
    options = replace(options, optimization=replace(options.optimization, clip=1.0))
    state = make_state(Pixelwise(), options)
    fetched: list[int] = []
    whole = Tensor.tolist
    with Waits() as waits:
        monkeypatch.setattr(Tensor, "tolist", lambda self: fetched.append(1) or whole(self))
        monkeypatch.setattr(Tensor, "cpu", lambda self: fetched.append(1) or self)
        take_step(state, state.model, iter([(images, labels)]), options)
    assert waits.count + len(fetched) == 1
    assert state.skipped == 0


LOSS_OPTIONS = [
    LossOptions(loss=name, class_weights=weights, label_smoothing=smoothing)
    for name in NAMES
    for weights in ((), WEIGHTS)
    for smoothing in (0.0, 0.1)
]


@pytest.mark.parametrize(
    "loss", LOSS_OPTIONS, ids=lambda o: f"{o.loss}-{bool(o.class_weights)}-{o.label_smoothing}"
)
@given(
    void=st.lists(st.sampled_from([0.0, 0.3, 0.9, 1.0]), min_size=1, max_size=4),
    parts=st.sampled_from([2, 3, 6]),
    seed=st.integers(0, 100),
)
@settings(max_examples=10, deadline=None)
def test_a_step_in_parts_is_that_of_the_whole_batch(
    loss: LossOptions, void: list[float], parts: int, seed: int
) -> None:
    images, labels = make_batch(6, void, seed)
    whole, whole_loss, _ = step(images, labels, make_options(loss=loss), 1)
    change, part_loss, _ = step(images, labels, make_options(loss=loss), parts)
    # The same sums in another order, float32.
    torch.testing.assert_close(change, whole, rtol=1e-4, atol=1e-6)
    assert part_loss == pytest.approx(whole_loss, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_is_that_of_the_loss_itself(loss: str, parts: int) -> None:
    images, labels = make_batch(4, [0.0, 0.9], 1)
    options = make_options(loss=LossOptions(loss=loss, class_weights=WEIGHTS))
    change, value, _ = step(images, labels, options, parts)
    torch.manual_seed(0)
    model = Pixelwise()
    expected = compute_loss(model(training_step._scale((images, labels), CPU, options)[0]), labels,
                            options.loss)  # fmt: skip
    expected.backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    # A step of SGD with rate 1 is the gradient; sums in another order, float32.
    torch.testing.assert_close(-change, gradient, rtol=1e-4, atol=1e-6)
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("loss", NAMES)
def test_running_statistics_move_once_for_each_part(loss: str) -> None:
    from upmap.segmentation.models import build_model

    images, labels = make_batch(4, [0.0], 2)
    counts = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = build_model(ModelOptions(classes=K, width=2, depth=1))
        options = make_options(loss=LossOptions(loss=loss), batch_size=4, accumulate=parts)
        pairs = iter([(images[i::parts], labels[i::parts]) for i in range(parts)])
        take_step(make_state(model, options), model.train(), pairs, options)
        counts.append([int(b) for n, b in model.named_buffers() if n.endswith("tracked")])
    assert counts[0] == [1] * len(counts[0])
    assert counts[1] == [2] * len(counts[1])


@pytest.mark.parametrize("full_labels", [False, True])
@pytest.mark.parametrize("loss", NAMES)
def test_parts_add_up_also_at_another_scale(loss: str, full_labels: bool) -> None:
    images, labels = make_batch(4, [0.0, 0.9], 3)
    options = make_options(loss=LossOptions(loss=loss), factor=0.5, full_labels=full_labels)
    whole, value, _ = step(images, labels, options, 1)
    change, part_value, _ = step(images, labels, options, 4)
    torch.testing.assert_close(change, whole, rtol=1e-4, atol=1e-6)  # sums in another order
    assert part_value == pytest.approx(value, rel=1e-5)


def step_in_process(number: int, folder: str, options: TrainOptions) -> None:
    """One of two processes, which has every second image of the batch."""
    import os

    from torch.nn.parallel import DistributedDataParallel

    os.environ |= {
        "RANK": str(number), "WORLD_SIZE": "2", "LOCAL_RANK": str(number),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text(),
    }  # fmt: skip
    torch.set_num_threads(1)
    join_processes()
    torch.manual_seed(0)
    state = make_state(Pixelwise(), options)
    images, labels = make_batch(8, [0.0, 0.95], 4)
    shares = world_size() * options.accumulate
    own = range(rank(), shares, world_size())
    pairs = iter([(images[i::shares], labels[i::shares]) for i in own])
    loss = take_step(state, DistributedDataParallel(state.model), pairs, options)
    vector = nn.utils.parameters_to_vector(state.model.parameters()).detach()
    torch.save((vector, loss), Path(folder) / f"{options.loss.loss}{rank()}.pt")
    leave_processes()


def find_port() -> int:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("loss", "parts"), [("cross_entropy", 2), ("cross_entropy+dice", 1), ("dice", 2)]
)
def test_two_processes_take_the_step_of_one(loss: str, parts: int, tmp_path: Path) -> None:
    weights = () if loss == "dice" else WEIGHTS
    options = make_options(
        loss=LossOptions(loss=loss, class_weights=weights), batch_size=8, accumulate=parts
    )
    (tmp_path / "port").write_text(str(find_port()))
    multiprocessing.spawn(step_in_process, (str(tmp_path), options), nprocs=2)  # type: ignore[attr-defined]
    first, second = (torch.load(tmp_path / f"{loss}{i}.pt") for i in range(2))
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
    torch.manual_seed(0)
    state = make_state(Pixelwise(), options)
    whole = iter([make_batch(8, [0.0, 0.95], 4)])
    value = take_step(state, state.model, whole, replace(options, accumulate=1))
    expected = nn.utils.parameters_to_vector(state.model.parameters()).detach()
    torch.testing.assert_close(first[0], expected, rtol=1e-4, atol=1e-6)  # sums in another order
    assert first[1] == pytest.approx(value, rel=1e-5)


def overflow(times: int, *, in_loss: bool) -> Callable[..., Tensor]:
    """A loss whose gradient, or which itself, is infinite for some steps."""
    calls = [0]
    untouched = training_step.compute_sums

    def compute(logits: Tensor, *more: Any) -> Tensor:
        calls[0] += 1
        sums = untouched(logits, *more)
        if calls[0] > times:
            return sums
        if in_loss:
            return sums * math.inf
        result: Tensor = _Overflow.apply(sums)  # type: ignore[no-untyped-call]
        return result

    return compute


class _Overflow(torch.autograd.Function):
    """The identity, with an infinite gradient, as in float16 beyond 65504."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * math.inf


@pytest.mark.parametrize(("in_loss", "in_a_row"), [(False, 0), (True, 12)])
def test_overflows_do_not_count_while_their_scale_still_falls(
    in_loss: bool, in_a_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_step, "compute_sums", overflow(12, in_loss=in_loss))
    options = make_options()
    options = replace(options, optimization=replace(options.optimization, precision="fp16"))
    torch.manual_seed(0)
    state = make_state(Pixelwise(), options)
    for _ in range(12):
        assert math.isnan(take_step(state, state.model, iter([make_batch(2, [0.0], 5)]), options))
    assert state.scaler.get_scale() == 2.0**4  # 2^16, halved twelve times
    assert (state.skipped, state.skipped_in_a_row) == (12, in_a_row)
    take_step(state, state.model, iter([make_batch(2, [0.0], 5)]), options)
    assert state.skipped_in_a_row == 0


def test_overflows_count_once_their_scale_cannot_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "compute_sums", overflow(20, in_loss=False))
    options = make_options()
    options = replace(options, optimization=replace(options.optimization, precision="fp16"))
    state = make_state(Pixelwise(), options)
    for _ in range(20):
        take_step(state, state.model, iter([make_batch(2, [0.0], 5)]), options)
    assert (state.skipped, state.skipped_in_a_row) == (20, 4)  # 16 steps from 2^16 down to 1
