"""R5 at a site: what it signs, what it refuses to sign, from which state a round begins, and what a restart changes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.server_optimizer import ServerState
from privacy.messages import Advertise, Attest, ErrorReply, SignedResult
from privacy.results import check_attests
from privacy.secagg.quantize import pack, unpack
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    ADAPTER,
    COORDINATOR,
    IDS,
    INITIAL,
    MANIFEST,
    ROSTER,
    Round,
    Site,
    attested,
    code,
    events,
    light,
    manifest_of,
    plan_of,
    session_of,
    site,
    train,
)

ME = "site-1"


@pytest.fixture
def summed(tmp_path: Path) -> Round:
    """A round up to its sum: the result is signed and no site has seen it."""
    federation = Round(tmp_path)
    federation.run(before="sa_result")
    return federation


def restarted(federation: Round, name: str = ME) -> Site:
    """The site's process ends and a new one opens its files."""
    federation.sites[name] = Site(federation.sites[name].folder, name)
    federation.sessions[name] = session_of(federation.sites[name])
    return federation.sites[name]


def after(state: ServerState, seed: float) -> ServerState:
    return replace(state, adapter=state.adapter + np.float32(seed), finished=state.finished + 1)


# ------------------------------------------------------------------ what is signed


def test_every_survivor_computes_the_same_and_signs_it(summed: Round) -> None:
    assert summed.signed is not None
    replies = {name: Attest.from_bytes(summed.ask(name)) for name in IDS}
    check_attests(summed.signed.result, list(replies.values()), ROSTER)
    assert all(reply.site_id == name for name, reply in replies.items())


