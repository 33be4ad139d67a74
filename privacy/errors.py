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
    "POLICY_ACTIONS",
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


_EXCLUDE = "Leave that site out until its operator has looked"

FAULTS: dict[str, Fault] = {
    "E_PLAN_SIG": Fault("coordinator", "The plan lacks the pinned coordinator's signature.",
        "Stop the run; the coordinator's key file must be the one whose public key the roster names."),
    "E_MANIFEST_SIG": Fault("coordinator", "The manifest lacks the pinned coordinator's signature.",
        "Stop the run; sign the manifest with the key whose public half the roster names."),
    "E_ROSTER": Fault("coordinator", "The message names another roster than the one pinned here.",
        "Compare the roster's hash at the coordinator and at this site; all need the same version."),
    "E_MANIFEST": Fault("coordinator", "The plan does not belong to the manifest approved here.",
        "Stop the run; resume it with the manifest that the sites approved. A signed plan proves the fault."),
    "E_GATE": Fault("coordinator", "The plan is not the round that the manifest and its gates' outcomes ask for.",
        "Resume from the newest run folder; a stage begins once the gate before it is passed, and no repeat is added."),
    "E_REPLAY": Fault("coordinator", "The plan repeats a round and attempt already seen here.",
        "Resume from the newest run folder, never an old copy; if it was the newest, stop and see `evidence`."),
    "E_SPENT": Fault("coordinator", "This site has already uploaded a masked vector for that round.",
        "Resume from the newest run folder, which goes on with the next round; else stop the run."),
    "E_MODEL_HASH": Fault("coordinator", "The model received is not the one that the plan names.",
        "Stop the run; resume it from its newest checkpoint."),
    "E_PARAMS": Fault("coordinator", "The plan's sizes or ring do not fit, or the sum could wrap.",
        "Stop the run; the coordinator must run the release that the manifest names."),
    "E_STAGE": Fault("sender", "A message arrived that does not belong to the current step.",
        "Start a new attempt; if it happens again, restart the side that is blamed."),
    "E_FORMAT": Fault("sender", "A message could not be decoded.",
        "Check that all run the release that the manifest names."),
    "E_SIG": Fault("coordinator", "A relayed message is not signed for this round by its author.",
        "Stop the run and check the coordinator's installation: a genuine one relays no such message."),
    "E_UNKNOWN_SITE": Fault("coordinator", "A participant is not on the pinned roster and manifest.",
        "Compare the roster's hash at the coordinator and at this site; if they agree, stop the run."),
    "E_DUP_SITE": Fault("coordinator", "A participant is listed twice.",
        "Stop the run and check the coordinator's installation: a genuine one lists each site once."),
    "E_DUP_KEY": Fault("coordinator", "Two ephemeral keys of the round are the same.",
        "Stop the run; check that no two sites run from copies of one machine."),
    "E_SELF_MISSING": Fault("coordinator", "This site's key announcement is missing or altered.",
        "Stop the run; check that no second process of that site runs, then the coordinator's installation."),
    "E_SELF_DROPPED": Fault("coordinator", "This site was asked to go on in a cohort without it.",
        "Stop the run and check the coordinator's installation: a genuine one leaves a dropped site alone."),
    "E_U2_SUBSET": Fault("coordinator", "A key share comes from a site that announced no keys.",
        "Stop the run and check the coordinator's installation: a genuine one never mixes two attempts."),
    "E_U3_SUBSET": Fault("coordinator", "A survivor is listed that dealt no key shares.",
        "Stop the run and check the coordinator's installation: a genuine one adds no survivor."),
    "E_QUORUM": Fault("coordinator", "Too few sites confirmed the survivor list shown here.",
        "Stop the run; let the sites compare the survivor lists that they were shown."),
    "E_RESULT_MISMATCH": Fault("coordinator", "The result is not what the last model and the sum give.",
        "Stop the run; resume it from its newest checkpoint, and let the sites compare the signed results."),
    "E_ATTEST": Fault("coordinator", "The plan lacks a quorum of attestations of the last result.",
        "Resume from the newest run folder, which holds the attestations; else begin a new run."),
    "E_TAG": Fault("nobody", "The sum misses its integrity tag: the coordinator or a site altered it.",
        "Stop the run; keep the result and the uploads as evidence."),
    "E_COHORT_SMALL": Fault("nobody", "Fewer sites answered than the cohort floor allows.",
        "See who is missing and why, bring those sites back, and start the run again."),
    "E_LATE": Fault("nobody", "A message arrived after its step closed and was ignored.",
        "Nothing to do; if it happens often, raise timeout_s."),
    "E_SITE": Fault("site", "A site could not finish a step; its own log says why.",
        "Ask that site's operator to read its log; nothing else left the site."),
    "E_SITE_SIG": Fault("site", "A message of the site is not signed for this round by its roster key.",
        f"{_EXCLUDE}; its identity.key must be the one on the roster."),
    "E_LEDGER_FORK": Fault("site", "A site stated two different heads for one row of its ledger.",
        f"{_EXCLUDE}; it may run from an old copy of its state, and both marks prove it."),
    "E_WEAK_KEY": Fault("site", "A site announced a key that gives everybody the same secret.",
        f"{_EXCLUDE}; no honest release makes such a key, and the announcement proves it."),
    "E_TWO_MESSAGES": Fault("site", "A site sent two different messages for one step.",
        f"{_EXCLUDE}; `evidence` shows both if both were signed."),
    "E_UPLOAD": Fault("site", "A masked vector has the wrong size or misses its signed hash.",
        "Start a new round; if the site's uploads stay damaged, check its network and its release."),
    "E_ENVELOPES": Fault("site", "A site did not deal exactly one fitting envelope to every participant.",
        f"{_EXCLUDE}; check that it runs the manifest's release."),
    "E_SHARE_DECRYPT": Fault("site", "A key share from that site could not be decrypted.",
        "Ask both sites: this is the word of one against the other; then start a new round."),
    "E_SHARE_COMMIT": Fault("site", "A key share from that site misses its commitment.",
        "Ask both sites: this is the word of one against the other; then start a new round."),
    "E_DEALER": Fault("site", "The secret rebuilt from its shares is not the committed one.",
        f"{_EXCLUDE}; the round is lost, so go on with the next one."),
    "E_UNMASK_SHARES": Fault("site", "A site revealed shares other than those it was dealt.",
        f"{_EXCLUDE}; the round goes on while enough others answer."),
}

