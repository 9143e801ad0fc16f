"""The fused operation on NVIDIA GPUs: Triton's kernels.

The pixels between the same four source pixels are a cell; cells lie in a grid of (h + 1) x (w + 1),
with those at the edges, where source pixels repeat. A thread has a piece of PY x PX pixels of a
cell, all of a cell if it is as small: it loads four logits of a class once for all of them, and
goes from class to class by adding h w to its pointers. A cell of more pixels has QY x QX pieces.

Backward, a thread adds up what its pixels give to each of their four source pixels, and writes the
sums; `gather_kernel` adds those of the four cells around a source pixel. No atomics on floats, so
that every run has the same bits.

Tensors are [..., rows PY, columns PX, pieces BP]: only the last axis is spread over threads.

Symbols: C h w are the sizes of the logits, H W those of the labels, z upsampled logits, u the
weight of the right source column of a pixel, v that of the lower source row; docs/kernels.md has
the formulas. A position on an axis is (A pixel + B) / D, in units of source pixels, exactly; R is
the ratio of sizes where it is whole and centers lie as usual, 0 elsewhere.

Half-precision logits become float32 where they are loaded: the interpreter computes wrongly with
bfloat16. Tile sizes are arguments, not tuned: tuning needs a driver, in the interpreter too.
"""

import os

import triton
import triton.language as tl

__all__ = [
    "argmax_kernel",
    "backward_kernel",
    "confusion_kernel",
    "forward_kernel",
    "gather_kernel",
]

# Sizes of images differ from call to call: no kernel is compiled anew for them.
SIZES = [
    *("C", "h", "w", "H", "W", "images", "ignore", "smoothing", "first_class", "classes", "group"),
    *("AY", "BY", "DY", "AX", "BX", "DX", "gradient_image", "gradient_row", "gradient_column"),
]
LOWEST = tl.constexpr(-3.0e38)  # finite, so that logits may be -inf
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def _begin(cell, pixels, A, B, D, R: tl.constexpr):
    """The first pixel of a cell, int32; `cell` counts from -1, whose pixels begin at 0."""
    if R > 0:
        begin = cell * R + R // 2
    else:
        step = A.to(tl.int64)
        wide = tl.maximum(cell, 0).to(tl.int64) * D - B
        begin = (tl.maximum(wide, 0) + step - 1) // step
        begin = tl.minimum(begin, pixels).to(tl.int32)
    return tl.where(cell < 0, 0, tl.minimum(begin, pixels))


