"""What would run and what would leave: a manifest as this hospital's operator reads it before it is approved.

Everything is computed from the manifest, the roster, the site file and the ledger; no patient is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

from configs.schema import ConfigError, PolicyConfig, SiteConfig
from privacy.errors import POLICY_REFUSALS, PolicyRefusalError
from privacy.gates import total_rounds, training_rounds
from privacy.identity import Roster
from privacy.ledger import Ledger
from privacy.ledger_account import Account, Limits
from privacy.manifest import RunManifest, StageSpec
from privacy.release import release_hash
from site_client.evaluation_preview import evaluation_facts, evaluation_lines
from site_client.guarantees_report import guarantee_lines, with_run_facts
from site_client.leaving import REPLIES, leaving_fields
from site_client.policy import BYTES_PER_MB, check_upload, delta_cap, planned_epsilon, planned_events, refusals
from site_client.roster_pin import RosterPin
from site_client.run_approval import RunApprovals
from site_client.trust import shared_caps
from site_client.upload_size import round_dimensions, spec_of, upload_bytes

__all__ = ["account_of_site", "dry_run_facts", "dry_run_text", "run_facts", "run_text", "waiting_lines"]

_ANYTHING = "any"


def account_of_site(config: SiteConfig, roster: Roster | None) -> Account:
    """What this site's ledger holds, with the policy's caps; nothing is spent where there is no ledger yet.

    Args:
        roster: None where none is in force yet; delta is then capped by the policy alone.

    Raises:
        LedgerTamperedError, ValueError: see `privacy.ledger.Ledger.open`.
    """
    policy, path = config.policy, Path(config.state) / "ledger.sqlite"
    delta = policy.max_total_delta
    if roster is not None and config.site_id in roster.site_ids:
        delta = delta_cap(policy, roster.site(config.site_id).declared_patients)
    limits = Limits(policy.max_epsilon, delta, "rdp" if policy.composition == "rdp" else "sum", policy.renyi_order,
                    policy.allow_without_privacy, shared_caps(policy))
    if not path.is_file():
        return Account(limits=limits)
    ledger = Ledger.open(
        path, must_exist=True, epsilon_cap=limits.epsilon, delta_cap=limits.delta, composition=limits.composition,
        renyi_order=limits.renyi_order, allow_unnoised=limits.allow_unnoised, shared=limits.shared)
    try:
        return ledger.account()
    finally:
        ledger.close()


def run_facts(
    manifest: RunManifest, roster: Roster, config: SiteConfig, account: Account, base_model_hash: bytes | None = None,
) -> dict[str, Any]:
    """Everything about a run that its approval is about, as JSON values.

    Args:
        account: see `account_of_site`.
        base_model_hash: of the model on this site's disk (`model.backbone.hash_model`); None = not compared.
    """
    here = manifest.base_model_hash if base_model_hash is None else base_model_hash
    counts = {terms.site_id: terms.weight if manifest.distributed_noise is None else terms.declared_patients
              for terms in manifest.sites}  # with shared noise every patient counts the same
    refused = refusals(manifest, policy=config.policy, roster=roster, site_id=config.site_id, base_model_hash=here,
                       account=account)
    uploads = _uploads(manifest, config)
    dimensions = [size for stage in uploads or () for size in stage]
    if dimensions and _too_large(max(dimensions), manifest.bits, config.policy):
        refused = (*refused, "P_BYTES")
    return {
        "run_id": manifest.run_id, "federation_id": manifest.federation_id, "hash": manifest.hash().hex(),
        "release": manifest.release, "release_installed": manifest.release == release_hash(),
        "base_model_hash": manifest.base_model_hash.hex(),
        "base_model_here": None if base_model_hash is None else manifest.base_model_hash == base_model_hash,
        "lora": {"rank": manifest.lora_rank, "alpha": manifest.lora_alpha, "groups": list(manifest.lora_groups)},
        "stages": [_stage(manifest, stage, sizes, config.site_id) for stage, sizes in
                   zip(manifest.stages, uploads or repeat(None), strict=False)],
        "rounds": total_rounds(manifest),
        "steps": sum(training_rounds(stage) * stage.local_steps for stage in manifest.stages),
        "validation_share": manifest.validation_share,
        "sites": {terms.site_id: terms.declared_patients for terms in manifest.sites},
        "weights": {site: count / sum(counts.values()) for site, count in counts.items()},
        "suite": manifest.suite, "bits": manifest.bits, "budget": _budget(manifest, config, account, bool(refused)),
        "largest_upload_bytes": max((upload_bytes(manifest, size) for size in dimensions), default=None),
        "uploads_in_all_bytes": sum(upload_bytes(manifest, size) for size in dimensions) if dimensions else None,
        "refused_by": {code: POLICY_REFUSALS[code] for code in refused},
    }


def _stage(
    manifest: RunManifest, stage: StageSpec, dimensions: Sequence[int] | None, site_id: str
) -> dict[str, Any]:
    terms = next((terms for terms in manifest.sites if terms.site_id == site_id), None)
    return {"name": stage.name, "evaluation": evaluation_facts(manifest, stage, None if terms is None else terms.delta),
            "sources": {share.source: share.max_samples for share in stage.sources},
            "groups": list(stage.groups), "factors": stage.schedule, "rounds": training_rounds(stage),
            "steps_a_round": stage.local_steps, "sampling_rate": stage.sampling_rate,
            "noise_multiplier": stage.noise_multiplier, "reply_after_s": stage.reply_after_s,
            "max_tokens": stage.max_tokens,
            "largest_upload_bytes": upload_bytes(manifest, max(dimensions)) if dimensions else None}


def _uploads(manifest: RunManifest, config: SiteConfig) -> list[list[int]] | None:
    """Coordinates of each upload, by stage; None where the base model's spec cannot be read."""
    spec = spec_of(config.base_model)
    return None if spec is None else [round_dimensions(manifest, stage, spec) for stage in manifest.stages]


