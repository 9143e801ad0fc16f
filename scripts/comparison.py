"""Makes docs/comparison anew: runs the default comparison, and keeps its results and pictures.

`python scripts/comparison.py [OUT]` runs it, or goes on with it, in the folder OUT; then
`python scripts/readme.py` rewrites the tables. With several folders it runs nothing: it says in
how many of their results each significant statement of the first holds.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from upmap.segmentation.compare import CompareOptions
from upmap.segmentation.compare import main as compare

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "comparison"
RESULTS = "results.json"


def main() -> int:
    """Makes the comparison, or checks several; returns the exit status."""
    folders = [Path(word) for word in sys.argv[1:]] or [ROOT / "runs" / "documented"]
    if len(folders) > 1:
        return check_agreement([read_results(folder) for folder in folders])
    status = compare(["--out", str(folders[0]), "--resume"])
    if status == 0:
        for path in [*KEPT.glob("*.png"), *KEPT.glob("*.json")]:
            path.unlink()
        for path in folders[0].glob("*.png"):
            shutil.copy(path, KEPT / path.name)
        results = read_results(folders[0])
        results["options"]["out"] = CompareOptions().out  # where it was made does not matter
        (KEPT / RESULTS).write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return status


def read_results(folder: Path) -> dict[str, Any]:
    """The content of a folder's results.json."""
    results: dict[str, Any] = json.loads((folder / RESULTS).read_text("utf-8"))
    return results


def check_agreement(comparisons: list[dict[str, Any]]) -> int:
    """Prints each significant statement and how often it holds; returns 1 if one does not."""
    statements = [significant_statements(results) for results in comparisons]
    for statement in sorted(set.union(*statements)):
        count = sum(statement in others for others in statements)
        print(f"{count} of {len(statements)}: {', '.join(statement)}")
    return int(any(statements[0] - others for others in statements))


def significant_statements(results: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """Architecture, operator, better or worse, and the score."""
    return {
        (panel, name, "better" if row[f"{score}_difference"]["mean"] > 0 else "worse", score)
        for panel, columns in results["panels"].items()
        for name, row in columns["operators"].items()
        for score in ("miou", "boundary_iou")
        if row[f"{score}_difference"]["is_significant"]
    }


if __name__ == "__main__":
    sys.exit(main())
