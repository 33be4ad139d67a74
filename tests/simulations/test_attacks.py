"""Both directions of every attack: the real sites give the named answer; without the defence it works."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from privacy.secagg.client import SiteRound
from simulations.adversaries.attack import Attack, judge
from simulations.adversaries.breaker import Breaker, Findings
from simulations.adversaries.catalogue import ATTACKS
from simulations.adversaries.linear import left_kernel, reduced
from simulations.adversaries.lists import SplitSurvivors
from simulations.adversaries.malformed import MUTATIONS
from simulations.adversaries.relay import Relay
from simulations.cli import main

ROOT = Path(__file__).resolve().parents[2]
WEAK = [name for name, attack in ATTACKS.items() if attack.weakness]
#: what --without-defence must give away, where it is one site's own vector
VICTIMS = {"alive-and-dead", "late-vector", "key-substitution", "one-site-cohort", "threshold-one", "replay-plan",
           "replay-round", "replay-round-after-restart"}


@pytest.fixture(autouse=True)
def _level_of_the_log() -> Iterator[None]:
    """The command quietens the sites; other tests read their log."""
    level = logging.getLogger("site_client").level
    yield
    logging.getLogger("site_client").setLevel(level)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_fails_with_the_named_answer(name: str) -> None:
    attack = ATTACKS[name]
    verdict = judge(attack)
    assert verdict.failed, verdict.text()
    assert verdict.as_expected, verdict.text()
    if attack.expected is not None:
        assert attack.expected in {(answer.code, answer.blamed) for answer in verdict.answers}
    assert verdict.conclusion == "attack failed"


@pytest.mark.parametrize("name", WEAK)
def test_without_its_defence_the_attack_gives_away_more_than_a_sum(name: str) -> None:
    verdict = judge(ATTACKS[name], defended=False)
    assert not verdict.failed and (verdict.findings.leaks or verdict.fooled), verdict.text()
    assert "ATTACK SUCCEEDED" in verdict.text() and verdict.weakness in verdict.text()
    if name in VICTIMS:
        assert "round 1: site-01" in verdict.findings.leaks


def test_the_defences_that_matter_most_have_a_demonstration() -> None:
    assert set(WEAK) >= {"alive-and-dead", "key-substitution", "threshold-one", "one-site-cohort",
                         "split-survivors-colluding", "replay-plan", "replay-round", "seed-search"}


def test_the_last_unknown_sites_vector_needs_all_the_collusion_that_the_threshold_bears() -> None:
    """With one colluding site fewer, the same split gives nothing, quorum or not."""
    class Fewer(ATTACKS["split-survivors-colluding"]):  # type: ignore[misc]
        colluding = 3

    assert judge(Fewer, defended=False).failed


def test_the_quorum_alone_is_not_what_protects_a_cohort_without_accomplices() -> None:
    """2t > n: nobody holds t shares of both kinds. The page on attacks says so."""
    from simulations.adversaries.weakened import NoQuorum

    class Unchecked(SplitSurvivors):
        weak, weakness = NoQuorum, "no quorum"

    verdict = judge(Unchecked, defended=False)
    assert verdict.failed and not verdict.answers


# ------------------------------------------------------------------ the breaker


class _Honest(Relay):
    name = title = gain = defence = "nothing"


class _Silent(_Honest):
    """One site does not answer after its envelopes: its mask key is rebuilt."""

    def envelopes_for(self, site, envelopes):  # type: ignore[no-untyped-def]
        return envelopes[:2] if site == "site-05" else envelopes


def _findings(kind: type[Relay]) -> Findings:
    return kind().play(defended=True).findings


def test_an_honest_round_tells_one_sum() -> None:
    found = _findings(_Honest)
    assert found.sums == ("round 1: site-01 + site-02 + site-03 + site-04 + site-05",) and not found.leaks
    assert found.secrets == ("round 1.1: mask seeds of site-01, site-02, site-03, site-04, site-05",)


def test_a_round_with_a_dropped_site_tells_one_sum_and_that_sites_mask_key() -> None:
    found = _findings(_Silent)
    assert found.sums == ("round 1: site-01 + site-02 + site-03 + site-04",) and not found.leaks
    assert "round 1.1: mask keys of site-05" in found.secrets


def test_a_sum_below_the_floor_is_a_leak() -> None:
    """Four of five survive where the floor is four; the judge says so because of the floor, not of the list."""
    attack = _Silent()
    attack.play(defended=True)
    roster = attack.world.roster
    assert not Breaker(attack.loot, roster, 24).findings().leaks
    stricter = replace(roster, min_cohort=5)
    assert Breaker(attack.loot, stricter, 24).findings().leaks


def test_two_sums_of_one_round_are_a_leak_and_sums_of_two_rounds_are_not() -> None:
    class TwoRounds(_Honest):
        def attack(self) -> None:
            self.attempt(self.world.plan())
            self.attempt(self.world.plan(round=2))

    assert not _findings(TwoRounds).leaks
    assert judge(ATTACKS["replay-plan"], defended=False).findings.leaks


def test_the_breaker_counts_only_what_its_numbers_show() -> None:
    """A vector that was not the site's: the combination is there, its numbers are not, so it is no finding."""
    attack = _Honest()
    attack.play(defended=True)
    upload = attack.loot.uploads[0]
    upload.values[0] ^= np.uint32(1)
    assert Breaker(attack.loot, attack.world.roster, 24).findings().sums == ()


