"""A site's side of one attempt at one round: bytes in, bytes out, secrets in between.

*Guarantees.* At most one masked vector leaves, after `on_masking` returned; shares are revealed at most once,
after `on_unmasking` returned, for one survivor list that a quorum signed, and never both kinds of one dealer.
Nothing leaves after a refused message: the first refusal wipes the secrets. Identical bytes get the identical
reply, so at-least-once delivery is safe.

*Assumes.* The plan came from `check_plan`; the vector is clipped and noised; the hooks write durably or
raise; the random source is fresh for every attempt. Up to c <= 2t - n - 1 sites may collude with the
coordinator.

*Does not cover.* The vector's own privacy, a wrong sum (the coordinator may falsify it), denial of service.
Python cannot promise that dropped secrets are erased from memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from privacy.errors import FaultyCoordinatorError
from privacy.identity import Roster, SigningKey
from privacy.messages import (
    Advertise,
    Confirm,
    DealtShare,
    Envelope,
    EnvelopeList,
    ErrorReply,
    LedgerMark,
    MaskedHeader,
    Plan,
    RunManifest,
    SignedPlan,
    UnmaskShares,
)
from privacy.results import RoundView
from privacy.secagg import checks
from privacy.secagg.cohort import Cohort
from privacy.secagg.keys import (
    Agreement,
    RandomSource,
    SealError,
    commit,
    matches,
    open_sealed,
    pair_mask_key,
    seal,
    self_mask_key,
)
from privacy.secagg.masking import apply_masks
from privacy.secagg.quantize import QuantizedVector, pack
from privacy.secagg.shamir import SHARE_BYTES, Share, split

__all__ = ["SiteRound"]

T = TypeVar("T")


def _no_record() -> None:
    """The default hook: nothing is recorded, as in a simulation that keeps no ledger."""


def _no_notes(_: Iterable[LedgerMark]) -> None:
    """The default hook: peers' ledgers are not followed."""


@dataclass(frozen=True, repr=False)
class _Reply:
    header: bytes
    vector: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))