def test_three_rounds_go_on_without_a_model_download(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    for number, stage in ((1, 0), (2, 0), (3, 1)):
        assert all(federation.whole(name) is None for name in IDS)
        assert federation.run(round=number, stage=stage) is not None
    assert federation.state.finished == 3 and not np.array_equal(federation.state.adapter, ADAPTER)


def test_the_same_bytes_get_the_same_attestation_and_change_nothing(summed: Round) -> None:
    first = summed.ask(ME)
    assert summed.ask(ME) == first == summed.ask(ME, packed=np.zeros(0, dtype=np.uint8))
    restarted(summed)
    assert summed.ask(ME) == first


# ------------------------------------------------------------------ what is refused


def test_a_result_that_is_not_what_this_site_computes_is_not_signed(summed: Round) -> None:
    wrong: list[dict[str, Any]] = [
        {"sum_hash": bytes(32)}, {"model_hash": bytes(32)}, {"state_hash": bytes(32)}, {"finished": 2},
        {"ctx": bytes(32)}, {"h3": bytes(32)}, {"survivors": IDS[:3]}, {"announced": 5}, {"factor": "A"}]
    for changed in wrong:
        assert code(summed.ask(ME, **changed)) == "E_RESULT_MISMATCH", changed
    assert summed.sites[ME].rounds.newest("run") is None
    Attest.from_bytes(summed.ask(ME))  # and the true one still is


def test_a_wrong_sum_is_found_though_its_hash_is_right(summed: Round) -> None:
    """The model that the coordinator names does not follow from the sum that it shows."""
    words = unpack(summed.packed, 24)
    words[0] += np.uint32(1)
    other = pack(words, 24)
    assert code(summed.ask(ME, packed=other, sum_hash=hashlib.sha256(other.tobytes()).digest())) == "E_RESULT_MISMATCH"
    assert code(summed.ask(ME, packed=other)) == "E_RESULT_MISMATCH"


def test_a_sum_of_another_shape_is_refused(summed: Round) -> None:
    for packed in (None, np.zeros(3, np.uint8), np.zeros(27, np.int8), np.zeros((9, 3), np.uint8)):
        assert code(summed.ask(ME, packed=packed)) == "E_PARAMS"


def test_only_one_result_of_a_round_is_ever_signed(summed: Round) -> None:
    """Also one that differs in its signature's message alone, also after a restart."""
    Attest.from_bytes(summed.ask(ME))
    for _ in range(2):
        assert code(summed.ask(ME, finished=7)) == "E_RESULT_MISMATCH"
        restarted(summed)


def test_two_processes_of_one_site_sign_one_result(summed: Round) -> None:
    other = session_of(Site(summed.sites[ME].folder, ME))
    first = summed.ask(ME)
    assert summed.signed is not None
    assert other.answer("sa_result", summed.signed.to_bytes(), summed.packed)[0] == first
    changed = SignedResult.make(replace(summed.signed.result, state_hash=bytes(32)), COORDINATOR)
    assert code(other.answer("sa_result", changed.to_bytes(), summed.packed)[0]) == "E_RESULT_MISMATCH"


def test_a_result_signed_by_anybody_else_is_refused(summed: Round) -> None:
    assert summed.signed is not None
    forged = SignedResult.make(summed.signed.result, summed.sites["site-2"].key)
    assert code(summed.sessions[ME].answer("sa_result", forged.to_bytes(), summed.packed)[0]) == "E_SIG"


def test_a_site_that_confirmed_nothing_has_nothing_to_attest(tmp_path: Path, summed: Round) -> None:
    early = Round(tmp_path / "early")
    early.signed, early.packed = summed.signed, summed.packed
    assert code(early.ask(ME)) == "E_STAGE"
    for attempt, step in enumerate(("sa_share", "sa_mask", "sa_confirm"), start=1):
        early.run(before=step, attempt=attempt)
        assert code(early.ask(ME)) == "E_STAGE"


def test_a_site_that_confirmed_and_did_not_unmask_can_attest(tmp_path: Path) -> None:
    """Its upload is in the sum and it signed the survivor list; three others' shares opened the sum."""
    federation = Round(tmp_path)
    federation.silent_at_unmask = ("site-1",)
    federation.run(before="sa_result")
    record = federation.sites[ME].rounds.find("run", 1)
    assert record is not None and record.masked and not record.unmasked and record.view.survivors == IDS
    Attest.from_bytes(federation.ask(ME))


# ------------------------------------------------------------------ the next round


def test_the_next_plan_needs_a_quorum_and_nothing_is_spent_without_one(summed: Round) -> None:
    summed.attest()
    signed, attests = summed.after
    second: dict[str, Any] = {"round": 2, "model_hash": summed.state.model_hash}
    events.clear()
    session = summed.sessions[ME]
    for given in ((), attests[:2], (*attests[:2], attests[0])):
        assert code(train(session, plan_of(after=(signed, given), **second))) == "E_ATTEST"
    assert code(train(session, plan_of(**second))) == "E_RESULT_MISMATCH"  # as if no round had finished
    assert code(train(session, plan_of(round=2, after=summed.after))) == "E_MODEL_HASH"  # from the model before
    assert events == [] and len(summed.sites[ME].ledger.entries()) == 1
    Advertise.from_bytes(train(session, plan_of(after=(signed, attests[1:]), **second)))


def test_an_older_result_is_a_rollback_of_the_model(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run()
    first, old = federation.after, federation.state
    federation.run(round=2)
    stale = plan_of(round=3, stage=1, after=first, model_hash=old.model_hash)
    assert code(train(federation.sessions[ME], stale, old.packed())) == "E_RESULT_MISMATCH"
    restarted(federation)
    assert code(train(federation.sessions[ME], stale, old.packed())) == "E_RESULT_MISMATCH"


def test_another_result_of_the_round_is_refused_even_with_a_quorum(summed: Round) -> None:
    summed.attest()
    other = after(INITIAL, 1.0)
    split = attested(other, round=1)
    plan = plan_of(round=2, after=split, model_hash=other.model_hash)
    assert code(train(summed.sessions[ME], plan, other.packed())) == "E_RESULT_MISMATCH"


# ------------------------------------------------------------------ who comes late, who lost its state


def test_a_late_joiner_accepts_what_a_quorum_signed_and_nothing_else(site: Site) -> None:
    session = session_of(site)
    state = after(INITIAL, 1.0)
    plan = plan_of(round=2, after=attested(state, round=1), model_hash=state.model_hash)
    another_model = after(INITIAL, 2.0)
    another_momentum = replace(state, velocity=state.velocity + 1.0)
    another_average = replace(state, average=state.average + 1.0)
    assert code(train(session, plan, another_model.packed())) == "E_MODEL_HASH"
    assert code(train(session, plan, another_momentum.packed())) == "E_RESULT_MISMATCH"
    assert code(train(session, plan, another_average.packed())) == "E_RESULT_MISMATCH"
    for wrong in (state.packed()[:-1], state.adapter, state.packed().reshape(9, -1), state.packed().view(np.int8)):
        assert code(train(session, plan, wrong)) == "E_PARAMS"
    assert site.rounds.newest("run") is None and events == []
    Advertise.from_bytes(train(session, plan, state.packed()))
    known = site.rounds.newest("run")
    assert known is not None and known.round == 1  # from here on, nothing older


def test_a_late_joiner_takes_part_and_attests_the_next_result(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run(before="sa_result")
    federation.attest(IDS[:3])
    assert federation.whole("site-4") is not None and federation.whole("site-1") is None
    assert federation.run(round=2) is not None
    assert federation.whole("site-4") is None


@pytest.mark.parametrize("loss", ["gone", "damaged", "database"])
def test_a_site_that_lost_its_state_blames_nobody_and_is_sent_it(tmp_path: Path, loss: str) -> None:
    federation = Round(tmp_path)
    federation.run()
    folder = federation.sites[ME].folder
    for path in (folder / "attested").iterdir():
        path.unlink() if loss == "gone" else path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    if loss == "database":
        for path in folder.glob("rounds.sqlite*"):
            path.unlink()
    restarted(federation)
    plan = plan_of(round=2, after=federation.after, model_hash=federation.state.model_hash)
    reply = ErrorReply.from_bytes(train(federation.sessions[ME], plan))
    assert (reply.code, reply.blamed) == ("P_STATE", "nobody")
    Advertise.from_bytes(train(federation.sessions[ME], plan, federation.state.packed()))


def test_without_the_state_before_there_is_nothing_to_attest(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run()
    federation.run(before="sa_result", round=2)
    for path in (federation.sites[ME].folder / "attested").iterdir():
        path.unlink()
    assert code(federation.ask(ME)) == "P_STATE"
    Attest.from_bytes(federation.ask("site-2"))


# ------------------------------------------------------------------ after a restart


def test_a_restarted_site_that_confirmed_can_still_attest(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run()
    federation.run(before="sa_result", round=2)
    restarted(federation)
    Attest.from_bytes(federation.ask(ME))
    restarted(federation)
    federation.attest()
    assert federation.run(round=3, stage=1) is not None


def test_a_database_that_went_missing_does_not_make_a_site_sign_what_it_cannot_know(summed: Round) -> None:
    Attest.from_bytes(summed.ask(ME))
    for path in summed.sites[ME].folder.glob("rounds.sqlite*"):
        path.unlink()
    restarted(summed)
    assert code(summed.ask(ME)) == "E_STAGE"


def test_two_server_settings_are_two_runs(tmp_path: Path, summed: Round) -> None:
    """The optimiser is in the manifest, whose hash is in every plan: sites of two settings share no context."""
    other = manifest_of(server=replace(MANIFEST.server, momentum=0.9))
    assert other.hash() != MANIFEST.hash()
    assert code(train(summed.sessions[ME], plan_of(other, round=2))) == "E_MANIFEST"
