"""Upsampling and cross-entropy fused, against torch's two steps and the truth in float64."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from upmap.kernels.upsample_ce import (
    FEW_CLASSES,
    IMPLEMENTATIONS,
    _select_for,
    fused_native,
    upsample_argmax,
    upsample_confusion,
    upsample_cross_entropy,
)
from upmap.kernels.upsample_ce.contract import Settings

SHAPES = [  # N, C, h, w, H, W
    (2, 19, 37, 53, 150, 211),
    (2, 2, 8, 8, 32, 32),
    (1, 1, 5, 5, 9, 13),
    (2, 7, 20, 20, 10, 7),
    (1, 5, 1, 1, 7, 6),
    (1, 150, 9, 11, 36, 44),
    (1, 33, 6, 6, 6, 6),
]
SETTINGS = [*product((False, True), ((0.0, False), (0.1, True)))]
SINGLE = 2e-6  # of a loss: some ulps of logits up to 10, and sums over 150 classes
SUMMED = 1e-6  # of the largest gradient: a sum over some hundred pixels, in another order


@pytest.fixture(params=["native", "chunked"])
def impl(request: pytest.FixtureRequest) -> str:
    if IMPLEMENTATIONS[request.param] is None:
        pytest.skip(f"{request.param} is not available here: python -m upmap.kernels says why")
    return str(request.param)


def problem(shape: tuple[int, ...], labels: torch.dtype = torch.uint8) -> tuple[Tensor, ...]:
    """Logits, target with ignored pixels, weights, and a gradient of losses."""
    N, C, h, w, H, W = shape
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(N, C, h, w, generator=generator)
    target = torch.randint(0, C, (N, H, W), generator=generator)
    target[torch.rand(N, H, W, generator=generator) < 0.1] = 255
    weight, gradient = torch.rand(C, generator=generator), torch.rand(N, H, W, generator=generator)
    return logits, target.to(labels), weight, gradient


def torch_losses(
    logits: Tensor, target: Tensor, weight: Tensor | None, align_corners: bool, smoothing: float
) -> Tensor:
    scores = functional.interpolate(
        logits, size=target.shape[1:], mode="bilinear", align_corners=align_corners
    )
    weight = None if weight is None else weight.to(scores.dtype)
    return functional.cross_entropy(
        scores,
        target.long(),
        weight=weight,
        ignore_index=255,
        label_smoothing=smoothing,
        reduction="none",
    )


def with_gradient(losses: Any, logits: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    found = losses(leaf)
    found.backward(gradient.to(found.dtype))
    assert leaf.grad is not None
    return found.detach().double(), leaf.grad.double()


@pytest.mark.parametrize(("align_corners", "case"), SETTINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_further_from_the_truth_than_torch(
    shape: tuple[int, ...], align_corners: bool, case: tuple[float, bool], impl: str
) -> None:
    smoothing, is_weighted = case
    logits, target, weights, gradient = problem(shape)
    weight = weights if is_weighted else None

    def two_steps(leaf: Tensor) -> Tensor:
        return torch_losses(leaf, target, weight, align_corners, smoothing)

    def fused(leaf: Tensor) -> Tensor:
        return upsample_cross_entropy(
            leaf,
            target,
            align_corners=align_corners,
            weight=weight,
            label_smoothing=smoothing,
            reduction="none",
            impl=impl,
        )

    truth = with_gradient(two_steps, logits.double(), gradient)
    base = with_gradient(two_steps, logits, gradient)
    found = with_gradient(fused, logits, gradient)
    for true, theirs, ours in zip(truth, base, found, strict=True):
        allowed = SINGLE + SUMMED * true.abs().max()
        assert (ours - true).abs().max() <= (theirs - true).abs().max() + allowed


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_differs_only_by_what_the_logits_and_gradients_are_rounded_to(
    kind: torch.dtype, impl: str
) -> None:
    logits, target, _, gradient = problem((2, 19, 12, 13, 50, 49))
    rounded = logits.to(kind)
    truth = with_gradient(
        lambda leaf: torch_losses(leaf, target, None, False, 0), rounded.double(), gradient
    )
    leaf = rounded.clone().requires_grad_()
    found = upsample_cross_entropy(leaf, target, reduction="none", impl=impl)
    assert found.dtype == torch.float32  # sums stay in float32
    found.backward(gradient)
    assert leaf.grad is not None
    assert leaf.grad.dtype == kind
    assert (found - truth[0]).abs().max() < 5 * SINGLE
    allowed = torch.finfo(kind).eps * truth[1].abs() + 1e-5
    assert ((leaf.grad.double() - truth[1]).abs() <= allowed).all()


@pytest.mark.parametrize("implementation", ["chunked", "reference"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_gradients_are_those_of_differences(implementation: str, align_corners: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.randint(0, 4, (2, 7, 10), generator=generator)
    target[0, :3] = 255
    weight = torch.rand(4, generator=generator, dtype=torch.float64)

    def losses(leaf: Tensor) -> Tensor:
        return upsample_cross_entropy(
            leaf,
            target,
            weight=weight,
            label_smoothing=0.2,
            align_corners=align_corners,
            impl=implementation,
        )

    assert torch.autograd.gradcheck(losses, (logits,))


@pytest.mark.parametrize("labels", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reductions_and_labels_of_any_integer_are_as_torch_has_them(
    labels: torch.dtype, reduction: Any, impl: str
) -> None:
    logits, target, weight, _ = problem((2, 19, 12, 13, 50, 49), labels)
    found = upsample_cross_entropy(
        logits, target, weight=weight, label_smoothing=0.1, reduction=reduction, impl=impl
    )
    scores = functional.interpolate(logits.double(), size=(50, 49), mode="bilinear")
    wanted = functional.cross_entropy(
        scores,
        target.long(),
        weight=weight.double(),
        ignore_index=255,
        label_smoothing=0.1,
        reduction=reduction,
    )
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)


def test_a_batch_without_labels_has_no_mean_and_no_gradient(impl: str) -> None:
    logits, target, _, _ = problem((2, 5, 4, 4, 8, 8))
    leaf = logits.requires_grad_()
    found = upsample_cross_entropy(leaf, target.fill_(255), impl=impl)
    assert found.isnan()  # as torch has it
    found.backward()
    assert leaf.grad is not None
    assert not leaf.grad.any()


def test_channels_last_is_as_good_as_contiguous(impl: str) -> None:
    logits, target, _, _ = problem((2, 19, 12, 13, 50, 49))
    last = logits.to(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    one, other = (upsample_cross_entropy(each, target, impl=impl) for each in (logits, last))
    assert one == other


def test_two_runs_are_the_same_in_every_bit(impl: str) -> None:
    logits, target, weight, gradient = problem((3, 19, 37, 53, 150, 211))

    def losses(leaf: Tensor) -> Tensor:
        return upsample_cross_entropy(leaf, target, weight=weight, reduction="none", impl=impl)

    first, second = (with_gradient(losses, logits, gradient) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.fixture
def native() -> Iterator[Any]:
    if fused_native is None:
        pytest.skip("the native kernel is not built: python -m upmap.kernels says why")
    threads = torch.get_num_threads()
    yield fused_native
    torch.set_num_threads(threads)
    fused_native.INSTRUCTION_SET = ""


def test_threads_do_not_change_a_bit(native: Any) -> None:
    logits, target, weight, gradient = problem((3, 19, 37, 53, 150, 211))
    settings, found = Settings(weight, False, 255, 0.1), []
    for threads in (1, 2, 7):
        torch.set_num_threads(threads)
        losses, totals = native.forward(logits, target, settings)
        found.append((losses, native.backward(gradient, totals, logits, target, settings)))
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_native_code_computes_with_as_many_threads_as_torch(
    threads: int, native: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            untouched = getattr(original, name)

            def call(*arguments: Any) -> Any:
                numbers.append(arguments[-2])
                return untouched(*arguments)

            return call

    original = native.native
    monkeypatch.setattr(native, "native", Spy())
    torch.set_num_threads(threads)
    logits, target, weight, gradient = problem((1, 5, 4, 4, 8, 8))
    settings = Settings(weight, False, 255, 0.1)
    _, totals = native.forward(logits, target, settings)
    native.backward(gradient, totals, logits, target, settings)
    native.argmax(logits, (8, 8), False)
    native.confusion(logits, target, False, 255)
    assert numbers == 4 * [threads]


@pytest.mark.parametrize("name", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("classes", [2, 7, 19])
def test_every_instruction_set_computes_the_same(name: str, classes: int, native: Any) -> None:
    try:
        native.native.instruction_set(name)
    except ValueError:
        pytest.skip(f"this processor has no {name}")
    logits, target, weight, gradient = problem((2, classes, 9, 14, 31, 40))
    wanted = with_gradient(
        lambda leaf: torch_losses(leaf, target, weight, False, 0.1), logits.double(), gradient
    )
    native.INSTRUCTION_SET = name
    assert native.native.instruction_set(name) == name
    losses, totals = native.forward(logits, target, Settings(weight, False, 255, 0.1))
    found = native.backward(gradient, totals, logits, target, Settings(weight, False, 255, 0.1))
    torch.testing.assert_close(losses.double(), wanted[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.double(), wanted[1], rtol=1e-5, atol=1e-5)


def test_large_and_infinite_logits_are_as_torch_has_them(impl: str) -> None:
    logits = torch.tensor([1e4, -1e4, 0.0, 90.0, -200.0]).reshape(1, 5, 1, 1)
    target = torch.arange(5, dtype=torch.uint8).reshape(1, 1, 5)
    found = upsample_cross_entropy(logits, target, reduction="none", impl=impl)
    torch.testing.assert_close(found, torch_losses(logits, target, None, False, 0))
    logits[0, 0] = torch.nan
    assert upsample_cross_entropy(logits, target, reduction="none", impl=impl).isnan().all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
def test_the_confusion_matrix_is_exactly_that_of_the_argmax(
    shape: tuple[int, ...], align_corners: bool, impl: str
) -> None:
    logits, target, _, _ = problem(shape)
    size, classes = (shape[4], shape[5]), shape[1]
    best = upsample_argmax(logits, size, align_corners=align_corners, impl=impl)
    scores = functional.interpolate(
        logits.double(), size=size, mode="bilinear", align_corners=align_corners
    )
    own = scores.gather(1, best[:, None])[:, 0]
    assert (scores.amax(1) - own).max() < 1e-5  # only of what is as good as equal
    assert (best == scores.argmax(1)).float().mean() > 0.999
    found = upsample_confusion(logits, target, align_corners=align_corners, impl=impl)
    counts = target != 255
    pairs = classes * target[counts].long() + best[counts]
    wanted = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    assert torch.equal(found, wanted)
    assert found.sum() == counts.sum()


def test_of_equal_logits_the_first_is_the_argmax(impl: str) -> None:
    found = upsample_argmax(torch.zeros(1, 21, 3, 3), (8, 8), impl=impl)
    assert not found.any()


def test_it_compiles(impl: str) -> None:
    few, labels = torch.randn(1, 5, 3, 4, requires_grad=True), torch.zeros(1, 6, 8).byte()
    torch.library.opcheck(
        torch.ops.upmap.upsample_ce_forward.default,
        (few, labels, None),
        {"align_corners": False, "ignore_index": 255, "label_smoothing": 0.0, "impl": impl},
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )
    logits, target, _, _ = problem((2, 19, 12, 13, 50, 49))

    def step(leaf: Tensor) -> Tensor:
        return upsample_cross_entropy(2 * leaf, target, impl=impl)

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    gradients = []
    for call in (step, compiled):
        leaf = logits.clone().requires_grad_()
        call(leaf).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)  # type: ignore[arg-type]


def test_it_works_under_autocast_with_a_scaled_loss(impl: str) -> None:
    convolution = torch.nn.Conv2d(3, 19, 1)
    images, target = torch.randn(2, 3, 12, 13), problem((2, 19, 12, 13, 50, 49))[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = convolution(images)
        assert logits.dtype == torch.bfloat16
        found = upsample_cross_entropy(logits, target, impl=impl)
    assert found.dtype == torch.float32
    (1024 * found).backward()
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.isfinite().all()


def test_none_chooses_torch_where_torch_is_faster() -> None:
    few, many = torch.zeros(1, FEW_CLASSES, 2, 2), torch.zeros(1, FEW_CLASSES + 1, 2, 2)
    assert _select_for(few, None) is IMPLEMENTATIONS["reference"]
    assert _select_for(many, None) is (IMPLEMENTATIONS["native"] or IMPLEMENTATIONS["reference"])
    assert _select_for(many.double(), None) is IMPLEMENTATIONS["reference"]


def test_the_environment_names_the_implementation_where_no_argument_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = torch.zeros(1, FEW_CLASSES + 1, 2, 2)
    monkeypatch.setenv("UPMAP_IMPL", "chunked")
    assert _select_for(many, None) is IMPLEMENTATIONS["chunked"]
    assert _select_for(many, "reference") is IMPLEMENTATIONS["reference"]
    monkeypatch.setenv("UPMAP_IMPL", "fastest")
    with pytest.raises(ValueError, match="'fastest' is unknown; there are native, triton"):
        _select_for(many, None)


@pytest.mark.parametrize("label", [5, 254, -1])
def test_labels_out_of_range_are_refused(label: int, impl: str) -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 2, 3] = label
    logits = torch.zeros(1, 5, 2, 2)
    for call in (upsample_cross_entropy, upsample_confusion):
        with pytest.raises((IndexError, RuntimeError)):
            call(logits, target, impl=impl)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"logits": torch.zeros(5, 2, 2)}, "logits"),
        ({"logits": torch.zeros(1, 5, 2, 2, dtype=torch.int64)}, "logits"),
        ({"logits": torch.zeros(1, 5, 0, 2)}, "logits"),
        ({"target": torch.zeros(1, 4, 4)}, "target"),
        ({"target": torch.zeros(2, 4, 4, dtype=torch.uint8)}, "target"),
        ({"size": (4, 5)}, "size"),
        ({"weight": torch.ones(4)}, "weight"),
        ({"label_smoothing": 1.5}, "label_smoothing"),
        ({"reduction": "median"}, "reduction"),
        ({"impl": "magic"}, "magic"),
        ({"impl": "native", "logits": torch.zeros(1, 5, 2, 2, dtype=torch.float64)}, "native"),
    ],
)
def test_what_does_not_go_together_is_named(changes: dict[str, Any], named: str) -> None:
    given: dict[str, Any] = {
        "logits": torch.zeros(1, 5, 2, 2),
        "target": torch.zeros(1, 4, 4, dtype=torch.uint8),
    }
    with pytest.raises(ValueError, match=named):
        upsample_cross_entropy(**given | changes)


def test_settings_beyond_the_machines_integers_are_refused() -> None:
    logits, target, *_ = problem(SHAPES[2])
    for call in (upsample_cross_entropy, upsample_confusion):
        with pytest.raises(ValueError, match="ignore_index must fit into int64"):
            call(logits, target, ignore_index=2**63)
    with pytest.raises(ValueError, match="size must be 1 x 1 to"):
        upsample_argmax(logits, (2**31, 1))


def test_tensors_between_two_words_of_memory_are_read_as_they_stand(impl: str) -> None:
    logits, target, *_ = problem((2, 7, 20, 20, 10, 7), torch.int32)

    def misaligned(tensor: Tensor) -> Tensor:
        values = tensor.numpy()
        raw = np.frombuffer(bytearray(b"." + values.tobytes()), np.uint8)[1:]
        return torch.from_numpy(raw.view(values.dtype).reshape(values.shape))

    expected = upsample_cross_entropy(logits, target, impl=impl)
    shifted = misaligned(logits), misaligned(target)
    assert shifted[0].data_ptr() % 4 == 1
    assert torch.equal(upsample_cross_entropy(*shifted, impl=impl), expected)
