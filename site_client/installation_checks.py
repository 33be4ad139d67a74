"""Is everything in place for a run, by part: each check returns one sentence, or raises ValueError with the fix.

`site-client check` prints them; `site-client doctor` asks them too. Nothing is sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from configs.schema import SiteConfig

__all__ = ["check_base_model", "check_data", "check_keys", "check_ledger", "check_roster"]


def check_keys(config: SiteConfig) -> str:
    """The pseudonym and the identity key, made on first use."""
    from site_client.keystore import load_or_create_secret, signing_key

    load_or_create_secret(Path(config.state) / "pseudonym.key")
    return f"identity {signing_key(Path(config.state)).public_bytes().hex()}"


def check_roster(config: SiteConfig) -> str:
    """The roster in force, and this site on it."""
    from site_client.keystore import signing_key
    from site_client.roster_pin import RosterPin

    roster = RosterPin(config).roster()
    if config.site_id not in roster.site_ids:
        raise ValueError(f"{config.site_id} is not on the roster; ask the consortium to enrol this site")
    site = roster.site(config.site_id)
    if site.public_key != signing_key(Path(config.state)).public_bytes():
        raise ValueError(f"the roster has another key for {config.site_id}; restore identity.key from backup, or ask "
                         "the consortium for a roster with the identity shown above")
    if site.declared_patients < config.policy.min_patients:
        raise ValueError(f"this site declares {site.declared_patients} patients and its own policy.min_patients is "
                         f"{config.policy.min_patients}; every run would be refused")
    if site.status != "active":
        raise ValueError(f"{config.site_id} is suspended on version {roster.version} and takes part in no run; ask the "
                         "consortium")
    return f"version {roster.version}, {len(roster.active_ids)} sites, {site.declared_patients} patients declared here"


def check_ledger(config: SiteConfig) -> str:
    """The chain, and what is left of the budget."""
    from site_client.keystore import has_ledger
    from site_client.ledger_report import epsilon_text, facts_of

    if not (Path(config.state) / "ledger.sqlite").is_file():
        if has_ledger(Path(config.state)):
            raise ValueError("it was begun here and is gone; restore the whole state folder from backup")
        return "none yet, the first run makes it (if this site has trained before, restore it from backup)"
    facts = facts_of(config)
    if facts["epsilon"] is None or facts["epsilon"] >= facts["max_epsilon"]:
        raise ValueError(f"epsilon {epsilon_text(facts['epsilon'])} is spent and policy.max_epsilon is "
                         f"{facts['max_epsilon']:g}; no further run will be accepted")
    return f"chain intact, epsilon {epsilon_text(facts['epsilon'])} of {facts['max_epsilon']:g} spent"


def check_base_model(config: SiteConfig) -> str:
    """The model's hash against the policy."""
    from model.backbone import hash_model

    found = hash_model(Path(config.base_model)).hex()
    allowed = config.policy.allowed_base_models
    if allowed and found not in allowed:
        raise ValueError(f"{config.base_model} has hash {found}, which policy.allowed_base_models does not list; "
                         "get the agreed folder, or add the hash")
    return f"hash {found}" + ("" if allowed else " (policy.allowed_base_models is empty: any is allowed)")


def check_data(config: SiteConfig) -> str:
    """The tables can be read; with policy.max_patients everything is read, and the index brought up to date."""
    from site_client.records import Refusal
    from site_client.sources.interface import Report
    from site_client.sources.open_source import open_sources

    if config.data and not Path(config.data).is_dir():
        raise ValueError(f"{config.data} does not exist; name the folder that holds questions.csv")
    questions = reports = refused = 0
    for source in open_sources(config):
        for row in (*source.questions(), *source.reports()):
            if isinstance(row, Refusal):
                refused += 1
            elif isinstance(row, Report):
                reports += 1
            else:
                questions += 1
    if not questions and not (reports and config.report_samples):
        raise ValueError("questions.csv has no usable row; `site-client index SITE_FILE` says why")
    if config.policy.max_patients is not None:
        from site_client.installation import require_bounded
        from site_client.site_index import read_site

        require_bounded(read_site(config), config.policy.max_patients)
    beside = f", {reports} reports" if reports and config.report_samples else ""
    return f"{questions} questions{beside}, {refused} rows refused (`site-client index` reads everything)"