class SiteRound:
    """One (run, round, attempt) at one site. States: idle, advertised, shared, masked, confirmed, done; or
    aborted.

    Args:
        site_id, signing_key: this site, as on the roster.
        roster: as pinned.
        manifest: as approved.
        entropy: fresh secrets for this attempt.
        on_masking: called once, before the masked vector exists; must record the round as spent, or raise. Returns
            how far the ledger is then; None = the site keeps none.
        on_unmasking: called once, before any share is revealed; may raise.
        on_marks: called before a share is dealt and before a survivor list is confirmed, with the checked marks of
            the ledgers of all who are on the list; must keep them durably, or raise.

    Raises:
        ValueError: the site or its key is not on the roster and in the manifest.
    """

    def __init__(
        self,
        *,
        site_id: str,
        signing_key: SigningKey,
        roster: Roster,
        manifest: RunManifest,
        entropy: RandomSource,
        on_masking: Callable[[], LedgerMark | None] = _no_record,
        on_unmasking: Callable[[], None] = _no_record,
        on_marks: Callable[[Iterable[LedgerMark]], None] = _no_notes,
    ) -> None:
        if site_id not in roster.site_ids or site_id not in manifest.site_ids:
            raise ValueError("this site is not on the roster and in the manifest; check its site_id")
        if roster.site(site_id).public_key != signing_key.public_bytes():
            raise ValueError("this site's signing key is not the one on the roster; re-enrol the site")
        self._id, self._signing_key, self._roster, self._manifest = site_id, signing_key, roster, manifest
        self._entropy = entropy
        self.on_masking, self.on_unmasking, self.on_marks = on_masking, on_unmasking, on_marks
        self._complaints: tuple[ErrorReply, ...] = ()
        self._state = "idle"
        self._forget()

    def _forget(self) -> None:
        self._plan: Plan | None = None
        self._advert: Advertise | None = None
        self._cohort: Cohort | None = None
        self._h2 = self._h3 = b""
        self._survivors: frozenset[str] = frozenset()
        self._answered: tuple[bytes, _Reply] | None = None
        self._dealt: dict[str, tuple[bytes, bytes]] = {}  # dealer -> (b-share, key share) for this site
        self._dealers: frozenset[str] = frozenset()
        self._forget_own()

    def _forget_own(self) -> None:
        self._channel_pair: Agreement | None = None
        self._mask_pair: Agreement | None = None
        self._seed: bytes | None = None
        self._vector: QuantizedVector | None = None

    @property
    def state(self) -> str:
        """The current state's name."""
        return self._state

    @property
    def complaints(self) -> tuple[ErrorReply, ...]:
        """Dealers whose shares this site could not use; the same list is in its masked header."""
        return self._complaints

    @property
    def view(self) -> RoundView:
        """What this site saw of the attempt so far; public, and to be kept. Raises E_STAGE before the plan."""
        ctx = _held(self._plan).context()
        if self._cohort is None:
            return RoundView(ctx)
        ids, survivors = self._cohort.ids, tuple(sorted(self._survivors))
        return RoundView(ctx, self._cohort.h1, self._h2, self._h3, len(ids), survivors)

    @staticmethod
    def check_plan(
        signed_plan: bytes, *, roster: Roster, manifest: RunManifest, last: tuple[int, int] | None
    ) -> Plan:
        """See `privacy.secagg.checks.check_plan`."""
        return checks.check_plan(signed_plan, roster=roster, manifest=manifest, last=last)

    @staticmethod
    def run_of(signed_plan: bytes) -> str:
        """The run that a plan names, before any check of it. Raises FaultyCoordinatorError E_FORMAT."""
        return checks.received(SignedPlan, signed_plan).plan.run_id

    def abort(self) -> None:
        """Wipe every secret. The caller's vector stays as it is unless it was already masked."""
        self._forget()
        self._state = "aborted"

    def advertise(self, plan: Plan, vector: QuantizedVector, mark: LedgerMark | None = None) -> bytes:
        """R0: announce two fresh keys and the ledger's mark. From here on this object owns `vector`, and masking
        overwrites it.

        Args:
            plan: as returned by `check_plan`.
            vector: d = plan.dimension coordinates in the plan's ring.
            mark: how far this site's ledger is, with this round in it; None = it keeps none.

        Raises:
            ValueError: the vector does not fit the plan.
            FaultyCoordinatorError: E_STAGE.
        """
        ring = vector.ring
        ours = (vector.values.size, ring.bits, ring.scale, ring.saturation)
        if ours != (plan.dimension, plan.bits, plan.scale, plan.saturation):
            raise ValueError("the vector does not fit the plan; quantise it with the plan's ring and size")
        if ring.max_summands < len(self._roster.sites):
            raise ValueError("the vector's ring is for fewer sites than the roster has; use ring_params")
        known = mark or LedgerMark.empty(self._id, self._roster.federation_id, self._signing_key)
        work = partial(self._announce, plan, vector, known)
        return self._step("idle", "advertised", plan.to_bytes(), work).header

    def share(self, advertise_list: bytes) -> bytes:
        """R1: check U1, deal shares of both secrets. Raises ProtocolError (see `checks.open_adverts`)."""
        return self._step("advertised", "shared", advertise_list, self._deal).header

    def mask(self, envelope_list: bytes) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """R2: check U2, open the envelopes, mask. Returns header and packed vector, uint8[d * bits / 8].

        Raises ProtocolError (see `checks.open_envelopes`), or what `on_masking` raises.
        """
        reply = self._step("shared", "masked", envelope_list, self._mask)
        return reply.header, reply.vector

    def confirm(self, masked_list: bytes) -> bytes:
        """R3: check U3, sign it. Raises ProtocolError (see `checks.open_masked`)."""
        return self._step("masked", "confirmed", masked_list, self._confirm).header

    def unmask(self, confirm_list: bytes) -> bytes:
        """R4: check the quorum, reveal shares once. Raises ProtocolError (see `checks.check_quorum`)."""
        return self._step("confirmed", "done", confirm_list, self._unmask).header

    def _step(self, before: str, after: str, request: bytes, work: Callable[[bytes], _Reply]) -> _Reply:
        """Run one transition; repeat the reply to identical bytes; wipe everything when the work is
        refused."""
        if self._state == after and self._answered is not None and self._answered[0] == request:
            return self._answered[1]
        if self._state != before:
            raise FaultyCoordinatorError("E_STAGE")
        try:
            reply = work(request)
        except BaseException:
            self.abort()
            raise
        self._state, self._answered = after, (request, reply)
        return reply

    def _announce(self, plan: Plan, vector: QuantizedVector, mark: LedgerMark, _: bytes) -> _Reply:
        self._plan, self._vector = plan, vector
        self._channel_pair, self._mask_pair = Agreement.fresh(self._entropy), Agreement.fresh(self._entropy)
        self._advert = Advertise.signed(
            self._signing_key,
            (plan.context(),),
            site_id=self._id,
            channel_key=self._channel_pair.public_bytes(),
            mask_key=self._mask_pair.public_bytes(),
            mark=mark,
        )
        return _Reply(self._advert.to_bytes())

    def _deal(self, message: bytes) -> _Reply:
        self._cohort = cohort = checks.open_adverts(
            message,
            ctx=_held(self._plan).context(),
            roster=self._roster,
            manifest=self._manifest,
            own=_held(self._advert),
        )
        self.on_marks([advert.mark for advert in cohort.adverts.values()])
        self._seed = self._entropy.random_bytes(32)
        n = len(cohort.ids)
        seed_shares = split(self._seed, cohort.threshold, n, self._entropy)
        key_shares = split(_held(self._mask_pair).private_bytes(), cohort.threshold, n, self._entropy)
        dealt = zip(cohort.ids, seed_shares, key_shares, strict=True)
        return _Reply(EnvelopeList(tuple(self._envelope(*shares) for shares in dealt)).to_bytes())

    def _envelope(self, recipient: str, seed_share: Share, key_share: Share) -> Envelope:
        cohort = _held(self._cohort)
        channel = cohort.channel(self._id, recipient)
        first, second = seed_share.to_bytes(), key_share.to_bytes()
        peer = cohort.adverts[recipient].channel_key
        return Envelope.signed(
            self._signing_key,
            (cohort.ctx, cohort.h1),
            sender=self._id,
            recipient=recipient,
            self_mask_commitment=commit("seed", cohort.channel(self._id, self._id), _held(self._seed)),
            self_mask_share_commitment=commit("seed-share", channel, first),
            mask_key_share_commitment=commit("key-share", channel, second),
            ciphertext=seal(_held(self._channel_pair), peer, channel, first + second),
        )

    def _mask(self, message: bytes) -> _Reply:
        cohort, plan = _held(self._cohort), _held(self._plan)
        envelopes = checks.open_envelopes(message, cohort=cohort, own_id=self._id)
        self._dealers = frozenset(envelopes)
        self._open_all(envelopes)
        self._h2 = cohort.h2(self._dealers)
        add, subtract = self._mask_keys()
        values = _held(self._vector).values
        self._forget_own()
        mark = self.on_masking()
        apply_masks(values, add, subtract)
        packed = pack(values, plan.bits)
        header = MaskedHeader.signed(
            self._signing_key,
            (cohort.ctx, self._h2),
            site_id=self._id,
            upload_hash=hashlib.sha256(packed.data).digest(),
            complaints=self._complaints,
            mark=mark,
        )
        return _Reply(header.to_bytes(), packed)

    def _open_all(self, envelopes: Mapping[str, Envelope]) -> None:
        """Keep the usable shares. A faulty dealer is named, not waited for: its peers may hold enough good
        shares."""
        complaints = []
        for dealer, envelope in sorted(envelopes.items()):
            try:
                self._dealt[dealer] = self._open(envelope)
            except SealError:
                complaints.append(ErrorReply("E_SHARE_DECRYPT", dealer))
            except ValueError:
                complaints.append(ErrorReply("E_SHARE_COMMIT", dealer))
        self._complaints = tuple(complaints)

    def _open(self, envelope: Envelope) -> tuple[bytes, bytes]:
        cohort = _held(self._cohort)
        channel = cohort.channel(envelope.sender, self._id)
        peer = cohort.adverts[envelope.sender].channel_key
        both = open_sealed(_held(self._channel_pair), peer, channel, envelope.ciphertext)
        first, second = both[:SHARE_BYTES], both[SHARE_BYTES:]
        index = cohort.index(self._id)
        for share, kind, commitment in (
            (first, "seed-share", envelope.self_mask_share_commitment),
            (second, "key-share", envelope.mask_key_share_commitment),
        ):
            Share.from_bytes(index, share)
            if not matches(commit(kind, channel, share), commitment):
                raise ValueError("a share does not match its commitment; name its dealer")
        return first, second

    def _mask_keys(self) -> tuple[list[bytes], list[bytes]]:
        """Keys to add and to subtract: our own mask is added; of a pair, the lower identifier adds."""
        cohort, pair = _held(self._cohort), _held(self._mask_pair)
        add = [self_mask_key(_held(self._seed), cohort.ctx, self._h2, self._id)]
        subtract: list[bytes] = []
        for peer in sorted(self._dealers - {self._id}):
            key = pair_mask_key(pair, cohort.adverts[peer].mask_key, cohort.ctx, self._h2, self._id, peer)
            (add if self._id < peer else subtract).append(key)
        return add, subtract

    def _confirm(self, message: bytes) -> _Reply:
        cohort = _held(self._cohort)
        headers = checks.open_masked(
            message, cohort=cohort, dealers=self._dealers, h2=self._h2, own_id=self._id
        )
        self.on_marks([header.mark for header in headers.values() if header.mark is not None])
        self._survivors = frozenset(headers)
        self._h3 = cohort.h3(self._h2, headers)
        confirm = Confirm.signed(self._signing_key, (cohort.ctx, self._h3), site_id=self._id)
        return _Reply(confirm.to_bytes())

    def _unmask(self, message: bytes) -> _Reply:
        cohort = _held(self._cohort)
        checks.check_quorum(message, cohort=cohort, survivors=self._survivors, h3=self._h3)
        self.on_unmasking()
        own, keys = self._reveal()
        self._dealt = {}
        shares = UnmaskShares.signed(
            self._signing_key,
            (cohort.ctx, self._h3),
            site_id=self._id,
            self_mask_shares=own,
            mask_key_shares=keys,
        )
        return _Reply(shares.to_bytes())

    def _reveal(self) -> tuple[tuple[DealtShare, ...], tuple[DealtShare, ...]]:
        """b-shares of survivors and key shares of the dropped: one kind a dealer, by membership in U3
        alone."""
        own, keys = [], []
        for dealer in sorted(self._dealt):
            seed_share, key_share = self._dealt[dealer]
            if dealer in self._survivors:
                own.append(DealtShare(dealer, seed_share))
            else:
                keys.append(DealtShare(dealer, key_share))
        return tuple(own), tuple(keys)


def _held(value: T | None) -> T:
    """What an earlier step left; absent only if steps were taken out of order."""
    if value is None:
        raise FaultyCoordinatorError("E_STAGE")
    return value
