"""The link over a grid whose nodes lose messages: sent again once the node is back, given up in time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from coordinator import link as link_module
from coordinator.exchange import Outgoing, Reply
from coordinator.link import FlowerLink
from privacy.transport.flower_internals.process import be_in_process


class Nodes:
    """A grid of two nodes. `behave(node, nth message to it)` says "reply", "lose", "silent" or "refuse"."""

    def __init__(self, behave: Callable[[int, int], str]) -> None:
        be_in_process(1)
        self.behave, self.online = behave, {1, 2}
        self.sent: list[tuple[int, bytes]] = []
        self._numbers = itertools.count()
        self._ready: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        return list(self.online)

    def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
        identifiers: list[str | None] = []
        for message in messages:
            node = int(message.metadata.dst_node_id)
            what = self.behave(node, sum(one == node for one, _ in self.sent) + 1)
            self.sent.append((node, message.content["message"]["body"]))  # type: ignore[index,arg-type]
            if what == "refuse":
                identifiers.append(None)
                continue
            name = f"m{next(self._numbers)}"
            identifiers.append(name)
            message.metadata.__dict__["_message_id"] = name
            if what == "reply":
                body = b"from %d" % node
                self._ready[name] = Message(RecordDict({"message": ConfigRecord({"body": body})}), reply_to=message)
            elif what == "lose":
                self._ready[name] = Message(Error(code=3, reason="Node Unavailable"), reply_to=message)
        return identifiers

    def pull_messages(self, identifiers: Iterable[str]) -> list[Message]:
        return [self._ready.pop(name) for name in list(identifiers) if name in self._ready]


def exchange(grid: Nodes, resend_s: float, timeout_s: float = 5.0) -> dict[str, Reply]:
    link = FlowerLink(grid, poll_s=0.01, resend_s=resend_s)  # type: ignore[arg-type]
    link._node_of = {"a": 1, "b": 2}
    found = list(link.exchange("sa_share", {"a": Outgoing(b"to a"), "b": Outgoing(b"to b")}, timeout_s))
    assert len(found) == len({reply.site_id for reply in found})
    return {reply.site_id: reply for reply in found}


def test_each_reply_is_its_own_sites():
    found = exchange(Nodes(lambda node, number: "reply"), 0.0)
    assert {site: reply.body for site, reply in found.items()} == {"a": b"from 1", "b": b"from 2"}


def test_a_lost_message_is_sent_again():
    grid = Nodes(lambda node, number: "lose" if (node, number) == (1, 1) else "reply")
    found = exchange(grid, 10.0)
    assert found["a"].body == b"from 1"
    assert [body for node, body in grid.sent if node == 1] == [b"to a", b"to a"]


def test_without_patience_a_loss_is_final():
    grid = Nodes(lambda node, number: "lose" if node == 1 else "reply")
    found = exchange(grid, 0.0)
    assert found["a"].failure == "transport"
    assert len(grid.sent) == 2


def test_a_node_that_stays_away_is_given_up_after_the_patience(monkeypatch: pytest.MonkeyPatch):
    grid = Nodes(lambda node, number: "lose" if node == 1 else "reply")
    grid.online = {2}
    found = exchange(grid, 0.5)
    assert found["a"].failure == "transport"
    assert found["b"].body == b"from 2"
    assert len(grid.sent) == 2


def test_a_node_that_loses_again_and_again_is_given_up():
    grid = Nodes(lambda node, number: "lose" if node == 1 else "reply")
    found = exchange(grid, 2.5)
    assert found["a"].failure == "transport"
    assert 2 <= sum(node == 1 for node, _ in grid.sent) <= 4


@pytest.mark.parametrize("patience", [0.0, 3.0])
def test_a_message_that_was_not_taken(patience: float):
    grid = Nodes(lambda node, number: "refuse" if (node, number) == (1, 1) else "reply")
    found = exchange(grid, patience)
    assert found["b"].body == b"from 2"
    assert found["a"].failure == ("transport" if patience == 0 else None)


def test_silence_is_no_reply_in_time():
    found = exchange(Nodes(lambda node, number: "silent" if node == 1 else "reply"), 0.0, timeout_s=0.5)
    assert found["a"].failure == "no-reply"


def test_newcomers(monkeypatch: pytest.MonkeyPatch):
    grid = Nodes(lambda node, number: "reply")
    link = FlowerLink(grid, poll_s=0.01)  # type: ignore[arg-type]
    assert link.newcomers()
    for index, _ in enumerate(link.meet(b"x", 5.0)):
        if index == 0:
            link.bind(0, "a")
    assert not link.newcomers()  # the other was met a moment ago
    monkeypatch.setattr(link_module, "_MEET_AGAIN_S", 0.0)
    assert link.newcomers()
    grid.online = {link._node_of["a"]}
    assert not link.newcomers()


def test_meeting_names_the_nodes_that_the_grid_knows():
    class Named(Nodes):
        def get_nodes(self) -> list[Any]:
            return [type("Info", (), {"node_id": 1, "name": "site-1"})()]

    link = FlowerLink(Named(lambda node, number: "reply"), poll_s=0.01)  # type: ignore[arg-type]
    assert sorted(reply.site_id for reply in link.meet(b"x", 5.0)) == ["", "site-1"]


class Broken(Nodes):
    """Node 1's replies are bytes that no message has; `how` is what reading them raises."""

    def __init__(self, how: type[BaseException]) -> None:
        super().__init__(lambda node, number: "reply")
        self.how = how

    def pull_messages(self, identifiers: Iterable[str]) -> list[Message]:
        found = super().pull_messages(identifiers)
        if any(int(message.metadata.src_node_id) == 1 for message in found):
            raise self.how("garbage")
        return found


