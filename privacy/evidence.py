"""Transferable evidence: signed statements of one party that no honest party signs together.

*Guarantees.* `proves` is True only when every statement carries the blamed party's valid signature, belongs to the
roster given, and the statements break one rule of `RULES`. Nobody without the blamed party's key can make such a file,
so it convinces anybody who holds the roster; no word of the one who shows it is trusted. Bad bytes are no proof.

*Assumes.* Ed25519 is unforgeable, and the verifier has the roster of that run. An honest party follows the protocol and
keeps its durable state (a site its ledger, the coordinator its run folder): `Rule.reason` says, for each rule, what
keeps it from ever signing both.

*Does not cover.* Why it happened. A stolen key, or a state folder restored from an old copy against the guides, signs
like a cheat does. Statements that bear no signature (lists, vectors) and anything said to two sites that never compare
notes. A message of another release does not decode here and then proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

from privacy.encoding import Item, dec, digest
from privacy.errors import COORDINATOR, FAULTS, POLICY_REFUSALS, FaultyCoordinatorError, MessageFormatError
from privacy.identity import Roster
from privacy.messages import (
    Advertise,
    Attest,
    Confirm,
    Envelope,
    LedgerMark,
    MaskedHeader,
    Plan,
    SignedManifest,
    SignedMessage,
    SignedPlan,
    SignedResult,
    UnmaskShares,
)
from privacy.release import release_hash
from privacy.secagg.checks import check_plan
from privacy.secagg.hybrid import is_usable
from privacy.wire import VERSION, Message, check_hash, check_id

__all__ = ["RULES", "Evidence", "Opened", "Rule", "Statement", "contradiction", "describe", "is_guilty",
           "open_statement", "proves", "topics"]

MAX_STATEMENT_BYTES = 1 << 20  # no message is longer (`privacy.wire`)


@dataclass(frozen=True)
class Statement(Message):
    """One signed message, with what its signature is bound to.

    Args:
        message: its canonical bytes.
        binding: the hashes that it was signed for, e.g. (ctx, h2); empty for manifests, plans and ledger marks.
        plan: the plan whose hash is ctx, so that a reader sees run, round and attempt; empty where binding is.
    """

    message: bytes
    binding: tuple[bytes, ...] = ()
    plan: bytes = b""

    def check(self) -> None:
        if not 0 < len(self.message) <= MAX_STATEMENT_BYTES:
            raise ValueError("a statement's message must be 1 byte to 1 MiB long")
        if len(self.binding) > 3:
            raise ValueError("a statement is bound to three hashes at most")
        for part in self.binding:
            check_hash("a binding", part)

    @classmethod
    def in_round(cls, message: SignedMessage, binding: tuple[bytes, ...], plan: Plan) -> Statement:
        """A site's message of one round, bound to (ctx, ...)."""
        return cls(message.to_bytes(), binding, plan.to_bytes())


@dataclass(frozen=True)
class Evidence(Message):
    """Two statements of one party that contradict each other, or one that no honest party makes.

    Args:
        kind: a key of `RULES`.
        code: the error code it belongs to.
        blamed: "coordinator" or a site's identifier.
        statements: in the order of the rule's types, else of their bytes.
    """

    LIMIT_BYTES: ClassVar[int] = 2 * MAX_STATEMENT_BYTES + (1 << 16)
    kind: str
    code: str
    blamed: str
    statements: tuple[Statement, ...]

    def check(self) -> None:
        check_id("the kind of evidence", self.kind)
        if self.code not in FAULTS and self.code not in POLICY_REFUSALS:
            raise ValueError("the error code is unknown; use the release that wrote the evidence")
        if self.blamed != COORDINATOR:
            check_id("the blamed party", self.blamed)
        if not 1 <= len(self.statements) <= 2:
            raise ValueError("evidence has one statement or two")


@dataclass(frozen=True)
class Opened:
    """A statement whose signature holds.

    Args:
        message, signer, binding: what was signed, by whom ("coordinator" or a site), for what.
        plan: of the round it belongs to; None where the message itself says so.
    """

    message: Any
    signer: str
    binding: tuple[bytes, ...]
    plan: Plan | None

    @property
    def content(self) -> tuple[Item, ...]:
        """What the signature covers. The signature itself is left out: another one over the same is no
        contradiction."""
        return (self.binding, *self.message.items()[:-1])


