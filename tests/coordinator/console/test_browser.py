"""The console in a real Chromium: every page, wide and narrow, light and dark, with a live run; accessibility rules.

Nothing may be asked of any address but the console's own, and the browser may have nothing to complain about.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.console.process import console_url, serve_console
from coordinator.home import Home
from privacy.web.serving import Place
from tests.browsing import OFFENDING, RULED, VIEWS, launched, rules_broken, served_in_a_thread, visiting
from tests.coordinator.console.homes import RECORDED, finish
from tests.coordinator.run_store.journals import append

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGES = ("/", "/runs/demo", "/runs/demo/rounds/5", "/sites", "/sites/site-2", "/releases", "/releases/first/1",
         "/runs/nobody")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as chromium:
        yield chromium


@contextmanager
def console_of(home: Path, port: int = 0) -> Iterator[str]:
    """Serve in a thread of this process; the URL with the token."""
    opened = Home.open(home)
    with served_in_a_thread(lambda on_ready: serve_console(opened, Place("127.0.0.1", port), on_ready)) as place:
        yield console_url(opened, place)


@pytest.fixture(scope="module")
def recorded_url(recorded_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = Path(shutil.copytree(recorded_home, tmp_path_factory.mktemp("served") / "home"))
    with console_of(home) as url:
        yield url


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_page_fits_breaks_no_rule_and_leaves_loopback_never(
    width: int, scheme: str, browser: Any, recorded_url: str, tmp_path: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with visiting(browser, recorded_url, width, scheme) as visit:
        visit.page.goto(f"{visit.address}/login")
        broken = {"/login": rules_broken(Axe(), visit.page)}
        visit.log_in(recorded_url)
        for path in PAGES:
            assert visit.open(path).status == (404 if path.endswith("nobody") else 200)
            visit.page.wait_for_selector('#link[data-state="live"]')
            broken[path] = rules_broken(Axe(), visit.page) if (width, scheme) in RULED else []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, (
                path, visit.page.evaluate(OFFENDING))
            assert visit.page.evaluate(OFFENDING) == [], path
            picture = tmp_path / f"{path.strip('/').replace('/', '-') or 'overview'}.png"
            visit.page.screenshot(path=picture, full_page=True)
            assert picture.stat().st_size > 5000
        assert not any(broken.values()), broken
        visit.fine(but="404")
        dark = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) == (scheme == "dark")


def test_the_token_is_out_of_the_address_and_a_wrong_one_is_said(browser: Any, recorded_url: str) -> None:
    with visiting(browser, recorded_url) as visit:
        token = recorded_url.partition("#")[2]
        visit.page.goto(f"{visit.address}/runs/demo")
        assert visit.page.url.endswith("/login?after=/runs/demo")
        visit.page.get_by_label("Token of the console").fill("wrong")
        visit.page.get_by_role("button", name="Log in").click()
        assert visit.page.get_by_role("alert").inner_text() == "This is not the console's token."
        visit.page.get_by_label("Token of the console").fill(token)
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/runs/demo")
        assert token not in visit.page.url and token not in visit.page.content()
        assert visit.page.evaluate("document.cookie") == ""
        visit.page.get_by_role("button", name="Log out").click()
        visit.page.wait_for_url("**/login")
        visit.page.goto(f"{visit.address}/runs/demo")
        assert "/login" in visit.page.url
        visit.fine(but="403")


def test_the_keyboard_reaches_everything_in_order(browser: Any, recorded_url: str) -> None:
    with visiting(browser, recorded_url) as visit:
        visit.log_in(recorded_url)
        visit.open("/runs/demo")
        page = visit.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        wanted = page.evaluate("document.querySelectorAll('main a, main summary, main .scroll').length")
        closed = page.evaluate("document.querySelectorAll('main details:not([open]) .scroll').length")
        seen = set()
        for _ in range(wanted - closed):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("[...document.querySelectorAll('main *')].indexOf(document.activeElement)"))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
        assert len(seen) == wanted - closed and -1 not in seen
        first = page.locator("summary").first
        first.focus()
        page.keyboard.press("Enter")
        assert page.locator("details[open] table").first.is_visible()


# ---------------------------------------------------------------- a run that goes on


@pytest.fixture
def growing(recorded_home: Path, tmp_path: Path) -> Iterator[tuple[Path, str, list[dict[str, Any]]]]:
    """The recorded run, running again from its first event: (its folder, the URL, the events that are still to come).
    """
    home = Path(shutil.copytree(recorded_home, tmp_path / "home"))
    folder = home / "runs" / "demo"
    events = [json.loads(line) for line in (RECORDED / "progress.jsonl").read_text().splitlines()]
    for name in ("progress.jsonl", "steps.jsonl"):
        (folder / name).unlink()
    append(folder, *({**event, "time": time.time()} for event in events[:2]))
    finish(home, "demo", state="running")
    with console_of(home) as url:
        yield folder, url, events[2:]


def test_a_live_run_is_seen_to_advance(growing: tuple[Path, str, list[dict[str, Any]]], browser: Any) -> None:
    from playwright.sync_api import expect

    folder, url, events = growing
    with visiting(browser, url, 390, "dark") as visit:
        visit.log_in(url)
        visit.open("/runs/demo")
        page = visit.page
        expect(page.locator("#link")).to_have_text("Live")
        expect(page.locator("#said")).to_be_empty()
        expect(page.get_by_text("Nothing is measured yet")).to_be_visible()
        loads: list[str] = []
        page.on("load", lambda _: loads.append("load"))
        for number, event in enumerate(events[:4], 1):
            append(folder, {**event, "time": time.time()})
            expect(page.locator("#said")).to_contain_text(f"{number} of 9 rounds", timeout=20_000)
            expect(page.locator("#rounds-table ~ tbody tr")).to_have_count(number, timeout=20_000)
        expect(page.locator("#public-loss-text")).to_contain_text("in round 4")
        page.locator("summary").filter(has_text="Loss on public questions").click()
        page.locator("summary").filter(has_text="Loss on public questions").focus()
        append(folder, {**events[4], "time": time.time()})
        expect(page.locator("#public-loss-table ~ tbody tr")).to_have_count(5, timeout=20_000)
        expect(page.locator("#public-loss-table")).to_be_visible()  # still open
        assert "Loss on public questions" in page.evaluate("document.activeElement.textContent")
        finish(folder.parent.parent, "demo", state="failed", reason="<b>stopped</b> (E_COHORT_SMALL)")
        expect(page.get_by_text("The run has failed: <b>stopped</b> (E_COHORT_SMALL)")).to_be_visible(timeout=20_000)
        assert loads == []
        visit.fine()


def test_without_scripts_the_page_reloads_itself(
    growing: tuple[Path, str, list[dict[str, Any]]], browser: Any
) -> None:
    folder, url, events = growing
    with visiting(browser, url, java_script_enabled=False) as visit:
        visit.page.goto(f"{visit.address}/login")
        visit.page.get_by_label("Token of the console").fill(url.partition("#")[2])
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url(f"{visit.address}/")
        visit.open("/runs/demo")
        append(folder, {**events[0], "time": time.time()})
        visit.page.wait_for_selector("text=1 of 9", timeout=40_000)
        visit.fine()


def test_a_console_that_goes_away_is_said_and_found_again(recorded_home: Path, tmp_path: Path, browser: Any) -> None:
    from playwright.sync_api import expect

    home = Path(shutil.copytree(recorded_home, tmp_path / "home"))
    with console_of(home) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with visiting(browser, url) as visit:
            visit.log_in(url)
            expect(visit.page.locator("#link")).to_have_text("Live")
    with visiting(browser, url) as visit:
        visit.page.set_default_timeout(60_000)
        with console_of(home, port) as again:
            visit.log_in(again)
            expect(visit.page.locator("#link")).to_have_text("Live")
        expect(visit.page.locator("#link")).to_contain_text("Not live", timeout=20_000)
        with console_of(home, port):  # its sessions are new: the page asks for the token
            visit.page.wait_for_url("**/login", timeout=60_000)
