"""A hospital's folder as `site-client init` makes it, with data, a stand-in base model, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import site_client.cli
from configs.load import load_config
from configs.schema import SiteConfig
from model.backbone import BASE_FILES
from privacy.identity import Roster, RosterSite
from privacy.ledger import Ledger, LedgerEntry
from privacy.roster import SignedRoster
from site_client.audit_log import site_log
from site_client.keystore import note_ledger, signing_key
from site_client.roster_pin import RosterPin
from tests.privacy.invited import INVITATION, key_of
from tests.privacy.officers import OFFICERS, signed

QUESTIONS = ("PatientID,QuestionID,Kind,AccessionNumber,SOPInstanceUIDs,Question,Choices,Answer\n"
             "P4711,q,normal,A1,,Normal?,yes|no,yes\n")
ENTRY = LedgerEntry(
    run_id="run-1", round=1, attempt=1, stage=0, mechanism="poisson-gaussian", sampling_rate=0.2, noise_multiplier=1.5,
    steps=2, clip_norm=0.1, delta=1e-5, entropy="system", created_utc="2026-01-01T00:00:00+00:00")


class MadeSite:
    """`run` is one command; `config` and `state` are the site's."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        for name in ("data", "model"):
            (folder / name).mkdir()
        for name in BASE_FILES:
            (folder / "model" / name).write_bytes(b"x")
        (folder / "data" / "questions.csv").write_text(QUESTIONS)
        (folder / "invitation.json").write_text(INVITATION.to_json())
        code, _, error = self.run(
            "init", folder / "site", "--invitation", folder / "invitation.json", "--site-id", "site-1", "--patients",
            "200", "--data", folder / "data", "--base-model", folder / "model")
        assert code == 0, error

    def run(self, *words: object) -> tuple[int, str, str]:
        code = site_client.cli.main([*map(str, words)])
        printed = self._capsys.readouterr()
        assert printed.err.count("\n") == (code == 2), printed.err
        return code, printed.out, printed.err

    @property
    def file(self) -> Path:
        return self.folder / "site" / "site.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "site" / "state"

    @property
    def config(self) -> SiteConfig:
        return load_config(SiteConfig, self.file)

    def set(self, old: str, new: str) -> None:
        """Change the site file."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def roster(self) -> SignedRoster:
        """One with this site's key, signed by two officers."""
        sites = (RosterSite("site-1", signing_key(self.state).public_bytes(), 200),
                 *(RosterSite(name, key_of(name).public_bytes(), 200) for name in ("site-2", "site-3")))
        return signed(Roster(federation_id="fed", version=1, coordinator_key=INVITATION.coordinator_key, sites=sites,
                             min_cohort=3, min_fraction=0.5, officers=OFFICERS))

    def has_worked(self) -> None:
        """A roster in force, one run in the ledger, one message in the audit log."""
        RosterPin(self.config).approve(self.roster())
        ledger = Ledger.open(self.state / "ledger.sqlite", signing_key=signing_key(self.state), epsilon_cap=8.0)
        ledger.reserve_run("run-1", "aa" * 32, [ENTRY.event()], 1e-5)
        ledger.reserve(ENTRY)
        ledger.close()
        note_ledger(self.state)
        with site_log(self.state) as log:
            log.note("start")
