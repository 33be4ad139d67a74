"""A ledger with distributed noise has three guarantees; one epsilon would be a third of the truth."""

from __future__ import annotations

import html
import re
from dataclasses import replace

from privacy.dp.guarantees import Guarantees
from privacy.ledger import Ledger
from site_client.keystore import note_ledger, signing_key
from tests.site_client.made_site import ENTRY
from tests.site_client.web.sites import new_site, serving


def test_the_page_and_the_terminal_show_epsilon_by_who_asks(tmp_path, capsys):
    site = new_site(tmp_path)
    shared = replace(
        ENTRY, run_id="shared", mechanism="distributed-gaussian", min_survivors=3, colluders=1, levels=1 << 18)
    ledger = Ledger.open(site.state / "ledger.sqlite", signing_key=signing_key(site.state), epsilon_cap=1e3,
                         shared=Guarantees(1e3, 1e3, 1e3))
    ledger.reserve_run("shared", "cc" * 32, [shared.event()], shared.delta)
    ledger.close()
    note_ledger(site.state)
    with serving(site) as (pages, client):
        overview, facts = html.unescape(client.get("/").text), pages.readings.ledger().facts
    assert facts is not None
    told = [facts["guarantees"][view]["epsilon"] for view in ("outside", "colluding", "alone")]
    assert told[0] < told[1] < told[2]
    capsys.readouterr()
    site.run("status", site.file)
    for words in (overview, capsys.readouterr().out):
        shown = re.sub(r"\s+", " ", words)
        assert all(f"epsilon {value:.4g} " in shown for value in told), shown
        assert "should secure aggregation fail" in shown
