from upmap.kernels.matching import Arrays, Boxes, Rules

def match(
    detections: Boxes, ground_truth: Boxes, rules: Rules, classes: int, threads: int
) -> Arrays: ...