@pytest.mark.parametrize("how", [KeyError, ValueError, UnicodeError, EOFError])
@pytest.mark.parametrize("step", ["sa_share", "sa_mask"])
def test_a_site_whose_reply_cannot_be_read_is_named_and_costs_nobody_else(how: type[Exception], step: str):
    """Found in a review: one such reply ended the whole run, and nobody was blamed."""
    link = FlowerLink(Broken(how), poll_s=0.01)  # type: ignore[arg-type]
    link._node_of = {"a": 1, "b": 2}
    found = {reply.site_id: reply for reply in link.exchange(
        step, {"a": Outgoing(b"to a"), "b": Outgoing(b"to b")}, 10.0)}
    assert found["a"].failure == "malformed"
    assert found["b"].body == b"from 2"


@pytest.mark.parametrize("content", [
    {"message": ConfigRecord({"body": b"x"}), "vector": ConfigRecord({"v": 1})}, {"message": ConfigRecord({"body": 3})},
    {"message": ConfigRecord({})}, {}])
def test_a_reply_of_another_form_is_malformed(content: dict[str, ConfigRecord]):
    be_in_process(1)
    request = Message(RecordDict({}), dst_node_id=1, message_type="query.hello")
    request.metadata.__dict__["_message_id"] = "m"
    assert link_module._reply(Message(RecordDict(content), reply_to=request)).failure == "malformed"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, "
                                  b"'shape': (35184372088832,), }" + b" " * 40 + b"\n"])
def test_an_array_that_is_none_is_malformed(data: bytes):
    from flwr.app import Array, ArrayRecord

    be_in_process(1)
    request = Message(RecordDict({}), dst_node_id=1, message_type="query.hello")
    request.metadata.__dict__["_message_id"] = "m"
    vector = ArrayRecord({"v": Array("uint8", (1,), "numpy.ndarray", data)})
    reply = Message(RecordDict({"message": ConfigRecord({"body": b"x"}), "vector": vector}), reply_to=request)
    assert link_module._reply(reply).failure == "malformed"


def test_a_silent_node_is_not_met_again_before_it_was_away():
    """Found in a review: a frozen executor made every round longer by two whole steps."""
    grid = Nodes(lambda node, number: "silent" if node == 1 else "reply")
    link = FlowerLink(grid, poll_s=0.01)  # type: ignore[arg-type]
    assert len(list(link.meet(b"x", 0.3))) == 2
    assert [body for node, body in grid.sent if node == 1] == [b"x"]
    list(link.meet(b"y", 5.0))
    assert [body for node, body in grid.sent if node == 1] == [b"x"]
    grid.online = {2}
    link.newcomers()
    grid.online = {1, 2}
    list(link.meet(b"z", 0.3))
    assert [body for node, body in grid.sent if node == 1] == [b"x", b"z"]


def test_a_silent_node_that_answers_late_is_a_newcomer_again():
    """Found by killing `up`: one late answer kept a site out of the run for good."""
    grid = Nodes(lambda node, number: "silent" if node == 1 else "reply")
    link = FlowerLink(grid, poll_s=0.01)  # type: ignore[arg-type]
    list(link.meet(b"x", 0.3))
    link._node_of = {"b": 2}
    list(link.meet(b"y", 0.3, "roster"))  # it is not asked, and what it was asked before is still listened for
    assert not link.newcomers()
    request = Message(RecordDict({}), dst_node_id=1, message_type="query.hello")
    request.metadata.__dict__["_message_id"] = "m0" if grid.sent[0][0] == 1 else "m1"
    grid._ready[request.metadata.message_id] = Message(RecordDict({}), reply_to=request)
    assert link.newcomers()
    grid.behave = lambda node, number: "reply"
    assert [reply.failure for reply in link.meet(b"z", 5.0)] == [None, None]