def test_secrets_of_accomplices_are_known_to_the_breaker() -> None:
    class Four(_Honest):
        colluding = 4

    found = _findings(Four)
    assert found.sums == ("round 1: site-01",)  # four sites subtract their own vectors: the sum's own limit
    assert not found.leaks


def test_kernel_and_echelon_form() -> None:
    assert left_kernel([[1, 0], [-1, 1], [0, -1]]) == [[1, 1, 1]]
    assert left_kernel([[2], [1]]) in ([[1, -2]], [[-1, 2]])
    assert left_kernel([[1, 0], [0, 1]]) == [] and left_kernel([[], []]) == [[1, 0], [0, 1]]
    one, half = Fraction(1), Fraction(1, 2)
    assert reduced([{"a": one, "b": one}, {"a": one}, {"b": half}], ["a", "b"]) == [{"a": one}, {"b": one}]


# ------------------------------------------------------------------ results


def test_with_an_honest_result_the_next_round_begins() -> None:
    """So the attacks on results fail for their lie, and a site that goes on is noticed."""
    from simulations.adversaries.results import AfterRound

    outcome = AfterRound().play(defended=True)
    assert outcome.answers == []
    assert outcome.fooled == ("site-01, site-02, site-03, site-04, site-05 went on to the next round",)


@pytest.mark.parametrize(("name", "fooled"), [("missing-quorum", 5), ("two-results", 5)])
def test_without_the_quorum_of_attestations_sites_go_on(
    monkeypatch: pytest.MonkeyPatch, name: str, fooled: int
) -> None:
    monkeypatch.setattr("privacy.results.check_attests", lambda result, attests, roster: None)
    (sentence,) = judge(ATTACKS[name]).fooled
    assert sentence.count("site-") == fooled


# ------------------------------------------------------------------ cohorts and weights


@pytest.mark.parametrize(("name", "where", "weak", "sentence"), [
    ("lopsided-weights", "site_client.policy.weights_follow", lambda manifest, roster: True,
     r"the sum is site-01's own vector, to [0-4] units of the ring"),
    ("withheld-results", "site_client.round_store.RoundStore.withheld", lambda store, run_id: 0,
     "4 sums of one model were opened"),
    ("forged-by-few", "privacy.results.quorum", lambda result, roster: roster.threshold(result.announced),
     "site-01, site-02, site-03 went on to the next round")])
