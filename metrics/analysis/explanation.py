"""What costs an evaluation its points, in one result: errors, thresholds, confusions, calibration.

All parts are at the protocol's first IoU threshold and area range, and count what it counts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upmap.kernels import Implementation
from upmap.metrics.analysis.calibration import Calibration, measure_calibration
from upmap.metrics.analysis.confusion import Confusion, count_confusions
from upmap.metrics.analysis.lrp import LRP, measure_lrp
from upmap.metrics.analysis.operating_points import OperatingPoints, find_operating_points
from upmap.metrics.analysis.pairs import Pairs
from upmap.metrics.analysis.tide import ErrorCosts, explain_errors
from upmap.metrics.match_table import MatchTable

if TYPE_CHECKING:
    from upmap.metrics.analysis.best_thresholds import BestF1

__all__ = ["Explanation", "explain_evaluation"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Explanation:
    """What costs the points.

    Attributes:
        errors: What each kind of error costs.
        operating_points: Score thresholds, of each class and for all.
        confusion: Which classes are taken for which at the threshold for all.
        lrp: The optimal LRP error.
        calibration: Whether scores are probabilities; None where they cannot be.
        uncalibrated_reason: Why there is no calibration; else empty.
        best_F1: The uncertainty of the largest F1; None if it was not asked for.
    """

    errors: ErrorCosts
    operating_points: OperatingPoints
    confusion: Confusion
    lrp: LRP
    calibration: Calibration | None
    uncalibrated_reason: str
    best_F1: "BestF1 | None" = None

    def to_record(self) -> dict[str, Any]:
        """The result as plain data, for JSON."""
        parts = ("errors", "operating_points", "confusion", "lrp")
        record: dict[str, Any] = {name: getattr(self, name).to_record() for name in parts}
        calibration = None if self.calibration is None else self.calibration.to_record()
        if self.best_F1 is not None:
            record["best_F1"] = self.best_F1.to_record()
        return record | {
            "calibration": calibration,
            "uncalibrated_reason": self.uncalibrated_reason or None,
        }


def explain_evaluation(
    pairs: Pairs, table: MatchTable, *, threads: int = 0, impl: Implementation | None = None
) -> Explanation:
    """Explains the points that an evaluation misses.

    Args:
        pairs: The pairs of the match table.
        table: The match table.
        threads: Maximum number of threads; 0 uses all cores.
        impl: "native" or "reference"; None selects the fastest available.
    """
    points = find_operating_points(table)
    calibration, reason = None, ""
    try:
        calibration = measure_calibration(pairs, table, threshold=points.threshold)
    except ValueError as error:
        reason = str(error)
    return Explanation(
        errors=explain_errors(pairs, table, threads=threads, impl=impl),
        operating_points=points,
        confusion=count_confusions(pairs, table, threshold=points.threshold),
        lrp=measure_lrp(pairs, table),
        calibration=calibration,
        uncalibrated_reason=reason,
    )
