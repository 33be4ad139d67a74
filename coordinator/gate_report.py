"""What an evaluation round says, for the run's history, screens and the error that ends a run at a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coordinator.curriculum import Position, unpassed_gate
from privacy.evaluation import GateOutcome
from privacy.gates import EVALUATION_LANES, evaluation_scale, failed_sites
from privacy.manifest import RunManifest

__all__ = ["GateNotPassedError", "evaluation_facts", "evaluation_text", "gate_not_passed", "open_gate"]


class GateNotPassedError(RuntimeError):
    """A stage's gate was not passed with all its repeats; the run is over, and its last checkpoint stays."""


def evaluation_facts(
    manifest: RunManifest, position: Position, real: npt.NDArray[np.float64], sites: int
) -> dict[str, Any]:
    """An evaluation round's sum float64[3] over `sites` sites, as plain values.

    `failed` and `passed` are None where the round decides no gate. No value is of one site.
    """
    scale = evaluation_scale(manifest, position.stage)
    found = scale.decode(real, sites)
    failed = failed_sites(scale, float(real[EVALUATION_LANES - 1]), sites) if position.decides else None
    return {"patients": found.patients, "mean_loss": found.mean_loss, "standard_error": found.standard_error,
            "repeat": position.repeat, "failed": failed, "passed": None if failed is None else failed == 0}


def evaluation_text(facts: Mapping[str, Any], sites: int) -> str:
    """The facts in one line, for a screen."""
    loss = "no loss stands out of the noise" if facts["mean_loss"] is None else (
        f"noised validation loss {facts['mean_loss']:.3f} +- {facts['standard_error']:.3f} of about "
        f"{facts['patients']:.0f} patients")
    if facts["passed"] is None:
        return loss
    verdict = "passed" if facts["passed"] else f"NOT passed: {facts['failed']} of {sites} sites failed"
    return f"{loss}; gate {verdict}"


def open_gate(manifest: RunManifest, gates: Sequence[GateOutcome]) -> str:
    """The first gate of the manifest that these outcomes do not pass, and why, for a sentence; "" when all are passed.

    Args:
        gates: of a result, which a quorum attested.
    """
    index = unpassed_gate(manifest.stages, gates)
    if index is None:
        return ""
    tried = [outcome for outcome in gates if outcome.stage == index]
    why = f"{tried[-1].failed} sites failed it in round {tried[-1].round}" if tried else "no round of it has a sum"
    return f"the gate of stage {manifest.stages[index].name} is not passed ({why})"


def gate_not_passed(
    manifest: RunManifest, gates: Sequence[GateOutcome], history: Sequence[Any]
) -> GateNotPassedError | None:
    """The error of a run whose curriculum ended at a gate; None when every gate was passed.

    Args:
        history: reports of the finished rounds (`coordinator.rounds.RoundReport`).
    """
    index = unpassed_gate(manifest.stages, gates)
    if index is None:
        return None
    stage = manifest.stages[index].name
    outcomes = [outcome for outcome in gates if outcome.stage == index]
    if not outcomes:
        return GateNotPassedError(f"gate not passed: no gate round of stage {stage} ended with a sum")
    last = outcomes[-1]
    sites = next((len(report.summed) for report in history if report.round == last.round), None)
    many = "once" if len(outcomes) == 1 else f"{len(outcomes)} times"
    return GateNotPassedError(
        f"gate not passed: {last.failed} of {sites if sites is not None else 'the'} sites failed the gate of stage "
        f"{stage}, which was tried {many}; which of them is not known")