def test_without_their_check_a_choice_of_cohorts_or_weights_succeeds(
    monkeypatch: pytest.MonkeyPatch, name: str, where: str, weak: object, sentence: str
) -> None:
    monkeypatch.setattr(where, weak)
    (fooled,) = judge(ATTACKS[name]).fooled
    assert re.fullmatch(sentence, fooled)


def test_with_cohorts_of_half_the_sites_one_round_tells_two_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.identity.Roster.floor", lambda roster, announced: max(3, roster.threshold(announced)))
    assert judge(ATTACKS["two-cohorts"]).findings.leaks


# ------------------------------------------------------------------ what a person sees


def test_every_attack_lies_in_one_method_of_a_subclass_and_says_what_it_is() -> None:
    for name, attack in ATTACKS.items():
        assert re.fullmatch(r"[a-z-]+", name) and attack.__mro__[1] is not object
        for text in (attack.title, attack.gain, attack.defence):
            assert 10 < len(text) < 200
        assert attack.expected is not None or name in ("seed-search", "harvest-now", "reply-time")  # nothing is sent
    assert len({attack.title for attack in ATTACKS.values()}) == len(ATTACKS) >= 31


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attack", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line for line in listed if line in ATTACKS] == list(ATTACKS)
    assert main(["attack", "sybil", "one-site-cohort"]) == 0
    text = capsys.readouterr().out
    assert "E_UNKNOWN_SITE at sa_share, blaming coordinator; said by site-01" in text
    assert "2 attacks, 0 succeeded" in text
    assert main(["attack", "one-site-cohort", "--without-defence", "--json"]) == 0
    (verdict,) = json.loads(capsys.readouterr().out)
    assert verdict["failed"] is False and verdict["findings"]["leaks"] == ["round 1: site-01"]
    assert main(["attack", "nonsense"]) == 2
    assert main(["attack", "sybil", "--without-defence"]) == 2
    assert "has no demonstration" in capsys.readouterr().err


def test_the_command_fails_when_an_attack_succeeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from simulations.adversaries.weakened import NoFloor

    monkeypatch.setattr("simulations.adversaries.relay.SiteRound", NoFloor)
    assert main(["attack", "one-site-cohort"]) == 1
    assert "ATTACK SUCCEEDED" in capsys.readouterr().out


def test_the_command_fails_when_the_answer_is_another_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ATTACKS["sybil"], "expected", ("E_SIG", "coordinator"))
    assert main(["attack", "sybil"]) == 1
    assert "BUT NOT AS EXPECTED" in capsys.readouterr().out


def test_a_site_that_takes_a_malformed_message_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MUTATIONS, "nothing", lambda body: body)
    assert any("nothing" in fooled for fooled in judge(ATTACKS["malformed"]).fooled)


def test_a_wrong_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from simulations.adversaries.liars import LyingSite

    original = LyingSite._round

    def off_by_one(self, to, world):  # type: ignore[no-untyped-def]
        total = original(self, to, world)
        total[0] ^= 1
        return total

    monkeypatch.setattr(LyingSite, "_round", off_by_one)
    assert judge(ATTACKS["wrong-share"]).fooled == ("the sum is wrong and nobody noticed",)


def test_the_page_on_attacks_is_the_catalogue() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    rows = {cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
            for line in page.splitlines() if line.startswith("| `")
            for cells in [line.strip("|").split(" | ")]}
    assert list(rows) == list(ATTACKS)
    for name, attack in ATTACKS.items():
        code, blamed = attack.expected or ("none needed", "-")
        gain, defence, answer, blame, demonstrated = rows[name][:5]
        assert (gain, defence) == (attack.gain, attack.defence), name
        assert (answer.strip("`"), blame) == (code, blamed), name
        assert (demonstrated == "yes") == bool(attack.weakness), name


def test_attacks_are_played_against_the_real_class() -> None:
    relays = [a for a in ATTACKS.values() if issubclass(a, Relay)]
    for attack in relays:
        weak = attack.weak
        assert weak is None or (issubclass(weak, SiteRound) and attack.weakness)
    assert all(issubclass(attack, Attack) for attack in ATTACKS.values())
