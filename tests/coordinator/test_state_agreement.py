"""R5 at the coordinator: what is on the disk before a result is sent, whom it asks, and what a restart sends again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator import checkpoint
from coordinator.exchange import Outgoing, Reply
from coordinator.rounds import RoundFailedError, RunState, run_rounds
from privacy.errors import FAULTS
from privacy.messages import Attest, ErrorReply, RoundStart, SignedResult
from privacy.results import check_attests
from tests.coordinator.test_rounds import (
    IDS,
    ROSTER,
    SIZE,
    Answer,
    Memory,
    Sites,
    federation,
    fresh,
    key_of,
    losing,
    run,
)


class Watched(Sites):
    """Keeps what was sent, by step; `journal` is looked at when a result leaves."""

    def __init__(self, tamper: Answer = lambda site, number, step, reply: reply, journal: Memory | None = None) -> None:
        super().__init__(tamper)
        self.journal = journal
        self.sent: list[tuple[str, str, Outgoing]] = []
        self.known: list[bytes] = []

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        self.sent += [(step, site, message) for site, message in outgoing.items()]
        if step == "sa_result" and self.journal is not None:
            closing = self.journal.kept[-1].closing
            assert closing is not None and not closing.attests
            self.known.append(closing.result.to_bytes())
        yield from super().exchange(step, outgoing, timeout_s)

    def of(self, step: str) -> list[tuple[str, Outgoing]]:
        return [(site, message) for name, site, message in self.sent if name == step]


def stopped(link: Sites, state: RunState, journal: Memory) -> tuple[RunState, str]:
    """Run until it fails; what the journal holds and what the error says."""
    with pytest.raises(RoundFailedError) as failure:
        list(run_rounds(federation(link), state, journal))
    return journal.kept[-1], str(failure.value)


def test_the_signed_result_is_kept_before_any_site_sees_it() -> None:
    journal = Memory()
    link = Watched(journal=journal)
    states = list(run_rounds(federation(link), fresh(), journal))
    assert len(states) == len(link.known) == 4
    assert [message.body for _, message in link.of("sa_result")] == [body for body in link.known for _ in IDS]
    for state in states:
        assert state.closing is not None and state.history[-1].attested == list(IDS)
        check_attests(state.closing.result.result, state.closing.attests, ROSTER)


def test_the_next_plan_carries_the_quorum_and_no_model() -> None:
    link = Watched()
    states = run(link)
    starts = [(site, RoundStart.from_bytes(message.body), message.vector) for site, message in link.of("sa_train")]
    assert all(vector is None for _, _, vector in starts)
    assert [start.result is None for _, start, _ in starts] == [True] * 4 + [False] * 12
    assert states[0].closing is not None
    assert starts[4][1].result == states[0].closing.result and starts[4][1].attests == states[0].closing.attests


def test_below_the_quorum_the_run_stops_and_names_who_is_missing() -> None:
    link = Watched(losing(("site-1", 2, "sa_result"), ("site-3", 2, "sa_result")))
    kept, text = stopped(link, fresh(), Memory())
    assert text == (
        "round 2 stopped at sa_result (E_COHORT_SMALL, blamed: nobody): 2 of the roster's 4 sites answered well and "
        "3 are needed; missing: site-1 (sa_result: transport); site-3 (sa_result: transport). "
        f"{FAULTS['E_COHORT_SMALL'].sentence} {FAULTS['E_COHORT_SMALL'].action}")
    assert len(kept.history) == 2 and kept.closing is not None and kept.closing.attested == ("site-2", "site-4")
    assert kept.history[-1].attested == ["site-2", "site-4"]


@pytest.mark.parametrize("number", [1, 4])
def test_a_restart_asks_the_missing_with_the_very_same_result_and_goes_on(number: int) -> None:
    """Also after the last round, and also when nothing of the attestations had been kept."""
    for forget in (False, True):
        link = Watched(losing(("site-1", number, "sa_result"), ("site-3", number, "sa_result")))
        kept, _ = stopped(link, fresh(), Memory())
        before = [message for _, message in link.of("sa_result")][-1]
        if forget:
            assert kept.closing is not None
            kept = replace(kept, closing=replace(kept.closing, attests=()))
        link.tamper, link.sent = losing(), []
        states = list(run_rounds(federation(link), kept, Memory()))
        first = link.sent[: 4 if forget else 2]
        assert [(step, site) for step, site, _ in first] == [
            ("sa_result", site) for site in (IDS if forget else ("site-1", "site-3"))]
        assert all(message.body == before.body and np.array_equal(message.vector, before.vector)  # type: ignore[arg-type]
                   for _, _, message in first)
        assert [len(state.history) for state in states] == list(range(number, 5))
        assert states[0].history[-1].attested == list(IDS)


def test_a_site_that_did_not_attest_is_sent_the_whole_state_and_the_others_are_not() -> None:
    link = Watched(losing(("site-4", 1, "sa_mask"), ("site-2", 2, "sa_result")))
    states = run(link)
    assert link.downloads == [("site-4", 2), ("site-2", 3)]
    sent = states[-1].history[1].bytes_to_sites
    assert sent["site-4"] - sent["site-1"] == 20 * SIZE
    assert states[-1].history[2].missing == {} and states[-1].history[1].missing == {"site-2": "sa_result: transport"}


def test_a_site_that_lost_its_state_asks_for_it_and_takes_part() -> None:
    """It attested, so nothing was sent; it says P_STATE and the same plan comes with the state."""

    class Forgetful(Watched):
        def _train(self, site: str, message: Outgoing) -> bytes:
            number = RoundStart.from_bytes(message.body).plan.plan.round
            if (site, number) == ("site-3", 2) and message.vector is None:
                return ErrorReply("P_STATE", "nobody").to_bytes()
            return super()._train(site, message)

    link = Forgetful()
    states = run(link)
    assert link.downloads == [("site-3", 2)]
    assert states[1].history[1].summed == list(IDS) and states[1].history[1].missing == {}
    bodies = {message.body for site, message in link.of("sa_train") if site == "site-3"}
    assert len(bodies) == 4  # one a round: the second sending is the same message


@pytest.mark.parametrize("answer", [
    b"no message", ErrorReply("E_RESULT_MISMATCH", "coordinator").to_bytes(), "another site's", "of another result"])
def test_what_is_no_attestation_of_its_sender_does_not_count(answer: Any) -> None:
    results: list[SignedResult] = []

    class Listening(Watched):
        def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
            if step == "sa_result":
                results.append(SignedResult.from_bytes(next(iter(outgoing.values())).body))
            yield from super().exchange(step, outgoing, timeout_s)

    def tamper(site: str, number: int, step: str, reply: Reply) -> Reply:
        if (site, number, step) != ("site-2", 1, "sa_result"):
            return reply
        result = results[-1].result
        made = {"another site's": Attest.make("site-1", result, key_of("site-1")),
                "of another result": Attest.make("site-2", replace(result, finished=9), key_of("site-2"))}
        return Reply(site, made[answer].to_bytes() if answer in made else answer)

    state = run(Listening(tamper))[0]
    assert state.history[0].attested == ["site-1", "site-3", "site-4"]
    assert state.history[0].missing["site-2"] in (
        "sa_result: E_FORMAT", "sa_result: E_RESULT_MISMATCH", "sa_result: E_SITE_SIG")


def test_restarted_sites_are_admitted_again_when_the_quorum_needs_them() -> None:
    link = Watched()
    admitted: list[int] = []

    def tamper(site: str, number: int, step: str, reply: Reply) -> Reply:
        refuses = step == "sa_result" and number == 1 and site in ("site-1", "site-2") and not admitted
        return Reply(site, ErrorReply("P_NOT_APPROVED", "nobody").to_bytes()) if refuses else reply

    def admit() -> tuple[str, ...]:
        admitted.append(link.number)
        return IDS

    link.tamper = tamper
    states = run(link, admit=admit)
    assert admitted == [1] and states[0].history[0].attested == list(IDS) and states[0].history[0].missing == {}


def test_a_failed_admission_leaves_the_shortfall_to_be_told() -> None:
    def admit() -> tuple[str, ...]:
        raise RoundFailedError("only 1 of 4 sites accepted the run")

    refused = ErrorReply("P_WITNESS", "nobody").to_bytes()
    link = Watched(lambda site, number, step, reply: (
        Reply(site, refused) if step == "sa_result" and site in ("site-1", "site-2") else reply))
    with pytest.raises(RoundFailedError, match=r"sa_result .*: 2 .* 3 are needed; missing: site-1 \(sa_result: P_WIT"):
        run(link, admit=admit)


# ------------------------------------------------------------------ the checkpoint


def saved(folder: Path, **changed: Any) -> None:
    state = checkpoint.Checkpoint(
        1, np.zeros(3, np.float32), np.zeros(3), np.zeros(3), "ab", [], np.arange(6, dtype=np.uint8), "aa", [])
    checkpoint.save(folder, replace(state, **changed))


def test_attestations_are_added_without_a_moment_in_which_the_result_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("privacy.durable.os.fsync", "coordinator.checkpoint.write_whole", "privacy.durable.Path.replace"):
        with monkeypatch.context() as patched:
            patched.setattr(name, killed)
            with pytest.raises(KeyboardInterrupt):
                saved(tmp_path, attests=["bb"])
        found = checkpoint.latest(tmp_path, "ab")
        assert found is not None and (found.result, found.attests) == ("aa", [])
    saved(tmp_path, attests=["bb"])
    found = checkpoint.latest(tmp_path, "ab")
    assert found is not None and found.attests == ["bb"] and found.packed_sum.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("changed", [
    {"packed_sum": np.arange(1, 7, dtype=np.uint8)}, {"adapter": np.ones(3, np.float32)}, {"average": np.ones(3)}])
def test_another_sum_or_state_of_the_round_replaces_the_whole_checkpoint(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    saved(tmp_path)
    saved(tmp_path, **changed)
    found = checkpoint.latest(tmp_path, "ab")
    assert found is not None
    for name, value in changed.items():
        assert np.array_equal(getattr(found, name), value)
