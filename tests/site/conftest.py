"""A server for the built site on this machine alone, and Debian's Chromium to look at it."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("BAYES_TDA_SITE", ROOT / "site")).resolve()
SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# No sandbox, as root has none in a container; the rest keeps Chromium off the network by itself.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HEIGHTS = {390: 844, 1280: 900}
# A phone, a wide screen, and the other set of colours, which width does not change.
VIEWS = ((390, "light"), (1280, "light"), (1280, "dark"))
# Listings of the source; one of them is looked at as every other page is.
LISTINGS = "_modules/"
WHOLE_LISTINGS = tuple(f"_modules/tda_utils/{name}.html" for name in ("engine/noise", "files"))


def pages() -> list[str]:
    """Return every page of the site, or stop with a sentence that says what to do."""
    found = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    if not found:
        raise pytest.UsageError(f"{SITE} holds no page; `make site` builds the site.")
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `path` on every page in its views, each failure counted on its own."""
    if "path" in metafunc.fixturenames:
        views = [(path, *view) for at, path in enumerate(pages()) for view in views_of(path, at)]
        metafunc.parametrize(("path", "width", "scheme"), views)


def views_of(path: str, at: int) -> tuple[tuple[int, str], ...]:
    """Return the views of a page; listings, all made alike, take one each in turn."""
    turn = at % len(VIEWS)
    alike = path.startswith(LISTINGS) and path not in WHOLE_LISTINGS
    return VIEWS[turn : turn + 1] if alike else VIEWS


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing: a missing file is an error in the browser, where the tests see it."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; give its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Serve the site; give its address."""
    with served(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium once."""
    if shutil.which(CHROMIUM) is None:
        raise pytest.UsageError(f"{CHROMIUM} is not there; `make site-test` installs it.")
    with sync_playwright() as playwright:
        yield (running := playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS)))
        running.close()


class Visit:
    """A page in a tab of its own, and all that went wrong or was asked for since it opened."""

    def __init__(self, browser: Browser, server: str, width: int, scheme: str = "light") -> None:
        self.server = server
        self.context = browser.new_context(
            viewport={"width": width, "height": HEIGHTS[width]},
            color_scheme=scheme,
            reduced_motion="reduce",
            has_touch=width < 600,
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(f"error: {error}"))
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on(
            "requestfailed", lambda request: self.errors.append(f"not loaded: {request.url}")
        )

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"console {message.type}: {message.text} ({message.location})")

    def open(self, path: str) -> Page:
        """Load a page and wait until it rests."""
        self.page.goto(self.server + path, wait_until="load")
        if path == "explorer.html":
            self.page.wait_for_selector("body[data-ready=true]")
        # A chart takes the place of its description once the page's script has drawn it.
        self.page.wait_for_function("() => !document.querySelector('div.chart > script')")
        return self.page

    @property
    def foreign(self) -> list[str]:
        """Requests beyond the server; data and blob addresses ask no one."""
        own = (self.server, "data:", "blob:", "about:")
        return [url for url in self.requests if not url.startswith(own)]


@pytest.fixture
def visit(browser: Browser, server: str) -> Iterator:
    """Give a function (width, scheme) -> Visit; tabs are closed afterwards."""
    opened: list[Visit] = []

    def new(width: int = 1280, scheme: str = "light") -> Visit:
        opened.append(Visit(browser, server, width, scheme))
        return opened[-1]

    yield new
    for one in opened:
        one.context.close()
