"""The site's veto: what its own policy file allows, checked against a run manifest before any training.

The coordinator may only ask. Every check reads the manifest, the policy and the ledger; none reads a patient, so
a refusal that leaves the site says nothing about its data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from configs.schema import PolicyConfig
from privacy.aggregation import weights_follow
from privacy.dp.accounting import ReleaseEvent, epsilon
from privacy.errors import BudgetExceededError, FaultyCoordinatorError, PolicyRefusalError
from privacy.evaluation import GateOutcome
from privacy.gates import evaluation_events, evaluations, has_evaluations, slot_of, total_rounds, training_rounds
from privacy.identity import Roster
from privacy.ledger import LedgerEntry
from privacy.ledger_account import Account
from privacy.manifest import DistributedNoise
from privacy.messages import Plan, RunManifest, SiteTerms, StageSpec
from privacy.release import release_hash
from privacy.secagg.compact import too_narrow
from site_client.trust import is_unstated, trust_rules

__all__ = [
    "BYTES_PER_MB", "check_gates", "check_hours", "check_manifest", "check_rounds_left", "check_schedule",
    "check_upload", "check_wasted", "check_withheld", "delta_cap", "planned_epsilon", "planned_events", "refusals",
    "stage_event", "terms_of"]


BYTES_PER_MB = 10**6  # of policy.max_upload_mb
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
    training = [stage_event(stage, stage.local_steps * training_rounds(stage), manifest.distributed_noise)
                for stage in manifest.stages]
    return training + [event for stage in manifest.stages for event in evaluation_events(stage)]


def stage_event(stage: StageSpec, steps: int, noise: DistributedNoise | None = None) -> ReleaseEvent:
    """What `steps` releases of a stage cost: the plan's events and the ledger's entries are both made from this."""
    cut = stage.truncation
    cap, patients = (0, 0) if cut is None else (cut.batch_size, cut.most_patients)
    shared = (0, 0, 0) if noise is None else (noise.min_survivors, noise.colluders, noise.levels)
    return ReleaseEvent(stage.sampling_rate, stage.noise_multiplier, steps, cap, patients, *shared)


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
    for broken, code in _rules(manifest, terms, policy, roster, base_model_hash):
        _refuse(broken, code)
    _refuse(is_unstated(policy, account), "P_TRUST")
    if manifest.privacy != "none":
        _refuse(planned_epsilon(manifest, terms) > manifest.target_epsilon, "P_BUDGET")
        account.require_room(manifest.run_id, planned_events(manifest), terms.delta)
    return terms


def refusals(
    manifest: RunManifest, *, policy: PolicyConfig, roster: Roster, site_id: str, base_model_hash: bytes,
    account: Account,
) -> tuple[str, ...]:
    """Every code for which `check_manifest` would refuse, once each; for the operator's own screen.

    The budget is computed only where nothing else refuses: of a manifest past the rules it could take minutes.
    """
    try:
        terms = terms_of(manifest, site_id)
    except PolicyRefusalError as error:
        return (error.code,)
    found: list[str] = []
    for broken, code in _rules(manifest, terms, policy, roster, base_model_hash):
        if broken:
            found.append(code)
            if code == "P_TERMS":  # what follows is about a site that the roster lists so
                break
    if is_unstated(policy, account):
        found.append("P_TRUST")
    if not found and manifest.privacy != "none":
        if planned_epsilon(manifest, terms) > manifest.target_epsilon:
            found.append("P_BUDGET")
        try:
            account.require_room(manifest.run_id, planned_events(manifest), terms.delta)
        except BudgetExceededError as error:
            found.append(error.code)
    return tuple(dict.fromkeys(found))


def planned_epsilon(manifest: RunManifest, terms: SiteTerms) -> float:
    """Epsilon of the run's whole maximum at this site's delta."""
    return epsilon(planned_events(manifest), terms.delta)


def _rules(
    manifest: RunManifest, terms: SiteTerms, policy: PolicyConfig, roster: Roster, base_model_hash: bytes,
) -> Iterator[tuple[bool, str]]:
    """Whether each rule is broken, with its code; in order, and each computed only when it is asked for."""
    site_id = terms.site_id
    yield not {one.site_id for one in manifest.sites} <= set(roster.site_ids), "P_TERMS"
    yield len(manifest.stages) > MOST_STAGES, "P_STAGE"
    yield manifest.roster_hash != roster.hash(), "P_ROSTER"
    yield manifest.release != release_hash(), "P_RELEASE"
    yield manifest.base_model_hash != base_model_hash, "P_BASE_MODEL"
    allowed = policy.allowed_base_models
    yield bool(allowed) and manifest.base_model_hash.hex() not in allowed, "P_BASE_MODEL"
    yield terms.declared_patients < policy.min_patients, "P_FLOOR"
    yield terms.declared_patients != roster.site(site_id).declared_patients, "P_TERMS"
    yield roster.min_cohort < policy.min_cohort, "P_COHORT"
    yield manifest.suite not in getattr(roster, "suites", ("x25519",)), "P_SUITE"
    yield too_narrow(manifest, len(roster.sites), site_id), "P_RING"
    yield not weights_follow(manifest, roster), "P_TERMS"
    yield total_rounds(manifest) > policy.max_rounds, "P_ROUNDS"
    yield sum(map(evaluations, manifest.stages)) > policy.max_evaluations, "P_EVALUATION"
    for stage in manifest.stages:
        yield from _stage_rules(stage, policy)
    yield from trust_rules(manifest, policy, roster)
    if manifest.privacy == "none":
        yield not policy.allow_without_privacy, "P_PRIVACY"
        return
    noise = [stage.noise_multiplier for stage in manifest.stages]
    noise += [stage.evaluation.noise_multiplier for stage in manifest.stages if stage.evaluation is not None]
    yield min(noise) < policy.min_noise_multiplier, "P_NOISE"
    yield not 0 < terms.delta <= min(policy.max_delta, 1 / (10 * terms.declared_patients)), "P_DELTA"


def _stage_rules(stage: StageSpec, policy: PolicyConfig) -> Iterator[tuple[bool, str]]:
    sources = {share.source for share in stage.sources}
    yield bool(policy.allowed_stages) and stage.name not in policy.allowed_stages, "P_STAGE"
    yield bool(policy.allowed_groups) and not set(stage.groups) <= set(policy.allowed_groups), "P_GROUP"
    yield bool(policy.allowed_sources) and not sources <= set(policy.allowed_sources), "P_SOURCE"
    yield sum(share.max_samples for share in stage.sources) > policy.max_samples, "P_SAMPLING"
    # Truncated draws are charged for `most_patients`, which must hold here: this site keeps to its own maximum.
    yield stage.truncation is not None and not (
        policy.max_patients is not None and policy.max_patients <= stage.truncation.most_patients), "P_SAMPLING"
    # A short period is no schedule: a reply at one of its many multiples tells how long the training took.
    yield policy.require_scheduled_replies and not stage.reply_after_s >= policy.min_reply_after_s, "P_TIMING"


def check_upload(dimension: int, bits: int, policy: PolicyConfig) -> None:
    """Refuse a masked vector of `dimension` coordinates of `bits` bits that is larger than the policy allows.

    Raises:
        PolicyRefusalError: P_BYTES.
    """
    _refuse(dimension * bits / 8 > policy.max_upload_mb * BYTES_PER_MB, "P_BYTES")


def check_hours(now: datetime, policy: PolicyConfig) -> None:
    """Refuse to begin a training outside the policy's working hours.

    Args:
        now: the site's local time.

    Raises:
        PolicyRefusalError: P_HOURS.
    """
    spans = [span.split("-") for span in policy.working_hours]
    _refuse(bool(spans) and not any(_within(now.strftime("%H:%M"), start, end) for start, end in spans), "P_HOURS")


def _within(now: str, start: str, end: str) -> bool:
    """Times of day as HH:MM, so that text orders them; from `start` on and before `end`, which may be next morning."""
    return start <= now < end if start < end else now >= start or now < end


def check_schedule(plan: Plan, manifest: RunManifest, booked: Sequence[LedgerEntry]) -> None:
    """Refuse a round that the manifest's curriculum cannot have: stages come in order, each within its rounds.

    Args:
        booked: this run's entries in this site's ledger.

    Raises:
        FaultyCoordinatorError: E_MANIFEST.
    """
    if has_evaluations(manifest):  # `check_gates` knows the slot of every round
        earliest, latest = 1, total_rounds(manifest)
    else:
        earliest, latest = _first_and_last(plan, manifest)
    if plan.attempt > MOST_ATTEMPTS:
        raise FaultyCoordinatorError("E_MANIFEST")
    goes_back = any(entry.stage > plan.stage for entry in booked)
    if goes_back or not earliest <= plan.round <= latest:
        raise FaultyCoordinatorError("E_MANIFEST")


def _first_and_last(plan: Plan, manifest: RunManifest) -> tuple[int, int]:
    before = manifest.stages[: plan.stage]
    latest = sum(stage.max_rounds for stage in before) + manifest.stages[plan.stage].max_rounds
    return 1 + sum(_fewest_rounds(stage) for stage in before), latest


def check_gates(plan: Plan, manifest: RunManifest, outcomes: Sequence[GateOutcome]) -> None:
    """Refuse a round that is not the one which follows from the gates so far: no stage before its gate is passed, no
    repeat beyond the maximum, no evaluation that was not announced.

    Args:
        outcomes: of a result that a quorum attested; none before the first.

    Raises:
        FaultyCoordinatorError: E_GATE.
    """
    if not has_evaluations(manifest):
        wrong = plan.purpose != "train"
    else:
        slot = slot_of(manifest.stages, plan.round, outcomes)
        wrong = slot is None or (slot.stage, slot.purpose) != (plan.stage, plan.purpose)
    if wrong:
        raise FaultyCoordinatorError("E_GATE")


def check_rounds_left(plan: Plan, manifest: RunManifest, booked: Sequence[LedgerEntry]) -> None:
    """Refuse to train or evaluate once all of the stage's rounds of that kind, as they were reserved, are booked.

    Every entry counts, also that of a training which crashed: it may have been released.

    Raises:
        PolicyRefusalError: P_BUDGET.
    """
    stage = manifest.stages[plan.stage]
    spent = sum((entry.stage, entry.purpose) == (plan.stage, plan.purpose) for entry in booked)
    _refuse(spent >= (training_rounds(stage) if plan.purpose == "train" else evaluations(stage)), "P_BUDGET")


def check_withheld(withheld: int, policy: PolicyConfig) -> None:
    """Refuse another round once too many sums could be opened whose result was not shown.

    A coordinator that keeps results back asks for one sum after the other of the same model, over subsets that it
    compares, and goes on from the one that it likes.

    Args:
        withheld: such rounds since the run's newest known result (`site_client.round_store`).

    Raises:
        PolicyRefusalError: P_WASTED.
    """
    _refuse(withheld > policy.max_wasted_rounds, "P_WASTED")


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
