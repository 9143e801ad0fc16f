"""Exact VOC and COCO detection metrics, and segmentation with exchangeable upsampling operators.

The public names are imported when they are first used: `import upmap` alone loads no numpy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upmap.detection import (
        Catalog,
        Detections,
        GroundTruth,
        InputError,
        InputWarning,
        detections_from_arrays,
        ground_truth_from_arrays,
        read,
        read_detections,
        read_ground_truth,
        write,
    )
    from upmap.metrics import (
        COCO,
        PROTOCOLS,
        VOC2007,
        VOC2010,
        AreaRange,
        ClassScores,
        Curve,
        Estimate,
        Evaluation,
        MatchTable,
        Metric,
        Protocol,
        Uncertainty,
        concatenate,
        estimate_uncertainty,
        evaluate_matches,
        match,
        mean_average_precision,
    )

__version__ = "0.1.0"

__all__ = [
    "COCO",
    "PROTOCOLS",
    "VOC2007",
    "VOC2010",
    "AreaRange",
    "Catalog",
    "ClassScores",
    "Curve",
    "Detections",
    "Estimate",
    "Evaluation",
    "GroundTruth",
    "InputError",
    "InputWarning",
    "MatchTable",
    "Metric",
    "Protocol",
    "Uncertainty",
    "concatenate",
    "detections_from_arrays",
    "estimate_uncertainty",
    "evaluate_matches",
    "ground_truth_from_arrays",
    "match",
    "mean_average_precision",
    "read",
    "read_detections",
    "read_ground_truth",
    "write",
]

MODULES = ("upmap.errors", "upmap.metrics", "upmap.detection")


def __getattr__(name: str) -> Any:
    """Imports a public name from the package that has it."""
    if name in __all__:
        from upmap.exports import import_export

        return import_export(__name__, name, MODULES)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