@triton.jit
def _axis(piece, sources, pixels, A, B, D, R: tl.constexpr, Q: tl.constexpr, P: tl.constexpr):
    """Of pieces on one axis: both source pixels, their pixels, which of them exist, weights."""
    cell = piece // Q - 1
    begin = _begin(cell, pixels, A, B, D, R)
    end = tl.where(cell + 1 >= sources, pixels, _begin(cell + 1, pixels, A, B, D, R))
    at = tl.arange(0, P)
    # The compiler must not see that these are neighbors: it would spread them over threads, which
    # is better for their own loads and worse for all that follows.
    hidden = (at * tl.minimum(sources, 1))[:, None]
    if R > 0:
        within = (piece % Q * P)[None, :] + at[:, None]
        # The first cell has lost its first pixels: weights count from where it would begin.
        pixel = (cell * R + R // 2 + piece % Q * P)[None, :] + hidden
        exists = (pixel >= 0) & (pixel < end[None, :])
        weight = (within.to(tl.float32) + 0.5 * (1 - R % 2)) / R
        # A pixel that does not exist needs weights between 0 and 1: infinite logits times 0 are NaN.
        if R % 2 == 1 or P * Q > R:
            weight = tl.where(exists, weight, 0.5)
    else:
        pixel = (begin + piece % Q * P)[None, :] + hidden
        exists = pixel < end[None, :]
        over = pixel.to(tl.int64) * A + B - cell[None, :].to(tl.int64) * D
        weight = tl.where(exists, over.to(tl.float32) / D.to(tl.float32), 0.5)
    return tl.maximum(cell, 0), tl.minimum(cell + 1, sources - 1), pixel, exists, weight


@triton.jit
def _locate(
    h, w, H, W, AY, BY, DY, AX, BX, DX,
    RY: tl.constexpr, QY: tl.constexpr, PY: tl.constexpr,
    RX: tl.constexpr, QX: tl.constexpr, PX: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """The pieces of a program.

    Their image, index in it, whether they exist; offsets of the source pixels in a class, of their
    pixels and of rows and columns; which pixels exist; v [PY, 1, BP] and u [1, PX, BP].
    """
    across = (w + 1) * QX
    pieces = (h + 1) * QY * across
    blocks = tl.cdiv(pieces, BP)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    piece = tl.program_id(0) % blocks * BP + tl.arange(0, BP)
    inside = piece < pieces
    safe = tl.where(inside, piece, 0)
    down = safe // across
    top, bottom, y, has_row, v = _axis(down, h, H, AY, BY, DY, RY, QY, PY)
    left, right, x, has_column, u = _axis(safe - down * across, w, W, AX, BX, DX, RX, QX, PX)
    exists = inside[None, None, :] & has_row[:, None, :] & has_column[None, :, :]
    upper = top.to(tl.int64) * w
    lower = bottom.to(tl.int64) * w
    y = y[:, None, :].to(tl.int64)
    x = x[None, :, :].to(tl.int64)
    return (
        image, piece, inside, pieces, upper + left, upper + right, lower + left, lower + right,
        y, x, exists, v[:, None, :], u[None, :, :],
    )  # fmt: skip


@triton.jit
def _mix(a, b, d, e, v, u):
    """Upsampled logits of the pixels between four logits, which are [..., 1, 1, pieces]."""
    # Not a + (b - a) u, which is NaN between two logits of -inf.
    return (a * (1 - v) + d * v) * (1 - u) + (b * (1 - v) + e * v) * u


@triton.jit
def _exp(x):
    """exp(x), 0 where that is below the smallest normal number: three instructions fewer of five."""
    if INTERPRETED:
        return tl.exp(x)
    return tl.inline_asm_elementwise(
        "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x * 1.4426950408889634], tl.float32, True, 1
    )


@triton.jit
def _load_labels(target, valid, pixel, exists, C, ignore):
    """The labels of pixels, 0 where not counted, and which are counted; clears `valid` if needed."""
    label = tl.load(target + pixel, mask=exists, other=0).to(tl.int64)
    is_counted = exists & (label != ignore)
    is_known = (label >= 0) & (label < C)
    tl.store(valid + 0 * pixel, tl.zeros_like(label).to(tl.int1), mask=is_counted & (is_known == 0))
    is_counted = is_counted & is_known
    return tl.where(is_counted, label, 0).to(tl.int32), is_counted


@triton.jit
def _load_four(plane, north_west, north_east, south_west, south_east):
    """The logits of a class at the corners of pieces, float32 [1, 1, BP] each."""
    a = tl.load(plane + north_west).to(tl.float32)[None, None, :]
    b = tl.load(plane + north_east).to(tl.float32)[None, None, :]
    d = tl.load(plane + south_west).to(tl.float32)[None, None, :]
    e = tl.load(plane + south_east).to(tl.float32)[None, None, :]
    return a, b, d, e


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(
    logits, target, class_weights, weight_sum, losses, logsumexps, valid,
    C, h, w, H, W, AY, BY, DY, AX, BX, DX, ignore, smoothing,
    HAS_WEIGHTS: tl.constexpr, SMOOTHS: tl.constexpr, RY: tl.constexpr, QY: tl.constexpr,
    PY: tl.constexpr, RX: tl.constexpr, QX: tl.constexpr, PX: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    image, _piece, _inside, _pieces, nw, ne, sw, se, y, x, exists, v, u = _locate(
        h, w, H, W, AY, BY, DY, AX, BX, DX, RY, QY, PY, RX, QX, PX, BP
    )
    pixel = (image * H + y) * W + x
    label, is_counted = _load_labels(target, valid, pixel, exists, C, ignore)
    step = h.to(tl.int64) * w
    plane = logits + image * C * step
    a, b, d, e = _load_four(plane, nw, ne, sw, se)
    first_z = _mix(a, b, d, e, v, u)
    target_z = tl.zeros([PY, PX, BP], tl.float32)
    maximum = tl.full([PY, PX, BP], LOWEST, tl.float32)
    sum_exp = tl.zeros([PY, PX, BP], tl.float32)
    weighted_sum = tl.zeros([PY, PX, BP], tl.float32)
    for c in range(0, C):
        a, b, d, e = _load_four(plane, nw, ne, sw, se)
        z = _mix(a, b, d, e, v, u)
        target_z = tl.where(label == c, z, target_z)
        # One exponential: what is added, relative to the maximum, or what the maximum rises by.
        rise = z - maximum
        factor = _exp(-tl.abs(rise))
        sum_exp = tl.where(rise > 0, sum_exp * factor + 1, sum_exp + factor)
        maximum = tl.maximum(maximum, z)
        if SMOOTHS:
            # Sums of differences to one class lose no digits where all z are large.
            if HAS_WEIGHTS:
                weighted_sum += tl.load(class_weights + c) * (z - first_z)
            else:
                weighted_sum += z - first_z
        plane += step
    logsumexp = maximum + tl.log(sum_exp)
    loss = logsumexp - target_z
    if SMOOTHS:
        total = C.to(tl.float32)
        if HAS_WEIGHTS:
            total = tl.load(weight_sum)
        smooth = smoothing / C * (total * (logsumexp - first_z) - weighted_sum)
    if HAS_WEIGHTS:
        loss *= tl.load(class_weights + label.to(tl.int64))
    if SMOOTHS:
        loss = (1 - smoothing) * loss + smooth
    tl.store(losses + pixel, tl.where(is_counted, loss, 0.0), mask=exists)
    tl.store(logsumexps + pixel, tl.where(is_counted, logsumexp, float("inf")), mask=exists)


@triton.jit(do_not_specialize=SIZES)
def backward_kernel(
    gradient, logsumexps, logits, target, class_weights, weight_sum, sums,
    gradient_image, gradient_row, gradient_column, images, first_class, classes, group,
    C, h, w, H, W, AY, BY, DY, AX, BX, DX, ignore, smoothing,
    HAS_WEIGHTS: tl.constexpr, SMOOTHS: tl.constexpr, RY: tl.constexpr, QY: tl.constexpr,
    PY: tl.constexpr, RX: tl.constexpr, QX: tl.constexpr, PX: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Sums [4, classes, images, pieces] of `classes` classes from `first_class` on."""
    image, piece, inside, pieces, nw, ne, sw, se, y, x, exists, v, u = _locate(
        h, w, H, W, AY, BY, DY, AX, BX, DX, RY, QY, PY, RX, QX, PX, BP
    )
    pixel = (image * H + y) * W + x
    label = tl.load(target + pixel, mask=exists, other=0).to(tl.int64)
    is_counted = exists & (label != ignore) & (label >= 0) & (label < C)
    label = tl.where(is_counted, label, 0).to(tl.int32)
    # exp(z - inf) is 0 where a pixel is not counted.
    logsumexp = tl.load(logsumexps + pixel, mask=is_counted, other=float("inf"))
    at = gradient + image * gradient_image + y * gradient_row + x * gradient_column
    pixel_gradient = tl.load(at, mask=is_counted, other=0.0).to(tl.float32)
    # softmax(z) times the weights of all labels, minus the weight of each label.
    label_gradient = pixel_gradient
    if HAS_WEIGHTS:
        label_gradient *= tl.load(class_weights + label.to(tl.int64))
    all_gradient = label_gradient
    if SMOOTHS:
        total = C.to(tl.float32)
        if HAS_WEIGHTS:
            total = tl.load(weight_sum)
        label_gradient *= 1 - smoothing
        all_gradient = label_gradient + smoothing / C * total * pixel_gradient
    step = h.to(tl.int64) * w
    begin = tl.program_id(1) * group
    end = tl.minimum(begin + group, classes)
    plane = logits + (image * C + first_class + begin) * step
    corner = classes.to(tl.int64) * images * pieces
    result = sums + (begin.to(tl.int64) * images + image) * pieces + piece.to(tl.int64)
    for c in range(first_class + begin, first_class + end):
        a, b, d, e = _load_four(plane, nw, ne, sw, se)
        z = _mix(a, b, d, e, v, u)
        dz = _exp(z - logsumexp) * all_gradient - tl.where(label == c, label_gradient, 0.0)
        if SMOOTHS:
            weight = smoothing / C
            if HAS_WEIGHTS:
                weight *= tl.load(class_weights + c)
            dz -= weight * pixel_gradient
        west = tl.sum(dz * (1 - u), 1)
        east = tl.sum(dz * u, 1)
        upper = tl.reshape(1 - v, [PY, BP])
        lower = tl.reshape(v, [PY, BP])
        tl.store(result, tl.sum(west * upper, 0), mask=inside)
        tl.store(result + corner, tl.sum(east * upper, 0), mask=inside)
        tl.store(result + 2 * corner, tl.sum(west * lower, 0), mask=inside)
        tl.store(result + 3 * corner, tl.sum(east * lower, 0), mask=inside)
        plane += step
        result += images.to(tl.int64) * pieces


@triton.jit(do_not_specialize=SIZES)
def gather_kernel(
    sums, logits_gradient, images, first_class, classes, C, h, w,
    QY: tl.constexpr, QX: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """The gradient of the logits: the sums of the cells around each, in one order."""
    blocks = tl.cdiv(h * w, BP)
    plane = tl.program_id(0) // blocks
    source = tl.program_id(0) % blocks * BP + tl.arange(0, BP)
    inside = source < h * w
    i = source // w
    j = source - i * w
    image = plane // classes
    c = plane - image * classes
    across = (w + 1) * QX
    pieces = ((h + 1) * QY).to(tl.int64) * across
    corner = classes.to(tl.int64) * images * pieces
    base = sums + (c.to(tl.int64) * images + image) * pieces
    total = tl.zeros([BP], tl.float32)
    for dy in tl.static_range(2):
        row = i - 1 + dy
        is_top = inside & (tl.maximum(row, 0) == i)
        is_bottom = inside & (tl.minimum(row + 1, h - 1) == i)
        for dx in tl.static_range(2):
            column = j - 1 + dx
            is_left = tl.maximum(column, 0) == j
            is_right = tl.minimum(column + 1, w - 1) == j
            for qy in range(QY):
                for qx in range(QX):
                    at = ((row + 1) * QY + qy).to(tl.int64) * across + (column + 1) * QX + qx
                    cell = base + at
                    total += tl.load(cell, mask=is_top & is_left, other=0.0)
                    total += tl.load(cell + corner, mask=is_top & is_right, other=0.0)
                    total += tl.load(cell + 2 * corner, mask=is_bottom & is_left, other=0.0)
                    total += tl.load(cell + 3 * corner, mask=is_bottom & is_right, other=0.0)
    place = (image.to(tl.int64) * C + first_class + c) * h * w + source
    dtype = logits_gradient.dtype.element_ty
    tl.store(logits_gradient + place, total.to(dtype), mask=inside)


@triton.jit
def _best(plane, C, step, nw, ne, sw, se, v, u,
          PY: tl.constexpr, PX: tl.constexpr, BP: tl.constexpr):  # fmt: skip
    """The first class with the largest z, int32 [PY, PX, BP]."""
    maximum = tl.full([PY, PX, BP], float("-inf"), tl.float32)
    best = tl.zeros([PY, PX, BP], tl.int32)
    for c in range(0, C):
        a, b, d, e = _load_four(plane, nw, ne, sw, se)
        z = _mix(a, b, d, e, v, u)
        best = tl.where(z > maximum, c, best)
        maximum = tl.maximum(maximum, z)
        plane += step
    return best


@triton.jit(do_not_specialize=SIZES)
def argmax_kernel(
    logits, best, C, h, w, H, W, AY, BY, DY, AX, BX, DX,
    RY: tl.constexpr, QY: tl.constexpr, PY: tl.constexpr,
    RX: tl.constexpr, QX: tl.constexpr, PX: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    image, _piece, _inside, _pieces, nw, ne, sw, se, y, x, exists, v, u = _locate(
        h, w, H, W, AY, BY, DY, AX, BX, DX, RY, QY, PY, RX, QX, PX, BP
    )
    step = h.to(tl.int64) * w
    best_class = _best(logits + image * C * step, C, step, nw, ne, sw, se, v, u, PY, PX, BP)
    tl.store(best + (image * H + y) * W + x, best_class.to(tl.int64), mask=exists)


@triton.jit(do_not_specialize=SIZES)
def confusion_kernel(
    logits, target, counts, valid, C, h, w, H, W, AY, BY, DY, AX, BX, DX, ignore,
    BINS: tl.constexpr, COPIES: tl.constexpr, RY: tl.constexpr, QY: tl.constexpr,
    PY: tl.constexpr, RX: tl.constexpr, QX: tl.constexpr, PX: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Counts [COPIES, C, C]; BINS is at least C C, or 0 where that is too much for shared memory."""
    image, _piece, _inside, _pieces, nw, ne, sw, se, y, x, exists, v, u = _locate(
        h, w, H, W, AY, BY, DY, AX, BX, DX, RY, QY, PY, RX, QX, PX, BP
    )
    step = h.to(tl.int64) * w
    best = _best(logits + image * C * step, C, step, nw, ne, sw, se, v, u, PY, PX, BP)
    label, is_counted = _load_labels(target, valid, (image * H + y) * W + x, exists, C, ignore)
    pair = label * C + best
    own = counts + (tl.program_id(0) % COPIES).to(tl.int64) * C * C
    # Additions of integers are exact in any order.
    if BINS > 0:
        numbers = tl.histogram(
            tl.reshape(pair, [PY * PX * BP], can_reorder=True), BINS,
            mask=tl.reshape(is_counted, [PY * PX * BP], can_reorder=True),
        )  # fmt: skip
        bins = tl.arange(0, BINS).to(tl.int64)
        tl.atomic_add(own + bins, numbers.to(tl.int64), mask=(numbers > 0) & (bins < C * C))
    else:
        tl.atomic_add(own + pair.to(tl.int64), tl.full([PY, PX, BP], 1, tl.int64), mask=is_counted)
