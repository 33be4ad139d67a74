"""Every control message of `fedsecagg/1`, and the list of what each shows in clear.

*Guarantees.* These dataclasses, and the arrays whose hashes they carry, are all that crosses a hospital's
boundary. `CLEAR_FIELDS` names every field that travels unencrypted; none is a function of patient data or
of the draw. Every size is set by the cohort and the plan. Each signature is bound to its message type and
to the round it belongs to.

*Assumes.* Receivers check signatures with `is_signed_by`; decoding alone proves nothing about the sender.

*Does not cover.* Traffic timing, and the transport's own metadata (addresses, byte counts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from privacy.admission import Hello, HelloList, LedgerMark, Ready, RosterInForce, Witness, WitnessList
from privacy.errors import COORDINATOR, FAULTS, NOBODY, POLICY_REFUSALS, FaultyCoordinatorError, ProtocolError
from privacy.identity import Roster, SigningKey
from privacy.manifest import (
    AdaptiveClip,
    Plan,
    RunManifest,
    ServerUpdate,
    SignedPlan,
    SiteTerms,
    SourceShare,
    StageSpec,
    StopRule,
    Suite,
    Truncation,
    standard_delta,
)
from privacy.results import Attest, Result, RoundStart, SignedResult
from privacy.signed import SignedMessage
from privacy.wire import Message, check_hash, check_id, check_size

__all__ = [
    "CLEAR_FIELDS",
    "OPAQUE_FIELDS",
    "AdaptiveClip",
    "Advertise",
    "AdvertiseList",
    "Attest",
    "Confirm",
    "ConfirmList",
    "DealtShare",
    "Envelope",
    "EnvelopeList",
    "ErrorReply",
    "Hello",
    "HelloList",
    "LedgerMark",
    "MaskedHeader",
    "MaskedList",
    "PairOffer",
    "Plan",
    "Ready",
    "RosterInForce",
    "Result",
    "RoundStart",
    "RunManifest",
    "ServerUpdate",
    "SignedManifest",
    "SignedMessage",
    "SignedPlan",
    "SignedResult",
    "SiteTerms",
    "SourceShare",
    "StageSpec",
    "StopRule",
    "Truncation",
    "UnmaskShares",
    "Witness",
    "WitnessList",
    "standard_delta",
]

SHARE_BYTES = 33  # a value below 2^256 + 297
SEALED_BYTES = 2 * SHARE_BYTES + 16  # both shares and the AES-GCM tag
KEM_BYTES = 1088  # a ciphertext of ML-KEM-768 (FIPS 203, table 3)
_SUITE_OF: dict[int, Suite] = {32: "x25519", 32 + 1184: "x25519-mlkem768"}  # by the size of a public key


@dataclass(frozen=True)
class SignedManifest(SignedMessage):
    """Before a run, coordinator to site."""

    LABEL: ClassVar[str] = "manifest"
    manifest: RunManifest
    signature: bytes

    @classmethod
    def make(cls, manifest: RunManifest, key: SigningKey) -> Self:
        """Sign a manifest with the coordinator's key."""
        return cls.signed(key, (), manifest=manifest)

    @classmethod
    def open(cls, data: bytes, roster: Roster) -> RunManifest:
        """The manifest, if the pinned coordinator signed it for this roster.

        Raises:
            MessageFormatError: not a signed manifest.
            FaultyCoordinatorError: E_MANIFEST_SIG or E_ROSTER.
        """
        message = cls.from_bytes(data)
        if not message.is_signed_by(roster.coordinator_key, ()):
            raise FaultyCoordinatorError("E_MANIFEST_SIG")
        manifest = message.manifest
        if manifest.roster_hash != roster.hash() or manifest.federation_id != roster.federation_id:
            raise FaultyCoordinatorError("E_ROSTER")
        return manifest