@dataclass(frozen=True)
class _Form:
    """How messages of one type are checked: whose they are, which plan they need, which roster they name.

    Args:
        signer: of a message; its own word, which its signature then has to bear out.
        parts: how many hashes it is bound to.
        context: ctx of the round it belongs to, which the plan shown with it must have; None: it names its own run.
        names_roster: whether it names the roster itself.
        binding: what the signature is over beside the message.
    """

    signer: Callable[[Any], str]
    parts: int = 0
    context: Callable[[Any, Statement], bytes | None] = lambda message, statement: None
    names_roster: Callable[[Any, Roster], bool] = lambda message, roster: True
    binding: Callable[[Statement, Roster], tuple[Item, ...]] = lambda statement, roster: statement.binding


def _ctx_first(_: Any, statement: Statement) -> bytes | None:
    return statement.binding[0] if statement.binding else b""


def _by_coordinator(_: Any) -> str:
    return COORDINATOR


def _by_site(message: Any) -> str:
    return str(message.site_id)


def _names(stated: Any, roster: Roster) -> bool:
    return (stated.roster_hash, stated.federation_id) == (roster.hash(), roster.federation_id)


_FORMS: dict[type[SignedMessage], _Form] = {
    SignedManifest: _Form(_by_coordinator, names_roster=lambda signed, roster: _names(signed.manifest, roster)),
    SignedPlan: _Form(_by_coordinator, names_roster=lambda signed, roster: _names(signed.plan, roster)),
    LedgerMark: _Form(_by_site, binding=lambda statement, roster: (roster.federation_id,)),
    Advertise: _Form(_by_site, parts=1, context=_ctx_first),
    Envelope: _Form(lambda envelope: str(envelope.sender), parts=2, context=_ctx_first),
    MaskedHeader: _Form(_by_site, parts=2, context=_ctx_first),
    Confirm: _Form(_by_site, parts=2, context=_ctx_first),
    UnmaskShares: _Form(_by_site, parts=2, context=_ctx_first),
    SignedResult: _Form(_by_coordinator, context=lambda signed, _: bytes(signed.result.ctx)),
    Attest: _Form(_by_site, parts=3, context=_ctx_first),
}
_TYPES = {kind.__name__: kind for kind in _FORMS}


@lru_cache(maxsize=16)
def _plan_of(data: bytes, roster: Roster) -> tuple[Plan, bytes]:
    """The plan and its context, if it names this roster. Raises MessageFormatError; KeyError for another roster."""
    plan = Plan.from_bytes(data)
    if not _names(plan, roster):
        raise KeyError(roster.federation_id)
    return plan, plan.context()


def open_statement(statement: Statement, roster: Roster) -> Opened | None:
    """The message, if a party of this roster signed it and it belongs to this roster; None for anything else."""
    try:
        name = dec(statement.message[1:])[:1] if statement.message[:1] == bytes([VERSION]) else ()
        kind = _TYPES[str(name[0])]
        message: SignedMessage = kind.from_bytes(statement.message)
        plan, ctx = _plan_of(statement.plan, roster) if statement.plan else (None, None)
        form = _FORMS[kind]
        signer = form.signer(message)
        key = roster.coordinator_key if signer == COORDINATOR else roster.site(signer).public_key
    except (MessageFormatError, KeyError, IndexError):
        return None
    if len(statement.binding) != form.parts or form.context(message, statement) != ctx:
        return None
    if not form.names_roster(message, roster) or not message.is_signed_by(key, form.binding(statement, roster)):
        return None
    return Opened(message, signer, statement.binding, plan)


# ------------------------------------------------------------------ what no honest party signs


def _differ(opened: tuple[Opened, ...], _: Roster) -> bool:
    return opened[0].content != opened[1].content


def _in_context(one: Opened) -> tuple[Item, ...]:
    return (one.binding[0],)


@dataclass(frozen=True)
class Rule:
    """One thing that no honest party does.

    Args:
        code: of `privacy.errors`.
        also: another code that a site may have refused it with.
        types: of the message, or of both messages.
        words: what was done, for "X ... in run R, round N, attempt A".
        reason: why an honest party never does it.
        topic: what a statement is about; both must be about the same.
        breaks: whether statements about the same thing contradict each other.
    """

    code: str
    types: tuple[type[SignedMessage], ...]
    words: str
    reason: str
    topic: Callable[[Opened], tuple[Item, ...]] = _in_context
    breaks: Callable[[tuple[Opened, ...], Roster], bool] = _differ
    also: str = ""


