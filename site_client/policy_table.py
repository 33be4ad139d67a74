"""The policy as a table: each key with its value, the site file's words on it, and the code of its refusal."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from configs.schema import PolicyConfig
from site_client.site_file import POLICY_TEXTS

__all__ = ["CODES", "policy_rows"]

CODES = {
    "max_epsilon": "P_BUDGET", "max_delta": "P_DELTA", "max_total_delta": "P_DELTA", "max_wasted_rounds": "P_WASTED",
    "min_patients": "P_FLOOR", "min_cohort": "P_COHORT", "two_sites": "P_COHORT",
    "require_scheduled_replies": "P_TIMING", "min_reply_after_s": "P_TIMING", "allowed_stages": "P_STAGE",
    "allowed_base_models": "P_BASE_MODEL", "allowed_sources": "P_SOURCE",
    "max_samples": "P_SAMPLING", "min_noise_multiplier": "P_NOISE",
    "allow_without_privacy": "P_PRIVACY", "max_patients": "P_SAMPLING", "min_ledger_witnesses": "P_WITNESS",
    "approve_runs": "P_APPROVAL", "allowed_groups": "P_GROUP", "max_rounds": "P_ROUNDS", "max_upload_mb": "P_BYTES",
    "working_hours": "P_HOURS",
}
"""Key -> code (`privacy.errors.POLICY_REFUSALS`); the other keys refuse no run by themselves."""


def policy_rows(policy: PolicyConfig) -> list[dict[str, Any]]:
    """Each key in its order: {key, value (as text), meaning, code or "", is_default}."""
    rows = []
    for field in fields(policy):
        value = getattr(policy, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        rows.append({"key": field.name, "value": _text(value), "meaning": POLICY_TEXTS[field.name],
                     "code": CODES.get(field.name, ""), "is_default": value == default})
    return rows


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "[]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
