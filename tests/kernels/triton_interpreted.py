"""Run by test_triton.py in a process of its own: Triton's interpreter is chosen at import."""

from itertools import product

import torch
from torch.nn import functional

from kernels.upsample_ce import (
    IMPLEMENTATIONS,
    chunked,
    fused_triton,
    upsample_argmax,
    upsample_confusion,
    upsample_cross_entropy,
)

SHAPES = [  # N, C, h, w, H, W
    (1, 19, 7, 9, 25, 31),
    (2, 2, 4, 4, 16, 16),
    (1, 1, 3, 3, 5, 7),
    (1, 7, 9, 9, 5, 4),
    (1, 5, 1, 1, 7, 6),
    (1, 33, 4, 4, 4, 4),
]


def main() -> None:
    assert IMPLEMENTATIONS["triton"] is not None
    assert IMPLEMENTATIONS["triton"].devices == ("cpu",)
    generator = torch.Generator().manual_seed(0)
    for shape, align_corners in product(SHAPES, (False, True)):
        N, C, h, w, H, W = shape
        logits = 3 * torch.randn(N, C, h, w, generator=generator)
        target = torch.randint(0, C, (N, H, W), generator=generator).to(torch.uint8)
        target[torch.rand(N, H, W, generator=generator) < 0.1] = 255
        weight, gradient = torch.rand(C, generator=generator), torch.rand(N, H, W)
        for kind, smoothing in ((torch.float32, 0.0), (torch.float32, 0.1), (torch.bfloat16, 0.1)):
            settings = (weight, align_corners, 255, smoothing)
            rounded = logits.to(kind)
            exact = rounded.double()
            wanted, totals = chunked.forward(exact, target, *settings)
            found, own_totals = fused_triton.forward(rounded, target, *settings)
            torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(own_totals.double(), totals, rtol=1e-5, atol=1e-5)
            wanted = chunked.backward(gradient.double(), totals, exact, target, *settings)
            again = [
                fused_triton.backward(gradient, own_totals, rounded, target, *settings)
                for _ in range(2)
            ]
            assert torch.equal(*again)
            allowed = {torch.float32: 1e-5, torch.bfloat16: 2**-7}[kind]  # it cuts, GPUs round
            torch.testing.assert_close(again[0].double(), wanted, rtol=allowed, atol=1e-5)
        best = upsample_argmax(logits, (H, W), align_corners=align_corners, impl="triton")
        scores = functional.interpolate(
            logits.double(), size=(H, W), mode="bilinear", align_corners=align_corners
        )
        own = scores.gather(1, best[:, None])[:, 0]
        assert (scores.amax(1) - own).max() < 1e-5
        counts = upsample_confusion(logits, target, align_corners=align_corners, impl="triton")
        pairs = C * target.long() + best
        wanted_counts = torch.bincount(pairs[target != 255], minlength=C * C).reshape(C, C)
        assert torch.equal(counts, wanted_counts)
        print("equal", shape, align_corners)
    leaf = torch.randn(1, 5, 3, 3, requires_grad=True)
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    upsample_cross_entropy(leaf, labels, impl="triton").backward()
    assert leaf.grad is not None
    labels[0, 0, 0] = 5
    try:
        upsample_cross_entropy(leaf, labels, impl="triton")
    except RuntimeError:
        print("refused")


if __name__ == "__main__":
    main()
