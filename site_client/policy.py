"""The site's veto: what its own policy file allows, checked against a run manifest before any training.

The coordinator may only ask. Every check reads the manifest, the policy and the ledger; none reads a patient, so
a refusal that leaves the site says nothing about its data.
"""

from __future__ import annotations

from collections.abc import Sequence

from configs.schema import PolicyConfig
from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.errors import FaultyCoordinatorError, PolicyRefusalError
from privacy.identity import Roster
from privacy.ledger import LedgerEntry
from privacy.ledger_account import Account
from privacy.messages import Plan, RunManifest, SiteTerms, StageSpec
from privacy.release import release_hash
from privacy.secagg.compact import too_narrow

__all__ = [
    "check_manifest", "check_rounds_left", "check_schedule", "check_wasted", "delta_cap", "planned_events",
    "stage_event", "terms_of"]


MOST_STAGES = 32     # of a manifest: composing more takes minutes
MOST_ATTEMPTS = 64   # at one round: each is a row of the ledger, for good


def terms_of(manifest: RunManifest, site_id: str) -> SiteTerms:
    """This site's constants in the manifest.

    Raises:
        PolicyRefusalError: P_TERMS.
    """
    for terms in manifest.sites:
        if terms.site_id == site_id:
            return terms
    raise PolicyRefusalError("P_TERMS")


def planned_events(manifest: RunManifest) -> list[ReleaseEvent]:
    """Every release that the manifest's maximum of rounds can make: the budget is checked for all of it."""
    return [stage_event(stage, stage.local_steps * stage.max_rounds) for stage in manifest.stages]


def stage_event(stage: StageSpec, steps: int) -> ReleaseEvent:
    """What `steps` releases of a stage cost: the plan's events and the ledger's entries are both made from this."""
    cut = stage.truncation
    cap, patients = (0, 0) if cut is None else (cut.batch_size, cut.most_patients)
    return ReleaseEvent(stage.sampling_rate, stage.noise_multiplier, steps, cap, patients)


def delta_cap(policy: PolicyConfig, declared_patients: int) -> float:
    """The site's cap on delta over the life of its ledger: the policy's, and never above one in its patients."""
    return min(policy.max_total_delta, 1 / declared_patients)


def check_manifest(
    manifest: RunManifest, *, policy: PolicyConfig, roster: Roster, site_id: str, base_model_hash: bytes,
    account: Account,
) -> SiteTerms:
    """Refuse `manifest`, or return this site's terms in it.

    Args:
        account: what this site's ledger holds, with the site's caps.

    Raises:
        PolicyRefusalError: the first rule that the manifest breaks; the code is a constant, no value is in it.
        BudgetExceededError: the run's maximum does not fit under the caps; the numbers are for the site's own log.
    """
    terms = terms_of(manifest, site_id)
    _refuse(not {one.site_id for one in manifest.sites} <= set(roster.site_ids), "P_TERMS")
    _refuse(len(manifest.stages) > MOST_STAGES, "P_STAGE")
    _refuse(manifest.roster_hash != roster.hash(), "P_ROSTER")
    _refuse(manifest.release != release_hash(), "P_RELEASE")
    _refuse(manifest.base_model_hash != base_model_hash, "P_BASE_MODEL")
    allowed = policy.allowed_base_models
    _refuse(bool(allowed) and manifest.base_model_hash.hex() not in allowed, "P_BASE_MODEL")
    _refuse(terms.declared_patients < policy.min_patients, "P_FLOOR")
    _refuse(terms.declared_patients != roster.site(site_id).declared_patients, "P_TERMS")
    _refuse(roster.min_cohort < policy.min_cohort, "P_COHORT")
    _refuse(manifest.suite not in getattr(roster, "suites", ("x25519",)), "P_SUITE")
    _refuse(too_narrow(manifest, len(roster.sites), site_id), "P_RING")
    for stage in manifest.stages:
        sources = {share.source for share in stage.sources}
        _refuse(bool(policy.allowed_stages) and stage.name not in policy.allowed_stages, "P_STAGE")
        _refuse(bool(policy.allowed_sources) and not sources <= set(policy.allowed_sources), "P_SOURCE")
        _refuse(sum(share.max_samples for share in stage.sources) > policy.max_samples, "P_SAMPLING")
        # Truncated draws are charged for `most_patients`, which must hold here: this site keeps to its own maximum.
        _refuse(stage.truncation is not None and not (
            policy.max_patients is not None and policy.max_patients <= stage.truncation.most_patients), "P_SAMPLING")
        _refuse(policy.require_scheduled_replies and stage.reply_after_s <= 0, "P_TIMING")
    if manifest.privacy == "none":
        _refuse(not policy.allow_without_privacy, "P_PRIVACY")
        return terms
    _refuse(any(s.noise_multiplier < policy.min_noise_multiplier for s in manifest.stages), "P_NOISE")
    _refuse(not 0 < terms.delta <= min(policy.max_delta, 1 / (10 * terms.declared_patients)), "P_DELTA")
    planned = planned_events(manifest)
    _refuse(epsilon(planned, terms.delta) > manifest.target_epsilon, "P_BUDGET")
    account.require_room(manifest.run_id, planned, terms.delta)
    return terms


def check_schedule(plan: Plan, manifest: RunManifest, booked: Sequence[LedgerEntry]) -> None:
    """Refuse a round that the manifest's curriculum cannot have: stages come in order, each within its rounds.

    Args:
        booked: this run's entries in this site's ledger.

    Raises:
        FaultyCoordinatorError: E_MANIFEST.
    """
    before = manifest.stages[: plan.stage]
    earliest = 1 + sum(_fewest_rounds(stage) for stage in before)
    latest = sum(stage.max_rounds for stage in before) + manifest.stages[plan.stage].max_rounds
    if plan.attempt > MOST_ATTEMPTS:
        raise FaultyCoordinatorError("E_MANIFEST")
    goes_back = any(entry.stage > plan.stage for entry in booked)
    if goes_back or not earliest <= plan.round <= latest:
        raise FaultyCoordinatorError("E_MANIFEST")


def check_rounds_left(plan: Plan, manifest: RunManifest, booked: Sequence[LedgerEntry]) -> None:
    """Refuse to train once the stage's rounds, for which the budget was checked, are all in the ledger.

    Every entry counts, also that of a training which crashed: it may have been released.

    Raises:
        PolicyRefusalError: P_BUDGET.
    """
    spent = sum(entry.stage == plan.stage for entry in booked)
    _refuse(spent >= manifest.stages[plan.stage].max_rounds, "P_BUDGET")


def check_wasted(account: Account, policy: PolicyConfig) -> None:
    """Refuse another round once too many were trained for and never finished: such rounds burn the budget.

    Raises:
        PolicyRefusalError: P_WASTED.
    """
    _refuse(account.wasted(next_round=True) > policy.max_wasted_rounds, "P_WASTED")


def _fewest_rounds(stage: StageSpec) -> int:
    """A stop rule compares the last `patience` rounds with at least one before them."""
    return stage.max_rounds if stage.stop is None else min(stage.max_rounds, stage.stop.patience + 1)


def _refuse(broken: bool, code: str) -> None:
    if broken:
        raise PolicyRefusalError(code)
