"""What a site refuses: every check on what the coordinator sends, one pure function a message.

*Guarantees.* Each function returns only what passed all of its checks; the error code says which one did not.

*Assumes.* The roster and the manifest are the ones that the site's operator approved.

*Does not cover.* Order, redelivery and secrets (`privacy.secagg.client`), spent rounds and the model's hash,
which need the site's ledger and the model itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from privacy.aggregation import fewest_survivors
from privacy.errors import CohortTooSmallError, FaultyCoordinatorError, FaultySiteError, MessageFormatError
from privacy.identity import Roster
from privacy.manifest import FACTORS
from privacy.messages import (
    Advertise,
    AdvertiseList,
    ConfirmList,
    Envelope,
    EnvelopeList,
    MaskedHeader,
    MaskedList,
    Plan,
    RunManifest,
    SignedPlan,
)
from privacy.secagg.cohort import Cohort
from privacy.secagg.hybrid import is_usable, key_parts
from privacy.secagg.params import RingParams
from privacy.secagg.rings import ring_of
from privacy.wire import Message

__all__ = ["check_plan", "check_quorum", "open_adverts", "open_envelopes", "open_masked", "received"]

M = TypeVar("M", bound=Message)


def received(kind: type[M], data: bytes) -> M:
    """Decode what the coordinator sent. Raises FaultyCoordinatorError E_FORMAT."""
    try:
        return kind.from_bytes(data)
    except MessageFormatError as error:
        raise FaultyCoordinatorError("E_FORMAT") from error


def _refuse(condition: bool, code: str) -> None:
    if condition:
        raise FaultyCoordinatorError(code)


def _refuse_duplicates(sites: Iterable[str]) -> None:
    _refuse(any(count > 1 for count in Counter(sites).values()), "E_DUP_SITE")


def check_plan(data: bytes, *, roster: Roster, manifest: RunManifest, last: tuple[int, int] | None) -> Plan:
    """R0: the plan, if the pinned coordinator signed it for this run and it is new.

    Args:
        data: a signed plan.
        roster, manifest: as pinned and approved.
        last: the highest (round, attempt) that this site has seen in this run.

    Raises:
        FaultyCoordinatorError: E_FORMAT, E_PLAN_SIG, E_ROSTER, E_MANIFEST, E_REPLAY, E_PARAMS.
    """
    signed = received(SignedPlan, data)
    plan = signed.plan
    _refuse(not signed.is_signed_by(roster.coordinator_key, ()), "E_PLAN_SIG")
    _refuse((plan.roster_hash, plan.federation_id) != (roster.hash(), roster.federation_id), "E_ROSTER")
    _refuse((plan.manifest_hash, plan.run_id) != (manifest.hash(), manifest.run_id), "E_MANIFEST")
    _refuse(last is not None and (plan.round, plan.attempt) <= last, "E_REPLAY")
    _refuse(not _fits(plan, roster, manifest), "E_PARAMS")
    return plan


def _fits(plan: Plan, roster: Roster, manifest: RunManifest) -> bool:
    """Stage and factor exist; the vector is no longer than the roster allows; the ring is the manifest's, its scale
    a power of two, and the whole roster, suspended sites included, cannot wrap it; with distributed noise the scale is
    the share's, and a sum of all sites' draws and noise fits."""
    if plan.stage >= len(manifest.stages) or plan.dimension > roster.max_dimension:
        return False
    if plan.factor not in FACTORS[manifest.stages[plan.stage].schedule]:
        return False
    if (plan.bits, plan.saturation) != (manifest.bits, manifest.saturation):
        return False
    if manifest.distributed_noise is not None:
        try:
            return plan.scale == ring_of(manifest, plan.stage, plan.dimension, len(roster.sites)).scale
        except ValueError:
            return False
    try:
        RingParams(plan.bits, plan.scale, plan.saturation, len(roster.sites))
    except ValueError:
        return False
    return math.frexp(plan.scale)[0] == 0.5


def open_adverts(data: bytes, *, ctx: bytes, roster: Roster, manifest: RunManifest, own: Advertise) -> Cohort:
    """R1: U1, if it is a set of signed, distinct, usable keys of known sites, ours among them, and large
    enough.

    Raises:
        FaultyCoordinatorError: E_FORMAT, E_DUP_SITE, E_UNKNOWN_SITE, E_SELF_MISSING, E_SIG, E_DUP_KEY.
        FaultySiteError: E_WEAK_KEY, E_SITE_SIG (its ledger's mark is not signed by it).
        CohortTooSmallError: E_COHORT_SMALL.
    """
    entries = received(AdvertiseList, data).entries
    _refuse_duplicates(advert.site_id for advert in entries)
    known = set(roster.active_ids) & set(manifest.site_ids)
    _refuse(any(advert.site_id not in known for advert in entries), "E_UNKNOWN_SITE")
    _refuse(own not in entries, "E_SELF_MISSING")
    for advert in entries:
        _refuse(not advert.is_signed_by(roster.site(advert.site_id).public_key, (ctx,)), "E_SIG")
    keys = [key for advert in entries for key in key_parts(advert)]
    _refuse(len(set(keys)) < len(keys), "E_DUP_KEY")
    for advert in entries:
        if not is_usable(advert, manifest.suite):
            raise FaultySiteError("E_WEAK_KEY", advert.site_id)
        if not advert.mark.is_signed_for(roster):
            raise FaultySiteError("E_SITE_SIG", advert.site_id)
    cohort = Cohort(ctx, roster, {advert.site_id: advert for advert in entries}, fewest_survivors(manifest))
    _check_floor(len(entries), cohort)
    return cohort


def open_envelopes(data: bytes, *, cohort: Cohort, own_id: str, tagged: bool = False) -> dict[str, Envelope]:
    """R2: U2, the dealers, each with its envelope for this site; `tagged` where the run has integrity tags.

    Raises:
        FaultyCoordinatorError: E_FORMAT, E_DUP_SITE, E_U2_SUBSET, E_SELF_DROPPED, E_SIG.
        FaultySiteError: E_ENVELOPES (its envelope lacks a part, or has one too many).
        CohortTooSmallError: E_COHORT_SMALL.
    """
    entries = received(EnvelopeList, data).entries
    _refuse_duplicates(envelope.sender for envelope in entries)
    _refuse(any(envelope.sender not in cohort.adverts for envelope in entries), "E_U2_SUBSET")
    _refuse(all(envelope.sender != own_id for envelope in entries), "E_SELF_DROPPED")
    for envelope in entries:
        key = cohort.signing_key(envelope.sender)
        ours = envelope.recipient == own_id
        _refuse(not ours or not envelope.is_signed_by(key, (cohort.ctx, cohort.h1)), "E_SIG")
    for envelope in entries:
        if not envelope.fits(cohort.suite, tagged=tagged):
            raise FaultySiteError("E_ENVELOPES", envelope.sender)
    _check_floor(len(entries), cohort)
    return {envelope.sender: envelope for envelope in entries}


def open_masked(
    data: bytes, *, cohort: Cohort, dealers: Iterable[str], h2: bytes, own_id: str
) -> dict[str, MaskedHeader]:
    """R3: U3, the survivors, each with its signed upload hash.

    Raises:
        FaultyCoordinatorError: E_FORMAT, E_DUP_SITE, E_U3_SUBSET, E_SELF_DROPPED, E_SIG.
        FaultySiteError: E_SITE_SIG (its ledger's mark is not signed by it).
        CohortTooSmallError: E_COHORT_SMALL.
    """
    entries = received(MaskedList, data).entries
    _refuse_duplicates(header.site_id for header in entries)
    _refuse(not {header.site_id for header in entries} <= set(dealers), "E_U3_SUBSET")
    _refuse(all(header.site_id != own_id for header in entries), "E_SELF_DROPPED")
    for header in entries:
        _refuse(not header.is_signed_by(cohort.signing_key(header.site_id), (cohort.ctx, h2)), "E_SIG")
    for header in entries:
        if header.mark is not None and not header.mark.is_signed_for(cohort.roster):
            raise FaultySiteError("E_SITE_SIG", header.site_id)
    _check_floor(len(entries), cohort)
    return {header.site_id: header for header in entries}


def check_quorum(data: bytes, *, cohort: Cohort, survivors: Iterable[str], h3: bytes) -> None:
    """R4: at least t distinct survivors confirmed this site's own h3. Anything else in the list counts for
    nothing.

    Raises:
        FaultyCoordinatorError: E_FORMAT, E_QUORUM.
    """
    allowed, confirmed = set(survivors), set[str]()
    for confirm in received(ConfirmList, data).entries:
        if len(confirmed) >= cohort.threshold:
            break  # enough; a signature check costs more than all the rest
        key = cohort.signing_key(confirm.site_id) if confirm.site_id in allowed else b""
        if key and confirm.is_signed_by(key, (cohort.ctx, h3)):
            confirmed.add(confirm.site_id)
    _refuse(len(confirmed) < cohort.threshold, "E_QUORUM")


def _check_floor(size: int, cohort: Cohort) -> None:
    if size < cohort.floor:
        raise CohortTooSmallError
