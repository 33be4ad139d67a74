"""Peak memory of the coordinator in a secure round of n sites, for `benchmarks.federation`.

A round is recorded with real sites (`benchmarks._secagg_round`) and then played to the product's link and round as
serialised messages, one for each site and step, as the grid of a simulation would give them. What tracemalloc sees
above the start counts (numpy's arrays too); the recorded bytes, which stand for the network, were there before.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from benchmarks._federation_rounds import Talk
from benchmarks._secagg_round import SATURATION, Federation, record
from coordinator.link import FlowerLink
from model.server_optimizer import ServerOptimizer, ServerState
from privacy.secagg.quantize import dequantize_sum, pack
from privacy.transport.flower_internals.process import as_wire, be_in_process, from_wire

__all__ = ["RecordedGrid", "coordinator_memory"]

STEPS = ("sa_train", "sa_share", "sa_mask", "sa_confirm", "sa_unmask")


class RecordedGrid(Grid):
    """Nodes 1 to n, in the order of the sites; each answers a step with what was recorded."""

    def __init__(self, federation: Federation, sent: list[dict[str, Any]]) -> None:
        be_in_process(1)
        self._nodes = {site: number for number, site in enumerate(federation.ids, start=1)}
        hello = {site: site.encode() for site in federation.ids}
        self._replies = {(step, self._nodes[site]): _wire(made)
                         for step, made_by in zip(("hello", *STEPS), (hello, *sent), strict=True)
                         for site, made in made_by.items()}
        self._asked: dict[str, tuple[str, int]] = {}

    def set_run(self, run: object) -> None:
        """Not needed: one run a grid."""

    @property
    def run(self) -> int:
        return 1

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise TypeError("create_message is deprecated; construct flwr.app.Message instead")

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes.values())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        identifiers = []
        for message in messages:
            step, node = message.metadata.message_type.split(".")[-1], int(message.metadata.dst_node_id)
            self._asked[f"{step} {node}"] = (step, node)
            identifiers.append(f"{step} {node}")
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """All that is asked for, like Flower's grid, which keeps every reply that it was asked for in memory."""
        return [self._reply(identifier) for identifier in message_ids if identifier in self._asked]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _reply(self, identifier: str) -> Message:
        reply: Message = from_wire(self._replies[self._asked.pop(identifier)])
        reply.metadata.__dict__["_reply_to_message_id"] = identifier
        return reply


def _wire(made: Any) -> bytes:
    body, vector = made if isinstance(made, tuple) else (made, None)
    content = RecordDict({"message": ConfigRecord({"body": body})})
    if vector is not None:
        content["vector"] = ArrayRecord({"v": Array(vector)})
    return as_wire(Message(content, dst_node_id=1, message_type="query"))


def coordinator_memory(n: int, dimension: int) -> dict[str, float]:
    """Peaks as multiples of one upload: `sum` to the ring sum, `step` in the server's step after it (next adapter,
    momentum and average, 20 bytes a coordinate, and what is computed between)."""
    federation = Federation(n, dimension)
    vector = np.random.default_rng(0).uniform(-SATURATION, SATURATION, dimension).astype(np.float32)
    made = record(federation, vector, 0)
    upload = next(iter(made.sent[2].values()))[1].nbytes
    link = FlowerLink(RecordedGrid(federation, made.sent))
    del made
    for index, reply in enumerate(link.meet(b"", 60.0)):
        link.bind(index, reply.body.decode())
    talk = Talk(link, federation.roster, 60.0, federation.ids, 1)
    total, to_sum = _traced(lambda: talk.secure(federation.coordinator()))
    state = ServerState.initial(np.zeros(dimension))
    indices = np.arange(dimension)

    def step() -> object:
        real = dequantize_sum(total, federation.ring)
        after = state.after(indices, real, float(n), optimizer=ServerOptimizer(), average_decay=0.7)
        return after, pack(total, federation.ring.bits)

    _, in_step = _traced(step)
    return {"sum": to_sum / upload, "step": in_step / upload}


def _traced(work: Callable[[], Any]) -> tuple[Any, int]:
    """What `work` gives, and its peak above the level before it, bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = work()
        return made, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
