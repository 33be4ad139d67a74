"""A site that comes back with an older ledger is told so by its peers; what could hide it from the site is refused."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.admission import Door
from coordinator.exchange import Outgoing, Reply
from coordinator.rounds import RoundFailedError
from privacy.identity import Roster, RosterSite
from privacy.ledger import LedgerTamperedError
from privacy.ledger_file import LedgerFile
from privacy.messages import (
    Advertise,
    ErrorReply,
    Hello,
    HelloList,
    LedgerMark,
    Ready,
    SignedManifest,
    Witness,
    WitnessList,
)
from site_client.admission import witnesses_needed
from site_client.peers import PeerMarks
from tests.site_client.small_site import (  # noqa: F401  (fixtures are used by name)
    ADAPTER,
    COORDINATOR,
    IDS,
    MANIFEST,
    ROSTER,
    Round,
    Seeded,
    Site,
    SiteSession,
    code,
    light,
    plan_of,
    train,
)

ME, PEERS = IDS[0], IDS[1:]
RUN = MANIFEST.hash()
SIGNED = SignedManifest.make(MANIFEST, COORDINATOR).to_bytes()
Fresh = Callable[..., SiteSession]


def opened(folder: Path, site_id: str, restart: int = 0, **policy: int) -> SiteSession:
    """A new process of that site; each has its own randomness, so its own nonce."""
    site = Site(folder / site_id, site_id, **policy)
    return SiteSession(site, lambda purpose: Seeded(site_id, purpose, str(restart)))  # type: ignore[arg-type]


class Wire:
    """An in-memory link to sessions; `silent` sites lose every message."""

    def __init__(self, sessions: dict[str, SiteSession], silent: tuple[str, ...] = ()) -> None:
        self.sessions = {site: session for site, session in sessions.items() if site not in silent}
        self.met: list[str] = []
        self.sent: dict[tuple[str, str], bytes] = {}

    def meet(self, body: bytes, timeout_s: float):  # type: ignore[no-untyped-def]
        self.met = list(self.sessions)
        for site in self.met:
            yield Reply("", self.sessions[site].answer("hello", body, None)[0])

    def bind(self, reply_index: int, site_id: str) -> None:
        assert self.met[reply_index] == site_id

    def exchange(self, step: str, outgoing: dict[str, Outgoing], timeout_s: float):  # type: ignore[no-untyped-def]
        for site, message in outgoing.items():
            self.sent[step, site] = message.body
            yield Reply(site, self.sessions[site].answer(step, message.body, None)[0])


def door(wire: Wire, seen: list[dict] | None = None) -> Door:
    notes = [] if seen is None else seen
    return Door(MANIFEST, SIGNED, ROSTER, wire, 1.0, lambda event, values: notes.append(values))  # type: ignore[arg-type]


def after_a_round(folder: Path) -> Round:
    """Four sites run round 1; a copy of every state folder from before it is kept in `before/`."""
    federation = Round(folder)
    for site in IDS:
        shutil.copytree(folder / site, folder / "before" / site)
    federation.run()
    return federation


def restored(folder: Path, site_id: str = ME) -> None:
    """The whole state folder, ledger and memory, becomes its copy from before the round."""
    shutil.rmtree(folder / site_id)
    shutil.copytree(folder / "before" / site_id, folder / site_id)


def sessions_of(folder: Path, restart: int = 1) -> dict[str, SiteSession]:
    return {site: opened(folder, site, restart) for site in IDS}


# ------------------------------------------------------------------ the whole way


def test_a_restored_older_copy_is_found_by_the_peers_and_nothing_is_reserved(tmp_path: Path) -> None:
    after_a_round(tmp_path)
    restored(tmp_path)
    seen: list[dict] = []
    wire = Wire(sessions_of(tmp_path))
    assert door(wire, seen).admit() == PEERS
    assert seen[0]["refused"] == ["site-1 (restore: P_LEDGER)"]
    assert code(train(wire.sessions[ME], plan_of(attempt=2))) in ("P_WITNESS", "P_NOT_APPROVED")
    assert Site(tmp_path / ME, ME).ledger.entries() == ()
    again = opened(tmp_path, ME, 2)  # it remembers what it was shown, whoever speaks this time
    assert code(again.answer("hello", SIGNED, None)[0]) == "P_LEDGER"


def test_a_truncated_tail_is_found_without_the_peers_and_by_them(tmp_path: Path) -> None:
    after_a_round(tmp_path)
    raw = sqlite3.connect(tmp_path / ME / "ledger.sqlite")
    for statement in ("DROP TRIGGER events_no_update", "DROP TRIGGER events_no_delete",
                      "DELETE FROM events WHERE seq > 1", "UPDATE sqlite_sequence SET seq = 1"):
        raw.execute(statement)
    raw.commit()
    head = raw.execute("SELECT hash FROM events").fetchone()[0]
    raw.close()
    with pytest.raises(LedgerTamperedError, match="older than its mark"):
        opened(tmp_path, ME)
    LedgerFile.accept(tmp_path / ME / "ledger.sqlite", head)  # and its mark is made to agree
    assert code(opened(tmp_path, ME).answer("hello", SIGNED, None)[0]) == "P_LEDGER"  # its own memory
    (tmp_path / ME / "peers.sqlite").unlink()
    seen: list[dict] = []
    assert door(Wire(sessions_of(tmp_path)), seen).admit() == PEERS
    assert seen[0]["refused"] == ["site-1 (restore: P_LEDGER)"]


def test_the_right_ledger_put_back_is_let_in_again(tmp_path: Path) -> None:
    after_a_round(tmp_path)
    shutil.copytree(tmp_path / ME, tmp_path / "newest")
    restored(tmp_path)
    assert ME not in door(Wire(sessions_of(tmp_path))).admit()
    (tmp_path / "newest" / "ledger.sqlite").replace(tmp_path / ME / "ledger.sqlite")
    assert door(Wire(sessions_of(tmp_path, 2))).admit() == IDS


def test_restarted_sites_with_their_own_ledgers_are_let_in(tmp_path: Path) -> None:
    federation = after_a_round(tmp_path)
    wire = Wire(sessions_of(tmp_path))
    assert door(wire).admit() == IDS
    second = plan_of(round=2, after=federation.after, model_hash=federation.state.model_hash)
    Advertise.from_bytes(train(wire.sessions[ME], second))


def test_a_site_whose_peers_have_seen_nothing_starts(tmp_path: Path) -> None:
    assert door(Wire(sessions_of(tmp_path))).admit() == IDS


def test_one_absent_site_does_not_stop_the_others(tmp_path: Path) -> None:
    assert door(Wire(sessions_of(tmp_path), silent=("site-4",))).admit() == IDS[:3]


def test_a_site_that_restarts_alone_is_admitted_again_beside_ready_ones(tmp_path: Path) -> None:
    sessions = sessions_of(tmp_path)
    assert door(Wire(sessions)).admit() == IDS
    sessions[ME] = opened(tmp_path, ME, 2)
    assert code(train(sessions[ME], plan_of())) == "P_NOT_APPROVED"
    assert door(Wire(sessions)).admit() == IDS
    Advertise.from_bytes(train(sessions[ME], plan_of()))


def test_with_one_peer_only_the_operator_can_let_it_work_and_only_once(tmp_path: Path) -> None:
    two = ("site-3", "site-4")
    seen: list[dict] = []

    def alone(restart: int) -> SiteSession:
        wire = Wire(sessions_of(tmp_path, restart), silent=two)
        with pytest.raises(RoundFailedError, match="only"):
            door(wire, seen).admit()
        return wire.sessions[ME]

    assert code(train(alone(1), plan_of())) == "P_WITNESS"
    assert "site-1 (restore: P_WITNESS)" in seen[-1]["refused"]
    site = Site(tmp_path / ME, ME)
    site.approval.give(site.ledger)
    approved = alone(2)
    assert "site-1" in seen[-1]["accepted"]
    Advertise.from_bytes(train(approved, plan_of()))
    assert code(train(alone(3), plan_of(attempt=2))) == "P_WITNESS"


def test_an_approval_is_for_one_head_and_never_against_a_peer(tmp_path: Path) -> None:
    after_a_round(tmp_path)
    stale = Site(tmp_path / "before" / ME, ME)
    stale.approval.give(stale.ledger)
    shutil.copy(tmp_path / "before" / ME / "ledger-approved.json", tmp_path / ME)
    site = Site(tmp_path / ME, ME)
    assert not site.approval.use(site.ledger, site.ledger.sequence)
    restored(tmp_path)  # with the operator's approval of exactly that copy
    seen: list[dict] = []
    assert ME not in door(Wire(sessions_of(tmp_path)), seen).admit()
    assert seen[-1]["refused"] == ["site-1 (restore: P_LEDGER)"]


def test_the_sites_policy_may_ask_for_more_witnesses(tmp_path: Path) -> None:
    sessions = {**sessions_of(tmp_path), ME: opened(tmp_path, ME, 1, min_ledger_witnesses=3)}
    with pytest.raises(RoundFailedError, match="site-1 \\(restore: P_WITNESS\\)"):
        door(Wire(sessions, silent=("site-4",))).admit()


@pytest.mark.parametrize(("sites", "fraction", "needed"), [(3, 0.5, 1), (4, 0.5, 2), (10, 0.5, 5), (10, 0.9, 2)])
def test_enough_witnesses_that_one_was_in_the_last_round(sites: int, fraction: float, needed: int) -> None:
    roster = Roster("fed", 1, bytes(32), tuple(
        RosterSite(f"site-{i}", bytes([i + 1] * 32), 100) for i in range(sites)), 3, fraction)
    assert witnesses_needed(roster) == needed
    smallest = min(m for m in range(1, sites + 1) if roster.floor(m) <= m)
    assert (sites - 1) - (smallest - 1) == needed - 1  # peers that may all have been elsewhere
    assert witnesses_needed(roster, sites) == sites


# ------------------------------------------------------------------ one check, one lie


class Case:
    """Site-1 as a session, and its three peers as keys that say what a test wants."""

    def __init__(self, folder: Path) -> None:
        from tests.site_client.small_site import key_of

        self.key_of = key_of
        self.session = opened(folder, ME)
        self.own = Hello.from_bytes(self.session.answer("hello", SIGNED, None)[0])
        self.hellos = [self.own, *(self.hello(peer) for peer in PEERS)]
        self.listed = HelloList(RUN, tuple(self.hellos))

    def hello(self, peer: str, sequence: int = 0) -> Hello:
        key = self.key_of(peer)
        return Hello.make(self.mark(peer, sequence), bytes(32), RUN, key)

    def mark(self, site: str, sequence: int, signer: str = "") -> LedgerMark:
        head = bytes([sequence]) * 32
        return LedgerMark.make(site, sequence, head, ROSTER.federation_id, self.key_of(signer or site))

    def says(self, peer: str, mark: LedgerMark | None = None, listed: HelloList | None = None) -> Witness:
        return Witness.signed(
            self.key_of(peer), (RUN, (listed or self.listed).hash()), site_id=peer, subject=ME,
            marks=() if mark is None else (mark,))

    def witness(self, *hellos: Hello) -> bytes:
        return self.session.answer("witness", HelloList(RUN, hellos or tuple(self.hellos)).to_bytes(), None)[0]

    def restore(self, *statements: Witness) -> bytes:
        return self.session.answer("restore", WitnessList(RUN, statements).to_bytes(), None)[0]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_two_honest_witnesses_are_enough_and_redelivery_changes_nothing(case: Case) -> None:
    first = case.witness()
    assert case.witness() == first
    assert {one.subject for one in WitnessList.from_bytes(first).entries} == set(PEERS)
    ready = case.restore(*(case.says(peer) for peer in PEERS[:2]))
    Ready.from_bytes(ready)
    assert case.restore(*(case.says(peer) for peer in PEERS[:2])) == ready
    assert Hello.from_bytes(case.session.answer("hello", SIGNED, None)[0]) == case.own
    Advertise.from_bytes(train(case.session, plan_of()))


def test_without_restore_there_is_no_training(case: Case) -> None:
    case.witness()
    assert code(train(case.session, plan_of())) == "P_WITNESS"


@pytest.mark.parametrize(("lie", "expected"), [
    ("own altered", "E_SELF_MISSING"), ("own missing", "E_SELF_MISSING"), ("forged", "E_SIG"), ("mark forged", "E_SIG"),
    ("stranger", "E_UNKNOWN_SITE"), ("twice", "E_DUP_SITE")])
def test_a_list_of_hellos_that_lies_is_refused(case: Case, lie: str, expected: str) -> None:
    other = case.hellos[1]
    changed = {
        "own altered": (replace(case.own, nonce=bytes(32)), *case.hellos[1:]),
        "own missing": tuple(case.hellos[1:]),
        "forged": (case.own, replace(other, nonce=bytes([1] * 32))),
        "mark forged": (case.own, Hello.make(case.mark("site-2", 9, "site-3"), bytes(32), RUN, case.key_of("site-2"))),
        "stranger": (*case.hellos, case.hello("sybil")),
        "twice": (*case.hellos, other)}[lie]
    reply = ErrorReply.from_bytes(case.witness(*changed))
    assert (reply.code, reply.blamed) == (expected, "coordinator")
    assert code(case.restore(*(case.says(peer) for peer in PEERS))) == "E_STAGE"


@pytest.mark.parametrize(("lie", "expected"), [
    ("old nonce", "E_SIG"), ("forged", "E_SIG"), ("other subject", "E_SIG"), ("stranger", "E_UNKNOWN_SITE"),
    ("twice", "E_DUP_SITE"), ("too few", "P_WITNESS"), ("none", "P_WITNESS"), ("not held", "P_LEDGER"),
    ("lying peers", "P_WITNESS")])
def test_a_list_of_witnesses_that_lies_or_is_short_is_refused(case: Case, lie: str, expected: str) -> None:
    case.witness()
    good = [case.says(peer) for peer in PEERS]
    before = HelloList(RUN, (replace(case.own, nonce=bytes(32)), *case.hellos[1:]))
    elsewhere = Witness.signed(
        case.key_of("site-2"), (RUN, case.listed.hash()), site_id="site-2", subject="site-3", marks=())
    made_up = [case.says(peer, case.mark(ME, 9, peer)) for peer in PEERS[:2]]
    changed = {
        "old nonce": [case.says("site-2", listed=before), *good[1:]],
        "forged": [replace(good[0], signature=good[1].signature), *good[1:]],
        "other subject": [elsewhere, *good[1:]],
        "stranger": [*good, case.says("sybil")],
        "twice": [*good, good[0]],
        "too few": good[:1],
        "none": [],
        "not held": [*good[:2], case.says("site-4", case.mark(ME, 9))],
        "lying peers": [*made_up, good[2]]}[lie]
    assert code(case.restore(*changed)) == expected
    assert code(train(case.session, plan_of())) == "P_WITNESS"


def test_a_peer_cannot_lock_a_site_out_with_a_mark_that_it_made_up(case: Case) -> None:
    case.witness()
    liar = case.says("site-4", case.mark(ME, 9, "site-4"))
    assert Ready.from_bytes(case.restore(case.says("site-2"), case.says("site-3"), liar)).site_id == ME


def test_a_refused_admission_needs_a_new_nonce(case: Case) -> None:
    case.witness()
    case.restore(case.says("site-2"))
    assert code(case.restore(*(case.says(peer) for peer in PEERS))) == "P_NOT_APPROVED"


def test_a_contradiction_that_comes_late_still_stops_the_site(case: Case) -> None:
    case.witness()
    good = [case.says(peer) for peer in PEERS]
    Ready.from_bytes(case.restore(*good))
    assert code(case.restore(*good[:2], case.says("site-4", case.mark(ME, 9)))) == "P_LEDGER"
    assert code(train(case.session, plan_of())) == "P_WITNESS"


def test_the_operator_approves_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from types import SimpleNamespace

    import site_client.cli

    site = Site(tmp_path, ME)
    monkeypatch.setattr("site_client.cli._site", lambda path: SimpleNamespace(site_id=ME, state=str(tmp_path)))
    assert site_client.cli.main(["ledger", "approve", "site.yaml"]) == 0
    assert "site-1: approved for one start: 0 rows" in capsys.readouterr().out
    assert site.approval.use(site.ledger, 0) and not site.approval.use(site.ledger, 0)
    (tmp_path / "ledger.sqlite").unlink()
    assert site_client.cli.main(["ledger", "approve", "site.yaml"]) == 2
    assert not (tmp_path / "ledger-approved.json").exists()


# ------------------------------------------------------------------ the memory of peers


def test_the_highest_mark_stays_over_a_restart_and_a_fork_is_kept_as_evidence(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    memory = PeerMarks(path, "fed")
    assert memory.highest("site-2") is None and path.stat().st_mode & 0o777 == 0o600
    assert memory.note([case.mark("site-2", 5), case.mark("site-2", 3), case.mark("site-3", 1)]) == ()
    other = LedgerMark.make("site-2", 5, bytes(32), "fed", case.key_of("site-2"))
    assert memory.note([other, case.mark("site-2", 5)]) == ("site-2",)
    memory.close()
    again = PeerMarks(path, "fed")
    assert again.highest("site-2") == case.mark("site-2", 5)
    assert again.forks("site-2") == ((case.mark("site-2", 5), other),) and again.forks("site-3") == ()
    assert PeerMarks(path, "another").highest("site-2") is None


def test_an_advertisement_reaches_the_peers_memory_before_a_share_is_dealt(tmp_path: Path) -> None:
    federation = Round(tmp_path)
    federation.run(before="sa_mask")
    for site in federation.sites.values():
        held = {other: federation.sites[other].ledger for other in IDS}
        for other in IDS:
            mark = site.peers.highest(other)
            assert mark is not None and mark.sequence == held[other].sequence == 3  # run, reservation, release
            assert held[other].holds(mark.sequence, mark.head)


def test_a_site_that_forks_without_end_fills_no_disk(case: Case, tmp_path: Path) -> None:
    marks = PeerMarks(tmp_path / "many.sqlite", "fed")
    heads = [bytes([number]) * 32 for number in range(1, 60)]
    forked = marks.note(replace(case.mark("site-2", 5), head=head) for head in heads)
    assert len(forked) == len(heads) - 1 and len(marks.forks("site-2")) == 16
