"""A YOLO data set and the results of `predict --save-txt`, from files to twelve numbers.

Run as `python -m benchmarks.bench_yolo`. The set is that of `coco_like`, without crowds, written
as Ultralytics writes it: a file of labels for each image, and one of detections where there are
some. Arms are whole processes: ours with the sizes of images from their headers and from a file;
ours on the same boxes as COCO JSON; and hotcoco's converter of labels with its evaluation, the
detections being converted in plain Python, because it reads none. Before, the numbers are compared.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.coco_like import Size, write
from benchmarks.harness import (
    ROOT,
    Arm,
    BenchmarkError,
    interleaved_runs,
    log,
    provenance,
    row,
    run_arms,
    timing,
    timing_table,
)
from upmap.detection import read
from upmap.detection.formats.reading import write as write_tables

__all__ = ["ARMS", "compare_numbers", "main", "make_arm", "make_data_set", "measure"]

OURS, SIZES, JSON, HOTCOCO = "upmap", "upmap, sizes file", "upmap, COCO JSON", "hotcoco"
ARMS = (OURS, SIZES, JSON, HOTCOCO)
TOLERANCE = 1e-12  # of one of the twelve numbers: hotcoco's scaled boxes differ in their last bits
OUR_PROGRAM = """\
import sys
from pathlib import Path
from upmap.detection.formats.reading import read
from upmap.metrics import COCO, mean_average_precision
truth, detections, sizes = (Path(path) if path else None for path in sys.argv[1:4])
tables = read(truth, detections, sizes=sizes)
print(*mean_average_precision(*tables, protocol=COCO).metrics.values())"""
HOTCOCO_PROGRAM = """\
import os, sys
from hotcoco import COCO, COCOeval
root, results, _ = sys.argv[1:4]
truth = COCO.from_yolo(root + "/labels/val", images_dir=root + "/images/val")
found = []
for image in truth.dataset["images"]:
    path = f"{results}/{image['file_name']}.txt"
    if not os.path.exists(path):
        continue
    W, H = image["width"], image["height"]
    for line in open(path):
        k, x, y, w, h, score = line.split()
        w, h = float(w), float(h)
        bbox = [(float(x) - w / 2) * W, (float(y) - h / 2) * H, w * W, h * H]
        found.append({"image_id": image["id"], "category_id": int(k) + 1, "bbox": bbox,
                      "score": float(score)})
