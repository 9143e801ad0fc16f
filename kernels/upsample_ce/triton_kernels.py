"""The fused operation on NVIDIA GPUs: Triton's kernels.

Forward, a program has BP pixels and goes over the classes in blocks of BC with a running maximum and
sum of exponentials. Backward, it has BP source pixels and BC classes, and gathers from all pixels
that read them: no atomics, so that every run has the same bits. Whatever the ratio of sizes is, the
other source pixels of such a pixel are the left and right neighbors.

Symbols: C h w are the sizes of the logits, H W those of the labels, z upsampled logits, u the
weight of the right source column of a pixel, v that of the lower source row; docs/kernels.md has
the formulas.

Half-precision logits become float32 where they are loaded: the interpreter computes wrongly with
bfloat16. Tile sizes are arguments, not tuned: tuning needs a driver, in the interpreter too.
"""

import triton
import triton.language as tl

__all__ = ["argmax_kernel", "backward_kernel", "confusion_kernel", "forward_kernel"]


@triton.jit
def _locate(
    pixel, H, W, row_first, row_second, row_weight, column_first, column_second, column_weight
):
    """The image of a pixel, its source rows and v, its source columns and u."""
    image = pixel // (H * W)
    remainder = (pixel - image * (H * W)).to(tl.int32)
    y = remainder // W
    x = remainder - y * W
    return (
        image,
        tl.load(row_first + y),
        tl.load(row_second + y),
        tl.load(row_weight + y),
        tl.load(column_first + x),
        tl.load(column_second + x),
        tl.load(column_weight + x),
    )


@triton.jit
def _interpolate(logits, image, c, mask, C, h, w, top, bottom, v, left, right, u):
    """Upsampled logits z, float32 [c, pixels]."""
    plane = (image * C * h * w)[None, :] + (c * (h * w))[:, None]
    a = tl.load(logits + plane + (top * w + left)[None, :], mask=mask, other=0.0).to(tl.float32)
    b = tl.load(logits + plane + (top * w + right)[None, :], mask=mask, other=0.0).to(tl.float32)
    d = tl.load(logits + plane + (bottom * w + left)[None, :], mask=mask, other=0.0).to(tl.float32)
    e = tl.load(logits + plane + (bottom * w + right)[None, :], mask=mask, other=0.0).to(tl.float32)
    upper = a * (1 - u)[None, :] + b * u[None, :]
    lower = d * (1 - u)[None, :] + e * u[None, :]
    return upper * (1 - v)[None, :] + lower * v[None, :]