POLICY_REFUSALS: dict[str, str] = {
    "P_NOT_APPROVED": "The site's operator has not approved this run.",
    "P_APPROVAL": "The site's operator has not approved this run by hand yet.",
    "P_RELEASE": "The run names another release than the one installed at the site.",
    "P_ROSTER": "The run names another roster than the one pinned at the site.",
    "P_BASE_MODEL": "The site's policy does not allow this base model.",
    "P_ADAPTER": "The site's policy does not allow this adapter shape.",
    "P_STAGE": "The site's policy does not allow one of the run's stages.",
    "P_GROUP": "The site's policy does not allow training one of the run's groups of layers.",
    "P_SOURCE": "The site's policy does not allow one of the run's data sources.",
    "P_ROUNDS": "The run has more rounds than the site's policy allows.",
    "P_EVALUATION": "The run evaluates on patients more often than the site's policy allows.",
    "P_BYTES": "The run's upload is larger than the site's policy allows.",
    "P_HOURS": "The site trains at other hours only.",
    "P_PRIVACY": "The site's policy does not allow a run without patient-level privacy.",
    "P_DELTA": "The run's delta for this site, alone or with earlier runs, is larger than the site's policy allows.",
    "P_NOISE": "The run's noise multiplier is smaller than the site's policy allows.",
    "P_SAMPLING": "The run samples more patients or samples a patient than the site's policy allows.",
    "P_COHORT": "The roster's cohort floor is lower than the site's policy allows.",
    "P_FLOOR": "The site declared fewer patients than its own policy asks for.",
    "P_TERMS": "The run's terms for this site, or the sites' weights in the sum, are not those of the roster.",
    "P_BUDGET": "The site's privacy budget does not cover this run or step.",
    "P_WASTED": "Too many rounds that this site trained for were never finished; its operator must look.",
    "P_LEDGER": "The site's ledger is older than, or differs from, one that a peer has seen.",
    "P_WITNESS": "Too few peers confirmed this site's ledger.",
    "P_NOT_FINITE": "The adapter received does not give finite outputs on public examples.",
    "P_RUN_ID": "The run's identifier already stands for another manifest at the site.",
    "P_SUITE": "The run's key agreement is not one that the roster allows.",
    "P_RING": "The run's ring is too narrow for the noise that the site adds.",
    "P_TRUST": "The run's noise is shared out among sites on other terms than the site's policy states.",
    "P_TIMING": "The run sets no time for replies, or a shorter one than the site's policy asks for.",
    "P_STATE": "The site does not hold the state that the round starts from; the coordinator sends it whole.",
    "P_CAPACITY": "The site cannot run this step on its hardware.",
}

