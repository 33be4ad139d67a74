"""Who answers at a site before and after it has a roster, and what the executor lets out."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from configs.load import load_config
from configs.schema import SiteConfig
from privacy.errors import NOBODY
from privacy.identity import Roster
from privacy.messages import Confirm, ErrorReply, RosterInForce
from privacy.release import release_hash
from privacy.roster import SignedRoster
from privacy.transport.app_bundle import bundle_hash
from privacy.transport.flower_internals.process import be_in_process
from site_client import app as site_app
from site_client.audit_log import AuditLog, AuditUnwritableError, site_log
from site_client.executor import Executor
from site_client.installation import Installation
from site_client.keystore import signing_key
from site_client.reception import Reception
from tests.site_client.test_roster_invited import Place

H = bytes(32)


class Session:
    """Answers every step with the same signed message of the right kind."""

    def __init__(self, site: Installation) -> None:
        self.site, self.steps = site, []  # type: ignore[var-annotated]
        site.ledger.close()

    def answer(self, step: str, body: bytes, vector: Any) -> tuple[bytes, Any]:
        self.steps.append(step)
        return Confirm.signed(self.site.key, (H, H), site_id=self.site.site_id).to_bytes(), None


def reception(place: Place, heard: list[Roster] | None = None) -> Reception:
    return Reception(str(place.site_file), Session, (heard if heard is not None else []).append)  # type: ignore[arg-type]


def code(answer: tuple[bytes, Any]) -> str:
    return ErrorReply.from_bytes(answer[0]).code


@pytest.fixture
def auto(tmp_path: Path) -> Place:
    return Place(tmp_path, "auto")


@pytest.fixture
def by_hand(tmp_path: Path) -> Place:
    return Place(tmp_path, "by-hand")


def test_without_a_roster_every_step_is_refused(auto: Place):
    desk = reception(auto)
    assert code(desk.answer("hello", b"anything", None)) == "P_ROSTER"
    assert desk.session() is None


def test_a_roster_that_two_officers_signed_opens_the_session(auto: Place):
    heard: list[Roster] = []
    desk = reception(auto, heard)
    answer = RosterInForce.from_bytes(desk.answer("roster", auto.first.to_bytes(), None)[0])
    assert answer.roster_hash == auto.first.roster.hash()
    assert heard == [auto.first.roster]
    Confirm.from_bytes(desk.answer("sa_confirm", b"", None)[0])
    session = desk.session()
    desk.answer("roster", auto.first.to_bytes(), None)  # the same again changes nothing
    assert desk.session() is session
    assert len(heard) == 1


def test_a_new_version_opens_a_new_session(auto: Place):
    desk = reception(auto)
    desk.answer("roster", auto.first.to_bytes(), None)
    first = desk.session()
    new = auto.successor()
    assert RosterInForce.from_bytes(desk.answer("roster", new.to_bytes(), None)[0]).roster_hash == new.roster.hash()
    assert desk.session() is not first


@pytest.mark.parametrize("spoil", ["unsigned", "one-officer", "stranger", "older", "garbage"])
def test_a_roster_that_must_not_be_pinned_changes_nothing(auto: Place, spoil: str):
    desk = reception(auto)
    desk.answer("roster", auto.successor().to_bytes() if spoil == "older" else auto.first.to_bytes(), None)
    before = auto.pin.current().roster
    offered = {
        "unsigned": SignedRoster(auto.successor(version=3).roster).to_bytes(),
        "one-officer": auto.successor("ann", version=3).to_bytes(), "older": auto.first.to_bytes(),
        "stranger": auto.successor(version=3, federation_id="other").to_bytes(), "garbage": b"\x01nonsense"}[spoil]
    assert code(desk.answer("roster", offered, None)) == "P_ROSTER"
    assert auto.pin.current().roster == before


def test_a_lost_pin_lets_no_older_version_in(auto: Place):
    """Found in a review: an invited site takes any version as its first, so a lost pin brought a revoked site back."""
    desk = reception(auto)
    for roster in (auto.first, auto.successor()):
        desk.answer("roster", roster.to_bytes(), None)
    auto.pin.path.unlink()
    assert code(desk.answer("roster", auto.first.to_bytes(), None)) == "P_ROSTER"
    with pytest.raises(ValueError, match="version 1 and version 2 was in force here"):
        auto.pin.approve(auto.first)


def test_by_hand_it_waits_for_the_operator(by_hand: Place):
    desk = reception(by_hand)
    assert code(desk.answer("roster", by_hand.first.to_bytes(), None)) == "P_ROSTER"
    assert code(desk.answer("hello", b"", None)) == "P_ROSTER"
    assert by_hand.pin.approve(by_hand.first)
    RosterInForce.from_bytes(desk.answer("roster", by_hand.first.to_bytes(), None)[0])
    Confirm.from_bytes(desk.answer("sa_confirm", b"", None)[0])


# ------------------------------------------------------------------ the executor


@dataclass
class Task:
    """A message as the node hands it over."""

    message: Message
    bundle_hash: str = bundle_hash(release_hash())
    context: Any = field(default_factory=lambda: SimpleNamespace(node_config={}))
    replies: list[Message] = field(default_factory=list)
    closed: int = 0

    def reply(self, message: Message) -> None:
        self.replies.append(message)

    def close(self) -> None:
        self.closed += 1


def task(step: str = "sa_confirm", kind: str = "query", **others: Any) -> Task:
    be_in_process(1)
    content = RecordDict({"message": ConfigRecord({"body": b"x"})})
    message = Message(content, dst_node_id=7, message_type=f"{kind}.{step}")
    message.metadata.__dict__["_message_id"] = "m1"
    return Task(message, **others)


class Desk:
    """An executor of an enrolled site with its audit log."""

    def __init__(self, place: Place) -> None:
        self.log: AuditLog = site_log(place.state)
        self.executor = Executor(str(place.site_file), load_config(SiteConfig, place.site_file), self.log)
        self.executor._reception = reception(place)
        site_app.set_session_factory(lambda _: self.executor._reception)
        self.executor._reception.answer("roster", place.first.to_bytes(), None)

    def attend(self, one: Task) -> Task:
        self.executor._attend(one)  # type: ignore[arg-type]
        assert one.closed >= 1
        return one

    def booked(self) -> list[str]:
        with sqlite3.connect(self.log.path) as database:
            return [row[0] for row in database.execute("SELECT kind FROM events ORDER BY seq")]


@pytest.fixture
def desk(auto: Place):
    made = Desk(auto)
    yield made
    made.log.close()
    site_app.set_session_factory(None)


def body_of(one: Task) -> bytes:
    return bytes(one.replies[0].content["message"]["body"])  # type: ignore[index,arg-type]


def test_a_reply_is_booked_and_handed_on(desk: Desk):
    one = desk.attend(task())
    Confirm.from_bytes(body_of(one))
    assert desk.booked() == ["egress"]


def test_a_run_with_another_bundle_is_refused_before_anything_else(desk: Desk):
    session = desk.executor._reception.session()
    one = desk.attend(task(bundle_hash="00" * 32))
    assert ErrorReply.from_bytes(body_of(one)) == ErrorReply("P_RELEASE", NOBODY)
    assert session.steps == []  # type: ignore[union-attr]
    assert desk.booked() == ["egress", "refusal"]


def test_a_refused_message_does_not_name_the_run_of_what_follows(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session = desk.executor._reception.session()
    monkeypatch.setattr("site_client.executor._belongs_to", lambda step, body: ("false-name", 7))
    monkeypatch.setattr(session, "answer", lambda *_: (ErrorReply("E_MANIFEST_SIG", "coordinator").to_bytes(), None))
    desk.attend(task("hello"))
    assert desk.executor._belongs == ("", None)


def test_nothing_leaves_that_cannot_be_booked(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def full(**_: Any) -> int:
        raise AuditUnwritableError("the disk is full")

    monkeypatch.setattr(desk.log, "egress", full)
    assert desk.attend(task()).replies == []


def test_a_reply_of_the_wrong_kind_does_not_leave(desk: Desk):
    assert desk.attend(task("sa_unmask")).replies == []  # the stand-in answers with a Confirm
    assert desk.booked() == []


def test_a_vector_that_no_header_signs_does_not_leave(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session = desk.executor._reception.session()
    signed = Confirm.signed(session.site.key, (H, H), site_id="site-1").to_bytes()  # type: ignore[union-attr]
    monkeypatch.setattr(session, "answer", lambda *_: (signed, np.ones(4, dtype=np.uint8)))
    assert desk.attend(task()).replies == []


def test_a_message_without_a_handler_gets_no_answer(desk: Desk):
    assert desk.attend(task("exfiltrate")).replies == []
    assert desk.attend(task("sa_confirm", "evaluate")).replies == []
    assert desk.booked() == []


def test_an_exceptions_text_stays_here(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> Any:
        raise RuntimeError("patient 12345")

    monkeypatch.setattr(desk.executor._reception.session(), "answer", fail)
    one = desk.attend(task())
    assert ErrorReply.from_bytes(body_of(one)).code == "E_SITE"
    assert b"12345" not in body_of(one)


def test_the_key_of_the_log_is_the_sites(auto: Place):
    with site_log(auto.state) as log:
        log.note("stop", reason="asked")
    assert signing_key(auto.state).public_bytes() in log.path.read_bytes()
