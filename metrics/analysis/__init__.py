"""What a match table says beyond its numbers: how sure they are."""

from upmap.metrics.analysis.positives import Positives, find_positives
from upmap.metrics.analysis.uncertainty import Estimate, Uncertainty, estimate_uncertainty

__all__ = [
    "Estimate",
    "Positives",
    "Uncertainty",
    "estimate_uncertainty",
    "find_positives",
]
