"""Typed errors that name who is at fault, and the fixed sentence each code shows an operator.

*Guarantees.* An error's text is a fixed sentence chosen by its code: it never holds a value, a path or an
identifier of a patient. A protocol error carries a code and the blamed party's identifier, and nothing
else.

*Assumes.* Raisers pick the code honestly; `FAULTS` is the complete list.

*Does not cover.* Proof. A code is one party's word, unless the two signed messages it rests on are kept as
evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "COORDINATOR",
    "FAULTS",
    "NOBODY",
    "POLICY_REFUSALS",
    "BudgetExceededError",
    "CohortTooSmallError",
    "Fault",
    "FaultyCoordinatorError",
    "FaultySiteError",
    "LateMessageError",
    "MessageFormatError",
    "PolicyRefusalError",
    "ProtocolError",
    "protocol_error",
]

COORDINATOR = "coordinator"
NOBODY = "nobody"

Blame = Literal["coordinator", "site", "sender", "nobody"]


@dataclass(frozen=True)
class Fault:
    """What a code means: whom it blames, what happened, and what the operator should do."""

    blame: Blame  # "sender": whichever side sent the offending message
    sentence: str
    action: str


_STOP = "Stop the run and keep the two signed messages as evidence."
_EXCLUDE = "Exclude that site and start a new attempt or round."

FAULTS: dict[str, Fault] = {
    "E_PLAN_SIG": Fault("coordinator", "The plan lacks the pinned coordinator's signature.", _STOP),
    "E_MANIFEST_SIG": Fault("coordinator", "The manifest lacks the pinned coordinator's signature.", _STOP),
    "E_ROSTER": Fault("coordinator", "The message names another roster than the one pinned here.", _STOP),
    "E_MANIFEST": Fault("coordinator", "The plan does not belong to the manifest approved here.", _STOP),
    "E_REPLAY": Fault("coordinator", "The plan repeats a round and attempt already seen here.", _STOP),
    "E_SPENT": Fault("coordinator", "This site has already uploaded a masked vector for that round.", _STOP),
    "E_MODEL_HASH": Fault("coordinator", "The model received is not the one that the plan names.", _STOP),
    "E_PARAMS": Fault("coordinator", "The plan's sizes or ring do not fit, or the sum could wrap.", _STOP),
    "E_STAGE": Fault("sender", "A message arrived that does not belong to the current step.", _STOP),
    "E_FORMAT": Fault("sender", "A message could not be decoded.", "Check that all run the same release."),
    "E_SIG": Fault("coordinator", "A relayed message is not signed for this round by its author.", _STOP),
    "E_UNKNOWN_SITE": Fault("coordinator", "A participant is not on the pinned roster and manifest.", _STOP),
    "E_DUP_SITE": Fault("coordinator", "A participant is listed twice.", _STOP),
    "E_DUP_KEY": Fault("coordinator", "Two ephemeral keys of the round are the same.", _STOP),
    "E_SELF_MISSING": Fault("coordinator", "This site's key announcement is missing or altered.", _STOP),
    "E_SELF_DROPPED": Fault("coordinator", "This site was asked to go on in a cohort without it.", _STOP),
    "E_U2_SUBSET": Fault("coordinator", "A key share comes from a site that announced no keys.", _STOP),
    "E_U3_SUBSET": Fault("coordinator", "A survivor is listed that dealt no key shares.", _STOP),
    "E_QUORUM": Fault("coordinator", "Too few sites confirmed the survivor list shown here.", _STOP),
    "E_RESULT_MISMATCH": Fault("coordinator", "The result is not what the last model and the sum give.", _STOP),
    "E_ATTEST": Fault("coordinator", "The plan lacks a quorum of attestations of the last result.", _STOP),
    "E_TAG": Fault("nobody", "The sum misses its integrity tag: the coordinator or a site altered it.",
                   "Stop the run; keep the result and the uploads as evidence."),
    "E_COHORT_SMALL": Fault("nobody", "Fewer sites answered than the cohort floor allows.", "Wait or retry."),
    "E_LATE": Fault("nobody", "A message arrived after its step closed and was ignored.", "Nothing to do."),
    "E_SITE": Fault("site", "A site could not finish a step; its own log says why.", "Ask that site."),
    "E_SITE_SIG": Fault("site", "A message of the site is not signed for this round by its roster key.", _EXCLUDE),
    "E_LEDGER_FORK": Fault("site", "A site stated two different heads for one row of its ledger.",
                           "Keep both signed marks as evidence and ask that site."),
    "E_WEAK_KEY": Fault("site", "A site announced a key that gives everybody the same secret.", _EXCLUDE),
    "E_TWO_MESSAGES": Fault("site", "A site sent two different messages for one step.", _EXCLUDE),
    "E_UPLOAD": Fault("site", "A masked vector has the wrong size or misses its signed hash.", _EXCLUDE),
    "E_ENVELOPES": Fault("site", "A site did not deal exactly one envelope to every participant.", _EXCLUDE),
    "E_SHARE_DECRYPT": Fault("site", "A key share from that site could not be decrypted.", _EXCLUDE),
    "E_SHARE_COMMIT": Fault("site", "A key share from that site misses its commitment.", _EXCLUDE),
    "E_DEALER": Fault("site", "The secret rebuilt from its shares is not the committed one.", _EXCLUDE),
    "E_UNMASK_SHARES": Fault("site", "A site revealed shares other than those it was dealt.", _EXCLUDE),
}

POLICY_REFUSALS: dict[str, str] = {
    "P_NOT_APPROVED": "The site's operator has not approved this run.",
    "P_RELEASE": "The run names another release than the one installed at the site.",
    "P_ROSTER": "The run names another roster than the one pinned at the site.",
    "P_BASE_MODEL": "The site's policy does not allow this base model.",
    "P_ADAPTER": "The site's policy does not allow this adapter shape.",
    "P_STAGE": "The site's policy does not allow one of the run's stages.",
    "P_SOURCE": "The site's policy does not allow one of the run's data sources.",
    "P_PRIVACY": "The site's policy does not allow a run without patient-level privacy.",
    "P_DELTA": "The run's delta for this site, alone or with earlier runs, is larger than the site's policy allows.",
    "P_NOISE": "The run's noise multiplier is smaller than the site's policy allows.",
    "P_SAMPLING": "The run samples more patients or samples a patient than the site's policy allows.",
    "P_COHORT": "The roster's cohort floor is lower than the site's policy allows.",
    "P_FLOOR": "The site declared fewer patients than its own policy asks for.",
    "P_TERMS": "The run's terms for this site are not the ones that the site declared.",
    "P_BUDGET": "The site's privacy budget does not cover this run or step.",
    "P_WASTED": "Too many rounds that this site trained for were never finished; its operator must look.",
    "P_LEDGER": "The site's ledger is older than, or differs from, one that a peer has seen.",
    "P_WITNESS": "Too few peers confirmed this site's ledger.",
    "P_NOT_FINITE": "The adapter received does not give finite outputs on public examples.",
    "P_RUN_ID": "The run's identifier already stands for another manifest at the site.",
    "P_SUITE": "The run's key agreement is not one that the roster allows.",
    "P_RING": "The run's ring is too narrow for the noise that the site adds.",
    "P_TIMING": "The run sets no time for replies, and the site's policy asks for one.",
    "P_STATE": "The site does not hold the state that the round starts from; the coordinator sends it whole.",
    "P_CAPACITY": "The site cannot run this step on its hardware.",
}


class ProtocolError(Exception):
    """A step of `fedsecagg/1` was refused.

    Args:
        code: a key of `FAULTS`.
        blamed: `"coordinator"`, a site identifier, or `"nobody"`.

    `str()` is the code's fixed sentence; the blamed party is only in `.blamed`.
    """

    def __init__(self, code: str, blamed: str) -> None:
        super().__init__(FAULTS[code].sentence)
        self.code = code
        self.blamed = blamed


class FaultyCoordinatorError(ProtocolError):
    """A site found that the coordinator deviated, or relayed what it should have refused."""

    def __init__(self, code: str) -> None:
        super().__init__(code, COORDINATOR)


class FaultySiteError(ProtocolError):
    """A site deviated, as seen by the coordinator or by a peer; `.blamed` is its identifier."""


class CohortTooSmallError(ProtocolError):
    """Too few sites are left. Proves nothing about anybody: a slow network looks the same."""

    def __init__(self, code: str = "E_COHORT_SMALL", blamed: str = NOBODY) -> None:
        super().__init__(code, blamed)


class LateMessageError(ProtocolError):
    """A message for a step that is already closed; it was ignored and the round goes on."""

    def __init__(self, code: str = "E_LATE", blamed: str = NOBODY) -> None:
        super().__init__(code, blamed)


class MessageFormatError(ValueError):
    """Bytes that are not the canonical encoding of the expected message; the text never quotes them."""


class BudgetExceededError(Exception):
    """A step would take the site past its privacy budget; nothing was released.

    Args:
        spent: epsilon (P_DELTA: delta) of everything in the ledger so far.
        requested: the same after the refused step.
        limit: the site's cap on it.
        code: P_BUDGET for epsilon, P_DELTA for delta.
    """

    def __init__(self, spent: float, requested: float, limit: float, code: str = "P_BUDGET") -> None:
        super().__init__(POLICY_REFUSALS[code])
        self.code = code
        self.spent = spent
        self.requested = requested
        self.limit = limit


class PolicyRefusalError(Exception):
    """The site's own refusal, with the fixed sentence of its code.

    Args:
        code: a key of `POLICY_REFUSALS`.
    """

    def __init__(self, code: str) -> None:
        super().__init__(POLICY_REFUSALS[code])
        self.code = code


def protocol_error(code: str, blamed: str) -> ProtocolError:
    """Rebuild the typed error that an error reply describes.

    Raises:
        ValueError: `code` is not a key of `FAULTS`.
    """
    if code not in FAULTS:
        raise ValueError("the error code is unknown; both sides must run the same release")
    if code == "E_COHORT_SMALL":
        return CohortTooSmallError(code, blamed)
    if code == "E_LATE":
        return LateMessageError(code, blamed)
    return FaultyCoordinatorError(code) if blamed == COORDINATOR else FaultySiteError(code, blamed)
