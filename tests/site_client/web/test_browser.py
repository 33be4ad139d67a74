"""The hospital's pages in a real Chromium: wide and narrow, light and dark, empty, working and broken; axe's rules.

Nothing may be asked of any address but the pages' own, and the browser may have nothing to complain about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from privacy.messages import Confirm
from privacy.web.serving import Place
from site_client.audit_log import site_log
from site_client.keystore import signing_key
from site_client.web.serve import pages_url, serve_site
from tests.browsing import OFFENDING, RULED, VIEWS, launched, rules_broken, served_in_a_thread, visiting
from tests.site_client.made_site import MadeSite
from tests.site_client.web.sites import PATIENT, RUN, UID, add_history, be_up, index, new_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGES = {"working": ("/", "/runs", "/left", "/policy", "/data", "/doctor", "/nowhere"),
         "new": ("/", "/runs", "/left", "/data"), "broken": ("/", "/runs", "/left", "/data")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as chromium:
        yield chromium


@contextmanager
def served(site: MadeSite) -> Iterator[str]:
    """Serve in a thread of this process; the URL with the token."""
    with served_in_a_thread(lambda on_ready: serve_site(
            site.config, str(site.file), Place("127.0.0.1", 0), None, on_ready)) as place:
        yield pages_url(site.config, place)


def working(folder: Path) -> MadeSite:
    site = new_site(folder)
    add_history(site, rounds=40)
    index(site)
    be_up(site)
    return site


def broken(folder: Path) -> MadeSite:
    site = new_site(folder)
    add_history(site)
    be_up(site, "lost", "the coordinator does not answer any more; see the VPN and the network")
    mark = site.state / "ledger.sqlite.mark"
    mark.write_text(mark.read_text().replace('"head": "', '"head": "00')[:-4] + '"}')
    (site.state / "audit.sqlite").write_bytes(b"x" * 4096)
    index(site)
    (site.state / "opt-out.txt").write_text("no pseudonym\n")
    return site


SITES = {"new": new_site, "working": working, "broken": broken}


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(served(make(tmp_path_factory.mktemp(name)))) for name, make in SITES.items()}


@pytest.mark.parametrize(("name", "width", "scheme"), [
    *(("working", *view) for view in VIEWS), *((name, *view) for name in ("new", "broken") for view in RULED)])
def test_every_page_fits_breaks_no_rule_names_nobody_and_leaves_loopback_never(
    name: str, width: int, scheme: str, browser: Any, urls: dict[str, str], tmp_path: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    address = urls[name]
    with visiting(browser, address, width, scheme) as visit:
        visit.page.goto(f"{visit.address}/login")
        broken_rules = {"/login": rules_broken(Axe(), visit.page) if name == "new" else []}
        visit.log_in(address)
        for path in PAGES[name]:
            assert visit.open(path).status == (404 if path == "/nowhere" else 200)
            visit.page.wait_for_selector('#link[data-state="live"]')
            broken_rules[path] = rules_broken(Axe(), visit.page) if (width, scheme) in RULED else []
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, (
                path, visit.page.evaluate(OFFENDING))
            assert visit.page.evaluate(OFFENDING) == [], path
            assert not any(hidden in visit.page.content() for hidden in (PATIENT, UID, ".dcm"))
            picture = tmp_path / f"{name}-{path.strip('/') or 'overview'}.png"
            visit.page.screenshot(path=picture, full_page=True)
            assert picture.stat().st_size > 5000
        assert not any(broken_rules.values()), broken_rules
        visit.fine(but="404")
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")


def test_a_message_that_leaves_is_seen_and_the_doctor_answers(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    site = working(tmp_path)
    with served(site) as address, visiting(browser, address, 390, "dark") as visit:
        visit.log_in(address)
        visit.open("/left")
        expect(visit.page.locator("#link")).to_have_text("Live")
        before = visit.page.locator("#messages ~ tbody tr").first.locator("th").inner_text()
        with site_log(site.state) as log:
            body = Confirm.signed(signing_key(site.state), (), site_id="site-1").to_bytes()
            number = log.egress(step="sa_confirm", body=body, vector=None, run_id=RUN, round=41)
        expect(visit.page.locator("#said")).to_contain_text("round 41", timeout=20_000)
        expect(visit.page.locator("#messages ~ tbody tr").first.locator("th")).to_have_text(str(number))
        assert str(number) != before
        visit.page.get_by_role("link", name="Doctor").click()
        visit.page.get_by_role("button", name="Look now").click()
        expect(visit.page.locator("#findings li").first).to_be_visible(timeout=120_000)
        expect(visit.page.get_by_role("button", name="Look again")).to_be_visible()
        visit.page.wait_for_function("!document.querySelector('main .loading')")
        visit.fine()
