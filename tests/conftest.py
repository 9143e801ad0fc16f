"""What all tests share: where the real data lies, and whether the kernels are built."""

import os
from pathlib import Path

import pytest

from upmap.detection import Detections, GroundTruth, read

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data: UPMAP_TEST_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("UPMAP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "expected.json").is_file():
        pytest.skip(f"no real data in {folder}; set UPMAP_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The bundled sample."""
    return ROOT / "data" / "sample"


@pytest.fixture(scope="session")
def sample_tables(sample: Path) -> tuple[GroundTruth, Detections]:
    """The bundled sample's VOC files, read."""
    return read(sample / "voc", sample / "voc" / "results")
