"""The fused operation on NVIDIA GPUs: what a program of Triton does.

Forward, a program has BP pixels and goes over the classes in blocks of BC with a running maximum and
sum of exponentials. Backward, it has BP features and BC classes, and gathers from all pixels that
read them: no atomics, so that every run has the same bits. The features around a pixel of
a feature are its left and right neighbors, whatever the ratio of sizes is.

Half-precision logits are made float32 where they are loaded: the interpreter computes wrongly with
bfloat16. Tile sizes are arguments, not tuned: tuning needs a driver, in the interpreter too.
"""

import triton
import triton.language as tl

__all__ = ["argmax_kernel", "backward_kernel", "confusion_kernel", "forward_kernel"]


@triton.jit
def _places(
    pixel, H, W, row_first, row_second, row_share, column_first, column_second, column_share
):
    """Image, and the four features that a pixel is made of, with the shares of lower and right."""
    image = pixel // (H * W)
    rest = (pixel - image * (H * W)).to(tl.int32)
    y = rest // W
    x = rest - y * W
    return (
        image,
        tl.load(row_first + y),
        tl.load(row_second + y),
        tl.load(row_share + y),
        tl.load(column_first + x),
        tl.load(column_second + x),
        tl.load(column_share + x),
    )


@triton.jit
def _scores(logits, image, c, mask, C, h, w, top, bottom, lower, left, right, share):
    """Interpolated logits, [c, pixels], float32."""
    plane = (image * C * h * w)[None, :] + (c * (h * w))[:, None]
    a = tl.load(logits + plane + (top * w + left)[None, :], mask=mask, other=0.0).to(tl.float32)
    b = tl.load(logits + plane + (top * w + right)[None, :], mask=mask, other=0.0).to(tl.float32)
    d = tl.load(logits + plane + (bottom * w + left)[None, :], mask=mask, other=0.0).to(tl.float32)
    e = tl.load(logits + plane + (bottom * w + right)[None, :], mask=mask, other=0.0).to(tl.float32)
    upper = a * (1 - share)[None, :] + b * share[None, :]
    under = d * (1 - share)[None, :] + e * share[None, :]
    return upper * (1 - lower)[None, :] + under * lower[None, :]


