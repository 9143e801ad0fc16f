"""Whether one detector is better than another on the same images.

Both are resampled with the same images, so what the images do to both cancels out. Classes with few
positives, where a standard error says little, are tested by permutation: on random images the two
detectors exchange their detections.

Sources: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993); S. Holm (1979);
Y. Benjamini and Y. Hochberg (1995); F. E. Satterthwaite (1946), for degrees of freedom; P. Good,
"Permutation Tests" (2000).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from upmap.kernels import Implementation
from upmap.kernels.resampling import Outcomes, Quantities, resample
from upmap.metrics.analysis.intervals import (
    adjust_benjamini_hochberg,
    adjust_holm,
    normal_p_value,
    student_p_value,
    two_sided_quantile,
)
from upmap.metrics.analysis.uncertainty import (
    ClassInfluence,
    Groups,
    Method,
    class_standard_errors,
    compute_influence,
    deviation,
    draw_weights,
    group_outcomes,
    mean_standard_error,
    plan_quantities,
    resample_numbers,
)
from upmap.metrics.match_table import MatchTable, select_images
from upmap.metrics.protocols import Protocol
from upmap.metrics.scores import evaluate_matches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ClassDifference", "DetectorComparison", "Difference", "compare"]

Floats = NDArray[np.float64]
FEW_POSITIVES = 30  # below, a class is tested by permutation
PERMUTATIONS = 1000
BATCH = 64  # permutations at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much greater a number of detector B is than that of detector A; NaN is undefined.

    Attributes:
        a: The number of A, a fraction.
        b: The number of B.
        delta: b - a.
        standard_error: That of delta.
        low: The lower end of delta's interval.
        high: The upper end.
        p: The two-sided p-value of no difference.
    """

    a: float
    b: float
    delta: float
    standard_error: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassDifference(Difference):
    """The difference of the AP of a class, among those of all classes.

    Attributes:
        positives: Ground truths of the class.
        p_holm: p as Holm adjusts it: with it, any false alarm among the classes is as likely.
        p_bh: p as Benjamini and Hochberg adjust it: it bounds the share of false discoveries.
        test: "student" (t), or "permutation" where there are few positives.
    """

    positives: int
    p_holm: float
    p_bh: float
    test: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorComparison:
    """The differences of two detectors.

    Attributes:
        metrics: The protocol's summary: name to difference.
        per_class: Class name to the difference of its AP.
        images: Images that both were evaluated on.
        left_out: Images that only one of them was evaluated on.
        method: "influence" or "bootstrap".
        level: The probability that an interval covers.
        replicates: float64 [B, metrics], the differences in each replicate; [0, metrics] by
            influence.
        seed: Of the bootstrap and of permutations.
        groups: The number of groups of images; None if images are taken as independent.
        image_delta: Image id to how much it adds to the difference of the first metric.
    """

    metrics: Mapping[str, Difference]
    per_class: Mapping[str, ClassDifference]
    images: int
    left_out: int
    method: Method
    level: float
    replicates: Floats
    seed: int
    groups: int | None
    image_delta: Mapping[Any, float]

    def plot(self) -> "Axes":
        """Draws the difference of each number and class with its interval.

        Needs matplotlib: `pip install "upmap[plots]"`. See `metrics.plots.plot_comparison`.
        """
        from upmap.metrics.plots import plot_comparison

        return plot_comparison(self)

    def _repr_html_(self) -> str:
        from upmap.metrics.reports.notebook import comparison_html

        return comparison_html(self)


