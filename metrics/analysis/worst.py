"""Which images cost most, by the influence of each on the headline number.

The cost of an image is what the number gains, to first order, when the image is taken out of the
set: minus its influence (see `analysis.uncertainty`). A negative cost says that the image is better
than the others.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upmap.detection.tables import ImageId
from upmap.kernels import Implementation
from upmap.kernels.matching import FALSE_POSITIVE, TRUE_POSITIVE
from upmap.metrics.analysis.uncertainty import (
    ClassInfluence,
    collect_outcomes,
    compute_influence,
    plan_quantities,
)
from upmap.metrics.match_table import MatchTable

__all__ = ["ImageCost", "WorstImages", "cost_of_images", "find_worst_images"]


@dataclass(frozen=True, slots=True)
class ImageCost:
    """An image and what it costs.

    Attributes:
        image: Its id.
        cost: What the headline number gains without it, a fraction.
        objects: Its counted objects, in the first area range.
        true_positives: Of its detections, at the first IoU threshold.
        false_positives: Of its detections, likewise.
    """

    image: ImageId
    cost: float
    objects: int
    true_positives: int
    false_positives: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class WorstImages:
    """The images that cost most.

    Attributes:
        metric: The number that they cost, the first of the protocol's summary.
        images: The worst first; of equal costs in order of the images.
        worst_percent_cost: What the worst hundredth of all images costs together, at least one.
    """

    metric: str
    images: tuple[ImageCost, ...]
    worst_percent_cost: float

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        return {
            "metric": self.metric,
            "worst_percent_cost": self.worst_percent_cost,
            "images": [asdict(image) for image in self.images],
        }


def cost_of_images(
    table: MatchTable, *, threads: int = 0, impl: Implementation | None = None
) -> NDArray[np.float64]:
    """What the headline number gains, to first order, without each image; float64 [I].

    It is computed on the area under all points, also where the protocol samples precision. NaN
    where the number is undefined.

    Args:
        table: The match table.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.
    """
    places, quantities = plan_quantities(table.protocol)
    place = next(iter(places.values()), None)
    undefined = np.full(len(table.images), math.nan)
    if place is None or not len(table.images):
        return undefined
    outcomes = collect_outcomes(table)
    classes = compute_influence(outcomes, quantities, threads=threads, impl=impl)[place]
    return _costs(classes) if not np.isnan(classes.number).all() else undefined


def find_worst_images(
    table: MatchTable, limit: int, *, threads: int = 0, impl: Implementation | None = None
) -> WorstImages:
    """Finds the images that cost the headline number most.

    Args:
        table: The match table.
        limit: The number of images, at least 0.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        ValueError: If `limit` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit must be at least 0, not {limit}")
    cost = cost_of_images(table, threads=threads, impl=impl)
    order = np.argsort(-cost, kind="stable")
    order = order[~np.isnan(cost[order])]
    status, count = table.status[0, 0], len(table.images)
    is_counted = table.positive_areas & np.uint64(1) == 1
    objects = np.bincount(table.positive_image[is_counted], minlength=count)
    true, false = (
        np.bincount(table.image[status == kind], minlength=count)
        for kind in (TRUE_POSITIVE, FALSE_POSITIVE)
    )
    images = tuple(
        ImageCost(
            image=table.images[i],
            cost=float(cost[i]),
            objects=int(objects[i]),
            true_positives=int(true[i]),
            false_positives=int(false[i]),
        )
        for i in order[:limit].tolist()
    )
    hundredth = order[: max(1, len(order) // 100)]
    return WorstImages(
        metric=next(iter(table.protocol.summary), ""),
        images=images,
        worst_percent_cost=float(cost[hundredth].sum()) if len(order) else math.nan,
    )


def _costs(classes: ClassInfluence) -> NDArray[np.float64]:
    """Minus the mean influence over defined classes."""
    defined = ~np.isnan(classes.number)
    sums = np.bincount(classes.image, weights=classes.value, minlength=classes.images)
    costs: NDArray[np.float64] = -sums / max(1, int(defined.sum())) + 0.0  # no negative zero
    return costs
