from upmap.kernels.matching.contract import Columns, DetectionBoxes, Rules, TruthBoxes

def match(
    detections: DetectionBoxes, ground_truth: TruthBoxes, rules: Rules, classes: int, threads: int
) -> Columns: ...