def _too_large(dimension: int, bits: int, policy: PolicyConfig) -> bool:
    try:
        check_upload(dimension, bits, policy)
    except PolicyRefusalError:
        return True
    return False


def _budget(manifest: RunManifest, config: SiteConfig, account: Account, refused: bool) -> dict[str, Any]:
    """Epsilon of the whole run at this site's delta, and of the site with it; None where it was not computed: a run
    without noise, or one that the policy refuses anyway."""
    terms = next((terms for terms in manifest.sites if terms.site_id == config.site_id), None)
    facts: dict[str, Any] = {
        "privacy": manifest.privacy, "clip_norm": manifest.clip_norm, "delta": terms.delta if terms else None,
        "target_epsilon": manifest.target_epsilon, "planned_epsilon": None, "spent_epsilon": _finite(account.spent()),
        "left_after": None, "max_epsilon": config.policy.max_epsilon, "reserved_already": False, "guarantees": None,
        "distributed_noise": None if manifest.distributed_noise is None else asdict(manifest.distributed_noise)}
    if terms is None or manifest.privacy == "none" or (refused and not _is_cheap(manifest, config.policy)):
        return facts
    facts["reserved_already"] = account.reservation(manifest.run_id) is not None
    after = account.spent() if facts["reserved_already"] else account.with_run(planned_events(manifest), terms.delta)
    facts["planned_epsilon"] = planned_epsilon(manifest, terms)
    facts["left_after"] = _finite(config.policy.max_epsilon - after)
    facts["guarantees"] = with_run_facts(
        account, config.policy, planned_events(manifest), terms.delta, reserved=facts["reserved_already"])
    return facts


