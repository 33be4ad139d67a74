"""One round's messages over the link: who was asked, who answered, who is missing and why, how many bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from coordinator.exchange import Link, Outgoing, Reply
from privacy.errors import FAULTS, MessageFormatError, ProtocolError
from privacy.identity import Roster
from privacy.messages import ErrorReply

__all__ = ["Conversation", "RoundFailedError", "StepObserver", "nobody_watches"]

StepObserver = Callable[[dict[str, Any]], None]


def nobody_watches(_: dict[str, Any]) -> None:
    """The default observer of steps."""


class RoundFailedError(RuntimeError):
    """A round that ended without a sum or without a quorum of attestations. The text names the step, the quorum and
    who was missing and why."""


class Conversation:
    """Sends steps, takes replies, and keeps count.

    Args:
        participants: the sites that can be reached; the roster's others "did not accept the run".
        number: of the round, for error texts.
        observe: told after each step: round, step, seconds, and how many sites were asked and answered well.
    """

    def __init__(
        self, link: Link, roster: Roster, timeout_s: float, participants: Iterable[str], number: int,
        observe: StepObserver = nobody_watches,
    ) -> None:
        self.link, self.roster, self.timeout_s, self.number = link, roster, timeout_s, number
        self._observe = observe
        self.participants = tuple(participants)
        self.missing: dict[str, str] = {}
        self.sent: dict[str, int] = dict.fromkeys(self.participants, 0)
        self.received: dict[str, int] = dict.fromkeys(self.participants, 0)

    def _step(self, step: str, outgoing: Mapping[str, Outgoing], accept: Callable[[Reply], None]) -> list[str]:
        """Send `step`, hand each good reply to `accept`, record the rest; the sites whose reply was accepted."""
        accepted, begin = [], time.monotonic()
        for site, message in outgoing.items():
            self.sent[site] = self.sent.get(site, 0) + message.size_bytes
        for reply in self.link.exchange(step, outgoing, self.timeout_s):
            self.received[reply.site_id] = self.received.get(reply.site_id, 0) + reply.size_bytes
            reason = reply.failure or _refusal(reply)
            if reason is None:
                try:
                    accept(reply)
                    accepted.append(reply.site_id)
                    self.missing.pop(reply.site_id, None)
                except ProtocolError as error:
                    reason = error.code
                except MessageFormatError:
                    reason = "E_FORMAT"
            if reason is not None:
                self.missing[reply.site_id] = f"{step}: {reason}"
            del reply  # before the next one is read: one upload at a time in memory
        self._observe({"round": self.number, "step": step, "seconds": time.monotonic() - begin,
                       "asked": len(outgoing), "answered": len(accepted)})
        return accepted

    def _failed(self, step: str, error: ProtocolError, answered: int, needed: int) -> RoundFailedError:
        absent = set(self.roster.active_ids) - set(self.participants)
        why = {**dict.fromkeys(absent, "did not accept the run"), **self.missing}
        missing = "; ".join(f"{site} ({reason})" for site, reason in sorted(why.items())) or "nobody"
        return RoundFailedError(
            f"round {self.number} stopped at {step} ({error.code}, blamed: {error.blamed}): {answered} of the roster's "
            f"{len(self.roster.active_ids)} sites answered well and {needed} are needed; missing: {missing}. "
            f"{FAULTS[error.code].sentence} {FAULTS[error.code].action}")


def _refusal(reply: Reply) -> str | None:
    """The error code of a reply that is an :class:`ErrorReply`, else None."""
    try:
        return ErrorReply.from_bytes(reply.body).code
    except MessageFormatError:
        return None
