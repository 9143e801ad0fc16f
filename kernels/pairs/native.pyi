from upmap.kernels.matching.contract import DetectionBoxes, TruthBoxes
from upmap.kernels.pairs.contract import PairArrays

def find_pairs(
    detections: DetectionBoxes,
    ground_truth: TruthBoxes,
    side_offset: float,
    min_iou: float,
    threads: int,
) -> PairArrays: ...
