"""What a person reads before signing or approving a roster: its parties, its numbers, and what changes.

*Guarantees.* `roster_changes` names every difference between two rosters; it is empty only for equal ones. A
fingerprint has 128 bits, enough to compare a key by telephone.

*Assumes.* The person compares fingerprints with their owners over another channel.

*Does not cover.* Whether a roster may be used: that is `privacy.roster`.
"""

from __future__ import annotations

from dataclasses import fields
from hashlib import sha256
from typing import Any

from privacy.identity import Roster
from privacy.roster import OFFICERS_NEEDED, SignedRoster

__all__ = ["fingerprint", "roster_changes", "roster_facts", "roster_text"]

_PARTS = {"sites", "officers", "coordinator_key"}


def fingerprint(public_key: bytes) -> str:
    """The first 16 bytes of a key's SHA-256 in hex, in groups of four digits."""
    digits = sha256(public_key).hexdigest()[:32]
    return " ".join(digits[i : i + 4] for i in range(0, 32, 4))


def roster_facts(signed: SignedRoster) -> dict[str, Any]:
    """Plain values for JSON: everything on the roster, its hash, who signed, and the floor for each cohort."""
    roster = signed.roster
    signers = signed.signers(roster)
    return {
        "federation_id": roster.federation_id, "version": roster.version, "hash": roster.hash().hex(),
        "coordinator": {"public_key": roster.coordinator_key.hex(), "fingerprint": fingerprint(roster.coordinator_key)},
        "sites": [{"site_id": site.site_id, "status": site.status, "declared_patients": site.declared_patients,
                   "public_key": site.public_key.hex(), "fingerprint": fingerprint(site.public_key)}
                  for site in roster.sites],
        "officers": [{"name": officer.name, "public_key": officer.public_key.hex(),
                      "fingerprint": fingerprint(officer.public_key), "signed": officer.name in signers}
                     for officer in roster.officers],
        "signed_by": list(signers), "signatures_needed": OFFICERS_NEEDED,
        "min_cohort": roster.min_cohort, "min_fraction": roster.min_fraction, "two_sites": roster.two_sites,
        "suites": list(roster.suites), "max_dimension": roster.max_dimension,
        "cohorts": [{"announced": n, "threshold": roster.threshold(n), "floor": roster.floor(n),
                     "may_drop_out": n - roster.floor(n)}
                    for n in range(1, len(roster.active_ids) + 1) if roster.floor(n) <= n],
    }


def roster_text(facts: dict[str, Any]) -> str:
    """`roster_facts` as lines for a screen."""
    lines = [
        f"{facts['federation_id']} version {facts['version']}", f"hash         {facts['hash']}",
        f"coordinator  {facts['coordinator']['fingerprint']}",
        *(f"site         {site['site_id']:<16} {site['fingerprint']}  {site['declared_patients']} patients declared"
          + ("" if site["status"] == "active" else f"  ({site['status']})") for site in facts["sites"]),
        *(f"officer      {officer['name']:<16} {officer['fingerprint']}" + ("  signed" if officer["signed"] else "")
          for officer in facts["officers"]),
        f"rules        min_cohort {facts['min_cohort']}, min_fraction {facts['min_fraction']:g}, at most "
        f"{facts['max_dimension']} coordinates, suites {', '.join(facts['suites'])}",
    ]
    if facts["two_sites"]:
        lines.append("             two sites: each sees the other's noised update in the sum; it hides from the "
                     "coordinator only")
    lines.append("cohort       " + ("announced  threshold  floor  may drop out" if facts["cohorts"] else
                                    "no round can begin: the floor is above the number of active sites"))
    lines += [f"             {row['announced']:>9}  {row['threshold']:>9}  {row['floor']:>5}  {row['may_drop_out']:>12}"
              for row in facts["cohorts"]]
    return "\n".join(lines)


def roster_changes(old: Roster, new: Roster) -> tuple[str, ...]:
    """One line for each difference; keys are named by their fingerprints."""
    found = [f"{name}: {_shown(getattr(old, name))} -> {_shown(getattr(new, name))}"
             for name in (field.name for field in fields(Roster))
             if name not in _PARTS and getattr(old, name) != getattr(new, name)]
    if old.coordinator_key != new.coordinator_key:
        found.append(f"coordinator's key changed: {fingerprint(old.coordinator_key)} -> "
                     f"{fingerprint(new.coordinator_key)}")
    before, after = ({site.site_id: site for site in roster.sites} for roster in (old, new))
    found += _party_lines("site", {name: site.public_key for name, site in before.items()},
                          {name: site.public_key for name, site in after.items()})
    for site_id in sorted(set(before) & set(after)):
        found += [f"site {site_id}: {name} {getattr(before[site_id], name)} -> {getattr(after[site_id], name)}"
                  for name in ("status", "declared_patients")
                  if getattr(before[site_id], name) != getattr(after[site_id], name)]
    found += _party_lines("officer", {o.name: o.public_key for o in old.officers},
                          {o.name: o.public_key for o in new.officers})
    return tuple(found)


def _party_lines(kind: str, old: dict[str, bytes], new: dict[str, bytes]) -> list[str]:
    lines = [f"{kind} removed: {name}" for name in sorted(set(old) - set(new))]
    lines += [f"{kind} added: {name} {fingerprint(new[name])}" for name in sorted(set(new) - set(old))]
    return lines + [f"{kind}'s key changed: {name} {fingerprint(old[name])} -> {fingerprint(new[name])}"
                    for name in sorted(set(old) & set(new)) if old[name] != new[name]]


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