def _run(one: Opened) -> tuple[Item, ...]:
    stated = one.message.manifest if isinstance(one.message, SignedManifest) else one.message.plan
    return (str(stated.run_id),)


def _attempt(one: Opened) -> tuple[Item, ...]:
    plan = one.message.plan
    return plan.run_id, plan.round, plan.attempt


def _breaks_manifest(opened: tuple[Opened, ...], roster: Roster) -> bool:
    """Another manifest under the run's name, or sizes that `check_plan` of the release in the manifest refuses."""
    manifest, plan = opened[0].message.manifest, opened[1].message
    if plan.plan.manifest_hash != manifest.hash():
        return True
    if manifest.release != release_hash():
        return False  # another release may have had other rules
    try:
        check_plan(plan.to_bytes(), roster=roster, manifest=manifest, last=None)
    except FaultyCoordinatorError:
        return True
    return False


def _both_kinds(opened: tuple[Opened, ...], _: Roster) -> bool:
    seeds, keys = ([{dealt.dealer for dealt in shares} for shares in kind] for kind in (
        [one.message.self_mask_shares for one in opened], [one.message.mask_key_shares for one in opened]))
    return bool(seeds[0] & keys[1] or seeds[1] & keys[0])


_ONE_ANNOUNCED = "its ledger books each (round, attempt) once, before it announces keys; a restart does not repeat one"
_ONCE = (f"it answers this step once for each announcement, from memory that does not outlive the process, and "
         f"{_ONE_ANNOUNCED}")

RULES: dict[str, Rule] = {  # the first that holds is used, so the graver comes first
    "two-manifests": Rule(
        "P_RUN_ID", (SignedManifest, SignedManifest), "signed two different manifests for one run",
        "its register gives a run's name to one manifest for good; a changed manifest gets a new name", _run),
    "two-plans": Rule(
        "E_REPLAY", (SignedPlan, SignedPlan), "signed two different plans for one attempt at a round",
        "a run has one folder and one process, and its journal counts the attempt, on disk, before a plan is signed",
        _attempt),
    "two-results": Rule(
        "E_RESULT_MISMATCH", (SignedResult, SignedResult), "signed two different results of one round",
        "the signed result is in its checkpoint, on disk, before any site sees it; a restart sends the same one",
        lambda one: (one.message.result.run_id, one.message.result.round)),
    "plan-breaks-manifest": Rule(
        "E_MANIFEST", (SignedManifest, SignedPlan), "signed a plan that breaks its own manifest",
        "sizes, ring, stage and names of a plan are computed from the manifest", _run, _breaks_manifest, "E_PARAMS"),
    "weak-key": Rule(
        "E_WEAK_KEY", (Advertise,), "announced a key that gives everybody the same secret",
        "a key made from random bytes is never one of the few weak points of the curve",
        breaks=lambda opened, _: not is_usable(opened[0].message, opened[0].message.suite)),
    "two-announcements": Rule(
        "E_TWO_MESSAGES", (Advertise, Advertise), "announced two different pairs of keys", _ONE_ANNOUNCED),
    "two-seeds": Rule(
        "E_ENVELOPES", (Envelope, Envelope), "dealt shares of two different mask seeds",
        f"all its envelopes commit to one seed; {_ONCE}",
        breaks=lambda opened, _: len({one.message.self_mask_commitment for one in opened}) > 1),
    "two-envelopes": Rule(
        "E_TWO_MESSAGES", (Envelope, Envelope), "sealed two different envelopes for one recipient", _ONCE,
        lambda one: (one.binding[0], one.message.recipient)),
    "two-uploads": Rule(
        "E_TWO_MESSAGES", (MaskedHeader, MaskedHeader), "signed two different masked uploads", _ONCE),
    "two-confirmations": Rule(
        "E_TWO_MESSAGES", (Confirm, Confirm), "confirmed two different lists of survivors", _ONCE),
    "both-shares": Rule(
        "E_TWO_MESSAGES", (UnmaskShares, UnmaskShares), "revealed both kinds of shares of one dealer", _ONCE,
        breaks=_both_kinds),
    "two-unmaskings": Rule(
        "E_TWO_MESSAGES", (UnmaskShares, UnmaskShares), "revealed two different sets of shares", _ONCE),
    "two-attestations": Rule(
        "E_TWO_MESSAGES", (Attest, Attest), "attested two different results of one round",
        "it keeps one result of a round, on disk, before its attestation leaves, and refuses another"),
    "two-ledger-marks": Rule(
        "E_LEDGER_FORK", (LedgerMark, LedgerMark), "stated two different heads for one row of its ledger",
        "rows are only appended, and only a training that peers admitted appends; they find an older copy before that",
        lambda one: (one.message.sequence,), lambda opened, _: opened[0].message.head != opened[1].message.head),
}


