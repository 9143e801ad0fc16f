"""The documents do what they say: their examples run, their outputs are those of the programs."""

import csv
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.harness import COLUMNS
from upmap.metrics import PROTOCOLS, Protocol

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"<!-- run -->\n```(sh|python)\n(.*?)```", re.DOTALL)
EXAMPLES = [
    pytest.param(language, code, id=f"{document.stem}-{language}-{number}")
    for document in DOCUMENTS
    for number, (language, code) in enumerate(EXAMPLE.findall(document.read_text("utf-8")))
]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("language", "code"), EXAMPLES)
def test_the_example_runs(language: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    commands = (
        [["-c", code]]
        if language == "python"
        else [shlex.split(line)[1:] for line in code.splitlines() if line.startswith("python ")]
    )
    assert commands
    for command in commands:
        result = run([sys.executable, *command], tmp_path)
        assert result.returncode == 0, result.stderr
        assert result.stdout


def test_the_generated_parts_of_the_readme_are_up_to_date() -> None:
    result = run([sys.executable, "scripts/readme.py", "--check"], ROOT)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/readme.py, with results of two commits."""
    spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = [
        ("old", "evaluate", "upmap", "7", 1.0, 50, ""),
        ("old", "evaluate", "upmap", "43000", 2.0, 50, ""),
        ("old", "evaluate", "vernier", "43000", 1.0, 30, "vernier 0.5.4"),
        ("new", "evaluate", "upmap", "objects365", 3.0, 60, ""),
        ("new", "evaluate", "hotcoco", "objects365", 6.0, 90, "hotcoco 1.3.0"),
        ("new", "evaluate", "hotcoco", "43000", 0.5, 70, "hotcoco 1.3.0"),
        ("new", "evaluate", "pycocotools", "43000", 8.0, 600, "pycocotools 2.0.11"),
        ("new", "evaluate", "upmap", "43000", 9.0, 40, ""),
        ("new", "evaluate", "upmap", "43000", 0.25, 40, ""),
        ("new", "growth", "upmap", "1000000", 1.2, 160, ""),
        ("new", "growth", "upmap", "10000", 0.21, 61, ""),
    ]
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results.csv")
    with module.RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for commit, benchmark, arm, size, seconds, memory, peer in rows:
            times = dict.fromkeys([name for name in COLUMNS if name.endswith("_s")], seconds)
            named = {"commit": commit, "benchmark": benchmark, "arm": arm, "size": size}
            rest = {"peer": peer, "repeats": 7, "peak_rss_mb": memory}
            writer.writerow(dict.fromkeys(COLUMNS, "x") | times | named | rest)
    return module


def test_tables_show_one_commits_newest_rows_of_a_size(tables: ModuleType) -> None:
    found = tables.compared("evaluate")
    assert list(found) == ["43000", "objects365"]
    assert set(found["43000"]) == {"upmap", "hotcoco", "pycocotools"}
    assert found["43000"]["upmap"]["wall_median_s"] == "0.25"


def test_the_table_of_the_readme_has_the_fastest_peer_and_the_reference(tables: ModuleType) -> None:
    lines = tables.benchmark_table().splitlines()
    assert lines[2] == (
        "| 43,000 detections | 0.25 s | 0.50 s, hotcoco | 2x | 8.00 s | 32x | 40 MB, 70 MB |"
    )
    assert lines[3].startswith("| 3,000,000 detections, like Objects365 | 3.00 s | 6.00 s, hotcoco")
    assert "commit new" in lines[-1]


def test_a_table_of_arms_begins_with_the_fastest(tables: ModuleType) -> None:
    lines = tables.arms_tables("evaluate").splitlines()
    assert [line.split(" | ")[0] for line in lines[4:7]] == [
        "| upmap",
        "| hotcoco 1.3.0",
        "| pycocotools 2.0.11",
    ]
    assert lines[5].endswith("| 7 | 0.5 |")
    assert tables.arms_tables("nothing") == tables.UNMEASURED


def test_growth_is_told_over_the_smallest_size(tables: ModuleType) -> None:
    first, last = tables.growth_table().splitlines()[2:4]
    assert first == "| 10,000 | 0.21 s |  | 61 MB |  |"
    assert last == "| 1,000,000 | 1.20 s | 1 | 160 MB | 100 |"


def test_the_readme_opens_with_exactly_two_commands() -> None:
    opening = DOCUMENTS[0].read_text("utf-8").partition("\n## ")[0]
    assert re.findall(r"```sh\n(.*?)\n```", opening, re.DOTALL) == [
        "pip install -e . && python -m metrics.evaluate",
        'pip install -e ".[test]" -c constraints.txt && python -m pytest',
    ]


def test_every_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text("utf-8")):
            assert "://" in target or (document.parent / target).exists(), (document.name, target)


def test_the_metrics_page_names_every_field_and_protocol() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    fields = set(Protocol.__dataclass_fields__) - {"name", "metrics", "iou_ceiling"}
    assert [field for field in sorted(fields) if f"| `{field}` |" not in page] == []
    assert [name for name in PROTOCOLS if name.upper() not in page and name not in page] == []
