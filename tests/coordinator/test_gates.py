"""Gates over the real round loop and real site sessions: passed, failed by number, repeated, and not to be forged."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.exchange import Outgoing
from coordinator.gate_report import GateNotPassedError
from coordinator.progress import lines_of
from coordinator.release_facts import stage_rounds
from coordinator.rounds import RoundFailedError, RunState, report_fields
from coordinator.run_store.records import measure_rows, round_row
from privacy.dp.accounting import epsilon
from privacy.errors import MessageFormatError
from privacy.evaluation import GateOutcome
from privacy.messages import Attest, ErrorReply, RoundStart, SignedPlan, SignedResult
from privacy.secagg.quantize import pack, unpack
from site_client.policy import planned_events
from tests.coordinator.gated_sites import BAD, GATE, GOOD, Hospitals, evaluated, gated, rounds_of  # noqa: F401
from tests.site_client.small_site import COORDINATOR, IDS, key_of, light, session_of  # noqa: F401

PASSED = [(1, 0, "B"), (2, 0, "gate"), (3, 1, "B")]


def test_a_gate_that_all_sites_pass_lets_the_next_stage_begin(tmp_path: Path) -> None:
    link = Hospitals(tmp_path)
    states = list(link.run())
    assert rounds_of(states[-1]) == PASSED
    gate = states[1].history[-1].evaluation
    assert gate is not None and (gate["failed"], gate["passed"], gate["repeat"]) == (0, True, 0)
    assert gate["mean_loss"] == pytest.approx(0.5, abs=4 * gate["standard_error"])
    assert gate["patients"] == pytest.approx(240, abs=4 * 1.5 * 2)
    assert states[-1].gates() == (GateOutcome(0, 2, 0),)
    assert "gate passed" in lines_of({"event": "round", **report_fields(states[1].history[-1])})[0]
    history = [report_fields(report) for report in states[-1].history]
    assert stage_rounds(link.manifest, history) == [1, 1]  # what a release says counts training rounds
    shown = {row["name"]: row["value"] for row in measure_rows(history[1])}
    assert shown == {"validation_loss": gate["mean_loss"], "gate_failed_sites": 0.0}
    assert round_row(history[1])["drawn"] is None and round_row(history[0])["drawn"] is not None
    before, after = states[0].server(), states[1].server()  # an evaluation leaves model and average as they are
    assert (before.model_hash, before.state_hash, before.finished) == (after.model_hash, after.state_hash, 1)
    assert states[-1].server().finished == 2


def test_a_gate_judges_what_a_release_would_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average over rounds, bit for bit as it is exported; training goes on from the last round's adapter."""
    judged: list[np.ndarray] = []

    def losses(adapted: Any, patients: Any, stage: Any) -> np.ndarray:
        judged.append(adapted.written.copy())
        return np.array(patients, dtype=float)

    monkeypatch.setattr("site_client.evaluation.patient_losses", losses)
    link = Hospitals(tmp_path, manifest=gated(rounds=3))
    states = list(link.run())
    trained = states[2]
    assert not np.array_equal(trained.average.astype(np.float32), trained.adapter)
    assert len(judged) == len(IDS)
    assert all(np.array_equal(one, trained.average.astype(np.float32).astype(np.float64)) for one in judged)