def _is_cheap(manifest: RunManifest, policy: PolicyConfig) -> bool:
    """Whether the accountant takes seconds: enough noise, and few mechanisms."""
    noise = [stage.noise_multiplier for stage in manifest.stages]
    noise += [stage.evaluation.noise_multiplier for stage in manifest.stages if stage.evaluation is not None]
    return len(manifest.stages) <= 8 and min(noise) >= policy.min_noise_multiplier


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def run_text(facts: dict[str, Any]) -> str:
    """The facts for a screen."""
    lines = [f"run {facts['run_id']} of {facts['federation_id']}, manifest {facts['hash']}",
             f"  sites       {', '.join(_site_text(facts, site) for site in facts['sites'])}",
             f"  release     {facts['release'][:16]}, " + (
                 "the installed one" if facts["release_installed"] else "NOT the installed one"),
             f"  base model  {facts['base_model_hash']}" + {
                 True: ", the one here", False: ", NOT the one here", None: ""}[facts["base_model_here"]],
             f"  adapter     rank {facts['lora']['rank']}, alpha {facts['lora']['alpha']}, layers "
             f"{', '.join(facts['lora']['groups'])}",
             f"what would run: at most {facts['rounds']} rounds, {facts['steps']} steps"]
    for stage in facts["stages"]:
        sources = ", ".join(f"{name} (at most {most} a patient and step)" for name, most in stage["sources"].items())
        lines += [f"  stage {stage['name']}: {stage['rounds']} rounds of {stage['steps_a_round']} steps, trains "
                  f"{', '.join(stage['groups'])} ({stage['factors']})",
                  f"    reads {sources}; draws {100 * stage['sampling_rate']:g} % of the patients a step; noise "
                  f"multiplier {stage['noise_multiplier']:g}; samples of at most "
                  + (f"{stage['max_tokens']:,} tokens" if stage["max_tokens"] else "the base model's length")]
        lines += evaluation_lines(stage["evaluation"], facts["validation_share"])
    lines += [_budget_text(facts["budget"]), *_leaving_text(facts)]
    lines += [f"refused by the policy: {code}: {sentence}" for code, sentence in facts["refused_by"].items()]
    return "\n".join(lines if facts["refused_by"] else [*lines, "the policy refuses nothing of it"])


def _site_text(facts: dict[str, Any], site: str) -> str:
    return f"{site} ({facts['sites'][site]} patients, {100 * facts['weights'][site]:.3g} % of a full sum)"


def _budget_text(budget: dict[str, Any]) -> str:
    if budget["privacy"] == "none":
        return "privacy: NONE; the run adds no noise, and no statement about any patient can be made"
    if budget["planned_epsilon"] is None:
        return "privacy: not computed, since the policy refuses the run as it is"
    spent = "unlimited" if budget["spent_epsilon"] is None else f"{budget['spent_epsilon']:.4g}"
    held = " (reserved already)" if budget["reserved_already"] else ""
    left = budget["left_after"]
    after = "the cap is passed" if left is None or left < 0 else f"{left:.4g} would be left"
    text = (f"privacy: epsilon {budget['planned_epsilon']:.4g} at delta {budget['delta']:.3g} for each patient{held}; "
            f"spent so far {spent}, the cap is {budget['max_epsilon']:g}: {after}")
    shared = budget["distributed_noise"]
    if shared is None:
        return text
    honest = shared["min_survivors"] - shared["colluders"]
    return "\n".join([
        text, f"  the noise is SHARED OUT: a sum has {shared['min_survivors']} sites or more, and the shares of "
        f"{honest} of them make up the run's noise; that they add it cannot be checked. This site with the run in it:",
        *guarantee_lines(budget["guarantees"])])


def _leaving_text(facts: dict[str, Any]) -> list[str]:
    if facts["largest_upload_bytes"] is None:
        return ["what would leave: one masked vector a round and control messages; how large is not known, since the "
                "base model's spec.json cannot be read"]
    return [f"what would leave: one masked vector a round of at most {facts['largest_upload_bytes']:,} bytes, "
            f"{facts['uploads_in_all_bytes']:,} bytes in all, and control messages of some kilobytes a round"]


# ------------------------------------------------------------------ without a run


def dry_run_text(config: SiteConfig) -> str:
    """What this site would take part in and what could leave it, if it were started now; nothing is sent.

    Raises:
        ValueError, LedgerTamperedError: the ledger cannot be used; the text says why.
    """
    roster, known = _roster(config)
    account = account_of_site(config, roster)
    spent, policy = account.spent(), config.policy
    cap = policy.max_total_delta if account.limits is None else account.limits.delta
    lines = [f"{config.site_id}: {known}, release {release_hash()[:16]}; nothing was started and nothing was sent",
             f"budget: epsilon {spent:.4g} of {policy.max_epsilon:g} spent, {max(0.0, policy.max_epsilon - spent):.4g} "
             f"left; delta {account.delta():.3g} of {cap:.3g}",
             "what the coordinator may ask for", *_policy_lines(policy), "what can leave, and nothing else"]
    lines += [f"  in answer to {step:<11} {kind.__name__}" for step, kind in REPLIES.items()]
    lines += [f"  beside {REPLIES['sa_mask'].__name__:<17} the masked vector, clipped and noised before it is masked",
              f"  {'to any of them':<24} ErrorReply", "their fields in clear"]
    lines += [f"  {kind:<13} {', '.join(clear)}" + (f"; sealed for another site: {', '.join(sealed)}" if sealed else "")
              for kind, (clear, sealed) in leaving_fields().items()]
    return "\n".join([*lines, *waiting_lines(config)])


