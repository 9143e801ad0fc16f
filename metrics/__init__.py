"""Detection evaluation: match, compute scores, report; and the scores of segmentation."""

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
    "Evaluation",
    "MatchTable",
    "Metric",
    "Protocol",
    "concatenate",
    "evaluate_matches",
    "match",
    "mean_average_precision",
]
