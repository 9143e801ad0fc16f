"""Each script of examples/ runs by itself, in a folder of its own, and prints what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
ARGUMENTS = {"segment_shapes.py": ["1"]}  # one epoch

# A line that each prints last or at its end.
EXPECTED = {
    "derive_protocol.py": r"^by size +mAP small +0\.\d{4}$",
    "evaluate_files.py": r"^mean +AP 0\.7019$",  # of the README's first command
    "evaluate_while_training.py": r"^epoch 5: AP 0\.\d{4}  AP50 1\.0000$",
    "merge_workers.py": r"^AP +merged (0\.\d{6})  whole \1$",
    "segment_shapes.py": r"^\w+ +\d+\.\d% of the pixels$",
}


def run_example(name: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs an example, warnings of upmap as errors."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    if name == "segment_shapes.py":
        pytest.importorskip("torchvision", reason="needs the extra segmentation")
    result = run_example(name, *ARGUMENTS.get(name, []), folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(EXPECTED[name], result.stdout, re.MULTILINE), result.stdout
    assert "Warning" not in result.stderr


def test_an_example_evaluates_the_files_that_it_is_given(tmp_path: Path) -> None:
    coco = ROOT / "data" / "sample" / "coco"
    files = [str(coco / "instances_test.json"), str(coco / "detections_test.json")]
    result = run_example("evaluate_files.py", *files, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(EXPECTED["evaluate_files.py"], result.stdout, re.MULTILINE)


def test_examples_import_upmap_by_its_one_name_and_are_listed() -> None:
    page = (EXAMPLES / "README.md").read_text("utf-8")
    for name in SCRIPTS:
        text = (EXAMPLES / name).read_text("utf-8")
        assert re.search(r"^(from|import) upmap\b", text, re.MULTILINE)
        assert not re.search(r"^from (data|detection|kernels|metrics|segmentation)\b", text, re.M)
        assert f"`{name}`" in page
