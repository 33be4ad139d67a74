"""The Flower implementation of :class:`coordinator.exchange.Link`: Message API, push and pull, streaming.

A message carries one ConfigRecord `message` with the canonical bytes and, where the step has one, an ArrayRecord
`vector` (chunked by Flower, so never in the ConfigRecord). Nothing else is ever read from a reply: an error text
of a site's process is dropped here, because Flower would forward it verbatim.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from coordinator.exchange import Outgoing, Reply

__all__ = ["FlowerLink", "MESSAGE_TYPES"]

MESSAGE_TYPES = {
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
    """Sends protocol steps over a Flower :class:`Grid`."""

    def __init__(self, grid: Grid, poll_s: float = 0.05) -> None:
        self._grid = grid
        self._poll_s = poll_s
        self._node_of: dict[str, int] = {}
        self._met: list[int] = []

    def meet(self, body: bytes, timeout_s: float) -> Iterator[Reply]:
        """See :meth:`coordinator.exchange.Link.meet`."""
        self._met = []
        nodes = {int(node): Outgoing(body) for node in self._grid.get_node_ids()}
        for node, reply in self._send("hello", nodes, timeout_s):
            self._met.append(node)
            yield reply

    def bind(self, reply_index: int, site_id: str) -> None:
        """See :meth:`coordinator.exchange.Link.bind`."""
        self._node_of[site_id] = self._met[reply_index]

    def exchange(self, step: str, outgoing: Mapping[str, Outgoing], timeout_s: float) -> Iterator[Reply]:
        """See :meth:`coordinator.exchange.Link.exchange`."""
        site_of = {self._node_of[site]: site for site in outgoing}
        for node, reply in self._send(step, {self._node_of[s]: o for s, o in outgoing.items()}, timeout_s):
            yield Reply(site_of[node], reply.body, reply.vector, reply.failure)

    def _send(
        self, step: str, outgoing: Mapping[int, Outgoing], timeout_s: float
    ) -> Iterator[tuple[int, Reply]]:
        messages = [
            Message(content=_content(out), dst_node_id=node, message_type=MESSAGE_TYPES[step], ttl=timeout_s + 60)
            for node, out in outgoing.items()
        ]
        pending = set(self._grid.push_messages(messages))
        waiting = set(outgoing)
        deadline = time.monotonic() + timeout_s
        while pending and time.monotonic() < deadline:
            replies = list(self._grid.pull_messages(pending))
            for reply in _known(replies, pending):
                pending.discard(reply.metadata.reply_to_message_id)
                node = int(reply.metadata.src_node_id)
                waiting.discard(node)
                yield node, _reply(reply)
            if pending and not replies:
                time.sleep(self._poll_s)
        for node in sorted(waiting):
            yield node, Reply("", failure="no-reply")


def _known(replies: Iterable[Message], pending: set[str]) -> Iterator[Message]:
    return (reply for reply in replies if reply.metadata.reply_to_message_id in pending)


def _content(out: Outgoing) -> RecordDict:
    content = RecordDict({"message": ConfigRecord({"body": out.body})})
    if out.vector is not None:
        content["vector"] = ArrayRecord({"v": Array(out.vector)})
    return content


def _reply(message: Message) -> Reply:
    if message.has_error():
        return Reply("", failure="transport")
    content = message.content
    try:
        body = content["message"]["body"]
        vector = content["vector"]["v"].numpy() if "vector" in content else None
    except (KeyError, TypeError, ValueError):
        return Reply("", failure="malformed")
    return Reply("", body=body, vector=vector) if isinstance(body, bytes) else Reply("", failure="malformed")
