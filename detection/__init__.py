"""Tables of ground truth and detections, and the file formats that they are read from."""

from typing import TYPE_CHECKING, Any

from upmap.exports import import_export

if TYPE_CHECKING:
    from upmap.detection.arrays import detections_from_arrays, ground_truth_from_arrays
    from upmap.detection.formats import FORMATS, read, read_detections, read_ground_truth, write
    from upmap.detection.tables import Catalog, Detections, GroundTruth
    from upmap.errors import InputError, InputWarning

__all__ = [
    "FORMATS",
    "Catalog",
    "Detections",
    "GroundTruth",
    "InputError",
    "InputWarning",
    "detections_from_arrays",
    "ground_truth_from_arrays",
    "read",
    "read_detections",
    "read_ground_truth",
    "write",
]

MODULES = (
    "upmap.errors",
    "upmap.detection.tables",
    "upmap.detection.formats",
    "upmap.detection.arrays",
)  # those that import least first


def __getattr__(name: str) -> Any:
    """Imports a public name from the module that has it."""
    if name in __all__:
        return import_export(__name__, name, MODULES)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