def dry_run_facts(config: SiteConfig) -> dict[str, Any]:
    """The same as JSON values. Raises as `dry_run_text`."""
    roster, known = _roster(config)
    account = account_of_site(config, roster)
    spent = account.spent()
    return {
        "site_id": config.site_id, "release": release_hash(), "roster": known,
        "budget": {"spent_epsilon": _finite(spent), "max_epsilon": config.policy.max_epsilon,
                   "left": max(0.0, config.policy.max_epsilon - spent), "delta": account.delta(),
                   "max_delta": config.policy.max_total_delta if account.limits is None else account.limits.delta},
        "policy": asdict(config.policy), "answers": {step: kind.__name__ for step, kind in REPLIES.items()},
        "fields": {kind: {"clear": list(clear), "sealed": list(sealed)}
                   for kind, (clear, sealed) in leaving_fields().items()},
        "waiting": [{"run_id": run.manifest.run_id, "hash": run.digest}
                    for run in RunApprovals(Path(config.state)).pending()]}


def _roster(config: SiteConfig) -> tuple[Roster | None, str]:
    """The roster in force and what to call it; None and the reason where there is none."""
    try:
        roster = RosterPin(config).roster()
    except ConfigError as error:
        return None, f"no roster in force ({error})"
    return roster, f"roster {roster.federation_id} version {roster.version}"


def _policy_lines(policy: PolicyConfig) -> list[str]:
    def some(values: list[str]) -> str:
        return ", ".join(values) or _ANYTHING

    approved = "as the policy allows" if policy.approve_runs == "auto" else "only after `site-client approve`"
    rosters = "when two pinned officers signed them" if policy.approve_rosters == "auto" else "only by hand"
    noise = "also without noise" if policy.allow_without_privacy else f"at least {policy.min_noise_multiplier:g}"
    return [
        f"  runs        {approved}; new rosters {rosters}",
        f"  stages      {some(policy.allowed_stages)}; sources {some(policy.allowed_sources)}; layers "
        f"{some(policy.allowed_groups)}",
        f"  base model  {some(policy.allowed_base_models) if policy.allowed_base_models else 'the one in base_model'}",
        f"  a run       at most {policy.max_rounds} rounds, delta at most {policy.max_delta:g}",
        f"  noise       multiplier {noise}; {_trust_text(policy)}",
        f"  a step      at most {policy.max_samples} samples of a patient",
        f"  evaluations at most {policy.max_evaluations} of one run, on patients who are not trained on",
        f"  an upload   at most {policy.max_upload_mb * BYTES_PER_MB:,.0f} bytes",
        f"  a cohort    at least {policy.min_cohort} sites",
        f"  hours       {', '.join(policy.working_hours) or 'any time'}",
    ]


def _trust_text(policy: PolicyConfig) -> str:
    trust = policy.distributed_noise
    if trust is None:
        return "all of it added here"
    return (f"or shared out over sums of at least {trust.min_survivors} sites, {trust.colluders} or more of them not "
            f"counted, epsilon at most {trust.max_epsilon_outside:g} outside and {trust.max_epsilon_alone:g} alone")


def waiting_lines(config: SiteConfig) -> list[str]:
    """One line for each manifest that waits for approval, oldest first."""
    waiting = RunApprovals(Path(config.state)).pending()
    lines = [f"  {run.digest[:16]}  run {run.manifest.run_id}, since "
             f"{datetime.fromtimestamp(run.arrived, UTC).isoformat(timespec='seconds')}" for run in waiting]
    return ["runs that wait for approval", *lines] if lines else ["no run waits for approval"]
