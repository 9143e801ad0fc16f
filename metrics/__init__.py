"""Detection evaluation: match, compute scores, report; and the scores of segmentation."""

from typing import TYPE_CHECKING, Any

from upmap.exports import import_export

if TYPE_CHECKING:
    from upmap.metrics.analysis.uncertainty import Estimate, Uncertainty, estimate_uncertainty
    from upmap.metrics.api import mean_average_precision
    from upmap.metrics.curves import Curve
    from upmap.metrics.match_table import MatchTable, concatenate
    from upmap.metrics.matching import match
    from upmap.metrics.protocols import (
        COCO,
        PROTOCOLS,
        VOC2007,
        VOC2010,
        AreaRange,
        Metric,
        Protocol,
    )
    from upmap.metrics.scores import ClassScores, Evaluation, evaluate_matches

__all__ = [
    "COCO",
    "PROTOCOLS",
    "VOC2007",
    "VOC2010",
    "AreaRange",
    "ClassScores",
    "Curve",
    "Estimate",
    "Evaluation",
    "MatchTable",
    "Metric",
    "Protocol",
    "Uncertainty",
    "concatenate",
    "estimate_uncertainty",
    "evaluate_matches",
    "match",
    "mean_average_precision",
]

MODULES = (
    "upmap.metrics.protocols",
    "upmap.metrics.match_table",
    "upmap.metrics.matching",
    "upmap.metrics.curves",
    "upmap.metrics.scores",
    "upmap.metrics.api",
    "upmap.metrics.analysis.uncertainty",
)  # those that import least first


def __getattr__(name: str) -> Any:
    """Imports a public name from the module that has it."""
    if name in __all__:
        return import_export(__name__, name, MODULES)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