@dataclass(frozen=True)
class Advertise(SignedMessage):
    """R0, site to all: two fresh public keys of one suite, and how far its ledger is. Bound to (ctx,).

    A key is 32 bytes of X25519, in the hybrid suite with the 1184 of an ML-KEM-768 encapsulation key after them.
    """

    LABEL: ClassVar[str] = "advertise"
    site_id: str
    channel_key: bytes
    mask_key: bytes
    mark: LedgerMark
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)
        if self.mark.site_id != self.site_id:
            raise ValueError("the mark of the ledger must be the sender's own")
        if len(self.channel_key) not in _SUITE_OF or len(self.channel_key) != len(self.mask_key):
            raise ValueError("both keys of an announcement must have the size of one suite's public keys")

    @property
    def suite(self) -> Suite:
        """The key agreement that both keys are for."""
        return _SUITE_OF[len(self.channel_key)]


@dataclass(frozen=True)
class AdvertiseList(Message):
    """R1, coordinator to site: U1."""

    entries: tuple[Advertise, ...]


@dataclass(frozen=True)
class PairOffer(Message):
    """What the lower of two sites adds to their pair mask key in the hybrid suite (`privacy.secagg.hybrid`).

    Args:
        kem_ciphertext: encapsulates a secret to the higher site's mask key, 1088 bytes.
        backup: the same secret, sealed under the lower site's own root, 48 bytes.
        commitment: 32-byte hash of the secret; both ways must lead to it.
    """

    kem_ciphertext: bytes
    backup: bytes
    commitment: bytes

    def check(self) -> None:
        check_size("a KEM ciphertext", self.kem_ciphertext, KEM_BYTES)
        check_size("a KEM secret's backup", self.backup, 32 + 16)
        check_hash("a KEM secret's commitment", self.commitment)


@dataclass(frozen=True)
class Envelope(SignedMessage):
    """R1, one dealer's two shares for one recipient, sealed. Bound to (ctx, h1).

    Args:
        sender, recipient: site identifiers; a dealer also seals an envelope to itself.
        self_mask_commitment: 32-byte hash of the dealer's b, the same in all its envelopes.
        self_mask_share_commitment, mask_key_share_commitment: 32-byte hashes of the recipient's two shares.
        ciphertext: AES-256-GCM of both shares, 82 bytes; 32 more with a contribution to the tags' key. In the
            hybrid suite the KEM's ciphertext, 1088 bytes, stands before it.
        tag_commitment: 32-byte hash of the dealer's contribution, the same in all its envelopes; empty without tags.
        pair_offer: in the hybrid suite from the lower to the higher identifier, else None.
    """

    LABEL: ClassVar[str] = "envelope"
    sender: str
    recipient: str
    self_mask_commitment: bytes
    self_mask_share_commitment: bytes
    mask_key_share_commitment: bytes
    ciphertext: bytes
    tag_commitment: bytes = b""
    pair_offer: PairOffer | None = None
    signature: bytes = b""

    def check(self) -> None:
        super().check()
        check_id("sender", self.sender)
        check_id("recipient", self.recipient)
        check_hash("self_mask_commitment", self.self_mask_commitment)
        check_hash("self_mask_share_commitment", self.self_mask_share_commitment)
        check_hash("mask_key_share_commitment", self.mask_key_share_commitment)
        if not any(self.fits(suite, tagged=tagged) for suite in _SUITE_OF.values() for tagged in (False, True)):
            raise ValueError("an envelope's parts must have the sizes of one suite, with or without tags")

    def fits(self, suite: Suite, *, tagged: bool) -> bool:
        """Whether it has the parts, each of its size, that a run of this suite with or without tags asks for."""
        hybrid = suite == "x25519-mlkem768"
        offers = hybrid and self.sender < self.recipient
        sealed = SEALED_BYTES + 32 * tagged + KEM_BYTES * hybrid
        sizes = (len(self.ciphertext), len(self.tag_commitment), self.pair_offer is not None)
        return sizes == (sealed, 32 * tagged, offers)