@triton.jit
def forward_kernel(
    logits, target, class_weights, row_first, row_second, row_weight, column_first, column_second,
    column_weight, losses, logsumexps, C, h, w, H, W, pixels, ignore, smoothing, weight_sum,
    BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    image, top, bottom, v, left, right, u = _locate(
        tl.where(inside, pixel, 0), H, W, row_first, row_second, row_weight,
        column_first, column_second, column_weight,
    )  # fmt: skip
    label = tl.load(target + pixel, mask=inside, other=0).to(tl.int64)
    is_counted = inside & (label != ignore)
    label = tl.where(is_counted, label, 0)
    # The label's own z comes first: sums of differences to it lose no digits where all z are large.
    plane = image * C * h * w + label * (h * w)
    a = tl.load(logits + plane + top * w + left, mask=is_counted, other=0.0).to(tl.float32)
    b = tl.load(logits + plane + top * w + right, mask=is_counted, other=0.0).to(tl.float32)
    d = tl.load(logits + plane + bottom * w + left, mask=is_counted, other=0.0).to(tl.float32)
    e = tl.load(logits + plane + bottom * w + right, mask=is_counted, other=0.0).to(tl.float32)
    upper = a * (1 - u) + b * u
    target_z = upper * (1 - v) + (d * (1 - u) + e * u) * v
    maximum = tl.full([BP], float("-inf"), tl.float32)
    sum_exp = tl.zeros([BP], tl.float32)
    weighted_sum = tl.zeros([BP], tl.float32)
    for begin in range(0, C, BC):
        c = begin + tl.arange(0, BC)
        mask = (c < C)[:, None] & is_counted[None, :]
        z = _interpolate(logits, image, c, mask, C, h, w, top, bottom, v, left, right, u)
        block_weights = tl.load(class_weights + c, mask=c < C, other=0.0)
        weighted_sum += tl.sum(block_weights[:, None] * (z - target_z[None, :]), axis=0)
        z = tl.where((c < C)[:, None], z, float("-inf"))
        largest = tl.maximum(maximum, tl.max(z, axis=0))
        sum_exp = sum_exp * tl.exp(maximum - largest) + tl.sum(tl.exp(z - largest[None, :]), axis=0)
        maximum = largest
    logsumexp = maximum + tl.log(sum_exp)
    loss = (1 - smoothing) * tl.load(class_weights + label) * (logsumexp - target_z)
    loss += smoothing / C * (tl.load(weight_sum) * (logsumexp - target_z) - weighted_sum)
    tl.store(losses + pixel, tl.where(is_counted, loss, 0.0), mask=inside)
    tl.store(logsumexps + pixel, tl.where(is_counted, logsumexp, float("inf")), mask=inside)


@triton.jit
def backward_kernel(
    gradient, logsumexps, logits, target, class_weights, row_first, row_second, row_weight,
    column_first, column_second, column_weight, row_begin, row_end, column_begin, column_end,
    logits_gradient,
    C, h, w, H, W, sources, rows, columns, ignore, smoothing, weight_sum,
    BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    source = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = source < sources
    source = tl.where(inside, source, 0)
    image = source // (h * w)
    remainder = (source - image * (h * w)).to(tl.int32)
    i = remainder // w
    j = remainder - i * w
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    mask = (c < C)[:, None] & inside[None, :]
    plane = (image * C * h * w)[None, :] + (c * (h * w))[:, None]
    before = tl.maximum(j - 1, 0)[None, :]
    after = tl.minimum(j + 1, w - 1)[None, :]
    at = j[None, :]
    block_weights = tl.load(class_weights + c, mask=c < C, other=0.0)
    y_begin, y_end = tl.load(row_begin + i), tl.load(row_end + i)
    x_begin, x_end = tl.load(column_begin + j), tl.load(column_end + j)
    weight_total = tl.load(weight_sum)
    result = tl.zeros([BC, BP], tl.float32)
    # `rows` and `columns` are maxima: programs whose source pixels have fewer readers mask them.
    for dy in range(0, rows):
        y = y_begin + dy
        has_row = inside & (y < y_end)
        y = tl.where(has_row, y, 0)
        top = (tl.load(row_first + y) * w)[None, :]
        bottom = (tl.load(row_second + y) * w)[None, :]
        v = tl.load(row_weight + y)
        line_weight = tl.where(tl.load(row_first + y) == i, 1 - v, 0.0)
        line_weight += tl.where(tl.load(row_second + y) == i, v, 0.0)
        # The source columns around j, interpolated between rows once for all pixels of row y.
        up, down = (1 - v)[None, :], v[None, :]
        middle = tl.load(logits + plane + top + at, mask=mask, other=0.0).to(tl.float32) * up
        middle += tl.load(logits + plane + bottom + at, mask=mask, other=0.0).to(tl.float32) * down
        left = tl.load(logits + plane + top + before, mask=mask, other=0.0).to(tl.float32) * up
        left += (
            tl.load(logits + plane + bottom + before, mask=mask, other=0.0).to(tl.float32) * down
        )
        right = tl.load(logits + plane + top + after, mask=mask, other=0.0).to(tl.float32) * up
        right += (
            tl.load(logits + plane + bottom + after, mask=mask, other=0.0).to(tl.float32) * down
        )
        row_gradient = tl.zeros([BC, BP], tl.float32)
        for dx in range(0, columns):
            x = x_begin + dx
            has_pixel = has_row & (x < x_end)
            x = tl.where(has_pixel, x, 0)
            pixel = image * H * W + y * W + x
            label = tl.load(target + pixel, mask=has_pixel, other=0).to(tl.int64)
            is_counted = has_pixel & (label != ignore)
            label = tl.where(is_counted, label, 0)
            logsumexp = tl.load(logsumexps + pixel, mask=is_counted, other=float("inf"))
            pixel_gradient = tl.load(gradient + pixel, mask=is_counted, other=0.0).to(tl.float32)
            left_column = tl.load(column_first + x)
            u = tl.load(column_weight + x)
            is_left = left_column == j
            z = tl.where(
                is_left[None, :],
                middle * (1 - u)[None, :] + right * u[None, :],
                left * (1 - u)[None, :] + middle * u[None, :],
            )
            target_weight = (1 - smoothing) * tl.load(class_weights + label)
            # softmax(z) times the weights of all labels, minus the weight of each label.
            dz = (
                tl.exp(z - logsumexp[None, :])
                * (target_weight + smoothing / C * weight_total)[None, :]
            )
            dz -= tl.where(c[:, None] == label[None, :], target_weight[None, :], 0.0)
            dz -= smoothing / C * block_weights[:, None]
            pixel_weight = tl.where(is_left, 1 - u, 0.0)
            pixel_weight += tl.where(tl.load(column_second + x) == j, u, 0.0)
            row_gradient += dz * tl.where(is_counted, pixel_gradient * pixel_weight, 0.0)[None, :]
        result += row_gradient * tl.where(has_row, line_weight, 0.0)[None, :]
    dtype = logits_gradient.dtype.element_ty
    tl.store(logits_gradient + plane + (i * w)[None, :] + at, result.to(dtype), mask=mask)


@triton.jit
def _best(logits, image, inside, C, h, w, top, bottom, v, left, right, u,
          BC: tl.constexpr, BP: tl.constexpr):  # fmt: skip
    """The first class with the largest z."""
    maximum = tl.full([BP], float("-inf"), tl.float32)
    best = tl.zeros([BP], tl.int32)
    for begin in range(0, C, BC):
        c = begin + tl.arange(0, BC)
        mask = (c < C)[:, None] & inside[None, :]
        z = _interpolate(logits, image, c, mask, C, h, w, top, bottom, v, left, right, u)
        z = tl.where((c < C)[:, None], z, float("-inf"))
        largest = tl.max(z, axis=0)
        places = tl.where(z == largest[None, :], c[:, None], C)
        place = tl.minimum(tl.min(places, axis=0), C - 1)
        best = tl.where(largest > maximum, place, best)
        maximum = tl.maximum(maximum, largest)
    return best


@triton.jit
def argmax_kernel(
    logits, row_first, row_second, row_weight, column_first, column_second, column_weight, best,
    C, h, w, H, W, pixels, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    image, top, bottom, v, left, right, u = _locate(
        tl.where(inside, pixel, 0), H, W, row_first, row_second, row_weight,
        column_first, column_second, column_weight,
    )  # fmt: skip
    best_class = _best(logits, image, inside, C, h, w, top, bottom, v, left, right, u, BC, BP)
    tl.store(best + pixel, best_class.to(tl.int64), mask=inside)


@triton.jit
def confusion_kernel(
    logits, target, row_first, row_second, row_weight, column_first, column_second, column_weight,
    counts, C, h, w, H, W, pixels, ignore, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    image, top, bottom, v, left, right, u = _locate(
        tl.where(inside, pixel, 0), H, W, row_first, row_second, row_weight,
        column_first, column_second, column_weight,
    )  # fmt: skip
    best = _best(logits, image, inside, C, h, w, top, bottom, v, left, right, u, BC, BP)
    label = tl.load(target + pixel, mask=inside, other=0).to(tl.int64)
    is_counted = inside & (label != ignore)
    place = tl.where(is_counted, label * C + best, 0)
    tl.atomic_add(counts + place, tl.full([BP], 1, tl.int64), mask=is_counted)  # exact in any order
