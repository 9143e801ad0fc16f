"""A browser for the tests of pages: Chromium as it is installed, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def launch() -> Iterator[Any]:
    """A browser; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(
    browser: Any, path: Path, *, width: int = 1280, is_dark: bool = False, bypass_csp: bool = False
) -> Iterator[Any]:
    """A page that is open; fails if it asks for anything beyond its file, or its script fails."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if is_dark else "light",
        bypass_csp=bypass_csp,
        accept_downloads=True,
    )
    page = context.new_page()
    requests: list[str] = []
    failures: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda message: failures.append(message.text))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert failures == []
    outside = [url for url in requests if not url.startswith(("data:", "blob:"))]
    assert outside == [path.as_uri()]


def find_violations(page: Any) -> list[str]:
    """What axe-core has to say of a page whose policy is bypassed."""
    module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    response = module.Axe().run(page).response
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in response["violations"]]
