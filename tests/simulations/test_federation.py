"""The whole vertical on a tiny federation: real apps, real protocol, real training, real files."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import PeftModel

from configs.schema import FaultConfig
from coordinator import checkpoint
from coordinator.rounds import RoundFailedError
from model.adapted import open_adapted
from model.backbone import load_base
from model.spec import LoraSpec
from privacy.dp.accounting import epsilon
from privacy.ledger import Ledger, NotPrivateError
from privacy.messages import CLEAR_FIELDS, ErrorReply
from privacy.roster import SignedRoster
from simulations import engines
from simulations.engines import SimulatedRun, run_engine
from simulations.federation import FederationFiles
from simulations.in_process import InProcessGrid
from site_client.installation import Installation
from site_client.leaving import REPLIES


def lost(site: str, number: int, step: str) -> list[FaultConfig]:
    return [FaultConfig(site=site, round=number, at=step)]


def run(files: FederationFiles, faults: list[FaultConfig] | None = None, seed: int = 1) -> checkpoint.Checkpoint:
    run_engine("in-process", SimulatedRun(files.coordinator_file, files.site_files, seed, tuple(faults or ())))
    state = checkpoint.latest(files.output / "checkpoints", files.manifest.hash().hex())
    assert state is not None
    return state


def test_six_rounds_with_one_lost_upload_finish_and_say_who_was_missing(federation: Any) -> None:
    files = federation()
    state = run(files, lost("site-3", 3, "sa_mask"))
    assert state.round == 6
    assert [entry["stage"] for entry in state.history] == [0, 0, 1, 1, 2, 2]
    assert [entry["factor"] for entry in state.history] == ["B", "A"] * 3
    third = state.history[2]
    assert third["summed"] == ["site-1", "site-2", "site-4"]
    assert third["missing"] == {"site-3": "sa_mask: transport"}
    assert all(len(entry["summed"]) == 4 for number, entry in enumerate(state.history) if number != 2)


def test_a_federation_is_laid_out_the_same_again_with_a_roster_that_two_officers_signed(federation: Any) -> None:
    first, second = federation(folder="first"), federation(folder="second")
    rosters = [(Path(files.coordinator_file).parent / "roster.bin").read_bytes() for files in (first, second)]
    assert rosters[0] == rosters[1] and first.manifest.hash() == second.manifest.hash()
    roster = SignedRoster.open(rosters[0])
    assert len(roster.officers) == 2 and roster.hash() == first.manifest.roster_hash
    for site_file in first.site_files:
        site = Installation.open(site_file)
        assert site.roster == roster and not site.config.policy.require_scheduled_replies
        site.ledger.close()


def test_two_lost_sites_stop_the_round_loudly_and_keep_the_last_checkpoint(federation: Any) -> None:
    files = federation()
    faults = lost("site-3", 2, "sa_mask") + lost("site-4", 2, "sa_mask")
    with pytest.raises(RoundFailedError, match=r"round 2 stopped at sa_mask .*site-3.*site-4"):
        run(files, faults)
    state = checkpoint.latest(files.output / "checkpoints", files.manifest.hash().hex())
    assert state is not None and state.round == 1


def test_a_stopped_run_goes_on_with_the_next_round(federation: Any) -> None:
    files = federation()
    with pytest.raises(RoundFailedError):
        run(files, lost("site-3", 4, "sa_train") + lost("site-4", 4, "sa_train"))
    state = run(files)
    assert state.round == 6
    assert [entry["attempt"] for entry in state.history] == [1, 1, 1, 2, 1, 1]


def test_a_round_that_stopped_after_uploads_is_lost_and_the_run_goes_on(federation: Any) -> None:
    """Sites never mask a second update for a round, so repeating it would be refused for ever."""
    files = federation()
    with pytest.raises(RoundFailedError, match=r"round 2 stopped at sa_confirm"):
        run(files, lost("site-3", 2, "sa_confirm") + lost("site-4", 2, "sa_confirm"))
    state = run(files)
    assert [(entry["round"], entry["stage"]) for entry in state.history] == [(1, 0), (3, 1), (4, 1), (5, 2), (6, 2)]


def test_a_site_that_missed_the_result_takes_the_whole_state_and_the_others_download_no_model(federation: Any) -> None:
    files = federation()
    state = run(files, lost("site-2", 2, "sa_result"))
    second, third = state.history[1], state.history[2]
    assert second["attested"] == ["site-1", "site-3", "site-4"]
    assert second["missing"] == {"site-2": "sa_result: transport"} and third["missing"] == {}
    size = state.adapter.size
    sent = third["bytes_to_sites"]
    assert sent["site-2"] - sent["site-1"] == 20 * size
    assert state.history[3]["bytes_to_sites"]["site-2"] == state.history[3]["bytes_to_sites"]["site-1"]


@pytest.mark.parametrize("number", [2, 6])
def test_a_result_without_a_quorum_stops_the_run_and_is_sent_again_unchanged(federation: Any, number: int) -> None:
    """Also the last one: a run does not end on a model that only the coordinator vouches for."""
    files = federation(folder=f"at-{number}")
    faults = lost("site-3", number, "sa_result") + lost("site-4", number, "sa_result")
    with pytest.raises(RoundFailedError, match=rf"round {number} stopped at sa_result .*: 2 .* 3 are needed; "
                                               r"missing: site-3 \(sa_result: transport\); site-4"):
        run(files, faults)
    stopped = checkpoint.latest(files.output / "checkpoints", files.manifest.hash().hex())
    assert stopped is not None and stopped.round == number and len(stopped.attests) == 2
    assert not (files.output / "adapter").exists()
    state = run(files)
    assert [entry["round"] for entry in state.history] == [1, 2, 3, 4, 5, 6]
    assert state.history[number - 1]["attested"] == ["site-1", "site-2", "site-3", "site-4"]
    assert state.history[number - 1]["public"]
    if number == 6:
        assert state.result == stopped.result


def test_every_rounds_public_metrics_stay_in_the_history(federation: Any) -> None:
    history = run(federation()).history
    assert all("accuracy_normal" in entry["public"] for entry in history)


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(federation: Any) -> None:
    first = run(federation(folder="first"))
    second = run(federation(folder="second"))
    other = run(federation(folder="third"), seed=2)
    assert np.array_equal(first.adapter, second.adapter)
    assert not np.array_equal(first.adapter, other.adapter)


def test_the_ledger_holds_every_round_and_its_epsilon_is_the_accountants(federation: Any, prepared: Any) -> None:
    files = federation()
    run(files)
    stages = files.manifest.stages
    for site, path in zip(files.site_ids, files.site_files, strict=True):
        ledger = Ledger.open(Path(path).parent / "state" / "ledger.sqlite", must_exist=True)
        entries = ledger.entries()
        assert [(e.round, e.stage, e.steps) for e in entries] == [
            (number, (number - 1) // 2, stages[(number - 1) // 2].local_steps) for number in range(1, 7)]
        delta = files.manifest.terms(site).delta
        spent = epsilon([entry.event() for entry in entries], delta)
        assert 0.97 * prepared.config.privacy.target_epsilon < spent <= prepared.config.privacy.target_epsilon
        with pytest.raises(NotPrivateError):
            ledger.statement()  # seeded randomness is never stated as private


def test_the_ledger_is_written_before_the_site_trains(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in training must over-count, never under-count."""
    files = federation()
    state = Path(files.site_files[0]).parent / "state" / "ledger.sqlite"
    seen: list[int] = []

    def crash(*_: object, **__: object) -> None:
        ledger = Ledger.open(state)
        seen.append(len(ledger.entries()))
        ledger.close()
        raise RuntimeError("power cut, patient Smith")

    monkeypatch.setattr("site_client.session.run_local_steps", crash)
    with pytest.raises(RoundFailedError) as failure:
        run(files)
    assert seen[0] == 1
    assert "E_SITE" in str(failure.value) and "Smith" not in str(failure.value)


