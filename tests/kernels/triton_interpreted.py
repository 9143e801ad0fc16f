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
    (1, 19, 7, 9, 25, 31),
    (2, 2, 4, 4, 16, 16),
    (1, 1, 3, 3, 5, 7),
    (1, 7, 9, 9, 5, 4),
    (1, 5, 1, 1, 7, 6),
    (1, 33, 4, 4, 4, 4),
]
CASES = [  # kind, label smoothing, allowed relative error
    (torch.float32, 0.0, 1e-5),
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
    leaf = torch.randn(1, 5, 3, 3, requires_grad=True)
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    upsample_cross_entropy(leaf, labels, impl="triton").backward()
    assert leaf.grad is not None
    labels[0, 0, 0] = 5
    try:
        upsample_cross_entropy(leaf, labels, impl="triton")
    except RuntimeError:
        print("refused")


def main() -> None:
    assert IMPLEMENTATIONS["triton"] is not None
    assert IMPLEMENTATIONS["triton"].devices == ("cpu",)
    generator = torch.Generator().manual_seed(0)
    for shape, align_corners in product(SHAPES, (False, True)):
        logits, target = problem(shape, generator)
        weight = torch.rand(shape[1], generator=generator)
        gradient = torch.rand(target.shape, generator=generator)
        for kind, smoothing, allowed in CASES:
            settings = Settings(weight, align_corners, 255, smoothing)
            check_losses(logits.to(kind), target, settings, gradient, allowed)
        check_counts(logits, target, align_corners)
        print("equal", shape, align_corners)
    check_the_operation()


if __name__ == "__main__":
    main()
