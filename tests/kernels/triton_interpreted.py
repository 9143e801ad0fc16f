"""Run by test_triton.py in a process of its own: Triton's interpreter is chosen at import."""

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from upmap.kernels.upsample_ce import (
    IMPLEMENTATIONS,
    chunked,
    fused_triton,
    upsample_argmax,
    upsample_confusion,
    upsample_cross_entropy,
)
from upmap.kernels.upsample_ce.contract import Settings

SHAPES = [  # N, C, h, w, H, W
    (1, 11, 5, 7, 18, 24),
    (2, 2, 4, 4, 16, 16),
    (1, 1, 3, 3, 5, 7),
    (1, 7, 9, 9, 5, 4),
    (1, 5, 1, 1, 7, 6),
    (1, 17, 3, 3, 3, 3),
    (1, 3, 4, 3, 12, 9),  # ratio 3: pieces of which a quarter does not exist
    (2, 4, 2, 3, 10, 24),  # 5 and 8: cells of several pieces
    (1, 2, 3, 3, 9, 9),  # with align_corners 4: other weights in cells of the same size
]
MANY_CLASSES = (1, 95, 1, 2, 2, 3)  # too many for a histogram in shared memory
CASES = [  # kind, label smoothing, allowed relative error
    (torch.float32, 0.0, 1e-5),
    (torch.float16, 0.0, 2**-10),
    (torch.float32, 0.1, 1e-5),
    (torch.bfloat16, 0.1, 2**-7),  # the interpreter cuts where GPUs round
]


def problem(shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Logits, and labels with ignored pixels."""
    N, C, h, w, H, W = shape
    logits = 3 * torch.randn(N, C, h, w, generator=generator)
    target = torch.randint(0, C, (N, H, W), generator=generator).to(torch.uint8)
    target[torch.rand(N, H, W, generator=generator) < 0.1] = 255
    return logits, target


def check_losses(
    logits: Tensor, target: Tensor, settings: Settings, gradient: Tensor, allowed: float
) -> None:
    exact = logits.double()
    wanted, totals = chunked.forward(exact, target, settings)
    found, own_totals = fused_triton.forward(logits, target, settings)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own_totals.double(), totals, rtol=1e-5, atol=1e-5)
    wanted = chunked.backward(gradient.double(), totals, exact, target, settings)
    given = (gradient, own_totals, logits, target, settings)
    again = [fused_triton.backward(*given) for _ in range(2)]
    assert torch.equal(*again)
    torch.testing.assert_close(again[0].double(), wanted, rtol=allowed, atol=1e-5)


def check_counts(logits: Tensor, target: Tensor, align_corners: bool) -> None:
    C, size = logits.shape[1], (target.shape[1], target.shape[2])
    best = upsample_argmax(logits, size, align_corners=align_corners, impl="triton")
    scores = functional.interpolate(
        logits.double(), size=size, mode="bilinear", align_corners=align_corners
    )
    own = scores.gather(1, best[:, None])[:, 0]
    assert (scores.amax(1) - own).max() < 1e-5
    counts = upsample_confusion(logits, target, align_corners=align_corners, impl="triton")
    pairs = C * target.long() + best
    wanted = torch.bincount(pairs[target != 255], minlength=C * C).reshape(C, C)
    assert torch.equal(counts, wanted)


def check_the_operation() -> None:
    """The gradient of a mean, which is one number for all pixels; logits in another order."""
    logits = torch.randn(2, 5, 3, 3).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 5, (2, 6, 6))
    labels[0, 0] = -100
    gradients = []
    for impl in ("triton", "reference"):
        leaf = logits.clone().requires_grad_()
        upsample_cross_entropy(leaf, labels, ignore_index=-100, impl=impl).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def check_labels_out_of_range() -> None:
    logits = torch.randn(1, 5, 3, 3)
    for label in (5, 254, -1, 2**32):
        labels = torch.zeros(1, 6, 6, dtype=torch.int64)
        labels[0, 5, 5] = label
        for call in (upsample_cross_entropy, upsample_confusion):
            try:
                call(logits, labels, impl="triton")
            except RuntimeError:
                continue
            raise AssertionError(f"{call} takes {label}")


def check_sums_in_parts(generator: torch.Generator) -> None:
    """The same bits whatever part of the sums exists at one time."""
    logits, target = problem((2, 7, 3, 3, 12, 12), generator)
    settings = Settings(None, False, 255, 0.0)
    losses, logsumexps = fused_triton.forward(logits, target, settings)
    passed = (losses, logsumexps, logits, target, settings)
    whole = fused_triton.backward(*passed)
    for planes in (1, 3, 7, 8):
        fused_triton.MAX_SUMS = 4 * 16 * planes
        assert torch.equal(fused_triton.backward(*passed), whole)


def check_infinite_logits() -> None:
    """Classes that are masked with -inf, the first among them, have no share and no gradient."""
    logits = torch.randn(1, 6, 3, 3)
    logits[:, [0, 3]] = -torch.inf
    target = torch.full((1, 12, 12), 2, dtype=torch.uint8)
    settings = Settings(None, False, 255, 0.0)
    losses, logsumexps = fused_triton.forward(logits, target, settings)
    kept = logits[:, [1, 2, 4, 5]]
    expected = fused_triton.forward(kept, target - 1, settings)
    assert torch.equal(losses, expected[0])
    gradient = fused_triton.backward(losses, logsumexps, logits, target, settings)
    assert gradient.isfinite().all()
    assert not gradient[:, [0, 3]].any()
    logits[0, 1, 0, 0] = torch.nan
    assert fused_triton.forward(logits, target, settings)[0][0, 0, 0].isnan()


def main() -> None:
    assert IMPLEMENTATIONS["triton"] is not None
    assert IMPLEMENTATIONS["triton"].devices == ("cpu",)
    generator = torch.Generator().manual_seed(0)
    # Every case with every shape would take minutes: cases take turns.
    for number, (shape, align_corners) in enumerate(product(SHAPES, (False, True))):
        logits, target = problem(shape, generator)
        weights = torch.rand(shape[1], generator=generator)
        gradient = torch.rand(target.shape, generator=generator)
        kind, smoothing, allowed = CASES[(number + number // 4) % len(CASES)]
        weight = None if kind == torch.float16 else weights
        settings = Settings(weight, align_corners, 255, smoothing)
        check_losses(logits.to(kind), target, settings, gradient, allowed)
        check_counts(logits, target, align_corners)
    check_counts(*problem(MANY_CLASSES, generator), False)
    check_the_operation()
    check_labels_out_of_range()
    check_sums_in_parts(generator)
    check_infinite_logits()
    print("all equal")


if __name__ == "__main__":
    main()
