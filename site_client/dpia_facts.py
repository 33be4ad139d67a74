"""What a data protection impact assessment needs to know of this site, as values read from its own files.

Nothing is estimated: each value comes from the site file, the signed ledger, the audit log, the pinned roster or the
index. A part that cannot be read says why in its `fault`. Counts below ten are hidden: the document is handed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from math import exp
from pathlib import Path
from typing import Any

from configs.schema import SiteConfig
from privacy.enrolment import Invitation
from privacy.ledger import LedgerTamperedError
from privacy.release import LIBRARIES, release_hash
from privacy.roster_facts import fingerprint
from site_client.audit_commands import booking, egress_report
from site_client.index_facts import FEWEST
from site_client.keystore import has_ledger
from site_client.ledger_report import facts_of
from site_client.opt_out import read_opt_out
from site_client.roster_pin import RosterPin

__all__ = ["dpia_facts"]

_LARGEST = 700.0  # of an exponent: beyond it a float64 is infinite


def dpia_facts(config: SiteConfig, index: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Plain JSON values.

    Args:
        config: the site.
        index: `site_client.index_facts.report_facts` with small counts hidden; None where the data was not read.
    """
    return {
        "site_id": config.site_id, "written_utc": datetime.now(UTC).isoformat(timespec="minutes"),
        "software": {"release": release_hash(), "libraries": sorted(LIBRARIES)},
        "coordinator": _coordinator(config), "federation": _federation(config),
        "policy": {one.name: getattr(config.policy, one.name) for one in fields(config.policy)},
        "sources": _sources(config), "text_check": config.phi.on_hit, "index": None if index is None else dict(index),
        "opted_out": _opted_out(config),
        "budget": _budget(config), "left": _left(config), "base_model": Path(config.base_model).name,
    }


def _federation(config: SiteConfig) -> dict[str, Any]:
    try:
        roster = RosterPin(config).roster()
    except ValueError as error:
        return {"fault": str(error)}
    return {
        "id": roster.federation_id, "roster_version": roster.version, "roster_hash": roster.hash().hex(),
        "sites": [{"site_id": site.site_id, "declared_patients": site.declared_patients, "status": site.status}
                  for site in roster.sites],
        "officers": [officer.name for officer in roster.officers],
        "coordinator_key": fingerprint(roster.coordinator_key), "min_cohort": roster.min_cohort,
        "min_fraction": roster.min_fraction, "two_sites": roster.two_sites, "suites": list(roster.suites)}


def _opted_out(config: SiteConfig) -> int | str:
    """How many patients are on the opt-out list, few of them hidden."""
    number = len(read_opt_out(Path(config.state)) or ())
    return f"<{FEWEST}" if 0 < number < FEWEST else number


def _sources(config: SiteConfig) -> list[dict[str, str]]:
    folder = [{"name": "data", "kind": "folder"}] if config.data else []
    return [*folder, *({"name": source.name, "kind": source.kind} for source in config.sources)]


def _left(config: SiteConfig) -> dict[str, Any]:
    """What the audit log booked before it left, by kind of message; {} before the first start."""
    state = Path(config.state)
    if not (state / "audit.sqlite").is_file():
        return {}
    try:
        with booking(state) as log:
            return egress_report(log.verify())
    except ValueError as error:
        return {"fault": str(error)}


def _budget(config: SiteConfig) -> dict[str, Any]:
    """The ledger's account, and e**epsilon: by how much the odds of a conclusion about one patient may change."""
    state = Path(config.state)
    if not (state / "ledger.sqlite").is_file() and not has_ledger(state):
        return {"epsilon": 0.0, "private": True, "per_run": [], "delta": None, "guarantees": None,
                "factor": 1.0}
    try:
        facts = facts_of(config)
    except (ValueError, LedgerTamperedError) as error:
        return {"fault": str(error)}
    spent = facts["epsilon"]
    return {**{name: facts[name] for name in ("epsilon", "delta", "private", "per_run", "guarantees", "head")},
            "factor": None if spent is None else exp(min(spent, _LARGEST))}


def _coordinator(config: SiteConfig) -> str:
    """HOST:PORT of the invitation; "" without one."""
    if not config.invitation:
        return ""
    try:
        return Invitation.from_json(Path(config.invitation).read_bytes()).address
    except FileNotFoundError:
        raise ValueError(f"{config.invitation} does not exist; put back the file that was received") from None
