"""`site-client dpia`: the facts are the site's own, nothing is claimed that does not hold, and no patient is in it."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import replace

import pytest

from privacy.ledger import Ledger
from site_client.dpia_facts import dpia_facts
from site_client.dpia_risks import NOT_CLAIMED, RISKS
from site_client.dpia_text import BLANK, dpia_text
from site_client.keystore import signing_key
from site_client.opt_out import change_opt_out
from tests.site_client.made_site import ENTRY, MadeSite


@pytest.fixture
def site(tmp_path, capsys) -> MadeSite:
    made = MadeSite(tmp_path, capsys)
    made.has_worked()
    return made


def test_a_site_that_worked_states_its_own_numbers(site):
    code, text, _ = site.run("dpia", site.file, "--no-data")
    facts = json.loads(site.run("ledger", "show", site.file, "--json")[1])
    assert code == 0
    assert f"**epsilon {facts['epsilon']:.4g}** of at most {facts['max_epsilon']:g}" in text
    assert f"factor of at most {2.718281828459045 ** facts['epsilon']:.4g}" in text
    assert site.roster().roster.hash().hex() in text
    assert "| site-2 | 200 | active |" in text
    assert text.count(BLANK) >= 8
    assert "not legal advice" in text


def test_an_account_without_private_noise_claims_nothing(site):
    ledger = Ledger.open(site.state / "ledger.sqlite", signing_key=signing_key(site.state), epsilon_cap=1e9)
    simulated = replace(ENTRY, run_id="run-2", entropy="simulated")
    ledger.reserve_run("run-2", "bb" * 32, [simulated.event()], simulated.delta)
    ledger.reserve(simulated)
    ledger.close()
    text = site.run("dpia", site.file, "--no-data")[1]
    assert "Nothing is claimed" in text
    assert "**epsilon" not in text and "factor of at most" not in text


def test_shared_noise_is_not_said_to_rest_on_the_site_alone(site):
    facts = dpia_facts(site.config)
    assert "does not rest on the coordinator" in dpia_text(facts)
    one = {"epsilon": 8.0, "max_epsilon": 9.0, "setting": "policy.max_epsilon"}
    facts["budget"]["guarantees"] = {"colluders": 1, **dict.fromkeys(("outside", "colluding", "alone"), one)}
    text = dpia_text(facts)
    assert "does not rest on the coordinator" not in text
    assert "shared their noise out" in text and "should secure aggregation fail" in text


def test_a_site_that_never_started_says_that_nothing_left(tmp_path, capsys):
    made = MadeSite(tmp_path, capsys)
    text = made.run("dpia", made.file, "--no-data")[1]
    assert "Nothing: this site has not been started." in text
    assert "**epsilon 0**" in text


def test_a_damaged_ledger_is_said_and_not_skipped(site):
    data = bytearray((site.state / "ledger.sqlite").read_bytes())
    for match in re.finditer(rb"run-1", bytes(data)):
        data[match.start() : match.end()] = b"run-9"
    (site.state / "ledger.sqlite").write_bytes(bytes(data))
    text = site.run("dpia", site.file, "--no-data")[1]
    assert "The ledger cannot be read" in text
    assert "**epsilon" not in text


def test_a_new_file_is_its_owners_and_never_overwritten(site, tmp_path):
    out = tmp_path / "input.md"
    assert site.run("dpia", site.file, "--no-data", "--out", out)[0] == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_text()
    code, _, error = site.run("dpia", site.file, "--no-data", "--out", out)
    assert code == 2 and "exists" in error
    assert out.read_text() == before


def test_few_opted_out_patients_are_hidden(site):
    change_opt_out(site.state, ["P1", "P2"], key=(site.state / "pseudonym.key").read_bytes(), issuer="")
    assert dpia_facts(site.config)["opted_out"] == "<10"


def test_every_table_has_as_many_cells_as_its_head(site):
    index = {"patients": "<10", "modalities": {"CR": 40}, "sources": {}, "phi_hits": {"a|b": 11}, "refused": 0}
    facts = dpia_facts(site.config, index)
    for table in re.findall(r"(?:^\|.*\n)+", dpia_text(facts), re.MULTILINE):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1, table


def test_every_risk_has_a_measure_a_check_and_a_rest():
    assert all(len(row) == 4 and all(row) for row in RISKS)
    assert len(NOT_CLAIMED) >= 9