@triton.jit
def forward_kernel(
    logits, target, weight, row_first, row_second, row_share, column_first, column_second,
    column_share, losses, totals, C, h, w, H, W, pixels, ignore, smoothing, weight_sum,
    BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    image, top, bottom, lower, left, right, share = _places(
        tl.where(inside, pixel, 0), H, W, row_first, row_second, row_share,
        column_first, column_second, column_share,
    )  # fmt: skip
    label = tl.load(target + pixel, mask=inside, other=0).to(tl.int64)
    counts = inside & (label != ignore)
    label = tl.where(counts, label, 0)
    # The label's own score first, so that sums are of differences to it.
    plane = image * C * h * w + label * (h * w)
    a = tl.load(logits + plane + top * w + left, mask=counts, other=0.0).to(tl.float32)
    b = tl.load(logits + plane + top * w + right, mask=counts, other=0.0).to(tl.float32)
    d = tl.load(logits + plane + bottom * w + left, mask=counts, other=0.0).to(tl.float32)
    e = tl.load(logits + plane + bottom * w + right, mask=counts, other=0.0).to(tl.float32)
    upper = a * (1 - share) + b * share
    own = upper * (1 - lower) + (d * (1 - share) + e * share) * lower
    most = tl.full([BP], float("-inf"), tl.float32)
    summed = tl.zeros([BP], tl.float32)
    weighted = tl.zeros([BP], tl.float32)
    for begin in range(0, C, BC):
        c = begin + tl.arange(0, BC)
        mask = (c < C)[:, None] & counts[None, :]
        z = _scores(logits, image, c, mask, C, h, w, top, bottom, lower, left, right, share)
        shares = tl.load(weight + c, mask=c < C, other=0.0)
        weighted += tl.sum(shares[:, None] * (z - own[None, :]), axis=0)
        z = tl.where((c < C)[:, None], z, float("-inf"))
        largest = tl.maximum(most, tl.max(z, axis=0))
        summed = summed * tl.exp(most - largest) + tl.sum(tl.exp(z - largest[None, :]), axis=0)
        most = largest
    total = most + tl.log(summed)
    loss = (1 - smoothing) * tl.load(weight + label) * (total - own)
    loss += smoothing / C * (tl.load(weight_sum) * (total - own) - weighted)
    tl.store(losses + pixel, tl.where(counts, loss, 0.0), mask=inside)
    tl.store(totals + pixel, tl.where(counts, total, float("inf")), mask=inside)


@triton.jit
def backward_kernel(
    gradient, totals, logits, target, weight, row_first, row_second, row_share, column_first,
    column_second, column_share, row_begin, row_end, column_begin, column_end, found,
    C, h, w, H, W, features, rows, columns, ignore, smoothing, weight_sum,
    BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    feature = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = feature < features
    feature = tl.where(inside, feature, 0)
    image = feature // (h * w)
    rest = (feature - image * (h * w)).to(tl.int32)
    i = rest // w
    j = rest - i * w
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    mask = (c < C)[:, None] & inside[None, :]
    plane = (image * C * h * w)[None, :] + (c * (h * w))[:, None]
    before = tl.maximum(j - 1, 0)[None, :]
    after = tl.minimum(j + 1, w - 1)[None, :]
    at = j[None, :]
    shares = tl.load(weight + c, mask=c < C, other=0.0)
    y_begin, y_end = tl.load(row_begin + i), tl.load(row_end + i)
    x_begin, x_end = tl.load(column_begin + j), tl.load(column_end + j)
    all_weights = tl.load(weight_sum)
    total_gradient = tl.zeros([BC, BP], tl.float32)
    for dy in range(0, rows):
        y = y_begin + dy
        has_row = inside & (y < y_end)
        y = tl.where(has_row, y, 0)
        top = (tl.load(row_first + y) * w)[None, :]
        bottom = (tl.load(row_second + y) * w)[None, :]
        lower = tl.load(row_share + y)
        part = tl.where(tl.load(row_first + y) == i, 1 - lower, 0.0)
        part += tl.where(tl.load(row_second + y) == i, lower, 0.0)
        up, down = (1 - lower)[None, :], lower[None, :]
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
        of_row = tl.zeros([BC, BP], tl.float32)
        for dx in range(0, columns):
            x = x_begin + dx
            has_pixel = has_row & (x < x_end)
            x = tl.where(has_pixel, x, 0)
            pixel = image * H * W + y * W + x
            label = tl.load(target + pixel, mask=has_pixel, other=0).to(tl.int64)
            counts = has_pixel & (label != ignore)
            label = tl.where(counts, label, 0)
            total = tl.load(totals + pixel, mask=counts, other=float("inf"))
            scale = tl.load(gradient + pixel, mask=counts, other=0.0).to(tl.float32)
            first = tl.load(column_first + x)
            share = tl.load(column_share + x)
            is_first = first == j
            z = tl.where(
                is_first[None, :],
                middle * (1 - share)[None, :] + right * share[None, :],
                left * (1 - share)[None, :] + middle * share[None, :],
            )
            own = (1 - smoothing) * tl.load(weight + label)
            one = tl.exp(z - total[None, :]) * (own + smoothing / C * all_weights)[None, :]
            one -= tl.where(c[:, None] == label[None, :], own[None, :], 0.0)
            one -= smoothing / C * shares[:, None]
            reach = tl.where(is_first, 1 - share, 0.0)
            reach += tl.where(tl.load(column_second + x) == j, share, 0.0)
            of_row += one * tl.where(counts, scale * reach, 0.0)[None, :]
        total_gradient += of_row * tl.where(has_row, part, 0.0)[None, :]
    kind = found.dtype.element_ty
    tl.store(found + plane + (i * w)[None, :] + at, total_gradient.to(kind), mask=mask)


@triton.jit
def _best(logits, image, inside, C, h, w, top, bottom, lower, left, right, share,
          BC: tl.constexpr, BP: tl.constexpr):  # fmt: skip
    """The first class with the largest score."""
    most = tl.full([BP], float("-inf"), tl.float32)
    best = tl.zeros([BP], tl.int32)
    for begin in range(0, C, BC):
        c = begin + tl.arange(0, BC)
        mask = (c < C)[:, None] & inside[None, :]
        z = _scores(logits, image, c, mask, C, h, w, top, bottom, lower, left, right, share)
        z = tl.where((c < C)[:, None], z, float("-inf"))
        largest = tl.max(z, axis=0)
        places = tl.where(z == largest[None, :], c[:, None], C)
        place = tl.minimum(tl.min(places, axis=0), C - 1)
        best = tl.where(largest > most, place, best)
        most = tl.maximum(most, largest)
    return best


@triton.jit
def argmax_kernel(
    logits, row_first, row_second, row_share, column_first, column_second, column_share, found,
    C, h, w, H, W, pixels, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    image, top, bottom, lower, left, right, share = _places(
        tl.where(inside, pixel, 0), H, W, row_first, row_second, row_share,
        column_first, column_second, column_share,
    )  # fmt: skip
    best = _best(logits, image, inside, C, h, w, top, bottom, lower, left, right, share, BC, BP)
    tl.store(found + pixel, best.to(tl.int64), mask=inside)


@triton.jit
def confusion_kernel(
    logits, target, row_first, row_second, row_share, column_first, column_second, column_share,
    counts, C, h, w, H, W, pixels, ignore, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    image, top, bottom, lower, left, right, share = _places(
        tl.where(inside, pixel, 0), H, W, row_first, row_second, row_share,
        column_first, column_second, column_share,
    )  # fmt: skip
    best = _best(logits, image, inside, C, h, w, top, bottom, lower, left, right, share, BC, BP)
    label = tl.load(target + pixel, mask=inside, other=0).to(tl.int64)
    is_counted = inside & (label != ignore)
    place = tl.where(is_counted, label * C + best, 0)
    tl.atomic_add(counts + place, tl.full([BP], 1, tl.int64), mask=is_counted)  # exact in any order
