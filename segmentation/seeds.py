"""Seeds of random generators, derived from the seed of a training."""

__all__ = ["MAX_SEED", "derive_seed"]

MULTIPLIER = 1_000_003  # a prime that is larger than any number of epochs
MAX_SEED = 2**32 - 1  # with an epoch, derive_seed stays below 2**63, which generators accept


def derive_seed(seed: int, *indices: int) -> int:
    """The seed of one epoch, or of one item of an epoch.

    Args:
        seed: The seed of the training, 0 to MAX_SEED.
        *indices: The epoch, then the item if there is one.

    >>> derive_seed(1, 2)
    1000005
    """
    for index in indices:
        seed = seed * MULTIPLIER + index
    return seed % 2**63
