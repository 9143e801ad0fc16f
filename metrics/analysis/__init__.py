"""What a match table says beyond its numbers: how sure they are, and what costs the points."""

from typing import TYPE_CHECKING, Any

from upmap.exports import import_export

if TYPE_CHECKING:
    from upmap.metrics.analysis.calibration import Calibration, measure_calibration
    from upmap.metrics.analysis.comparison import (
        ClassDifference,
        DetectorComparison,
        Difference,
        compare,
    )
    from upmap.metrics.analysis.confusion import Confusion, count_confusions
    from upmap.metrics.analysis.explanation import Explanation, explain_evaluation
    from upmap.metrics.analysis.label_candidates import LabelCandidates, find_label_candidates
    from upmap.metrics.analysis.lrp import LRP, measure_lrp
    from upmap.metrics.analysis.operating_points import (
        OperatingPoint,
        OperatingPoints,
        find_operating_points,
    )
    from upmap.metrics.analysis.pairs import Pairs, pair_detections
    from upmap.metrics.analysis.slices import Slices, evaluate_slices
    from upmap.metrics.analysis.tide import ErrorCosts, explain_errors, explain_errors_as_tidecv
    from upmap.metrics.analysis.ties import TieRange, TieRanges, find_tie_ranges
    from upmap.metrics.analysis.uncertainty import Estimate, Uncertainty, estimate_uncertainty
    from upmap.metrics.analysis.worst import WorstImages, find_worst_images

__all__ = [
    "LRP",
    "Calibration",
    "ClassDifference",
    "Confusion",
    "DetectorComparison",
    "Difference",
    "ErrorCosts",
    "Estimate",
    "Explanation",
    "LabelCandidates",
    "OperatingPoint",
    "OperatingPoints",
    "Pairs",
    "Slices",
    "TieRange",
    "TieRanges",
    "Uncertainty",
    "WorstImages",
    "compare",
    "count_confusions",
    "estimate_uncertainty",
    "evaluate_slices",
    "explain_errors",
    "explain_errors_as_tidecv",
    "explain_evaluation",
    "find_label_candidates",
    "find_operating_points",
    "find_tie_ranges",
    "find_worst_images",
    "measure_calibration",
    "measure_lrp",
    "pair_detections",
]

MODULES = tuple(
    f"upmap.metrics.analysis.{name}"
    for name in (
        "uncertainty",
        "comparison",
        "worst",
        "pairs",
        "operating_points",
        "confusion",
        "lrp",
        "calibration",
        "tide",
        "explanation",
        "label_candidates",
        "slices",
        "ties",
    )
)  # those that import least first


def __getattr__(name: str) -> Any:
    """Imports a public name from the module that has it."""
    if name in __all__:
        return import_export(__name__, name, MODULES)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
