"""What a run's signed manifest plans, as plain values: stages, privacy settings, and each site's epsilon.

The coordinator never learns what a site has spent: a site's ledger is its own, and no message carries an epsilon. What
it can say is the most that the manifest lets the run spend at each site.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coordinator.manifest import planned_events
from coordinator.release_facts import manifest_facts
from privacy.dp.accounting import epsilon
from privacy.errors import FaultyCoordinatorError, MessageFormatError
from privacy.messages import RunManifest, SignedManifest
from privacy.roster import RosterError, SignedRoster

__all__ = ["manifest_of"]


def manifest_of(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """(facts, one row a site) of the manifest in a run's folder; None where there is none that its roster signs for."""
    try:
        roster = SignedRoster.parse((folder / "roster.bin").read_bytes()).roster
        manifest = SignedManifest.open((folder / "manifest.bin").read_bytes(), roster)
    except (OSError, RosterError, MessageFormatError, FaultyCoordinatorError, ValueError):
        return None
    facts = {
        **manifest_facts(manifest), "privacy": manifest.privacy, "target_epsilon": manifest.target_epsilon,
        "clip_norm": manifest.clip_norm, "suite": manifest.suite, "bits": manifest.bits,
        "floor": roster.floor(len(roster.active_ids)), "sites": [terms.site_id for terms in manifest.sites]}
    return facts, _planned(manifest)


def _planned(manifest: RunManifest) -> list[dict[str, Any]]:
    """Epsilon is computed once for each delta: sites that declare as many patients share it."""
    events, known = planned_events(manifest), dict[float, float | None]()
    for delta in {terms.delta for terms in manifest.sites}:
        known[delta] = None if manifest.privacy == "none" else float(epsilon(events, delta))
    return [{"site_id": terms.site_id, "declared_patients": terms.declared_patients, "delta": terms.delta,
             "epsilon": known[terms.delta]} for terms in manifest.sites]
