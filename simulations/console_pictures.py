"""Pictures of the web console on a run that goes on, and a finished run's papers: what README and docs show.

Chromium and Playwright are test tools; only `python -m simulations.console_demo --pictures FOLDER` needs them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simulations.real_federation import RealFederation

__all__ = ["take_pictures", "write_examples"]

_CHROMIUM = "/usr/bin/chromium"
_WIDE, _NARROW = (1280, 1180), (390, 844)  # pixels; a desk and a telephone


@contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("pictures need the test tools; run `make environment` and install Debian's chromium") from None
    if not Path(_CHROMIUM).is_file():
        raise ValueError(f"{_CHROMIUM} is missing; run: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def take_pictures(url: str, folder: Path, run: str) -> list[Path]:
    """The coordinator's overview and run page, wide and light, and the run on a narrow, dark screen, as PNG files.

    Args:
        url: the console's address with its token, as `coordinator console DIR --url` prints it.
        folder: gets `console-overview.png`, `console-run.png` and `console-narrow.png`.
        run: whose page is shown.
    """
    address, _, _ = url.partition("/login")
    views = (("console-overview", "/", _WIDE, "light"), ("console-run", f"/runs/{run}", _WIDE, "light"),
             ("console-narrow", f"/runs/{run}", _NARROW, "dark"))
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with _browser() as browser:
        for name, path, (width, height), scheme in views:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.goto(url)
            page.wait_for_url(f"{address}/")
            page.goto(address + path)
            page.wait_for_timeout(1500)
            page.screenshot(path=str(folder / f"{name}.png"))
            made.append(folder / f"{name}.png")
            context.close()
    return made


def write_examples(federation: RealFederation, release: Path, folder: Path) -> list[Path]:
    """A finished run's model card, and one site's input for an impact assessment, as Markdown files.

    Args:
        federation: it still runs.
        release: the folder that `coordinator export` wrote.
        folder: gets `model-card.md` and `dpia-input.md`; both are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card, paper = folder / "model-card.md", folder / "dpia-input.md"
    shutil.copyfile(release / "README.md", card)
    paper.write_text(federation.command("site-client", "dpia", str(federation.site_file("site-1"))), encoding="utf-8")
    return [card, paper]
