"""The documents do what they say: their examples run, their outputs are those of the programs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from metrics import PROTOCOLS, Protocol

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


def test_the_readme_opens_with_exactly_two_commands() -> None:
    opening = DOCUMENTS[0].read_text("utf-8").partition("\n## ")[0]
    assert re.findall(r"```sh\n(.*?)\n```", opening, re.DOTALL) == [
        "pip install -e . && python -m metrics.evaluate",
        'pip install -e ".[test]" && python -m pytest',
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
