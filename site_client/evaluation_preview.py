"""A stage's evaluations and gate as this hospital's operator reads them before a run is approved."""

from __future__ import annotations

from typing import Any

from privacy.dp.accounting import epsilon
from privacy.gates import evaluation_events, evaluations
from privacy.manifest import RunManifest, StageSpec

__all__ = ["evaluation_facts", "evaluation_lines"]

_FINE = 0.3  # less noise than this takes the accountant minutes


def evaluation_facts(manifest: RunManifest, stage: StageSpec, delta: float | None) -> dict[str, Any] | None:
    """What the stage evaluates, as JSON values; None where it does not.

    Args:
        delta: this site's; `epsilon` is None without one, in a run without noise, or with too little of it.
    """
    terms = stage.evaluation
    if terms is None:
        return None
    charged = delta is not None and manifest.privacy != "none" and terms.noise_multiplier >= _FINE
    gate = terms.gate
    return {
        "most": evaluations(stage), "every_rounds": terms.every_rounds, "loss_cap": terms.loss_cap,
        "noise_multiplier": terms.noise_multiplier,
        "epsilon": epsilon(evaluation_events(stage), delta) if charged and delta is not None else None,
        "gate": None if gate is None else {
            "threshold": gate.threshold, "min_patients": gate.min_patients, "max_repeats": gate.max_repeats,
            "spare": gate.spare}}


def evaluation_lines(facts: dict[str, Any] | None, validation_share: float) -> list[str]:
    """The facts for a screen; none without an evaluation."""
    if facts is None:
        return []
    alone = "" if facts["epsilon"] is None else f", epsilon {facts['epsilon']:.4g} by themselves"
    when = f"every {facts['every_rounds']} rounds and " if facts["every_rounds"] else ""
    lines = [f"    evaluates {when}at its end, at most {facts['most']} times, on {100 * validation_share:g} % of the "
             f"patients, who are never trained on; noise multiplier {facts['noise_multiplier']:g}{alone} (part of the "
             "run's epsilon)"]
    gate = facts["gate"]
    if gate is not None:
        lines.append(
            f"    gate: this site passes with a noised mean loss of at most {gate['threshold']:g} over at least "
            f"{gate['min_patients']} patients; at most {gate['max_repeats']} repeats of the stage; others learn how "
            "many sites failed, not which")
    return lines