# What the coordinator's operator can do about a refusal; the site alone decides.
POLICY_ACTIONS: dict[str, str] = {
    "P_NOT_APPROVED": "Wait: the site is admitted again before the next round; else ask its operator.",
    "P_APPROVAL": "Wait: the run waits at the site for its operator's `site-client approve`; ask them to look.",
    "P_RELEASE": "Install one release at all sites, or make a new manifest with theirs and a new run_id.",
    "P_ROSTER": "Send the site the roster's newest version; its operator approves it.",
    "P_BASE_MODEL": "Ask the site to add the model's hash to policy.allowed_base_models, or use one that it allows.",
    "P_ADAPTER": "Ask which rank and groups the site allows, and make a new manifest with a new run_id.",
    "P_STAGE": "Ask which stages the site allows, and make a new manifest with a new run_id.",
    "P_GROUP": "Ask which groups the site allows, and make a new manifest with a new run_id.",
    "P_SOURCE": "Ask which sources the site allows, and make a new manifest with a new run_id.",
    "P_ROUNDS": "Lower the stages' rounds in a new manifest, or ask the site to raise policy.max_rounds.",
    "P_EVALUATION": "Lower the number of evaluations in a new manifest, or ask for a higher policy.max_evaluations.",
    "P_BYTES": "Lower the rank, groups or bits in a new manifest, or ask the site to raise policy.max_upload_mb.",
    "P_HOURS": "Wait for the hours that the site's operator has set, then resume the run.",
    "P_PRIVACY": "Run with patient-dp; without privacy only where every site's operator has allowed it.",
    "P_DELTA": "Lower the site's delta in a new manifest, or go on without the site.",
    "P_NOISE": "Raise the noise in a new manifest (`coordinator noise` plans it), with a new run_id.",
    "P_SAMPLING": "Lower sampling_rate or max_samples in a new manifest, with a new run_id.",
    "P_COHORT": "Raise min_cohort or min_fraction in a new version of the roster.",
    "P_FLOOR": "Go on without the site; only its operator can change policy.min_patients or what it declared.",
    "P_TERMS": "Make a new manifest from the newest roster, with a new run_id.",
    "P_BUDGET": "Go on without the site; only its operator can raise policy.max_epsilon.",
    "P_WASTED": "Ask the site's operator to look why rounds were lost, then to raise policy.max_wasted_rounds.",
    "P_LEDGER": "Ask the site's operator to restore the newest copy of the whole state folder.",
    "P_WITNESS": "Bring more sites online and start again, or ask its operator for `site-client ledger approve`.",
    "P_NOT_FINITE": "Go back to an earlier checkpoint and lower the learning rate.",
    "P_RUN_ID": "Give the changed manifest a new run_id; a run's name belongs to one manifest for good.",
    "P_SUITE": "Use a key agreement of the roster's `suites`, in a new manifest with a new run_id.",
    "P_RING": "Use a wider ring (bits) in a new manifest, with a new run_id.",
    "P_TRUST": "Ask for the site's policy.distributed_noise and make a new manifest, or run with local noise.",
    "P_TIMING": "Set reply_after_s, at least the sites' min_reply_after_s, in a new manifest with a new run_id.",
    "P_STATE": "Nothing to do: the coordinator sends the state; if it happens each round, the site loses its files.",
    "P_CAPACITY": "Ask the site's operator which step its hardware refused; go on without the site.",
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
        code: P_BUDGET for epsilon, P_DELTA for delta, P_TRUST for shared noise without stated caps.
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
    if blamed == NOBODY:
        return ProtocolError(code, blamed)
    return FaultyCoordinatorError(code) if blamed == COORDINATOR else FaultySiteError(code, blamed)
