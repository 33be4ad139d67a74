"""The Flower implementation of :class:`coordinator.exchange.Link`: Message API, push and pull, streaming.

A message carries one ConfigRecord `message` with the canonical bytes and, where the step has one, an ArrayRecord
`vector` (chunked by Flower, so never in the ConfigRecord). Nothing else is ever read from a reply: an error text
of a site's process is dropped here, because Flower would forward it verbatim.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from coordinator.exchange import Outgoing, Reply

__all__ = ["FlowerLink", "MESSAGE_TYPES"]

_MEET_AGAIN_S, _SILENT_AGAIN_S = 60.0, 600.0
_SLOWEST_POLL_S = 0.3
_MUTE_TIMES = 2
_BULKY = ("sa_mask",)  # replies with a vector: pulled one at a time, for a grid holds all that it was asked for
MESSAGE_TYPES = {
    "roster": "query.roster",
    "hello": "query.hello",
    "witness": "query.witness",
    "restore": "query.restore",
    "sa_train": "train.sa_train",
    "sa_share": "query.sa_share",
    "sa_mask": "query.sa_mask",
    "sa_confirm": "query.sa_confirm",
    "sa_unmask": "query.sa_unmask",
    "sa_result": "query.sa_result",
}


class FlowerLink:
    """Sends protocol steps over a Flower :class:`Grid`.

    Args:
        resend_s: how long a message that a site's node lost is sent again once the node is back. Every step of a site
            gives the same reply to the same message, so a node may be restarted in the middle of a round; 0 = never.
    """

    def __init__(self, grid: Grid, poll_s: float = 0.05, resend_s: float = 0.0) -> None:
        self._grid = grid
        self._poll_s, self._resend_s = poll_s, resend_s
        self._node_of: dict[str, int] = {}
        self._met: list[int] = []
        self._met_at: dict[int, float] = {}  # monotonic
        self._silent: dict[int, float] = {}  # since when (monotonic)
        self._late: dict[str, int] = {}      # what they were asked
        self._gone: set[int] = set()  # given up, and not seen since: not waited for again, round after round
        self._mute = _Mute()

    def newcomers(self) -> bool:
        """See :meth:`coordinator.exchange.Link.newcomers`. One that was met is asked again after a minute; one that
        was silent then, once it was away, when its answer comes after all, or after ten minutes: everybody waits."""
        self._hear_late_ones()
        online = {int(node) for node in self._grid.get_node_ids()}
        over = time.monotonic() - _SILENT_AGAIN_S
        self._silent = {node: since for node, since in self._silent.items() if node in online and since > over}
        recently = {node for node, at in self._met_at.items() if time.monotonic() - at < _MEET_AGAIN_S}
        return bool(online - set(self._node_of.values()) - recently - self._silent.keys())

    def _hear_late_ones(self) -> None:
        """Who was silent and has answered since is a newcomer; what it said then counts for nothing now."""
        for node in self._answered_late(self._late):
            self._silent.pop(node, None)
            self._met_at.pop(node, None)

    def _answered_late(self, owed: dict[str, int]) -> set[int]:
        """The nodes of messages in `owed` (identifier -> node) that are answered now; what came leaves `owed`."""
        found = set()
        for reply in self._pull(owed, one_by_one=True):
            if isinstance(reply, Message):
                node = owed.pop(reply.metadata.reply_to_message_id, None)
                found |= set() if node is None or reply.has_error() else {node}
            elif reply is not None:
                del owed[reply.identifier]
        return found

    def meet(self, body: bytes, timeout_s: float, step: str = "hello") -> Iterator[Reply]:
        """See :meth:`coordinator.exchange.Link.meet`."""
        self._met = []
        names = self._names()
        nodes = {int(node): Outgoing(body) for node in self._grid.get_node_ids() if int(node) not in self._silent}
        self._met_at.update(dict.fromkeys(nodes, time.monotonic()))
        for node, reply in self._send(step, nodes, timeout_s, 0.0, self._late):
            self._met.append(node)
            if reply.failure == "no-reply":
                self._silent[node] = time.monotonic()
            yield Reply(names.get(node, ""), reply.body, reply.vector, reply.failure)

    def _names(self) -> dict[int, str]:
        """Node -> the site for which it was enrolled, where the grid knows."""
        ask = getattr(self._grid, "get_nodes", None)
        return {int(info.node_id): str(info.name) for info in ask()} if ask is not None else {}

    def bind(self, reply_index: int, site_id: str) -> None:
        """See :meth:`coordinator.exchange.Link.bind`."""
        self._node_of[site_id] = self._met[reply_index]

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        """See :meth:`coordinator.exchange.Link.exchange`. A site that is connected and gave no answer in two exchanges
        running is not asked again before it answers after all, was away, or four times `timeout_s` have passed: with
        a step's time of an hour it would cost the others an hour a round."""
        site_of = {self._node_of[site]: site for site in outgoing}
        to_nodes = {self._node_of[site]: out for site, out in outgoing.items()}
        if self._gone:
            self._gone -= {int(node) for node in self._grid.get_node_ids()}
        for node in [node for node in to_nodes if node in self._gone]:
            del to_nodes[node]
            yield Reply(site_of[node], failure="transport")
        if self._mute:
            for node in self._answered_late(self._mute.owed):
                self._mute.heard(node)
            for node in self._mute.left_out(set(map(int, self._grid.get_node_ids())), 4 * timeout_s) & set(to_nodes):
                del to_nodes[node]
                yield Reply(site_of[node], failure="no-reply")
        for node, reply in self._send(step, to_nodes, timeout_s, self._resend_s, self._mute.owed):
            self._mute.note(node, reply.failure == "no-reply")
            yield Reply(site_of[node], reply.body, reply.vector, reply.failure)
            del reply  # before the next one is read: one upload at a time in memory

    def _send(
        self, step: str, outgoing: Mapping[int, Outgoing], timeout_s: float, resend_s: float,
        late: dict[str, int] | None = None,
    ) -> Iterator[tuple[int, Reply]]:
        deadline = time.monotonic() + timeout_s
        waiting = set(outgoing)
        lost, pause = _Lost(resend_s), self._poll_s
        pending = self._push(step, outgoing, timeout_s, lost)
        one_by_one = step in _BULKY
        while (pending or lost) and time.monotonic() < deadline:
            some = False
            for reply in self._pull(pending, one_by_one):
                some = True
                if reply is None:  # somebody's reply cannot be read, and whose is not known: ask all of them again
                    one_by_one, again = True, {node: outgoing[node] for node in pending.values()}
                    pending = self._push(step, again, max(1.0, deadline - time.monotonic()), lost)
                    break
                if isinstance(reply, _Unreadable):
                    faulty = pending.pop(reply.identifier)
                    waiting.discard(faulty)
                    yield faulty, Reply("", failure="malformed")
                    continue
                node = pending.pop(reply.metadata.reply_to_message_id, None)
                if node is None or (reply.has_error() and lost.keep(node)):
                    continue
                waiting.discard(node)
                taken = _reply(reply)
                del reply
                yield node, taken
                del taken
            for node in lost.given_up():
                waiting.discard(node)
                self._gone.add(node)
                yield node, Reply("", failure="transport")
            back = lost.back(self._grid)
            if back:
                left = max(1.0, deadline - time.monotonic())
                pending |= self._push(step, {node: outgoing[node] for node in back}, left, lost)
            pause = self._poll_s if some else min(pause * 1.1, _SLOWEST_POLL_S)
            if waiting and not some:
                time.sleep(pause)
        if late is not None:
            late.update(pending)
        for node in sorted(waiting):
            yield node, Reply("", failure="no-reply")

    def _pull(self, pending: Mapping[str, int], one_by_one: bool) -> Iterator[Message | _Unreadable | None]:
        """The replies that are there, without keeping any; None, at the end, when one of several cannot be read."""
        for asked in [{one} for one in pending] if one_by_one else [set(pending)]:
            try:
                replies = list(self._grid.pull_messages(asked)) if asked else []
            except Exception as error:
                if type(error).__module__.startswith("httpx"):  # the hub's fault, not a site's
                    raise
                yield _Unreadable(next(iter(asked))) if len(asked) == 1 else None
                continue
            while replies:
                yield replies.pop(0)

    def _push(self, step: str, outgoing: Mapping[int, Outgoing], timeout_s: float, lost: _Lost) -> dict[str, int]:
        """Message identifier -> node. The identifiers come in the order of the messages, None for one not taken."""
        records = {id(out.vector): ArrayRecord({"v": Array(out.vector)})  # one for all: it is copied and hashed once
                   for out in outgoing.values() if out.vector is not None}
        identifiers = list(self._grid.push_messages([
            Message(content=_content(out, records.get(id(out.vector))), dst_node_id=node,
                    message_type=MESSAGE_TYPES[step], ttl=timeout_s + 60)
            for node, out in outgoing.items()]))
        taken = dict(zip(identifiers, outgoing, strict=True)) if identifiers else {}
        for node in set(outgoing) - {node for identifier, node in taken.items() if identifier}:
            lost.refuse(node)
        return {identifier: node for identifier, node in taken.items() if identifier}


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A reply whose bytes are no message."""

    identifier: str


class _Mute:
    """Nodes that count as online and say nothing. `owed`: what they were asked, message -> node."""

    def __init__(self) -> None:
        self.owed: dict[str, int] = {}
        self._times: dict[int, int] = {}    # exchanges running without an answer
        self._since: dict[int, float] = {}  # of those left out

    def __bool__(self) -> bool:
        return bool(self._since)

    def note(self, node: int, silent: bool) -> None:
        """How an exchange with it ended."""
        self._times[node] = self._times.get(node, 0) + 1 if silent else 0
        if not silent:
            self.heard(node)
        elif self._times[node] >= _MUTE_TIMES:
            self._since[node] = time.monotonic()

    def left_out(self, online: set[int], for_s: float) -> set[int]:
        """Whom not to ask now."""
        over = time.monotonic() - for_s
        for node in [node for node, since in self._since.items() if node not in online or since < over]:
            self.heard(node)
        return set(self._since)

    def heard(self, node: int) -> None:
        """It answered something, or was away: it is asked again."""
        self._times.pop(node, None)
        self._since.pop(node, None)
        for name in [name for name, one in self.owed.items() if one == node]:
            del self.owed[name]


class _Lost:
    """Nodes that lost a message, since when, and which of them are back."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._until: dict[int, float] = {}   # first loss plus patience: a second loss does not prolong it
        self._away: set[int] = set()
        self._asked = 0.0

    def __bool__(self) -> bool:
        return bool(self._away)

    def keep(self, node: int) -> bool:
        """Whether to wait for that node; False when nobody waits, or its time is over."""
        until = self._until.setdefault(node, time.monotonic() + self._patience_s)
        if time.monotonic() >= until:
            return False
        self._away.add(node)
        return True

    def refuse(self, node: int) -> None:
        """A message that was not even taken: waited for like a lost one, if anybody waits."""
        if not self.keep(node):
            self._away.add(node)

    def given_up(self) -> list[int]:
        """The nodes whose time is over, each once."""
        over = [node for node in self._away if time.monotonic() >= self._until[node]]
        self._away.difference_update(over)
        return over

    def back(self, grid: Grid) -> list[int]:
        """The nodes that are connected again, each once; the grid is asked once a second."""
        if not self._away or time.monotonic() - self._asked < 1.0:
            return []
        self._asked = time.monotonic()
        found = [node for node in map(int, grid.get_node_ids()) if node in self._away]
        self._away.difference_update(found)
        return found


def _content(out: Outgoing, vector: ArrayRecord | None) -> RecordDict:
    content = RecordDict({"message": ConfigRecord({"body": out.body})})
    if vector is not None:
        content["vector"] = vector
    return content


def _reply(message: Message) -> Reply:
    if message.has_error():
        return Reply("", failure="transport")
    content = message.content
    try:
        body = content["message"]["body"]
        vector = _numbers(content["vector"]["v"]) if "vector" in content else None
    except Exception:  # bytes of another party: whatever they raise, a size that no memory has included
        return Reply("", failure="malformed")
    return Reply("", body=body, vector=vector) if isinstance(body, bytes) else Reply("", failure="malformed")


def _numbers(array: Array) -> npt.NDArray[np.generic]:
    """What `Array.numpy` gives, read-only and without its copy of the bytes. ValueError for any other content."""
    file = BytesIO(array.data)
    if array.stype != "numpy.ndarray" or np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another format, or version of it")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise ValueError("an array that is not plain numbers in C order")
    return np.frombuffer(array.data, dtype, offset=file.tell()).reshape(shape)
