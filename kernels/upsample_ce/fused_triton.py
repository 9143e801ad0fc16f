"""The fused operation on NVIDIA GPUs; on a CPU in Triton's interpreter, if TRITON_INTERPRET=1.

Launches the kernels of triton_kernels.py. Nothing is copied between host and device, no result is
waited for, and nothing is kept from call to call: a call may be captured into a CUDA graph.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from upmap.kernels.upsample_ce import triton_kernels
from upmap.kernels.upsample_ce.cells import Axis, divide_axis
from upmap.kernels.upsample_ce.contract import Settings, Size

__all__ = [
    "argmax",
    "backward",
    "confusion",
    "device_type",
    "forward",
    "is_interpreted",
    "is_supported",
]

LOWEST_CAPABILITY = (8, 0)  # of the GPUs that the kernels are compiled for in the tests
PIECES = 128  # of a program, one for each thread of four warps
INTERPRETED_PIECES = 1 << 12  # the interpreter is slow for each program, not for each value
MAX_SUMS = 1 << 25  # float32 values of the backward pass at one time, unless one class has more
FEW_BINS = 1 << 13  # of a histogram, 4 bytes each of shared memory
COPIED_COUNTS = 1 << 21  # of all copies of a confusion matrix that is larger
MAX_COUNTERS = 64
MIN_PROGRAMS = 1 << 10  # enough to occupy a GPU of some hundred processors
MAX_PIECES = 2**31 - 1 - INTERPRETED_PIECES  # of an image: they are counted in int32
GATHERED = 256  # source pixels of a program of the second kernel of the backward pass


def is_interpreted() -> bool:
    """Whether kernels run on the CPU, by Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def device_type() -> str:
    """The type of device that the kernels run on."""
    return "cpu" if is_interpreted() else "cuda"


def is_supported(device: torch.device) -> bool:
    """Whether the kernels are known to compile for a device; any CPU if they are interpreted."""
    if device.type != "cuda":
        return is_interpreted()
    return bool(torch.version.cuda) and (
        torch.cuda.get_device_capability(device) >= LOWEST_CAPABILITY
    )


