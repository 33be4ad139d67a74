"""A real Chromium for tests of pages: what a window complained about and asked of whom, and axe's rules."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from privacy.web.serving import Place
from simulations.machine_tools import CHROMIUM, missing_packages

VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
RULED = ((1280, "light"), (390, "dark"))  # where the accessibility rules are run: they take seconds a page
OFFENDING = """() => [...document.querySelectorAll('main *, header *, footer *')].filter((one) =>
    !one.closest('.scroll') && !one.closest('.hidden') && one.getBoundingClientRect().right > innerWidth + 1)
    .map((one) => one.outerHTML.slice(0, 120))"""


@contextmanager
def launched() -> Iterator[Any]:
    """Debian's Chromium; skips without it, and fails in CI."""
    if missing := missing_packages("chromium", "fonts-dejavu-core"):
        reason = f"a browser is needed; run: apt-get install {' '.join(missing)}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        chromium = player.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
        yield chromium
        chromium.close()


@contextmanager
def served_in_a_thread(serve: Callable[[Callable[[Place], None]], None]) -> Iterator[Place]:
    """Pages in a thread of this process; where they are. `serve` runs until its server is told to end, and calls what
    it is given once it listens."""
    import uvicorn

    made: list[uvicorn.Server] = []
    begin = uvicorn.Server.__init__

    def remembered(self: uvicorn.Server, config: uvicorn.Config) -> None:
        begin(self, config)
        made.append(self)

    ready, places = threading.Event(), list[Place]()

    def on_ready(place: Place) -> None:
        places.append(place)
        ready.set()

    patch = pytest.MonkeyPatch()
    patch.setattr(uvicorn.Server, "__init__", remembered)
    patch.setattr(uvicorn.Server, "install_signal_handlers", lambda self: None, raising=False)
    thread = threading.Thread(target=serve, args=(on_ready,), daemon=True)
    thread.start()
    try:
        assert ready.wait(60)
        yield places[0]
    finally:
        made[0].should_exit = True
        thread.join(30)
        patch.undo()


class Visit:
    """A browser window that keeps what it complained about and what it asked of whom."""

    def __init__(self, browser: Any, url: str, width: int = 1280, scheme: str = "light", **options: Any) -> None:
        self.address = url.partition("/login")[0]
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce", **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.strays: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(f"{said.text} ({said.location['url']})")
                     if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.route("**/*", self._route)

    def _route(self, route: Any) -> None:
        if route.request.url.startswith(self.address):
            route.continue_()
        else:
            self.strays.append(route.request.url)
            route.abort()

    def log_in(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_url(f"{self.address}/")

    def open(self, path: str) -> Any:
        answer = self.page.goto(self.address + path)
        if path.startswith("/releases/"):
            self.page.wait_for_function("!document.body.innerText.includes('being hashed')", timeout=60_000)
        return answer

    def fine(self, but: str = "") -> None:
        found = [one for one in self.complaints if not (but and but in one)]
        assert found == [] and self.strays == [], f"complained: {found}; asked of others: {self.strays}"


@contextmanager
def visiting(browser: Any, url: str, *where: Any, **options: Any) -> Iterator[Visit]:
    visit = Visit(browser, url, *where, **options)
    try:
        yield visit
    finally:
        visit.context.close()


def rules_broken(axe: Any, page: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA and its best practices, details opened."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa",
                                               "best-practice"]})
    return [f"{rule['id']}: {node['html'][:160]}" for rule in found.response["violations"] for node in rule["nodes"]]
