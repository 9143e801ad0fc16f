"""Random COCO data sets that meet every rule: ties, crowds, areas at limits, no rows at all."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SIDES = (0.0, 1.0, 7.5, 31.99, 32.0, 32.01, 64.0, 95.99, 96.0, 96.01, 200.0)
AREAS = (0.0, 500.0, 1023.99, 1024.0, 1024.01, 9215.99, 9216.0, 9216.01, 1e10, 1.1e10)

ALIKE_EVERY_TIME = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An instances dict and a list of results, small and full of special cases."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = sorted(rng.choice(1000, draw(st.integers(1, 5)), replace=False).tolist())
    categories = sorted(rng.choice(90, draw(st.integers(1, 4)), replace=False).tolist())
    truth_count = draw(st.sampled_from([0, 1, 3, 12, 40]))
    detection_count = draw(st.sampled_from([0, 1, 3, 12, 60, 450]))
    score_levels = draw(st.sampled_from([1, 3, 1000]))
    annotations = [
        {
            "id": i + 1,
            "image_id": int(rng.choice(images)),
            "category_id": int(rng.choice(categories)),
            "bbox": (box := _box(rng)),
            "area": float(rng.choice(AREAS)) if rng.random() < 0.5 else box[2] * box[3],
            "iscrowd": int(rng.random() < 0.2),
        }
        for i in range(truth_count)
    ]
    results = [
        _result(rng, images, categories, annotations, score_levels) for _ in range(detection_count)
    ]
    rng.shuffle(images)
    truth = {
        "images": [{"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in images],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in categories],
    }
    return truth, results


def write_files(folder: Path, truth: dict[str, Any], results: list[Any]) -> tuple[Path, Path]:
    """Writes both as files."""
    paths = folder / "instances.json", folder / "results.json"
    for path, value in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(value))
    return paths


def _box(rng: np.random.Generator) -> list[float]:
    x, y = (rng.integers(0, 40, 2) * 2.5).tolist()
    return [x, y, float(rng.choice(SIDES)), float(rng.choice(SIDES))]


def _result(
    rng: np.random.Generator,
    images: list[int],
    categories: list[int],
    annotations: list[dict[str, Any]],
    score_levels: int,
) -> dict[str, Any]:
    score = float(rng.integers(0, score_levels + 1) / score_levels)
    if annotations and rng.random() < 0.7:
        near = annotations[rng.integers(len(annotations))]
        jitter = np.round(rng.normal(0, 2, 4), 2) * (rng.random() < 0.7)
        box = (np.array(near["bbox"]) + jitter).tolist()
        ids = {key: near[key] for key in ("image_id", "category_id")}
        return {**ids, "bbox": box, "score": score}
    return {
        "image_id": int(rng.choice(images)),
        "category_id": int(rng.choice(categories)),
        "bbox": _box(rng),
        "score": score,
    }
