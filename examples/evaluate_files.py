"""Evaluates files: `python evaluate_files.py [GROUND_TRUTH DETECTIONS]`."""

import sys
from pathlib import Path

import upmap
from upmap import VOC2010, mean_average_precision

SAMPLE = Path(upmap.__file__).parent / "data" / "sample" / "voc"


def main() -> None:
    ground_truth, detections = sys.argv[1:] or (SAMPLE, SAMPLE / "results")
    result = mean_average_precision(ground_truth, detections, protocol=VOC2010)
    for name, scores in result.per_class.items():
        print(f"{name:<10} AP {scores.AP:.4f}  recall {scores.recall:.4f}")
    print(f"{'mean':<10} AP {result.mAP:.4f}")

    # The curve that the AP of a class is the area under.
    first = next(iter(result.per_class))
    curve = result.curve(first)
    print(f"{first}: precision {curve.precision[-1]:.4f} at recall {curve.recall[-1]:.4f}")


if __name__ == "__main__":
    main()
