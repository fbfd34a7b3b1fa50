"""A real browser for tests of pages: Debian's chromium, driven by playwright, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# what chromium does of itself at the start (updates, sync, graphics) has no place in a test
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class Tab:
    """A page that remembers what went wrong in it, and what it asked the network for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text}")

    def open(self, path: Path) -> Any:
        """Open a file and wait until its figures are there; the page."""
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        return self.page

    def check(self) -> None:
        """Nothing went wrong, and nothing but local files was asked for."""
        assert not self.errors, self.errors
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []


@contextmanager
def chromium() -> Iterator[Any]:
    """Start chromium; skip the test where there is none."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs Debian's chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(
    browser: Any, width: int = 1280, height: int = 900, *, offline: bool = True
) -> Iterator[Tab]:
    """A tab of its own, closed afterwards."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="light", offline=offline
    )
    context.set_default_timeout(20_000)
    try:
        yield Tab(context.new_page())
    finally:
        context.close()