def compare(
    a: MatchTable,
    b: MatchTable,
    *,
    method: Method = "influence",
    replicates: int = 1000,
    seed: int = 0,
    groups: Groups | None = None,
    level: float = 0.95,
    threads: int = 0,
    impl: Implementation | None = None,
) -> DetectorComparison:
    """Compares two detectors on the images that both were evaluated on.

    Args:
        a: The match table of detector A.
        b: The match table of detector B, under the same protocol and ground truth.
        method: "influence" needs no random numbers; "bootstrap" resamples the images of both alike.
        replicates: Of the bootstrap.
        seed: Of the bootstrap, and of the permutations for classes with few positives.
        groups: For each image id the group that it belongs to, where images of a group are alike.
        level: The probability that an interval covers, in (0, 1).
        threads: Maximum number of threads; 0 uses all cores. The result does not depend on it.
        impl: "native" or "reference"; None selects the fastest available.

    Raises:
        ValueError: If the protocols differ, there is no image that both have, or the ground truths
            differ.
    """
    if a.protocol != b.protocol:
        raise ValueError("the match tables are of different protocols")
    if method not in ("influence", "bootstrap"):
        raise ValueError(f"method must be 'influence' or 'bootstrap', not {method!r}")
    left_out = len(set(a.images) ^ set(b.images))
    tables = _align(a, b)
    settings: dict[str, Any] = {"threads": threads, "impl": impl}
    evaluations = [evaluate_matches(table, **settings) for table in tables]
    outcomes = [group_outcomes(table, groups) for table in tables]
    quantile = two_sided_quantile(level, None if groups is None else len(outcomes[0][0]))
    pair = (outcomes[0][1], outcomes[1][1])
    influence = _influence_on_difference(tables[0], pair, settings)
    if method == "influence":
        samples = np.zeros((0, len(evaluations[0].metrics)))
        errors, class_errors = _errors_by_influence(tables[0], influence)
    else:
        samples, errors, class_errors = _bootstrap_difference(
            tables[0], pair, outcomes[0][0], (replicates, seed), settings
        )
    numbers = [list(evaluation.metrics.values()) for evaluation in evaluations]
    APs = [[scores.AP for scores in evaluation.per_class.values()] for evaluation in evaluations]
    p_values = _permutation_p_values(tables, APs, seed, settings)
    degrees = _class_degrees(influence[-1])
    return DetectorComparison(
        metrics={
            name: _difference(a, b, error, quantile)
            for name, a, b, error in zip(
                evaluations[0].metrics, *numbers, errors.tolist(), strict=True
            )
        },
        per_class=_class_differences(tables[0], APs, (class_errors, degrees), p_values, quantile),
        images=len(tables[0].images),
        left_out=left_out,
        method=method,
        level=level,
        replicates=samples,
        seed=seed,
        groups=None if groups is None else len(outcomes[0][0]),
        image_delta=_image_deltas(outcomes[0][0], influence),
    )


def _align(a: MatchTable, b: MatchTable) -> tuple[MatchTable, MatchTable]:
    """Both tables of the images that both have, under one list of classes."""
    images = [image for image in a.images if image in set(b.images)]
    if not images:
        raise ValueError("there is no image that both were evaluated on")
    classes = tuple(dict.fromkeys((*a.classes, *b.classes)))
    first, second = (select_images(table, images, classes) for table in (a, b))
    for name in ("positive_image", "positive_label", "positive_areas"):
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            raise ValueError("the ground truth of the two match tables differs")
    return first, second


def _influence_on_difference(
    table: MatchTable, outcomes: tuple[Outcomes, Outcomes], settings: dict[str, Any]
) -> list[ClassInfluence]:
    """The influence of each image on the difference of each quantity."""
    quantities = plan_quantities(table.protocol)[1]
    of_a, of_b = (compute_influence(part, quantities, **settings) for part in outcomes)
    return [_subtract(first, second) for first, second in zip(of_a, of_b, strict=True)]


