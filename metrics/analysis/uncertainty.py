"""How sure the numbers of an evaluation are: standard errors and confidence intervals.

They speak of the mean of a number over test sets of this size from the same source. They do not
cover another training run, nor wrong labels.

Sources: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), for the bootstrap
and the infinitesimal jackknife; E. B. Wilson (1927) for the interval of a class.
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import Implementation
from upmap.kernels.resampling import (
    Outcomes,
    Quantities,
    influence,
    regroup,
    resample,
    sum_influence,
)
from upmap.metrics.analysis.intervals import two_sided_quantile, wilson_interval
from upmap.metrics.match_table import MatchTable
from upmap.metrics.protocols import Metric, Protocol
from upmap.metrics.scores import Evaluation, evaluate_matches

__all__ = [
    "ClassInfluence",
    "Estimate",
    "Uncertainty",
    "bootstrap_numbers",
    "class_standard_errors",
    "compute_influence",
    "count_positive_images",
    "deviation",
    "draw_weights",
    "estimate_around",
    "estimate_uncertainty",
    "group_outcomes",
    "mean_standard_error",
    "plan_quantities",
    "resample_numbers",
]

Floats = NDArray[np.float64]
Method = Literal["influence", "bootstrap"]
WeightSource = Literal["multinomial", "poisson"]
Groups = Mapping[Any, Hashable]

RARE = 10  # images with a positive: below, a class's own interval is wide and hardly normal
CHUNK = 2**26  # weights at a time, bytes
MAX_CAP = 2**31 - 1  # a cap that no image reaches


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty; NaN is undefined.

    Attributes:
        value: The number, a fraction.
        standard_error: Its standard error.
        low: The lower end of the interval, at least 0.
        high: The upper end, at most 1.
    """

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Uncertainty:
    """The numbers of an evaluation with their uncertainty.

    Attributes:
        metrics: The protocol's summary: name to estimate; the interval is value +- z errors.
        per_class: Class name to the estimate of its AP, with Wilson's interval.
        method: "influence" or "bootstrap".
        level: The probability that an interval covers.
        replicates: float64 [B, metrics], each metric in each replicate; [0, metrics] by influence.
        weights: Of the bootstrap, "multinomial" or "poisson"; None by influence.
        seed: Of the bootstrap; None by influence.
        groups: The number of groups of images; None if images are taken as independent.
        rare_classes: Those with positives on fewer than RARE images (or groups).
        all_perfect: Whether every defined class has AP 1, so that the standard error is 0.
    """

    metrics: Mapping[str, Estimate]
    per_class: Mapping[str, Estimate]
    method: Method
    level: float
    replicates: Floats
    weights: WeightSource | None
    seed: int | None
    groups: int | None
    rare_classes: tuple[str, ...]
    all_perfect: bool

    def half_width(self, estimate: Estimate) -> float:
        """How far the interval of a metric reaches to each side, before it is cut at 0 and 1."""
        return two_sided_quantile(self.level, self.groups) * estimate.standard_error

    def to_record(self) -> dict[str, Any]:
        """For JSON: the estimates of metrics and of classes by name, and how they were made."""
        return {
            "method": self.method,
            "level": self.level,
            "groups": self.groups,
            "replicates": None if self.method == "influence" else len(self.replicates),
            "weights": self.weights,
            "seed": self.seed,
            "metrics": {name: asdict(number) for name, number in self.metrics.items()},
            "per_class": {name: asdict(number) for name, number in self.per_class.items()},
            "rare_classes": list(self.rare_classes),
            "all_perfect": self.all_perfect,
        }


@dataclass(frozen=True, slots=True, eq=False)
class ClassInfluence:
    """The influence of images on the numbers of classes, for standard errors of means over them.

    Attributes:
        label: int32 [E], the class of each entry.
        image: int32 [E], the image, or group of images.
        value: float64 [E], 0 where the number is not defined.
        number: float64 [K], the number of each class (area under all points); NaN if undefined.
        positive_images: int64 [K], images with a positive of the class.
        images: I, all images, or groups.
    """

    label: NDArray[np.int32]
    image: NDArray[np.int32]
    value: Floats
    number: Floats
    positive_images: NDArray[np.int64]
    images: int


