"""Runs an operation, or `evaluate`, natively while fewer and fewer threads can be made.

Run by test_scarce_threads.py with scarce_threads.c preloaded; ends with status 0 if the numbers are
those of a machine with threads enough.
"""

import ctypes
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 8


def run_matching(folder: Path) -> Any:
    from upmap.kernels.matching import match

    return match(*matching_problem(), 40, threads=THREADS, impl="native")


def run_accumulation(folder: Path) -> Any:
    from upmap.kernels.accumulation import accumulate
    from upmap.kernels.matching import match

    matches = match(*matching_problem(), 40, threads=THREADS, impl="native")
    settings: dict[str, Any] = {
        "recall_points": np.linspace(0, 1, 101),
        "max_dets": np.array([1, 10, 100]),
        "epsilon": 0.0,
        "threads": THREADS,
        "impl": "native",
    }
    return (
        accumulate(matches, with_scores=True, **settings),
        accumulate(matches, curve_caps=np.array([2]), **settings),
    )


def run_pairs(folder: Path) -> Any:
    from upmap.kernels.pairs import find_pairs

    random, N = np.random.default_rng(0), 80_000
    problem = matching_problem()
    columns = {"image": random.integers(0, 2000, N).astype(np.int32)}
    columns |= {name: np.resize(getattr(problem[0], name), N) for name in ("label", "box_area")}
    columns["box"] = np.resize(problem[0].box, (N, 4))
    detections = replace(problem[0], **columns, score=np.zeros(N), row=np.arange(N))
    truths = replace(problem[1], **columns, area=np.ones(N), kind=np.zeros(N, np.uint8))
    settings: dict[str, Any] = {"side_offset": 0.0, "min_iou": 0.1, "threads": THREADS}
    return find_pairs(detections, truths, **settings, impl="native")


def run_resampling(folder: Path) -> Any:
    from upmap.kernels.matching import match
    from upmap.kernels.resampling import Outcomes, Quantities, influence, resample

    matches = match(*matching_problem(), 40, threads=THREADS, impl="native")
    outcomes = Outcomes(
        images=1,
        status=matches.status,
        rank=matches.rank,
        image=matches.image,
        start=np.searchsorted(matches.label, np.arange(41)),
        positive_image=np.zeros(4000, np.int32),
        positive_label=np.sort(matches.label),
        positive_areas=np.ones(4000, np.uint64),
    )
    quantities = Quantities(
        is_recall=np.array([False, True]),
        area=np.zeros(2, np.int32),
        max_dets=np.array([100, 1]),
        thresholds=np.array([3, 1], np.uint64),
    )
    settings: dict[str, Any] = {"threads": THREADS, "impl": "native"}
    weights = np.arange(200, dtype=np.uint8).reshape(-1, 1)
    return (
        resample(outcomes, weights, quantities, recall_points=np.linspace(0, 1, 101), **settings),
        influence(outcomes, quantities, **settings),
    )


def run_coco_json(folder: Path) -> Any:
    from upmap.kernels.coco_json import instances, results

    record = {"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    records = [record | {"score": i / 50_000} for i in range(50_000)]  # in some pieces
    (folder / "results.json").write_text(json.dumps(records))
    annotations = [record | {"id": i, "area": i, "iscrowd": i % 2} for i in range(50_000)]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(9)]
    whole = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "instances.json").write_text(json.dumps(whole))
    return (
        instances(folder / "instances.json", threads=THREADS, impl="native"),
        results(folder / "results.json", threads=THREADS, impl="native"),
    )


def run_voc_files(folder: Path) -> Any:
    from upmap.kernels.voc_files import annotations, results

    corners = "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>"
    thing = f"<object><name>cat</name><bndbox>{corners}</bndbox></object>"
    names = [f"{i:04}" for i in range(400)]
    for i, name in enumerate(names):
        (folder / f"{name}.xml").write_text(f"<annotation>{thing * (i % 3)}</annotation>")
    paths = [folder / f"comp4_det_test_{k}.txt" for k in range(20)]
    for path in paths:
        path.write_text("".join(f"{name} 0.5 1 2 3 4\n" for name in names))
    images = {name: i for i, name in enumerate(names)}
    return (
        annotations(folder, names, threads=THREADS, impl="native"),
        results(paths, images, threads=THREADS, impl="native"),
    )