def contradiction(statements: Iterable[Statement], roster: Roster) -> Evidence | None:
    """The gravest thing that one statement or two prove about their signer; None when they prove nothing."""
    given = tuple(sorted(statements, key=lambda statement: statement.to_bytes()))
    opened = tuple(open_statement(statement, roster) for statement in given)
    for kind, rule in RULES.items():
        for ordered in (given, given[::-1]):  # two types come in one order, two of one type in the order of bytes
            first = opened[given.index(ordered[0])]
            if first is not None and type(first.message) is rule.types[0]:
                evidence = Evidence(kind, rule.code, first.signer, ordered)
                if proves(evidence, roster):
                    return evidence
    return None


def proves(evidence: Evidence, roster: Roster) -> bool:
    """Whether the blamed party of this roster signed what no honest party signs."""
    return _opened(evidence, roster) is not None


def _opened(evidence: Evidence, roster: Roster) -> tuple[Opened, ...] | None:
    rule = RULES.get(evidence.kind)
    if rule is None or rule.code != evidence.code:
        return None
    opened = tuple(one for one in (open_statement(each, roster) for each in evidence.statements) if one is not None)
    if tuple(type(one.message) for one in opened) != rule.types or len(opened) != len(evidence.statements):
        return None
    if any(one.signer != evidence.blamed for one in opened) or len({rule.topic(one) for one in opened}) != 1:
        return None
    return opened if rule.breaks(opened, roster) else None


def is_guilty(opened: Opened, roster: Roster) -> bool:
    """Whether this message alone is something that no honest party signs."""
    return any(rule.types == (type(opened.message),) and rule.breaks((opened,), roster) for rule in RULES.values())


def topics(opened: Opened) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Keys (32 bytes each) to keep a statement under, and keys of the statements that it could contradict."""
    own, others = [], []
    for rule in RULES.values():
        if len(rule.types) == 2 and type(opened.message) in rule.types:
            first = type(opened.message) is rule.types[0]
            other = rule.types[1] if first else rule.types[0]
            topic = (opened.signer, *rule.topic(opened))
            own.append(digest("statement", type(opened.message).__name__, *topic))
            others.append(digest("statement", other.__name__, *topic))
    return tuple(dict.fromkeys(own)), tuple(dict.fromkeys(others))


def describe(evidence: Evidence, roster: Roster) -> str:
    """One plain sentence: who signed what, and in which round; or that this is no proof with this roster."""
    opened = _opened(evidence, roster)
    if opened is None:
        return ("This is no proof: a signature does not hold with this roster, or an honest party could have signed "
                "it all.")
    last = opened[-1]
    who = "The coordinator" if evidence.blamed == COORDINATOR else evidence.blamed
    return f"{who} {RULES[evidence.kind].words}{_where(last)}{_differences(opened)}."


def _where(one: Opened) -> str:
    plan = one.plan or (one.message.plan if isinstance(one.message, SignedPlan) else None)
    if plan is not None:
        return f", in run {plan.run_id}, round {plan.round}, attempt {plan.attempt}"
    if isinstance(one.message, SignedManifest):
        return f", named {one.message.manifest.run_id}"
    return f", number {one.message.sequence}" if isinstance(one.message, LedgerMark) else ""


def _differences(opened: tuple[Opened, ...]) -> str:
    """Which fields of two messages of one type are not the same."""
    if len(opened) < 2 or type(opened[0].message) is not type(opened[1].message):
        return ""
    first, other = (getattr(one.message, "plan", getattr(one.message, "manifest", one.message)) for one in opened)
    names = [field.name for field in fields(first) if field.name != "signature"
             and getattr(first, field.name) != getattr(other, field.name)]
    if opened[0].binding != opened[1].binding:
        names.append("the list it answers to")
    return f"; they differ in {', '.join(names)}"