def estimate_uncertainty(
    table: MatchTable,
    *,
    evaluation: Evaluation | None = None,
    method: Method = "influence",
    replicates: int = 1000,
    seed: int = 0,
    weights: WeightSource = "multinomial",
    groups: Groups | None = None,
    level: float = 0.95,
    threads: int = 0,
    impl: Implementation | None = None,
) -> Uncertainty:
    """Standard errors and confidence intervals of an evaluation's numbers.

    Args:
        table: The match table.
        evaluation: The evaluation of the table, if it is known already.
        method: "influence" needs one pass and no random numbers; "bootstrap" resamples images.
        replicates: Of the bootstrap, at least 2.
        seed: Of the bootstrap.
        weights: Of the bootstrap: "multinomial" draws as many images as there are; "poisson" are
            hashed from image ids, so that parts of a data set agree on the replicates of the whole.
        groups: For each image id the group (video, scene, patient) that it belongs to, where images
            of a group are alike; None takes images as independent.
        level: The probability that an interval covers, in (0, 1).
        threads: Maximum number of threads; 0 uses all cores. The result does not depend on it.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        ValueError: If an option has a value that it may not have, or an image has no group.
    """
    evaluation = evaluation or evaluate_matches(table, threads=threads, impl=impl)
    if method not in ("influence", "bootstrap"):
        raise ValueError(f"method must be 'influence' or 'bootstrap', not {method!r}")
    names, outcomes = group_outcomes(table, groups)
    count = None if groups is None else len(names)
    quantile = two_sided_quantile(level, count)
    places, quantities = plan_quantities(table.protocol)
    if method == "influence":
        metric_errors, class_errors = _influence_errors(table.protocol, outcomes, threads, impl)
        samples = np.zeros((0, len(evaluation.metrics)))
    else:
        chunks = draw_weights(names, weights, replicates, seed)
        samples, class_errors = bootstrap_numbers(
            table.protocol, outcomes, chunks, threads=threads, impl=impl
        )
        metric_errors = deviation(samples)
    metric_errors = _drop_errors_of_one_image(metric_errors, places.values(), quantities, outcomes)
    AP = np.array([scores.AP for scores in evaluation.per_class.values()])
    return Uncertainty(
        metrics=_estimate_metrics(evaluation, metric_errors, quantile),
        per_class=_estimate_classes(table, AP, class_errors, quantile),
        method=method,
        level=level,
        replicates=samples,
        weights=None if method == "influence" else weights,
        seed=None if method == "influence" else seed,
        groups=count,
        rare_classes=_rare_classes(table, outcomes),
        all_perfect=bool((AP[~np.isnan(AP)] == 1).all()) and not bool(np.isnan(AP).all()),
    )


def compute_influence(
    outcomes: Outcomes,
    quantities: Quantities,
    *,
    threads: int = 0,
    impl: Implementation | None = None,
) -> list[ClassInfluence]:
    """The influence of images on each quantity.

    Args:
        outcomes: Matched detections and positives, of images or of groups.
        quantities: Q numbers of each class.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.
    """
    result = influence(outcomes, quantities, threads=threads, impl=impl)
    K = len(result.start) - 1
    label = np.repeat(np.arange(K, dtype=np.int32), np.diff(result.start))
    counts = {a: count_positive_images(outcomes, a) for a in sorted({*quantities.area.tolist()})}
    return [
        ClassInfluence(
            label=label,
            image=result.image,
            value=np.nan_to_num(value, nan=0.0),
            number=number,
            positive_images=counts[int(area)],
            images=outcomes.images,
        )
        for value, number, area in zip(result.value, result.number, quantities.area, strict=True)
    ]


def mean_standard_error(classes: ClassInfluence) -> float:
    """The standard error of the mean of a number over the classes where it is defined.

    With U_ki the influence of image i on class k, m_k the images with a positive of it and K the
    defined classes, its square is the sum over images of the squared mean influence, and

        1 / K^2 sum over k of ( sum over i of U_ki^2 / max(1, m_k - 1)
                                + exp(-m_k) (1 - exp(-m_k)) (number_k - mean)^2 )

    the first term for the bias of a variance from few images, the second for classes that other
    test sets would not have. NaN if no class is defined or there are fewer than two images.

    Args:
        classes: The influence on the number.
    """
    by_image = np.bincount(classes.image, weights=classes.value, minlength=classes.images)
    return _mean_error(
        float(np.square(by_image).sum()),
        _squares(classes),
        classes.number,
        classes.positive_images,
        classes.images,
    )