@dataclass(frozen=True)
class EnvelopeList(Message):
    """R1 site to coordinator: one dealer's envelopes. R2 coordinator to site: those addressed to it (U2)."""

    entries: tuple[Envelope, ...]


@dataclass(frozen=True)
class ErrorReply(Message):
    """What leaves when a step is refused: a code and the blamed party, no values."""

    code: str
    blamed: str

    def check(self) -> None:
        if self.code not in FAULTS and self.code not in POLICY_REFUSALS:
            raise ValueError("the error code is unknown; both sides must run the same release")
        if self.blamed not in (COORDINATOR, NOBODY):
            check_id("the blamed party", self.blamed)

    @classmethod
    def of(cls, error: ProtocolError) -> Self:
        """The reply that describes `error`."""
        return cls(error.code, error.blamed)


@dataclass(frozen=True)
class MaskedHeader(SignedMessage):
    """R2, site to all: the hash of its masked vector and what it found wrong with its envelopes. Bound to
    (ctx, h2).

    Args:
        site_id: of the sender.
        upload_hash: SHA-256 of the packed masked vector and the masked tags behind it.
        complaints: dealers whose shares could not be used, at most one entry a dealer.
        mark: how far its ledger is with this upload in it, so that a ledger from before the upload is known to be
            old; None = it keeps none.
    """

    LABEL: ClassVar[str] = "masked"
    site_id: str
    upload_hash: bytes
    complaints: tuple[ErrorReply, ...]
    mark: LedgerMark | None = None
    signature: bytes = b""

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)
        check_hash("upload_hash", self.upload_hash)
        if self.mark is not None and self.mark.site_id != self.site_id:
            raise ValueError("the mark of the ledger must be the sender's own")
        blamed = {complaint.blamed for complaint in self.complaints}
        codes = {complaint.code for complaint in self.complaints}
        if len(blamed) < len(self.complaints) or not codes <= {"E_SHARE_DECRYPT", "E_SHARE_COMMIT"}:
            raise ValueError("complaints must name each dealer once, with E_SHARE_DECRYPT or E_SHARE_COMMIT")


@dataclass(frozen=True)
class MaskedList(Message):
    """R3, coordinator to site: U3, the sites whose masked vectors are in the sum."""

    entries: tuple[MaskedHeader, ...]


@dataclass(frozen=True)
class Confirm(SignedMessage):
    """R3, site to all: it saw this survivor list. Bound to (ctx, h3)."""

    LABEL: ClassVar[str] = "confirm"
    site_id: str
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)


@dataclass(frozen=True)
class ConfirmList(Message):
    """R4, coordinator to site: the confirmations it holds."""

    entries: tuple[Confirm, ...]


@dataclass(frozen=True)
class DealtShare(Message):
    """One revealed share: who dealt it, and its 33 bytes."""

    dealer: str
    share: bytes

    def check(self) -> None:
        check_id("dealer", self.dealer)
        check_size("a share", self.share, SHARE_BYTES)


@dataclass(frozen=True)
class UnmaskShares(SignedMessage):
    """R4, site to coordinator: b-shares of survivors, key shares of the dropped. Bound to (ctx, h3)."""

    LABEL: ClassVar[str] = "unmask"
    site_id: str
    self_mask_shares: tuple[DealtShare, ...]
    mask_key_shares: tuple[DealtShare, ...]
    signature: bytes

    def check(self) -> None:
        super().check()
        check_id("site_id", self.site_id)
        dealers = [dealt.dealer for dealt in (*self.self_mask_shares, *self.mask_key_shares)]
        if len(set(dealers)) < len(dealers):
            raise ValueError("a dealer's shares must be revealed once, and never of both kinds")