def test_after_ten_minutes_a_silent_node_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    grid = Nodes(lambda node, number: "silent" if node == 1 else "reply")
    link = FlowerLink(grid, poll_s=0.01)  # type: ignore[arg-type]
    list(link.meet(b"x", 0.3))
    link._node_of = {"b": 2}
    assert not link.newcomers()
    monkeypatch.setattr(link_module, "_SILENT_AGAIN_S", -1.0)
    monkeypatch.setattr(link_module, "_MEET_AGAIN_S", -1.0)
    assert link.newcomers()


def silent_twice() -> tuple[Nodes, Callable[[], dict[str, str | None]]]:
    """Node 1 says nothing to its first two messages; the second value asks both sites once more."""
    grid = Nodes(lambda node, number: "silent" if node == 1 and number <= 2 else "reply")
    link = FlowerLink(grid, poll_s=0.01, resend_s=0.0)  # type: ignore[arg-type]
    link._node_of = {"a": 1, "b": 2}

    def ask() -> dict[str, str | None]:
        replies = link.exchange("sa_train", {"a": Outgoing(b"to a"), "b": Outgoing(b"to b")}, 0.2)
        return {reply.site_id: reply.failure for reply in replies}

    for _ in range(2):
        assert ask() == {"a": "no-reply", "b": None}
    return grid, ask


def asked(grid: Nodes) -> int:
    """Messages to node 1."""
    return sum(node == 1 for node, _ in grid.sent)


def test_a_connected_site_that_says_nothing_twice_costs_the_others_no_further_wait():
    grid, ask = silent_twice()
    begin = time.monotonic()
    assert [ask() for _ in range(3)] == [{"a": "no-reply", "b": None}] * 3
    assert time.monotonic() - begin < 0.5 and asked(grid) == 2


def test_it_is_asked_again_once_it_has_answered_after_all():
    grid, ask = silent_twice()
    late = Message(RecordDict(), dst_node_id=1, message_type="train.sa_train")
    late.metadata.__dict__["_message_id"] = "m0"  # what it was asked first
    grid._ready["m0"] = Message(RecordDict({"message": ConfigRecord({"body": b"late"})}), reply_to=late)
    assert ask() == {"a": None, "b": None} and asked(grid) == 3


def test_it_is_asked_again_once_it_was_away():
    grid, ask = silent_twice()
    grid.online = {2}
    assert ask()["a"] is None and asked(grid) == 3  # a node that is away is the grid's to tell


def test_it_is_asked_again_after_four_times_the_steps_time(monkeypatch: pytest.MonkeyPatch):
    grid, ask = silent_twice()
    now = time.monotonic()
    monkeypatch.setattr(link_module.time, "monotonic", lambda: now + 0.9)
    assert ask()["a"] is None and asked(grid) == 3


def test_one_silence_and_an_answer_begin_the_count_anew():
    grid = Nodes(lambda node, number: "silent" if node == 1 and number in (1, 3) else "reply")
    link = FlowerLink(grid, poll_s=0.01, resend_s=0.0)  # type: ignore[arg-type]
    link._node_of = {"a": 1}
    failures = [next(iter(link.exchange("sa_train", {"a": Outgoing(b"x")}, 0.1))).failure for _ in range(4)]
    assert failures == ["no-reply", None, "no-reply", None] and not link._mute


def test_a_node_that_was_given_up_is_not_waited_for_again_before_it_is_back():
    """Seen with a revoked site: every round of the run took a resend's patience longer."""
    grid = Nodes(lambda node, number: "lose" if node == 1 and 1 not in grid.online else "reply")
    grid.online = {2}
    link = FlowerLink(grid, poll_s=0.01, resend_s=0.3)  # type: ignore[arg-type]
    link._node_of = {"a": 1, "b": 2}
    both = {"a": Outgoing(b"to a"), "b": Outgoing(b"to b")}
    for _ in range(2):
        found = {reply.site_id: reply.failure for reply in link.exchange("sa_share", both, 5.0)}
        assert found == {"a": "transport", "b": None}
    assert sum(node == 1 for node, _ in grid.sent) == 1
    grid.online = {1, 2}
    assert {reply.site_id: reply.failure for reply in link.exchange("sa_share", both, 5.0)} == {"a": None, "b": None}
