"""One hospital's files: clear refusals, and no sample that can stop a round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.schema import ConfigError, PolicyConfig, SiteConfig
from model.inputs import Example
from model.spec import TINY
from privacy.dp.accounting import ReleaseEvent
from privacy.errors import BudgetExceededError
from privacy.identity import Roster, RosterSite
from site_client.installation import Installation
from site_client.keystore import signing_key
from site_client.records import PatientRecord, SiteIndex
from tests.privacy.officers import signed


def installation(folder: Path, site_id: str = "site-1") -> Installation:
    """Made for a roster with site-1 to site-3; this folder's key is that of site-1."""
    state = folder / "state"
    keys = [signing_key(state).public_bytes(), bytes([2] * 32), bytes([3] * 32)]
    roster = Roster(
        federation_id="fed", version=1, coordinator_key=bytes([9] * 32),
        sites=tuple(RosterSite(f"site-{i}", key, 100) for i, key in enumerate(keys, start=1)), min_cohort=3,
        min_fraction=0.0)
    file = signed(roster)
    (folder / "roster.bin").write_bytes(file.to_bytes())
    return Installation(SiteConfig(
        site_id=site_id, data=str(folder / "data"), state=str(state), base_model=str(folder / "base"),
        roster=str(folder / "roster.bin"), roster_hash=file.roster.hash().hex(), policy=PolicyConfig(max_epsilon=8.0)))


def test_a_site_on_the_roster_opens(tmp_path: Path) -> None:
    assert installation(tmp_path).site_id == "site-1"


def test_a_site_that_is_not_on_the_roster_is_told_so_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^site_id='site-9' is not on the roster .*roster.bin; correct site_id"):
        installation(tmp_path, "site-9")


def test_a_key_other_than_the_rosters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the roster's key of site-2 is not this installation's"):
        installation(tmp_path, "site-2")


class Encoder:
    """Encodes an example as its question; some questions cannot be."""

    base = SimpleNamespace(content_hash=bytes(32), spec=TINY)

    def encode(self, examples: Sequence[Example]) -> list[str]:
        if any("too many tiles" in example.question for example in examples):
            raise ValueError("render: patient Smith's images exceed the model's max_tokens")
        return [example.question for example in examples]


def test_a_sample_that_cannot_be_encoded_is_counted_here_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impossible = Example("too many tiles", "yes")
    records = (
        PatientRecord("b", {"reports": (Example("one", "yes"), impossible, Example("two", "no"))}),
        PatientRecord("a", {"patches": (impossible,)}))
    site = installation(tmp_path)
    monkeypatch.setattr(site, "index", lambda: SiteIndex(records))
    adapted: Any = Encoder()
    with caplog.at_level(logging.DEBUG):
        patients = site.patients(adapted)
    assert patients == [{"patches": []}, {"reports": ["one", "two"]}]
    assert "encoded samples=2 refused=2" in caplog.text and "Smith" not in caplog.text


def test_neither_a_restart_nor_other_data_nor_another_pseudonym_key_starts_another_budget(tmp_path: Path) -> None:
    site = installation(tmp_path)
    site.ledger.reserve_run("run", "aa", [ReleaseEvent(0.1, 1.0, 20)], 1e-5)
    spent = site.ledger.spent()
    site.ledger.close()
    (site.state / "pseudonym.key").unlink(missing_ok=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "questions.csv").write_text("other patients")
    again = installation(tmp_path)
    assert again.ledger.spent() == spent
    with pytest.raises(BudgetExceededError):
        again.ledger.reserve_run("another", "bb", [ReleaseEvent(0.1, 1.0, 300)], 1e-5)


def test_a_lost_ledger_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    installation(tmp_path).ledger.close()
    for path in (tmp_path / "state").glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(ConfigError, match="it is gone; restore the whole state folder"):
        installation(tmp_path)
    assert not (tmp_path / "state" / "ledger.sqlite").exists()