def _mean_error(
    of_images: float,
    of_classes: Floats,
    number: Floats,
    positive_images: NDArray[np.int64],
    images: int,
) -> float:
    """See `mean_standard_error`.

    Args:
        of_images: The sum over images of the square of (the sum over classes of U_ki).
        of_classes: float64 [K], the sum over images of the square of U_ki.
        number: float64 [K].
        positive_images: int64 [K], m_k.
        images: How many there are.
    """
    is_defined = ~np.isnan(number)
    K = int(is_defined.sum())
    if K == 0 or images < 2:
        return math.nan
    m = positive_images[is_defined]
    squares = of_classes[is_defined] / np.maximum(1, m - 1)
    number = number[is_defined]
    absent = np.exp(-m.astype(np.float64))
    by_class = squares + absent * (1 - absent) * (number - number.mean()) ** 2
    return math.sqrt(of_images + float(by_class.sum())) / K


def class_standard_errors(classes: ClassInfluence) -> Floats:
    """The standard error of the number of each class, float64 [K]; NaN as for the mean of one."""
    return _class_errors(_squares(classes), classes.number, classes.positive_images, classes.images)


def _class_errors(
    of_classes: Floats, number: Floats, positive_images: NDArray[np.int64], images: int
) -> Floats:
    factors = 1 + 1 / np.maximum(1, positive_images - 1)
    errors: Floats = np.where(
        np.isnan(number) | (images < 2), np.nan, np.sqrt(of_classes * factors)
    )
    return errors


def bootstrap_numbers(
    protocol: Protocol,
    outcomes: Outcomes,
    weights: Iterable[NDArray[np.uint8]],
    *,
    threads: int = 0,
    impl: Implementation | None = None,
) -> tuple[Floats, Floats]:
    """The metrics of a protocol in replicates of the data, and how the classes' AP varies.

    Args:
        protocol: The protocol.
        outcomes: Matched detections and positives, of images or of groups.
        weights: uint8 [B, I] in parts: how many times each image stands in each replicate.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Returns:
        float64 [B, metrics]: a metric leaves classes without positives in the replicate out, and is
        NaN without any. float64 [K]: the standard deviation of each class's AP over replicates.
    """
    samples, of_classes = resample_numbers(protocol, outcomes, weights, threads=threads, impl=impl)
    return samples, deviation(of_classes)


def resample_numbers(
    protocol: Protocol,
    outcomes: Outcomes,
    weights: Iterable[NDArray[np.uint8]],
    *,
    threads: int = 0,
    impl: Implementation | None = None,
) -> tuple[Floats, Floats]:
    """The metrics of a protocol and the AP of each class in replicates of the data.

    Args:
        protocol: See `bootstrap_numbers`.
        outcomes: See `bootstrap_numbers`.
        weights: See `bootstrap_numbers`.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.

    Returns:
        float64 [B, metrics] and float64 [B, K], NaN where undefined.
    """
    places, quantities = plan_quantities(protocol)
    points = None if protocol.recall_points is None else np.array(protocol.recall_points)
    samples, of_classes = [], []
    for part in weights:
        numbers = resample(
            outcomes, part, quantities, recall_points=points, threads=threads, impl=impl
        )
        means = _mean_over_classes(numbers)
        undefined = np.full(len(part), np.nan)
        columns = [undefined if q is None else means[q] for q in places.values()]
        samples.append(np.stack(columns, axis=1) if columns else np.zeros((len(part), 0)))
        of_classes.append(numbers[-1].T)
    return np.concatenate(samples), np.concatenate(of_classes)


