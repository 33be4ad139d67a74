"""What each key of a hospital's policy means, in a sentence, and with which code a run that breaks it is refused."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from configs.schema import PolicyConfig

__all__ = ["MEANINGS", "policy_rows"]

MEANINGS: dict[str, tuple[str, str]] = {
    "max_epsilon": ("Cap on epsilon over the whole life of this ledger, for each patient; a run's planned maximum must "
                    "fit under it.", "P_BUDGET"),
    "max_delta": ("Largest delta of one run; never above 1 / (10 x declared patients).", "P_DELTA"),
    "max_total_delta": ("Cap on delta over the whole life of this ledger; never above 1 / declared patients.",
                        "P_DELTA"),
    "composition": ("How runs add up: a sum of reserved budgets, or a Renyi filter (rdp); fixed by the ledger's "
                    "first run.", ""),
    "renyi_order": ("The one order of composition rdp; fixed by the ledger's first run.", ""),
    "max_wasted_rounds": ("Rounds trained for and never finished, over the life of this ledger.", "P_WASTED"),
    "min_patients": ("Floor on this site's own declared number of patients.", "P_FLOOR"),
    "min_cohort": ("The roster's own floor on a cohort must be at least this.", "P_COHORT"),
    "two_sites": ("Accept a federation of exactly two sites.", "P_COHORT"),
    "require_scheduled_replies": ("Every stage must say when replies leave.", "P_TIMING"),
    "allowed_stages": ("Names of stages that may run; empty allows any.", "P_STAGE"),
    "allowed_base_models": ("SHA-256 of base models that may be trained; empty allows the one that is installed.",
                            "P_BASE_MODEL"),
    "allowed_sources": ("Kinds of samples that may be read; empty allows any.", "P_SOURCE"),
    "max_samples": ("Samples of one patient in one step, over all sources of a stage.", "P_SAMPLING"),
    "min_noise_multiplier": ("Smallest noise multiplier of a stage.", "P_NOISE"),
    "allow_without_privacy": ("Accept runs without noise; only ever true in a simulation.", "P_PRIVACY"),
    "max_patients": ("Upper bound on this site's patients; a run with truncated batches needs one.", "P_SAMPLING"),
    "min_ledger_witnesses": ("Peers that must confirm the ledger, if more than the roster asks for.", "P_WITNESS"),
    "approve_runs": ("auto: what the policy allows runs; by-hand: each manifest waits for site-client approve.",
                     "P_APPROVAL"),
    "approve_rosters": ("auto: a roster that two pinned officers signed comes into force by itself; by-hand: it waits.",
                        ""),
    "allowed_groups": ("Groups of layers that may be trained; empty allows any.", "P_GROUP"),
    "max_rounds": ("Rounds of one run, all its stages together.", "P_ROUNDS"),
    "max_upload_mb": ("Megabytes (of 1,000,000 bytes) of one masked upload.", "P_BYTES"),
    "working_hours": ("When a training may begin, local time; empty is always.", "P_HOURS"),
}


def policy_rows(policy: PolicyConfig) -> list[dict[str, Any]]:
    """Each key in the file's order: {key, value (as text), meaning, code, is_default}."""
    rows = []
    for field in fields(policy):
        value = getattr(policy, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        meaning, code = MEANINGS[field.name]
        rows.append({"key": field.name, "value": _text(value), "meaning": meaning, "code": code,
                     "is_default": value == default})
    return rows


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "empty"
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
