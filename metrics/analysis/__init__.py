"""What a match table says beyond its numbers: how sure they are."""

from upmap.metrics.analysis.uncertainty import Estimate, Uncertainty, estimate_uncertainty

__all__ = ["Estimate", "Uncertainty", "estimate_uncertainty"]
