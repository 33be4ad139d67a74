"""What an index says in numbers: exact for the site's own screen, with small counts hidden for anybody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from site_client.records import REASONS, SiteIndex

__all__ = ["FEWEST", "index_facts", "index_text", "report_facts", "report_text"]

FEWEST = 10
"""Counts below it stand for single patients; a report for others shows them as "<10"."""
_PERCENTILES = (50, 90, 99)
_HIDDEN = "hidden"


def index_facts(site_id: str, index: SiteIndex) -> dict[str, Any]:
    """Exact counts, for the hospital's own staff."""
    patients: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    for patient in index.patients:
        for source, examples in patient.examples.items():
            patients[source] += 1
            samples[source] += len(examples)
    sources = {name: {"patients": patients[name], "samples": samples[name]} for name in sorted(samples)}
    return {"site_id": site_id, "patients": len(index.patients), "sources": sources,
            "refused": len(index.refused), "refused_by_reason": index.reasons(),
            "identity_conflicts": len(index.suspect)}


def index_text(facts: Mapping[str, Any]) -> str:
    """The same in lines."""
    lines = [_mirrored(name, counts) for name, counts in facts.get("mirrors", {}).items()]
    lines += [f"{facts['site_id']}: {facts['patients']} patients"]
    lines += [f"  {name:<10}{counts['samples']:>7} samples of {counts['patients']} patients"
              for name, counts in facts["sources"].items()]
    lines.append(f"refused: {facts['refused']} items" + ("" if facts["refused"] else "; everything was used"))
    lines += [f"  {count:>6}  {reason:<22} {REASONS[reason]}" for reason, count in facts["refused_by_reason"].items()]
    if facts["identity_conflicts"]:
        lines.append(f"look into: {facts['identity_conflicts']} items whose identifier two patients claim (used; "
                     "--refused lists them)")
    lines += [f"  {item['reason']:<22} {_printable(item['item'])}" for item in facts.get("refused_items", [])]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Without characters that a terminal would obey, or could not show: file names are anybody's."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _mirrored(name: str, counts: Mapping[str, int]) -> str:
    """What a sync of one server did (`sources.interface.Synced`)."""
    failed = f", {counts['failed']} not given; they are asked for again" if counts["failed"] else ""
    return f"mirror of {name}: {counts['new']} new, {counts['known']} known{failed}"


def report_facts(site_id: str, index: SiteIndex, *, exact: bool = False) -> dict[str, Any]:
    """Modalities, transfer syntaxes, refusals, hits of the text check and samples of one patient; counts below
    `FEWEST` are "<10" unless `exact`. A percentile with fewer than `FEWEST` patients above it is hidden too, and so is
    what stems from fewer patients, and what would tell a hidden count as a difference. Refusals count items, whose
    patients are often not known; two reports of different days differ by what came between them."""
    facts = index_facts(site_id, index)
    facts |= {name: dict(index.files.get(name, {})) for name in ("modalities", "syntaxes")}
    facts["phi_hits"] = dict(index.phi_hits)
    facts["samples_per_patient"] = _percentiles(index, exact=exact)
    if exact:
        return facts
    hidden = {name: _hidden(value) for name, value in facts.items()}
    for name, counts in index.patients_behind.items():
        hidden[name] |= {value: _HIDDEN for value, patients in counts.items()
                         if patients < FEWEST and isinstance(hidden[name].get(value), int)}
    for counts in hidden["sources"].values():
        if isinstance(counts["patients"], str) and isinstance(counts["samples"], int):
            counts["samples"] = _HIDDEN
    return _without_differences(hidden)


def _without_differences(facts: dict[str, Any]) -> dict[str, Any]:
    """No hidden count is what a total, or the other table of the same files, shows beyond the counts that are shown."""
    reasons = facts["refused_by_reason"].values()
    if isinstance(facts["refused"], int) and any(isinstance(count, str) for count in reasons):
        shown = sum(count for count in reasons if isinstance(count, int))
        facts["refused"] = f">={shown}" if shown else _HIDDEN
    tables = [facts[name] for name in ("modalities", "syntaxes")]
    if any(isinstance(count, str) for table in tables for count in table.values()):
        for table in tables:
            shown_counts = {name: count for name, count in table.items() if isinstance(count, int)}
            if len(shown_counts) == len(table) and table:  # else it tells no total
                table[min(shown_counts, key=lambda name: shown_counts[name])] = f">={FEWEST}"
    return facts


def report_text(facts: Mapping[str, Any]) -> str:
    """The same in lines."""
    lines = [f"{facts['site_id']}: {facts['patients']} patients"]
    for title, name in (("files by modality", "modalities"), ("files by transfer syntax", "syntaxes"),
                        ("samples", "sources"), ("refused", "refused_by_reason"), ("hits in texts", "phi_hits"),
                        ("samples of one patient", "samples_per_patient")):
        lines.append(f"{title}:" + ("" if facts[name] else " none"))
        lines += [f"  {_amount(value):>24}  {key}" for key, value in facts[name].items()]
    return "\n".join(lines)


def _amount(value: object) -> str:
    if isinstance(value, dict):
        return f"{value['samples']} of {value['patients']} patients"
    return "hidden" if value is None else str(value)


def _percentiles(index: SiteIndex, *, exact: bool) -> dict[str, int | None]:
    counts = sorted(sum(map(len, patient.examples.values())) for patient in index.patients)
    shown: dict[str, int | None] = {}
    for percent in _PERCENTILES:
        position = -(-len(counts) * percent // 100)  # nearest rank, from 1
        above = len(counts) - position
        shown[f"{percent} %"] = counts[position - 1] if counts and (exact or above >= FEWEST) else None
    if exact:
        shown["most"] = counts[-1] if counts else None
    return shown


def _hidden(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | dict):
        return value
    if isinstance(value, int):
        return value if value == 0 or value >= FEWEST else f"<{FEWEST}"
    return {name: _hidden(part) if name not in {f"{percent} %" for percent in _PERCENTILES} else part
            for name, part in value.items()}