def plan_quantities(protocol: Protocol) -> tuple[dict[str, int | None], Quantities]:
    """What to compute for each metric of a protocol: its place among quantities, None if undefined.

    The last of the quantities is the AP of a class.
    """
    area_names = [limits.name for limits in protocol.area_ranges]
    of_class = (False, 0, _cap(protocol, -1), 2 ** len(protocol.iou_thresholds) - 1)
    of_metrics = {
        name: _quantity(metric, protocol, area_names) for name, metric in protocol.summary.items()
    }
    different = dict.fromkeys(row for row in of_metrics.values() if row is not None)
    rows = [*(row for row in different if row != of_class), of_class]
    places = {name: None if row is None else rows.index(row) for name, row in of_metrics.items()}
    is_recall, area, cap, thresholds = zip(*rows, strict=True)
    return places, Quantities(
        is_recall=np.array(is_recall, bool),
        area=np.array(area, np.int32),
        max_dets=np.array(cap, np.int64),
        thresholds=np.array(thresholds, np.uint64),
    )


def _quantity(
    metric: Metric, protocol: Protocol, area_names: list[str]
) -> tuple[bool, int, int, int] | None:
    if metric.area not in area_names:
        return None
    near = [
        t
        for t, value in enumerate(protocol.iou_thresholds)
        if metric.iou is None or abs(value - metric.iou) < 1e-9
    ]
    places = near if metric.iou is None else near[:1]
    if not places:
        return None
    thresholds = sum(2**t for t in places)
    area = area_names.index(metric.area)
    return metric.quantity == "AR", area, _cap(protocol, metric.cap), thresholds


def _cap(protocol: Protocol, place: int) -> int:
    cap = protocol.max_dets[place]
    return MAX_CAP if cap == math.inf else int(cap)


def collect_outcomes(table: MatchTable) -> Outcomes:
    """What the resampling kernel takes of a match table."""
    return Outcomes(
        images=len(table.images),
        status=table.status,
        rank=table.rank,
        image=table.image,
        start=table.start,
        positive_image=table.positive_image,
        positive_label=table.positive_label,
        positive_areas=table.positive_areas,
    )


def group_outcomes(table: MatchTable, groups: Groups | None) -> tuple[list[Any], Outcomes]:
    """The names of the images, or groups, in order of their first image; and the outcomes."""
    outcomes = collect_outcomes(table)
    if groups is None:
        return list(table.images), outcomes
    places: dict[Hashable, int] = {}
    index = np.zeros(len(table.images), np.int32)
    for i, image in enumerate(table.images):
        if image not in groups:
            raise ValueError(f"image {str(image)[:60]!r} has no group")
        index[i] = places.setdefault(groups[image], len(places))
    return list(places), regroup(outcomes, index, len(places))


