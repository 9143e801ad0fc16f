"""The verbs of evaluation: match, accumulate, summarise, report."""

from upmap.metrics.curves import Curve
from upmap.metrics.evaluation import ClassScores, Evaluation, evaluation, mean_average_precision
from upmap.metrics.matching import MatchTable, joined, match
from upmap.metrics.protocol import COCO, PROTOCOLS, VOC2007, VOC2010, AreaRange, Metric, Protocol

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
    "evaluation",
    "joined",
    "match",
    "mean_average_precision",
]
