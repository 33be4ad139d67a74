"""What a run's signed manifest plans, as plain values: stages, privacy settings, and each site's epsilon.

The coordinator never learns what a site has spent: a site's ledger is its own, and no message carries an epsilon. What
it can say is the most that the manifest lets the run spend at each site.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coordinator.manifest import planned_events
from coordinator.release_facts import manifest_facts
from privacy.aggregation import fewest_survivors
from privacy.dp.accounting import epsilon
from privacy.errors import FaultyCoordinatorError, MessageFormatError
from privacy.gates import evaluations, total_rounds, training_rounds
from privacy.identity import Roster
from privacy.messages import RunManifest, SignedManifest
from privacy.roster import RosterError, SignedRoster

__all__ = ["manifest_of", "plan_of"]


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """What the manifest in a run's folder says; None where there is none that its roster's coordinator signed."""
    found = _open(folder)
    if found is None:
        return None
    manifest, roster = found
    return {
        **manifest_facts(manifest), "rounds_total": total_rounds(manifest), "stages": _stages(manifest),
        "privacy": manifest.privacy, "target_epsilon": manifest.target_epsilon,
        "clip_norm": manifest.clip_norm, "suite": manifest.suite, "bits": manifest.bits,
        "floor": max(roster.floor(len(roster.active_ids)), fewest_survivors(manifest)),
        "sites": [terms.site_id for terms in manifest.sites]}


def plan_of(folder: Path) -> list[dict[str, Any]]:
    """One row a site; none where there is no manifest. It takes seconds.

    Epsilon is computed once for each delta: sites that declare as many patients share it.
    """
    found = _open(folder)
    if found is None:
        return []
    manifest = found[0]
    events, known = planned_events(manifest), dict[float, float | None]()
    for delta in {terms.delta for terms in manifest.sites}:
        known[delta] = None if manifest.privacy == "none" else float(epsilon(events, delta))
    return [{"site_id": terms.site_id, "declared_patients": terms.declared_patients, "delta": terms.delta,
             "epsilon": known[terms.delta]} for terms in manifest.sites]


def _stages(manifest: RunManifest) -> list[dict[str, Any]]:
    """As in the manifest; `max_rounds` counts repeats and evaluations as well."""
    return [{**facts, "max_rounds": training_rounds(stage) + evaluations(stage)}
            for facts, stage in zip(manifest_facts(manifest)["stages"], manifest.stages, strict=True)]


def _open(folder: Path) -> tuple[RunManifest, Roster] | None:
    try:
        roster = SignedRoster.parse((folder / "roster.bin").read_bytes()).roster
        return SignedManifest.open((folder / "manifest.bin").read_bytes(), roster), roster
    except (OSError, RosterError, MessageFormatError, FaultyCoordinatorError, ValueError):
        return None
