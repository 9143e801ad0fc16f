"""What costs the points, as text for a terminal and as columns of CSV."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from upmap.metrics.analysis.tide import ERRORS
from upmap.metrics.reports.text import score_text
from upmap.text_tables import align_columns

if TYPE_CHECKING:
    from upmap.metrics.analysis.explanation import Explanation
    from upmap.metrics.analysis.operating_points import OperatingPoint
    from upmap.metrics.analysis.tide import ErrorCosts

__all__ = ["explanation_columns", "explanation_text", "tidecv_text"]

MAX_CONFUSIONS = 10


def explanation_text(name: str, explanation: "Explanation") -> str:
    """The explanation of one evaluation: tables, and how to read each.

    Args:
        name: Of the protocol.
        explanation: The result.
    """
    return "\n".join(_parts(name, explanation))


def tidecv_text(costs: "ErrorCosts") -> str:
    """TIDE's numbers as tidecv prints them: points of AP, each kind fixed alone.

    Args:
        costs: Of mode "tidecv".
    """
    rows = [["tidecv", "count", "dAP"]]
    rows += [[kind, f"{costs.counts[kind]:,}", _points(gain)] for kind, gain in costs.gains.items()]
    rows += [["FalsePos", "", _points(costs.false_positives)]]
    rows += [["FalseNeg", "", _points(costs.false_negatives)]]
    return (
        f"TIDE by tidecv's own rules at IoU {costs.iou:.2f}: AP {_points(costs.mAP)}\n\n"
        f"{align_columns(rows)}\ndAP: points of AP gained by fixing these errors alone. They do "
        "not add up; --explain has shares that do.\n"
    )


def explanation_columns(explanation: "Explanation") -> dict[str, dict[str, float]]:
    """For each class its columns of CSV: shares of errors, operating point, oLRP and LaECE."""
    columns: dict[str, dict[str, float]] = {}
    points = explanation.operating_points
    for name, costs in explanation.errors.per_class.items():
        common, calibration = points.common[name], explanation.calibration
        columns[name] = {f"{kind}_share": costs.shares[kind] for kind in ERRORS} | {
            "threshold": points.threshold,
            "precision_at_threshold": common.precision,
            "recall_at_threshold": common.recall,
            "F1_at_threshold": common.F1,
            "best_F1": points.best_F1[name].F1,
            "best_F1_threshold": points.best_F1[name].threshold,
            "oLRP": explanation.lrp.per_class[name].oLRP,
            "LaECE": math.nan if calibration is None else calibration.per_class[name],
        }
    return columns


def _parts(name: str, explanation: "Explanation") -> Iterator[str]:
    errors, points = explanation.errors, explanation.operating_points
    missing = score_text(1 - errors.mAP)
    yield f"what costs the points: {name} at IoU {errors.iou:.2f}, {missing} below a mAP of 1\n"
    yield align_columns(_error_rows(explanation), left=2)
    yield (
        "share: mAP that the errors cost, over all orders of fixing them; the six add up to what is"
        "\nmissing. alone: mAP gained by fixing these errors and no others, as TIDE reports it.\n"
    )
    yield align_columns(_point_rows(explanation))
    yield (
        f"at {_score(points.threshold)}: the one score threshold of the largest mean F1, "
        f"{score_text(points.mean_F1)}{_reach(explanation)}.\nbest F1: of the class alone. "
        "p90, r90: the lowest threshold with a precision of 90 %, the highest with a\nrecall of "
        "90 %.\n"
    )
    pairs = explanation.confusion.top_pairs(MAX_CONFUSIONS)
    if pairs:
        rows = [["object", "taken for", "count", "of all"]]
        rows += [[p.true, p.predicted, f"{p.count:,}", f"{p.share:.4f}"] for p in pairs]
        yield align_columns(rows, left=2)
        yield "of all: of the objects of the class, at the same threshold.\n"
    yield _lrp_line(explanation) + _calibration_line(explanation)


def _reach(explanation: "Explanation") -> str:
    """The interval of the largest mean F1, if it was asked for."""
    if explanation.best_F1 is None:
        return ""
    mean, count = explanation.best_F1.mean, explanation.best_F1.replicates
    return (
        f"\n({score_text(mean.low)} .. {score_text(mean.high)} by {count:,} replicates of the "
        "data, each with a best threshold of its own)"
    )


def _error_rows(explanation: "Explanation") -> list[list[str]]:
    errors = explanation.errors
    rows = [["error", "meaning", "count", "share", "alone"]]
    for kind, meaning in ERRORS.items():
        numbers = (score_text(values[kind]) for values in (errors.shares, errors.gains))
        rows.append([kind, meaning, f"{errors.counts[kind]:,}", *numbers])
    return rows


def _point_rows(explanation: "Explanation") -> list[list[str]]:
    points, per_class = explanation.operating_points, explanation.lrp.per_class
    threshold = _score(points.threshold)
    rows = [["class", f"F1 at {threshold}", "precision", "recall"]]
    rows[0] += ["best F1", "at", "p90 from", "r90 up to", "oLRP"]
    for name, common in points.common.items():
        best = points.best_F1[name]
        numbers = (common.F1, common.precision, common.recall, best.F1)
        thresholds = (best, points.precision_90[name], points.recall_90[name])
        cells = [_share(number) for number in numbers] + [_threshold(p) for p in thresholds]
        rows.append([name, *cells, _share(per_class[name].oLRP)])
    return rows


def _lrp_line(explanation: "Explanation") -> str:
    lrp = explanation.lrp
    return (
        f"oLRP {_share(lrp.oLRP)} (0 is perfect): boxes loose by {_share(lrp.localization)} of "
        f"IoU, {_share(lrp.false_positives)} of\ndetections false, "
        f"{_share(lrp.false_negatives)} of objects missed, each class at its best threshold.\n"
    )


def _calibration_line(explanation: "Explanation") -> str:
    calibration = explanation.calibration
    if calibration is None:
        return f"calibration: not measured: {explanation.uncalibrated_reason}\n"
    return (
        f"calibration (0: scores are probabilities): LaECE {_share(calibration.LaECE)}; D-ECE "
        f"{_share(calibration.D_ECE)}, and {_share(calibration.D_ECE_above)} of\ndetections at "
        "or above the threshold.\n"
    )


def _points(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.2f}"


def _threshold(point: "OperatingPoint") -> str:
    return _score(point.threshold)


def _score(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.4g}"


def _share(value: Any) -> str:
    return "n/a" if math.isnan(value) else f"{value:.4f}"
