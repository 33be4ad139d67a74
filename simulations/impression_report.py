"""The table of a simulation on impressions: loss per token and scores of each row, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model.intervals import ratio_difference, ratio_interval

__all__ = ["MEASURES", "impression_rows", "impression_table", "joined", "terms_of"]

LOSS = "loss per token"
MEASURES = (LOSS, "ROUGE-L", "finding F1", "abnormality F1")
Arm = Mapping[str, Any]  # arm.json
Terms = tuple[list[float], list[float], list[str]]  # numerators, denominators, patients


def impression_rows(results: Sequence[Arm]) -> list[dict[str, Any]]:
    """One row each, in the order given: every measure and its difference to the base on the same patients."""
    base = next((row for row in results if row["name"] == "base"), None)
    return [_row(row, base) for row in results]


def terms_of(arm: Arm, measure: str) -> Terms:
    """What a measure is made of, by patient: the ratio of the sums is its value."""
    patients = list(map(str, arm["patients"]))
    if measure == LOSS:
        return list(arm["loss"]), [float(count) for count in arm["tokens"]], patients
    pairs = arm["answers"][measure]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs], patients[: len(pairs)]


def joined(arms: Sequence[Arm], measure: str) -> Terms:
    """The terms of several trainings on the same patients, who keep their names: a patient is resampled with all of
    its values."""
    parts = [terms_of(arm, measure) for arm in arms]
    return ([value for part in parts for value in part[0]], [value for part in parts for value in part[1]],
            [value for part in parts for value in part[2]])


def _row(row: Arm, base: Arm | None) -> dict[str, Any]:
    privacy, sent = row.get("privacy", {}), sum(sum(entry["bytes_from_sites"].values())
                                                for entry in row.get("rounds", []))
    measures = [name for name in MEASURES if name == LOSS or row["answers"].get(name)]
    return {
        "name": row["name"], "seconds": row["seconds"], "patients": len(row["patients"]),
        "answered": len(row["answers"].get("ROUGE-L", [])),
        "measures": {name: ratio_interval(*terms_of(row, name)) for name in measures},
        "minus_base": {} if base is None or row is base else {
            name: ratio_difference(terms_of(row, name)[:2], terms_of(base, name)[:2], terms_of(row, name)[2])
            for name in measures},
        "epsilon": {site: values["epsilon"] for site, values in privacy.items()}, "bytes_from_sites": sent,
    }


def impression_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of `impression_rows`."""
    lines = [f"| row | {' | '.join(MEASURES)} | loss minus base | epsilon | seconds |",
             "|---" * (len(MEASURES) + 4) + "|"]
    for row in rows:
        cells = [_shown(row["measures"].get(name)) for name in MEASURES]
        spent = f"{max(row['epsilon'].values()):.2f}" if row["epsilon"] else "-" if row["name"] == "base" else "none"
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {_shown(row['minus_base'].get(LOSS), '+')} | {spent} | "
                     f"{row['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def _shown(interval: Sequence[float] | None, sign: str = "") -> str:
    if interval is None:
        return "-"
    estimate, low, high = interval
    return f"{estimate:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
