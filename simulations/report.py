"""The result of a simulation: `report.json`, `report.html` with plots, the adapter, and the table on the screen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from configs.schema import SimulationConfig
from model.export import stamp_audit
from privacy.audit_claim import AuditClaim, audit_claim, subject_of
from privacy.messages import SignedManifest
from privacy.roster import SignedRoster
from simulations.hospitals import read_manifest
from simulations.intervals import mean_interval, paired_interval
from simulations.materials import Materials
from simulations.report_page import render_page
from simulations.report_text import KIND_TITLES, NOT_PRIVATE, percent

__all__ = ["print_table", "write_report"]

_PRIVATE = ("federated-dp", "federated-distributed")  # the rows whose manifest and adapter a report is about, in order


def write_report(
    out: Path, config: SimulationConfig, materials: Materials, results: Sequence[Mapping[str, Any]], engine: str,
    seconds: float, audit: Path | None = None,
) -> dict[str, Any]:
    """Write everything under `out`; the content of `report.json`."""
    base = next((row for row in results if row["name"] == "base"), None)
    rows = [_row(row, base) for row in _ordered(results)]
    facts: dict[str, Any] = {
        "name": config.name, "engine": engine, "seed": config.seed, "seconds": seconds, "not_private": NOT_PRIVATE,
        "base_model": materials.base_hash.hex(), "declared_patients": materials.declared, "rows": rows,
        "rounds": {row["name"]: row["rounds"] for row in results if "rounds" in row},
        "privacy": next((row["privacy"] for row in results if "privacy" in row), {}),
        "manifest": next((row["manifest"] for name in _PRIVATE for row in results if row["name"] == name), None),
        "samples": _side_by_side(results), "config": asdict(config),
        "output": str(out),
    }
    adapter = _copy_adapter(out, results)
    facts["adapter"] = adapter
    claim = _audit_claim(config, out, materials, audit)
    facts["audited"], facts["audit"] = claim.audited, claim.text
    if adapter is not None:
        stamp_audit(Path(adapter), claim.text)
    (out / "report.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (out / "report.html").write_text(render_page(facts), encoding="utf-8")
    return facts


def _audit_claim(config: SimulationConfig, out: Path, materials: Materials, audit: Path | None) -> AuditClaim:
    """What the report and the adapter may say about an audit: of the manifest that the private federation ran."""
    found = [path for name in _PRIVATE if (path := out / "arms" / name / "manifest.bin").is_file()]
    signed = found[0] if found else out
    if not found:
        return AuditClaim(False, "not audited: no federated row of this run has differential privacy")
    manifest = SignedManifest.open(signed.read_bytes(), SignedRoster.open((signed.parent / "roster.bin").read_bytes()))
    data = str(read_manifest(materials.hospitals)["files_sha256"])
    return audit_claim(audit, subject_of(manifest, data, config.site_engine))


def _ordered(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    order = ["base", "alone", "pooled", "pooled-dp", "federated", "federated-dp", "federated-distributed"]
    return sorted(results, key=lambda row: (order.index(row["name"].split(":")[0]), row["name"]))


def _row(row: Mapping[str, Any], base: Mapping[str, Any] | None) -> dict[str, Any]:
    """One line of the table: accuracy per question with intervals, difference to the base, cost, privacy."""
    accuracy = {kind: mean_interval(test["correct"], test["patients"]) for kind, test in row["test"].items()}
    gain = {} if base is None or row is base else {
        kind: paired_interval(test["correct"], base["test"][kind]["correct"], test["patients"])
        for kind, test in row["test"].items()}
    privacy = row.get("privacy", {})
    sent = [sum(entry[side].values()) for entry in row.get("rounds", []) for side in ("bytes_from_sites",)]
    return {
        "name": row["name"], "accuracy": accuracy, "gain_over_base": gain, "seconds": row["seconds"],
        "questions": {kind: len(test["correct"]) for kind, test in row["test"].items()},
        "test_loss": {kind: test["loss"] for kind, test in row["test"].items()},
        "epsilon": {site: values["epsilon"] for site, values in privacy.items()},
        "delta": {site: values["delta"] for site, values in privacy.items()},
        "bytes_from_sites": sum(sent), "serialised_bytes": row.get("serialised_bytes"),
    }


def _side_by_side(results: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The same questions answered by the base and by the federated models."""
    by_name = {row["name"]: row["samples"] for row in results}
    if "base" not in by_name:
        return []
    others = [name for name in ("federated", "federated-dp", "federated-distributed") if name in by_name]
    return [
        {"kind": sample["kind"], "question": sample["question"], "truth": sample["truth"], "base": sample["answer"],
         **{name: by_name[name][number]["answer"] for name in others}}
        for number, sample in enumerate(by_name["base"])
    ]


def _copy_adapter(out: Path, results: Sequence[Mapping[str, Any]]) -> str | None:
    """The federated adapter (with privacy where that row exists) as `adapter/`, in PEFT layout."""
    names = {row["name"] for row in results}
    for name in (*_PRIVATE, "federated"):
        source = out / "arms" / name / "coordinator" / "adapter"
        if name in names and source.is_dir():
            shutil.rmtree(out / "adapter", ignore_errors=True)
            shutil.copytree(source, out / "adapter")
            return str(out / "adapter")
    return None


def print_table(facts: Mapping[str, Any], console: Console) -> None:
    """The final table, and where the report is."""
    kinds = [kind for kind in KIND_TITLES if any(kind in row["accuracy"] for row in facts["rows"])]
    table = Table(title=f"{facts['name']}: accuracy on patients that no training saw (95% interval)")
    table.add_column("row", no_wrap=True)
    for kind in kinds:
        table.add_column(KIND_TITLES[kind], justify="right")
    for title in ("epsilon", "sent by sites", "seconds"):
        table.add_column(title, justify="right")
    for row in facts["rows"]:
        shares = (percent(row["accuracy"][kind]) if kind in row["accuracy"] else "-" for kind in kinds)
        table.add_row(
            row["name"], *(share.replace(" ", "\n", 1) for share in shares), _epsilon(row),
            f"{row['bytes_from_sites'] / 1e6:.1f} MB" if row["bytes_from_sites"] else "-", f"{row['seconds']:.0f}")
    console.print(table)
    for site, values in facts["privacy"].items():
        console.print(f"{site}: epsilon {values['epsilon']:.2f} at delta {values['delta']:.0e} for each of "
                      f"{facts['declared_patients'][site]} declared patients" + _others(values))
    console.print(facts["audit"])
    console.print(NOT_PRIVATE, style="dim")
    console.print(f"report: {facts['output']}/report.html")


def _others(values: Mapping[str, Any]) -> str:
    """The other two guarantees of distributed noise."""
    if "guarantees" not in values:
        return ""
    found = values["guarantees"]
    return f"; {found['outside']:.2f} against outsiders, {found['alone']:.2f} for its own share alone"


def _epsilon(row: Mapping[str, Any]) -> str:
    if row["epsilon"]:
        return f"{max(row['epsilon'].values()):.2f}"
    return "none" if row["name"] not in ("base",) else "-"