def draw_weights(
    names: list[Any], weights: WeightSource, replicates: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """The weights of all replicates, in parts of bounded size."""
    if weights not in ("multinomial", "poisson"):
        raise ValueError(f"weights must be 'multinomial' or 'poisson', not {weights!r}")
    if replicates < 2:
        raise ValueError(f"replicates must be at least 2, not {replicates}")
    from upmap.kernels.resampling.weights import draw_counts, hash_counts  # loads numpy.random

    generator = np.random.default_rng(seed)
    step = max(64, CHUNK // max(1, len(names)) // 64 * 64)
    for first in range(0, replicates, step):
        count = min(step, replicates - first)
        if weights == "poisson":
            yield hash_counts(names, count, seed=seed, first=first)
        else:
            yield draw_counts(len(names), count, generator)


def _influence_errors(
    protocol: Protocol, outcomes: Outcomes, threads: int, impl: Implementation | None
) -> tuple[Floats, Floats]:
    """The standard errors of the metrics and of the classes' AP, by influence."""
    places, quantities = plan_quantities(protocol)
    sums = sum_influence(outcomes, quantities, threads=threads, impl=impl)
    columns = zip(
        sums.of_images.tolist(), sums.of_classes, sums.number, sums.positive_images, strict=True
    )
    errors = [_mean_error(*column, outcomes.images) for column in columns]
    of_class = (sums.of_classes[-1], sums.number[-1], sums.positive_images[-1])
    metric_errors = [math.nan if q is None else errors[q] for q in places.values()]
    return np.array(metric_errors), _class_errors(*of_class, outcomes.images)


def _estimate_metrics(
    evaluation: Evaluation, errors: Floats, quantile: float
) -> dict[str, Estimate]:
    numbers = zip(evaluation.metrics.items(), errors.tolist(), strict=True)
    return {name: estimate_around(value, error, quantile) for (name, value), error in numbers}


def estimate_around(value: float, standard_error: float, quantile: float) -> Estimate:
    """A number with the symmetric interval of its standard error, cut at 0 and 1."""
    if math.isnan(value) or math.isnan(standard_error):
        return Estimate(value, math.nan, math.nan, math.nan)
    half = quantile * standard_error
    if math.isnan(half):  # of one group
        return Estimate(value, standard_error, math.nan, math.nan)
    return Estimate(value, standard_error, max(value - half, 0.0), min(value + half, 1.0))


def _estimate_classes(
    table: MatchTable, AP: Floats, errors: Floats, quantile: float
) -> dict[str, Estimate]:
    errors = np.where(np.isnan(AP), np.nan, errors)
    ends = wilson_interval(AP, errors, table.positives[:, 0].astype(np.float64), quantile)
    columns = zip(*(array.tolist() for array in (AP, errors, *ends)), strict=True)
    return {name: Estimate(*numbers) for name, numbers in zip(table.classes, columns, strict=True)}


def _rare_classes(table: MatchTable, outcomes: Outcomes) -> tuple[str, ...]:
    counts = count_positive_images(outcomes, 0).tolist()
    return tuple(
        name for name, count in zip(table.classes, counts, strict=True) if 0 < count < RARE
    )


def count_positive_images(outcomes: Outcomes, area: int) -> NDArray[np.int64]:
    """The number of images with a positive of each class in an area range, int64 [K]."""
    is_inside = _is_inside(outcomes, area)
    label, image = outcomes.positive_label[is_inside], outcomes.positive_image[is_inside]
    pairs = label.astype(np.int64) * outcomes.images + image
    if (np.diff(pairs) < 0).any():  # of groups
        order = np.argsort(pairs)
        label, pairs = label[order], pairs[order]
    is_first = np.diff(pairs, prepend=-1) > 0
    return np.bincount(label[is_first], minlength=len(outcomes.start) - 1)


def _is_inside(outcomes: Outcomes, area: int) -> NDArray[np.bool_]:
    """Which positives count in an area range, bool [G]."""
    inside: NDArray[np.bool_] = outcomes.positive_areas & np.uint64(1 << area) != 0
    return inside


def _drop_errors_of_one_image(
    errors: Floats, places: Iterable[int | None], quantities: Quantities, outcomes: Outcomes
) -> Floats:
    """The errors, NaN where all positives are on one image: then nothing says how sure it is."""
    rests_on_one = {}
    for area in sorted({*quantities.area.tolist()}):
        images = outcomes.positive_image[_is_inside(outcomes, area)]
        rests_on_one[area] = not images.size or images.min() == images.max()
    kept = errors.copy()
    for place, q in enumerate(places):
        if q is not None and rests_on_one[int(quantities.area[q])]:
            kept[place] = math.nan
    return kept


def _squares(classes: ClassInfluence) -> Floats:
    """The sum of squared influences on each class, float64 [K]."""
    squares: Floats = np.square(classes.value)
    sums = np.bincount(classes.label, weights=squares, minlength=len(classes.number))
    return sums.astype(np.float64)


def _mean_over_classes(numbers: Floats) -> Floats:
    """The mean over defined classes, float64 [Q, B], of [Q, K, B]; NaN without any."""
    is_defined = ~np.isnan(numbers)
    counts = is_defined.sum(axis=1)
    sums = np.where(is_defined, numbers, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def deviation(samples: Floats) -> Floats:
    """The standard deviation over replicates, the first axis, of those that are defined."""
    is_defined = ~np.isnan(samples)
    counts = is_defined.sum(axis=0)
    clean = np.where(is_defined, samples, 0.0)
    mean = clean.sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(is_defined, np.square(clean - mean), 0.0).sum(axis=0)
    return np.where(counts > 1, np.sqrt(squares / np.maximum(counts - 1, 1)), np.nan)
