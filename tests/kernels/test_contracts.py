"""Contracts of the kernels: who imports whom, and constants that exist once."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upmap.kernels import OPERATIONS, columns, counts, matching
from upmap.kernels.coco_json import json_text, reference

KERNELS = Path(__file__).resolve().parents[2] / "kernels"


def imported_names(file: Path) -> set[str]:
    """The full names of what a module imports at its top level."""
    tree = ast.parse(file.read_text("utf-8"))
    names = {a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_reference_and_the_contract_import_nothing_from_the_dispatch(operation: str) -> None:
    folder = KERNELS / operation
    modules = {file.stem for file in folder.glob("*.py")}
    package = f"upmap.kernels.{operation}."
    for file in folder.glob("*.py"):
        if file.name == "__init__.py":
            continue
        names = {name.removeprefix(package) for name in imported_names(file) if package in name}
        strangers = {name for name in names if name.split(".")[0] not in modules | {"native"}}
        assert not strangers, f"{file.name} imports {strangers} of kernels.{operation}"
    contract = {name for name in imported_names(folder / "contract.py") if package in name}
    assert not contract, "a contract stands below the other modules of its operation"


def test_a_constant_of_the_kernels_has_its_value_in_one_file() -> None:
    files: dict[str, set[str]] = {}
    for file in KERNELS.rglob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            if not isinstance(node, ast.Assign) or isinstance(node.value, ast.List):
                continue
            names = [name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name)]
            for name in names:
                if name.isupper():
                    files.setdefault(name, set()).add(str(file.relative_to(KERNELS)))
    repeated = {name: places for name, places in files.items() if len(places) > 1}
    assert not repeated
    assert files["FALSE_POSITIVE"] == {"matching/contract.py"}


# Python's constants, the folder of the C++ that has them too, and their names there.
SHARED = [
    (matching.FALSE_POSITIVE, ".", "FALSE_POSITIVE kFalsePositive"),
    (matching.TRUE_POSITIVE, ".", "TRUE_POSITIVE kTruePositive"),
    (matching.IGNORED, ".", "IGNORED kIgnored"),
    (matching.CLAIMABLE, "matching", "CLAIMABLE kClaimable"),
    (matching.NEVER_CLAIMED, "matching", "NEVER_CLAIMED kNeverClaimed"),
    (matching.CROWD, "matching", "CROWD kCrowd"),
    (counts.MAX_THREADS, ".", "kMaxThreads"),
    (columns.LARGEST, "voc_files", "LARGEST kMaxCoordinate"),
    (columns.LARGEST_IMAGE, "voc_files", "LARGEST_IMAGE kMaxImageSide"),
    (json_text.MAX_DEPTH, "coco_json", "MAX_DEPTH kMaxDepth"),
    (reference.LARGEST_EXACT, "coco_json", "LARGEST_EXACT kMaxExact"),
]


def cpp_values(folder: Path, names: list[str]) -> list[float]:
    """The values that C++ files below a folder give to constants and enumerators of these names."""
    pattern = re.compile(rf"\b(?:{'|'.join(names)}) = ([\w.+-]+(?: << \d+)?)[,; }}]")
    files = [file for ending in ("cpp", "hpp", "inc") for file in folder.rglob(f"*.{ending}")]
    return [number(text) for file in files for text in pattern.findall(file.read_text("utf-8"))]


def number(text: str) -> float:
    """The value of a literal of C++, or of one that is shifted."""
    base, _, shift = text.partition(" << ")
    return float(base.removesuffix("ull")) * 2 ** int(shift or 0)


@pytest.mark.parametrize(("value", "folder", "names"), SHARED, ids=lambda part: str(part))
def test_a_constant_has_the_same_value_in_cpp(value: float, folder: str, names: str) -> None:
    values = cpp_values(KERNELS / folder, names.split())
    assert set(values) == {float(value)}


def test_the_native_kernel_takes_as_many_thresholds_as_the_contract_says() -> None:
    native = pytest.importorskip("upmap.kernels.matching.native")
    box: dict[str, Any] = {name: np.zeros(0, np.int32) for name in ("image", "label")}
    box |= {"box": np.zeros((0, 4)), "box_area": np.zeros(0)}
    detections = matching.DetectionBoxes(**box, score=np.zeros(0), row=np.zeros(0, np.int64))
    truths = matching.TruthBoxes(**box, area=np.zeros(0), kind=np.zeros(0, np.uint8))

    def match(thresholds: int) -> None:
        rules = matching.Rules(
            iou_thresholds=np.full(thresholds, 0.5),
            area_ranges=np.array([[0.0, 1.0]]),
            side_offset=0.0,
            strict=False,
            best_only=True,
            last_of_equals=False,
            ties_by_image=False,
            max_dets=1,
        )
        native.match(detections, truths, rules, 0, 1)

    match(matching.MAX_THRESHOLDS)
    with pytest.raises(ValueError, match="thresholds"):
        match(matching.MAX_THRESHOLDS + 1)
