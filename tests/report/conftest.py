"""A headless Chromium, and reports to look at."""

import shutil

import pytest

from tests.report import factory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser():
    """Chromium through playwright; the test is skipped where one of them is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def records(tmp_path):
    """Three methods, three seeds, ten classes."""
    return [
        factory.write_run(tmp_path / "trials", method, seed)
        for method in ("ce", "ls", "le")
        for seed in range(3)
    ]
