"""The nouns of detection: tables of boxes, and the file formats that they come from."""

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
