"""The coordinator's side of one attempt at one round: it relays keys and shares, and learns one sum.

*Guarantees.* A masked vector is added to the running sum when it arrives and is not kept. A faulty message
raises `FaultySiteError` with its sender's name and changes nothing, so the round goes on without it. Below
the floor or the threshold no sum is produced.

*Assumes.* The transport says which site a message came from; every signature is checked against the roster
anyway.

*Does not cover.* Sites do not trust any of this: what protects them is in `privacy.secagg.client` and
`checks`. The sum is as right as its inputs; a site may upload anything within its ring.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from privacy.errors import CohortTooSmallError, FaultySiteError, LateMessageError, MessageFormatError
from privacy.evidence import Evidence, Statement, contradiction
from privacy.identity import Roster, SigningKey
from privacy.manifest import Suite
from privacy.messages import (
    Advertise,
    AdvertiseList,
    Confirm,
    ConfirmList,
    Envelope,
    EnvelopeList,
    ErrorReply,
    MaskedHeader,
    MaskedList,
    Plan,
    SignedMessage,
    SignedPlan,
    UnmaskShares,
)
from privacy.results import RoundView
from privacy.secagg.cohort import Cohort
from privacy.secagg.hybrid import is_usable, key_parts
from privacy.secagg.params import RingParams
from privacy.secagg.quantize import fold, packed_size
from privacy.secagg.recovery import Recovery
from privacy.secagg.tags import LANE_BYTES, add_tags, tags_from_bytes, tags_to_bytes
from privacy.wire import Message

__all__ = ["STEPS", "CoordinatorRound"]

STEPS = ("advertise", "share", "masked", "confirm", "unmask", "done")
M = TypeVar("M", bound=Message)


def _not_kept(_: Evidence) -> None:
    """The default hook: evidence stays in memory, as in a simulation that keeps no folder."""


class CoordinatorRound:
    """One (run, round, attempt) at the coordinator; steps in the order of `STEPS`.

    Every `receive_*` takes the sender and its bytes, ignores an identical redelivery, and raises
    FaultySiteError: the message is wrong; it was not counted and the round goes on. LateMessageError: its
    step is already closed; nothing was counted and nobody is at fault. Every `close_*` ends a step, returns
    the next message for each site that is still in, and raises CohortTooSmallError: too few sites answered;
    the step stays open, so the caller may wait and close again. ValueError: another step is open.

    Args:
        plan, roster: of this round.
        signing_key: the coordinator's, as on the roster.
        suite, integrity_tags: as in the manifest.
        ring: of distributed noise (`privacy.secagg.rings`); None = the plan's own, which cannot wrap.
        fewest: sites that the run's noise needs in a sum (`privacy.aggregation.fewest_survivors`).
        on_evidence: called with evidence against a site, before the fault is raised; must keep it durably, or raise.

    Raises:
        ValueError: the key or the roster is another one, or the plan's ring could wrap.
    """

    def __init__(
        self, *, plan: Plan, roster: Roster, signing_key: SigningKey, suite: Suite = "x25519",
        integrity_tags: int = 0, on_evidence: Callable[[Evidence], None] = _not_kept, ring: RingParams | None = None,
        fewest: int = 0,
    ) -> None:
        if signing_key.public_bytes() != roster.coordinator_key or plan.roster_hash != roster.hash():
            raise ValueError("the plan and the signing key must belong to the roster; rebuild the plan")
        ring = ring or RingParams(plan.bits, plan.scale, plan.saturation, len(roster.sites))
        if (ring.bits, ring.scale) != (plan.bits, plan.scale):
            raise ValueError("the ring is not the plan's; make both from one manifest")
        self._fewest = fewest
        self._plan, self._roster, self._ctx = plan, roster, plan.context()
        self._signed_plan = SignedPlan.signed(signing_key, (), plan=plan).to_bytes()
        self._step = "advertise"
        self._expected = frozenset(roster.active_ids)
        self._seen: dict[tuple[str, str], bytes] = {}  # (step, site) -> hash of what was accepted
        self._adverts: dict[str, Advertise] = {}
        self._envelopes: dict[str, dict[str, Envelope]] = {}  # dealer -> recipient -> envelope
        self._headers: dict[str, MaskedHeader] = {}
        self._confirms: dict[str, Confirm] = {}
        self._revealed: dict[str, UnmaskShares] = {}
        self._evidence: list[Evidence] = []
        self._on_evidence = on_evidence
        self._cohort: Cohort  # U1, once the first step is closed
        self._recovery: Recovery  # once U3 is fixed
        self._h2 = self._h3 = b""
        self._total = np.zeros(plan.dimension, dtype=np.uint32)
        self._suite = suite
        self._tags = [0] * integrity_tags

    @property
    def step(self) -> str:
        """The open step, one of `STEPS`."""
        return self._step

    @property
    def waiting(self) -> tuple[str, ...]:
        """Sites whose message of the open step has not been accepted yet."""
        return tuple(sorted(site for site in self._expected if (self._step, site) not in self._seen))

    @property
    def survivors(self) -> tuple[str, ...]:
        """The sites whose vectors are in the sum (U3, once the masked step is closed)."""
        return tuple(sorted(self._headers))

    @property
    def view(self) -> RoundView:
        """What the attempt agreed on; its survivor hash is empty until the masked step is closed."""
        return RoundView(self._ctx, self._cohort.h1, self._h2, self._h3, len(self._cohort.ids), self.survivors)

    @property
    def complaints(self) -> tuple[tuple[str, ErrorReply], ...]:
        """(who complains, about whom and why): bad shares found at the sites. Each is one site's word."""
        return tuple((site, reply) for site in self.survivors for reply in self._headers[site].complaints)

    @property
    def cohort(self) -> Cohort:
        """U1; an AttributeError before the first step is closed."""
        return self._cohort

    @property
    def h2(self) -> bytes:
        """The hash of U2; empty before the second step is closed."""
        return self._h2

    @property
    def h3(self) -> bytes:
        """The hash of U3; empty before the third step is closed."""
        return self._h3

    @property
    def tags(self) -> tuple[bytes, ...]:
        """The sums' integrity tags, 8 bytes each: what `SiteRound.verify_sum` takes. Still masked before `finish`."""
        return tags_to_bytes(self._tags)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Statements of one site that contradict each other, or that no honest site makes; both are whole."""
        return tuple(self._evidence)

    def signed_plan(self) -> bytes:
        """R0: the plan, for every invited site."""
        return self._signed_plan

    def receive_advertise(self, site_id: str, message: bytes) -> None:
        """R0 reply. Faults: E_FORMAT, E_SITE_SIG, E_WEAK_KEY, E_DUP_KEY, E_TWO_MESSAGES, E_STAGE."""
        if not self._is_new("advertise", site_id, message):
            return
        advert = _parsed(Advertise, site_id, message)
        key = self._roster.site(site_id).public_key
        _require(advert.site_id == site_id and advert.is_signed_by(key, (self._ctx,)), "E_SITE_SIG", site_id)
        _require(advert.mark.is_signed_for(self._roster), "E_SITE_SIG", site_id)
        if not is_usable(advert, self._suite):
            self._prove("advertise", [(advert,)])
            raise FaultySiteError("E_WEAK_KEY", site_id)
        own = key_parts(advert)
        taken = {part for other in self._adverts.values() for part in key_parts(other)}
        _require(len(set(own)) == len(own) and taken.isdisjoint(own), "E_DUP_KEY", site_id)
        self._adverts[site_id] = advert
        self._accept("advertise", site_id, message)

    def close_advertise(self) -> dict[str, bytes]:
        """Fix U1; the list of all key announcements, for each of its sites."""
        self._must_be_open("advertise")
        _must_reach(len(self._adverts), max(self._roster.floor(len(self._adverts)), self._fewest))
        self._cohort = Cohort(self._ctx, self._roster, self._adverts, self._fewest)
        message = AdvertiseList(tuple(self._cohort.adverts.values())).to_bytes()
        return self._open("share", dict.fromkeys(self._cohort.ids, message))

    def receive_share(self, site_id: str, message: bytes) -> None:
        """R1 reply. Faults: E_FORMAT, E_ENVELOPES, E_SITE_SIG, E_TWO_MESSAGES, E_STAGE."""
        if not self._is_new("share", site_id, message):
            return
        entries = _parsed(EnvelopeList, site_id, message).entries
        recipients = tuple(sorted(envelope.recipient for envelope in entries))
        same = {(envelope.self_mask_commitment, envelope.tag_commitment) for envelope in entries}
        if len(same) > 1:
            self._prove("share", [(entries[0], other) for other in entries])
        _require(recipients == self._cohort.ids and len(same) == 1, "E_ENVELOPES", site_id)
        key = self._cohort.signing_key(site_id)
        for envelope in entries:
            signed = envelope.is_signed_by(key, (self._ctx, self._cohort.h1))
            _require(envelope.sender == site_id and signed, "E_SITE_SIG", site_id)
            _require(envelope.fits(self._suite, tagged=bool(self._tags)), "E_ENVELOPES", site_id)
        self._envelopes[site_id] = {envelope.recipient: envelope for envelope in entries}
        self._accept("share", site_id, message)

    def close_share(self) -> dict[str, bytes]:
        """Fix U2; the envelopes addressed to it, for each of its sites."""
        self._must_be_open("share")
        _must_reach(len(self._envelopes), self._cohort.floor)
        self._h2 = self._cohort.h2(self._envelopes)
        dealers = sorted(self._envelopes)
        addressed = {site: tuple(self._envelopes[dealer][site] for dealer in dealers) for site in dealers}
        return self._open("masked", {site: EnvelopeList(addressed[site]).to_bytes() for site in dealers})

    def receive_masked(self, site_id: str, header: bytes, packed: npt.NDArray[np.uint8]) -> None:
        """R2 reply: fold the packed vector, uint8[d * bits / 8], and the 8 bytes a tag behind it, into the sums.

        Faults: E_FORMAT, E_SITE_SIG, E_UPLOAD, E_TWO_MESSAGES, E_STAGE.
        """
        if not self._is_new("masked", site_id, header):
            return
        head = _parsed(MaskedHeader, site_id, header)
        key = self._cohort.signing_key(site_id)
        signed = head.site_id == site_id and head.is_signed_by(key, (self._ctx, self._h2))
        _require(signed, "E_SITE_SIG", site_id)
        _require(head.mark is None or head.mark.is_signed_for(self._roster), "E_SITE_SIG", site_id)
        _require({c.blamed for c in head.complaints} <= self._envelopes.keys(), "E_FORMAT", site_id)
        size = packed_size(self._plan.dimension, self._plan.bits)
        shape = (size + LANE_BYTES * len(self._tags),)
        sized = packed.dtype == np.uint8 and packed.shape == shape and packed.flags.c_contiguous
        _require(sized and hashlib.sha256(packed.data).digest() == head.upload_hash, "E_UPLOAD", site_id)
        fold(self._total, packed[:size], self._plan.bits)
        add_tags(self._tags, tags_from_bytes(packed[size:].tobytes()))
        self._headers[site_id] = head
        self._accept("masked", site_id, header)

    def close_masked(self) -> dict[str, bytes]:
        """Fix U3; the list of survivors with their upload hashes, for each of them."""
        self._must_be_open("masked")
        _must_reach(len(self._headers), self._cohort.floor)
        self._h3 = self._cohort.h3(self._h2, self._headers)
        self._recovery = Recovery(self._cohort, self._envelopes, self._headers, self._h2)
        message = MaskedList(tuple(self._headers[site] for site in self.survivors)).to_bytes()
        return self._open("confirm", dict.fromkeys(self.survivors, message))

    def receive_confirm(self, site_id: str, message: bytes) -> None:
        """R3 reply. Faults: E_FORMAT, E_SITE_SIG, E_TWO_MESSAGES, E_STAGE."""
        if not self._is_new("confirm", site_id, message):
            return
        confirm = _parsed(Confirm, site_id, message)
        key = self._cohort.signing_key(site_id)
        signed = confirm.site_id == site_id and confirm.is_signed_by(key, (self._ctx, self._h3))
        _require(signed, "E_SITE_SIG", site_id)
        self._confirms[site_id] = confirm
        self._accept("confirm", site_id, message)

    def close_confirm(self) -> dict[str, bytes]:
        """The confirmations, for each site that gave one; at least t of them."""
        self._must_be_open("confirm")
        _must_reach(len(self._confirms), self._cohort.threshold)
        message = ConfirmList(tuple(self._confirms[site] for site in sorted(self._confirms))).to_bytes()
        return self._open("unmask", dict.fromkeys(sorted(self._confirms), message))

    def receive_unmask(self, site_id: str, message: bytes) -> None:
        """R4 reply. Faults: E_FORMAT, E_SITE_SIG, E_UNMASK_SHARES, E_TWO_MESSAGES, E_STAGE."""
        if not self._is_new("unmask", site_id, message):
            return
        shares = _parsed(UnmaskShares, site_id, message)
        key = self._cohort.signing_key(site_id)
        signed = shares.site_id == site_id and shares.is_signed_by(key, (self._ctx, self._h3))
        _require(signed, "E_SITE_SIG", site_id)
        self._recovery.add(shares)
        self._revealed[site_id] = shares
        self._accept("unmask", site_id, message)

    def finish(self) -> npt.NDArray[np.uint32]:
        """The survivors' ring sum, uint32[d] below 2^bits. Once.

        Raises:
            CohortTooSmallError: fewer than t sites revealed good shares; the step stays open.
            FaultySiteError: E_DEALER; the round is lost, and the named site dealt shares that do not fit.
        """
        self._must_be_open("unmask")
        _must_reach(len(self._expected) - len(self.waiting), self._cohort.threshold)
        self._recovery.unmask(self._total, self._tags)
        total = self._total
        total &= np.uint32((1 << self._plan.bits) - 1)
        self._total = np.zeros(0, dtype=np.uint32)
        self._open("done", {})
        return total

    def _is_new(self, step: str, site_id: str, message: bytes) -> bool:
        """Whether to look at a message; False for an identical redelivery."""
        seen = self._seen.get((step, site_id))
        if seen is not None:
            if seen != hashlib.sha256(message).digest():
                self._prove(step, _pairs(self._accepted(step, site_id), _signed_in(step, message)))
                raise FaultySiteError("E_TWO_MESSAGES", site_id)
            return False
        if STEPS.index(step) < STEPS.index(self._step):
            raise LateMessageError
        _require(step == self._step and site_id in self._expected, "E_STAGE", site_id)
        return True

    def _accept(self, step: str, site_id: str, message: bytes) -> None:
        self._seen[step, site_id] = hashlib.sha256(message).digest()

    def _accepted(self, step: str, site_id: str) -> list[SignedMessage]:
        """What the site signed in a step that it has taken."""
        if step == "share":
            return list(self._envelopes[site_id].values())
        kept: dict[str, dict[str, SignedMessage]] = {
            "advertise": {**self._adverts}, "masked": {**self._headers}, "confirm": {**self._confirms},
            "unmask": {**self._revealed}}
        return [kept[step][site_id]]

    def _prove(self, step: str, candidates: Iterable[tuple[SignedMessage, ...]]) -> None:
        """Keep the first of these that is evidence: a message that no honest site signs, or two that contradict."""
        h1 = b"" if step == "advertise" else self._cohort.h1
        tail = {"advertise": (), "share": (h1,), "masked": (self._h2,), "confirm": (self._h3,), "unmask": (self._h3,)}
        for messages in candidates:
            stated = [Statement.in_round(message, (self._ctx, *tail[step]), self._plan) for message in messages]
            found = contradiction(stated, self._roster)
            if found is not None:
                if found not in self._evidence:
                    self._on_evidence(found)
                    self._evidence.append(found)
                return

    def _must_be_open(self, step: str) -> None:
        if step != self._step:
            raise ValueError(f"step {step} cannot be closed; the open step is {self._step}")

    def _open(self, step: str, outgoing: dict[str, bytes]) -> dict[str, bytes]:
        self._step, self._expected = step, frozenset(outgoing)
        return outgoing


def _pairs(
    kept: list[SignedMessage], given: list[SignedMessage]
) -> Iterator[tuple[SignedMessage, SignedMessage]]:
    """Two messages for one recipient where the step has recipients, and the two messages where it has none."""
    by_recipient = {getattr(message, "recipient", ""): message for message in kept}
    for message in given:
        first = by_recipient.get(getattr(message, "recipient", ""))
        if first is not None and first != message:
            yield first, message


def _signed_in(step: str, message: bytes) -> list[SignedMessage]:
    """The signed messages in a reply of that step; none when it is something else."""
    kinds: dict[str, type[SignedMessage]] = {
        "advertise": Advertise, "masked": MaskedHeader, "confirm": Confirm, "unmask": UnmaskShares}
    try:
        return list(EnvelopeList.from_bytes(message).entries) if step == "share" else [kinds[step].from_bytes(message)]
    except MessageFormatError:
        return []


def _must_reach(count: int, needed: int) -> None:
    if count < needed:
        raise CohortTooSmallError


def _parsed(kind: type[M], site_id: str, message: bytes) -> M:
    try:
        return kind.from_bytes(message)
    except MessageFormatError as error:
        raise FaultySiteError("E_FORMAT", site_id) from error


def _require(condition: bool, code: str, site_id: str) -> None:
    if not condition:
        raise FaultySiteError(code, site_id)