# What travels in clear, by message. Constants are fixed before any patient is drawn (plan, manifest,
# roster, names); fresh randomness (keys, commitments, hashes of masked vectors, signatures) is independent
# of the data or computationally indistinguishable from it; liveness (who is on a list, complaints) reflects
# the network and peers. A ledger's sequence number and head (LedgerMark) count and hash rows that hold run, round,
# attempt, the manifest's constants and the time at which the plan arrived: a step is booked whether or not a patient
# was drawn in it, so neither depends on the data.
CLEAR_FIELDS: dict[str, tuple[str, ...]] = {
    "SourceShare": ("source", "max_samples"),
    "StopRule": ("patience", "min_improvement"),
    "AdaptiveClip": ("quantile", "learning_rate", "bit_noise"),
    "Truncation": ("batch_size", "most_patients"),
    "StageSpec": (
        *("name", "sources", "groups", "schedule", "learning_rate", "momentum", "local_steps"),
        *("sampling_rate", "noise_multiplier", "max_rounds", "stop"),
        *("optimizer", "clipping", "adaptive_clip", "truncation", "reply_after_s", "max_tokens"),
    ),
    "SiteTerms": ("site_id", "declared_patients", "weight", "delta"),
    "RunManifest": (
        *("federation_id", "run_id", "release", "roster_hash", "base_model_hash", "adapter_hash"),
        *("lora_rank", "lora_alpha", "privacy", "clip_norm", "target_epsilon", "lane_share"),
        *("bits", "saturation", "stages", "sites", "lora_groups", "server", "suite", "integrity_tags"),
        "distributed_noise",
    ),
    "ServerUpdate": ("learning_rate", "momentum", "average_decay", "optimizer", "second_decay"),
    "DistributedNoise": ("min_survivors", "colluders", "levels"),
    "Plan": (
        *("federation_id", "run_id", "roster_hash", "manifest_hash", "round", "attempt", "stage", "factor"),
        *("model_hash", "dimension", "num_lanes", "bits", "scale", "saturation"),
    ),
    "SignedManifest": ("manifest", "signature"),
    "LedgerMark": ("site_id", "sequence", "head", "signature"),
    "RosterInForce": ("roster_hash",),
    "Hello": ("site_id", "mark", "nonce", "signature"),
    "HelloList": ("manifest_hash", "entries"),
    "Witness": ("site_id", "subject", "marks", "signature"),
    "WitnessList": ("manifest_hash", "entries"),
    "Ready": ("site_id", "signature"),
    "SignedPlan": ("plan", "signature"),
    "Advertise": ("site_id", "channel_key", "mask_key", "mark", "signature"),
    "AdvertiseList": ("entries",),
    "Envelope": (
        *("sender", "recipient", "self_mask_commitment"),
        *("self_mask_share_commitment", "mask_key_share_commitment", "tag_commitment", "pair_offer", "signature"),
    ),
    # A KEM's ciphertext and a sealed copy of its secret, which is fresh and as random as the keys it is made from.
    "PairOffer": ("kem_ciphertext", "backup", "commitment"),
    "EnvelopeList": ("entries",),
    "ErrorReply": ("code", "blamed"),
    "MaskedHeader": ("site_id", "upload_hash", "complaints", "mark", "signature"),
    "MaskedList": ("entries",),
    "Confirm": ("site_id", "signature"),
    "ConfirmList": ("entries",),
    "DealtShare": ("dealer", "share"),  # uniform; t of them rebuild one mask seed, never both of a site
    "UnmaskShares": ("site_id", "self_mask_shares", "mask_key_shares", "signature"),
    # Of the sum over at least the floor of sites, whose every summand is clipped and noised: the hashes are
    # post-processing of it. Everything else is names, counts of participants and public randomness.
    "Result": (
        *("run_id", "round", "ctx", "h3", "announced", "survivors", "factor"),
        *("sum_hash", "model_hash", "state_hash", "finished", "tags"),
    ),
    "SignedResult": ("result", "signature"),
    "Attest": ("site_id", "signature"),
    "RoundStart": ("plan", "result", "attests"),
}

# The only other field there is: sealed between two sites.
OPAQUE_FIELDS: dict[str, tuple[str, ...]] = {"Envelope": ("ciphertext",)}