def run_delimited(folder: Path) -> Any:
    from upmap.kernels.delimited import read_columns, read_header

    lines = [f"img{i % 50},{i / 7},{i}\n" for i in range(200_000)]  # some pieces
    (folder / "a.csv").write_text("image,x,y\n" + "".join(lines))
    header = read_header(folder / "a.csv")
    kinds: dict[str, Any] = {"image": "text", "x": "number", "y": "number"}
    columns = read_columns(folder / "a.csv", header, kinds, threads=THREADS, impl="native")
    return list(columns.values())


def run_text_rows(folder: Path) -> Any:
    from upmap.kernels.text_rows import RowLayout, read_text_rows

    paths = [folder / f"{i}.txt" for i in range(400)]
    for i, path in enumerate(paths):
        path.write_text(f"cat {i} 0.5\ndog 1 2 3\n" * (i % 3))
    return read_text_rows(paths, layout=RowLayout(name_column=0), threads=THREADS, impl="native")


def run_upsample_ce(folder: Path) -> Any:
    import torch

    from upmap.kernels.upsample_ce import (
        upsample_argmax,
        upsample_confusion,
        upsample_cross_entropy,
    )

    # Torch's own threads are not what is tested; the kernels take as many as torch has.
    torch.set_num_threads(1)
    torch.get_num_threads = lambda: THREADS
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 40, 30, generator=random).requires_grad_()
    target = torch.randint(0, 7, (2, 160, 120), generator=random)
    loss = upsample_cross_entropy(logits, target, impl="native")
    (gradient,) = torch.autograd.grad(loss, logits)
    best = upsample_argmax(logits, (160, 120), impl="native")
    counts = upsample_confusion(logits, target, impl="native")
    return loss.detach().numpy(), gradient.numpy(), best.numpy(), counts.numpy()


def run_evaluate(folder: Path) -> Any:
    from upmap.metrics.evaluate import main

    output = StringIO()
    with redirect_stdout(output):
        status = main(["--impl", "native", "--json", "-"])
    return status, output.getvalue()


RUNS: dict[str, Callable[[Path], Any]] = {
    "accumulation": run_accumulation,
    "coco_json": run_coco_json,
    "delimited": run_delimited,
    "evaluate": run_evaluate,
    "matching": run_matching,
    "pairs": run_pairs,
    "resampling": run_resampling,
    "text_rows": run_text_rows,
    "upsample_ce": run_upsample_ce,
    "voc_files": run_voc_files,
}


def matching_problem() -> tuple[Any, Any, Any]:
    """4,000 boxes of 40 classes on an image, as detections and as ground truth, and rules."""
    from upmap.kernels.matching import DetectionBoxes, Rules, TruthBoxes

    N, random = 4000, np.random.default_rng(0)
    columns: dict[str, Any] = {
        "image": np.zeros(N, np.int32),
        "label": (np.arange(N) % 40).astype(np.int32),
        "box": np.sort(random.random((N, 4)) * 100, axis=1),
        "box_area": np.ones(N),
    }
    detections = DetectionBoxes(**columns, score=random.random(N), row=np.arange(N))
    truths = TruthBoxes(**columns, area=np.ones(N), kind=np.zeros(N, np.uint8))
    rules = Rules(
        iou_thresholds=np.array([0.5, 0.75]),
        area_ranges=np.array([[0, 1e9]]),
        side_offset=0.0,
        strict=False,
        best_only=False,
        last_of_equals=True,
        ties_by_image=True,
        max_dets=100,
    )
    return detections, truths, rules


def values(result: Any) -> list[Any]:
    """All that a result holds, arrays as their bytes."""
    if isinstance(result, np.ndarray):
        return [result.dtype.str, result.shape, result.tobytes()]
    if hasattr(result, "__slots__"):
        return [values(getattr(result, name)) for name in result.__slots__]
    if isinstance(result, tuple | list):
        return [values(part) for part in result]
    return [result]


def main(name: str) -> None:
    shim = ctypes.CDLL(None)
    with tempfile.TemporaryDirectory() as folder:
        expected = values(RUNS[name](Path(folder)))
        for allowed in (0, 1, 3):
            shim.allow_threads(allowed)
            result = values(RUNS[name](Path(folder)))
            refused = shim.refused_threads()
            shim.allow_threads(-1)
            assert result == expected, f"other numbers with {allowed} threads"
            assert refused, f"{allowed} threads were enough"


if __name__ == "__main__":
    main(sys.argv[1])
