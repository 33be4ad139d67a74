"""R5 at the coordinator: sign a round's result, show it to the survivors, collect what they sign.

The signed result is on disk before the first site sees it, so a restarted coordinator sends the same one again and
never another. The next plan carries the attestations; a site that did not attest gets the whole state with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coordinator.conversation import Conversation, RoundFailedError
from coordinator.exchange import Outgoing, Reply
from model.server_optimizer import ServerState
from privacy.errors import CohortTooSmallError, FaultySiteError
from privacy.evaluation import GateOutcome
from privacy.identity import Roster, SigningKey
from privacy.messages import Attest, Plan, Result, RoundStart, SignedPlan, SignedResult
from privacy.results import RoundView, quorum

__all__ = ["NOT_ADMITTED", "Attestation", "Closing", "close_round", "round_starts"]

NOT_ADMITTED = ("P_NOT_APPROVED", "P_WITNESS")  # what a process says that was not admitted


@dataclass(frozen=True, slots=True, eq=False)
class Closing:
    """How the newest finished round ends.

    Args:
        result: as signed, once.
        packed: its ring sum, uint8[d * bits / 8].
        attests: by site, those that were received so far; each is valid.
        plan: of the round; its hash is the result's ctx, so it binds the attestations to the manifest for a reader who
            was not there. None in a checkpoint of an earlier release.
    """

    result: SignedResult
    packed: npt.NDArray[np.uint8]
    attests: tuple[Attest, ...] = ()
    plan: Plan | None = None

    def is_attested(self, roster: Roster) -> bool:
        """Whether a quorum has attested."""
        return len(self.attests) >= quorum(self.result.result, roster)

    @property
    def attested(self) -> tuple[str, ...]:
        """The sites that attested, ascending: they hold the state."""
        return tuple(attest.site_id for attest in self.attests)


def close_round(
    plan: Plan, view: RoundView, packed: npt.NDArray[np.uint8], tags: tuple[bytes, ...], state: ServerState,
    key: SigningKey, gates: tuple[GateOutcome, ...] = (),
) -> Closing:
    """Sign what the round gave: `state` is the one after it, `gates` are all outcomes with its own."""
    result = Result(
        run_id=plan.run_id, round=plan.round, ctx=view.ctx, h3=view.h3, announced=view.announced,
        survivors=view.survivors, factor=plan.factor, sum_hash=hashlib.sha256(packed.data).digest(),
        model_hash=state.model_hash, state_hash=state.state_hash, finished=state.finished, tags=tags, gates=gates)
    return Closing(SignedResult.make(result, key), packed, plan=plan)


def round_starts(
    signed_plan: bytes, closing: Closing | None, state: Callable[[], npt.NDArray[np.uint8]], sites: Sequence[str]
) -> tuple[dict[str, Outgoing], Callable[[], Outgoing]]:
    """The first message of a round for each site, and the one for a site that says it has lost the state.

    Args:
        closing: of the newest finished round; None before the first, when every site builds the same state itself.
        state: makes the packed whole state, uint8[20 D].
    """
    plan = SignedPlan.from_bytes(signed_plan)
    if closing is None:
        short = Outgoing(RoundStart(plan).to_bytes())
        return dict.fromkeys(sites, short), lambda: short
    body = RoundStart(plan, closing.result, closing.attests).to_bytes()
    short, whole = Outgoing(body), _Once(lambda: Outgoing(body, state()))
    return {site: short if site in closing.attested else whole() for site in sites}, whole


class _Once:
    """Makes its value when it is first asked for: 20 bytes a coordinate, and mostly nobody needs it."""

    def __init__(self, make: Callable[[], Outgoing]) -> None:
        self._make = make
        self._value: Outgoing | None = None

    def __call__(self) -> Outgoing:
        if self._value is None:
            self._value = self._make()
        return self._value


class Attestation(Conversation):
    """Step `sa_result` of one round, until a quorum holds or the run stops."""

    def collect(self, closing: Closing, admit: Callable[[], tuple[str, ...]]) -> Closing:
        """Send the result to the survivors that have not attested; `closing` with what came back.

        Sites whose process was restarted are admitted again, once, when they are needed for the quorum.
        """
        closing = self._ask(closing)
        again = [site for site, why in self.missing.items() if why.endswith(NOT_ADMITTED)]
        if again and not closing.is_attested(self.roster):
            try:
                self.participants = tuple(sorted({*self.participants, *admit()}))
            except RoundFailedError:  # whether the quorum is reached is counted below
                return closing
            closing = self._ask(closing)
        return closing

    def shortfall(self, closing: Closing) -> RoundFailedError:
        """What to raise below the quorum."""
        return self._failed(
            "sa_result", CohortTooSmallError(), len(closing.attests), quorum(closing.result.result, self.roster))

    def _ask(self, closing: Closing) -> Closing:
        result = closing.result.result
        held = {attest.site_id: attest for attest in closing.attests}
        message = Outgoing(closing.result.to_bytes(), closing.packed)
        asked = [s for s in result.survivors if s not in held and s in self.participants]

        def accept(reply: Reply) -> None:
            attest = Attest.from_bytes(reply.body)
            if attest.site_id != reply.site_id or not attest.holds_for(result, self.roster):
                raise FaultySiteError("E_SITE_SIG", reply.site_id)
            held[reply.site_id] = attest

        self._step("sa_result", dict.fromkeys(asked, message), accept)
        return replace(closing, attests=tuple(held[site] for site in sorted(held)))
