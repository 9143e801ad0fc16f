"""Makes docs/report anew: the pages of two detectors on VOC2007, as pictures, and their comparison.

`python scripts/pages.py VOC2007 YOLOV3 MOBILENET` takes the ground truth and the results of two
detectors; images are those of the bundled sample. It needs Chromium and the extra `test`. Of paths
the pages show names alone.
"""

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import sync_playwright

from upmap.metrics.compare import main as compare
from upmap.metrics.evaluate import main as evaluate

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "report"
SCENES = FOLDER.parents[1] / "data" / "sample" / "voc"
NAMES = ("VOC2007", "yolov3", "mobilenet-yolov3")
SAMPLE = [str(SCENES), str(SCENES / "results"), "--images", str(SCENES / "JPEGImages")]
WIDTH, HEIGHT = 1280, 1500  # px of a picture


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        name: Of the picture.
        page: The page.
        is_dark: Whether it is drawn dark.
        panel: The panel that it begins with; none begins at the top.
        click: What is clicked before.
    """

    name: str
    page: str
    is_dark: bool = False
    panel: str = ""
    click: str = ""


PICTURES = (
    Picture("evaluation", "evaluation.html"),
    Picture("images", "sample.html", panel="#images", click=".images li:nth-child(3) button"),
    Picture("comparison", "comparison.html", is_dark=True),
)


def main() -> int:
    """Makes the pages and their pictures; returns the exit status."""
    if len(sys.argv) != 1 + len(NAMES):
        print(__doc__, file=sys.stderr)
        return 2
    sources = [Path(word).resolve() for word in sys.argv[1:]]
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, source in zip(NAMES, sources, strict=True):
            Path(name).symlink_to(source)
        make_pages()
        for picture in PICTURES:
            draw(picture, Path(folder))
    return 0


def make_pages() -> None:
    """Writes both pages to the current folder, and what the comparison prints to FOLDER."""
    truth, first, second = NAMES
    arguments: Sequence[str] = [truth, second, "--image-set", "test", "--html", "evaluation.html"]
    text = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate(arguments)
        evaluate([*SAMPLE, "--html", "sample.html"])
    with contextlib.redirect_stdout(text):
        compare([truth, first, second, "--image-set", "test", "--html", "comparison.html"])
    (FOLDER / "comparison.txt").write_text(text.getvalue(), "utf-8")


def draw(picture: Picture, folder: Path) -> None:
    """Saves a picture."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="dark" if picture.is_dark else "light",
        )
        page.goto((folder / picture.page).as_uri())
        if picture.click:
            page.click(picture.click)
        if picture.panel:
            page.eval_on_selector(picture.panel, "(panel) => panel.scrollIntoView()")
        page.screenshot(path=FOLDER / f"{picture.name}.png")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