def _subtract(a: ClassInfluence, b: ClassInfluence) -> ClassInfluence:
    """The influence on the number of B less that of A, an entry for each class and image."""
    keys = [part.label.astype(np.int64) * a.images + part.image for part in (a, b)]
    unique, place = np.unique(np.concatenate(keys), return_inverse=True)
    values = np.concatenate([-a.value, b.value])
    value = np.bincount(place, weights=values, minlength=len(unique)).astype(np.float64)
    return replace(
        a,
        label=(unique // max(1, a.images)).astype(np.int32),
        image=(unique % max(1, a.images)).astype(np.int32),
        value=value,
        number=b.number - a.number,
    )


def _errors_by_influence(
    table: MatchTable, influence: Sequence[ClassInfluence]
) -> tuple[Floats, Floats]:
    places = plan_quantities(table.protocol)[0]
    errors = [math.nan if q is None else mean_standard_error(influence[q]) for q in places.values()]
    return np.array(errors), class_standard_errors(influence[-1])


def _bootstrap_difference(
    table: MatchTable,
    outcomes: tuple[Outcomes, Outcomes],
    names: list[Any],
    draws: tuple[int, int],
    settings: dict[str, Any],
) -> tuple[Floats, Floats, Floats]:
    """The differences in replicates, [B, metrics], their deviation, and that of classes, [K]."""
    (metrics_a, classes_a), (metrics_b, classes_b) = (
        # The same weights for both.
        resample_numbers(
            table.protocol, part, draw_weights(names, "multinomial", *draws), **settings
        )
        for part in outcomes
    )
    errors = [deviation(metrics_b - metrics_a), deviation(classes_b - classes_a)]
    if len(names) < 2:  # every replicate is the same
        errors = [np.full_like(each, np.nan) for each in errors]
    return metrics_b - metrics_a, errors[0], errors[1]


def _difference(a: float, b: float, error: float, quantile: float) -> Difference:
    delta = b - a
    half = quantile * error
    p = math.nan if math.isnan(delta) else normal_p_value(delta, error)
    low, high = delta - half, delta + half
    return Difference(a=a, b=b, delta=delta, standard_error=error, low=low, high=high, p=p)


def _class_differences(
    table: MatchTable,
    APs: Sequence[Sequence[float]],
    errors: tuple[Floats, Floats],
    permutation_p: Mapping[int, float],
    quantile: float,
) -> dict[str, ClassDifference]:
    plain = [
        _difference(a, b, error, quantile)
        for a, b, error in zip(*APs, errors[0].tolist(), strict=True)
    ]
    student_p = [
        student_p_value(row.delta, row.standard_error, degrees)
        for row, degrees in zip(plain, errors[1].tolist(), strict=True)
    ]
    p = np.array([permutation_p.get(k, value) for k, value in enumerate(student_p)])
    adjusted = zip(adjust_holm(p).tolist(), adjust_benjamini_hochberg(p).tolist(), strict=True)
    return {
        name: ClassDifference(
            a=row.a,
            b=row.b,
            delta=row.delta,
            standard_error=row.standard_error,
            low=row.low,
            high=row.high,
            p=float(p[k]),
            positives=int(table.positives[k, 0]),
            p_holm=p_holm,
            p_bh=p_bh,
            test="permutation" if k in permutation_p else "student",
        )
        for k, (name, row, (p_holm, p_bh)) in enumerate(
            zip(table.classes, plain, adjusted, strict=True)
        )
    }


def _class_degrees(classes: ClassInfluence) -> Floats:
    """How many degrees of freedom the standard error of each class has, float64 [K].

    Its square is a sum over images of squares; a multiple of chi-squared has the same mean and
    variance at 2 mean^2 / variance degrees (Satterthwaite, 1946). NaN where it is 0.
    """
    K = len(classes.number)
    square = np.square(classes.value)
    count = np.maximum(1, np.bincount(classes.label, minlength=K))
    total = np.bincount(classes.label, weights=square, minlength=K)
    variance = np.bincount(classes.label, weights=np.square(square), minlength=K) - total**2 / count
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees: Floats = 2 * total**2 / variance
    return degrees


def _permutation_p_values(
    tables: tuple[MatchTable, MatchTable],
    APs: Sequence[Sequence[float]],
    seed: int,
    settings: dict[str, Any],
) -> dict[int, float]:
    """The p-value of each class with few positives: class index to p."""
    positives = tables[0].positives[:, 0]
    few = [k for k in np.flatnonzero((positives > 0) & (positives < FEW_POSITIVES)).tolist()]
    if not few:
        return {}
    merged = _merge_virtually(*tables, few)
    protocol, images = tables[0].protocol, len(tables[0].images)
    quantities = _class_quantity(protocol)
    points = None if protocol.recall_points is None else np.array(protocol.recall_points)
    generator = np.random.default_rng(seed)
    larger = np.zeros(len(few))
    # The first row exchanges nothing: what it gives is the difference that is tested.
    observed: Floats | None = None
    for first in range(0, PERMUTATIONS + 1, BATCH):
        count = min(BATCH, PERMUTATIONS + 1 - first)
        is_kept = generator.integers(0, 2, (count, images), dtype=np.uint8)
        if observed is None:
            is_kept[0] = 1
        ones = np.ones_like(is_kept)
        numbers = [
            resample(
                merged,
                np.concatenate([kept, 1 - kept, ones], axis=1),
                quantities,
                recall_points=points,
                **settings,
            )[0]
            for kept in (is_kept, 1 - is_kept)
        ]
        size = np.abs(numbers[1] - numbers[0])  # [few, count]
        if observed is None:
            observed, size = size[:, :1], size[:, 1:]
        larger += (size >= observed - 1e-12).sum(axis=1)
    p = (1 + larger) / (PERMUTATIONS + 1)
    return dict(zip(few, p.tolist(), strict=True))


def _class_quantity(protocol: Protocol) -> Quantities:
    """The AP of a class alone."""
    all_of_protocol = plan_quantities(protocol)[1]
    columns = (field.name for field in fields(Quantities))
    return Quantities(**{name: getattr(all_of_protocol, name)[-1:] for name in columns})


def _merge_virtually(a: MatchTable, b: MatchTable, classes: Sequence[int]) -> Outcomes:
    """The detections of both on images of their own: A's i, B's I + i; the objects on 2 I + i.

    Scores, which may be of different scales, are replaced by their ranks within a class.
    """
    images = len(a.images)
    parts = [_rows_of_classes(table, classes) for table in (a, b)]
    label = np.concatenate([part["label"] for part in parts])
    quantile = np.concatenate([part["quantile"] for part in parts])
    image = np.concatenate([parts[0]["image"], parts[1]["image"] + images])
    order = np.lexsort((image, -quantile, label))
    is_here = np.isin(a.positive_label, classes)
    new_label = np.full(len(a.classes), -1, np.int32)
    new_label[list(classes)] = np.arange(len(classes))
    return Outcomes(
        images=3 * images,
        status=np.concatenate([part["status"] for part in parts], axis=-1)[..., order],
        rank=np.concatenate([part["rank"] for part in parts])[order],
        image=image[order].astype(np.int32),
        start=np.searchsorted(label[order], np.arange(len(classes) + 1)).astype(np.int64),
        positive_image=(a.positive_image[is_here] + 2 * images).astype(np.int32),
        positive_label=new_label[a.positive_label[is_here]],
        positive_areas=a.positive_areas[is_here],
    )


def _rows_of_classes(table: MatchTable, classes: Sequence[int]) -> dict[str, NDArray[Any]]:
    rows = [np.arange(table.start[k], table.start[k + 1]) for k in classes]
    at = np.concatenate(rows)
    quantiles = [
        1 - (np.searchsorted(-table.score[row], -table.score[row], side="left") + 0.5) / len(row)
        for row in rows
        if len(row)
    ]
    return {
        "label": np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
        "quantile": np.concatenate([np.zeros(0), *quantiles]),
        "image": table.image[at],
        "rank": table.rank[at],
        "status": table.status[..., at],
    }


def _image_deltas(names: list[Any], influence: Sequence[ClassInfluence]) -> dict[Any, float]:
    """How much each image (or group) adds to the mean difference of the first quantity."""
    classes = influence[0]
    count = max(1, int((~np.isnan(classes.number)).sum()))
    sums = np.bincount(classes.image, weights=classes.value, minlength=len(names)) / count
    return dict(zip(names, sums.tolist(), strict=True))