def test_the_adapter_loads_with_peft_and_equals_the_checkpoint(federation: Any, prepared: Any) -> None:
    files = federation()
    state = run(files)
    base = load_base(prepared.materials.base_model)
    loaded = PeftModel.from_pretrained(base.model, str(files.output / "adapter"))
    ours = open_adapted(str(prepared.materials.base_model), LoraSpec(rank=8, alpha=16))
    assert np.allclose(ours.layout.read(loaded), state.average)
    assert not np.allclose(state.average, state.adapter)


class _Spy(InProcessGrid):
    """Keeps every reply as the coordinator's Flower object."""

    replies: list[Any] = []  # noqa: RUF012

    def _deliver(self, data: bytes) -> Any:
        reply = super()._deliver(data)
        self.replies.append(reply)
        return reply


def test_what_leaves_a_site_is_one_body_one_array_and_fields_on_the_list(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privacy import messages

    monkeypatch.setattr(engines, "InProcessGrid", _Spy)
    _Spy.replies.clear()
    files = federation()
    run(files)
    kinds = {"hello": messages.Hello, "witness": messages.WitnessList, "restore": messages.Ready,
             "sa_train": messages.Advertise, "sa_share": messages.EnvelopeList,
             "sa_mask": messages.MaskedHeader, "sa_confirm": messages.Confirm, "sa_unmask": messages.UnmaskShares,
             "sa_result": messages.Attest}
    assert {"roster": messages.RosterInForce, **kinds} == REPLIES  # what sites' audit logs let out; a simulated
    # coordinator offers no roster: its sites have one
    sizes: dict[str, set[int]] = {}
    for reply in _Spy.replies:
        step = reply.metadata.message_type.split(".")[-1]
        assert set(reply.content) <= ({"message", "vector"} if step == "sa_mask" else {"message"})
        assert list(reply.content["message"]) == ["body"]
        body = reply.content["message"]["body"]
        message = kinds[step].from_bytes(body)
        assert set(vars(message)) <= set(CLEAR_FIELDS[type(message).__name__])
        sizes.setdefault(step, set()).add(len(body))
        if step == "sa_mask":
            vector = reply.content["vector"]["v"].numpy()
            assert vector.dtype == np.uint8 and vector.ndim == 1
    assert set(sizes) == set(kinds)


def test_the_uploads_look_uniform_and_the_coordinator_keeps_none(
    federation: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every byte value is as frequent as the others, and no file or log line of the run holds an upload."""
    monkeypatch.setattr(engines, "InProcessGrid", _Spy)
    _Spy.replies.clear()
    files = federation()
    with caplog.at_level(logging.DEBUG):
        run(files)
    uploads = [reply.content["vector"]["v"].numpy() for reply in _Spy.replies if "vector" in reply.content]
    counts = np.bincount(np.concatenate(uploads), minlength=256)
    expected = counts.sum() / 256
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 255 + 6 * np.sqrt(2 * 255)
    needles = [upload[:64].tobytes() for upload in uploads]
    for path in files.output.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(needle in content for needle in needles), path.name
    assert not any(needle.hex() in caplog.text for needle in needles)


def test_a_site_under_the_floor_refuses_before_training(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = federation()
    for path in map(Path, files.site_files):
        values = json.loads(path.read_text())
        values["policy"]["min_patients"] = 10_000
        path.write_text(json.dumps(values))
    monkeypatch.setattr("site_client.installation.Installation.index", _must_not_run)
    with pytest.raises(RoundFailedError, match="P_FLOOR"):
        run(files)


def _must_not_run(*_: object, **__: object) -> None:
    raise AssertionError("private files were opened")


def test_a_first_adapter_that_the_sites_did_not_build_is_refused_before_private_files_are_read(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = federation()
    monkeypatch.setattr("coordinator.run._fresh", _poisoned_state)
    monkeypatch.setattr("site_client.installation.Installation.index", _must_not_run)
    with pytest.raises(RoundFailedError, match="E_MODEL_HASH"):
        run(files)


def _poisoned_state(opened: Any) -> Any:
    from coordinator.rounds import RunState
    from model.server_optimizer import initial_velocity

    initial = opened.evaluation.adapted.initial
    return RunState(np.full(initial.size, np.nan, dtype=np.float32), initial_velocity(initial.size), initial)


def test_a_run_without_privacy_is_refused_by_a_site_that_does_not_allow_it(federation: Any) -> None:
    files = federation(mode="none")
    for path in map(Path, files.site_files):
        values = json.loads(path.read_text())
        values["policy"]["allow_without_privacy"] = False
        path.write_text(json.dumps(values))
    with pytest.raises(RoundFailedError, match="P_PRIVACY"):
        run(files)


def test_error_replies_name_a_code_and_a_party_only() -> None:
    assert set(vars(ErrorReply("E_SITE", "site-1"))) == {"code", "blamed"}
