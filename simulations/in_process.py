"""Flower's Grid without Flower's processes: every message is serialised, handed to the ClientApp here, and back.

The same ServerApp and ClientApp run on it as on a SuperLink; only the transport is missing. `LossyGrid` wraps this
grid or Flower's own and loses the messages that a configuration names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event
from uuid import uuid4

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from configs.schema import FaultConfig
from privacy.errors import MessageFormatError
from privacy.messages import Hello, RoundStart, SignedResult
from privacy.transport.flower_internals.process import as_wire, be_in_process, from_wire

__all__ = ["InProcessGrid", "LossyGrid", "Traffic"]


@dataclass(slots=True)
class Traffic:
    """Serialised bytes that crossed the boundary, in both directions, over all sites."""

    to_sites: int = 0
    from_sites: int = 0


class InProcessGrid(Grid):
    """Nodes 1..n run `client_app` in this process, one message at a time, in the order they were pushed."""

    def __init__(self, client_app: ClientApp, node_configs: list[dict[str, str]], run_id: int = 1) -> None:
        be_in_process(run_id)
        self._app = client_app
        self._run_id = run_id
        self._contexts = {
            number: Context(run_id=run_id, node_id=number, node_config=dict(config), state=RecordDict(),
                            run_config={})
            for number, config in enumerate(node_configs, start=1)
        }
        self._waiting: dict[str, Message] = {}
        self.traffic = Traffic()

    def set_run(self, run: object) -> None:
        """Not needed: one run a grid."""

    @property
    def run(self) -> int:
        return self._run_id

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Refused: Flower deprecated it; make a `Message`."""
        raise TypeError("create_message is deprecated; construct flwr.app.Message instead")

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        identifiers = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            message.metadata.__dict__["_run_id"] = self._run_id
            self._waiting[message.metadata.message_id] = message  # serialised when its turn comes: never all at once
            identifiers.append(message.metadata.message_id)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The reply to the oldest waiting message of `message_ids`: one a call, so that callers can stream."""
        wanted = set(message_ids)
        for identifier in list(self._waiting):
            if identifier in wanted:
                return [self._deliver(self._waiting.pop(identifier))]
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        identifiers = list(self.push_messages(messages))
        return [reply for _ in identifiers for reply in self.pull_messages(identifiers)]

    def _deliver(self, message: Message) -> Message:
        data = as_wire(message)
        self.traffic.to_sites += len(data)
        request = from_wire(data)
        del data
        reply = self._app(request, self._contexts[int(request.metadata.dst_node_id)])
        returned = as_wire(reply)
        self.traffic.from_sites += len(returned)
        return from_wire(returned)


def _round_of(step: str, batch: list[Message]) -> int | None:
    """The round that a plan or a result names; the steps between belong to the plan before them."""
    if step not in ("sa_train", "sa_result"):
        return None
    record = batch[0].content["message"]
    body = record["body"] if isinstance(record, ConfigRecord) else b""
    if step == "sa_train":
        return RoundStart.from_bytes(body).plan.plan.round  # type: ignore[arg-type]
    return SignedResult.from_bytes(body).result.round  # type: ignore[arg-type]


class LossyGrid(Grid):
    """Another grid whose network loses the messages that `faults` name; the sender sees "node unavailable"."""

    def __init__(self, inner: Grid, faults: Iterable[FaultConfig], ended: Event | None = None) -> None:
        self._inner = inner
        self._ended = ended or Event()
        self._faults = {(fault.site, fault.round, fault.at) for fault in faults}
        self._site_of: dict[int, str] = {}
        self._round = 0
        self._lost: dict[str, Message] = {}

    def set_run(self, run: object) -> None:
        self._inner.set_run(run)  # type: ignore[arg-type]

    @property
    def run(self) -> object:
        return self._inner.run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise TypeError("create_message is deprecated; construct flwr.app.Message instead")

    def get_node_ids(self) -> Iterable[int]:
        return self._inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        batch = list(messages)
        step = batch[0].metadata.message_type.split(".")[-1] if batch else ""
        self._round = _round_of(step, batch) or self._round
        losing = [(self._site_of.get(int(message.metadata.dst_node_id), ""), self._round, step) in self._faults
                  for message in batch]
        kept = iter(list(self._inner.push_messages(
            [message for message, lost in zip(batch, losing, strict=True) if not lost])))
        return [self._lose(message) if lost else next(kept) for message, lost in zip(batch, losing, strict=True)]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        if self._ended.is_set():
            raise RuntimeError("the simulation engine has ended")
        wanted = set(message_ids)
        for identifier in list(self._lost):
            if identifier in wanted:
                return [self._lost.pop(identifier)]
        replies = list(self._inner.pull_messages(wanted))
        for reply in replies:
            self._learn(reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._inner.send_and_receive(messages, timeout=timeout)

    def _lose(self, message: Message) -> str:
        identifier = f"lost-{uuid4()}"
        message.metadata.__dict__["_message_id"] = identifier
        reply = Message(Error(code=ErrorCode.NODE_UNAVAILABLE, reason="Node Unavailable"), reply_to=message)
        self._lost[identifier] = reply
        return identifier

    def _learn(self, reply: Message) -> None:
        """Which node is which site: from the hello that it signed."""
        if reply.has_error() or "message" not in reply.content:
            return
        record = reply.content["message"]
        body = record["body"] if isinstance(record, ConfigRecord) else b""
        try:
            self._site_of[int(reply.metadata.src_node_id)] = Hello.from_bytes(body).site_id  # type: ignore[arg-type]
        except MessageFormatError:
            return
