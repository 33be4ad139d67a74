"""A curriculum with gates through the real apps: `simulate run` passes one, ends at the other, and reports both."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from configs.load import CONFIG_ROOT
from privacy.dp.accounting import epsilon
from privacy.messages import SignedManifest
from privacy.roster import SignedRoster
from site_client.ledger_report import text_of
from site_client.policy import planned_events
from tests.simulations.test_run import QUICK, simulate


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_passes_one_gate_ends_at_the_next_and_says_how_many_failed(prepared: Any, tmp_path: Path) -> None:
    out, curriculum = tmp_path / "out", tmp_path / "gates.yaml"
    written = (CONFIG_ROOT / "curriculum" / "gates.yaml").read_text()
    # The tests' base model is hardly trained and their sites are tiny: a wider first gate, and less noise than is wise.
    wide = written.replace("loss_cap: 4, gate: {threshold: 3,", "loss_cap: 40, gate: {threshold: 39,")
    assert wide != written
    curriculum.write_text(wide.replace("noise_multiplier: 1.5", "noise_multiplier: 0.7").replace(
        "min_patients: 3", "min_patients: 1"))
    done = simulate("run", "configs/simulations/gates.yaml", "--out", str(out), "--json", *QUICK,
                    f"curriculum={curriculum}", "privacy.target_epsilon=20", "site_max_epsilon=20",
                    "arms.names=[federated-dp]", cache=os.environ["XDG_CACHE_HOME"])
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    gates = [entry for entry in facts["rounds"]["federated-dp"] if entry["evaluation"]]
    assert [(entry["round"], entry["evaluation"]["failed"]) for entry in gates] == [(3, 0), (6, 4), (9, 4)]
    assert "4 of 4 sites failed the gate of stage instruction" in facts["stopped"]["federated-dp"]
    page = (out / "report.html").read_text()
    assert "Evaluations and gates" in page and "gate passed" in page and "NOT passed: 4 of 4 sites failed" in page
    row = out / "arms" / "federated-dp"
    ended = json.loads((row / "coordinator" / "rounds.json").read_text())
    assert ended["ended"].startswith("gate not passed") and not (row / "coordinator" / "adapter").exists()
    manifest = SignedManifest.open(
        (row / "manifest.bin").read_bytes(), SignedRoster.open((row / "roster.bin").read_bytes()))
    for site, spent in facts["privacy"].items():  # every reserved round and evaluation ran, and no more
        planned = epsilon(planned_events(manifest), manifest.terms(site).delta)
        assert spent["epsilon"] == pytest.approx(planned) and planned <= 20.0


def test_the_ledger_of_a_site_shows_its_evaluations() -> None:
    """A line more, only where there were any."""
    run = {"run_id": "r", "reserved": 4.0, "ran": 3.0, "delta": 1e-5, "steps": 5, "planned_steps": 9, "rounds": 3,
           "finished": 3, "wasted": 0, "evaluations": 2, "evaluation_epsilon": 1.25}
    facts = {"site_id": "s", "chain_intact": True, "rows": 1, "entries": 1, "runs": ["r"], "steps": 5, "epsilon": 4.0,
             "ran": 3.0, "delta": 1e-5, "max_epsilon": 8.0, "left": 4.0, "max_delta": 1e-4, "wasted_rounds": 0,
             "max_wasted_rounds": 8, "private": True, "per_run": [run], "guarantees": None, "head": "00" * 32}
    assert "of it 2 evaluations on validation patients, epsilon 1.25 by themselves" in text_of(facts)
    assert "evaluations" not in text_of({**facts, "per_run": [{**run, "evaluations": 0}]})
