"""The site's store of signed statements: what it proves, that it is durable first, bounded, and private to the site."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import site_client.evidence_store as module
from privacy.evidence import Evidence, proves
from privacy.identity import RosterSite
from privacy.messages import (
    Advertise,
    AdvertiseList,
    Envelope,
    EnvelopeList,
    LedgerMark,
    MaskedHeader,
    MaskedList,
    SignedManifest,
)
from privacy.results import open_round_start
from site_client.evidence_store import EvidenceStore
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    COORDINATOR,
    PLAN,
    ROSTER,
    Round,
    Site,
    code,
    hello,
    key_of,
    light,
    manifest_of,
    plan_of,
    session_of,
    site,
    train,
)


@pytest.fixture
def store(tmp_path: Path) -> EvidenceStore:
    return EvidenceStore(tmp_path / "evidence.sqlite", ROSTER, now=lambda: "2026-01-02T03:04:05+00:00")


def kinds(found: tuple[Evidence, ...]) -> list[str]:
    return [evidence.kind for evidence in found]


def manifest(**changed: Any) -> bytes:
    return SignedManifest.make(manifest_of(**changed), COORDINATOR).to_bytes()


def advert(site: str = "site-2", mask_key: bytes = bytes([2] * 32), **changed: Any) -> Advertise:
    key, ctx = key_of(changed.pop("signer", site)), changed.pop("ctx", PLAN.context())
    mark = LedgerMark.empty(site, ROSTER.federation_id, key_of(site))
    return Advertise.signed(key, (ctx,), site_id=site, channel_key=bytes([9] * 32), mask_key=mask_key, mark=mark)


def plan_bytes(**changed: Any) -> bytes:
    """The signed plan alone, as it is kept."""
    return open_round_start(plan_of(**changed)).plan.to_bytes()


def listed(*adverts: Advertise) -> bytes:
    return AdvertiseList(adverts).to_bytes()


# ------------------------------------------------------------------ what it finds


def test_the_first_statement_is_kept_and_another_one_is_evidence(store: EvidenceStore) -> None:
    assert store.saw_plan(plan_bytes()) == store.saw_plan(plan_bytes()) == store.list() == ()
    found = store.saw_plan(plan_bytes(model_hash=bytes([1] * 32)))
    assert kinds(found) == ["two-plans"] and found[0].blamed == "coordinator" and proves(found[0], ROSTER)
    (kept,) = store.list()
    assert (kept.evidence, kept.roster, kept.noted_utc) == (found[0], ROSTER, "2026-01-02T03:04:05+00:00")


def test_a_pair_is_kept_once_however_often_it_comes(store: EvidenceStore) -> None:
    other = plan_bytes(model_hash=bytes([1] * 32))
    store.saw_plan(plan_bytes())
    assert store.saw_plan(other) == store.saw_plan(other)
    store.saw_plan(plan_bytes(model_hash=bytes([3] * 32)))  # a third one adds nothing to the proof
    assert len(store.list()) == 1


def test_manifests_and_the_plans_that_break_them(store: EvidenceStore) -> None:
    store.saw_manifest(manifest())
    assert store.saw_plan(plan_bytes()) == ()
    assert kinds(store.saw_plan(plan_bytes(stage=7))) == ["two-plans", "plan-breaks-manifest"]
    assert {kept.evidence.kind for kept in store.list()} == {"two-plans", "plan-breaks-manifest"}
    assert kinds(store.saw_manifest(manifest(clip_norm=3.0))) == ["two-manifests", "plan-breaks-manifest"]


def test_a_plan_before_its_manifest_is_weighed_when_that_comes(store: EvidenceStore) -> None:
    assert store.saw_plan(plan_bytes(bits=32)) == ()
    assert kinds(store.saw_manifest(manifest())) == ["plan-breaks-manifest"]


def test_peers_messages_in_the_lists(store: EvidenceStore) -> None:
    ctx, h1, h2 = PLAN.context(), bytes([7] * 32), bytes([8] * 32)
    assert store.saw_list("sa_share", listed(advert(), advert("site-3", bytes([3] * 32))), PLAN, b"", b"") == ()
    (found,) = store.saw_list("sa_share", listed(advert(mask_key=bytes([4] * 32))), PLAN, h1, b"")
    assert (found.kind, found.blamed) == ("two-announcements", "site-2") and proves(found, ROSTER)
    (weak,) = store.saw_list("sa_share", listed(advert("site-4", bytes(32))), PLAN, b"", b"")
    assert (weak.kind, weak.blamed) == ("weak-key", "site-4")
    heads = [MaskedHeader.signed(key_of("site-3"), (ctx, h2), site_id="site-3", upload_hash=bytes([n] * 32),
                                 complaints=()) for n in (1, 2)]
    assert store.saw_list("sa_confirm", MaskedList((heads[0],)).to_bytes(), PLAN, h1, b"") == ()  # not that far
    assert store.saw_list("sa_confirm", MaskedList((heads[0],)).to_bytes(), PLAN, h1, h2) == ()
    assert kinds(store.saw_list("sa_confirm", MaskedList((heads[1],)).to_bytes(), PLAN, h1, h2)) == ["two-uploads"]
    assert {kept.evidence.blamed for kept in store.list()} == {"site-2", "site-3", "site-4"}


def test_envelopes_for_this_site(store: EvidenceStore) -> None:
    h1 = bytes([7] * 32)
    values: dict[str, Any] = {
        "sender": "site-2", "recipient": "site-1", "self_mask_share_commitment": bytes(32),
        "mask_key_share_commitment": bytes(32), "ciphertext": bytes(82)}
    for seed, expected in ((1, []), (1, []), (2, ["two-seeds"])):
        envelope = Envelope.signed(
            key_of("site-2"), (PLAN.context(), h1), self_mask_commitment=bytes([seed] * 32), **values)
        found = store.saw_list("sa_mask", EnvelopeList((envelope,)).to_bytes(), PLAN, h1, b"")
        assert sorted(set(kinds(found))) == expected


FORGED = {
    "another key": lambda: listed(advert(signer="site-1", mask_key=bytes([4] * 32))),
    "another round": lambda: listed(advert(ctx=bytes([5] * 32), mask_key=bytes([4] * 32))),
    "garbage": lambda: b"\x01garbage",
    "another list": lambda: MaskedList(()).to_bytes(),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_not_validly_signed_is_neither_kept_nor_evidence(store: EvidenceStore, what: str) -> None:
    forged = FORGED[what]()
    assert store.saw_list("sa_share", forged, PLAN, b"", b"") == ()
    assert store.saw_plan(forged) == store.saw_manifest(forged) == ()
    assert store.saw_list("sa_share", listed(advert()), PLAN, b"", b"") == ()  # it took nobody's place
    assert store.list() == () and store.saw_list("hello", listed(advert()), PLAN, b"", b"") == ()


def test_statements_of_another_roster_do_not_count(tmp_path: Path, store: EvidenceStore) -> None:
    store.saw_plan(plan_bytes())
    other = EvidenceStore(tmp_path / "evidence.sqlite", replace(
        ROSTER, version=2, sites=(*ROSTER.sites, RosterSite("site-9", key_of("site-9").public_bytes(), 10))))
    assert other.saw_plan(plan_bytes(model_hash=bytes([1] * 32))) == ()
    assert store.saw_plan(plan_bytes(model_hash=bytes([1] * 32))) != ()
    assert other.list()[0].roster == ROSTER  # so that it still holds after an update of the roster


# ------------------------------------------------------------------ the file


def test_it_is_on_the_disk_private_and_no_link(tmp_path: Path, store: EvidenceStore) -> None:
    path = tmp_path / "evidence.sqlite"
    store.saw_plan(plan_bytes())
    found = store.saw_plan(plan_bytes(model_hash=bytes([1] * 32)))
    again = EvidenceStore(path, ROSTER)
    assert [kept.evidence for kept in again.list()] == list(found)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert again._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert again._db.execute("PRAGMA synchronous").fetchone() == (3,)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError):
        EvidenceStore(tmp_path / "link", ROSTER)


def test_old_statements_give_way_and_evidence_stays(store: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.saw_plan(plan_bytes())
    store.saw_plan(plan_bytes(model_hash=bytes([1] * 32)))
    store.saw_list("sa_share", listed(advert()), PLAN, b"", b"")
    monkeypatch.setattr(module, "KEEP_BYTES", 3000)
    for attempt in range(2, 30):
        store.saw_plan(plan_bytes(attempt=attempt))
    size = store._db.execute("SELECT SUM(size) FROM statements WHERE party = 'coordinator'").fetchone()[0]
    assert 2000 < size <= 3000 and len(store.list()) == 1
    assert store.saw_plan(plan_bytes(attempt=29, model_hash=bytes([1] * 32))) != ()  # the newest are held
    assert store.saw_plan(plan_bytes(attempt=3, model_hash=bytes([1] * 32))) == ()
    assert store.saw_list("sa_share", listed(advert(mask_key=bytes([4] * 32))), PLAN, b"", b"")  # per party


def test_full_evidence_is_said_and_nothing_old_is_lost(
    store: EvidenceStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for attempt in (1, 2):
        store.saw_plan(plan_bytes(attempt=attempt))
    (first,) = store.saw_plan(plan_bytes(attempt=1, model_hash=bytes([1] * 32)))
    monkeypatch.setattr(module, "EVIDENCE_BYTES", 2 * len(first.to_bytes()) - 1)
    assert store.saw_plan(plan_bytes(attempt=2, model_hash=bytes([1] * 32)))
    assert len(store.list()) == 1 and "the evidence is full" in caplog.text


def test_a_failed_write_keeps_nothing_and_is_an_error(store: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.saw_plan(plan_bytes())
    monkeypatch.setattr(store, "_prune", lambda party: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.saw_plan(plan_bytes(model_hash=bytes([1] * 32)))
    assert store.list() == () and not store._db.in_transaction


# ------------------------------------------------------------------ in the session


def seen(site: Site) -> list[tuple[str, str, str]]:
    return [(kept.evidence.kind, kept.evidence.code, kept.evidence.blamed) for kept in site.evidence.list()]


def test_a_second_manifest_under_one_name_is_evidence_also_when_it_is_refused(site: Site) -> None:
    session = session_of(site)
    train(session, plan_of())
    assert code(hello(session, manifest_of(clip_norm=3.0))) == "P_RUN_ID"
    assert ("two-manifests", "P_RUN_ID", "coordinator") in seen(site)


@pytest.mark.parametrize(("changed", "refusal", "kind"), [
    ({"model_hash": bytes([1] * 32)}, "E_REPLAY", "two-plans"),
    ({"attempt": 2, "bits": 32}, "E_PARAMS", "plan-breaks-manifest"),
    ({"attempt": 2, "stage": 9}, "E_PARAMS", "plan-breaks-manifest")])
def test_a_refused_plan_is_evidence(site: Site, changed: dict[str, Any], refusal: str, kind: str) -> None:
    session = session_of(site)
    train(session, plan_of())
    assert code(train(session, plan_of(**changed))) == refusal
    assert [found for found, _, _ in seen(site)] == [kind]


def test_a_plan_of_a_run_that_was_never_approved_is_weighed_too(site: Site) -> None:
    session = session_of(site, None)
    assert code(train(session, plan_of())) == code(train(session, plan_of(factor="A"))) == "P_NOT_APPROVED"
    assert [found for found, _, _ in seen(site)] == ["two-plans"]


def test_evidence_is_kept_before_anything_is_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(site)

    def full(_: bytes) -> tuple[Evidence, ...]:
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(site.evidence, "saw_plan", full)
    assert code(train(session, plan_of())) == "E_SITE"
    assert site.ledger.last_attempt("run") is None


def test_an_honest_federation_leaves_no_evidence_over_rounds_attempts_and_restarts(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run(before="sa_mask")
    federation.sessions = {name: session_of(site) for name, site in federation.sites.items()}  # all restarted
    assert federation.run(attempt=2) is not None
    assert federation.run(round=2, factor="A") is not None
    for one in federation.sites.values():
        assert one.evidence.list() == ()
        held = dict(one.evidence._db.execute("SELECT party, COUNT(*) FROM statements GROUP BY party").fetchall())
        assert set(held) == {"coordinator", *federation.sites} and min(held.values()) >= 5


def test_a_restarted_site_never_signs_a_second_announcement_of_one_attempt(site: Site) -> None:
    """Why two announcements are evidence: the ledger books the attempt before the first one leaves."""
    first = train(session_of(site), plan_of())
    Advertise.from_bytes(first)
    again = session_of(site)  # a new process, fresh keys
    assert code(train(again, plan_of())) == "E_REPLAY"
    Advertise.from_bytes(train(again, plan_of(attempt=2)))


def test_a_peer_with_two_announcements_is_proved_by_a_second_list(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run(before="sa_share")
    body = federation.requests["sa_share"]["site-1"]
    session, store = federation.sessions["site-1"], federation.sites["site-1"].evidence
    session.answer("sa_share", body, None)
    assert store.list() == ()
    changed = [advert(mask_key=os.urandom(32)) if entry.site_id == "site-2" else entry
               for entry in AdvertiseList.from_bytes(body).entries]
    assert code(session.answer("sa_share", AdvertiseList(tuple(changed)).to_bytes(), None)[0]) == "E_STAGE"
    assert [(kept.evidence.kind, kept.evidence.blamed) for kept in store.list()] == [("two-announcements", "site-2")]
