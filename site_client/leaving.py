"""Everything that may leave the hospital: one kind of message for each step, and the fields of each kind.

The fields are those of `privacy.messages`: `CLEAR_FIELDS` and the one sealed field. The audit log refuses all else.
"""

from __future__ import annotations

from dataclasses import fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from privacy import messages
from privacy.messages import CLEAR_FIELDS, OPAQUE_FIELDS, ErrorReply
from privacy.wire import Message

__all__ = ["REPLIES", "leaving_fields", "message_of"]

#: What answers each step of the coordinator; a refusal, `ErrorReply`, may answer any of them.
REPLIES: dict[str, type[Message]] = {
    "roster": messages.RosterInForce,
    "hello": messages.Hello, "witness": messages.WitnessList, "restore": messages.Ready,
    "sa_train": messages.Advertise, "sa_share": messages.EnvelopeList, "sa_mask": messages.MaskedHeader,
    "sa_confirm": messages.Confirm, "sa_unmask": messages.UnmaskShares, "sa_result": messages.Attest,
}


def message_of(step: str, body: bytes) -> Message:
    """The reply in `body`, if it is one that `step` may have.

    Raises:
        ValueError: another step, or bytes that are not exactly such a message; the text quotes none of them.
    """
    if step not in REPLIES:
        raise ValueError("there is no such step, so nothing may answer it")
    for kind in (REPLIES[step], ErrorReply):
        if body[1:].startswith(_opening(kind)):
            return kind.from_bytes(body)
    raise ValueError(f"the answer to {step} is not of a kind that may leave this site")


def leaving_fields() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """kind -> (fields in clear, sealed fields) of every message that may leave, those inside others included."""
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    waiting: list[type[Message]] = [*REPLIES.values(), ErrorReply]
    while waiting:
        kind = waiting.pop(0)
        if kind.__name__ not in found:
            found[kind.__name__] = CLEAR_FIELDS[kind.__name__], OPAQUE_FIELDS.get(kind.__name__, ())
            hints = get_type_hints(kind)
            waiting += [inner for field in fields(kind) for inner in _messages_in(hints[field.name])]
    return found


def _messages_in(hint: Any) -> list[type[Message]]:
    if get_origin(hint) in (tuple, Union, UnionType):
        return [inner for one in get_args(hint) for inner in _messages_in(one)]
    return [hint] if isinstance(hint, type) and issubclass(hint, Message) else []


def _opening(kind: type[Message]) -> bytes:
    """How every message of a kind begins, after the version byte."""
    name = kind.__name__.encode()
    return b"s" + len(name).to_bytes(4, "big") + name
