"""Evidence against a site: on the disk before the site is left out, once, and the round goes on without it."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from coordinator.evidence_folder import EvidenceFolder, kept_in
from coordinator.exchange import Outgoing, Reply
from coordinator.rounds import run_rounds
from privacy.evidence import Evidence, proves
from privacy.messages import Advertise, LedgerMark, Plan
from privacy.results import open_round_start
from tests.coordinator.test_rounds import ROSTER, Memory, Sites, federation, fresh, key_of


class TwoFaced(Sites):
    """Site 2 answers the plan twice, the second time with other keys."""

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        for reply in super().exchange(step, outgoing, timeout_s):
            yield reply
            if (step, reply.site_id) == ("sa_train", "site-2"):
                yield Reply("site-2", announcement(self.plan_of(outgoing["site-2"]), bytes([7] * 32)))

    @staticmethod
    def plan_of(message: Outgoing) -> Plan:
        return open_round_start(message.body).plan.plan


def announcement(plan: Plan, mask_key: bytes) -> bytes:
    key = key_of("site-2")
    mark = LedgerMark.empty("site-2", "fed", key)
    return Advertise.signed(key, (plan.context(),), site_id="site-2", channel_key=bytes([9] * 32), mask_key=mask_key,
                            mark=mark).to_bytes()


class Weak(TwoFaced):
    """Site 2 announces a weak key instead of a good one."""

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        for reply in Sites.exchange(self, step, outgoing, timeout_s):
            weak = (step, reply.site_id) == ("sa_train", "site-2")
            yield Reply("site-2", announcement(self.plan_of(outgoing["site-2"]), bytes(32))) if weak else reply


@pytest.mark.parametrize(("link", "kind"), [(TwoFaced, "two-announcements"), (Weak, "weak-key")])
def test_a_run_keeps_what_a_site_signed_and_goes_on(tmp_path: Path, link: type[Sites], kind: str) -> None:
    folder = EvidenceFolder(tmp_path / "run" / "evidence", ROSTER)
    (tmp_path / "run").mkdir()
    running = federation(link(), keep_evidence=folder.keep)
    state = next(iter(run_rounds(running, fresh(), Memory())))
    report = state.history[0]  # of two announcements the first one counts, and the site is in the sum
    assert ("site-2" in report.missing, "site-2" in report.summed) == ((kind == "weak-key"), (kind != "weak-key"))
    ((evidence, roster, noted),) = kept_in(tmp_path / "run")
    assert (evidence.kind, evidence.blamed, roster) == (kind, "site-2", ROSTER)
    assert proves(evidence, ROSTER) and noted.startswith("20")
    files = list((tmp_path / "run" / "evidence").iterdir())
    assert {path.name for path in files} == {"roster.bin", f"{evidence.hash().hex()[:16]}.bin"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_run_without_evidence_has_no_folder(tmp_path: Path) -> None:
    running = federation(Sites(), keep_evidence=EvidenceFolder(tmp_path / "evidence", ROSTER).keep)
    assert len(list(run_rounds(running, fresh(), Memory()))) == 4
    assert not (tmp_path / "evidence").exists() and kept_in(tmp_path) == []


def test_evidence_that_cannot_be_written_stops_the_round(tmp_path: Path) -> None:
    """A site is not left out, and the proof forgotten, because a disk is full."""
    def full(_: Evidence) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        next(iter(run_rounds(federation(Weak(), keep_evidence=full), fresh(), Memory())))
