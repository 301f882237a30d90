"""A real browser without a network, and the pages that it opens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness.recording import Recording
from tests.report.browser import pages

WIDE, PHONE = 1400, 380
expect.set_options(timeout=60_000)  # the limit is there for failures only
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""


@dataclass
class Opened:
    """A page, and all that went wrong on it."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return self.console + self.page.evaluate("window.violations")


Open = Callable[..., AbstractContextManager[Opened]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each file of tests: while it is open, nothing else in the process may run an event loop."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Open:
    """Opens a page from its file: `opened(path, width, ...)`, the rest as Browser.new_context has it."""

    @contextmanager
    def open_page(path: Path, width: int = WIDE, **context: Any) -> Iterator[Opened]:
        with browser.new_context(viewport={"width": width, "height": 900}, **context) as made:
            seen = Opened(made.new_page())
            made.on("request", lambda request: seen.requests.append(request.url))
            seen.page.on("console", lambda said: seen.console.append(said.text))
            seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
            seen.page.add_init_script(WATCH)
            seen.page.goto(path.as_uri())
            yield seen

    return open_page


@pytest.fixture(scope="session")
def recorded() -> Recording:
    return pages.canary()


@pytest.fixture(scope="session")
def drawn(recorded: Recording, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a page by its name, each made once: those of `pages.KINDS`."""
    folder = tmp_path_factory.mktemp("pages")

    def page(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            path.write_text(pages.KINDS[name](recorded, folder), encoding="utf-8")
        return path

    return page
