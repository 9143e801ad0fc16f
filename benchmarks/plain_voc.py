"""Pascal VOC's 11-point mAP in plain Python, written from the rules of the VOC2007 development kit.

Run as `python -m benchmarks.plain_voc DEVKIT DETECTIONS`: a folder with Annotations and the list of
the image set `test`, and a folder of comp<N>_det_test_<class>.txt. It shares no code with the
packages: it is what they are compared with, in its numbers and in its time. A class is evaluated
as VOCevaldet.m does it, which reads every annotation for it; `--read-once` keeps them for the
others. Twelve decimals are printed; the bits behind them depend on the order in which eleven
precisions are summed.

Source: VOCevaldet.m and VOCap.m of the kit.
"""

import argparse
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

Box = tuple[float, ...]
Truth = dict[str, list[tuple[str, bool, Box]]]  # of each image: class, difficult, corners
IMAGE_SET = "test"
SIDES = ("xmin", "ymin", "xmax", "ymax")
MIN_OVERLAP = 0.5
POINTS = 11  # of recall


def main(devkit: Path, detections: Path, *, read_once: bool = False) -> None:
    """Prints a line with the average precision of each class that has results, and their mean."""
    read: Callable[[Path], Truth] = cache(ground_truth) if read_once else ground_truth
    files = detections.glob(f"comp*_det_{IMAGE_SET}_*.txt")
    classes = sorted({path.stem.split("_", 3)[3] for path in files})
    scores = {name: average_precision(name, read(devkit), detections) for name in classes}
    defined = [score for score in scores.values() if score is not None]
    for name, score in scores.items():
        print(name, "n/a" if score is None else f"{score:.12f}")
    print(f"mAP {sum(defined) / len(defined):.12f}")


def ground_truth(devkit: Path) -> Truth:
    """The class, mark and corners of each object of each image."""
    lines = image_list(devkit).read_text(encoding="utf-8").splitlines()
    images = [line.split()[0] for line in lines if line.strip()]
    return {image: objects(devkit / "Annotations" / f"{image}.xml") for image in images}


def image_list(devkit: Path) -> Path:
    """The list of the image set, in the kit's place or beside Annotations."""
    kit = devkit / "ImageSets" / "Main" / f"{IMAGE_SET}.txt"
    return kit if kit.is_file() else devkit / f"{IMAGE_SET}.txt"


def objects(path: Path) -> list[tuple[str, bool, Box]]:
    """The objects of one annotation."""
    found = []
    for element in ElementTree.parse(path).getroot().findall("object"):
        bndbox = element.find("bndbox")
        assert bndbox is not None
        corners = tuple(float(bndbox.findtext(side, "nan")) for side in SIDES)
        is_difficult = element.findtext("difficult", "0").strip() == "1"
        found.append((element.findtext("name", "").strip(), is_difficult, corners))
    return found


def average_precision(name: str, truth: Truth, folder: Path) -> float | None:
    """The mean over recalls 0, 0.1 .. 1 of the highest precision at that recall or a higher one."""
    boxes: dict[str, list[Box]] = {}
    difficult: dict[str, list[bool]] = {}
    for image, found in truth.items():
        boxes[image] = [box for kind, _, box in found if kind == name]
        difficult[image] = [mark for kind, mark, _ in found if kind == name]
    positives = sum(marks.count(False) for marks in difficult.values())
    if not positives:
        return None
    curve = precision_recall(ranked(name, folder), boxes, difficult, positives)
    best = [max((p for p, r in curve if r >= i * 0.1), default=0.0) for i in range(POINTS)]
    return sum(best) / POINTS


def ranked(name: str, folder: Path) -> list[tuple[str, float, Box]]:
    """The detections of a class, the best first; equal scores in the order of the file."""
    rows: list[tuple[str, float, Box]] = []
    for path in folder.glob(f"comp*_det_{IMAGE_SET}_{name}.txt"):
        with path.open(encoding="utf-8") as lines:
            for words in filter(None, map(str.split, lines)):
                score, *corners = map(float, words[1:])
                rows.append((words[0], score, tuple(corners)))
    return sorted(rows, key=lambda row: -row[1])


def precision_recall(
    detections: list[tuple[str, float, Box]],
    boxes: dict[str, list[Box]],
    difficult: dict[str, list[bool]],
    positives: int,
) -> list[tuple[float, float]]:
    """Precision and recall after each detection that is not ignored."""
    claimed = {image: [False] * len(found) for image, found in boxes.items()}
    curve = []
    hits = misses = 0
    for image, _, box in detections:
        overlap, best = best_overlap(box, boxes[image])
        if overlap >= MIN_OVERLAP and difficult[image][best]:
            continue
        if overlap >= MIN_OVERLAP and not claimed[image][best]:
            claimed[image][best] = True
            hits += 1
        else:
            misses += 1
        curve.append((hits / (hits + misses), hits / positives))
    return curve


def best_overlap(box: Box, others: list[Box]) -> tuple[float, int]:
    """The largest intersection over union, and with which box: the first that has it."""
    largest, best = 0.0, -1
    left, top, right, bottom = box
    area = (right - left + 1) * (bottom - top + 1)
    for i, (xmin, ymin, xmax, ymax) in enumerate(others):
        width = min(right, xmax) - max(left, xmin) + 1
        height = min(bottom, ymax) - max(top, ymin) + 1
        if width > 0 and height > 0:
            common = width * height
            overlap = common / (area + (xmax - xmin + 1) * (ymax - ymin + 1) - common)
            if overlap > largest:
                largest, best = overlap, i
    return largest, best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plain_voc")
    parser.add_argument("devkit", type=Path)
    parser.add_argument("detections", type=Path)
    parser.add_argument("--read-once", action="store_true", help="keep the annotations")
    try:
        main(**vars(parser.parse_args()))
        sys.stdout.flush()
    except BrokenPipeError:  # a reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
