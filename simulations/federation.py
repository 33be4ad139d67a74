"""Lays out a simulated federation on disk: keys, roster, a site file for each hospital, the coordinator's files.

The files are those of a real installation, so sites and coordinator open them as they would anywhere. Only the
keys differ: they are derived from the run's seed, which makes a simulation repeatable and everything in it *not
private*.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from configs.schema import CoordinatorConfig, CurriculumConfig, PolicyConfig, SimulationConfig, SiteConfig, TrustConfig
from coordinator.manifest import build_manifest
from privacy.identity import Officer, Roster, RosterSite, SigningKey
from privacy.messages import RunManifest, SignedManifest
from privacy.roster import SignedRoster
from simulations.hospitals import read_manifest
from simulations.seeded import derived_secret
from site_client.roster_pin import PinnedRoster

__all__ = ["FederationFiles", "lay_out"]

FEDERATION_ID = "simulated-consortium"
OFFICERS = ("officer-1", "officer-2")


@dataclass(frozen=True)
class FederationFiles:
    """Where everything is: the coordinator's file, the sites' files in node order, and the manifest."""

    coordinator_file: str
    site_files: tuple[str, ...]
    site_ids: tuple[str, ...]
    manifest: RunManifest
    output: Path


def lay_out(
    folder: Path, config: SimulationConfig, curriculum: CurriculumConfig, *, hospitals: Path,
    declared: Mapping[str, int], base_model: Path, base_hash: bytes, adapter_hash: bytes, public_examples: Path,
    mode: Literal["patient-dp", "none"], audit: Path | None = None,
) -> FederationFiles:
    """Write (or find again) the files of one federation under `folder`.

    Args:
        hospitals: the folder that `make-hospitals` wrote; its `site-*` folders are the sites.
        declared: declared number of patients for each site.
        audit: `audit.json`, which the coordinator compares with its run and names in its export.
    """
    folder.mkdir(parents=True, exist_ok=True)
    coordinator_key = SigningKey.from_private_bytes(derived_secret(config.seed, "coordinator", "identity"))
    keys = {site: _site_secrets(folder / site, config.seed, site) for site in declared}
    signed = _signed_roster(config, coordinator_key, keys, declared)
    roster = signed.roster
    trust = _trust(config) if mode == "patient-dp" else None
    manifest = build_manifest(
        run_id=f"{config.name}-{mode}-{config.seed}" + "-distributed" * (trust is not None), curriculum=curriculum,
        privacy=config.privacy,
        lora=config.lora, federation=config.federation, roster=roster, base_model_hash=base_hash,
        adapter_hash=adapter_hash, mode=mode)
    roster_file, manifest_file = folder / "roster.bin", folder / "manifest.bin"
    _write(roster_file, signed.to_bytes())
    _write(manifest_file, SignedManifest.make(manifest, coordinator_key).to_bytes())
    _write(folder / "coordinator.key", coordinator_key.private_bytes(), mode=0o600)
    sites = [_site_file(folder / site, SiteConfig(
        site_id=site, data=str(hospitals / site), state=str(folder / site / "state"), base_model=str(base_model),
        index=str(hospitals.with_name(f"{hospitals.name}-index-{config.seed}") / site),  # shared by every row
        roster=str(roster_file), roster_hash=roster.hash().hex(),
        policy=PolicyConfig(
            max_epsilon=config.site_max_epsilon, min_patients=config.site_min_patients,
            allow_without_privacy=mode == "none", max_patients=config.site_max_patients,
            require_scheduled_replies=False,  # many sites share one machine, so they keep no schedule
            two_sites=config.federation.two_sites, min_cohort=2 if config.federation.two_sites else 3,
            distributed_noise=trust, max_rounds=max(1000, sum(stage.rounds for stage in curriculum.stages))),
        engine=config.site_engine)) for site in declared]
    for site in declared:  # as its operator would approve it; a folder that is laid out anew gets the new one
        _write(folder / site / "state" / "roster.pin", PinnedRoster(roster.hash(), signed).to_bytes(), mode=0o600)
    coordinator = CoordinatorConfig(
        manifest=str(manifest_file), roster=str(roster_file), key=str(folder / "coordinator.key"),
        base_model=str(base_model), output=str(folder / "coordinator"), public_examples=str(public_examples),
        timeout_s=config.federation.timeout_s, every_rounds=config.evaluation.every_rounds,
        audit="" if audit is None or config.site_engine != "own" else str(audit.resolve()),
        data_hash=str(read_manifest(hospitals)["files_sha256"]))
    coordinator_file = folder / "coordinator.yaml"
    _write_yaml(coordinator_file, asdict(coordinator))
    return FederationFiles(str(coordinator_file), tuple(sites), tuple(declared), manifest, folder / "coordinator")


def _trust(config: SimulationConfig) -> TrustConfig | None:
    """Each simulated site's statement on shared noise: what the run asks for, under the configuration's caps."""
    shared = config.privacy.distributed
    if shared is None or config.privacy.noise != "distributed":
        return None
    return TrustConfig(
        colluders=shared.colluders, min_survivors=shared.min_survivors,
        max_epsilon_outside=config.site_max_epsilon_outside, max_epsilon_alone=config.site_max_epsilon_alone)


def _signed_roster(
    config: SimulationConfig, coordinator_key: SigningKey, keys: Mapping[str, SigningKey], declared: Mapping[str, int]
) -> SignedRoster:
    """The consortium's roster, signed by two simulated officers; the same for the same seed."""
    officers = {name: SigningKey.from_private_bytes(derived_secret(config.seed, name, "identity")) for name in OFFICERS}
    rules = config.federation
    roster = Roster(
        federation_id=FEDERATION_ID, version=1, coordinator_key=coordinator_key.public_bytes(),
        sites=tuple(RosterSite(site_id=site, public_key=keys[site].public_bytes(), declared_patients=count)
                    for site, count in declared.items()),
        min_cohort=rules.min_cohort, min_fraction=rules.min_fraction, two_sites=rules.two_sites,
        officers=tuple(Officer(name, key.public_bytes()) for name, key in officers.items()))
    return SignedRoster.make(roster, *officers.values())


def _site_secrets(folder: Path, seed: int, site: str) -> SigningKey:
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    identity = derived_secret(seed, site, "identity")
    _write(state / "identity.key", identity, mode=0o600)
    _write(state / "pseudonym.key", derived_secret(seed, site, "pseudonym"), mode=0o600)
    return SigningKey.from_private_bytes(identity)


def _site_file(folder: Path, config: SiteConfig) -> str:
    path = folder / "site.yaml"
    _write_yaml(path, asdict(config))
    return str(path)


def _write_yaml(path: Path, values: dict[str, Any]) -> None:
    """JSON is YAML: no second serialiser."""
    _write(path, json.dumps(values, indent=1).encode())


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)