@pytest.mark.parametrize("bad", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_gate_fails_by_exactly_the_number_of_bad_sites_and_the_run_ends_after_its_repeats(
    tmp_path: Path, bad: int
) -> None:
    link = Hospitals(tmp_path, dict.fromkeys(IDS[:bad], BAD))
    with pytest.raises(GateNotPassedError) as caught:
        list(link.run())
    state = link.newest()
    assert rounds_of(state) == [*PASSED[:2], (3, 0, "A"), (4, 0, "gate")]
    assert state.gates() == (GateOutcome(0, 2, bad), GateOutcome(0, 4, bad))
    assert f"{bad} of 4 sites failed" in str(caught.value) and "site-" not in str(caught.value)
    assert "site-" not in str([report.evaluation for report in state.history])


def test_a_stage_that_is_repeated_may_pass_then(tmp_path: Path) -> None:
    link = Hospitals(tmp_path, {"site-2": BAD})
    run = link.run()
    for state in run:
        if state.gates():
            link.sites["site-2"].losses = GOOD  # the second block made the model better there
    assert rounds_of(state)[2:] == [(3, 0, "A"), (4, 0, "gate"), (5, 1, "B")]
    assert state.gates() == (GateOutcome(0, 2, 1), GateOutcome(0, 4, 0))


def test_a_site_with_nobody_to_evaluate_on_or_no_finite_loss_does_not_pass(tmp_path: Path) -> None:
    losses = {"site-1": [], "site-2": [float("nan")] * 60, "site-3": [float("inf")] * 60}
    link = Hospitals(tmp_path, losses, gated(replace(GATE, max_repeats=0)))
    with pytest.raises(GateNotPassedError, match="3 of 4 sites failed"):
        list(link.run())


@pytest.mark.slow
def test_an_evaluation_without_a_gate_decides_nothing(tmp_path: Path) -> None:
    link = Hospitals(tmp_path, dict.fromkeys(IDS, BAD), gated(None, rounds=2, every_rounds=1))
    states = list(link.run())
    assert rounds_of(states[-1]) == [
        (1, 0, "B"), (2, 0, "evaluation"), (3, 0, "A"), (4, 0, "evaluation"), (5, 1, "B"), (6, 1, "A")]
    found = states[-1].history[1].evaluation
    assert found is not None and found["passed"] is None and found["failed"] is None
    assert found["mean_loss"] == pytest.approx(3.5, abs=0.2) and states[-1].gates() == ()


# ------------------------------------------------------------------ the account


def test_the_ledger_holds_every_evaluation_and_adds_up_to_the_manifests_plan(tmp_path: Path) -> None:
    link = Hospitals(tmp_path, {"site-1": BAD}, gated(replace(GATE, spare=0)))
    with pytest.raises(GateNotPassedError):
        list(link.run())
    ledger = link.sites["site-4"].ledger
    entries = ledger.entries()
    assert [entry.purpose for entry in entries] == ["train", "evaluate"] * 2
    measured = [entry for entry in entries if entry.purpose == "evaluate"]
    assert {(e.sampling_rate, e.noise_multiplier, e.steps, e.clip_norm) for e in measured} == {(1.0, 1.0, 1, 1.0)}
    missing = planned_events(link.manifest)[1]  # the second stage was never reached, and stays charged
    assert epsilon([*(entry.event() for entry in entries), missing], 1e-5) == pytest.approx(
        epsilon(planned_events(link.manifest), 1e-5))
    assert ledger.spent() == pytest.approx(epsilon(planned_events(link.manifest), 1e-5))
    run = ledger.account().runs()[0]
    assert run.evaluations == 2
    assert run.evaluation_epsilon == pytest.approx(epsilon([entry.event() for entry in measured], 1e-5))


def test_a_message_delivered_twice_and_a_crash_before_the_upload_evaluate_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vector that waits keeps its lanes: a new attempt sends the same ones."""
    evaluations: list[int] = []
    twice: list[bool] = []

    def losses(adapted: object, patients: Any, stage: object) -> np.ndarray:
        evaluations.append(len(patients))
        return np.array(patients)

    def tamper(site: str, number: int, step: str, message: Outgoing) -> Outgoing | None:
        if (site, number, step) == ("site-1", 2, "sa_train"):
            first = link.sessions[site].answer(step, message.body, message.vector)[0]
            twice.append(first == link.sessions[site].answer(step, message.body, message.vector)[0])
        crash = (number, step, link.memory.used.count(2)) == (2, "sa_share", 1)
        return None if crash else message

    monkeypatch.setattr("site_client.evaluation.patient_losses", losses)
    link = Hospitals(tmp_path, tamper=tamper)
    with pytest.raises(RoundFailedError):
        list(link.run())
    assert evaluations == [60] * 4 and twice == [True]
    spool = {name: next((tmp_path / name / "spool").iterdir()).read_bytes() for name in IDS}
    for name, site in link.sites.items():  # every process starts anew
        link.sessions[name] = session_of(site, link.manifest)
    kept = link.newest()
    state = next(link.run(RunState(kept.adapter, kept.velocity, kept.average, kept.history, closing=kept.closing)))
    assert state.history[-1].round == 2 and state.history[-1].attempt == 2
    assert evaluations == [60] * 4 and all(len(content) == 3 * 4 for content in spool.values())
    assert all(site.ledger.account().runs()[0].evaluations == 1 for site in link.sites.values())


def test_a_gates_round_without_a_sum_is_tried_again_while_spare_ones_are_left(tmp_path: Path) -> None:
    """Its uploads had begun, so its number and its evaluation are spent."""
    lost = {2, 3}

    def tamper(site: str, number: int, step: str, message: Outgoing) -> Outgoing | None:
        return None if number in lost and step == "sa_confirm" else message

    link = Hospitals(tmp_path, manifest=gated(replace(GATE, max_repeats=0, spare=1)), tamper=tamper)
    with pytest.raises(RoundFailedError):
        list(link.run())
    kept = link.newest()
    kept = replace(kept, lost=(0,))  # as the coordinator's journal has it
    with pytest.raises(RoundFailedError):
        next(link.run(kept))
    assert link.number == 3
    with pytest.raises(GateNotPassedError, match="no gate round"):
        next(link.run(replace(kept, lost=(0, 0))))
    entries = link.sites["site-1"].ledger.entries()
    assert sum(entry.purpose == "evaluate" for entry in entries) == 2  # all that were reserved


# ------------------------------------------------------------------ coordinators that lie


def refusal(link: Hospitals, site: str, plan: Any, state: RunState, **result: Any) -> str:
    """The code with which `site` refuses this plan on top of the state's attested result, or of one changed so; "" when
    it takes part."""
    assert state.closing is not None
    signed, attests = state.closing.result, state.closing.attests
    if result:
        signed = SignedResult.make(replace(signed.result, **result), COORDINATOR)
    plan = replace(plan, model_hash=signed.result.model_hash)
    start = RoundStart(SignedPlan.signed(COORDINATOR, (), plan=plan), signed, attests)
    reply = link.sessions[site].answer("sa_train", start.to_bytes(), None)[0]
    try:
        return ErrorReply.from_bytes(reply).code
    except MessageFormatError:
        return ""


def stopped_at_the_gate(tmp_path: Path, *rounds: int) -> tuple[Hospitals, RunState, Any]:
    """A run whose site-1 fails, after these rounds; the last plan that the sites saw."""
    link = Hospitals(tmp_path, {"site-1": BAD})
    state: RunState | None = None
    try:
        for state in link.run():
            if state.history[-1].round == rounds[-1]:
                break
    except GateNotPassedError:
        state = link.newest()
    assert state is not None and state.closing is not None and state.closing.plan is not None
    return link, state, state.closing.plan


def training(plan: Any, **changed: Any) -> Any:
    return replace(plan, **{"purpose": "train", "dimension": 10, "num_lanes": 4, "attempt": 1, **changed})


def test_a_site_refuses_a_stage_whose_gate_before_was_left_out_or_failed(tmp_path: Path) -> None:
    link, state, plan = stopped_at_the_gate(tmp_path, 1)
    assert refusal(link, "site-2", training(plan, round=2, stage=1, factor="B"), state) == "E_GATE"
    early = replace(plan, round=2, purpose="evaluate", dimension=3, num_lanes=3, attempt=1)
    assert refusal(link, "site-2", replace(early, round=3), state) == ""  # a lost gate's spare one
    assert refusal(link, "site-2", replace(early, round=4), state) == ""
    assert refusal(link, "site-2", replace(early, round=5), state) == "E_GATE"
    assert refusal(link, "site-2", replace(early, round=6, stage=1), state) == "E_PARAMS"  # it evaluates nothing


def test_a_site_refuses_more_repeats_and_more_evaluations_than_were_announced(tmp_path: Path) -> None:
    link, state, plan = stopped_at_the_gate(tmp_path, 2)
    assert refusal(link, "site-2", training(plan, round=3, stage=1, factor="B"), state) == "E_GATE"
    assert refusal(link, "site-2", replace(plan, round=3, attempt=1), state) == "E_GATE"
    link, state, plan = stopped_at_the_gate(tmp_path / "twice", 4)
    assert refusal(link, "site-2", training(plan, round=5, stage=0, factor="B"), state) == "E_GATE"
    assert refusal(link, "site-2", training(plan, round=5, stage=1, factor="B"), state) == "E_GATE"
    assert refusal(link, "site-2", replace(plan, round=5, attempt=1), state) == "E_GATE"


def test_a_pass_that_no_quorum_attested_is_no_pass(tmp_path: Path) -> None:
    link, state, plan = stopped_at_the_gate(tmp_path, 2)
    assert state.closing is not None
    forged = (GateOutcome(0, 2, 0),)
    wanted = training(plan, round=3, stage=1, factor="B")
    assert refusal(link, "site-2", wanted, state, gates=forged) == "E_RESULT_MISMATCH"  # it knows the real one
    newcomer = Hospitals(tmp_path / "new", {"site-1": BAD})  # that knows nothing of the run
    assert refusal(newcomer, "site-2", wanted, state, gates=forged) == "E_ATTEST"
    result = replace(state.closing.result.result, gates=forged)
    liars = tuple(Attest.make(name, result, key_of(name)) for name in IDS[:2])
    lying = replace(state, closing=replace(state.closing, attests=liars))
    assert refusal(newcomer, "site-2", wanted, lying, gates=forged) == "E_ATTEST"


def asked_for_a_result(link: Hospitals, state: RunState, packed: np.ndarray, **changed: Any) -> str:
    assert state.closing is not None
    signed = SignedResult.make(replace(state.closing.result.result, **changed), COORDINATOR)
    return ErrorReply.from_bytes(link.sessions["site-2"].answer("sa_result", signed.to_bytes(), packed)[0]).code


def test_no_site_attests_another_outcome_than_its_sum_gives_nor_a_sum_that_was_changed(tmp_path: Path) -> None:
    link = Hospitals(tmp_path, {"site-1": BAD})
    link.tamper = lambda site, number, step, message: (
        None if (number, step) == (2, "sa_result") else message)  # nobody has attested the gate's round yet
    with pytest.raises(RoundFailedError):
        list(link.run())
    state = link.newest()
    assert state.closing is not None and state.gates() == (GateOutcome(0, 2, 1),)
    packed, passed = np.asarray(state.closing.packed), (GateOutcome(0, 2, 0),)
    for gates in ((), passed, (GateOutcome(0, 2, 2),), (GateOutcome(0, 1, 0), GateOutcome(0, 2, 1))):
        assert asked_for_a_result(link, state, packed, gates=gates) == "E_RESULT_MISMATCH"
    total = unpack(packed, 24)
    total[2] = 0  # the fail bits
    changed = pack(total, 24)
    code = asked_for_a_result(link, state, changed, gates=passed, sum_hash=hashlib.sha256(changed.tobytes()).digest())
    assert code == "E_TAG"
