"""How many times each image stands in each replicate: bootstrap weights.

Sources: B. Efron, "Bootstrap methods: another look at the jackknife" (1979), for counts of draws;
G. L. Steele Jr., D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators" (2014),
for the hash, splitmix64; RFC 7693 for BLAKE2b.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from upmap.kernels.counts import validate_count

__all__ = ["draw_counts", "hash_counts"]

MAX_REPLICATES = 2**24
# floor(2^32 P(X <= j)) for a Poisson variable X of mean 1, j = 0 .. 12, as integers: no machine's
# exp() takes part in the weights.
POISSON_LIMITS = (
    1580030168,
    3160060337,
    3950075421,
    4213413783,
    4279248373,
    4292415291,
    4294609777,
    4294923276,
    4294962463,
    4294966817,
    4294967252,
    4294967292,
    4294967295,
)
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: the step of splitmix64
MAX_UINT64 = 2**64 - 1


def draw_counts(images: int, replicates: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Weights of the bootstrap: how often each image is drawn in as many draws as there are images.

    Args:
        images: I, the number of images, or of groups of them.
        replicates: B.
        generator: Drawn from replicate by replicate, so that calls for some each give the same as
            a call for all.

    Returns:
        uint8 [B, I]; each row adds up to I.

    Raises:
        TypeError: If a count is not a whole number.
        ValueError: If a count is negative or too large.
    """
    replicates = validate_count("replicates", replicates, MAX_REPLICATES)
    counts = np.zeros((replicates, images), np.uint8)
    for row in counts:
        row[:] = np.bincount(generator.integers(0, images, images), minlength=images)
    return counts


def hash_counts(
    names: Iterable[object], replicates: int, *, seed: int = 0, first: int = 0
) -> NDArray[np.uint8]:
    """Poisson weights of mean 1, each a hash of the image's name, the replicate and the seed.

    They do not depend on which other images there are, so machines that see parts of a data set
    agree on the replicates of the whole. With mix the finalizer of splitmix64, modulo 2^64,

        key = first 8 bytes, little-endian, of BLAKE2b (digest_size=8) of str(name) in UTF-8
        u = mix(mix(key ^ mix(seed)) + (replicate + 1) * 0x9E3779B97F4A7C15) >> 32

    and the weight is the number of j for which u >= floor(2^32 P(X <= j)), X Poisson of mean 1.

    Args:
        names: The I images' ids, or the groups' names.
        replicates: B.
        seed: 0 to 2^64 - 1.
        first: The number of the first replicate.

    Returns:
        uint8 [B, I].

    Raises:
        TypeError: If a count is not a whole number.
        ValueError: If a count is negative or too large.

    >>> hash_counts(["000005", "000007", "000009"], 2).tolist()
    [[4, 2, 0], [0, 2, 2]]
    """
    replicates = validate_count("replicates", replicates, MAX_REPLICATES)
    seed = validate_count("seed", seed, MAX_UINT64)
    keys = _hash_names(names)
    state = _mix(keys ^ _mix(np.array([seed], np.uint64)))
    counts = np.zeros((replicates, len(keys)), np.uint8)
    for b, row in enumerate(counts):
        step = np.uint64((first + b + 1) * GOLDEN & MAX_UINT64)
        uniform = (_mix(state + step) >> np.uint64(32)).astype(np.uint32)
        for limit in POISSON_LIMITS:
            row += uniform >= np.uint32(limit)
    return counts


def _hash_names(names: Iterable[object]) -> NDArray[np.uint64]:
    from hashlib import blake2b  # only here, for it loads OpenSSL

    encoded = (str(name).encode("utf-8", "surrogatepass") for name in names)
    digests = b"".join(blake2b(name, digest_size=8).digest() for name in encoded)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64; arrays wrap around without a warning."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
