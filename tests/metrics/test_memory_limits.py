"""Where memory runs out, native code says so by a MemoryError: no signal, no abort."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMITS = (0, 2, 4, 6, 9, 12, 16, 20, 26, 40, 100, 700)  # MB, beyond what the imported modules take

# Modules are imported before the limit is set: what Python and numpy do when memory runs out while
# they start is theirs. What is tested is the work.
PROGRAM = """
import resource, sys
import json, numpy
import upmap.kernels.accumulation, upmap.kernels.coco_json, upmap.kernels.matching
from upmap.metrics.evaluate import main
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    status = main(sys.argv[2:])
except MemoryError:
    status = 71
sys.exit(status)
"""


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """COCO files of 20,000 detections: some pieces of reading, some megabytes of arrays."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("limits")
    N, K, image_count = 20_000, 40, 200
    boxes = random.integers(1, 200, (N, 4)).tolist()
    images, categories = (
        random.integers(0, image_count, N).tolist(),
        random.integers(0, K, N).tolist(),
    )
    columns = list(zip(images, categories, boxes, random.random(N).tolist(), strict=True))
    results = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in columns
    ]
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": 9, "iscrowd": 0}
        for i, (image, category, box, _) in enumerate(columns[:4000], start=1)
    ]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(image_count)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(K)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "truth.json", folder / "results.json"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_an_evaluation_ends_with_its_numbers_or_for_want_of_memory(
    data_set: tuple[Path, Path],
) -> None:
    pytest.importorskip("upmap.kernels.matching.native")
    statuses = []
    for limit in LIMITS:
        arguments = [sys.executable, "-c", PROGRAM, str(limit), *map(str, data_set)]
        result = subprocess.run(
            [*arguments, "--impl", "native"], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        what = f"{limit} MB: {result.stderr[-500:]}"
        assert 0 <= result.returncode < 126, what  # neither a signal nor the C library's abort
        assert "Traceback" not in result.stderr, what
        assert len(result.stderr.splitlines()) <= (result.returncode != 0), what
        statuses.append(result.returncode)
    assert statuses[0] != 0
    assert statuses[-1] == 0