evaluation = COCOeval(truth, truth.load_res(found), "bbox")
evaluation.evaluate(); evaluation.accumulate()
sys.stdout.flush(); saved = os.dup(1); os.dup2(2, 1)
evaluation.summarize()
sys.stdout.flush(); os.dup2(saved, 1)
print(*evaluation.stats)"""


def make_data_set(folder: Path, size: Size) -> None:
    """Writes the set as YOLO, with images and a file of their sizes, and as COCO JSON.

    Args:
        folder: Where to.
        size: How large.
    """
    from PIL import Image

    truth, detections = read(*write(folder / "plain", size))
    stems = [Path(name).stem for name in truth.catalog.file_names]
    for name in ("images/val", "labels/val", "predict/labels"):
        (folder / name).mkdir(parents=True)
    sides = [tuple(pair) for pair in truth.catalog.sizes.tolist()]
    pictures = {}
    for pair in set(sides):
        Image.new("RGB", pair).save(folder / "picture.jpg")
        pictures[pair] = (folder / "picture.jpg").read_bytes()
    for stem, pair in zip(stems, sides, strict=True):
        (folder / "images" / "val" / f"{stem}.jpg").write_bytes(pictures[pair])
    lines = [f"{stem}.jpg {w} {h}\n" for stem, (w, h) in zip(stems, sides, strict=True)]
    (folder / "sizes.txt").write_text("".join(lines))
    classes = "".join(
        f"  {k}: {json.dumps(name)}\n" for k, name in enumerate(truth.catalog.classes)
    )
    description = f"path: .\nval: images/val\nnames:\n{classes}"
    for file in ("data.yaml", "labels/val/data.yaml"):  # the latter for hotcoco
        (folder / file).write_text(description)
    for table, name, form in ((truth, "labels/val", "%.6f"), (detections, "predict/labels", "%g")):
        rows = defaultdict(list)
        keep = ~truth.crowd if table is truth else np.ones(len(table), bool)
        scale = truth.catalog.sizes[table.image].astype(float)
        numbers = np.concatenate(
            [(table.box[:, :2] + table.size / 2) / scale, table.size / scale], axis=1
        )
        if table is detections:
            numbers = np.column_stack([numbers, detections.score])
        for i in np.flatnonzero(keep).tolist():
            words = " ".join(form % value for value in numbers[i].tolist())
            rows[stems[table.image[i]]].append(f"{table.label[i]} {words}\n")
        for stem in stems if table is truth else rows:
            (folder / name / f"{stem}.txt").write_text("".join(rows[stem]))
    tables = read(folder / "data.yaml", folder / "predict")
    write_tables(*tables, folder / "coco", format="coco", image_set="val")


def make_arm(name: str, folder: Path) -> Arm:
    """From files to twelve printed numbers, a whole process.

    Args:
        name: One of ARMS.
        folder: The data set.
    """
    yolo = (str(folder / "data.yaml"), str(folder / "predict"))
    arguments = {
        OURS: (*yolo, ""),
        SIZES: (*yolo, str(folder / "sizes.txt")),
        JSON: (
            str(folder / "coco" / "instances_val.json"),
            str(folder / "coco" / "detections_val.json"),
            "",
        ),
        HOTCOCO: (str(folder), str(folder / "predict" / "labels"), ""),
    }[name]
    program = HOTCOCO_PROGRAM if name == HOTCOCO else OUR_PROGRAM
    return Arm(name, (sys.executable, "-W", "ignore", "-c", program, *arguments))


def compare_numbers(arms: Sequence[Arm]) -> None:
    """Refuses arms that print other numbers than the first: ours must be equal to the bit.

    Raises:
        BenchmarkError: If one does.
    """
    numbers = {arm.name: _printed_numbers(arm) for arm in arms}
    expected = numbers[arms[0].name]
    for name, values in numbers.items():
        difference = float(np.abs(values - expected).max())
        log(f"{name}: largest difference {difference:.2g}")
        if len(values) != 12 or difference > (0 if name.startswith(OURS) else TOLERANCE):
            raise BenchmarkError(f"{name} differs by {difference}: {values}, not {expected}")


def measure(arm_names: Sequence[str], detections: int, *, repeats: int) -> list[dict[str, str]]:
    """Makes a data set, finds the arms equal, times them; returns the rows.

    Args:
        arm_names: Some of ARMS.
        detections: How many the set has.
        repeats: How often each arm is run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log(f"yolo {detections}: making the data set")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make_data_set(folder, Size(detections=detections, polygons=False))
        arms = [make_arm(name, folder) for name in arm_names]
        compare_numbers(arms)
        runs = interleaved_runs(arms, repeats=repeats, progress=log)
    timings = {name: timing(of_arm) for name, of_arm in runs.items()}
    print(timing_table(f"YOLO files, {detections:,} detections", timings), end="\n\n", flush=True)
    return [
        row("yolo", name, detections, value, provenance(HOTCOCO if name == HOTCOCO else None))
        for name, value in timings.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if the arms disagree or one fails, else 0."""
    return run_arms(
        measure,
        benchmark="bench_yolo",
        arms=ARMS,
        size=43_000,
        repeats=9,
        arguments=arguments,
    )


def _printed_numbers(arm: Arm) -> NDArray[np.float64]:
    done = subprocess.run(arm.command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-10:])
        raise BenchmarkError(f"{arm.name} exited with {done.returncode}: {tail}")
    return np.array([float(word) for word in done.stdout.split()])


if __name__ == "__main__":
    from upmap.console import run

    sys.exit(run(main))