def forward(logits: Tensor, target: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """See `upmap.kernels.upsample_ce.chunked.forward`."""
    losses = torch.empty(target.shape, device=logits.device)
    logsumexps = torch.empty_like(losses)
    valid = torch.ones((), dtype=torch.bool, device=logits.device)
    grid = _divide(logits.shape, target.shape, settings.align_corners)
    with _on_device(logits.device):
        triton_kernels.forward_kernel[(grid.programs,)](
            logits.contiguous(),
            target.contiguous(),
            *_class_weights(settings, losses),
            losses,
            logsumexps,
            valid,
            *grid.sizes,
            settings.ignore_index,
            settings.label_smoothing,
            **_choose_formulas(settings),
            **grid.constants,
            enable_fp_fusion=True,  # no official tool defines these last bits
        )
        _refuse_unknown_labels(valid, logits.shape[1])
    return losses, logsumexps


def backward(
    gradient: Tensor,
    logsumexps: Tensor,
    logits: Tensor,
    target: Tensor,
    settings: Settings,
) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.backward`."""
    result = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    logits, target = logits.contiguous(), target.contiguous()
    pieces = _divide(logits[:1].shape, target.shape, settings.align_corners).pieces
    with _on_device(logits.device):
        for images, classes in divide_planes(len(logits), logits.shape[1], pieces):
            # Slices of whole images are contiguous.
            own = (gradient[images], logsumexps[images], logits[images], target[images])
            sums = _sum_cells(own, classes, settings)
            _gather(sums, result[images], classes, (target.shape[1:], settings.align_corners))
    return result


def argmax(logits: Tensor, size: Size, align_corners: bool) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.argmax`."""
    best = torch.empty((len(logits), *size), dtype=torch.int64, device=logits.device)
    grid = _divide(logits.shape, best.shape, align_corners)
    with _on_device(logits.device):
        triton_kernels.argmax_kernel[(grid.programs,)](
            logits.contiguous(), best, *grid.sizes, **grid.constants, enable_fp_fusion=True
        )
    return best


def confusion(logits: Tensor, target: Tensor, align_corners: bool, ignore_index: int) -> Tensor:
    """See `upmap.kernels.upsample_ce.chunked.confusion`."""
    classes = logits.shape[1]
    bins, copies = choose_counters(classes)
    counts = torch.zeros(copies, classes, classes, dtype=torch.int64, device=logits.device)
    valid = torch.ones((), dtype=torch.bool, device=logits.device)
    grid = _divide(logits.shape, target.shape, align_corners)
    with _on_device(logits.device):
        triton_kernels.confusion_kernel[(grid.programs,)](
            logits.contiguous(),
            target.contiguous(),
            counts,
            valid,
            *grid.sizes,
            ignore_index,
            BINS=bins,
            COPIES=copies,
            **grid.constants,
            enable_fp_fusion=True,
        )
        _refuse_unknown_labels(valid, classes)
    return counts.sum(0)


def choose_counters(classes: int) -> tuple[int, int]:
    """Bins of a program's histogram, 0 if too many, and copies of the counts in memory.

    >>> choose_counters(19), choose_counters(150)
    ((512, 1), (0, 64))
    """
    bins = triton.next_power_of_2(classes**2)
    if bins <= FEW_BINS:
        return max(bins, 32), 1
    # Programs share copies, so that few wait for one another where most pixels are of one class.
    return 0, max(1, min(MAX_COUNTERS, COPIED_COUNTS // classes**2))


def divide_planes(images: int, classes: int, pieces: int) -> Iterator[tuple[slice, range]]:
    """Images and classes whose sums exist at one time, at most MAX_SUMS values.

    Args:
        images: Their number.
        classes: Their number.
        pieces: Pieces of an image, of 4 sums each for every class.

    >>> [*divide_planes(2, 3, 1)]
    [(slice(0, 2, None), range(0, 3))]
    >>> [*divide_planes(2, 3, MAX_SUMS // 8)][:2]
    [(slice(0, 1, None), range(0, 2)), (slice(0, 1, None), range(2, 3))]
    """
    planes = max(1, MAX_SUMS // (4 * pieces))
    image_step = max(1, min(images, planes // classes))
    class_step = min(classes, planes)
    for image in range(0, images, image_step):
        for begin in range(0, classes, class_step):
            own = range(begin, min(begin + class_step, classes))
            yield slice(image, min(image + image_step, images)), own


@dataclass(frozen=True, slots=True)
class _Grid:
    """What the kernels that own pieces take.

    Attributes:
        programs: Their number.
        pieces: Pieces of an image.
        sizes: The sizes, as numbers.
        constants: What they are compiled for.
    """

    programs: int
    pieces: int
    sizes: tuple[int, ...]
    constants: dict[str, int]


def _divide(logits: torch.Size, pixels: torch.Size, align_corners: bool) -> _Grid:
    """The pieces of images of logits [N, C, h, w] at [N, H, W]."""
    rows = divide_axis(logits[2], pixels[1], align_corners)
    columns = divide_axis(logits[3], pixels[2], align_corners)
    pieces = rows.all_pieces * columns.all_pieces
    if pieces > MAX_PIECES:
        raise ValueError(f"logits of {logits[2]} x {logits[3]} are too many for a GPU")
    block = PIECES
    if is_interpreted():
        block = min(INTERPRETED_PIECES, triton.next_power_of_2(pieces))
    positions = [n for axis in (rows, columns) for n in (axis.scale, axis.offset, axis.divisor)]
    constants = _axis_constants(rows, "Y") | _axis_constants(columns, "X") | {"BP": block}
    programs = logits[0] * triton.cdiv(pieces, block)
    return _Grid(programs, pieces, (*logits[1:], *pixels[1:], *positions), constants)


def _axis_constants(axis: Axis, letter: str) -> dict[str, int]:
    numbers = {"R": axis.ratio, "Q": axis.pieces, "P": axis.piece_pixels}
    return {name + letter: number for name, number in numbers.items()}


def _sum_cells(own: tuple[Tensor, ...], classes: range, settings: Settings) -> Tensor:
    """The sums of each piece for its four source pixels, float32 [4, classes, images, pieces]."""
    gradient, logsumexps, logits, target = own
    grid = _divide(logits.shape, target.shape, settings.align_corners)
    sums = torch.empty(4, len(classes), len(logits), grid.pieces, device=logits.device)
    group = _group(len(classes), grid.programs)
    triton_kernels.backward_kernel[(grid.programs, triton.cdiv(len(classes), group))](
        gradient,
        logsumexps,
        logits,
        target,
        *_class_weights(settings, logsumexps),
        sums,
        *gradient.stride(),  # that of a mean is one number, expanded
        len(logits),
        classes.start,
        len(classes),
        group,
        *grid.sizes,
        settings.ignore_index,
        settings.label_smoothing,
        **_choose_formulas(settings),
        **grid.constants,
        enable_fp_fusion=True,
    )
    return sums


def _gather(
    sums: Tensor, result: Tensor, classes: range, upsampling: tuple[torch.Size, bool]
) -> None:
    """Writes the gradient of logits of some classes of some images."""
    (height, width), align_corners = upsampling
    h, w = result.shape[2:]
    block = triton.next_power_of_2(h * w) if is_interpreted() else GATHERED
    programs = len(result) * len(classes) * triton.cdiv(h * w, block)
    triton_kernels.gather_kernel[(programs,)](
        sums,
        result,
        len(result),
        classes.start,
        len(classes),
        *result.shape[1:],
        QY=divide_axis(h, height, align_corners).pieces,
        QX=divide_axis(w, width, align_corners).pieces,
        BP=block,
        enable_fp_fusion=True,
    )


def _group(classes: int, programs: int) -> int:
    """The classes of a program, backward: all, unless that leaves a GPU without work."""
    groups = min(triton.cdiv(MIN_PROGRAMS, programs), triton.cdiv(classes, 8))
    return int(triton.cdiv(classes, groups))


def _on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes a GPU the current one, on which Triton launches whatever the tensors' is."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _refuse_unknown_labels(valid: Tensor, classes: int) -> None:
    """Asserts what a kernel has noted; on a GPU asynchronously, as torch does."""
    torch._assert_async(valid, f"a label is not in 0 .. {classes - 1}")


def _class_weights(settings: Settings, unused: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of classes and their sum; without weights another tensor, which is not read."""
    if settings.class_weights is None:
        return unused, unused
    weights = settings.class_weights.detach().float().contiguous()
    return weights, weights.sum()


def _choose_formulas(settings: Settings) -> dict[str, Any]:
    """Which terms kernels are compiled with."""
    return {
        "HAS_WEIGHTS": settings.class_weights is not None,
        "SMOOTHS": settings.label_smoothing > 0,
    }
